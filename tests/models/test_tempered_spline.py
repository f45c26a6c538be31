"""Tempered splines: exact where they claim it, normalised always, and wrong where bins depend on other coordinates."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.steerable_flow import Steerable, Thermostat
from heatbath.models.tempered_spline import TemperedSpline

TEMPERATURES = (0.3, 0.6, 1.0, 1.7, 3.0)
GRID = np.linspace(-np.pi, np.pi, 20_001)[:-1] + np.pi / 20_000


def spline(smooth: bool) -> TemperedSpline:
    raw = [size * jax.random.normal(jax.random.key(seed), (6, 1)) for seed, size in enumerate((0.3, 1.0, 0.3))]
    return TemperedSpline(Thermostat(1.0), *raw, smooth=smooth)


@eqx.filter_jit
def _log_densities(model, x):
    return jax.vmap(model.log_prob)(x)


@eqx.filter_jit
def _draws(model, keys):
    return jax.vmap(model.sample_and_log_prob)(keys)


def log_densities(model, tau: float, x):
    return np.asarray(_log_densities(model.at(1 / tau), jnp.asarray(x)))


@pytest.mark.parametrize("smooth", [False, True])
def test_normalised_at_every_temperature(smooth):
    """A forgotten S would leave weights off by a constant at every temperature but one."""
    model = spline(smooth)
    for tau in TEMPERATURES:
        density = np.exp(log_densities(model, tau, GRID[:, None]))
        assert abs(density.mean() * 2 * np.pi - 1) < 1e-3
        x, log_prob = _draws(model.at(1 / tau), jax.random.split(jax.random.key(1), 20_000))
        np.testing.assert_allclose(log_densities(model, tau, x), log_prob, atol=1e-8)
        counts, edges = np.histogram(np.asarray(x)[:, 0], 16, (-np.pi, np.pi))
        expected = np.histogram(GRID, edges, weights=density * 2 * np.pi / len(GRID))[0] * len(x)
        # chi^2 with 15 degrees of freedom exceeds 60 with probability 2e-7.
        assert ((counts - expected) ** 2 / expected).sum() < 60


def spread(model, x) -> float:
    """The largest standard deviation of log p^tau' - log p^1 / tau'."""
    own = log_densities(model, 1.0, x)
    return max(float((log_densities(model, tau, x) - own / tau).std()) for tau in TEMPERATURES)


def test_linear_splines_are_steerable_and_smooth_ones_nearly():
    """The label ``exact`` must mean what it says, in both directions."""
    linear, smooth = spline(smooth=False), spline(smooth=True)
    assert linear.exact
    assert linear.bias is None
    assert spread(linear, GRID[::50, None]) < 1e-10
    assert not smooth.exact
    assert "rational-quadratic" in str(smooth.bias)
    assert 1e-4 < spread(smooth, GRID[::50, None]) < 0.5


class Conditional(Steerable):
    """A uniform angle, and a second one whose spline is the sharper the nearer the first is to 0."""

    spline: TemperedSpline
    thermostat: Thermostat

    def at(self, beta):
        return eqx.tree_at(lambda model: model.thermostat, self, self.thermostat.at(beta))

    def carried(self, x, beta):
        return x

    def sample(self, key):
        return jnp.zeros(2)

    def log_prob(self, x):
        heights = self.spline.heights * (1.5 + jnp.cos(x[0]))
        second = eqx.tree_at(lambda s: (s.heights, s.thermostat), self.spline, (heights, self.thermostat))
        return second.log_prob(x[1:]) - jnp.log(2 * jnp.pi)


@pytest.mark.parametrize("smooth", [False, True])
def test_conditional_splines_are_not_steerable(smooth):
    """S depends on the condition: even a piecewise-linear spline breaks the law when its bins depend on another coordinate."""
    x = np.random.default_rng(0).uniform(-np.pi, np.pi, (400, 2))
    assert spread(Conditional(spline(smooth), Thermostat(1.0)), x) > 0.05


def test_shapes_must_agree():
    """One more slope than bins would be broadcast or fail far from here."""
    with pytest.raises(InvalidArgumentError, match="one shape"):
        TemperedSpline(Thermostat(1.0), jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.zeros((5, 1)))
