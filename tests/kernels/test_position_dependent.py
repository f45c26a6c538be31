"""Metropolis-adjusted position-dependent Langevin beyond the protocol of kernels: no bias at a large step, walls, bad D."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.stationarity import boltzmann_cdf, stationarity
from heatbath.kernels import PositionDependentLangevin
from heatbath.kinetics.diffusion_integrators import simulate
from heatbath.kinetics.position_dependent import DiffusionModel
from heatbath.kinetics.solvable_diffusions import WallGravity
from heatbath.state import LogDensity


class Given(LogDensity):
    """A function as a density."""

    function: object

    def __call__(self, x):
        return self.function(x)

    @property
    def beta(self):
        return 1.0


def wavy(x):
    return 1 + 0.6 * jnp.sin(2 * x[0])


def harmonic(x):
    return 0.5 * jnp.sum(x**2)


def last(kernel, u, starts, steps):
    @jax.jit
    def run(keys, starts):
        def chain(key, x):
            state = kernel.init(key, x, u)
            state, info = jax.lax.scan(lambda s, k: kernel.step(k, s, u), state, jax.random.split(key, steps))
            return state.position, info.acceptance.mean(), info.finite.all()

        return jax.vmap(chain)(keys, starts)

    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(1), len(starts)), starts))


def test_no_bias_at_ten_times_the_step():
    """At dt = 0.3 Euler's own law is far from Boltzmann's and the adjusted moves stay on it (4 sigma, false alarm 3e-5)."""
    starts = jax.random.normal(jax.random.key(0), (20_000, 1))
    cdf = boltzmann_cdf(lambda x: 0.5 * x**2, -8.0, 8.0)
    kernel = PositionDependentLangevin(0.3, wavy)
    x, acceptance, _ = last(kernel, Given(harmonic), starts, 20)
    assert stationarity(x[:, 0], cdf).sigmas < 4
    assert 0.5 < acceptance.mean() < 0.99
    euler = simulate(jax.random.key(2), DiffusionModel(harmonic, wavy, 0.0), starts, 0.3, 20, every=20)
    assert stationarity(np.asarray(euler)[:, -1, 0], cdf).sigmas > 10


def test_every_exchange_is_as_frequent_as_its_reverse():
    """From equilibrium one adjusted step moves as many particles from A to B as from B to A: forward and backward weights agree.

    chi^2 over the pairs of 9 cells, p > 1e-4. Steps that are not adjusted are far away (p < 1e-10).
    """
    starts = jax.random.normal(jax.random.key(5), (40_000, 1))
    adjusted, _, _ = last(PositionDependentLangevin(0.3, wavy), Given(harmonic), starts, 1)
    euler = simulate(jax.random.key(6), DiffusionModel(harmonic, wavy, 0.0), starts, 0.3, 1)[:, -1]
    edges = np.linspace(-1.75, 1.75, 8)
    probabilities = []
    for after in (adjusted, np.asarray(euler)):
        counts = np.zeros((9, 9))
        cells = np.searchsorted(edges, np.asarray(starts)[:, 0]), np.searchsorted(edges, after[:, 0])
        np.add.at(counts, cells, 1)
        there, back = (matrix[np.triu_indices(9, 1)] for matrix in (counts, counts.T))
        often = there + back >= 20
        differences = (there - back)[often] / np.sqrt((there + back)[often])
        probabilities.append(stats.chi2.sf((differences**2).sum(), often.sum()))
    assert probabilities[0] > 1e-4
    assert probabilities[1] < 1e-10


def test_a_wall_needs_no_clipping():
    """Where D vanishes at the wall and u is infinite behind it, moves across are rejected and the law stays exponential."""
    model = WallGravity()

    def u(x):
        return jnp.where(x[0] > 0, x[0], jnp.inf)

    starts = jax.random.exponential(jax.random.key(0), (8000, 1))
    x, _, finite = last(PositionDependentLangevin(0.1, model.diffusivity), Given(u), starts, 20)
    assert (x > 0).all()
    assert not finite.all(), "no move ever tried the wall, so the check says nothing"
    assert stationarity(x[:, 0], lambda z: np.asarray(model.cdf(z))).sigmas < 4


def test_trees_are_refused():
    """A matrix D couples all coordinates of one array; a tree has no such array."""
    with pytest.raises(InvalidArgumentError, match="one array"):
        PositionDependentLangevin(0.1, wavy).init(jax.random.key(0), {"a": jnp.zeros(1)}, Given(harmonic))
