"""Maps between two temperatures: the fitted velocity, the loss, the identities of the work. Exact draws of three particles."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.two_states import bar, exponential_averaging
from heatbath.models.torus_flow import RadialVelocity, TorusFlow
from heatbath.targets import liquids
from heatbath.training.objectives.generalised_work import GeneralisedWork
from heatbath.training.work_rate import fit_path, fit_work_rate, warm_start

LIQUID, BETAS = liquids.few_particles(3), (1.0, 1.5)
VELOCITY = RadialVelocity(3, 3.0, radial=8, time=2)
FLOW = TorusFlow(VELOCITY, LIQUID.counts, LIQUID.length, 4)


@pytest.fixture(scope="module")
def draws():
    """Exact draws at both temperatures."""
    draw = jax.jit(lambda keys, beta: jax.vmap(lambda key: LIQUID.sample(key, beta))(keys))
    return tuple(draw(jax.random.split(jax.random.key(i), 1500), beta) for i, beta in enumerate(BETAS))


@pytest.fixture(scope="module")
def fitted(draws):
    """The flow with its fitted velocity."""
    return warm_start(LIQUID, FLOW, draws, BETAS)


@eqx.filter_jit
def works(function, xs, start, end):
    def one(x):
        y, log_det = function(x)
        return end * LIQUID.energy(y) - start * LIQUID.energy(x) - log_det

    return jax.vmap(one)(xs)


def test_rate_is_the_derivative_of_the_work(draws):
    """U + beta grad U . v - div v, against a step of 1e-5 in beta of the flow itself."""
    rate = fit_work_rate(LIQUID, VELOCITY, draws[0], BETAS[0])
    step = 1e-5
    weights = jnp.zeros(VELOCITY.weights.shape).at[..., 0].set(step * rate.weights)
    flow = eqx.tree_at(lambda f: f.velocity.weights, FLOW, weights)
    phi = np.asarray(works(flow.forward, draws[0], BETAS[0], BETAS[0] + step))
    assert phi.var() / step**2 == pytest.approx(rate.variance, rel=0.15)
    assert rate.variance < 0.9 * rate.variance_of_energy


def test_work_identities(draws, fitted):
    """ln Z ratio by the mean of exp(-Phi) both ways and by BAR, within 4.5 standard errors of quadrature."""
    truth = LIQUID.log_z(BETAS[1]) - LIQUID.log_z(BETAS[0])
    ahead = np.asarray(works(fitted.forward, draws[0], *BETAS))
    back = np.asarray(works(fitted.inverse, draws[1], BETAS[1], BETAS[0]))
    for estimate, sign in ((exponential_averaging(ahead), -1), (exponential_averaging(back), 1)):
        assert abs(sign * estimate.value - truth) < 4.5 * estimate.standard_error
    both = bar(ahead, back)
    assert abs(-both.value - truth) < 4.5 * both.standard_error
    plain = np.asarray(works(FLOW.forward, draws[0], *BETAS))
    assert ahead.var() < 0.85 * plain.var()
    assert ahead.mean() < plain.mean()
    assert ahead.mean() > -truth


def test_loss_is_the_mean_work(draws, fitted):
    """Both terms, their gradients, and what is counted."""
    batch = {"before": draws[0][:200], "after": draws[1][:200]}
    objective = GeneralisedWork(LIQUID, *BETAS, forward=0.5)
    loss, metrics = objective(jax.random.key(0), fitted, batch)
    ahead = works(fitted.forward, batch["before"], *BETAS)
    back = works(fitted.inverse, batch["after"], BETAS[1], BETAS[0])
    assert float(loss) == pytest.approx(float(ahead.mean() + 0.5 * back.mean()), rel=1e-9)
    assert 0.5 < float(metrics["efficiency"]) <= 1
    gradient = eqx.filter_grad(lambda m: objective(jax.random.key(0), m, batch)[0])(FLOW)
    assert np.isfinite(np.asarray(gradient.velocity.weights)).all()
    assert float(jnp.abs(gradient.velocity.weights).max()) > 0
    assert objective.evaluations(10) == 40


def test_impossible_settings_are_refused(draws):
    """Temperatures that are none, and too few draws."""
    with pytest.raises(InvalidArgumentError, match="positive"):
        GeneralisedWork(LIQUID, 0.0, 1.0)
    with pytest.raises(InvalidArgumentError, match="ten draws"):
        fit_work_rate(LIQUID, VELOCITY, draws[0][:5], 1.0)


def test_draws_of_all_temperatures_are_shared(draws):
    """Draws at two temperatures give velocities that take away at least a third of the fluctuation on the other draws."""
    rates = fit_path(LIQUID, VELOCITY, [xs[:1000] for xs in draws], BETAS)
    for xs, beta, rate in zip(draws, BETAS, rates, strict=True):
        weights = jnp.zeros(VELOCITY.weights.shape).at[..., 0].set(1e-5 * rate.weights)
        flow = eqx.tree_at(lambda f: f.velocity.weights, FLOW, weights)
        left = np.asarray(works(flow.forward, xs[1000:], beta, beta + 1e-5)).var() / 1e-10
        assert left < 0.7 * np.asarray(jax.vmap(LIQUID.energy)(xs[1000:])).var()


def test_a_path_needs_draws_everywhere(draws):
    """As many lists as temperatures, none of them short."""
    with pytest.raises(InvalidArgumentError, match="ten draws"):
        fit_path(LIQUID, VELOCITY, [draws[0], draws[1][:5]], BETAS)
