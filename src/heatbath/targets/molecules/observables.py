"""What people look at in a peptide: backbone torsions, sizes, and the basins that a torsion divides.

The callables are small immutable records: equal ones compare equal, so a program that was compiled with one is reused.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Scalar

from heatbath.targets.base import Observable
from heatbath.targets.molecules.topology import MoleculeTopology

_ALPHA = ("CA", "CH3")


@dataclasses.dataclass(frozen=True)
class Torsion:
    """The dihedral angle of four atoms in radians, in [-pi, pi]; trans is pi (IUPAC sign)."""

    atoms: tuple[int, int, int, int]

    def __call__(self, x: Float[Array, "atoms 3"]) -> Scalar:
        p, q, r, s = (x[index] for index in self.atoms)
        axis = r - q
        m, n = jnp.cross(q - p, axis), jnp.cross(axis, s - r)
        return jnp.arctan2(jnp.sqrt(jnp.sum(axis * axis)) * jnp.dot(q - p, n), jnp.dot(m, n))


@dataclasses.dataclass(frozen=True)
class Distance:
    """The distance of two atoms, nm."""

    first: int
    second: int

    def __call__(self, x: Float[Array, "atoms 3"]) -> Scalar:
        d = x[self.second] - x[self.first]
        return jnp.sqrt(jnp.sum(d * d))


@dataclasses.dataclass(frozen=True)
class RadiusOfGyration:
    """sqrt(sum m |x - x_com|^2 / sum m) over all atoms, nm."""

    masses: tuple[float, ...]

    def __call__(self, x: Float[Array, "atoms 3"]) -> Scalar:
        weights = jnp.asarray(np.asarray(self.masses) / sum(self.masses), x.dtype)
        centred = x - weights @ x
        return jnp.sqrt(jnp.sum(weights[:, None] * centred * centred))


@dataclasses.dataclass(frozen=True)
class TorsionSide:
    """Whether a torsion lies in (0, pi] (``positive``) or in [-pi, 0]."""

    torsion: Torsion
    positive: bool

    def __call__(self, x: Float[Array, "atoms 3"]) -> Bool[Array, ""]:
        above = self.torsion(x) > 0
        return above if self.positive else ~above


def peptide_links(topology: MoleculeTopology) -> tuple[tuple[int, int], ...]:
    """Pairs of residues (before, here) whose atoms C and N are bonded."""
    links = []
    for first, second in topology.bonds:
        for carbon, nitrogen in ((first, second), (second, first)):
            before, here = topology.atoms[carbon], topology.atoms[nitrogen]
            if (before.name, here.name) == ("C", "N") and before.residue != here.residue:
                links.append((before.residue, here.residue))
    return tuple(sorted(links))


def backbone_torsions(topology: MoleculeTopology) -> dict[tuple[str, int], Torsion]:
    """Every phi and psi, keyed by kind and residue index, in the order of the chain."""
    found: dict[tuple[str, int], Torsion] = {}
    names = topology.by_name
    for before, here in peptide_links(topology):
        if {"N", "CA", "C"} <= set(names[here]):
            atoms = (names[before]["C"], names[here]["N"], names[here]["CA"], names[here]["C"])
            found["phi", here] = Torsion(atoms)
        if {"N", "CA", "C"} <= set(names[before]):
            atoms = (names[before]["N"], names[before]["CA"], names[before]["C"], names[here]["N"])
            found["psi", before] = Torsion(atoms)
    return dict(sorted(found.items(), key=lambda item: (item[0][1], item[0][0])))


def omega_torsions(topology: MoleculeTopology) -> dict[tuple[int, int], Torsion]:
    """The torsion omega of every peptide bond, keyed by its two residues; caps included."""
    found = {}
    names = topology.by_name
    for before, here in peptide_links(topology):
        start = next((names[before][name] for name in _ALPHA if name in names[before]), None)
        # the methyl carbon of the cap N-methyl amide is called C or CH3
        ends = (*_ALPHA, "C") if topology.residues[here].name == "NME" else _ALPHA
        end = next((names[here][name] for name in ends if name in names[here]), None)
        if start is not None and end is not None:
            found[before, here] = Torsion((start, names[before]["C"], names[here]["N"], end))
    return found


def molecule_observables(topology: MoleculeTopology, masses: tuple[float, ...]) -> dict[str, Observable]:
    """phi and psi of every residue that has them; end-to-end distance and size from four alpha carbons on.

    Names are ``phi_2`` for the residue numbered 2; where one residue alone has both, they are ``phi`` and ``psi``.
    """
    torsions = backbone_torsions(topology)
    pairs = ramachandran_residues(topology)
    found = {}
    for (kind, index), torsion in torsions.items():
        lonely = len(pairs) == 1 and index == pairs[0]
        name = kind if lonely else f"{kind}_{_number(topology, index)}"
        found[name] = Observable(
            torsion, f"{kind} ({topology.residues[index]})", "rad", 2 * math.pi, (-math.pi, math.pi)
        )
    alphas = [names["CA"] for names in topology.by_name if "CA" in names]
    if len(alphas) >= 4:
        found["end-to-end distance"] = Observable(Distance(alphas[0], alphas[-1]), "end-to-end distance (CA)", "nm")
        found["radius of gyration"] = Observable(RadiusOfGyration(masses), "radius of gyration", "nm")
    return found


def ramachandran_residues(topology: MoleculeTopology) -> tuple[int, ...]:
    """Residues that have both phi and psi."""
    torsions = backbone_torsions(topology)
    return tuple(index for kind, index in torsions if kind == "phi" and ("psi", index) in torsions)


def ramachandran_names(topology: MoleculeTopology) -> tuple[tuple[str, str], ...]:
    """The names of (phi, psi) in ``molecule_observables``, one pair per residue that has both."""
    pairs = ramachandran_residues(topology)
    if len(pairs) == 1:
        return (("phi", "psi"),)
    return tuple((f"phi_{_number(topology, i)}", f"psi_{_number(topology, i)}") for i in pairs)


def _number(topology: MoleculeTopology, index: int) -> str:
    """The residue's number, with its chain where there are several."""
    residue = topology.residues[index]
    several = len({r.chain for r in topology.residues}) > 1
    return f"{residue.chain}{residue.number}" if several else residue.number
