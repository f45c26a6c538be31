"""The named targets, as a table that is read without importing JAX.

``heatbath sample NAME`` and ``heatbath list targets`` look here; ``make`` imports the factory when a target is built. A
new target becomes known to the command line by one more ``Entry``.
"""

import dataclasses
import importlib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from heatbath.errors import UsageError, nearest


@dataclasses.dataclass(frozen=True)
class Entry:
    """One named target.

    module, factory: where the class or function is that builds it.
    description:     one line for a list.
    temperature:     the default, kT as a number in the target's units or a string such as "300 K".
    parameters:      keyword arguments of the factory that may be chosen, with their defaults.
    arguments:       positional arguments that are always passed (the name of a molecule).
    kind:            "continuous", "discrete" or "molecule".
    """

    name: str
    module: str
    factory: str
    description: str
    temperature: float | str = 1.0
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arguments: tuple[Any, ...] = ()
    kind: str = "continuous"


_TOY, _LATTICE, _CLUSTERS = "heatbath.targets.toy", "heatbath.targets.lattice", "heatbath.targets.clusters"
_MOLECULES = "heatbath.targets.molecules"
_FORCE_FIELD = {"forcefield": "amber99sbildn-obc2"}

_ENTRIES = (
    Entry(
        "alanine-dipeptide",
        _MOLECULES,
        "molecule",
        "Ace-Ala-Nme in implicit solvent, 22 atoms; basins of phi",
        "300 K",
        _FORCE_FIELD,
        ("alanine-dipeptide",),
        "molecule",
    ),
    Entry(
        "chignolin",
        _MOLECULES,
        "molecule",
        "the mini-protein GYDPETGTWG in implicit solvent, 138 atoms",
        "300 K",
        _FORCE_FIELD,
        ("chignolin",),
        "molecule",
    ),
    Entry(
        "harmonic-oscillators",
        _TOY,
        "HarmonicOscillators",
        "independent oscillators with masses; everything known in closed form",
        1.0,
        {"stiffness": (1.0, 4.0, 25.0), "masses": 1.0},
    ),
    Entry(
        "double-well",
        _TOY,
        "DoubleWell",
        "two unequal wells along x; exact at every temperature",
        1.0,
        {"barrier": 5.0, "tilt": 0.5, "dimension": 1, "half_distance": 1.0, "stiffness": 1.0},
    ),
    Entry(
        "many-well",
        _TOY,
        "ManyWell",
        "product of asymmetric double wells, 65 536 modes in 32 dimensions; exact at every temperature",
        1.0,
        {"wells": 16, "gaussians": 16, "barrier": 9.0, "tilt": -0.5, "half_distance": math.sqrt(3.0)},
    ),
    Entry(
        "mueller-brown",
        _TOY,
        "MuellerBrown",
        "three minima joined by a bent valley in two dimensions; exact by quadrature",
        15.0,
        {"scale": 1.0},
    ),
    Entry(
        "gaussian-mixture",
        _TOY,
        "unequal_mixture",
        "two unequal Gaussian modes, weights 1/4 and 3/4, in any number of dimensions",
        1.0,
        {"dimension": 10, "seed": 0},
    ),
    Entry(
        "funnel",
        _TOY,
        "Funnel",
        "Neal's funnel: scales that vary by orders of magnitude",
        1.0,
        {"dimension": 10, "scale": 3.0},
    ),
    Entry(
        "dw4",
        _CLUSTERS,
        "dw4",
        "four particles in the plane with double-well pair energies",
        1.0,
        {"centre_trap": 1.0},
    ),
    Entry(
        "lj13",
        _CLUSTERS,
        "lj13",
        "thirteen Lennard-Jones particles in a harmonic trap",
        1.0,
        {"centre_trap": 1.0, "trap": 1.0},
    ),
    Entry(
        "lj55",
        _CLUSTERS,
        "lj55",
        "fifty-five Lennard-Jones particles in a harmonic trap",
        1.0,
        {"centre_trap": 1.0, "trap": 1.0},
    ),
    Entry(
        "ternary-liquid",
        "heatbath.targets.liquids",
        "ternary_liquid",
        "supercooled liquid of three species in the plane, 43 n particles or 44 in a periodic box",
        0.5,
        {"count": 43},
    ),
    Entry(
        "kob-andersen",
        "heatbath.targets.liquids",
        "kob_andersen",
        "binary Kob-Andersen liquid in three dimensions, 80 % A and 20 % B in a periodic box",
        0.6,
        {"count": 160},
    ),
    Entry(
        "ising-1d",
        _LATTICE,
        "ising_chain",
        "periodic Ising chain; exact by transfer matrix",
        1.0,
        {"length": 16, "coupling": 1.0, "field": 0.0},
        kind="discrete",
    ),
    Entry(
        "ising-2d",
        _LATTICE,
        "ising_square",
        "periodic square-lattice Ising model; exact log Z by transfer matrix or Kaufman's formula",
        3.0,
        {"width": 8, "length": 8, "coupling": 1.0, "field": 0.0},
        kind="discrete",
    ),
    Entry(
        "spin-glass",
        "heatbath.targets.spins",
        "spin_glass",
        "spins with random fields and pair couplings; exact by enumeration up to 20 spins",
        1.0,
        {"spins": 12, "scale": 0.3, "density": 0.5, "seed": 0},
        kind="discrete",
    ),
    Entry(
        "potts-2d",
        _LATTICE,
        "potts_square",
        "periodic square-lattice Potts model; exact log Z by transfer matrix for narrow lattices",
        1.2,
        {"width": 4, "length": 8, "states": 3, "coupling": 1.0, "field": 0.0},
        kind="discrete",
    ),
)

#: name -> Entry, in the order of a list for readers
ENTRIES: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def names() -> tuple[str, ...]:
    """All names."""
    return tuple(ENTRIES)


def get(name: str) -> Entry:
    """The entry called ``name``. Raises ``UsageError`` with the nearest names when there is none."""
    if name not in ENTRIES:
        raise UsageError(f"there is no target called {name!r}. {nearest(name, ENTRIES)}")
    return ENTRIES[name]


def make(name: str, **parameters: Any):
    """Build the target called ``name``; ``parameters`` replace its defaults.

    Raises ``UsageError`` for an unknown name or an unknown parameter; the factory checks the values.
    """
    entry = get(name)
    for parameter in parameters:
        if parameter not in entry.parameters:
            raise UsageError(
                f"the target {name!r} has no parameter {parameter!r}. {nearest(parameter, entry.parameters)}"
            )
        _check_kind(name, parameter, parameters[parameter], entry.parameters[parameter])
    factory = getattr(importlib.import_module(entry.module), entry.factory)
    return factory(*entry.arguments, **{**entry.parameters, **parameters})


def _check_kind(target: str, parameter: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default (text for a number, a fraction for a count)."""
    numbers = (int, float)
    allowed: tuple[type, ...]
    if isinstance(default, str):
        allowed, wanted = (str,), "text"
    elif isinstance(default, int):
        allowed, wanted = (int,), "a whole number"
    elif isinstance(default, float):
        # A number may stand for one value or, where the factory takes them, one per coordinate.
        allowed, wanted = (*numbers, tuple, list), "a number"
    else:
        allowed, wanted = (*numbers, tuple, list), "a list of numbers"
    entries = value if isinstance(value, (tuple, list)) else [value]
    kinds = allowed if not isinstance(value, (tuple, list)) else numbers
    wrong_container = isinstance(value, (tuple, list)) and not isinstance(value, allowed)
    if wrong_container or not all(isinstance(item, kinds) and not isinstance(item, bool) for item in entries):
        raise UsageError(
            f"{parameter!r} of the target {target!r} must be {wanted} such as {default!r}; found {value!r}"
        )
