"""A small real sampler: random-walk Metropolis on a tilted double well, in chunks, with an adapted step."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.process import Chunk
from heatbath.random import named_key, step_key
from heatbath.samplers.base import Sampled, Sampler
from heatbath.state import ThermoState


class Carry(NamedTuple):
    x: jax.Array
    scale: jax.Array
    step: jax.Array
    key: jax.Array


class SmallSampler(Sampler):
    draws: int = 40
    warmup: int = 10
    chunk: int = 5
    chains: int = 3

    @property
    def axes(self):
        return {"samples": ("draw", "chain"), "energies": ("draw", "chain")}

    def begin(self, key):
        x = jax.random.normal(named_key(key, "start"), (self.chains,))
        return Carry(x, jnp.asarray(1.0), jnp.asarray(0), key)

    def advance(self, carry):
        warm = int(carry.step) < self.warmup
        carry, (xs, us) = advance(carry, self.chunk, warm)
        phase = "warm-up" if warm else "production"
        arrays = {} if warm else {"samples": np.asarray(xs), "energies": np.asarray(us)}
        return carry, Chunk(
            phase, arrays, {"evaluations": float(self.chunk * self.chains), "energy": float(np.mean(us))}
        )

    def finished(self, carry):
        return int(carry.step) >= self.warmup + self.draws

    def progress(self, carry):
        return int(carry.step) / (self.warmup + self.draws)

    def collect(self, arrays, carry):
        samples, energies = arrays["samples"].T, arrays["energies"].T
        ensemble = Ensemble(samples, np.zeros(energies.shape), ThermoState(1.0), energies, axes=("chain", "draw"))
        return Sampled(ensemble, {"scale": float(carry.scale)})


@eqx.filter_jit
def advance(carry, count, warm):
    def energy(x):
        return (x**2 - 1) ** 2 + 0.3 * x

    def move(carry, _):
        key = step_key(named_key(carry.key, "move"), carry.step)
        proposal = carry.x + carry.scale * jax.random.normal(key, carry.x.shape)
        accept = jax.random.uniform(step_key(key, 1), carry.x.shape) < jnp.exp(energy(carry.x) - energy(proposal))
        x = jnp.where(accept, proposal, carry.x)
        scale = carry.scale * jnp.exp(0.1 * (accept.mean() - 0.4)) if warm else carry.scale
        return Carry(x, scale, carry.step + 1, carry.key), (x, energy(x))

    return jax.lax.scan(move, carry, None, length=count)


@pytest.fixture
def small_sampler():
    return SmallSampler
