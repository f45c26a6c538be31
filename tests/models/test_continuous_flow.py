"""Continuous flows: the inverse is explicit, draws invert it to a stated tolerance, the density is that of the discrete map."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.continuous_flow import ContinuousFlow, TimeGrid, continuous_flow
from heatbath.models.interpolants import Diffusion, Straight
from heatbath.models.nets.equivariant import EquivariantVelocity
from heatbath.models.nets.velocity import ResidualVelocity, Velocity
from heatbath.models.standardisation import Scaled, Whitening
from heatbath.models.subspaces import FullSpace, MeanFree, SubspaceNormal


def stirred(net, scale=0.2, dtype=jnp.float64):
    """The net with every weight moved at random, so that nothing is at its initial zero; integers stay."""
    leaves, tree = jax.tree.flatten(net)

    def stir(index, leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        return (leaf + scale * jax.random.normal(jax.random.fold_in(jax.random.key(9), index), leaf.shape)).astype(
            dtype
        )

    return jax.tree.unflatten(tree, [stir(i, leaf) for i, leaf in enumerate(leaves)])


def vector_flow(integrator="heun", dtype="float64", **options) -> ContinuousFlow:
    net = stirred(ResidualVelocity.create(jax.random.key(1), 3, width=16, depth=1, features=8), dtype=jnp.dtype(dtype))
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    return continuous_flow(net, (3,), steps=10, integrator=integrator, dtype=dtype, tolerance=tolerance, **options)


def molecule_flow(dtype="float64") -> ContinuousFlow:
    net = stirred(EquivariantVelocity.create(jax.random.key(2), [0, 1, 1, 2], hidden=8, layers=2, features=8))
    data = 0.3 * np.random.default_rng(0).standard_normal((50, 4, 3))
    return continuous_flow(net, (4, 3), data=data, steps=4, centre_scale=0.2, dtype=dtype, tolerance=1e-12)


@pytest.mark.parametrize("integrator", ["euler", "heun", "rk4"])
def test_draws_invert_the_explicit_map(integrator):
    """g(f(z)) = z: an unnoticed inversion error would go straight into every weight."""
    flow = vector_flow(integrator)
    z = flow.base.sample(jax.random.key(3))
    x, inversion = jax.jit(lambda z: flow.from_base(z))(z)
    np.testing.assert_allclose(flow.to_base(x), z, atol=1e-10)
    assert flow.converged(inversion)
    assert inversion.sweeps < 20 * flow.steps


def test_single_precision_inverts_to_its_own_rounding():
    """float32 dynamics must reach 1e-5, and say so."""
    flow = vector_flow(dtype="float32")
    z = jax.vmap(flow.base.sample)(jax.random.split(jax.random.key(3), 100))
    x, inversion = jax.jit(jax.vmap(lambda z: flow.from_base(z)))(z)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(jax.vmap(flow.to_base)(x), z, atol=2e-5)
    assert np.asarray(jax.vmap(flow.converged)(inversion)).all()


class Steep(Velocity):
    """So steep that the sweeps do not contract."""

    def __call__(self, x, t):
        return 60 * jnp.sin(5 * x)


def test_a_step_that_cannot_be_inverted_is_noticed():
    """Sweeps that do not converge leave a residual that says so, instead of a wrong draw."""
    flow = continuous_flow(Steep(), (2,), steps=4, integrator="euler", dtype="float64")
    _, inversion = flow.from_base(jnp.array([0.3, -0.7]))
    assert not flow.converged(inversion)


@pytest.mark.parametrize("make", [vector_flow, molecule_flow])
def test_density_is_that_of_the_discrete_map(make):
    """Against the determinant of the full Jacobian, the centre's directions included."""

    @eqx.filter_jit
    def densities(flow, key):
        x, told = flow.sample_and_log_prob(key)
        jacobian = jax.jacfwd(lambda flat: flow.to_base(flat.reshape(x.shape)).reshape(-1))(x.reshape(-1))
        return told, flow.log_prob(x), flow.base.log_prob(flow.to_base(x)) + jnp.linalg.slogdet(jacobian)[1]

    told, asked, expected = densities(make(), jax.random.key(4))
    np.testing.assert_allclose(asked, expected, atol=1e-9)
    np.testing.assert_allclose(told, expected, atol=1e-9)


def test_the_normal_of_particles_is_normalised_over_all_positions():
    """E_p[q/p] = 1 with p a normal of all coordinates: a forgotten factor n in the centre's width would show as n^(3/2)."""
    base = SubspaceNormal(MeanFree((3, 2)), 0.8, "float64")
    x = 1.2 * jax.random.normal(jax.random.key(0), (50_000, 3, 2))
    log_p = -0.5 * jnp.sum((x / 1.2) ** 2, axis=(1, 2)) - 6 * jnp.log(1.2 * jnp.sqrt(2 * jnp.pi))
    ratio = np.exp(np.asarray(jax.vmap(base.log_prob)(x) - log_p))
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / np.sqrt(ratio.size)
    draws = jax.vmap(base.sample)(jax.random.split(jax.random.key(1), 50_000))
    centres = np.asarray(draws.mean(axis=1))
    assert abs(centres.std() / 0.8 - 1) < 0.015, "4.5 standard errors of a width from 100 000 numbers"
    assert abs(np.asarray(draws - draws.mean(axis=1, keepdims=True)).var() * 3 / 2 - 1) < 0.015


def test_the_centre_passes_through():
    """A flow of particles moves the shape and leaves the centre where the base put it."""
    flow = molecule_flow()
    z = flow.base.sample(jax.random.key(5))
    np.testing.assert_allclose(flow.from_base(z)[0].mean(axis=0), z.mean(axis=0), atol=1e-12)


def rotation(seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]


def test_equivariant_field_turns_with_the_particles():
    """Rotations commute with the field, shifts do not change it, particles of one kind are interchangeable, others not."""
    net = stirred(EquivariantVelocity.create(jax.random.key(2), [0, 1, 1, 2], hidden=8, layers=2, features=8), 0.4)
    x, t, turn = jax.random.normal(jax.random.key(6), (4, 3)), jnp.asarray(0.3), rotation()
    v = np.asarray(net(x, t))
    assert np.abs(v).max() > 1e-3
    np.testing.assert_allclose(net(x @ turn.T + 1.7, t), v @ turn.T, atol=1e-12)
    swapped = jnp.array([0, 2, 1, 3])
    np.testing.assert_allclose(net(x[swapped], t), v[np.asarray(swapped)], atol=1e-12)
    other = jnp.array([1, 0, 2, 3])
    assert np.abs(np.asarray(net(x[other], t)) - v[np.asarray(other)]).max() > 1e-3
    gradient = jax.grad(lambda x: jnp.sum(net(x, t) ** 2))(x)
    assert np.isfinite(np.asarray(gradient)).all(), "distances on the diagonal must not give NaN"


def test_density_of_the_equivariant_flow_does_not_change_under_rotation():
    """Otherwise a molecule's weight would depend on how it lies in space."""
    flow = molecule_flow()
    x = 0.3 * jax.random.normal(jax.random.key(7), (4, 3))
    centre = x.mean(axis=0)
    turned = (x - centre) @ rotation(1).T + centre
    before, after = eqx.filter_jit(jax.vmap(lambda x: flow.log_prob(x)))(jnp.stack([x, turned]))
    np.testing.assert_allclose(after, before, atol=1e-9)


@pytest.mark.parametrize("interpolant", [Straight(), Diffusion()])
def test_interpolants_join_noise_and_data_along_their_drift(interpolant):
    """At t = 0 noise, at t = 1 data, and d/dt of the path is the drift that the target means."""
    z, y = jax.random.normal(jax.random.key(0), (2, 5))
    np.testing.assert_allclose(interpolant.pair(z, y, jnp.asarray(0.0))[0], z, atol=1e-15)
    np.testing.assert_allclose(interpolant.pair(z, y, jnp.asarray(1.0))[0], y, atol=1e-15)
    place, slope = jax.jvp(lambda t: interpolant.pair(z, y, t)[0], (jnp.asarray(0.4),), (jnp.asarray(1.0),))
    assert place.shape == (5,)
    np.testing.assert_allclose(slope, interpolant.drift(interpolant.pair(z, y, jnp.asarray(0.4))[1]), atol=1e-12)


def test_whitening_and_scaling_are_exact_maps():
    """Round trips and log determinants against the full Jacobian."""
    data = np.random.default_rng(1).standard_normal((500, 3)) @ np.diag([1.0, 2.0, 0.3]) + 1.0
    whitening = Whitening(data.mean(axis=0), np.cov(data.T))
    scaled = Scaled(jnp.asarray(0.2))
    for bijection, shape in ((whitening, (3,)), (scaled, (4, 2))):
        z = jax.random.normal(jax.random.key(2), shape)
        x, log_det = bijection.forward(z)
        back, opposite = bijection.inverse(x)
        jacobian = jax.jacfwd(lambda flat, b=bijection, s=shape: b.forward(flat.reshape(s))[0].reshape(-1))(
            z.reshape(-1)
        )
        np.testing.assert_allclose(back, z, atol=1e-12)
        np.testing.assert_allclose(log_det, jnp.linalg.slogdet(jacobian)[1], atol=1e-12)
        np.testing.assert_allclose(opposite, -log_det)
    white = jax.vmap(lambda x: whitening.inverse(x)[0])(jnp.asarray(data))
    np.testing.assert_allclose(np.cov(np.asarray(white).T), np.eye(3), atol=1e-10)


def test_models_are_made_again_without_data():
    """Arrays restored from a file must find the shapes that the builder makes without data."""
    data = np.random.default_rng(0).standard_normal((40, 3)) * 2 + 1

    def shapes(model):
        return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), eqx.filter(model, eqx.is_array))

    for options in ({}, {"whiten": True}):
        assert shapes(vector_flow(data=data, **options)) == shapes(vector_flow(**options))
    assert eqx.tree_equal(vector_flow(data=data).outer, vector_flow().outer) is not True


def test_impossible_arguments_are_refused():
    """Grids that do not span [0, 1], unknown integrators, data of another shape, particles without a centre."""
    for nodes in ([0.0, 0.5], [0.1, 1.0], [0.0, 0.6, 0.4, 1.0], [0.0]):
        with pytest.raises(InvalidArgumentError, match="exactly 0 to exactly 1"):
            TimeGrid(nodes)
    with pytest.raises(InvalidArgumentError, match="integrator"):
        vector_flow("midpoint")
    with pytest.raises(InvalidArgumentError, match="shape"):
        vector_flow(data=np.zeros((5, 4)))
    with pytest.raises(InvalidArgumentError, match="centre_scale"):
        SubspaceNormal(MeanFree((3, 3)))
    with pytest.raises(InvalidArgumentError, match="no separate mean"):
        SubspaceNormal(FullSpace((3,)), 0.1)
    with pytest.raises(InvalidArgumentError, match="two particles"):
        MeanFree((1, 3))
    with pytest.raises(InvalidArgumentError, match="positive definite"):
        Whitening(np.zeros(2), np.ones((2, 2)))
    with pytest.raises(InvalidArgumentError, match="kinds"):
        EquivariantVelocity.create(jax.random.key(0), [0], hidden=4, layers=1)
    np.testing.assert_allclose(TimeGrid.towards_data(4).nodes, 1 - (1 - np.linspace(0, 1, 5)) ** 2)
