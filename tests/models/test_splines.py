"""Monotone splines: inverses, derivatives, ends and seams, for parameters that bend them strongly."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.splines import (
    bounded_rational_quadratic,
    circular_rational_quadratic,
    linear_spline,
    rational_quadratic,
)

BINS, SIZE = 6, 400


def parameters(*counts, scale=2.0, dtype=jnp.float64):
    """Random unconstrained parameters, one set per point."""
    keys = jax.random.split(jax.random.key(len(counts)), len(counts))
    shapes = [(count, SIZE) if count else (SIZE,) for count in counts]
    return [scale * jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


#: name -> (function, lengths of its parameter arrays, interval of its argument)
CASES = {
    "line": (rational_quadratic, (BINS, BINS, BINS - 1), (-7.0, 7.0)),
    "interval": (
        functools.partial(bounded_rational_quadratic, low=-1.0, high=2.5),
        (BINS, BINS, BINS + 1),
        (-1.0, 2.5),
    ),
    "circle": (circular_rational_quadratic, (BINS, BINS, BINS, 0), (-math.pi, math.pi)),
    "rotor": (
        functools.partial(circular_rational_quadratic, period=2 * math.pi / 3),
        (BINS, BINS, BINS, 0),
        (-math.pi, math.pi),
    ),
    "linear": (functools.partial(linear_spline, low=-1.0, high=2.5), (BINS,), (-1.0, 2.5)),
}


def points(name, dtype=jnp.float64):
    low, high = CASES[name][2]
    return jax.random.uniform(jax.random.key(7), (SIZE,), dtype, low, high)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-10), (jnp.float32, 1e-4)])
def test_the_inverse_undoes_the_map(name, dtype, tolerance):
    """A draw and its density come from the two directions: a wrong inverse gives draws the weights of others."""
    spline, counts, _ = CASES[name]
    raw, x = parameters(*counts, dtype=dtype), points(name, dtype)
    y, log_slope = jax.jit(spline)(x, *raw)
    back, log_slope_back = jax.jit(functools.partial(spline, inverse=True))(y, *raw)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(back, x, atol=tolerance)
    np.testing.assert_allclose(log_slope_back, -log_slope, atol=100 * tolerance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("inverse", [False, True])
def test_the_log_derivative_is_that_of_the_map(name, inverse):
    """A wrong derivative biases every weight. It also has to be positive: the maps are monotone."""
    spline, counts, _ = CASES[name]
    raw, x = parameters(*counts), points(name)

    def total(x):
        y, log_slope = spline(x, *raw, inverse=inverse)
        return jnp.sum(y), log_slope

    slope, log_slope = jax.jit(jax.grad(total, has_aux=True))(x)
    np.testing.assert_allclose(np.log(slope), log_slope, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_zero_parameters_are_the_identity(name):
    """Flows must start as the identity, or data are far out before training begins."""
    spline, counts, _ = CASES[name]
    x = points(name)
    y, log_slope = spline(x, *parameters(*counts, scale=0.0))
    np.testing.assert_allclose(y, x, atol=1e-12)
    np.testing.assert_allclose(log_slope, 0, atol=1e-12)


def one_set(counts):
    """The same parameters at every point, so that points can be compared with each other."""
    return [jnp.repeat(raw[..., :1], SIZE, axis=-1) for raw in parameters(*counts)]


def test_the_circle_is_seamless():
    """Value and slope must not jump anywhere on the circle, the seam at pi included, or densities of torsions would."""
    spline, counts, _ = CASES["circle"]
    raw = one_set(counts)
    step = 1e-6
    x = jnp.concatenate([jnp.linspace(-math.pi, math.pi, SIZE - 2), jnp.array([-math.pi, math.pi - step])])
    (y, log_slope), (after, log_slope_after) = spline(x, *raw), spline(x + step, *raw)
    jump = np.abs(np.angle(np.exp(1j * np.asarray(after - y))))
    assert (jump < 1e3 * step).all()
    assert (np.abs(np.asarray(log_slope_after - log_slope)) < 1e5 * step).all()
    inside = spline(x - 2 * math.pi, *raw)
    np.testing.assert_allclose(np.angle(np.exp(1j * np.asarray(inside[0] - y))), 0, atol=1e-9)


def test_a_rotor_commutes_with_its_rotations():
    """Three equal hydrogens: a density that prefers one labelling wastes weights."""
    spline, counts, _ = CASES["rotor"]
    raw, x = one_set(counts), points("rotor")
    y, log_slope = spline(x, *raw)
    turned, log_slope_turned = spline(x + 2 * math.pi / 3, *raw)
    np.testing.assert_allclose(np.angle(np.exp(1j * np.asarray(turned - y - 2 * math.pi / 3))), 0, atol=1e-9)
    np.testing.assert_allclose(log_slope_turned, log_slope, atol=1e-9)
    other = circular_rational_quadratic(x, *raw)[1]
    assert np.abs(circular_rational_quadratic(x + 2 * math.pi / 3, *raw)[1] - other).max() > 0.1


def test_tails_are_linear_and_smooth():
    """Outside the interval the line must map to itself with slope one, and the slope must reach one at the edge."""
    spline, counts, _ = CASES["line"]
    raw = one_set(counts)
    x = jnp.where(jnp.arange(SIZE) % 2 == 0, 1, -1) * jnp.linspace(5.0, 30.0, SIZE)
    y, log_slope = spline(x, *raw)
    assert (np.asarray(y) == np.asarray(x)).all()
    assert (np.asarray(log_slope) == 0).all()
    near = spline(jnp.full(SIZE, 5.0 - 1e-9), *raw)[1]
    np.testing.assert_allclose(near, 0, atol=1e-5)


def test_the_linear_spline_interpolates_its_knots():
    """The piecewise-linear map is the cumulative sum of its heights."""
    (raw,) = one_set((BINS,))
    x = jnp.linspace(-1.0, 2.5, SIZE)
    knots = linear_spline(jnp.linspace(-1.0, 2.5, BINS + 1), raw[:, : BINS + 1], low=-1.0, high=2.5)[0]
    y = linear_spline(x, raw, low=-1.0, high=2.5)[0]
    np.testing.assert_allclose(y, np.interp(x, np.linspace(-1.0, 2.5, BINS + 1), knots), atol=1e-12)
    np.testing.assert_allclose([knots[0], knots[-1]], [-1.0, 2.5], atol=1e-12)


def test_unfit_parameters_are_refused():
    """Counts that do not belong together would be broadcast or give another map than meant."""
    x = jnp.zeros(3)
    with pytest.raises(InvalidArgumentError, match="slopes"):
        rational_quadratic(x, jnp.zeros((4, 3)), jnp.zeros((4, 3)), jnp.zeros((4, 3)))
    with pytest.raises(InvalidArgumentError, match="K >= 2"):
        circular_rational_quadratic(x, jnp.zeros((1, 3)), jnp.zeros((1, 3)), jnp.zeros((1, 3)), jnp.zeros(3))
