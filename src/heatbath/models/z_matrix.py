"""Which atom is placed from which others: a tree over the bond graph, made for proteins and good for any organic molecule.

The root is the heavy atom at the centre of the graph, so trees are shallow and an error of an angle moves as little as
possible. Of the atoms bonded to one parent the largest branch is placed by a torsion (phi, psi, omega, chi, a methyl's
rotation) and its siblings relative to it: those differences are nearly Gaussian, and their sign is the hand of a stereocentre.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from heatbath.errors import StructureError

#: Atoms lighter than this are hydrogens, also with masses repartitioned between them and heavy atoms.
HEAVIEST_HYDROGEN = 4.5


@dataclasses.dataclass(frozen=True)
class ZMatrix:
    """How to place n atoms. ``order`` lists the atoms as they are placed; everything else counts atoms by that order.

    Slot 0 is the root, slots 1 and 2 are bonded to it. ``parent``, ``grandparent`` and ``plane`` of slot i >= 3 are the p, g and
    h of its bond i-p, angle i-p-g and torsion i-p-g-h. ``leader`` is the first sibling of slot i, or i itself: only leaders have
    a torsion of their own, the others have the difference to their leader's. ``levels`` are ranges of slots that can be placed
    together. ``rotors`` are the leaders of three equal hydrogens, with their two siblings. Hashable, hence static in programs.
    """

    order: tuple[int, ...]
    parent: tuple[int, ...]
    grandparent: tuple[int, ...]
    plane: tuple[int, ...]
    leader: tuple[int, ...]
    levels: tuple[tuple[int, int], ...]
    rotors: tuple[tuple[int, int, int], ...]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.order)

    @property
    def free(self) -> tuple[int, ...]:
        """Positions in the vector of torsions (slot - 3) that are torsions about bonds."""
        return tuple(slot - 3 for slot in range(3, self.n_atoms) if self.leader[slot] == slot)

    @property
    def phases(self) -> tuple[int, ...]:
        """Positions in the vector of torsions (slot - 3) that are differences to a sibling."""
        return tuple(slot - 3 for slot in range(3, self.n_atoms) if self.leader[slot] != slot)

    @staticmethod
    def from_bonds(
        bonds: Int[np.ndarray, "bonds 2"] | Sequence, masses: Float[np.ndarray, "..."] | Sequence
    ) -> "ZMatrix":
        """The tree of a molecule. ``masses`` in u; atomic numbers do as well.

        Rings are opened: the bond that closes one is not a coordinate (its length follows from the others). Raises
        ``StructureError`` for fewer than three atoms and for atoms that no bonds connect with the others.
        """
        masses = np.asarray(masses, dtype=np.float64).ravel()
        neighbours = _neighbours(np.asarray(bonds, dtype=np.int64).reshape(-1, 2), len(masses))
        root = _root(neighbours, masses)
        parents = _spanning_tree(neighbours, root)
        return _place(root, parents, neighbours, masses)


def _neighbours(bonds, n_atoms: int) -> list[list[int]]:
    if n_atoms < 3:
        raise StructureError(f"internal coordinates need at least three atoms; found {n_atoms}")
    if bonds.size and (bonds.min() < 0 or bonds.max() >= n_atoms):
        raise StructureError(f"bonds name atoms {bonds.min()} to {bonds.max()}, but there are {n_atoms} atoms")
    found: list[set[int]] = [set() for _ in range(n_atoms)]
    for first, second in bonds:
        found[first].add(int(second))
        found[second].add(int(first))
    return [sorted(members) for members in found]


def _distances(neighbours, start: int) -> np.ndarray:
    distance = np.full(len(neighbours), -1)
    distance[start], front = 0, [start]
    while front:
        reached = []
        for atom in front:
            for other in neighbours[atom]:
                if distance[other] < 0:
                    distance[other] = distance[atom] + 1
                    reached.append(other)
        front = reached
    return distance


def _root(neighbours, masses) -> int:
    """The atom with two neighbours or more whose farthest atom is nearest; heavy before light, many neighbours before few."""
    candidates = [atom for atom, members in enumerate(neighbours) if len(members) >= 2]
    reach = {atom: _distances(neighbours, atom) for atom in candidates}
    if not candidates or (reach[candidates[0]] < 0).any():
        lost = np.flatnonzero(reach[candidates[0]] < 0) if candidates else np.arange(len(neighbours))
        raise StructureError(
            f"internal coordinates need one connected molecule; no bonds lead to atom {lost[0]}. "
            "Give one molecule, with all its bonds"
        )
    return min(
        candidates,
        key=lambda atom: (
            masses[atom] < HEAVIEST_HYDROGEN,
            reach[atom].max(),
            -len(neighbours[atom]),
            reach[atom].sum(),
        ),
    )


def _spanning_tree(neighbours, root: int) -> list[int]:
    """Parent of every atom, breadth first from the root (which is its own parent)."""
    parents, front = [-1] * len(neighbours), [root]
    parents[root] = root
    while front:
        reached = []
        for atom in front:
            for other in neighbours[atom]:
                if parents[other] < 0:
                    parents[other] = atom
                    reached.append(other)
        front = reached
    return parents


def _place(root: int, parents, neighbours, masses) -> ZMatrix:
    children: list[list[int]] = [[] for _ in parents]
    for atom, parent in enumerate(parents):
        if atom != root:
            children[parent].append(atom)
    branch = _branches(root, children, masses)
    for members in children:
        members.sort(key=lambda atom: (*(-value for value in branch[atom]), atom))
    order, levels, front = [root], [], [root]
    while front:
        front = [child for atom in front for child in children[atom]]
        if front:
            levels.append((len(order), len(order) + len(front)))
            order += front
    slot = {atom: index for index, atom in enumerate(order)}
    first, second = order[1], order[2]
    parent, grandparent, plane, leader = [0] * 3, [0] * 3, [0] * 3, [0, 1, 2]
    for atom in order[3:]:
        p = parents[atom]
        g = first if p == root else parents[p]
        if p == root:
            h = second
        elif g == root:
            h = second if p == first else first
        else:
            h = parents[g]
        lead = second if p == root else children[p][0]
        for column, value in zip((parent, grandparent, plane, leader), (p, g, h, lead), strict=True):
            column.append(slot[value])
    rotors = []
    for atom in order[1:]:
        members = children[atom]
        if len(members) == 3 and all(masses[m] < HEAVIEST_HYDROGEN and not children[m] for m in members):
            rotors.append(tuple(slot[member] for member in members))
    columns = [tuple(column) for column in (order, parent, grandparent, plane, leader)]
    return ZMatrix(*columns, levels=tuple(levels), rotors=tuple(rotors))


def _branches(root: int, children, masses) -> dict[int, tuple[int, int, float]]:
    """(heavy atoms, atoms, mass) of the branch that begins at each atom."""
    sizes: dict[int, tuple[int, int, float]] = {}
    stack = [(root, False)]
    while stack:
        atom, done = stack.pop()
        if not done:
            stack += [(atom, True), *((child, False) for child in children[atom])]
            continue
        parts = [sizes[child] for child in children[atom]]
        own = (int(masses[atom] >= HEAVIEST_HYDROGEN), 1, float(masses[atom]))
        sizes[atom] = tuple(sum(values) for values in zip(own, *parts, strict=True))  # type: ignore[assignment]
    return sizes
