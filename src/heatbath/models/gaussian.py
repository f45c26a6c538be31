"""Closed-form distributions: normals, uniforms on boxes and tori, and mixtures. Where draws start before anything is learned."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution

_LOG_TWO_PI = math.log(2 * math.pi)


class Normal(Distribution):
    """Independent normals: log p = -sum((x - mean)^2 / (2 scale^2) + log scale + log(2 pi)/2).

    ``mean`` has the shape of a configuration, ``scale`` is a number or an array that broadcasts against it.
    """

    frozen: ClassVar[bool] = True

    mean: Float[Array, "*event"]
    scale: Float[Array, "*event"]

    def __init__(self, mean, scale=1.0):
        mean, scale = jnp.asarray(mean, dtype=float), jnp.asarray(scale, dtype=float)
        if not isinstance(scale, jax.core.Tracer) and not (np.asarray(scale) > 0).all():
            raise InvalidArgumentError("every scale of a Normal must be positive")
        self.mean, self.scale = mean, jnp.broadcast_to(scale, mean.shape)

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*event"]:
        return self.mean + self.scale * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, x: Float[Array, "*event"]) -> Scalar:
        scaled = (x - self.mean.astype(x.dtype)) / self.scale.astype(x.dtype)
        return -jnp.sum(0.5 * scaled**2 + jnp.log(self.scale).astype(x.dtype) + 0.5 * _LOG_TWO_PI)


class CorrelatedNormal(Distribution):
    """Normal with mean (d,) and covariance C = L L^T, given by its lower Cholesky factor L (d, d).

    log p = -|L^-1 (x - mean)|^2 / 2 - sum(log diag L) - d log(2 pi)/2.
    """

    frozen: ClassVar[bool] = True

    mean: Float[Array, " d"]
    cholesky: Float[Array, "d d"]

    @staticmethod
    def from_covariance(mean, covariance) -> "CorrelatedNormal":
        """From the covariance matrix. Raises ``InvalidArgumentError`` when it is not positive definite."""
        try:
            factor = np.linalg.cholesky(np.asarray(covariance, dtype=np.float64))
        except np.linalg.LinAlgError as error:
            raise InvalidArgumentError(f"the covariance must be positive definite: {error}") from error
        return CorrelatedNormal(jnp.asarray(mean, dtype=float), jnp.asarray(factor, dtype=float))

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        return self.mean + self.cholesky @ jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, x: Float[Array, " d"]) -> Scalar:
        factor = self.cholesky.astype(x.dtype)
        scaled = jax.scipy.linalg.solve_triangular(factor, x - self.mean.astype(x.dtype), lower=True)
        return -0.5 * jnp.sum(scaled**2) - jnp.sum(jnp.log(jnp.diag(factor))) - 0.5 * x.size * _LOG_TWO_PI


class Uniform(Distribution):
    """Uniform on the box [low, high): log p = -sum(log(high - low)) inside, -inf outside."""

    frozen: ClassVar[bool] = True

    low: Float[Array, "*event"]
    high: Float[Array, "*event"]

    def __init__(self, low, high):
        self.low, self.high = jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float)
        if self.low.shape != self.high.shape:
            raise InvalidArgumentError(
                f"low and high must have one shape; found {self.low.shape} and {self.high.shape}"
            )
        if not isinstance(self.low, jax.core.Tracer) and not (np.asarray(self.high) > np.asarray(self.low)).all():
            raise InvalidArgumentError("every high of a Uniform must be above its low")

    @staticmethod
    def on_torus(*shape: int) -> "Uniform":
        """Uniform angles in [-pi, pi)."""
        return Uniform(jnp.full(shape, -jnp.pi), jnp.full(shape, jnp.pi))

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*event"]:
        return self.low + (self.high - self.low) * jax.random.uniform(key, self.low.shape, self.low.dtype)

    def log_prob(self, x: Float[Array, "*event"]) -> Scalar:
        inside = jnp.all((x >= self.low.astype(x.dtype)) & (x < self.high.astype(x.dtype)))
        return jnp.where(inside, -jnp.sum(jnp.log(self.high - self.low)), -jnp.inf).astype(x.dtype)


class Mixture(Distribution):
    """sum_k w_k p_k(x). ``components`` is one distribution whose arrays have a leading axis k (see ``stacked``).

    ``log_weights`` (k,) need not be normalised.
    """

    log_weights: Float[Array, " k"]
    components: Distribution

    @staticmethod
    def stacked(weights, components) -> "Mixture":
        """The mixture of a list of distributions of one kind. Raises ``InvalidArgumentError`` for unfit weights."""
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (len(components),) or not (weights > 0).all():
            raise InvalidArgumentError(
                f"expected {len(components)} positive weights, one per component; found {weights.tolist()}"
            )
        leaves = jax.tree.map(lambda *parts: jnp.stack(parts), *components)
        return Mixture(jnp.log(jnp.asarray(weights, dtype=float)), leaves)

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*event"]:
        key_choice, key_draw = jax.random.split(key)
        choice = jax.random.categorical(key_choice, self.log_weights)
        return jax.tree.map(lambda leaf: leaf[choice], self.components).sample(key_draw)

    def log_prob(self, x: Float[Array, "*event"]) -> Scalar:
        parts = eqx.filter_vmap(lambda component: component.log_prob(x))(self.components)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.log_weights).astype(x.dtype) + parts)
