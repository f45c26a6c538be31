"""The midpoint rule and exact draws under a grid envelope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.targets import quadrature


def test_gaussian_integrals_to_rounding():
    """One and two dimensions, against closed forms."""
    one = quadrature.log_integral(lambda x: 0.5 * x[0] ** 2, 2.0, np.array([-9.0]), np.array([9.0]))
    assert np.isclose(one, 0.5 * np.log(np.pi), atol=1e-13)
    two = quadrature.log_integral(
        lambda x: x[0] ** 2 + x[0] * x[1] + x[1] ** 2, 1.0, np.full(2, -12.0), np.full(2, 12.0)
    )
    assert np.isclose(two, np.log(2 * np.pi / np.sqrt(3)), atol=1e-13)
    mean = quadrature.mean(lambda x: 0.5 * (x[0] - 1) ** 2, lambda x: x[0] ** 2, 4.0, np.array([-4.0]), np.array([6.0]))
    assert np.isclose(mean, 1.25, atol=1e-13)
    with pytest.raises(InvalidArgumentError, match="1 or 2 dimensions"):
        quadrature.midpoints(np.zeros(3), np.ones(3))


def test_quadrature_is_double_precision_everywhere():
    """Exact references must not depend on the caller's precision."""
    with jax.enable_x64(False):
        value = quadrature.log_integral(lambda x: 0.5 * x[0] ** 2, 1.0, np.array([-9.0]), np.array([9.0]))
    assert np.isclose(value, 0.5 * np.log(2 * np.pi), atol=1e-12)


@pytest.mark.parametrize("cells", [16, 512])
def test_draws_do_not_show_the_grid(cells):
    """Even 16 cells give the exact law (Kolmogorov-Smirnov, false alarms 5e-5); a histogram sampler would not."""

    def log_density(x):
        return -0.5 * (x[0] / 0.7) ** 2 - 0.8 * jnp.sin(3 * x[0])

    envelope = quadrature.GridEnvelope(log_density, [-6.0], [6.0], cells)
    xs = np.asarray(jax.jit(jax.vmap(lambda key: envelope.draw(key)))(jax.random.split(jax.random.key(3), 20000)))[:, 0]
    x = np.linspace(-6, 6, 200_001)
    weight = np.exp(-0.5 * (x / 0.7) ** 2 - 0.8 * np.sin(3 * x))
    uniform = np.sort(np.interp(xs, x, np.cumsum(weight) / weight.sum()))
    assert np.abs(uniform - (np.arange(20000) + 0.5) / 20000).max() < 2.3 / np.sqrt(20000)


def test_cells_are_drawn_by_their_mass():
    """Including empty first and last cells, which rounding must never give."""
    mass = jnp.asarray([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    keys = jax.random.split(jax.random.key(0), 20000)
    draw = jax.vmap(lambda key: quadrature.draw_cell(key, jnp.cumsum(mass.sum(1)), jnp.cumsum(mass, 1)))
    row, column = jax.jit(draw)(keys)
    counts = np.bincount(np.asarray(3 * row + column), minlength=9)
    expected = 2000 * np.asarray(mass).reshape(-1)
    assert np.all(counts[expected == 0] == 0)
    assert np.all(np.abs(counts - expected) < 4.5 * np.sqrt(np.maximum(expected, 1e-9)))
