"""Handedness of stereocentres and the cis or trans state of peptide bonds: recorded once, checked on every ensemble.

A force field lets a centre invert and a peptide bond flip only over barriers that no sampler at room temperature should
cross; high rungs of a temperature ladder and learned proposals may.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from heatbath.targets.molecules.observables import Torsion, omega_torsions
from heatbath.targets.molecules.topology import MoleculeTopology

#: Sign of the triple product of the bond vectors to the named neighbours, in L-amino acids (2S,3S Ile and 2S,3R Thr).
_L_CENTRES = {
    ("any", "CA"): (("N", "C", "CB"), 1),
    ("ILE", "CB"): (("CA", "CG1", "CG2"), 1),
    ("THR", "CB"): (("CA", "OG1", "CG2"), 1),
}
_NATURAL = "ALA ARG ASN ASP ASH CYS CYX CYM GLN GLU GLH HIS HID HIE HIP ILE LEU LYS LYN MET PHE PRO SER THR TRP TYR VAL"


@dataclasses.dataclass(frozen=True)
class Stereocentre:
    """An atom with four different neighbours. The sign of the triple product of the bonds to three of them is its hand."""

    atom: int
    neighbours: tuple[int, int, int]
    label: str

    def triple_product(self, x: Float[Array, "atoms 3"]) -> Float[Array, ""]:
        """(a x b) . c of the three bond vectors, nm^3."""
        a, b, c = (x[index] - x[self.atom] for index in self.neighbours)
        return jnp.dot(jnp.cross(a, b), c)


@dataclasses.dataclass(frozen=True)
class PeptideBond:
    """The torsion omega of one peptide bond."""

    torsion: Torsion
    label: str


@dataclasses.dataclass(frozen=True)
class Violations:
    """How often configurations differ from the reference, per centre and per peptide bond."""

    frames: int
    inverted_centres: dict[str, int]
    flipped_peptide_bonds: dict[str, int]

    @property
    def total(self) -> int:
        """Sum of all counts; zero is good."""
        return sum(self.inverted_centres.values()) + sum(self.flipped_peptide_bonds.values())

    def __str__(self) -> str:
        found = [f"{label} inverted in {count}" for label, count in self.inverted_centres.items() if count]
        found += [f"{label} flipped in {count}" for label, count in self.flipped_peptide_bonds.items() if count]
        return (
            f"of {self.frames} configurations: {', '.join(found)}" if found else f"none in {self.frames} configurations"
        )


def stereocentres(topology: MoleculeTopology) -> tuple[Stereocentre, ...]:
    """Atoms with four neighbours that the bond graph tells apart (alpha carbons except glycine's; CB of Ile and Thr)."""
    classes = _graph_classes(topology)
    found = []
    for index, members in enumerate(topology.neighbours):
        if len(members) == 4 and len({classes[member] for member in members}) == 4:
            a, b, c, _ = sorted(members, key=lambda member: (topology.elements[member] == "H", member))  # H last
            atom = topology.atoms[index]
            found.append(Stereocentre(index, (a, b, c), f"{topology.residues[atom.residue]} {atom.name}"))
    return tuple(found)


def _graph_classes(topology: MoleculeTopology) -> list[int]:
    """Classes of atoms that no property of the bond graph distinguishes: elements, refined by neighbours until stable."""
    colours: list = list(topology.elements)
    count = 0
    while True:
        keys = [(colours[i], tuple(sorted(colours[j] for j in topology.neighbours[i]))) for i in range(len(colours))]
        ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
        colours = [ranks[key] for key in keys]
        if len(ranks) == count:
            return colours
        count = len(ranks)


def peptide_bonds(topology: MoleculeTopology) -> tuple[PeptideBond, ...]:
    """Every peptide bond, caps included."""
    residues = topology.residues
    return tuple(
        PeptideBond(torsion, f"{residues[before]}-{residues[here]}")
        for (before, here), torsion in omega_torsions(topology).items()
    )


def handedness(centres: tuple[Stereocentre, ...], x: Float[Array, "atoms 3"]) -> Int[Array, " centres"]:
    """+1 or -1 per centre."""
    if not centres:
        return jnp.zeros(0, dtype=jnp.int32)
    return jnp.stack([jnp.sign(centre.triple_product(x)) for centre in centres]).astype(jnp.int32)


def omegas(bonds: tuple[PeptideBond, ...], x: Float[Array, "atoms 3"]) -> Float[Array, " bonds"]:
    """omega of every peptide bond, radians; cis is |omega| < pi/2."""
    if not bonds:
        return jnp.zeros(0, dtype=x.dtype)
    return jnp.stack([bond.torsion(x) for bond in bonds])


def count_violations(
    topology: MoleculeTopology,
    reference: Float[Array | np.ndarray, "atoms 3"],
    xs: Float[Array | np.ndarray, "*frames atoms 3"],
) -> Violations:
    """Centres and peptide bonds of ``xs`` whose state differs from the reference; frames with NaN count as different."""
    centres, bonds = stereocentres(topology), peptide_bonds(topology)
    xs = jnp.asarray(xs).reshape((-1, topology.n_atoms, 3))

    @jax.jit
    def states(frames):
        hands = jax.vmap(lambda x: handedness(centres, x))(frames)
        return hands, jax.vmap(lambda x: jnp.sign(jnp.cos(omegas(bonds, x))))(frames)

    hands, sides = (np.asarray(values) for values in states(xs))
    own_hands, own_sides = (np.asarray(values)[0] for values in states(jnp.asarray(reference, xs.dtype)[None]))
    inverted = (hands != own_hands).sum(axis=0)
    flipped = (sides != own_sides).sum(axis=0)
    return Violations(
        frames=len(xs),
        inverted_centres={c.label: int(n) for c, n in zip(centres, inverted, strict=True)},
        flipped_peptide_bonds={b.label: int(n) for b, n in zip(bonds, flipped, strict=True)},
    )


def d_centres(topology: MoleculeTopology, x: Float[np.ndarray, "atoms 3"]) -> tuple[str, ...]:
    """Labels of centres of natural amino acids whose hand is not that of the L form (nor that of natural Ile and Thr)."""
    x = np.asarray(x, dtype=np.float64)
    found = []
    for residue, names in zip(topology.residues, topology.by_name, strict=True):
        for (kind, centre), (neighbours, sign) in _L_CENTRES.items():
            applies = residue.name == kind or (kind == "any" and residue.name in _NATURAL.split())
            if not applies or not {centre, *neighbours} <= set(names):
                continue
            a, b, c = (x[names[name]] - x[names[centre]] for name in neighbours)
            if np.sign(np.dot(np.cross(a, b), c)) != sign:
                found.append(f"{residue} {centre}")
    return tuple(found)
