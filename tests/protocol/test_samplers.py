"""The protocol of population samplers: the ensemble is properly weighted, and a run may be cut anywhere.

A new sampler is tested by one more line in ``CASES``. Mode weights, means and energies are compared with quadrature on an
asymmetric double well at three temperatures, log Z too where weights are absolute. Errors of Markov chains come from 24
chains, so that z follows Student's t: |z| < 5 has a false-alarm rate of 5e-5, and about 120 are made with fixed seeds.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.kernels import HMC, MALA, Kernel, KernelInfo, UnadjustedLangevin
from heatbath.kernels.hmc import evaluate
from heatbath.models.gaussian import Normal
from heatbath.models.volume_preserving import steerable_flow
from heatbath.samplers import geometric_ladder
from heatbath.samplers.base import Sampler, run_to_end
from heatbath.samplers.chains import ChainsSampler
from heatbath.samplers.exchange import PlainExchange
from heatbath.samplers.flow_exchange import FlowSwap
from heatbath.samplers.importance import ImportanceSampler
from heatbath.samplers.proposals import FromDistribution
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.samplers.smc import SMCSampler
from heatbath.state import ThermoState
from heatbath.targets.toy import DoubleWell

SIGMAS = 5.0
BETAS = (0.6, 1.0, 2.0)
TARGET = DoubleWell(barrier=2.5, tilt=0.5, dimension=2)
WIDE = Normal(jnp.array([0.0, 0.0]), jnp.array([1.5, 1.8]))


MOVES = HMC(jnp.asarray(0.3), num_steps=4)


def exchange(kernel: Kernel = MOVES, **options) -> Callable:
    """A maker of replica exchange between three temperatures."""
    settings = {"ladders": 24, "draws": 400, "thin": 2, "warmup_rounds": 200, "draws_per_chunk": 200, **options}

    def make(state):
        betas = geometric_ladder(float(state.beta), 0.25, 3)
        return ReplicaExchangeSampler(TARGET, state, kernel, betas, dtype="float64", **settings)

    return make


CASES: dict[str, Callable[[ThermoState], Sampler]] = {
    "replica-exchange": exchange(),
    "flow-exchange": exchange(exchange=FlowSwap(steerable_flow(jax.random.key(0), 2, layers=1, width=4, gain=0.2))),
    "chains": lambda state: ChainsSampler(
        TARGET,
        state,
        HMC(jnp.asarray(0.3), num_steps=8),
        24,
        1200,
        warmup_steps=300,
        dtype="float64",
        draws_per_chunk=400,
    ),
    "importance": lambda state: ImportanceSampler(TARGET, state, FromDistribution(WIDE), 8000),
    "smc": lambda state: SMCSampler(TARGET, state, WIDE, MALA(jnp.asarray(0.5)), 8000, particles=2000, steps=2),
    "smc-unadjusted": lambda state: SMCSampler(
        TARGET, state, WIDE, UnadjustedLangevin(jnp.asarray(0.3)), 8000, particles=2000, particles_at_once=700
    ),
}


def features(x):
    """Functions whose means are compared."""
    return jnp.array([x[0] > 0, x[0], x[1] ** 2, x[0] * x[1]])


@functools.cache
def truth(beta: float) -> np.ndarray:
    """Their exact means, and the mean energy."""
    means = [TARGET.mean(lambda x, i=i: features(x)[i], beta) for i in range(4)]
    return np.array([*means, TARGET.mean(TARGET.energy, beta)])


def check_ensemble(ensemble: Ensemble, beta: float):
    """Weighted means equal quadrature within their own errors, and log Z where there is one."""
    found = [ensemble.expect(features), ensemble.expect(np.asarray(ensemble.energies))]
    values = np.concatenate([np.atleast_1d(np.asarray(estimate.value)) for estimate in found])
    errors = np.concatenate([np.atleast_1d(np.asarray(estimate.standard_error)) for estimate in found])
    assert ((errors > 0) & (errors < 0.2)).all(), "errors this wide (or zero) would let anything pass"
    z = (values - truth(beta)) / errors
    assert (np.abs(z) < SIGMAS).all(), f"means are off by {z.round(1)} standard errors at beta = {beta}"
    if ensemble.absolute:
        z = (ensemble.log_z.value - TARGET.log_z(beta)) / ensemble.log_z.standard_error
        assert abs(z) < SIGMAS, f"log Z is off by {z:.1f} standard errors"


@functools.cache
def result(name: str, beta: float):
    return run_to_end(CASES[name](ThermoState(beta)), jax.random.key(11))


@pytest.mark.parametrize("name", CASES)
def test_weights_are_proper_at_three_temperatures(name):
    """Wrong weights, swaps or temperatures move the mode weights; a wrong log Z ruins every free energy."""
    for beta in BETAS:
        check_ensemble(result(name, beta).ensemble, beta)


@pytest.mark.parametrize("name", CASES)
def test_a_run_may_be_cut_anywhere(name):
    """Restoring the carry from its bytes must give the same numbers to the last bit; a chunk must say what it holds."""
    sampler = CASES[name](ThermoState(1.0))
    carry = sampler.begin(jax.random.key(11))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(carry))
    chunks, fractions = [], [sampler.progress(carry)]
    while not sampler.finished(carry):
        carry = jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), carry)
        carry, chunk = sampler.advance(carry)
        fractions.append(sampler.progress(carry))
        assert chunk.phase in ("warm-up", "production")
        assert "evaluations" in chunk.metrics
        assert all(np.isfinite(list(chunk.metrics.values())))
        if chunk.phase == "warm-up":
            assert chunk.arrays == {}
            continue
        assert {"samples", "energies"} <= set(chunk.arrays)
        assert {array_name: array.ndim for array_name, array in chunk.arrays.items()} == {
            array_name: len(names) for array_name, names in sampler.axes.items()
        }
        chunks.append(chunk.arrays)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert sorted(fractions) == fractions
    early = sampler.collect(chunks[0], carry).ensemble
    assert early.size > 0
    whole = sampler.collect({k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}, carry)
    np.testing.assert_array_equal(whole.ensemble.samples, result(name, 1.0).ensemble.samples)
    np.testing.assert_array_equal(whole.ensemble.log_weights, result(name, 1.0).ensemble.log_weights)
    assert {"method", "evaluations", "non_finite", "betas", "temperatures"} <= set(whole.diagnostics)


@pytest.mark.parametrize("name", CASES)
def test_cost_is_announced(name):
    """The dry run promises evaluations, memory and disk; evaluations within 5 % where the sampler can know them."""
    cost = CASES[name](ThermoState(1.0)).cost()
    assert cost is not None
    assert cost.memory_bytes >= cost.disk_bytes > 0
    if not name.startswith("smc"):
        assert abs(cost.evaluations / result(name, 1.0).diagnostics["evaluations"] - 1) < 0.05


# Negative controls ----------------------------------------------------------------------------------------------------


class WrongSwapSign(PlainExchange):
    """Exchanges with exp(-(beta_i - beta_j)(U_i - U_j)), a defect that published programs have had."""

    def offer(self, *arguments):
        offer = super().offer(*arguments)
        return offer._replace(log_ratios=-offer.log_ratios)


class SilentlyUnadjusted(Kernel):
    """Overdamped Langevin with a big step that calls itself exact; kept inside |x| < 4, where it would otherwise blow up."""

    def init(self, key, x, u):
        return evaluate(x, u)

    def step(self, key, state, u):
        width = 0.2
        noise = jax.random.normal(key, state.position.shape)
        new = evaluate(state.position - 0.5 * width**2 * state.gradient + width * noise, u)
        yes = (jnp.abs(new.position) < 4).all()
        new = jax.tree.map(lambda a, b: jnp.where(yes, a, b), new, state)
        return new, KernelInfo(jnp.ones(()), yes, yes, jnp.ones((), jnp.int32))


@pytest.mark.parametrize(
    "make",
    [exchange(exchange=WrongSwapSign()), exchange(kernel=SilentlyUnadjusted(), steps_per_round=4)],
    ids=["wrong-swap-sign", "unadjusted-kernel"],
)
def test_the_suite_rejects_wrong_samplers(make):
    """A swap rule with the wrong sign and an unadjusted kernel that calls itself exact must both be caught."""
    with pytest.raises(AssertionError, match="standard errors"):
        check_ensemble(run_to_end(make(ThermoState(2.0)), jax.random.key(11)).ensemble, 2.0)


def test_the_suite_rejects_a_wrong_sign_of_beta():
    """Reweighting with the sign of beta wrong is what a tempering sampler gets when it confuses the two directions."""
    good = result("importance", 1.0).ensemble
    wrong = eqx.tree_at(lambda e: e.log_weights, good, good.log_weights + 1.2 * np.asarray(good.energies))
    with pytest.raises(AssertionError, match=r"standard errors|anything pass"):
        check_ensemble(wrong, 1.0)
