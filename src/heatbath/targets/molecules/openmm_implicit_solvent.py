"""The two ways in which OpenMM writes generalised Born solvents with OBC radii, read into one set of terms.

``GBSAOBCForce`` has the model built in. The files ``implicit/obc1.xml`` and ``implicit/obc2.xml`` write it as algebraic
expressions into a ``CustomGBForce``; those are compared, definition by definition, with what the evaluator computes, and
anything that differs is refused.
"""

import math
import re
from typing import Any

import numpy as np

from heatbath.errors import UnsupportedForceError
from heatbath.targets.molecules.terms import OBC_CONSTANTS

#: The dielectric offset of the OBC models in nm: offset radius = radius - 0.009.
DIELECTRIC_OFFSET = 0.009

_PAIR_INTEGRAL = {
    "": "select(step(r+sr2-or1),0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r),0)",
    "U": "r+sr2",
    "L": "max(or1,D)",
    "D": "abs(r-sr2)",
}
_BORN_RADIUS = {
    "1/(1/or-tanh(0.8*psi+2.909125*psi^3)/radius)": "obc1",
    "1/(1/or-tanh(psi-0.8*psi^2+4.85*psi^3)/radius)": "obc2",
}
_NUMBER = r"([0-9.]+(?:[eE][-+]?[0-9]+)?)"
_DIELECTRIC = r"\*\(1/soluteDielectric-1/solventDielectric\)\*"
_SELF = re.compile(rf"-0\.5\*{_NUMBER}{_DIELECTRIC}charge\^2/B")
_SURFACE = re.compile(rf"{_NUMBER}\*\(radius\+0\.14\)\^2\*\(radius/B\)\^6")
_PAIR = re.compile(rf"-{_NUMBER}{_DIELECTRIC}charge1\*charge2/f")
_SHIFTED_PAIR = re.compile(rf"-{_NUMBER}{_DIELECTRIC}charge1\*charge2\*\(1/f-{_NUMBER}\)")
_STILL = "sqrt(r^2+B1*B2*exp(-r^2/(4*B1*B2)))"


def read_gbsa_obc(force: Any) -> dict[str, Any]:
    """Terms of a ``GBSAOBCForce``: OBC2 by construction, with a surface term of 4 pi times its surface-area energy."""
    particles = [force.getParticleParameters(i) for i in range(force.getNumParticles())]
    charges = np.array([p[0]._value for p in particles])
    radius = np.array([p[1]._value for p in particles])
    scale = np.array([float(p[2]) for p in particles])
    found = _model("obc2", charges, radius - DIELECTRIC_OFFSET, scale * (radius - DIELECTRIC_OFFSET), radius)
    found |= {
        "gb_solute_dielectric": float(force.getSoluteDielectric()),
        "gb_solvent_dielectric": float(force.getSolventDielectric()),
        "gb_surface_constant": 4.0 * math.pi * force.getSurfaceAreaEnergy()._value,
        "gb_engulfed_term": True,
    }
    if force.getNonbondedMethod() != force.NoCutoff:
        found["gb_cutoff"] = force.getCutoffDistance()._value
    return found


def read_custom_gb(force: Any) -> dict[str, Any]:
    """Terms of a ``CustomGBForce`` that is OBC1 or OBC2 as OpenMM's implicit-solvent files write it.

    Raises ``UnsupportedForceError`` with the expression that was not recognised.
    """
    if force.getNumGlobalParameters() or force.getNumTabulatedFunctions():
        raise _unknown("it has global parameters or tabulated functions")
    names = [force.getPerParticleParameterName(k) for k in range(force.getNumPerParticleParameters())]
    if sorted(names) != ["charge", "or", "sr"]:
        raise _unknown(f"its particles have the parameters {', '.join(names)} instead of charge, or, sr")
    model, offset = _born_radii(force)
    rows = np.array([force.getParticleParameters(i) for i in range(force.getNumParticles())], dtype=np.float64)
    charges, offset_radius, scaled = (rows[:, names.index(name)] for name in ("charge", "or", "sr"))
    found = _model(model, charges, offset_radius, scaled, offset_radius + offset)
    found["gb_engulfed_term"] = False
    if force.getNonbondedMethod() != force.NoCutoff:
        found["gb_cutoff"] = force.getCutoffDistance()._value
    found |= _energy_terms(force, offset, found.get("gb_cutoff"))
    return found


def _model(model: str, charges, offset_radius, scaled_radius, radius) -> dict[str, Any]:
    alpha, beta, gamma = OBC_CONSTANTS[model]
    return {
        "gb_model": model,
        "gb_alpha": alpha,
        "gb_beta": beta,
        "gb_gamma": gamma,
        "gb_charges": charges,
        "gb_offset_radius": offset_radius,
        "gb_scaled_radius": scaled_radius,
        "gb_radius": radius,
    }


def _unknown(what: str) -> UnsupportedForceError:
    return UnsupportedForceError(
        f"the CustomGBForce is not one of the solvent models that heatbath evaluates (OBC1 and OBC2): {what}. Use "
        "'implicit/obc1.xml' or 'implicit/obc2.xml' without salt and with the ACE surface term or none."
    )


def _definitions(expression: str) -> dict[str, str]:
    """``"main; a=1; b=2"`` as {"": "main", "a": "1", "b": "2"}, without spaces."""
    main, *rest = [part for part in re.sub(r"\s+", "", expression).split(";") if part]
    return {"": main} | dict(part.split("=", 1) for part in rest)


def _born_radii(force: Any) -> tuple[str, float]:
    """Check the two computed values; returns the model's name and the offset in nm."""
    values = {}
    for index in range(force.getNumComputedValues()):
        name, expression, kind = force.getComputedValueParameters(index)
        values[name] = (_definitions(expression), kind)
    if set(values) != {"I", "B"}:
        raise _unknown(f"it computes {', '.join(values)} instead of I and B")
    if values["I"] != (_PAIR_INTEGRAL, force.ParticlePairNoExclusions):
        raise _unknown(f"its I is {values['I'][0]['']!r}")
    born, kind = values["B"]
    model = _BORN_RADIUS.get(born[""])
    expected = {"psi": "I*or", "radius": "or+offset"}
    if model is None or kind != force.SingleParticle or any(born.get(name) != text for name, text in expected.items()):
        raise _unknown(f"its B is {born['']!r}")
    return model, float(born["offset"])


def _energy_terms(force: Any, offset: float, cutoff: float | None) -> dict[str, Any]:
    """Check the energy expressions and read their constants."""
    matched: dict[str, tuple[float, ...]] = {}
    constants: set[tuple[str, str]] = set()
    for index in range(force.getNumEnergyTerms()):
        expression, kind = force.getEnergyTermParameters(index)
        terms = _definitions(expression)
        name, numbers = _match_energy(terms, single=kind == force.SingleParticle)
        if name in matched or kind == force.ParticlePair:
            raise _unknown(f"an energy term {terms['']!r} of this kind is not expected")
        matched[name] = numbers
        constants |= {(key, text) for key, text in terms.items() if key in ("soluteDielectric", "solventDielectric")}
        if float(terms.get("kappa", "0")) != 0.0 or not math.isclose(float(terms.get("offset", offset)), offset):
            raise _unknown(f"the energy term {terms['']!r} has salt or another offset")
    if set(matched) - {"surface"} != {"self", "pair"} or matched["self"][0] != matched["pair"][0]:
        raise _unknown("its energy is not one self term, one pair term and at most one surface term")
    shift = matched["pair"][1] if len(matched["pair"]) > 1 else 0.0
    if not math.isclose(shift, 0.0 if cutoff is None else 1.0 / cutoff, rel_tol=1e-12):
        raise _unknown(f"the shift {shift} of its pair term does not belong to its cutoff")
    dielectrics = dict(constants)
    if len(constants) != 2 or len(dielectrics) != 2:
        raise _unknown("its energy terms disagree about the dielectric constants")
    return {
        "gb_coulomb_constant": matched["self"][0],
        "gb_solute_dielectric": float(dielectrics["soluteDielectric"]),
        "gb_solvent_dielectric": float(dielectrics["solventDielectric"]),
        "gb_surface_constant": matched["surface"][0] if "surface" in matched else 0.0,
    }


def _match_energy(terms: dict[str, str], *, single: bool) -> tuple[str, tuple[float, ...]]:
    """Name and constants of one energy expression."""
    forms = {"self": _SELF, "surface": _SURFACE} if single else {"pair": _PAIR, "pair shifted": _SHIFTED_PAIR}
    for name, form in forms.items():
        match = form.fullmatch(terms[""])
        if match is None:
            continue
        if name == "surface" and terms.get("radius") != "or+offset":
            break
        if name.startswith("pair") and terms.get("f") != _STILL:
            break
        return name.split()[0], tuple(float(number) for number in match.groups())
    raise _unknown(f"the energy term {terms['']!r} is not known")
