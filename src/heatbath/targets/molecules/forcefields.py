"""Names of force fields, and the OpenMM parameter files that they stand for."""

import functools
from typing import Any

from heatbath.errors import InvalidArgumentError, UsageError, nearest
from heatbath.targets.molecules.openmm_system import import_openmm
from heatbath.units import parse_quantity

_PROTEINS = {
    "amber99sbildn": ("amber99sbildn.xml",),
    "amber14": ("amber14/protein.ff14SB.xml",),
    "amber19": ("amber19/protein.ff19SB.xml",),
}
_SOLVENTS = {"obc1": ("implicit/obc1.xml",), "obc2": ("implicit/obc2.xml",), "vacuum": ()}

#: The force field that builders use unless another is named.
DEFAULT_FORCEFIELD = "amber99sbildn-obc2"
#: Every name: protein parameters and solvent, joined by a hyphen.
FORCEFIELDS = tuple(f"{protein}-{solvent}" for protein in _PROTEINS for solvent in _SOLVENTS)


def checked_forcefield(name: str) -> str:
    """The name; raises ``UsageError`` with the nearest names when there is no such force field."""
    if name not in FORCEFIELDS:
        raise UsageError(
            f"expected a force field such as {DEFAULT_FORCEFIELD!r}; found {name!r}. {nearest(name, FORCEFIELDS)}"
        )
    return name


@functools.lru_cache(maxsize=16)
def load_forcefield(name: str) -> Any:
    """The ``openmm.app.ForceField`` called ``name``."""
    protein, solvent = checked_forcefield(name).split("-")
    return import_openmm().app.ForceField(*_PROTEINS[protein], *_SOLVENTS[solvent])


def create_system(forcefield: str, topology: Any, cutoff: str | float | None = None) -> Any:
    """The flexible ``openmm.System`` of a topology with all its atoms; ``cutoff`` such as ``"2 nm"`` or ``None``.

    Raises ``InvalidArgumentError`` for a cutoff that is not positive.
    """
    openmm = import_openmm()
    options: dict[str, Any] = {"constraints": None, "rigidWater": False, "nonbondedMethod": openmm.app.NoCutoff}
    if cutoff is not None:
        length = parse_quantity(cutoff, "length")
        if not length > 0:
            raise InvalidArgumentError(f"a cutoff must be positive; found {cutoff!r}")
        options |= {"nonbondedMethod": openmm.app.CutoffNonPeriodic, "nonbondedCutoff": length * openmm.unit.nanometer}
    return load_forcefield(forcefield).createSystem(topology, removeCMMotion=False, **options)
