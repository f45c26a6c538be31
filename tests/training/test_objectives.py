"""Objectives have the minimum that mathematics says: entropies, exact normals, and better weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.models.coupling import coupling_flow
from heatbath.models.gaussian import Mixture, Normal
from heatbath.spaces import Euclidean
from heatbath.state import LogDensity, ReducedEnergy, ThermoState
from heatbath.targets.base import Target
from heatbath.training import AdamW, Constant, Cosine, Fresh, OneCycle, fit
from heatbath.training.objectives import ImportanceWeighted, MaximumLikelihood, ReverseKL
from heatbath.training.objectives.reverse_kl import compressed
from heatbath.training.self_improvement import draw_weighted, self_improve
from heatbath.training.validation import WeightsAndLikelihood, efficiency, forward_efficiency

MEAN = jnp.array([1.0, -2.0])
SCALES = jnp.array([0.5, 2.0])


class Quadratic(Target):
    """U(x) = sum (x - mean)^2 / (2 scales^2): a normal of covariance T scales^2 at every temperature."""

    @property
    def space(self):
        return Euclidean((2,))

    @property
    def unit(self):
        return "1"

    def energy(self, x):
        return 0.5 * jnp.sum(((x - MEAN) / SCALES) ** 2)


class MinusLogProb(LogDensity):
    """u = -log p of a distribution: Z is 1."""

    distribution: Mixture

    def __call__(self, x):
        return -self.distribution.log_prob(x)

    @property
    def beta(self):
        return 1.0


def mixture():
    return Mixture.stacked([0.3, 0.7], [Normal(jnp.array([-1.5, 0.0]), 0.5), Normal(jnp.array([1.0, 1.0]), 0.8)])


# Maximum likelihood ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def trained():
    """A coupling flow that has seen a quarter of a million fresh draws of a mixture of two normals."""
    target = mixture()
    source = Fresh(lambda key, n: jax.vmap(target.sample)(jax.random.split(key, n)))
    flow = coupling_flow(jax.random.key(3), 2, layers=3, width=24, depth=1, bins=8)
    optimiser = AdamW(OneCycle(5e-3, 1000))
    return fit(jax.random.key(4), flow, MaximumLikelihood(), source, steps=1000, batch_size=256, optimiser=optimiser)


def test_likelihood_ends_at_the_entropy(trained):
    """NLL - H = KL(p | q) on 20 000 new draws: between minus its own noise and 0.02. Below zero q would not be normalised."""
    target = mixture()
    x = jax.vmap(target.sample)(jax.random.split(jax.random.key(9), 20_000))
    differences = np.asarray(jax.vmap(target.log_prob)(x) - jax.vmap(trained.model.log_prob)(x))
    error = differences.std() / np.sqrt(differences.size)
    assert -4.5 * error < differences.mean() < 0.02 + 4.5 * error  # false-alarm rate 1e-5
    start = coupling_flow(jax.random.key(3), 2, layers=3, width=24, depth=1, bins=8)
    assert np.mean(jax.vmap(target.log_prob)(x) - jax.vmap(start.log_prob)(x)) > 0.5  # it was not there before


def test_both_efficiencies_of_a_good_model_are_high(trained):
    """The number on the progress line must agree with the one computed here from the definition."""
    target = mixture()
    held_out = jax.vmap(target.sample)(jax.random.split(jax.random.key(10), 2000))
    found = WeightsAndLikelihood(MinusLogProb(target), held_out, draws=4000)(jax.random.key(2), trained.model)
    assert 0.9 < float(found["validation_ess"]) <= 1.0
    assert 0.9 < float(found["validation_forward_ess"]) <= 1.0
    np.testing.assert_allclose(
        found["validation_loss"], -np.mean(jax.vmap(trained.model.log_prob)(held_out)), rtol=1e-9
    )


def test_only_the_forward_efficiency_sees_a_missing_mode():
    """A model of one mode only has perfect weights by its own draws: negative control of trusting them."""
    one_mode, far = Normal(jnp.array([4.0, 1.0]), 0.8), Normal(jnp.array([-4.0, 0.0]), 0.5)
    target = Mixture.stacked([0.3, 0.7], [far, one_mode])
    held_out = jax.vmap(target.sample)(jax.random.split(jax.random.key(10), 2000))
    found = WeightsAndLikelihood(MinusLogProb(target), held_out, draws=2000)(jax.random.key(2), one_mode)
    assert float(found["validation_ess"]) > 0.9
    assert float(found["validation_forward_ess"]) < 0.05


def test_efficiency_by_hand():
    """(sum w)^2 / (n sum w^2); a weight that is not finite is zero, and none at all is an efficiency of zero."""
    w = np.array([1.0, 2.0, 3.0])
    assert float(efficiency(jnp.log(w) + 700.0)) == pytest.approx(36 / (3 * 14))
    assert float(efficiency(jnp.array([0.0, jnp.nan, -jnp.inf, 0.0]))) == pytest.approx(0.5)
    assert float(efficiency(jnp.full(3, -jnp.inf))) == 0.0
    assert float(forward_efficiency(jnp.log(w))) == pytest.approx(1 / (w.mean() * (1 / w).mean()))


# Reverse KL -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("betas", [(1.0,), (2.0,), (0.5, 1.0, 2.0)])
def test_reverse_kl_finds_the_exact_normal(key, normal, tempered, betas):
    """At one temperature the fitted normal has covariance T s^2, at several (steerable) s^2; the loss ends at -log Z."""
    model = tempered() if len(betas) > 1 else normal()
    objective = ReverseKL(Quadratic(), tuple(ThermoState(beta) for beta in betas), draws=128)
    fitted = fit(key, model, objective, steps=800, optimiser=AdamW(Cosine(3e-2, 800)))
    np.testing.assert_allclose(fitted.model.mean, MEAN, atol=0.02)
    expected = jnp.log(SCALES) - (0.5 * np.log(betas[0]) if len(betas) == 1 else 0.0)
    np.testing.assert_allclose(fitted.model.log_scale, expected, atol=0.02)
    log_z = np.mean([np.sum(np.log(SCALES)) + np.log(2 * np.pi / beta) for beta in betas])
    np.testing.assert_allclose(fitted.history["loss"][-1], -log_z, atol=0.01)
    assert fitted.history["efficiency"][-1] > 0.99
    assert fitted.history["evaluations"][0] == 100 * 128 * len(betas)


def test_several_temperatures_need_a_steerable_model(key, normal):
    """A model that ignores the temperature would be trained to a mixture of all of them."""
    objective = ReverseKL(Quadratic(), (ThermoState(1.0), ThermoState(2.0)))
    with pytest.raises(InvalidArgumentError, match="at\\(beta\\)"):
        fit(key, normal(), objective, steps=1)


def test_compression_is_for_large_energies_only():
    """Identity below, logarithm above, continuous with its slope; energies that are not finite have no gradient."""
    u = jnp.array([-5.0, 9.0, 10.0, 10.0 + np.e - 1, jnp.inf, jnp.nan])
    np.testing.assert_allclose(compressed(u, 10.0), [-5.0, 9.0, 10.0, 11.0, 10.0, 10.0])
    slopes = jax.vmap(jax.grad(lambda v: compressed(v, 10.0)))(u[:4])
    np.testing.assert_allclose(slopes[jnp.array([0, 1, 3])], [1.0, 1.0, np.exp(-1)], rtol=1e-9)
    assert (np.asarray(jax.vmap(jax.grad(lambda v: compressed(v, 10.0)))(u[4:])) == 0).all()


# Weighted draws of the model itself -----------------------------------------------------------------------------------
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_importance_weighted_training_finds_the_exact_normal(key, normal, power):
    """Both divergences vanish at the target; a wrong sign or a gradient through the draws would not end there."""
    start = eqx.tree_at(lambda m: m.log_scale, normal(), jnp.full(2, 1.0))
    u = ReducedEnergy(Quadratic(), ThermoState(1.0))
    objective = ImportanceWeighted(u, power=power, draws=1024)
    fitted = fit(key, start, objective, steps=500, optimiser=AdamW(Cosine(2e-2, 500)))
    np.testing.assert_allclose(fitted.model.mean, MEAN, atol=0.05)
    np.testing.assert_allclose(fitted.model.log_scale, jnp.log(SCALES), atol=0.05)
    assert fitted.history["efficiency"][-1] > 0.98 > fitted.history["efficiency"][0] + 0.2


def test_self_improvement_raises_the_efficiency(key, normal):
    """Rounds of resampling and fitting must lift Kish's efficiency; with a strength that forbids change they must not."""
    start = eqx.tree_at(lambda m: (m.mean, m.log_scale), normal(), (MEAN + 0.7, jnp.log(SCALES) + 0.6))
    u = ReducedEnergy(Quadratic(), ThermoState(1.0))
    options = {"rounds": 3, "draws": 4000, "steps": 150, "batch_size": 256, "optimiser": AdamW(Constant(1e-2))}
    improved = self_improve(key, start, u, strength=0.1, **options)
    assert improved.efficiencies.shape == (4,)
    assert improved.efficiencies[-1] > 0.95 > improved.efficiencies[0] + 0.3
    held = self_improve(key, start, u, strength=1e4, **options)
    assert held.efficiencies[-1] < improved.efficiencies[-1] - 0.2


def test_draws_with_weights_are_proper(key, normal):
    """The mean weight is Z = 2 pi s_1 s_2 within 4.5 standard errors (false-alarm rate 7e-6)."""
    model = eqx.tree_at(lambda m: (m.mean, m.log_scale), normal(), (MEAN, jnp.log(SCALES) + 0.3))
    _, log_weights = draw_weighted(key, model, ReducedEnergy(Quadratic(), ThermoState(1.0)), 4000, chunk=512)
    weights = np.exp(np.asarray(log_weights))
    exact = 2 * np.pi * float(jnp.prod(SCALES))
    assert abs(weights.mean() - exact) < 4.5 * weights.std() / np.sqrt(weights.size)


def test_nothing_can_be_learnt_from_no_weights(key, normal):
    """Resampling weights that are all zero would return the first draw over and over."""

    class Nowhere(MinusLogProb):
        def __call__(self, x):
            return jnp.inf + jnp.sum(x)

    with pytest.raises(NonFiniteError, match="finite weight"):
        self_improve(key, normal(), Nowhere(mixture()), rounds=1, draws=10)
