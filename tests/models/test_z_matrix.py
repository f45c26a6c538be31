"""Trees of atoms: what is placed from what, for a peptide and for molecules that are refused."""

import numpy as np
import pytest

import heatbath
from heatbath.errors import StructureError
from heatbath.models.z_matrix import ZMatrix


@pytest.fixture(scope="module")
def alanine():
    molecule = heatbath.molecule("alanine-dipeptide")
    return molecule, ZMatrix.from_bonds(np.array(molecule.topology.bonds), np.asarray(molecule.masses)[:, 0])


def test_every_reference_is_placed_before_it_is_used(alanine):
    """An atom placed from one that has no position yet would be placed from garbage."""
    _, tree = alanine
    assert sorted(tree.order) == list(range(22))
    starts = {slot: low for low, high in tree.levels for slot in range(low, high)}
    for slot in range(3, tree.n_atoms):
        parent = tree.parent[slot]
        assert parent < starts[slot]
        assert len({slot, parent, tree.grandparent[slot], tree.plane[slot]}) == 4
        assert tree.leader[slot] <= slot
    assert len(tree.levels) == 4
    assert sorted((*tree.free, *tree.phases)) == list(range(19))


def test_torsions_about_bonds_are_those_of_chemistry(alanine):
    """Phi, psi and omega carry the modes: each must be a coordinate of its own, once, and not a sum of others."""
    molecule, tree = alanine
    names = [f"{atom.name}{atom.residue}" for atom in molecule.topology.atoms]
    free = set()
    for index in tree.free:
        slot = index + 3
        slots = (slot, tree.parent[slot], tree.grandparent[slot], tree.plane[slot])
        free.add(tuple(names[tree.order[s]] for s in slots))
    assert {("C0", "N1", "CA1", "C1"), ("N2", "C1", "CA1", "N1")} <= free  # phi and psi
    assert {("CH30", "C0", "N1", "CA1"), ("C2", "N2", "C1", "CA1")} <= free  # the two omegas
    assert len(free) == 7  # and the rotations of three methyl groups
    assert len(tree.rotors) == 3
    for rotor in tree.rotors:
        assert all(molecule.topology.elements[tree.order[slot]] == "H" for slot in rotor)


def test_a_stereocentre_is_a_difference_of_siblings(alanine):
    """The hand of the alpha carbon must be one coordinate far from zero on both sides: then mirror images are far away."""
    _, tree = alanine
    alpha = 0  # the root
    siblings = [slot for slot in range(3, 22) if tree.parent[slot] == alpha and tree.leader[slot] == 2]
    assert len(siblings) == 2


def test_rings_are_opened():
    """Cyclopropane-like rings have one bond more than a tree; the coordinates are still 3 n - 6."""
    tree = ZMatrix.from_bonds([(0, 1), (1, 2), (2, 0), (2, 3)], np.array([12.0, 12.0, 12.0, 16.0]))
    assert sorted(tree.order) == [0, 1, 2, 3]
    assert len(tree.parent) == 4


@pytest.mark.parametrize(
    ("bonds", "atoms", "message"),
    [
        ([(0, 1)], 2, "three atoms"),
        ([(0, 1), (1, 2)], 4, "connected"),
        ([(0, 1)], 3, "connected"),
        ([(0, 1), (1, 5)], 3, "bonds name atoms"),
    ],
)
def test_what_has_no_tree_is_refused(bonds, atoms, message):
    """Two molecules or a missing bond must be named, not placed anywhere."""
    with pytest.raises(StructureError, match=message):
        ZMatrix.from_bonds(bonds, np.full(atoms, 12.0))
