"""Unbiased gradients of deep Boltzmann machines, against exact sums; the telescoped variant of the public code must fail."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.block_gibbs import UniformMetropolis, start_at_mode
from heatbath.kernels.coupled import CommonRandomNumbers, MaximalBlockGibbs
from heatbath.kernels.gibbs import Gibbs
from heatbath.samplers.unbiased import unbiased_estimates
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.boltzmann_machines import boltzmann_machine

SIGMAS = 4.5
COUPLINGS = {
    "metropolis": CommonRandomNumbers(UniformMetropolis()),
    "maximal-gibbs": MaximalBlockGibbs(),
    "single-site-gibbs": CommonRandomNumbers(Gibbs(2)),
}


@functools.cache
def machine():
    """4-3-3 units, as tiny as a machine with two hidden layers can be; about the size of the published check."""
    return boltzmann_machine((4, 3, 3), scale=0.7, seed=2)


def start(key):
    """Local mode, then one sweep."""
    return start_at_mode(key, machine())


def statistics(x):
    """The derivatives of -U by all weights: v h and h h'."""
    v, h, g = machine().split(x.astype(float))
    return jnp.concatenate([jnp.outer(v, h).reshape(-1), jnp.outer(h, g).reshape(-1)])


@functools.cache
def exact():
    """d log Z/d W by differentiating the sum over all states: the mean of ``statistics``."""
    gradient = jax.jit(jax.grad(lambda m: m.log_partition()))(machine())
    return np.concatenate([np.asarray(w).reshape(-1) for w in gradient.weights])


def z_scores(values):
    """How many standard errors the means are off."""
    return (values.mean(axis=0) - exact()) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def estimates(name, pairs, **arguments):
    u = ReducedEnergy(machine(), ThermoState(1.0))
    return unbiased_estimates(
        jax.random.key(4), COUPLINGS[name], u, start, statistics, pairs=pairs, cap=4000, **arguments
    )


def telescoped(pairs):
    """The public code's sum: no second chain, E(x_t) - E(x_{t-1}) added until the first rejection."""
    kernel, u = UniformMetropolis(), ReducedEnergy(machine(), ThermoState(1.0))

    def one(key):
        key_start, key = jax.random.split(key)
        x = start_at_mode(key_start, machine())

        def body(carry):
            key, state, total, _ = carry
            key, key_step = jax.random.split(key)
            new, info = kernel.step(key_step, state, u)
            return key, new, total + statistics(new.position) - statistics(state.position), info.accepted

        carry = (key, kernel.init(key, x, u), statistics(x), jnp.ones((), bool))
        return jax.lax.while_loop(lambda c: c[3], body, carry)[2]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(5), pairs)))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("metropolis", {}),
        ("maximal-gibbs", {"k": 1, "m": 4}),
        ("single-site-gibbs", {"shared_start": False}),
    ],
)
def test_gradients_are_unbiased(name, arguments):
    """H_k and H_{k:m} must have the exact mean for every component: |z| < 4.5, false alarm 7e-6 each."""
    found = estimates(name, 8000, chunk=2000, **arguments)
    assert found.truncation_rate == 0
    assert found.estimate.converged
    assert (np.abs(z_scores(found.values)) < SIGMAS).all()
    assert found.meeting_times.min() >= 1
    assert found.meeting_times.max() > 3, "all pairs met at once, so the correction was never used"


def test_the_telescoped_variant_is_biased():
    """Negative control: one chain stopped at its first rejection gives f there, far off the mean in equilibrium."""
    assert np.abs(z_scores(telescoped(8000))).max() > 10


def test_truncation_is_counted():
    """A cap that cuts pairs off must be seen in the estimate's own verdict."""
    u = ReducedEnergy(machine(), ThermoState(1.0))
    found = unbiased_estimates(
        jax.random.key(4), COUPLINGS["metropolis"], u, start, statistics, pairs=500, cap=2, shared_start=False
    )
    assert 0 < found.truncation_rate < 1
    assert not found.estimate.converged
    assert "biased" in found.estimate.notes[0]
    with pytest.raises(InvalidArgumentError, match="cap"):
        estimates("metropolis", 10, k=3, m=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metropolis", "maximal-gibbs"])
def test_gradients_are_unbiased_at_length(name, record_property):
    """2e5 pairs per coupling, every component within 4 standard errors."""
    found = estimates(name, 200_000)
    z = np.abs(z_scores(found.values)).max()
    record_property("largest |z|", round(float(z), 2))
    record_property("meeting times", f"mean {found.meeting_times.mean():.2f}, max {found.meeting_times.max()}")
    assert found.truncation_rate == 0
    assert z < 4


@pytest.mark.slow
def test_the_telescoped_variant_is_biased_at_length(record_property):
    """2e5 chains: off by more than 50 standard errors."""
    z = np.abs(z_scores(telescoped(200_000))).max()
    record_property("largest |z|", round(float(z), 1))
    assert z > 50
