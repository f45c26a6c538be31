"""Cartesian to internal coordinates and back: values, volumes, and the absolute normalisation over all of space."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heatbath
from heatbath.errors import InvalidArgumentError, StructureError
from heatbath.models.base import Distribution
from heatbath.models.gaussian import Normal
from heatbath.models.internal_coordinates import (
    EqualHydrogens,
    Internal,
    InternalCoordinates,
    MolecularDistribution,
)


@pytest.fixture(scope="module")
def molecule():
    return heatbath.molecule("alanine-dipeptide")


@pytest.fixture(scope="module")
def coordinates(molecule):
    bonds, masses = np.array(molecule.topology.bonds), np.asarray(molecule.masses)[:, 0]
    return InternalCoordinates.create(bonds, masses, molecule.positions)


@pytest.fixture(scope="module")
def shaken(molecule):
    """Configurations far from the reference: every atom displaced by about a third of a bond."""
    return molecule.positions + 0.04 * jax.random.normal(jax.random.key(0), (8, 22, 3))


def turned_back(x, reference):
    """x moved and rotated onto the reference."""
    x, reference = (np.asarray(v) - np.asarray(v).mean(axis=0) for v in (x, reference))
    u, _, vt = np.linalg.svd(x.T @ reference)
    assert np.linalg.det(u @ vt) > 0, "the mirror image came back"
    return x @ (u @ vt) + reference.mean(axis=0)


def test_positions_come_back(coordinates, shaken):
    """Placing atoms from their coordinates must give the molecule again, up to a motion, not its mirror image."""
    internal, log_det = jax.jit(jax.vmap(coordinates.from_cartesian))(shaken)
    x, log_det_back = jax.jit(jax.vmap(coordinates.to_cartesian))(internal)
    for one, other in zip(x, shaken, strict=True):
        np.testing.assert_allclose(turned_back(one, other), other - other.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(log_det, -log_det_back, atol=1e-10)
    single = jax.jit(jax.vmap(lambda x: coordinates.to_cartesian(coordinates.from_cartesian(x)[0])[0]))
    for one, other in zip(single(shaken.astype(jnp.float32)), shaken, strict=True):
        np.testing.assert_allclose(turned_back(one, other), other - other.mean(axis=0), atol=1e-5)


def test_torsions_are_those_of_the_molecule(coordinates, molecule, shaken):
    """Phi and psi of the tree must be phi and psi of the observables, sign included."""
    internal = jax.jit(jax.vmap(coordinates.from_cartesian))(shaken)[0]
    values = {name: jax.vmap(molecule.observables()[name].function)(shaken) for name in ("phi", "psi")}
    slots = {"phi": "C0", "psi": "N2"}
    names = [f"{atom.name}{atom.residue}" for atom in molecule.topology.atoms]
    for name, atom in slots.items():
        slot = coordinates.z_matrix.order.index(names.index(atom))
        np.testing.assert_allclose(internal.torsions[:, slot - 3], values[name], atol=1e-12)


def test_log_volume_is_that_of_the_dense_jacobian(coordinates, shaken):
    """r^2 sin(theta) once too often, or a torsion that is not volume preserving, biases every weight."""
    internal = coordinates.from_cartesian(shaken[0])[0]
    flat = jnp.concatenate(internal)

    def positions(vector):
        """x from internal coordinates, a small rotation (its volume element at 0 is that of orientations) and the centre."""
        bonds, angles, torsions, rotation, centre = jnp.split(vector, np.cumsum([21, 20, 19, 3]))
        x = coordinates.to_cartesian(Internal(bonds, angles, torsions))[0]
        x = x - x.mean(axis=0)
        return (x + jnp.cross(rotation, x) + centre).ravel()

    jacobian = jax.jit(jax.jacfwd(positions))(jnp.concatenate([flat, jnp.zeros(6)]))
    exact = np.linalg.slogdet(np.asarray(jacobian))[1]
    np.testing.assert_allclose(coordinates.log_volume(internal), exact, atol=1e-8)
    np.testing.assert_allclose(coordinates.from_cartesian(shaken[0])[1], -exact, atol=1e-8)


def test_rigid_motions_change_nothing(coordinates, shaken):
    """Internal coordinates that see place or orientation are not internal."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    original, moved = (coordinates.from_cartesian(x)[0] for x in (shaken[0], shaken[0] @ turn + 1.7))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), original, moved)


def test_equal_hydrogens_are_turns_of_their_rotor(coordinates, shaken):
    """Exchanging the hydrogens of a methyl group in a circle must turn its mean torsion by 120 degrees exactly."""
    tree, x = coordinates.z_matrix, shaken[0]
    first, second, third = (tree.order[slot] for slot in tree.rotors[1])
    exchanged = x.at[jnp.array([first, second, third])].set(x[jnp.array([second, third, first])])
    mean = tree.rotors[1][0] - 3
    before, after = (coordinates.from_cartesian(y)[0].torsions[mean] for y in (x, exchanged))
    turn = (after - before) * 3 / (2 * math.pi)
    assert abs(turn - round(float(turn))) < 1e-10
    assert round(float(turn)) % 3 != 0


def test_angles_are_accurate_near_straight():
    """arccos loses half of the digits near 0 and pi; the angle must keep them."""
    gap = 1e-6
    reference = 0.1 * np.array([[0.0, 0, 0], [1, 0, 0], [-0.3, 1, 0]])
    water = InternalCoordinates.create([(0, 1), (0, 2)], [16.0, 1.0, 1.0], reference)
    x = jnp.array([[0.0, 0, 0], [1, 0, 0], [-math.cos(gap), math.sin(gap), 0]])
    for angle, sign in ((math.pi - gap, 1), (gap, -1)):
        internal = water.from_cartesian(x.at[2, 0].multiply(sign))[0]
        np.testing.assert_allclose(internal.angles[0] - angle, 0, atol=1e-15)
    gradient = jax.grad(lambda x: water.from_cartesian(x)[0].angles[0])(x)
    assert np.isfinite(np.asarray(gradient)).all()


class Shape(Distribution):
    """Independent bonds and angle of a three-atom molecule."""

    bonds: Normal
    angles: Normal

    def sample(self, key):
        first, second = jax.random.split(key)
        return Internal(self.bonds.sample(first), self.angles.sample(second), jnp.zeros(0))

    def log_prob(self, x):
        return self.bonds.log_prob(x.bonds) + self.angles.log_prob(x.angles)


def test_the_density_integrates_to_one_over_all_space():
    """Absolute normalisation over R^9: the mean of q / q' under a known q' is 1; models with lost constants disagree on log Z.

    z-test at 4.5 standard errors (false-alarm rate 7e-6); without the volume of orientations the same test fails.
    """
    reference = 0.1 * np.array([[0.0, 0, 0], [1, 0, 0], [-0.3, 1, 0]])
    water = InternalCoordinates.create([(0, 1), (0, 2)], [16.0, 1.0, 1.0], reference)
    q = MolecularDistribution(water, Shape(Normal(jnp.full(2, 0.1), 0.015), Normal(jnp.full(1, 1.6), 0.3)), 0.1)
    known = Normal(jnp.zeros((3, 3)), jnp.array([[0.12], [0.07], [0.07]]))

    @jax.jit
    @jax.vmap
    def ratio(key):
        # root and displacements from it are normal; the map to positions has determinant 1
        y = known.sample(key)
        return jnp.exp(q.log_prob(y.at[1:].add(y[0])) - known.log_prob(y))

    ratios = np.asarray(ratio(jax.random.split(jax.random.key(1), 400_000)))
    error = ratios.std() / math.sqrt(ratios.size)
    assert error < 0.02
    assert abs(ratios.mean() - 1) < 4.5 * error
    assert abs(ratios.mean() * 8 * math.pi**2 - 1) > 4.5 * 8 * math.pi**2 * error


def test_draws_have_their_density_centre_and_orientation():
    """log q of a draw must be the density at it; centres must have the stated width and orientations no direction."""
    reference = 0.1 * np.array([[0.0, 0, 0], [1, 0, 0], [-0.3, 1, 0]])
    water = InternalCoordinates.create([(0, 1), (0, 2)], [16.0, 1.0, 1.0], reference)
    q = MolecularDistribution(water, Shape(Normal(jnp.full(2, 0.1), 0.01), Normal(jnp.full(1, 1.6), 0.1)), 0.2)
    x, log_prob = jax.jit(jax.vmap(q.sample_and_log_prob))(jax.random.split(jax.random.key(2), 20_000))
    np.testing.assert_allclose(jax.jit(jax.vmap(q.log_prob))(x), log_prob, atol=1e-9)
    centres = np.asarray(x.mean(axis=1))
    # standard error of a standard deviation from 60 000 numbers is 0.29 %; 5 of them
    np.testing.assert_allclose(centres.std(), 0.2, rtol=0.0145)
    bond = np.array(x[:, 1] - x[:, 0])
    bond /= np.linalg.norm(bond, axis=1, keepdims=True)
    # mean 0 and second moments 1/3 of a uniform direction, at 5 standard errors
    assert (np.abs(bond.mean(axis=0)) < 5 * math.sqrt(1 / 3 / 20_000)).all()
    assert (np.abs(bond.T @ bond / 20_000 - np.eye(3) / 3) < 5 * 0.3 / math.sqrt(20_000)).all()


def test_unfit_molecules_are_refused(molecule):
    """Straight angles, wrong shapes and impossible widths must be named when the model is built."""
    bonds, masses = [(0, 1), (0, 2)], [16.0, 1.0, 1.0]
    straight = 0.1 * np.array([[0.0, 0, 0], [1, 0, 0], [-1, 0.01, 0]])
    with pytest.raises(StructureError, match="degrees"):
        InternalCoordinates.create(bonds, masses, straight)
    with pytest.raises(StructureError, match="reference positions"):
        InternalCoordinates.create(bonds, masses, np.full((3, 3), np.nan))
    bent = InternalCoordinates.create(bonds, masses, 0.1 * np.array([[0.0, 0, 0], [1, 0, 0], [-0.3, 1, 0]]))
    shape = Shape(Normal(jnp.full(2, 0.1)), Normal(jnp.full(1, 1.6)))
    with pytest.raises(InvalidArgumentError, match="centre_scale"):
        MolecularDistribution(bent, shape, 0.0)


def test_exchanged_hydrogens_are_the_same_molecule(molecule, coordinates):
    """Augmentation by equal hydrogens must not change the energy, and must turn rotors by 120 degrees without mirroring them."""
    tree = coordinates.z_matrix
    x = molecule.positions + 0.01 * jax.random.normal(jax.random.key(1), (22, 3))
    members = jnp.asarray([[tree.order[slot] for slot in rotor] for rotor in tree.rotors])
    keys = jax.random.split(jax.random.key(3), 40)
    exchanged = jax.vmap(EqualHydrogens(members), in_axes=(0, None))(keys, x)
    energies = jax.vmap(molecule.energy)(exchanged)
    np.testing.assert_allclose(energies, molecule.energy(x), rtol=1e-9)
    assert (
        len(np.unique(np.asarray(exchanged).round(9), axis=0)) > 15
    )  # of 27; 40 draws give 21 on average, 13 or fewer never
    before = coordinates.from_cartesian(x)[0].torsions
    after = jax.vmap(lambda y: coordinates.from_cartesian(y)[0].torsions)(exchanged)
    rotors = np.array([rotor[0] - 3 for rotor in tree.rotors])
    turns = np.asarray(after - before)[:, rotors] * 3 / (2 * math.pi)
    np.testing.assert_allclose(turns, turns.round(), atol=1e-9)
    phases = np.array([slot - 3 for rotor in tree.rotors for slot in rotor[1:]])
    assert (np.abs(np.asarray(after)[:, phases]) < 1.5).all()  # a mirrored group would have 120 degrees more
