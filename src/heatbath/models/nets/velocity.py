"""Velocity nets v(x, t): the contract, and a residual perceptron for vectors.

Nets compute in the type of their weights (float32 unless said otherwise) and return the shape of x.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from heatbath.models.nets.residual import Dense, ResidualNetwork


class Velocity(eqx.Module):
    """A field ``velocity(x, t)`` for one configuration x and a time t in [0, 1]; the output has the shape of x."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*shape"], t: Scalar) -> Float[Array, "*shape"]: ...


def time_features(t: Scalar, count: int) -> Float[Array, " count"]:
    """cos(pi j t) for j = 0 ... count/2 - 1 and sin(pi (j + 1/2) t): smooth functions on [0, 1] that need no period."""
    j = jnp.arange(count // 2, dtype=t.dtype)
    return jnp.concatenate([jnp.cos(math.pi * j * t), jnp.sin(math.pi * (j + 0.5) * t)])


class ResidualVelocity(Velocity):
    """v(x, t) = a(t) * x + network(x, time features): a residual perceptron with a linear skip that depends on time.

    The skip a(t), one number per coordinate and linear in the time features, carries the part that any flow from a normal
    law has. Both begin at zero.
    """

    network: ResidualNetwork
    skip: Dense
    features: int = eqx.field(static=True)

    @staticmethod
    def create(
        key: Key[Array, ""], dimension: int, *, width: int, depth: int, features: int = 32, dtype=jnp.float32
    ) -> "ResidualVelocity":
        """``depth`` residual layers of ``width``; raises ``InvalidArgumentError`` for sizes that are not positive."""
        key_network, key_skip = jax.random.split(key)
        network = ResidualNetwork.create(
            key_network, dimension + features, dimension, width=width, depth=depth, dtype=dtype
        )
        return ResidualVelocity(network, Dense.create(key_skip, features, dimension, gain=0.0, dtype=dtype), features)

    def __call__(self, x: Float[Array, "*shape"], t: Scalar) -> Float[Array, "*shape"]:
        flat = x.reshape(-1).astype(self.skip.weight.dtype)
        phi = time_features(jnp.asarray(t, flat.dtype), self.features)
        return (self.skip(phi) * flat + self.network(jnp.concatenate([flat, phi]))).reshape(x.shape)
