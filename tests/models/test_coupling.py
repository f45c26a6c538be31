"""Coupling flows on lines, circles and both: inverses, determinants, normalisation, a program that does not grow with depth."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.coupling import coupling_flow
from heatbath.models.flow import Flow
from heatbath.training.trainable import trainable

MIXED = (True, False, True, False, False)
#: name -> arguments of a flow over five coordinates
KINDS = {
    "affine": {"bins": 0},
    "spline": {"bins": 5},
    "circular": {"bins": 5, "circular": True},
    "mixed": {"bins": 5, "circular": MIXED},
}


def flow(kind, *, layers=4, dimension=5, gain=1.0, dtype=jnp.float64) -> Flow:
    """A flow far from the identity, its networks in ``dtype``."""
    made = coupling_flow(jax.random.key(3), dimension, layers=layers, width=16, depth=1, gain=gain, **KINDS[kind])
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, made)


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [*((kind, jnp.float64, 1e-10) for kind in KINDS), ("spline", jnp.float32, 1e-4), ("circular", jnp.float32, 1e-4)],
)
def test_inverse_and_log_determinant(kind, dtype, tolerance):
    """The determinant must be that of the dense Jacobian and the inverse the inverse, in both precisions."""
    bijection = flow(kind, dtype=dtype, gain=0.5 if dtype == jnp.float32 else 1.0).bijection
    z = jax.random.normal(jax.random.key(0), (20, 5), dtype)
    x, log_det = jax.jit(jax.vmap(bijection.forward))(z)
    back, log_det_back = jax.jit(jax.vmap(bijection.inverse))(x)
    jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda z: bijection.forward(z)[0])))(z)
    assert x.dtype == dtype
    circular = np.broadcast_to(KINDS[kind].get("circular", False), 5)
    error = np.asarray(back - z)
    error = np.where(circular, np.angle(np.exp(1j * error)), error)
    assert (np.abs(error) < tolerance).all()
    assert (np.abs(np.linalg.slogdet(np.asarray(jacobian, np.float64))[1] - log_det) < 100 * tolerance).all()
    assert (np.abs(log_det + log_det_back) < 100 * tolerance).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_flow_is_the_identity(kind):
    """Standardised data must meet the base distribution at the start of training."""
    made = coupling_flow(jax.random.key(3), 5, layers=4, width=16, depth=1, **KINDS[kind])
    z = jax.random.uniform(jax.random.key(1), (5,), jnp.float64, -1.0, 1.0)
    x, log_det = made.bijection.forward(z)
    np.testing.assert_allclose(x, z, atol=1e-6)
    np.testing.assert_allclose(log_det, 0, atol=1e-5)


def test_every_coordinate_depends_on_every_other():
    """Windows that never cross would leave coordinates independent, and no training could correlate them."""
    bijection = flow("spline", layers=5).bijection
    z = 0.3 * jax.random.normal(jax.random.key(2), (5,))
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda z: bijection.forward(z)[0]))(z))
    assert (np.abs(jacobian) > 1e-6).all()


def test_a_mixed_flow_is_normalised_on_the_cylinder():
    """Circles and lines in one layer: the density must integrate to one over [-pi, pi) x R."""
    made = coupling_flow(jax.random.key(5), 2, layers=4, width=16, bins=5, circular=(True, False), gain=0.7)
    angles = (np.arange(300) + 0.5) * 2 * math.pi / 300 - math.pi
    reals = (np.arange(1200) + 0.5) * 0.04 - 24
    grid = jnp.asarray(np.stack(np.meshgrid(angles, reals, indexing="ij"), -1).reshape(-1, 2))
    total = np.exp(np.asarray(jax.jit(jax.vmap(made.log_prob))(grid))).sum() * (2 * math.pi / 300) * 0.04
    assert abs(total - 1) < 2e-3


def test_densities_of_angles_are_periodic():
    """Torsions on the two sides of the seam are neighbours: their densities must be equal, also when given as 181 degrees."""
    made = flow("mixed", gain=0.7)
    x = jax.random.normal(jax.random.key(4), (5,)).at[0].set(math.pi - 1e-9)
    log_prob = made.log_prob(x)
    np.testing.assert_allclose(made.log_prob(x.at[0].add(2e-9)), log_prob, atol=1e-5)
    np.testing.assert_allclose(made.log_prob(x.at[0].add(-2 * math.pi)), log_prob, atol=1e-9)
    np.testing.assert_allclose(made.log_prob(x.at[2].add(2 * math.pi)), log_prob, atol=1e-9)
    assert abs(made.log_prob(x.at[1].add(2 * math.pi)) - log_prob) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_does_not_grow_with_depth(kind):
    """Layers are scanned: eight must compile to the program of two, or compile time becomes the cost of a deep flow."""

    def lines(layers):
        made = flow(kind, layers=layers, dtype=jnp.float32)
        moving, rest = eqx.partition(made, trainable(made))
        gradient = jax.grad(lambda moving, x: eqx.combine(moving, rest).log_prob(x))
        return str(jax.make_jaxpr(gradient)(moving, jnp.ones(5, jnp.float32))).count("\n")

    assert lines(2) == lines(8)


def test_training_leaves_periods_alone():
    """A period that an optimiser moves would tear the circle."""
    made = flow("mixed")
    moving, _ = eqx.partition(made, trainable(made))
    layer = moving.bijection.bijections[1].layer
    assert layer.kept_periods.values is None
    assert layer.changed_periods.values is None
    assert len(jax.tree.leaves(moving)) == len(jax.tree.leaves(layer.network))


def test_impossible_sizes_are_refused():
    """Sizes without meaning should be named when the flow is built."""
    with pytest.raises(InvalidArgumentError, match="two coordinates"):
        coupling_flow(jax.random.key(0), 1)
    with pytest.raises(InvalidArgumentError, match="bins"):
        coupling_flow(jax.random.key(0), 3, bins=1)
    with pytest.raises(InvalidArgumentError, match="bins"):
        coupling_flow(jax.random.key(0), 3, bins=0, circular=True)
    with pytest.raises(InvalidArgumentError, match="layers"):
        coupling_flow(jax.random.key(0), 3, layers=0)
    with pytest.raises(InvalidArgumentError, match="width"):
        coupling_flow(jax.random.key(0), 3, width=0)
