"""One-dimensional laws whose parameters a network gives: a coin, or a mixture of normals or of Laplace laws."""

import abc
import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError


class Head(eqx.Module):
    """The law of one coordinate given ``parameters`` (``outputs``,), the raw outputs of a network."""

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """How many numbers a network has to give for one coordinate."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """Type of a draw."""

    @abc.abstractmethod
    def log_prob(self, parameters: Float[Array, " output"], value: Scalar) -> Scalar:
        """log p(value | parameters)."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], parameters: Float[Array, " output"]) -> Scalar:
        """One draw."""


class Coin(Head):
    """p(1) = 1/(1 + exp(-logit)), p(0) = 1 - p(1); draws are integers."""

    @property
    def outputs(self) -> int:
        return 1

    @property
    def dtype(self):
        return jnp.int32

    def log_prob(self, parameters, value):
        sign = 2 * value.astype(parameters.dtype) - 1
        return jax.nn.log_sigmoid(sign * parameters[0])

    def sample(self, key, parameters):
        uniform = jax.random.uniform(key, dtype=parameters.dtype)
        return (uniform < jax.nn.sigmoid(parameters[0])).astype(jnp.int32)


class MixtureHead(Head):
    """sum_k softmax(a)_k f((x - m_k)/s_k)/s_k with the parameters (a, m, log s), each (components,).

    f is the density of N(0, 1) or exp(-|z|)/2. With ``damped_means`` the gradient of m_k is multiplied by s_k (the value is
    unchanged), which keeps steps small beside narrow components. It is then no longer the gradient of a function.
    Source: arXiv 1306.0186, section 2; 1605.02226, section 3.1.
    """

    components: int = eqx.field(static=True)
    kind: Literal["normal", "laplace"] = eqx.field(static=True, default="normal")
    damped_means: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if self.components < 1 or self.kind not in ("normal", "laplace"):
            raise InvalidArgumentError(
                f"a mixture has at least one component, of kind 'normal' or 'laplace'; found {self.components}, {self.kind!r}"
            )

    @property
    def outputs(self) -> int:
        return 3 * self.components

    @property
    def dtype(self):
        return jnp.result_type(float)

    def log_prob(self, parameters, value):
        logits, means, log_scales = jnp.split(parameters, 3)
        if self.damped_means:
            scales = jnp.exp(jax.lax.stop_gradient(log_scales))
            fixed = jax.lax.stop_gradient(means)
            means = fixed + scales * (means - fixed)
        z = (value.astype(parameters.dtype) - means) * jnp.exp(-log_scales)
        normal = self.kind == "normal"
        log_density = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) if normal else -jnp.abs(z) - math.log(2)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits) + log_density - log_scales)

    def sample(self, key, parameters):
        logits, means, log_scales = jnp.split(parameters, 3)
        key_choice, key_place = jax.random.split(key)
        choice = jax.random.categorical(key_choice, logits)
        draw = jax.random.normal if self.kind == "normal" else jax.random.laplace
        z = draw(key_place, dtype=parameters.dtype)
        return (means[choice] + jnp.exp(log_scales[choice]) * z).astype(self.dtype)
