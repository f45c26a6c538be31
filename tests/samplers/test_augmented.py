"""Augmented targets: the extended density integrates to the original, and projecting draws leaves their weights proper."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.kernels import HMC
from heatbath.models.gaussian import Normal
from heatbath.models.volume_preserving import steerable_flow
from heatbath.samplers import importance
from heatbath.samplers.augmented import AugmentedEnergy, FromSteerable, MomentumTarget, Projected, projected
from heatbath.samplers.proposals import Proposal
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell

TARGET = DoubleWell(barrier=2.0, tilt=0.5)
BETA = 1.7
U = ReducedEnergy(TARGET, ThermoState(BETA))
MOMENTA = Normal(jnp.zeros(2), 0.6)
WIDE = Normal(jnp.zeros(1), 1.2)


class Correlated(Proposal):
    """x from a wide normal, y from a normal around x, weighted for the extended density."""

    def draw(self, key, u):
        first, second = jax.random.split(key)
        x = WIDE.sample(first)
        law = Normal(0.3 * jnp.tile(x, 2), 0.9)
        value = {"x": x, "y": law.sample(second)}
        return value, -u(value) - WIDE.log_prob(x) - law.log_prob(value["y"])


def check(ensemble):
    """Means and log Z equal quadrature within 4.5 standard errors (false alarms 2e-5)."""
    exact = TARGET.mean(lambda x: x[0] > 0, BETA)
    found = ensemble.expect(lambda x: x[0] > 0)
    assert abs(found.value - exact) < 4.5 * found.standard_error
    assert abs(ensemble.log_z.value - TARGET.log_z(BETA)) < 4.5 * ensemble.log_z.standard_error
    assert ensemble.log_z.standard_error < 0.03


def test_extended_energy_is_the_sum():
    """u(x) - log p(y), term by term."""
    value = {"x": jnp.array([0.4]), "y": jnp.array([0.2, -1.0])}
    u = AugmentedEnergy(U, MOMENTA)
    np.testing.assert_allclose(u(value), U(value["x"]) - MOMENTA.log_prob(value["y"]), rtol=1e-12)
    assert float(u.beta) == BETA


def test_forgetting_the_auxiliaries_keeps_weights_proper():
    """Draws for the extended density, seen as draws of x, must give the means and the log Z of x."""
    check(importance(jax.random.key(0), Projected(Correlated(), MOMENTA), U, 40_000))
    extended = importance(jax.random.key(0), Correlated(), AugmentedEnergy(U, MOMENTA), 40_000)
    check(projected(extended))


def test_an_unnormalised_auxiliary_is_noticed():
    """Negative control: weights that leave out the law of y are off."""
    u = eqx.tree_at(lambda u: u.auxiliary, AugmentedEnergy(U, MOMENTA), Normal(jnp.zeros(2), 3.0))
    ensemble = importance(jax.random.key(0), Correlated(), u, 40_000)
    wrong = eqx.tree_at(lambda e: e.log_weights, ensemble, ensemble.log_weights + 2 * np.log(3.0))
    assert abs(wrong.log_z.value - TARGET.log_z(BETA)) > 0.3


def test_steerable_models_propose_at_the_temperature_of_u():
    """One model, two temperatures: its momenta must be those of u.beta, or log Z is off by a constant."""
    model = steerable_flow(
        jax.random.key(1), 1, auxiliaries=2, layers=2, width=8, depth=0, gain=0.3, data=np.array([[-1.2], [1.2]])
    )
    for beta in (0.5, 1.0):
        u = ReducedEnergy(TARGET, ThermoState(jnp.asarray(beta)))
        ensemble = importance(jax.random.key(0), FromSteerable(model), u, 40_000)
        assert abs(ensemble.log_z.value - TARGET.log_z(beta)) < 4.5 * ensemble.log_z.standard_error
        assert ensemble.log_z.standard_error < 0.1


def test_momenta_as_a_target():
    """U + |y|^2 / (2 beta_0) has momenta N(0, beta_0 / beta) at every beta, and moves like any target."""
    target = MomentumTarget(TARGET, 2, 0.8)
    assert target.unit == TARGET.unit
    assert target.space.event_shape == {"x": (1,), "y": (2,)}
    value = target.space.random(jax.random.key(0))
    law = Normal(jnp.zeros(2), jnp.sqrt(0.8 / BETA))
    other = {"x": value["x"], "y": value["y"] + 1.0}
    change = BETA * (target.energy(other) - target.energy(value))
    np.testing.assert_allclose(change, law.log_prob(value["y"]) - law.log_prob(other["y"]), rtol=1e-10)
    kernel, u = HMC(0.1, num_steps=2), ReducedEnergy(target, ThermoState(BETA))
    state, info = jax.jit(lambda x: kernel.step(jax.random.key(1), kernel.init(jax.random.key(0), x, u), u))(value)
    assert info.finite
    assert state.position["y"].shape == (2,)
