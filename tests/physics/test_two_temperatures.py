"""Replica exchange between two temperatures on an asymmetric double well, against quadrature at both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.kernels import MALA
from heatbath.samplers import rung_draws
from heatbath.samplers.base import run_to_end
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.state import ThermoState
from heatbath.targets.toy import DoubleWell

TARGET = DoubleWell(barrier=6.0, tilt=0.8)
BETAS = (1.0, 0.35)


@functools.cache
def sampled():
    """64 ladders; at the cold temperature alone a barrier of 6 kT would hold the chains back."""
    sampler = ReplicaExchangeSampler(
        TARGET,
        ThermoState(BETAS[0]),
        MALA(jnp.asarray(0.15)),
        BETAS,
        ladders=64,
        draws=1000,
        thin=2,
        steps_per_round=4,
        warmup_rounds=400,
        draws_per_chunk=500,
        dtype="float64",
    )
    return run_to_end(sampler, jax.random.key(12))


def right(x):
    return jnp.where(x[0] > 0, 1.0, 0.0)


def check(ensemble, beta):
    """P(right), <x>, <U> within 4 standard errors of 64 ladders (false alarms 2e-4 each, nine in all)."""
    for function in (right, lambda x: x[0], TARGET.energy):
        estimate = ensemble.expect(function)
        assert abs(estimate.value - TARGET.mean(function, beta)) < 4 * estimate.standard_error
    assert ensemble.expect(right).standard_error < 0.01


def test_each_temperature_has_its_own_law():
    """Draws of a rung must follow that rung's temperature: the swap rule alone decides that."""
    for rung, beta in enumerate(BETAS):
        check(rung_draws(sampled(), rung), beta)


def test_all_draws_weighted_for_the_cold_state():
    """MBAR weights turn the draws of both rungs into one ensemble of the asked state."""
    ensemble = sampled().ensemble
    assert ensemble.size == 2 * 64 * 1000
    check(ensemble, BETAS[0])


def test_free_energies_between_the_rungs():
    """MBAR's free energies are differences of -log Z."""
    found = sampled().diagnostics
    exact = -(TARGET.log_z(BETAS[1]) - TARGET.log_z(BETAS[0]))
    # MBAR's own error ignores correlation in time; five of them leave room for it.
    assert abs(found["free_energies"][1] - exact) < 5 * found["free_energy_errors"][1] + 1e-3
    assert found["mbar_converged"]


def test_exchanges_and_round_trips_are_reported():
    """Without exchanges replica exchange is a set of chains that nobody connects."""
    found = sampled().diagnostics
    assert 0.2 < found["swap_acceptance"][0] < 0.95
    assert (found["round_trips_per_ladder"] > 20).all()
    assert found["round_trips"] == found["round_trips_per_ladder"].sum()


def test_exchange_rate_is_that_of_the_energies():
    """The mean acceptance equals the mean of min(1, exp(d beta d U)) over independent draws of the two laws."""
    energies = np.asarray(sampled().diagnostics["energies"], dtype=np.float64)
    generator = np.random.default_rng(0)
    cold = generator.permutation(energies[..., 0].reshape(-1))
    hot = generator.permutation(energies[..., 1].reshape(-1))
    expected = np.minimum(1, np.exp((BETAS[0] - BETAS[1]) * (cold - hot))).mean()
    assert abs(sampled().diagnostics["swap_acceptance"][0] - expected) < 0.02
