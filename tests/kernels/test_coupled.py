"""Couplings: each chain alone follows its kernel, both stay together, and the maximal one agrees as often as is possible."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.block_gibbs import BlockGibbs, UniformMetropolis, fields, local_mode
from heatbath.kernels.combinators import Compose
from heatbath.kernels.coupled import CommonRandomNumbers, MaximalBlockGibbs, maximal_bits
from heatbath.kernels.visible_proposal import PooledProposal, VisibleProposal
from heatbath.models.nade import BernoulliMixture
from heatbath.samplers.unbiased import unbiased_estimates
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets import lattice
from heatbath.targets.boltzmann_machines import boltzmann_machine

OFFERED = BernoulliMixture(log_weights=jnp.zeros(2), logits=jnp.array([[1.0, -0.5], [-1.0, 0.2]]))
COUPLINGS = {
    "metropolis": CommonRandomNumbers(UniformMetropolis()),
    "common-gibbs": CommonRandomNumbers(BlockGibbs()),
    "maximal-gibbs": MaximalBlockGibbs(),
    "offered": CommonRandomNumbers(Compose((VisibleProposal(OFFERED), BlockGibbs("sequential")))),
    "pool": CommonRandomNumbers(Compose((PooledProposal(OFFERED, 3), BlockGibbs("sequential")))),
}


@functools.cache
def density():
    return ReducedEnergy(boltzmann_machine((2, 2, 1), scale=1.0, seed=1), ThermoState(0.8))


@functools.cache
def steps_of(name, count=20_000):
    """Pairs after one coupled step from two fixed states, and single chains after one step of the kernel from the second."""
    u, coupling = density(), COUPLINGS[name]
    x, y = jnp.array([1, 0, 1, 1, 0]), jnp.array([0, 0, 1, 0, 1])

    @jax.jit
    def run(keys):
        states = [coupling.kernel.init(keys[0], z, u) for z in (x, y)]

        def one(key):
            first, second = coupling.step(key, *states, u)
            alone = coupling.kernel.step(jax.random.fold_in(key, 1), states[1], u)[0]
            equal = coupling.step(key, states[0], states[0], u)
            return first.position, second.position, alone.position, equal[0].position, equal[1].position

        return jax.vmap(one)(keys)

    return [np.asarray(part) for part in run(jax.random.split(jax.random.key(3), count))]


def counts(x):
    return np.bincount(x @ 2 ** np.arange(x.shape[1]), minlength=2 ** x.shape[1])


@pytest.mark.parametrize("name", COUPLINGS)
def test_each_chain_keeps_the_law_of_its_kernel(name):
    """A coupling that bends one marginal biases every estimate: two-sample chi-square, false alarm 1e-4."""
    _, second, alone, _, _ = steps_of(name)
    table = np.stack([counts(second), counts(alone)])
    assert scipy.stats.chi2_contingency(table[:, table.sum(axis=0) > 10]).pvalue > 1e-4


@pytest.mark.parametrize("name", COUPLINGS)
def test_chains_that_met_stay_together(name):
    """Else the tail of the sum would never end."""
    first, second, _, equal, other = steps_of(name)
    np.testing.assert_array_equal(equal, other)
    assert 0 < (first == second).all(axis=1).mean() < 1


def test_maximal_bits_agree_as_often_as_is_possible():
    """P(x = y) = 1 - total variation, by enumeration, and both are products of their coins: z-tests at 4.5 s.e."""
    p, q = jnp.array([0.9, 0.3, 0.5, 0.7]), jnp.array([0.6, 0.4, 0.5, 0.2])
    chosen = jnp.array([True, True, True, False])
    x, y = jax.jit(jax.vmap(lambda k: maximal_bits(k, p, q, chosen)))(jax.random.split(jax.random.key(0), 20_000))
    x, y = np.asarray(x)[:, :3], np.asarray(y)[:, :3]
    states = np.array(list(itertools.product((0, 1), repeat=3)))
    laws = [np.prod(np.where(states == 1, r, 1 - r), axis=1) for r in (np.asarray(p)[:3], np.asarray(q)[:3])]
    overlap = np.minimum(*laws).sum()
    assert abs((x == y).all(axis=1).mean() - overlap) < 4.5 * np.sqrt(overlap * (1 - overlap) / len(x))
    for draws, law in zip((x, y), laws, strict=True):
        assert scipy.stats.chisquare(counts(draws[:, ::-1]), law * len(draws)).pvalue > 1e-4


def test_pairs_that_are_offered_pools_meet_at_once_where_blocks_do_not():
    """Two modes that block Gibbs cannot leave; pairs must be independent, so that the error of the mean is right: 4.5 s.e."""
    machine = boltzmann_machine((4, 2), scale=1e-9, seed=0)
    strong = 8.0 * jnp.array([[1.0, 1.0]] * 4)
    machine = eqx.tree_at(
        lambda m: (m.weights, m.biases), machine, ((strong,), (-8.0 * jnp.ones(4), -16.0 * jnp.ones(2)))
    )
    u = ReducedEnergy(machine, ThermoState(1.0))
    offered = BernoulliMixture(log_weights=jnp.zeros(2), logits=jnp.array([[4.0] * 4, [-4.0] * 4]))
    found = {}
    for name, parts in {"blocks": (), "pool": (PooledProposal(offered, 32),)}.items():
        coupling = CommonRandomNumbers(Compose((*parts, BlockGibbs("sequential"))))
        found[name] = unbiased_estimates(
            jax.random.key(0),
            coupling,
            u,
            lambda key: jax.random.bernoulli(key, shape=(6,)).astype(jnp.int32),
            lambda x: x[:4].mean(),
            pairs=400,
            cap=200,
            shared_start=False,
        )
    assert found["blocks"].truncation_rate > 0.2
    assert found["pool"].truncation_rate == 0
    assert np.median(found["pool"].meeting_times) <= 3
    estimate = found["pool"].estimate
    assert abs(estimate.value - machine.mean(lambda x: x[:4].mean(), 1.0)) < 4.5 * estimate.standard_error


def test_local_search_descends_and_ends():
    """The search must never rise, must end at a state that no block flip changes, and must not circle on ties."""
    machine = boltzmann_machine((6, 5, 4), scale=1.5, seed=4)
    starts = jax.random.bernoulli(jax.random.key(1), shape=(200, 15)).astype(jnp.int32)
    modes, sweeps = jax.jit(jax.vmap(lambda k, x: local_mode(k, machine, x)))(
        jax.random.split(jax.random.key(2), 200), starts
    )
    before, after = (np.asarray(jax.vmap(machine.energy)(x)) for x in (starts, modes))
    assert (after <= before + 1e-12).all()
    at_rest = np.asarray(jax.vmap(lambda x: fields(machine, x) >= 0)(modes))
    np.testing.assert_array_equal(at_rest, modes)
    assert np.asarray(sweeps).max() < 20
    flat = jax.tree.map(jnp.zeros_like, machine)
    mode, count = local_mode(jax.random.key(3), flat, starts[0])
    assert bool((mode == 1).all())
    assert count <= 2


def test_other_targets_are_refused():
    """The halves of an Ising model with an odd length interact, so that a block move of it would be wrong."""
    u = ReducedEnergy(lattice.ising_chain(5), ThermoState(1.0))
    with pytest.raises(InvalidArgumentError, match="BoltzmannMachine"):
        BlockGibbs().init(jax.random.key(0), jnp.zeros(5, int), u)
