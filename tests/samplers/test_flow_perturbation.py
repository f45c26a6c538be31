"""Weighted draws of continuous flows, one at a time and as a population over noise and directions.

|z| < 4.5 standard errors has a false-alarm rate of 7e-6; about ten such tests are made, with fixed seeds.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import ConvergenceError, InvalidArgumentError, NonFiniteError
from heatbath.models.bijections import Affine
from heatbath.models.continuous_flow import ContinuousFlow, continuous_flow
from heatbath.models.log_jacobian import ExactJacobian, Hutchinson, MultiStepFlowPerturbation
from heatbath.models.nets.velocity import ResidualVelocity, Velocity
from heatbath.samplers.annealing import linear_schedule
from heatbath.samplers.flow_perturbation import FromContinuousFlow, PathEnergy, PathMove, PathPrior, flow_smc
from heatbath.samplers.importance import importance
from heatbath.samplers.smc import anneal
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell

SIGMAS = 4.5
TARGET = DoubleWell(barrier=2.0, tilt=0.6, dimension=2)
U = ReducedEnergy(TARGET, ThermoState(1.0))


class Stirring(Velocity):
    """A fixed nonlinear field that widens, turns and bends."""

    def __call__(self, x, t):
        return jnp.stack([0.5 * x[0] + jnp.sin(x[1] + t), 0.4 * jnp.tanh(x[0]) - 0.3 * x[1]])


def stirring_flow(steps=6, **options) -> ContinuousFlow:
    flow = continuous_flow(Stirring(), (2,), steps=steps, dtype="float64", tolerance=1e-12, **options)
    return eqx.tree_at(lambda f: f.outer, flow, Affine(jnp.array([-0.2, 0.0]), jnp.array([1.0, 1.4])))


FLOW = stirring_flow()
PROPOSAL = FromContinuousFlow(FLOW, MultiStepFlowPerturbation())


def means(ensemble):
    """log Z and the weight of the right well, as z-scores against quadrature."""
    log_z, right = ensemble.log_z, ensemble.expect(lambda x: (x[0] > 0).astype(float))
    exact = TARGET.mean(lambda x: (x[0] > 0).astype(float), 1.0)
    return (log_z.value - TARGET.log_z(1.0)) / log_z.standard_error, (right.value - exact) / right.standard_error


def test_importance_with_an_unbiased_log_jacobian_is_right_and_says_nothing():
    """Multi-step flow perturbation needs no excuse; log Z and the weight of a mode within their errors."""
    ensemble = importance(jax.random.key(0), PROPOSAL, U, 40_000)
    assert ensemble.bias is None
    assert (np.abs(means(ensemble)) < SIGMAS).all()


def test_hutchinson_says_that_its_weights_are_biased():
    """The sentence must reach the ensemble and every estimate made from it."""
    ensemble = importance(jax.random.key(0), FromContinuousFlow(FLOW, Hutchinson()), U, 500)
    assert "Hutchinson" in ensemble.bias
    assert any("Hutchinson" in note for note in ensemble.expect(lambda x: x[0]).notes)
    annealed = flow_smc(jax.random.key(0), FromContinuousFlow(FLOW, Hutchinson()), U, 100, schedule=[1.0])
    assert "Hutchinson" in annealed.bias


# The population over noise and directions -----------------------------------------------------------------------------

PRIOR = PathPrior(PROPOSAL, U)
SCHEDULE = linear_schedule(3)


class Faulty(PathMove):
    """A move with two faults that can be switched on, in one program: right when ``shrink`` is 1 and ``forget`` 0.

    shrink: factor of the noise at every move; the prior is not invariant.
    forget: share of the full weight in place of the level's in the acceptance.
    """

    shrink: jax.Array | float = 1.0
    forget: jax.Array | float = 0.0

    def proposed(self, key, old):
        new = super().proposed(key, old)
        return self.prior.proposal.path(self.shrink * new.noise, new.seeds, self.prior.u)

    def log_relative_density(self, state):
        full = state.position.log_weight
        return (1 - self.forget) * super().log_relative_density(state) + self.forget * full


@jax.jit
def _populations(keys, shrink, forget):
    kernel = Faulty(0.6, PRIOR, 0.5, shrink, forget)

    def one(key):
        population, infos = anneal(
            key, PRIOR, PathEnergy(PRIOR), kernel, SCHEDULE, particles=40, steps=3, resample_below=0.9
        )
        weights = jnp.exp(population.log_weights)
        return weights.mean(), (weights * (population.positions.x[:, 0] > 0)).mean(), infos.moves.acceptance.mean()

    return jax.lax.map(one, keys, batch_size=20)


def scores(shrink=1.0, forget=0.0, runs=300):
    """Z-hat and the integral over the right well, over independent populations, in standard errors; and the acceptance."""
    keys = jax.random.split(jax.random.key(3), runs)
    z, right, acceptance = (np.asarray(part) for part in _populations(keys, jnp.asarray(shrink), jnp.asarray(forget)))
    exact = np.exp(TARGET.log_z(1.0))
    truths = exact, exact * TARGET.mean(lambda x: (x[0] > 0).astype(float), 1.0)
    found = [(v.mean() - t) / (v.std(ddof=1) / np.sqrt(v.size)) for v, t in zip((z, right), truths, strict=True)]
    return np.array(found), acceptance.mean()


def test_annealed_population_has_an_unbiased_partition_function():
    """E[Z-hat] = Z and the mode's part of it, over 300 independent populations of 40."""
    found, acceptance = scores()
    assert 0.1 < acceptance < 0.95
    assert (np.abs(found) < SIGMAS).all()


@pytest.mark.parametrize("wrong", [{"forget": 1.0}, {"shrink": 0.8}], ids=["forgotten-level", "not-reversible"])
def test_wrong_moves_are_noticed(wrong):
    """Negative controls: the wrong level in the acceptance, and a move that is not reversible for the prior."""
    assert np.abs(scores(**wrong)[0]).max() > SIGMAS


def test_flow_smc_reaches_the_target_and_keeps_what_an_ensemble_needs():
    """Adaptive levels end at 1; x, energies, families and log Z are there; the adaptive schedule is declared."""
    ensemble = flow_smc(jax.random.key(1), PROPOSAL, U, 2000, steps=2, share=0.8)
    assert ensemble.samples.shape == (2000, 2)
    np.testing.assert_allclose(ensemble.energies[:5], jax.vmap(TARGET.energy)(ensemble.samples[:5]))
    assert ensemble.absolute
    assert "1/particles" in ensemble.bias
    assert (np.abs(means(ensemble)) < SIGMAS).all()


def test_refused():
    """Impossible moves, and a flow that cannot be inverted: its weights are not numbers rather than wrong."""
    for options in ({"step_size": 0.0}, {"step_size": 1.5}, {"refresh": 0.0}):
        with pytest.raises(InvalidArgumentError, match="at most 1"):
            flow_smc(jax.random.key(0), PROPOSAL, U, 10, **options)

    class Steep(Velocity):
        def __call__(self, x, t):
            return 60 * jnp.sin(5 * x)

    steep = continuous_flow(Steep(), (2,), steps=4, integrator="euler", dtype="float64")
    proposal = FromContinuousFlow(steep, ExactJacobian())
    with pytest.raises(ConvergenceError, match="inverted"):
        flow_smc(jax.random.key(0), proposal, U, 10)
    with pytest.raises(NonFiniteError):
        importance(jax.random.key(0), proposal, U, 50).weights()


# A trained flow -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_dimensional_mixture_with_a_trained_flow():
    """The published benchmark in ten dimensions: the flow is trained on equal numbers of both modes, so that the true weight 0.25
    of the left one comes from the log-weights alone. Exact, single-shot and multi-step must give it; Hutchinson's bias must show.
    """
    from heatbath.models.interpolants import Diffusion
    from heatbath.models.log_jacobian import FlowPerturbation
    from heatbath.targets.mixtures import unequal_mixture
    from heatbath.training.fit import fit
    from heatbath.training.objectives.flow_matching import FlowMatching
    from heatbath.training.optimiser import AdamW
    from heatbath.training.schedules import Cosine

    mixture = unequal_mixture(10)
    u = ReducedEnergy(mixture, ThermoState(1.0))
    modes = jnp.arange(20_000) % 2
    noise = jax.random.normal(jax.random.key(0), (20_000, 10))
    data = mixture.means[modes] + jnp.einsum("nij,nj->ni", mixture.cholesky[modes], noise)
    net = ResidualVelocity.create(jax.random.key(1), 10, width=128, depth=2)
    flow = continuous_flow(net, (10,), data=data, steps=20, integrator="heun", interpolant=Diffusion())
    optimiser = AdamW(Cosine(2e-3, 3000))
    fitted = fit(
        jax.random.key(2),
        flow,
        FlowMatching(),
        data.astype(jnp.float32),
        steps=3000,
        batch_size=256,
        optimiser=optimiser,
    )
    flow = fitted.model

    def ensemble(log_jacobian, draws):
        return importance(jax.random.key(3), FromContinuousFlow(flow, log_jacobian), u, draws)

    left = lambda x: (x[0] < 0).astype(float)  # noqa: E731
    exact = mixture.left_probability()
    log_z = {}
    for log_jacobian, draws in (
        (ExactJacobian(), 20_000),
        (FlowPerturbation(), 100_000),
        (MultiStepFlowPerturbation(), 40_000),
    ):
        found = ensemble(log_jacobian, draws)
        share = found.expect(left)
        assert abs(share.value - exact) < 3 * share.standard_error + 1e-3, type(log_jacobian).__name__
        log_z[type(log_jacobian).__name__] = found.log_z
    assert abs(log_z["ExactJacobian"].value) < SIGMAS * log_z["ExactJacobian"].standard_error + 1e-3
    assert (
        abs(log_z["MultiStepFlowPerturbation"].value)
        < SIGMAS * log_z["MultiStepFlowPerturbation"].standard_error + 1e-3
    )
    biased = ensemble(Hutchinson(1), 20_000).log_z
    assert biased.value > 5 * biased.standard_error, "the bias of Hutchinson's weights was not detected"
