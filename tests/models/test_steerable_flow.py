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
from heatbath.models.volume_preserving import Whitening, steerable_flow, volume_preserving_layers
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
    noise = np.random.default_rng(seed)
    leaves = [leaf + size * noise.normal(size=leaf.shape).astype(leaf.dtype) for leaf in leaves]
    return eqx.combine(jax.tree.unflatten(tree, leaves), rest)


@eqx.filter_jit
def _program(model, keys, beta):
    z = jax.vmap(model.base.sample)(keys)

    def flat(z):
        x, log_det = model.bijection.forward(z)
        return jax.flatten_util.ravel_pytree(x)[0], (x, log_det)

    jacobians, (x, log_det) = jax.vmap(jax.jacfwd(flat, has_aux=True))(z)
    again = jax.vmap(lambda x: model.bijection.forward(model.bijection.inverse(x)[0])[0])(x)
    return jacobians, log_det, x, again, jax.vmap(lambda x: model.carried(x, beta))(x)


def measured(model, draws: int = 60) -> dict[str, float]:
    """What the law rests on.

    determinant:  standard deviation over z of slogdet of the Jacobian; claim: largest error of the claimed one; volume: its size.
    inverse:      largest error of f(f^-1(x)); carried: of carrying to another temperature and back.
    """
    keys = jax.random.split(jax.random.key(2), draws)
    jacobians, log_det, x, again, far = _program(model, keys, jnp.asarray(2.0))
    back = _carried(model.at(2.0), far, model.beta)
    flat = jax.vmap(lambda x: jax.flatten_util.ravel_pytree(x)[0])
    x, again, back = (np.asarray(flat(value)) for value in (x, again, back))
    assert all(np.isfinite(array).all() for array in (jacobians, again, back))
    found = np.linalg.slogdet(np.asarray(jacobians))[1]
    return {
        "determinant": found.std(),
        "claim": np.abs(found - np.asarray(log_det)).max(),
        "volume": np.abs(found).mean(),
        "inverse": np.abs(again - x).max(),
        "carried": np.abs(back - x).max(),
    }


@eqx.filter_jit
def _carried(model, x, beta):
    return jax.vmap(lambda x: model.carried(x, beta))(x)


@eqx.filter_jit
def _family(model, keys, betas):
    """Draws of the model, and their log densities at each beta and at its own."""
    x = jax.vmap(model.sample)(keys)
    return jax.lax.map(lambda beta: jax.vmap(model.at(beta).log_prob)(x), jnp.append(betas, model.beta))


def breach(model) -> float:
    """Largest standard deviation over x of log p^tau'(x) - (tau / tau') log p^tau(x), at five temperatures."""
    betas = np.asarray(model.thermostat.reference_beta) / np.array(TEMPERATURES)
    *others, own = np.asarray(_family(model, jax.random.split(jax.random.key(2), 200), betas))
    assert np.isfinite(own).all()
    return max(float((log - own * beta / float(model.beta)).std()) for log, beta in zip(others, betas, strict=True))


@functools.cache
def torsions() -> SteerableFlow:
    """Reals and angles on the base with tables, whose energies and entropies differ from cell to cell."""
    base = TorsionBase.create(
        Thermostat(0.4), 4, breathing=2, singles=1, pairs=1, orders=2, pair_orders=2, dtype=jnp.float64
    )
    noise = np.random.default_rng(7)
    tables = tuple(size * noise.normal(size=array.shape) for size, array in ((1.0, base.single), (0.3, base.pair)))
    base = eqx.tree_at(lambda b: (b.single, b.pair), base, jax.tree.map(jnp.asarray, tables))
    layers = volume_preserving_layers(jax.random.key(0), 4, 3, layers=2, width=16, depth=0, gain=0.5, dtype=jnp.float64)
    return shaken(SteerableFlow(base=base, bijection=layers))


@functools.cache
def untrained(**options) -> SteerableFlow:
    options = {"auxiliaries": 3, "layers": 4, "width": 16, "depth": 0, **options}
    return shaken(steerable_flow(jax.random.key(0), 3, gain=0.5, dtype=jnp.float64, **options))


MODELS = {"affine": untrained, "additive": functools.partial(untrained, scaled=False), "torsions": torsions}


#: The fast suite has one of them; the law with torsions is also that of tests/models/test_steerable_molecule.py.
CASES = ["affine", *(pytest.param(name, marks=pytest.mark.slow) for name in ("additive", "torsions"))]


@pytest.mark.parametrize("name", CASES)
def test_steerability(name):
    """The law at five temperatures, for untrained nets: without it, what is learnt at one says nothing of another."""
    assert breach(MODELS[name]()) < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_what_the_law_rests_on(name):
    """A constant determinant and a right inverse.

    A log scale whose mean was not taken away would change volumes from place to place; a wrong inverse would give wrong
    densities to right draws.
    """
    found = measured(MODELS[name]())
    assert found["determinant"] < 1e-10
    assert found["claim"] < 1e-9
    assert found["volume"] > 1e-3, "the learned exchange of volume did nothing, so the check is weaker than it looks"
    assert found["inverse"] < 1e-10
    assert found["carried"] < 1e-9


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
    found = np.asarray(jax.jit(jax.vmap(base.log_prob))(v)) + 0.5 * np.log(2 * np.pi)
    exact = 3.0 * np.cos(grid - 0.7) - np.log(2 * np.pi * np.i0(3.0))
    np.testing.assert_allclose(found, exact, atol=0.12)


# Thermodynamics -------------------------------------------------------------------------------------------------------

TARGETS = {
    "harmonic": HarmonicOscillators((1.0, 4.0)),
    "anharmonic": DoubleWell(barrier=0.5, tilt=0.3, dimension=1),
    "double well": DoubleWell(barrier=2.0, tilt=0.4, dimension=2),
}


@functools.cache
def trained(name: str, steps: int = 1500, layers: int = 6, width: int = 48):
    """A flow trained by maximum likelihood on draws at T_0 = 1 of a target with exact draws."""
    target = TARGETS[name]
    data = jax.jit(jax.vmap(lambda key: target.sample(key, 1.0)))(jax.random.split(jax.random.key(0), 20_000))
    model = steerable_flow(jax.random.key(1), data.shape[1], data=data, layers=layers, width=width, depth=1)
    fitted = fit(
        jax.random.key(2),
        model,
        MaximumLikelihood(),
        data,
        steps=steps,
        batch_size=256,
        optimiser=AdamW(Cosine(3e-3, steps)),
        ema=0.99,
        augment=model.augment,
        steps_per_chunk=min(steps, 500),
    )
    return fitted.model


@functools.cache
def coarse() -> SteerableFlow:
    """An untrained float32 flow that knows the width of the double well alone: weights have to do the rest."""
    data = np.random.default_rng(0).normal(size=(500, 2)) * [1.3, 1.0]
    return shaken(steerable_flow(jax.random.key(1), 2, data=data, layers=2, width=8, depth=0), size=0.05)


def drawn(model, name: str, temperature: float, draws: int):
    """Reweighted draws at another temperature."""
    u = ReducedEnergy(TARGETS[name], ThermoState(jnp.asarray(1 / temperature)))
    return importance(jax.random.key(5), FromSteerable(model), u, draws, chunk=draws)


def wells(model, draws: int, temperature: float) -> tuple[float, float, float]:
    """Errors of the free energy between the wells and of log Z, and the effective share of the draws."""
    target, beta = TARGETS["double well"], 1 / temperature
    ensemble = drawn(model, "double well", temperature, draws)
    left = float(ensemble.expect(np.asarray(ensemble.samples)[:, 0] < 0).value)
    exact = target.mean(lambda x: x[0] < 0, beta)
    difference = np.log(left / (1 - left)) - np.log(exact / (1 - exact))
    return difference, ensemble.log_z.value - target.log_z(beta), ensemble.ess() / ensemble.size


def test_weights_are_proper_at_every_temperature():
    """Populations, log Z and energies of a flow that was made for one temperature: wrong weights would miss them.

    Nine z-tests at 4.5 standard errors: false alarms 6e-5.
    """
    target = TARGETS["double well"]
    for temperature in (0.5, 1.0, 2.0):
        ensemble, beta = drawn(coarse(), "double well", temperature, 20_000), 1 / temperature
        assert ensemble.ess() > 2000
        left = ensemble.expect(np.asarray(ensemble.samples)[:, 0] < 0)
        energy = ensemble.expect(np.asarray(ensemble.energies))
        for found, exact in (
            (left, target.mean(lambda x: x[0] < 0, beta)),
            (energy, target.mean(target.energy, beta)),
            (ensemble.log_z, target.log_z(beta)),
        ):
            assert abs(found.value - exact) < 4.5 * found.standard_error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["harmonic", "anharmonic"])
def test_thermodynamics_at_untrained_temperatures(name):
    """F, <U> and the heat capacity from a flow that saw one temperature, reweighted: within 1 % for T / T_0 in [0.4, 2]."""
    target, model = TARGETS[name], trained(name)
    for temperature in (0.4, 0.7, 1.0, 1.4, 2.0):
        beta = 1 / temperature
        ensemble = drawn(model, name, temperature, 400_000)
        energies = np.asarray(ensemble.energies)
        mean = ensemble.expect(energies).value
        capacity = beta**2 * (ensemble.expect(energies**2).value - mean**2)
        exact_mean = target.mean(target.energy, beta)
        exact_square = target.mean(lambda x: target.energy(x) ** 2, beta)
        # F is near zero at some temperature, so that its error is measured in units of T.
        assert abs(ensemble.log_z.value - target.log_z(beta)) < 0.01
        assert abs(mean / exact_mean - 1) < 0.01
        assert abs(capacity / (beta**2 * (exact_square - exact_mean**2)) - 1) < 0.01


@pytest.mark.slow
def test_two_wells_at_untrained_temperatures(record_property):
    """Free energy between the wells within 0.02 kT of quadrature at five temperatures, and draws that count for something."""
    for temperature in (0.5, 0.75, 1.0, 1.5, 2.0):
        difference, log_z, share = wells(trained("double well"), 100_000, temperature)
        record_property(f"T = {temperature:g}", f"dF error {difference:+.4f} kT, ESS {share:.2f}")
        assert abs(difference) < 0.02
        assert abs(log_z) < 0.02
        assert share > (0.5 if temperature == 1.0 else 0.1), f"ESS {share:.2f} at T = {temperature}"


@pytest.mark.slow
def test_the_law_holds_after_training():
    """Training must not move what keeps the law."""
    assert breach(trained("double well")) < 1e-4


def test_the_law_holds_in_single_precision():
    """float32 networks must not break the law by more than rounding."""
    assert 0 < breach(coarse()) < 1e-4


def test_forgotten_momenta_are_noticed():
    """Negative control: weights without the density of the momenta have the wrong log Z."""
    model, target = coarse(), TARGETS["double well"]
    u = ReducedEnergy(target, ThermoState(2.0))

    def forgetful(key):
        value, log_prob = model.at(2.0).sample_and_log_prob(key)
        return -u(value["x"]) - log_prob

    weights = np.asarray(jax.jit(jax.vmap(forgetful))(jax.random.split(jax.random.key(5), 5_000)))
    assert abs(np.log(np.mean(np.exp(weights - weights.max()))) + weights.max() - target.log_z(2.0)) > 0.1


def test_impossible_models_are_refused():
    """A negative temperature or a flow of one coordinate would give NaN much later."""
    with pytest.raises(TemperatureError, match="beta"):
        Thermostat(1.0).at(-1.0)
    with pytest.raises(InvalidArgumentError, match="two coordinates"):
        volume_preserving_layers(jax.random.key(0), 1)
    with pytest.raises(InvalidArgumentError, match="breathing"):
        TorsionBase.create(Thermostat(1.0), 2, breathing=3)
    with pytest.raises(InvalidArgumentError, match="whitened"):
        Whitening.of(np.ones((10, 2)), 2)
