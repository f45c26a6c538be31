"""Flow matching and v-prediction: their minimum is the field of the data, and training finds a flow that draws them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.models.continuous_flow import continuous_flow
from heatbath.models.interpolants import Diffusion, Straight
from heatbath.models.log_jacobian import ExactJacobian
from heatbath.models.nets.velocity import ResidualVelocity, Velocity
from heatbath.samplers.flow_perturbation import FromContinuousFlow
from heatbath.samplers.importance import importance
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.mixtures import unequal_mixture
from heatbath.training import AdamW, Cosine, fit
from heatbath.training.objectives.flow_matching import FlowMatching, regression_error

WIDTH = 0.4


class NormalField(Velocity):
    """The exact prediction for data from N(0, WIDTH^2), times ``factor``."""

    interpolant: Straight | Diffusion
    factor: jax.Array

    def __call__(self, x, t):
        signal, noise = (t, 1 - t) if isinstance(self.interpolant, Straight) else _angle(t)
        variance = signal**2 * WIDTH**2 + noise**2
        data, start = signal * WIDTH**2 / variance * x, noise / variance * x  # E[y | y_t] and E[z | y_t]
        straight = isinstance(self.interpolant, Straight)
        return self.factor * (data - start if straight else signal * start - noise * data)


def _angle(t):
    return jnp.sin(0.5 * jnp.pi * t), jnp.cos(0.5 * jnp.pi * t)


def flow_of(interpolant, factor=1.0, steps=100):
    field = NormalField(interpolant, jnp.asarray(factor))
    return continuous_flow(field, (3,), steps=steps, interpolant=interpolant, dtype="float64", tolerance=1e-9)


@pytest.mark.parametrize("interpolant", [Straight(), Diffusion()], ids=["flow-matching", "v-prediction"])
def test_the_minimum_is_the_field_of_the_data(interpolant):
    """The exact prediction beats larger and smaller ones, and its flow draws data of the right width."""
    data = WIDTH * jax.random.normal(jax.random.key(0), (20_000, 3))
    losses = [float(FlowMatching()(jax.random.key(1), flow_of(interpolant, f), data)[0]) for f in (0.9, 1.0, 1.1)]
    assert losses[1] < min(losses[0], losses[2])
    x = jax.vmap(flow_of(interpolant).sample)(jax.random.split(jax.random.key(2), 1000))
    # 4.5 standard errors of a width from 3000 numbers are 6 %
    assert abs(np.asarray(x).std() / WIDTH - 1) < 0.06


def test_the_loss_is_the_mean_of_regression_errors_over_all_times():
    """Stratified times keep the mean: against plain uniform times, within the errors of both."""
    flow = flow_of(Straight(), 0.5)
    data = WIDTH * jax.random.normal(jax.random.key(0), (500, 3))
    stratified = jax.vmap(lambda k: FlowMatching()(k, flow, data)[0])(jax.random.split(jax.random.key(1), 40))
    keys, times = jax.random.split(jax.random.key(2), 20_000), jax.random.uniform(jax.random.key(3), (20_000,))
    plain = jax.vmap(lambda k, t, x: regression_error(k, flow, t, x))(keys, times, jnp.tile(data, (40, 1)))
    error = np.hypot(stratified.std(ddof=1) / np.sqrt(40), plain.std() / np.sqrt(20_000))
    assert abs(stratified.mean() - plain.mean()) < 4.5 * error


def test_training_finds_a_flow_whose_weights_are_even():
    """From a net at zero to a flow of two unequal normals: exact importance weights must become worth using."""
    mixture = unequal_mixture(2)
    u = ReducedEnergy(mixture, ThermoState(1.0))
    data = np.asarray(jax.vmap(lambda k: mixture.sample(k, 1.0))(jax.random.split(jax.random.key(0), 4000)), np.float32)
    net = ResidualVelocity.create(jax.random.key(1), 2, width=64, depth=2, features=16)
    flow = continuous_flow(net, (2,), data=data, steps=20, interpolant=Diffusion())

    def efficiency(flow):
        ensemble = importance(jax.random.key(3), FromContinuousFlow(flow, ExactJacobian()), u, 1000)
        return ensemble.ess() / ensemble.size

    options = {"steps": 500, "batch_size": 256, "optimiser": AdamW(Cosine(5e-3, 500)), "ema": 0.99}
    after = efficiency(fit(jax.random.key(2), flow, FlowMatching(), data, **options).model)
    assert after > 0.8
    assert efficiency(flow) < 0.5 * after
