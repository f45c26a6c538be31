import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.targets.molecules import MoleculeTopology
from heatbath.targets.molecules.stereochemistry import count_violations, d_centres, omegas, peptide_bonds, stereocentres


@pytest.fixture(scope="module")
def threonine(prepared):
    """Ace-Ile-Thr-Nme: every kind of natural stereocentre."""
    topology, positions = prepared("IT", capped=True)
    return MoleculeTopology.from_openmm(topology), positions


def turned(topology, x, first, second, angle):
    """x with everything beyond the bond first-second turned about it by ``angle``."""
    beyond, border = {second}, [second]
    while border:
        for neighbour in topology.neighbours[border.pop()]:
            if neighbour not in beyond and neighbour != first:
                beyond.add(neighbour)
                border.append(neighbour)
    axis = (x[second] - x[first]) / np.linalg.norm(x[second] - x[first])
    moved = np.array(x)
    for atom in beyond:
        v = x[atom] - x[first]
        moved[atom] = x[first] + (
            v * np.cos(angle) + np.cross(axis, v) * np.sin(angle) + axis * (axis @ v) * (1 - np.cos(angle))
        )
    return moved


def test_centres_are_found_from_the_bonds(threonine):
    """If it failed, the side-chain centres of Ile and Thr would go unwatched, or methyl groups be counted."""
    topology, _ = threonine
    assert [c.label for c in stereocentres(topology)] == ["Ile 2 CA", "Ile 2 CB", "Thr 3 CA", "Thr 3 CB"]


def test_groups_without_handedness_are_no_centres(prepared):
    """If it failed, glycine and the equal arms of valine and leucine would give false alarms."""
    topology = MoleculeTopology.from_openmm(prepared("GVL")[0])
    assert [c.label for c in stereocentres(topology)] == ["Val 2 CA", "Leu 3 CA"]


def test_reference_has_no_violations_and_its_mirror_image_has_all(threonine):
    """If it failed, an ensemble of D-peptides would pass as one of L-peptides."""
    topology, x = threonine
    mirrored = x * np.array([1.0, 1.0, -1.0])
    found = count_violations(topology, x, np.stack([x, mirrored, x]))
    assert found.frames == 3
    assert set(found.inverted_centres.values()) == {1}
    assert set(found.flipped_peptide_bonds.values()) == {0}
    assert found.total == 4
    assert count_violations(topology, x, x).total == 0
    assert d_centres(topology, x) == ()
    assert d_centres(topology, mirrored) == ("Ile 2 CA", "Ile 2 CB", "Thr 3 CA", "Thr 3 CB")


def test_one_inverted_side_chain_is_named(threonine):
    """If it failed, allo-isoleucine would pass as isoleucine."""
    topology, x = threonine
    names = topology.by_name[1]
    swapped = np.array(x)
    swapped[[names["CG2"], names["HB"]]] = x[[names["HB"], names["CG2"]]]
    found = count_violations(topology, x, swapped)
    assert {label for label, count in found.inverted_centres.items() if count} == {"Ile 2 CB"}
    assert d_centres(topology, swapped) == ("Ile 2 CB",)
    assert "Ile 2 CB inverted in 1" in str(found)


def test_cis_peptide_bond_is_named(threonine):
    """If it failed, a cis peptide bond would go unnoticed."""
    topology, x = threonine
    names = topology.by_name
    cis = turned(topology, x, names[1]["C"], names[2]["N"], np.pi)
    found = count_violations(topology, x, np.stack([x, cis]))
    assert found.flipped_peptide_bonds == {"Ace 1-Ile 2": 0, "Ile 2-Thr 3": 1, "Thr 3-Nme 4": 0}
    assert set(found.inverted_centres.values()) == {0}
    angles = np.asarray(omegas(peptide_bonds(topology), jnp.asarray(cis)))
    assert np.abs(angles[1]) < 0.2
    assert (np.abs(angles[[0, 2]]) > 2.9).all()


def test_lost_configurations_are_not_counted_as_good(threonine):
    """If it failed, an ensemble of NaN would have perfect stereochemistry."""
    topology, x = threonine
    assert count_violations(topology, x, np.full_like(x, np.nan)).total > 0
