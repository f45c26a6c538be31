"""Exchanges: their log ratio against the definition, who swaps with whom, and the count of round trips."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.kernels import HMC
from heatbath.samplers.base import run_to_end
from heatbath.samplers.exchange import exchange_log_ratios, no_trips, swap, travelled
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler, mean_over_ladders
from heatbath.samplers.weighting import rung_draws
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell

TARGET = DoubleWell(barrier=4.0, tilt=0.7)


class Spring(eqx.Module):
    """A harmonic bias k (x - centre)^2 / 2."""

    centre: jax.Array
    strength: jax.Array

    def __call__(self, x):
        return 0.5 * self.strength * (x[0] - self.centre) ** 2


def test_log_ratio_is_that_of_the_joint_density():
    """u_i(x_i) + u_j(x_j) - u_i(x_j) - u_j(x_i), with and without unequal biases: the definition, term by term."""
    betas = jnp.array([2.0, 1.1, 0.4])
    x = jnp.array([[0.3], [-1.2], [0.9]])
    energies = jax.vmap(TARGET.energy)(x)
    springs = Spring(jnp.array([-1.0, 0.0, 1.0]), jnp.array([3.0, 2.0, 1.0]))
    for ladder in (ThermoState(betas), ThermoState(betas, springs)):
        found = exchange_log_ratios(ladder, x, energies)
        for pair in range(2):
            low, high = (
                ReducedEnergy(TARGET, jax.tree.map(lambda leaf, i=i: leaf[i], ladder)) for i in (pair, pair + 1)
            )
            expected = low(x[pair]) + high(x[pair + 1]) - low(x[pair + 1]) - high(x[pair])
            np.testing.assert_allclose(found[pair], expected, rtol=1e-12)


def test_pairs_alternate_and_are_disjoint():
    """A configuration that was handed over twice in one round would be lost or doubled."""
    sure = jnp.full(4, 100.0)
    even = swap(jax.random.key(0), sure, jnp.asarray(0))
    odd = swap(jax.random.key(0), sure, jnp.asarray(1))
    np.testing.assert_array_equal(even.source, [1, 0, 3, 2, 4])
    np.testing.assert_array_equal(odd.source, [0, 2, 1, 4, 3])
    np.testing.assert_array_equal(even.attempted, [True, False, True, False])
    never = swap(jax.random.key(0), jnp.array([-100.0, jnp.nan, -jnp.inf, -100.0]), jnp.asarray(0))
    np.testing.assert_array_equal(never.source, np.arange(5))
    assert np.isfinite(never.probability).all()


def test_swaps_happen_with_their_probability():
    """Acceptance min(1, e^r): a comparison the wrong way round would accept what it should refuse."""
    ratio = jnp.log(jnp.array([0.3]))
    outcomes = jax.vmap(lambda key: swap(key, ratio, jnp.asarray(0)))(jax.random.split(jax.random.key(1), 20_000))
    share = float((outcomes.source[:, 0] == 1).mean())
    assert abs(share - 0.3) < 4.5 * np.sqrt(0.21 / 20_000)


def test_round_trips():
    """Cold, hot, cold is one trip of that walker; hot to cold alone is none."""
    history = [[0, 1, 2], [1, 0, 2], [1, 2, 0], [1, 2, 0], [1, 0, 2], [0, 1, 2], [2, 1, 0], [0, 1, 2]]
    trips = no_trips(3)
    for walkers in history:
        trips = travelled(trips, jnp.asarray(walkers))
    # Walker 0 goes cold -> hot -> cold twice; walker 2 begins hot, comes to the cold end once, and is hot again.
    np.testing.assert_array_equal(trips.completed, [2, 0, 0])


def test_means_over_ladders_do_not_depend_on_their_order():
    """Sums in another order would let two devices choose another ladder than one."""
    values = jnp.asarray(np.random.default_rng(0).uniform(size=(64, 5)))
    shuffled = values[np.random.default_rng(1).permutation(64)]
    np.testing.assert_array_equal(mean_over_ladders(values), mean_over_ladders(shuffled))
    np.testing.assert_allclose(mean_over_ladders(values), values.mean(axis=0), atol=1e-5)


def test_exchange_between_biases():
    """Hamiltonian replica exchange: one temperature, three springs, and MBAR takes the springs away again."""
    springs = Spring(jnp.array([0.0, -1.0, 1.0]), jnp.array([0.0, 4.0, 4.0]))
    sampler = ReplicaExchangeSampler(
        TARGET,
        ThermoState(1.0),
        HMC(jnp.asarray(0.2), num_steps=4),
        jnp.ones(3),
        ladders=32,
        draws=600,
        thin=2,
        draws_per_chunk=300,
        biases=springs,
        dtype="float64",
    )
    sampled = run_to_end(sampler, jax.random.key(3))
    grid = np.linspace(-3, 3, 6001)
    energy = np.asarray(jax.vmap(TARGET.energy)(grid[:, None]))

    def check(ensemble, bias):
        weights = np.exp(-energy - bias)
        for function in (lambda x: x[0], lambda x: jnp.where(x[0] > 0, 1.0, 0.0)):
            exact = weights @ np.asarray(jax.vmap(function)(grid[:, None])) / weights.sum()
            estimate = ensemble.expect(function)
            assert abs(estimate.value - exact) < 5 * estimate.standard_error

    check(sampled.ensemble, 0.0)
    check(rung_draws(sampled, 2), 2.0 * (grid - 1.0) ** 2)
