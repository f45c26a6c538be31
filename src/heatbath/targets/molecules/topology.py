"""What the atoms of a molecule are called and how they are bonded: a small immutable record, and its OpenMM form."""

import dataclasses
import functools
from typing import Any

from heatbath.targets.molecules.openmm_system import import_openmm


@dataclasses.dataclass(frozen=True)
class Atom:
    """One atom; ``residue`` is the index of its residue. Element symbols are those of the periodic table."""

    name: str
    element: str
    residue: int


@dataclasses.dataclass(frozen=True)
class Residue:
    """One residue with its three-letter name, its number as in a PDB file, and its chain."""

    name: str
    number: str
    chain: str

    def __str__(self) -> str:
        return f"{self.name.capitalize()} {self.number}"


@dataclasses.dataclass(frozen=True)
class MoleculeTopology:
    """Atoms, residues and bonds (pairs of atom indices, smaller first). Hashable, so it can be static in a program."""

    atoms: tuple[Atom, ...]
    residues: tuple[Residue, ...]
    bonds: tuple[tuple[int, int], ...]

    @staticmethod
    def from_openmm(topology: Any) -> "MoleculeTopology":
        """Read an ``openmm.app.Topology``; atoms without an element get the symbol ``"?"``."""
        residues = tuple(Residue(r.name, str(r.id), str(r.chain.id)) for r in topology.residues())
        atoms = tuple(
            Atom(a.name, "?" if a.element is None else a.element.symbol, a.residue.index) for a in topology.atoms()
        )
        bonds = sorted(tuple(sorted((bond[0].index, bond[1].index))) for bond in topology.bonds())
        return MoleculeTopology(atoms, residues, tuple(bonds))

    def to_openmm(self) -> Any:
        """The same as an ``openmm.app.Topology``, for writing PDB, DCD and XTC files."""
        app = import_openmm().app
        topology = app.Topology()
        chains: dict[str, Any] = {}
        residues = []
        for residue in self.residues:
            if residue.chain not in chains:
                chains[residue.chain] = topology.addChain(residue.chain)
            residues.append(topology.addResidue(residue.name, chains[residue.chain], residue.number))
        made = [
            topology.addAtom(
                atom.name,
                None if atom.element == "?" else app.Element.getBySymbol(atom.element),
                residues[atom.residue],
            )
            for atom in self.atoms
        ]
        for first, second in self.bonds:
            topology.addBond(made[first], made[second])
        return topology

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atoms)

    @property
    def atom_names(self) -> tuple[str, ...]:
        """Names of the atoms, in order."""
        return tuple(atom.name for atom in self.atoms)

    @property
    def elements(self) -> tuple[str, ...]:
        """Element symbols of the atoms, in order."""
        return tuple(atom.element for atom in self.atoms)

    @functools.cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Atoms bonded to each atom, ascending."""
        found: list[list[int]] = [[] for _ in self.atoms]
        for first, second in self.bonds:
            found[first].append(second)
            found[second].append(first)
        return tuple(tuple(sorted(members)) for members in found)

    @functools.cached_property
    def by_name(self) -> tuple[dict[str, int], ...]:
        """For every residue, atom index by atom name."""
        found: list[dict[str, int]] = [{} for _ in self.residues]
        for index, atom in enumerate(self.atoms):
            found[atom.residue][atom.name] = index
        return tuple(found)
