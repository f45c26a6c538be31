"""Steerable flows: the law p^tau' ~ (p^tau)^(tau / tau'), constant Jacobians, and thermodynamics at untrained temperatures."""

import functools

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, TemperatureError
from heatbath.models.bijections import Affine, Bijection
from heatbath.models.nets.residual import ResidualNetwork
from heatbath.models.steerable_flow import SteerableFlow, ThermalBase, Thermostat
from heatbath.models.torsion_base import TorsionBase
from heatbath.models.volume_preserving import steerable_flow, volume_preserving_layers
from heatbath.samplers.augmented import FromSteerable
from heatbath.samplers.importance import importance
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell, HarmonicOscillators
from heatbath.training.fit import fit
from heatbath.training.objectives import MaximumLikelihood
from heatbath.training.optimiser import AdamW
from heatbath.training.schedules import Cosine
from heatbath.training.trainable import trainable

TEMPERATURES = (0.3, 0.6, 1.0, 1.7, 3.0)


def shaken(model, seed: int = 1, size: float = 0.1):
    """The model with noise on everything that training may change: an untrained net, far from the identity."""
    moving, rest = eqx.partition(model, trainable(model))
    leaves, tree = jax.tree.flatten(moving)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    leaves = [
        leaf + size * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(tree, leaves), rest)


def measured(model, draws: int = 200) -> dict[str, float]:
    """Everything that the law is about, in one compiled program.

    breach:       largest standard deviation over x of log p^tau'(x) - (tau / tau') log p^tau(x), at five temperatures.
    determinant:  standard deviation over z of slogdet of the Jacobian; claim: largest error of the claimed one; volume: its size.
    inverse:      largest error of f(f^-1(x)); carried: of carrying to another temperature and back.
    """

    @jax.jit
    def program(keys):
        z = jax.vmap(model.base.sample)(keys)
        x, log_det = jax.vmap(model.bijection.forward)(z)
        flat = jax.vmap(lambda x: jax.flatten_util.ravel_pytree(x)[0])
        betas = model.thermostat.reference_beta / jnp.asarray(TEMPERATURES)
        others = jax.vmap(lambda x: jax.vmap(lambda beta: model.at(beta).log_prob(x))(betas))(x)
        own = jax.vmap(model.log_prob)(x)
        jacobians = jax.vmap(jax.jacfwd(lambda z: jax.flatten_util.ravel_pytree(model.bijection.forward(z)[0])[0]))(
            z[:40]
        )
        far = jax.vmap(lambda x: model.carried(x, 2.0))(x)
        back = jax.vmap(lambda x: model.at(2.0).carried(x, model.beta))(far)
        again = jax.vmap(lambda x: model.bijection.forward(model.bijection.inverse(x)[0])[0])(x)
        return (
            others - own[:, None] * model.tau / jnp.asarray(TEMPERATURES),
            jacobians,
            log_det,
            *map(flat, (x, again, back)),
        )

    difference, jacobians, log_det, x, again, back = map(
        np.asarray, program(jax.random.split(jax.random.key(2), draws))
    )
    assert all(np.isfinite(array).all() for array in (difference, jacobians, again, back))
    found = np.linalg.slogdet(jacobians)[1]
    return {
        "breach": difference.std(axis=0).max(),
        "determinant": found.std(),
        "claim": np.abs(found - log_det[:40]).max(),
        "volume": np.abs(found).mean(),
        "inverse": np.abs(again - x).max(),
        "carried": np.abs(back - x).max(),
    }


def breach(model) -> float:
    """By how much a model breaks the law of steerability."""
    x = jax.jit(jax.vmap(model.sample))(jax.random.split(jax.random.key(2), 200))
    log_prob = jax.jit(jax.vmap(lambda x, beta: model.at(beta).log_prob(x), in_axes=(0, None)))
    own = np.asarray(log_prob(x, model.beta))
    betas = [float(model.thermostat.reference_beta) / tau for tau in TEMPERATURES]
    return max(float((np.asarray(log_prob(x, b)) - own * b / float(model.beta)).std()) for b in betas)


def torsions(dtype=jnp.float64) -> SteerableFlow:
    """Reals and angles on the base with tables, whose energies and entropies differ from cell to cell."""
    base = TorsionBase.create(Thermostat(0.4), 4, breathing=2, singles=1, pairs=1, orders=2, pair_orders=2, dtype=dtype)
    base = eqx.tree_at(
        lambda b: (b.single, b.pair),
        base,
        (
            jax.random.normal(jax.random.key(7), base.single.shape, dtype),
            0.3 * jax.random.normal(jax.random.key(8), base.pair.shape, dtype),
        ),
    )
    layers = volume_preserving_layers(jax.random.key(0), 4, 3, layers=2, width=16, gain=0.5, dtype=dtype)
    return shaken(SteerableFlow(base=base, bijection=layers))


def untrained(dtype=jnp.float64, **options) -> SteerableFlow:
    options = {"auxiliaries": 3, "layers": 4, "width": 16, **options}
    return shaken(steerable_flow(jax.random.key(0), 3, gain=0.5, dtype=dtype, **options))


MODELS = {
    "affine": untrained,
    "additive": functools.partial(untrained, scaled=False),
    "without momenta": functools.partial(untrained, auxiliaries=0),
    "torsions": torsions,
}


@pytest.mark.parametrize("name", MODELS)
def test_steerability(name):
    """The law at five temperatures, for untrained nets, and what it rests on: a constant determinant and a right inverse.

    Without the law, nothing learned at one temperature says anything of another. A log scale whose mean was not taken away
    would change volumes from place to place; a wrong inverse would give wrong densities to right draws.
    """
    found = measured(MODELS[name]())
    assert found["breach"] < 1e-10
    assert found["determinant"] < 1e-10
    assert found["claim"] < 1e-9
    assert found["volume"] > 1e-3, "the learned exchange of volume did nothing, so the check is weaker than it looks"
    assert found["inverse"] < 1e-10
    assert found["carried"] < 1e-9


def test_steerability_in_single_precision():
    """float32 networks must not break the law by more than rounding."""
    assert breach(untrained(jnp.float32)) < 1e-4


# Negative controls ----------------------------------------------------------------------------------------------------


class RealNVP(Bijection):
    """An affine coupling of two coordinates whose log scales do not sum to zero."""

    net: ResidualNetwork

    def forward(self, z):
        scale, shift = self.net(z[:1]).astype(z.dtype)
        return jnp.stack([z[0], z[1] * jnp.exp(scale) + shift]), scale

    def inverse(self, x):
        scale, shift = self.net(x[:1]).astype(x.dtype)
        return jnp.stack([x[0], (x[1] - shift) * jnp.exp(-scale)]), -scale


def test_other_flows_break_the_law():
    """Scaling the prior of an ordinary flow is no steering: an affine RealNVP must fail the check."""
    net = ResidualNetwork.create(jax.random.key(5), 1, 2, width=8, depth=1, gain=1.0, dtype=jnp.float64)
    base = ThermalBase(thermostat=Thermostat(1.0), linear=2)
    model = SteerableFlow(base=base, bijection=RealNVP(net), broken="its determinant varies")
    assert breach(model) > 0.01
    assert not model.exact
    assert model.bias == "its determinant varies"


def test_a_constant_scale_is_steerable():
    """Positive control of the negative ones: the same construction with a constant Jacobian passes."""
    base = ThermalBase(thermostat=Thermostat(1.0), linear=2)
    assert breach(SteerableFlow(base=base, bijection=Affine(jnp.ones(2), jnp.array([0.3, 2.0])))) < 1e-10


# The base with torsions -----------------------------------------------------------------------------------------------


def test_torsion_base_is_normalised_and_draws_what_it_says():
    """The sum over cells must be the integral at every temperature, with the volume that the reals gain or lose."""
    base = TorsionBase.create(
        Thermostat(0.4), 2, breathing=1, singles=1, pairs=1, orders=2, pair_orders=1, dtype=jnp.float64
    )
    noise = (
        0.4 * jax.random.normal(jax.random.key(seed), array.shape)
        for seed, array in enumerate((base.single, base.pair))
    )
    base = eqx.tree_at(lambda b: (b.single, b.pair), base, tuple(noise))

    def features(v):
        return jnp.concatenate([v[:2] ** 2, jnp.cos(v[2:]), jnp.sin(v[2:]), jnp.cos(v[3:4] - v[4:5])])

    @jax.jit
    def program(keys, beta):
        model = base.at(beta)
        width = 2 * jnp.sqrt(model.tau)

        def one(key):
            reals, angles = jax.random.split(key)
            z = jax.random.normal(reals, (2,))
            v = jnp.concatenate([width * z, jax.random.uniform(angles, (3,), minval=-jnp.pi, maxval=jnp.pi)])
            log_q = -0.5 * jnp.sum(z**2) - jnp.log(2 * jnp.pi * width**2) - 3 * jnp.log(2 * jnp.pi)
            return features(v), jnp.exp(model.log_prob(v) - log_q), features(model.sample(key))

        return jax.vmap(one)(keys)

    for tau in (0.5, 1.0, 2.0):
        # A wide normal and uniform angles as importance proposal: the mean of p / q is 1. 30 z-tests: false alarms 2e-4.
        proposed, weights, drawn = map(np.asarray, program(jax.random.split(jax.random.key(4), 40_000), 0.4 / tau))
        error = weights.std() / 200
        assert error < 0.05
        assert abs(weights.mean() - 1) < 4.5 * error
        mean = (weights[:, None] * proposed).mean(axis=0)
        variance = (weights[:, None] * (proposed - mean)).var(axis=0) + drawn.var(axis=0)
        assert (np.abs(drawn.mean(axis=0) - mean) < 4.5 * np.sqrt(variance) / 200).all()


def test_torsion_base_starts_from_a_histogram():
    """The energies of a base fitted to draws must be those of the draws: training starts from there."""
    draws = np.random.default_rng(0).vonmises(0.7, 3.0, (50_000, 1))
    base = TorsionBase.create(Thermostat(1.0), 1, breathing=1, singles=1, dtype=jnp.float64).fitted(draws)
    grid = np.linspace(-0.5, 1.9, 25)
    v = jnp.stack([jnp.zeros(25), jnp.asarray(grid)], axis=1)
    found = np.asarray(jax.vmap(base.log_prob)(v)) + 0.5 * np.log(2 * np.pi)
    exact = 3.0 * np.cos(grid - 0.7) - np.log(2 * np.pi * np.i0(3.0))
    np.testing.assert_allclose(found, exact, atol=0.12)


# Thermodynamics -------------------------------------------------------------------------------------------------------


@functools.cache
def trained(name: str):
    """A flow trained by maximum likelihood on draws at T_0 = 1 of a target with exact draws."""
    target = TARGETS[name]
    data = jax.jit(jax.vmap(lambda key: target.sample(key, 1.0)))(jax.random.split(jax.random.key(0), 20_000))
    dimension = data.shape[1]
    model = steerable_flow(jax.random.key(1), dimension, data=data, layers=6, width=48, depth=1)
    fitted = fit(
        jax.random.key(2),
        model,
        MaximumLikelihood(),
        data,
        steps=1500,
        batch_size=256,
        optimiser=AdamW(Cosine(3e-3, 1500)),
        ema=0.99,
        augment=model.augment,
        steps_per_chunk=500,
    )
    return fitted.model


TARGETS = {
    "harmonic": HarmonicOscillators((1.0, 4.0)),
    "anharmonic": DoubleWell(barrier=0.5, tilt=0.3, dimension=1),
    "double well": DoubleWell(barrier=2.0, tilt=0.4, dimension=2),
}


@functools.cache
def _drawer(name: str, draws: int):
    model, target = trained(name), TARGETS[name]
    return lambda beta: importance(
        jax.random.key(5), FromSteerable(model), ReducedEnergy(target, ThermoState(beta)), draws, chunk=draws
    )


@pytest.mark.parametrize("name", ["harmonic", "anharmonic"])
def test_thermodynamics_at_untrained_temperatures(name):
    """F, <U> and the heat capacity from a flow that saw one temperature, reweighted: within 1 % for T / T_0 in [0.4, 2]."""
    target = TARGETS[name]
    for temperature in (0.4, 0.7, 1.0, 1.4, 2.0):
        beta = 1 / temperature
        ensemble = _drawer(name, 400_000)(beta)
        energies = np.asarray(ensemble.energies)
        mean = ensemble.expect(energies).value
        capacity = beta**2 * (ensemble.expect(energies**2).value - mean**2)
        exact_mean = target.mean(target.energy, beta)
        exact_square = target.mean(lambda x: target.energy(x) ** 2, beta)
        # F is near zero at some temperature, so that its error is measured in units of T.
        assert abs(ensemble.log_z.value - target.log_z(beta)) < 0.01
        assert abs(mean / exact_mean - 1) < 0.01
        assert abs(capacity / (beta**2 * (exact_square - exact_mean**2)) - 1) < 0.01


def test_two_wells_at_untrained_temperatures():
    """Free energy between the wells within 0.02 kT of quadrature at five temperatures, and draws that count for something."""
    target = TARGETS["double well"]
    for temperature in (0.5, 0.75, 1.0, 1.5, 2.0):
        beta = 1 / temperature
        ensemble = _drawer("double well", 100_000)(beta)
        left = ensemble.expect(lambda x: x[0] < 0)
        exact = target.mean(lambda x: x[0] < 0, beta)
        assert abs(np.log(left.value / (1 - left.value)) - np.log(exact / (1 - exact))) < 0.02
        assert abs(ensemble.log_z.value - target.log_z(beta)) < 0.02
        share = ensemble.ess() / ensemble.size
        assert share > (0.5 if temperature == 1.0 else 0.1), f"ESS {share:.2f} at T = {temperature}"


def test_the_law_holds_after_training():
    """Training must not move what keeps the law."""
    assert breach(trained("double well")) < 1e-4


def test_forgotten_momenta_are_noticed():
    """Negative control: weights without the density of the momenta have the wrong log Z."""
    model, target = trained("double well"), TARGETS["double well"]
    u = ReducedEnergy(target, ThermoState(2.0))

    def forgetful(key):
        value, log_prob = model.at(2.0).sample_and_log_prob(key)
        return -u(value["x"]) - log_prob

    weights = np.asarray(jax.jit(jax.vmap(forgetful))(jax.random.split(jax.random.key(5), 20_000)))
    assert abs(np.log(np.mean(np.exp(weights - weights.max()))) + weights.max() - target.log_z(2.0)) > 0.1


def test_impossible_models_are_refused():
    """A negative temperature or a flow of one coordinate would give NaN much later."""
    with pytest.raises(TemperatureError, match="beta"):
        untrained().at(-1.0)
    with pytest.raises(InvalidArgumentError, match="two coordinates"):
        volume_preserving_layers(jax.random.key(0), 1)
    with pytest.raises(InvalidArgumentError, match="breathing"):
        TorsionBase.create(Thermostat(1.0), 2, breathing=3)
    with pytest.raises(InvalidArgumentError, match="whitened"):
        steerable_flow(jax.random.key(0), 2, data=np.ones((10, 2)))
