"""The internal-coordinate generator: its density, its symmetries, where it starts and how it is re-created."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heatbath
from heatbath.errors import InvalidArgumentError
from heatbath.models.internal_flow import internal_coordinate_flow
from heatbath.training.trainable import trainable

SIZES = {
    "layers": 2,
    "width": 16,
    "bins": 4,
    "context": 8,
    "torsion_layers": 3,
    "torsion_width": 8,
    "torsion_bins": 4,
}


@pytest.fixture(scope="module")
def molecule():
    return heatbath.molecule("alanine-dipeptide")


def build(molecule, data=None, **sizes):
    return internal_coordinate_flow(
        jax.random.key(0),
        bonds=np.array(molecule.topology.bonds),
        masses=np.asarray(molecule.masses)[:, 0],
        reference=molecule.positions,
        data=data,
        **{**SIZES, **sizes},
    )


@pytest.fixture(scope="module")
def model(molecule):
    """An untrained generator with noise on everything that training may change, in float64."""
    made = build(molecule)
    moving, rest = eqx.partition(made, trainable(made))
    leaves, tree = jax.tree.flatten(moving)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, noisy), rest)


@pytest.fixture(scope="module")
def draws(model):
    return jax.jit(jax.vmap(model.sample_and_log_prob))(jax.random.split(jax.random.key(2), 40))


@pytest.fixture(scope="module")
def log_prob(model):
    return jax.jit(jax.vmap(model.log_prob))


def test_density_of_draws(log_prob, draws):
    """The two directions of the flow must agree, or every weight is wrong."""
    x, drawn = draws
    assert np.isfinite(np.asarray(drawn)).all()
    np.testing.assert_allclose(log_prob(x), drawn, atol=1e-7)


def test_the_density_is_that_of_the_chart(model, draws):
    """log q of the internal coordinates must be the base density over the determinant of the dense Jacobian of the flow."""
    internal = model.coordinates.from_cartesian(draws[0][0])[0]
    flow = model.internal
    free, stiff = flow._split(internal)

    def latent(vector):
        free, stiff = vector[:7], vector[7:]
        _, z = flow.stiff.inverse((flow._context(free), flow.whitening.inverse(stiff)[0]))[0]
        return jnp.concatenate([flow.torsions.bijection.inverse(free)[0], z])

    vector = jnp.concatenate([free, stiff])
    log_det = np.linalg.slogdet(np.asarray(jax.jit(jax.jacfwd(latent))(vector)))[1]
    z = np.asarray(latent(vector))[7:]
    expected = log_det - 7 * np.log(2 * np.pi) - 0.5 * (z**2).sum() - 0.5 * z.size * np.log(2 * np.pi)
    np.testing.assert_allclose(flow.log_prob(internal), expected, atol=1e-7)


def test_motions_keep_the_density_and_mirror_images_lose_it(log_prob, draws):
    """Orientation must not matter; the wrong hand must be so unlikely (50 nats and more) that no weight ever comes from it."""
    x = draws[0]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    centre = x.mean(axis=1, keepdims=True)
    here = np.asarray(log_prob(x))
    np.testing.assert_allclose(log_prob((x - centre) @ turn + centre), here, atol=1e-7)
    assert (np.asarray(log_prob(x * jnp.array([1.0, 1.0, -1.0]))) < here - 50).all()


def test_torsions_of_a_rotor_are_equally_likely(model):
    """The density of a methyl torsion given the others must repeat after 120 degrees, for every state of the network."""
    z_matrix = model.coordinates.z_matrix
    rotor = z_matrix.free.index(z_matrix.rotors[0][0] - 3)
    other = z_matrix.free.index(min(set(z_matrix.free) - {r[0] - 3 for r in z_matrix.rotors}))
    free = jax.random.uniform(jax.random.key(3), (7,), jnp.float64, -3.0, 3.0)
    density = jax.jit(lambda free: model.internal.torsions.log_prob(free))
    third = 2 * np.pi / 3
    np.testing.assert_allclose(density(free.at[rotor].add(third)), density(free), atol=1e-7)
    assert abs(density(free.at[other].add(third)) - density(free)) > 1e-3


def test_data_set_mean_and_covariance(molecule):
    """An untrained model with data must have their spread: the whitening is what makes the rest nearly normal."""
    x = molecule.positions + 0.004 * jax.random.normal(jax.random.key(4), (3000, 22, 3))
    model = build(molecule, np.asarray(x))
    draws = jax.jit(jax.vmap(model.sample))(jax.random.split(jax.random.key(5), 3000))
    internal = jax.jit(jax.vmap(lambda x: model.coordinates.from_cartesian(x)[0]))
    ours, theirs = internal(draws), internal(x)
    # 4.5 standard errors of a mean, and of a standard deviation, over 3000 draws on each side
    scale = np.asarray(theirs.bonds.std(axis=0))
    assert (
        np.abs(np.asarray(ours.bonds.mean(axis=0) - theirs.bonds.mean(axis=0))) < 4.5 * scale * (2 / 3000) ** 0.5
    ).all()
    assert (np.abs(np.asarray(ours.angles.std(axis=0) / theirs.angles.std(axis=0)) - 1) < 4.5 / 3000**0.5).all()
    correlations, expected = (np.corrcoef(np.asarray(values.bonds).T) for values in (ours, theirs))
    assert np.abs(expected - np.eye(21)).max() > 0.3
    # 4.5 standard errors of the difference of two correlations is 0.116
    assert (np.abs(correlations - expected) < 0.116).all()


def test_a_model_is_made_again_without_its_data(molecule):
    """Arrays are restored from a file into a model built from sizes alone: the two trees must be equal."""
    x = molecule.positions + 0.004 * jax.random.normal(jax.random.key(4), (300, 22, 3))
    with_data, without = (jax.tree.map(jnp.shape, build(molecule, data)) for data in (np.asarray(x), None))
    assert jax.tree.structure(with_data) == jax.tree.structure(without)
    assert jax.tree.leaves(with_data) == jax.tree.leaves(without)


def test_configurations_in_float32(model, draws, log_prob):
    """Training reads float32: the density must be that of float64 to what float32 positions can tell."""
    x, drawn = draws
    np.testing.assert_allclose(log_prob(x.astype(jnp.float32)), drawn, atol=5e-2)


def test_unfit_data_are_refused(molecule):
    """Data of another molecule, or of one configuration repeated, must be named."""
    with pytest.raises(InvalidArgumentError, match="22, 3"):
        build(molecule, np.zeros((10, 21, 3)))
    with pytest.raises(InvalidArgumentError, match="covariance"):
        build(molecule, np.repeat(np.asarray(molecule.positions)[None], 10, axis=0))
