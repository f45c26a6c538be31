"""Independence Metropolis: acceptance, momenta, temperatures; and what happens where the model has no density."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels import Compose, FlowProposal, RandomWalk
from heatbath.models.base import Distribution
from heatbath.models.gaussian import Normal
from heatbath.models.volume_preserving import steerable_flow
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell, HarmonicOscillators


@eqx.filter_jit
def _chains(kernel, target, beta, starts, keys, steps):
    u = ReducedEnergy(target, ThermoState(beta))

    def chain(start, key):
        state = kernel.init(key, start, u)
        state, infos = jax.lax.scan(lambda s, k: kernel.step(k, s, u), state, jax.random.split(key, steps))
        return state.position, infos.acceptance.mean()

    return jax.vmap(chain)(starts, keys)


@eqx.filter_jit
def _starts(target, beta, keys):
    return jax.vmap(lambda key: target.sample(key, beta))(keys)


def chains(kernel, target, beta, count=4000, steps=30):
    """End of independent chains from exact draws, and mean acceptance."""
    keys = jax.random.split(jax.random.key(0), 2 * count)
    beta = jnp.asarray(beta)
    positions, acceptance = _chains(kernel, target, beta, _starts(target, beta, keys[:count]), keys[count:], steps)
    return np.asarray(positions), float(acceptance.mean())


@functools.cache
def oscillators():
    """The identity: exp(-|x|^2 / 2) at every temperature, with three momenta."""
    return steerable_flow(jax.random.key(0), 2, auxiliaries=3, layers=1, width=4, depth=0)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_a_perfect_model_is_always_accepted(beta):
    """A steerable model of the harmonic oscillator at any temperature: a forgotten tau or momentum would reject."""
    _, acceptance = chains(FlowProposal(oscillators()), HarmonicOscillators((1.0, 1.0)), beta, count=200, steps=5)
    assert acceptance > 1 - 1e-6


class ForgottenDensity(FlowProposal):
    """Accepts by energies alone, as if proposals were uniform."""

    def step(self, key, state, u):
        flat = FlowProposal(Flat(self.distribution))
        return flat.step(key, state._replace(log_prob=jnp.zeros(())), u)


class Flat(Distribution):
    """Draws of a distribution whose density is said to be 1."""

    inner: Distribution

    def sample(self, key):
        return self.inner.sample(key)

    def log_prob(self, x):
        return jnp.zeros(())


def test_forgetting_the_density_is_noticed():
    """Negative control: an acceptance without q draws from exp(-u) q instead."""
    target, beta = DoubleWell(barrier=2.0, tilt=0.5), 1.0
    model = Normal(jnp.array([0.3]), 0.9)
    exact = target.mean(lambda x: x[0] > 0, beta)
    for kernel, right in ((FlowProposal(model), True), (ForgottenDensity(model), False)):
        positions, acceptance = chains(kernel, target, beta)
        z = ((positions[:, 0] > 0).mean() - exact) / np.sqrt(exact * (1 - exact) / len(positions))
        assert 0.05 < acceptance < 0.95
        assert (abs(z) < 4.5) == right


class Half(Distribution):
    """The positive half of a normal; its density vanishes elsewhere."""

    def sample(self, key):
        return jnp.abs(jax.random.normal(key, (1,)))

    def log_prob(self, x):
        return jnp.where(x[0] >= 0, jnp.log(2.0) - 0.5 * x[0] ** 2 - 0.5 * jnp.log(2 * jnp.pi), -jnp.inf)


@pytest.mark.slow
def test_where_the_model_has_no_density_local_moves_are_needed():
    """q(x) = 0 makes leaving x by this move impossible; with company the law is still right."""
    target = DoubleWell(barrier=0.5, tilt=0.2)
    u = ReducedEnergy(target, ThermoState(1.0))
    alone = FlowProposal(Half())
    state = alone.init(jax.random.key(0), jnp.array([-1.0]), u)
    _, infos = jax.jit(jax.vmap(lambda key: alone.step(key, state, u)))(jax.random.split(jax.random.key(1), 5))
    assert not infos.accepted.any()
    assert (infos.acceptance == 0.0).all()
    positions, _ = chains(Compose((alone, RandomWalk(0.7))), target, 1.0)
    exact = target.mean(lambda x: x[0] > 0, 1.0)
    assert abs((positions[:, 0] > 0).mean() - exact) < 4.5 * np.sqrt(exact * (1 - exact) / len(positions))


def test_a_steerable_model_brings_its_own_momenta():
    """A second law of the momenta could only contradict the first."""
    with pytest.raises(InvalidArgumentError, match="momenta"):
        FlowProposal(oscillators(), Normal(jnp.zeros(2)))
