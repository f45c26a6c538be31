"""The flow of particles on the torus: divergence and determinant in closed form, equivariance, inverse, identity."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.torus_flow import RadialVelocity, TorusFlow

COUNTS, LENGTH = (3, 2, 2), 4.0


def flow_with(steps, gain=0.02):
    velocity = RadialVelocity(3, 2.0, radial=6, time=2)
    weights = gain * jax.random.normal(jax.random.key(3), velocity.weights.shape)
    return TorusFlow(eqx.tree_at(lambda v: v.weights, velocity, weights), COUNTS, LENGTH, steps)


X = LENGTH * jax.random.uniform(jax.random.key(1), (7, 2))
FORWARD = eqx.filter_jit(lambda flow, x: flow.forward(x))


def test_divergence_is_the_trace_of_the_jacobian():
    """A wrong slope or a forgotten window changes every log weight."""
    flow = flow_with(1, gain=1.0)

    @jax.jit
    def both(x, t):
        jacobian = jax.jacfwd(lambda flat: flow.drift(flat.reshape(x.shape), t)[0].reshape(-1))(x.reshape(-1))
        return flow.drift(x, t)[1], jnp.trace(jacobian)

    for t in (0.0, 0.7):
        closed, trace = both(X, t)
        assert float(closed) == pytest.approx(float(trace), abs=1e-10)
        assert abs(float(closed)) > 0.1


def test_log_det_inverse_and_order():
    """The determinant in closed form is that of the discrete map to 1e-8, and the inverse to 1e-8, where steps are short."""
    flow = flow_with(20)
    y, log_det = FORWARD(flow, X)
    assert float(jnp.abs(y - X).max()) > 1e-3
    assert float(log_det) == pytest.approx(float(eqx.filter_jit(lambda f, x: f.discrete_log_det(x))(flow, X)), abs=1e-8)
    back, inverse = eqx.filter_jit(lambda f, y: f.inverse(y))(flow, y)
    np.testing.assert_allclose(back, X, atol=1e-8)
    assert float(inverse) == pytest.approx(-float(log_det), abs=1e-8)


def test_equivariance():
    """Translations, lattice shifts and exchanges within a species commute with the map; exchanges across species do not."""
    flow = flow_with(4)
    y, log_det = FORWARD(flow, X)
    shifts = LENGTH * np.random.default_rng(0).integers(-2, 3, X.shape)
    for moved, expected in ((X + 0.37, y + 0.37), (X + shifts, y + shifts)):
        found, same = FORWARD(flow, moved)
        np.testing.assert_allclose(found, expected, atol=1e-10)
        assert float(same) == pytest.approx(float(log_det), abs=1e-10)
    alike, unlike = np.array([2, 1, 0, 4, 3, 5, 6]), np.array([3, 1, 2, 0, 4, 5, 6])
    np.testing.assert_allclose(FORWARD(flow, X[alike])[0], y[alike], atol=1e-10)
    assert not np.allclose(FORWARD(flow, X[unlike])[0], y[unlike], atol=1e-4)


def test_it_begins_as_the_identity():
    """Untrained, the flow moves nothing: annealing with it is annealing."""
    y, log_det = FORWARD(TorusFlow(RadialVelocity(3, 2.0, radial=6, time=2), COUNTS, LENGTH, 4), X)
    np.testing.assert_array_equal(y, X)
    assert float(log_det) == 0.0


def test_impossible_flows_are_refused():
    """A velocity that reaches beyond half the box would jump there."""
    with pytest.raises(InvalidArgumentError, match="half the box"):
        TorusFlow(RadialVelocity(3, 2.5), COUNTS, LENGTH)
    with pytest.raises(InvalidArgumentError, match="count per species"):
        TorusFlow(RadialVelocity(2, 2.0), COUNTS, LENGTH)
    with pytest.raises(InvalidArgumentError, match="shortest"):
        RadialVelocity(2, 0.5)
