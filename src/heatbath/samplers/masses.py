"""Masses for sampling. They set the pace of the dynamics and leave p(x) alone, so they may be chosen for speed."""

from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError

#: Mass of a hydrogen after repartitioning, u.
HEAVY_HYDROGEN = 4.0


def repartitioned(
    masses: Any, elements: tuple[str, ...], neighbours: Any, hydrogen: float = HEAVY_HYDROGEN
) -> np.ndarray:
    """Masses (n, 1) in u with every hydrogen at ``hydrogen``, taken from the heavy atom that it is bonded to.

    The fastest vibrations (X-H stretches, 11 fs) slow down by about 1.7, and the stable step of the integrator grows as
    much. Total mass is kept. A heavy atom is left at least ``hydrogen``; what it cannot give is added.
    Source: Feenstra, Hess & Berendsen, J. Comput. Chem. 20, 786 (1999).
    """
    new = np.array(masses, dtype=np.float64).reshape(-1)
    if new.shape != (len(elements),):
        raise InvalidArgumentError(f"expected one mass per atom ({len(elements)}); found shape {np.shape(masses)}")
    for atom, element in enumerate(elements):
        if element != "H" or new[atom] >= hydrogen:
            continue
        heavy = [other for other in neighbours[atom] if elements[other] != "H"]
        for other in heavy[:1]:
            new[other] -= hydrogen - new[atom]
        new[atom] = hydrogen
    return np.maximum(new, hydrogen)[:, None]


def sampling_masses(target: Any) -> Any:
    """Repartitioned masses of a molecule, the target's own masses otherwise."""
    topology = getattr(target, "topology", None)
    if topology is None:
        return target.masses
    return repartitioned(target.masses, topology.elements, topology.neighbours)
