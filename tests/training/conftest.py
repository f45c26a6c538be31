"""Small models that train in milliseconds."""

import math

import jax
import jax.numpy as jnp
import pytest

from heatbath.models.base import Distribution
from heatbath.models.gaussian import Normal


class DiagonalNormal(Distribution):
    """A normal whose mean and log scale are trained; ``base`` is frozen and must never move."""

    mean: jax.Array
    log_scale: jax.Array
    base: Normal

    def sample(self, key):
        return self.mean + jnp.exp(self.log_scale) * self.base.sample(key)

    def log_prob(self, x):
        return self.base.log_prob((x - self.mean) / jnp.exp(self.log_scale)) - jnp.sum(self.log_scale)


class TemperedNormal(DiagonalNormal):
    """The same with its width in proportion to sqrt(T): exactly steerable."""

    tau: jax.Array

    def at(self, beta):
        return TemperedNormal(self.mean, self.log_scale, self.base, 1.0 / beta)

    def sample(self, key):
        return self.mean + jnp.sqrt(self.tau) * jnp.exp(self.log_scale) * self.base.sample(key)

    def log_prob(self, x):
        scale = jnp.sqrt(self.tau) * jnp.exp(self.log_scale)
        return self.base.log_prob((x - self.mean) / scale) - jnp.sum(jnp.log(scale))


@pytest.fixture
def normal():
    return lambda dimension=2: DiagonalNormal(jnp.zeros(dimension), jnp.zeros(dimension), Normal(jnp.zeros(dimension)))


@pytest.fixture
def tempered():
    return lambda dimension=2: TemperedNormal(
        jnp.zeros(dimension), jnp.zeros(dimension), Normal(jnp.zeros(dimension)), jnp.ones(())
    )


@pytest.fixture
def entropy():
    """Of a normal with these scales: sum(log s) + d (1 + log 2 pi) / 2."""
    return lambda scales: float(jnp.sum(jnp.log(scales)) + len(scales) * 0.5 * (1 + math.log(2 * math.pi)))
