"""The protocol of proposals: draws are properly weighted, E[w f(x)] = integral of exp(-u) f, at every temperature.

A new proposal is tested by one more line in ``CASES``. f runs over 1, moments and a mode indicator on an asymmetric double
well, with Z and means by quadrature at three temperatures; |z| < 4.5 has a false-alarm rate of 7e-6, and about 150 tests are
made. Draws are exchangeable, so the errors are plain standard errors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels import HMC, MALA, Langevin, RandomWalk, UnadjustedLangevin
from heatbath.models.continuous_flow import continuous_flow
from heatbath.models.gaussian import CorrelatedNormal, Mixture, Normal, Uniform
from heatbath.models.log_jacobian import ExactJacobian, FlowPerturbation, Hutchinson, MultiStepFlowPerturbation
from heatbath.models.nets.velocity import Velocity
from heatbath.models.volume_preserving import steerable_flow
from heatbath.samplers.annealing import AnnealedImportance, checked_schedule, linear_schedule
from heatbath.samplers.augmented import FromSteerable, Projected
from heatbath.samplers.flow_perturbation import FromContinuousFlow
from heatbath.samplers.importance import importance
from heatbath.samplers.proposals import FromDistribution, Proposal
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target
from heatbath.targets.toy import DoubleWell

SIGMAS = 4.5
BETAS = (0.5, 1.0, 2.0)
TARGET = DoubleWell(barrier=2.0, tilt=0.6, dimension=2)
WIDE = Normal(jnp.array([-0.3, 0.0]), jnp.array([1.2, 1.6]))
PATH = linear_schedule(6)

CASES: dict[str, Proposal] = {
    "normal": FromDistribution(WIDE),
    "correlated-normal": FromDistribution(CorrelatedNormal.from_covariance([0.0, 0.2], [[1.5, 0.3], [0.3, 2.5]])),
    "mixture": FromDistribution(
        Mixture.stacked([0.5, 0.5], [Normal(jnp.array([-1.0, 0.0]), 1.0), Normal(jnp.array([1.0, 0.0]), 1.5)])
    ),
    "annealed-hmc": AnnealedImportance(WIDE, HMC(0.3, num_steps=3), PATH),
    "annealed-mala": AnnealedImportance(WIDE, MALA(0.5), PATH, steps=2),
    "annealed-unadjusted": AnnealedImportance(WIDE, UnadjustedLangevin(0.25), PATH, steps=2),
    "annealed-random-walk": AnnealedImportance(Uniform(jnp.full(2, -4.0), jnp.full(2, 4.0)), RandomWalk(0.8), PATH),
}


class Bent(Velocity):
    """A fixed nonlinear field in the plane, for continuous flows."""

    def __call__(self, x, t):
        return jnp.stack([0.4 * x[0] + jnp.sin(x[1] + t), 0.3 * jnp.tanh(x[0]) + 0.2 * x[1]])


STEERABLE = steerable_flow(jax.random.key(0), 2, layers=1, width=4, gain=0.2)
FLOW = continuous_flow(Bent(), (2,), steps=4, integrator="euler", dtype="float64", tolerance=1e-10)
CASES |= {
    "steerable": FromSteerable(STEERABLE),
    "projected": Projected(FromDistribution(STEERABLE), Normal(jnp.zeros(2), 1.0)),
    "continuous-exact": FromContinuousFlow(FLOW, ExactJacobian()),
    "continuous-single-shot": FromContinuousFlow(FLOW, FlowPerturbation()),
    "continuous-multi-step": FromContinuousFlow(FLOW, MultiStepFlowPerturbation(2)),
}


def features(x):
    """Functions f whose weighted means are compared; the first is 1, for Z itself."""
    return jnp.concatenate([jnp.ones(1), x, x**2, jnp.array([x[0] > 0, x[0] * x[1]])])


@functools.cache
def truth(beta: float) -> np.ndarray:
    """Integrals of exp(-u) f, by quadrature."""
    means = [TARGET.mean(lambda x, i=i: features(x)[i], beta) for i in range(7)]
    return np.exp(TARGET.log_z(beta)) * np.asarray(means)


def check_proper_weights(proposal: Proposal, target: Target = TARGET, draws: int = 20_000):
    """Unnormalised weighted means equal the integrals, Z among them."""

    @jax.jit
    def run(keys, beta):
        def one(key):
            x, log_weight = proposal.draw(key, ReducedEnergy(target, ThermoState(beta)))
            return features(x), log_weight

        return jax.vmap(one)(keys)

    for beta in BETAS:
        values, log_weights = run(jax.random.split(jax.random.key(5), draws), jnp.asarray(beta))
        with np.errstate(all="ignore"):  # weights that overflow give NaN, and NaN fails the comparison
            terms = np.exp(np.asarray(log_weights))[:, None] * np.asarray(values)
            error = terms.std(axis=0) / np.sqrt(draws)
            z = (terms.mean(axis=0) - truth(beta)) / error
        assert (np.abs(z) < SIGMAS).all(), f"weights are not proper at beta = {beta}: {z.round(1)} standard errors"


@pytest.mark.parametrize("name", CASES)
def test_weights_are_proper_at_three_temperatures(name):
    """Improper weights bias every mean and every free energy made with this proposal."""
    check_proper_weights(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_contract(name):
    """One configuration and a scalar log weight; the key alone decides."""
    u = ReducedEnergy(TARGET, ThermoState(1.0))
    draw = jax.jit(lambda key: CASES[name].draw(key, u))
    x, log_weight = draw(jax.random.key(0))
    assert x.shape == TARGET.space.event_shape
    assert np.shape(log_weight) == ()
    again, _ = draw(jax.random.key(0))
    other, _ = draw(jax.random.key(1))
    np.testing.assert_array_equal(x, again)
    assert (np.asarray(x) != np.asarray(other)).any()


def test_importance_gives_an_ensemble_with_log_z():
    """The one call that people use: absolute weights, energies, the same draws whatever the chunk."""
    u = ReducedEnergy(TARGET, ThermoState(1.0))
    ensemble = importance(jax.random.key(2), CASES["normal"], u, 5000, chunk=2000)
    assert ensemble.size == 5000
    assert abs(ensemble.log_z.value - TARGET.log_z(1.0)) < SIGMAS * ensemble.log_z.standard_error
    assert ensemble.energies is not None
    np.testing.assert_allclose(ensemble.energies[:3], jax.vmap(TARGET.energy)(ensemble.samples[:3]))
    whole = importance(jax.random.key(2), CASES["normal"], u, 5000, chunk=5000)
    np.testing.assert_allclose(whole.samples, ensemble.samples)
    reweighted = ensemble.reweight(ThermoState(1.5)).log_z
    assert abs(reweighted.value - TARGET.log_z(1.5)) < SIGMAS * reweighted.standard_error
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        importance(jax.random.key(2), CASES["normal"], u, 0)


# Negative controls ----------------------------------------------------------------------------------------------------


class DroppedJacobian(Proposal):
    """x = sinh(z) with the density of z: log|det dx/dz| = log cosh z is missing."""

    def draw(self, key, u):
        z, log_prob = Normal(jnp.zeros(2), 0.8).sample_and_log_prob(key)
        x = jnp.sinh(z)
        return x, -u(x) - log_prob


class WithJacobian(DroppedJacobian):
    """The same with its Jacobian: it must pass."""

    def draw(self, key, u):
        x, log_weight = super().draw(key, u)
        return x, log_weight + 0.5 * jnp.sum(jnp.log1p(x**2))


class WrongSignOfBeta(AnnealedImportance):
    """Annealing whose path weight has the sign of beta wrong, as tempering programs have had."""

    def draw(self, key, u):
        x, log_weight = super().draw(key, u)
        return x, -log_weight


class PretendsToBeExact(Langevin):
    """Langevin with a big step that calls itself exact."""

    @property
    def exact(self):
        return True

    @property
    def bias(self):
        return None


def test_a_jacobian_makes_the_difference():
    """The right change of variables passes; without its Jacobian it is rejected."""
    check_proper_weights(WithJacobian())
    with pytest.raises(AssertionError, match="not proper"):
        check_proper_weights(DroppedJacobian())


def test_the_suite_rejects_hutchinson_as_an_unbiased_weight():
    """An unbiased log density makes a biased weight, which Hutchinson's estimator declares and the suite sees."""
    proposal = FromContinuousFlow(FLOW, Hutchinson())
    assert proposal.bias is not None
    with pytest.raises(AssertionError, match="not proper"):
        check_proper_weights(proposal)


def test_the_suite_rejects_a_wrong_sign_of_beta():
    """A tempering weight with the wrong sign looks like a weight; only Z and the modes give it away."""
    with pytest.raises(AssertionError, match="not proper"):
        check_proper_weights(WrongSignOfBeta(WIDE, HMC(0.3, num_steps=3), PATH))


def test_the_suite_rejects_an_unadjusted_kernel_in_the_path():
    """A kernel with a step-size error makes path weights improper when it pretends to be exact."""
    with pytest.raises(AssertionError, match="not proper"):
        check_proper_weights(AnnealedImportance(WIDE, PretendsToBeExact(0.75, friction=2.0), PATH, steps=4))


class ForgottenPathWeight(UnadjustedLangevin):
    """Unadjusted Langevin that keeps its path weight to itself."""

    def step(self, key, state, u):
        state, info = super().step(key, state, u)
        return state, info._replace(log_weight=jnp.zeros(()))


def test_the_suite_rejects_a_forgotten_path_weight():
    """Unadjusted moves are proper through their weight alone."""
    with pytest.raises(AssertionError, match="not proper"):
        check_proper_weights(AnnealedImportance(WIDE, ForgottenPathWeight(0.5), PATH, steps=2))


def test_honest_unadjusted_kernels_are_refused():
    """Langevin says that it is biased, and annealing then refuses it."""
    with pytest.raises(InvalidArgumentError, match="exact"):
        AnnealedImportance(WIDE, Langevin(0.1), PATH)


def test_schedules_must_reach_the_target():
    """A path that stops short weights for another density than the one asked for."""
    for levels in ([0.2, 0.9], [0.5, 0.4, 1.0], [0.0, 1.0], []):
        with pytest.raises(InvalidArgumentError, match="exactly 1"):
            checked_schedule(levels)
