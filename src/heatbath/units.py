"""Units at the border: strings such as ``"300 K"`` become plain numbers in the internal system.

Internal units: nm, ps, atomic mass unit, kJ/mol, elementary charge, kelvin (so that masses in u, lengths in nm and times
in ps give energies in kJ/mol). Reduced targets have unit ``"1"``: their energy is a pure number and beta is in its inverse.
"""

import math
import re

from heatbath.errors import TemperatureError, UnitError

#: Boltzmann constant in kJ/mol/K (CODATA 2018, exact product of k_B and N_A).
BOLTZMANN = 0.00831446261815324

#: kJ/mol per unit of energy
ENERGY_UNITS = {"kJ/mol": 1.0, "kcal/mol": 4.184, "eV": 96.48533212331001}

_DIMENSIONS = {
    "temperature": {"K": 1.0},
    "time": {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "us": 1e6},
    "duration": {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0},
    "length": {"nm": 1.0, "A": 0.1, "pm": 1e-3},
    "energy": dict(ENERGY_UNITS),
    "rate": {"/ps": 1.0, "1/ps": 1.0, "/fs": 1e3, "1/fs": 1e3, "/ns": 1e-3, "1/ns": 1e-3},
}
_QUANTITY = re.compile(r"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*$")


def parse_quantity(text: str | int | float, dimension: str) -> float:
    """Read ``"300 K"``, ``"1 fs"``, ``"5 min"`` into internal units (a bare number is taken to be in internal units already).

    ``dimension`` is one of temperature (K), time (ps), duration (s), length (nm), energy (kJ/mol), rate (1/ps).
    Raises ``UnitError`` when the text is no number, its unit is unknown, or belongs to another dimension.
    """
    units = _DIMENSIONS[dimension]
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    match = _QUANTITY.match(str(text))
    if match is None:
        raise UnitError(f"expected a {dimension} such as '1 {next(iter(units))}', found {text!r}")
    value, unit = float(match[1]), match[2]
    if unit == "":
        return value
    if unit not in units:
        raise UnitError(f"expected a {dimension} in one of {', '.join(units)}; found the unit {unit!r} in {text!r}")
    return value * units[unit]


def beta_from_temperature(temperature: str | int | float, energy_unit: str) -> float:
    """The inverse temperature, in the inverse of ``energy_unit``.

    For physical units the temperature is in kelvin (``"300 K"`` or ``300``); for reduced targets (unit ``"1"``) it is kT as a
    pure number. Raises ``TemperatureError`` for zero, negative or non-finite temperatures and for a kelvin temperature on
    a reduced target.
    """
    if energy_unit == "1":
        if isinstance(temperature, str) and temperature.strip().endswith("K"):
            raise TemperatureError(f"this target has reduced units: give kT as a pure number, not {temperature!r}")
        kelvin_per_kt = 1.0
    elif energy_unit in ENERGY_UNITS:
        kelvin_per_kt = BOLTZMANN / ENERGY_UNITS[energy_unit]
    else:
        raise UnitError(f"expected an energy unit among '1', {', '.join(ENERGY_UNITS)}; found {energy_unit!r}")
    value = parse_quantity(temperature, "temperature")
    if not math.isfinite(value) or value <= 0:
        raise TemperatureError(f"a temperature must be positive and finite; found {temperature!r}")
    return 1.0 / (kelvin_per_kt * value)


def temperature_from_beta(beta: float, energy_unit: str) -> float:
    """Inverse of ``beta_from_temperature``: kelvin for physical units, kT for reduced ones."""
    factor = 1.0 if energy_unit == "1" else BOLTZMANN / ENERGY_UNITS[energy_unit]
    return math.inf if beta == 0 else 1.0 / (factor * beta)
