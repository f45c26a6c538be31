"""NADE in one fixed order: binary (NADE) and real-valued with mixtures (RNADE), linear in the number of coordinates."""

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from heatbath.errors import InvalidArgumentError
from heatbath.models.nade.autoregressive import Autoregressive, checked_order
from heatbath.models.nade.heads import Coin, Head, MixtureHead
from heatbath.models.nade.recursion import RecursionWeights, recursion

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


class NADE(Autoregressive):
    """p(x_{o_t} | x before) = head(b_{o_t} + V_{o_t}^T act(rho_{o_t} a_t)), a_0 = c, a_{t+1} = a_t + W_{o_t} x_{o_t}.

    inputs W (d, h), bias c (h,), heads V (d, h, o), head_bias b (d, o); ``scales`` rho (d,) or None for one. With sigmoids and a
    coin this is NADE, with rectifiers, scales and a mixture RNADE. O(H D) per datum, forwards and backwards.
    Source: arXiv 1605.02226, sections 2 and 3.
    """

    inputs: Float[Array, "d h"]
    bias: Float[Array, " h"]
    heads: Float[Array, "d h o"]
    head_bias: Float[Array, "d o"]
    scales: Float[Array, " d"] | None
    order: Int[Array, " d"]
    head: Head
    activation: Literal["sigmoid", "relu"] = eqx.field(static=True)

    def begin(self):
        return self.bias

    def parameters(self, memory, site):
        scaled = memory if self.scales is None else self.scales[site] * memory
        return ACTIVATIONS[self.activation](scaled) @ self.heads[site] + self.head_bias[site]

    def reveal(self, memory, site, value):
        return memory + value.astype(memory.dtype) * self.inputs[site]

    def log_probs(self, xs):
        ordered = xs[:, self.order]
        scales = jnp.ones_like(self.head_bias[:, 0]) if self.scales is None else self.scales
        inputs, scales, heads, head_bias = (
            array[self.order] for array in (self.inputs, scales, self.heads, self.head_bias)
        )
        weights = RecursionWeights(inputs, self.bias, scales, heads, head_bias)
        parameters = recursion(ACTIVATIONS[self.activation], weights, ordered.astype(self.bias.dtype))
        log_probs = jax.vmap(jax.vmap(self.head.log_prob))(jnp.asarray(parameters), ordered)
        return jnp.sum(log_probs.astype(jnp.result_type(float)), axis=1)

    def log_prob(self, x):
        return self.log_probs(x[None])[0]


def nade(
    key: Key[Array, ""], dimension: int, hidden: int = 500, *, order=None, marginals=None, dtype=jnp.float32
) -> NADE:
    """An untrained NADE over {0, 1}^dimension; ``order`` is 0 .. d-1 when None.

    It starts near independent fair coins, or near coins with the probabilities ``marginals`` (d,) of a one. Raises
    ``InvalidArgumentError`` for sizes below one, an order that is no permutation, or marginals outside (0, 1).
    """
    logits = jnp.zeros(dimension) if marginals is None else logits_of(marginals, dimension)
    model = _untrained(key, dimension, hidden, Coin(), order, "sigmoid", dtype)
    return eqx.tree_at(lambda m: m.head_bias, model, logits[:, None].astype(dtype))


def rnade(
    key: Key[Array, ""],
    dimension: int,
    hidden: int = 50,
    *,
    components: int = 10,
    kind: Literal["normal", "laplace"] = "normal",
    damped_means: bool = False,
    order=None,
    dtype=jnp.float32,
) -> NADE:
    """An untrained RNADE over R^dimension, for data of mean zero and variance one per coordinate.

    The components of each law start spread over (-1.5, 1.5) with scales near one. See ``MixtureHead`` for ``kind`` and
    ``damped_means``. Raises ``InvalidArgumentError`` for sizes below one and an order that is no permutation.
    """
    head = MixtureHead(components, kind, damped_means)
    model = _untrained(key, dimension, hidden, head, order, "relu", dtype)
    means = jnp.linspace(-1.5, 1.5, components) if components > 1 else jnp.zeros(1)
    one = jnp.concatenate([jnp.zeros(components), means, jnp.zeros(components)]).astype(dtype)
    # The activation is a sum over t coordinates: it keeps its size.
    scales = (1 / jnp.sqrt(1.0 + jnp.arange(dimension))).astype(dtype)
    scales = jnp.zeros(dimension, dtype).at[model.order].set(scales)
    return eqx.tree_at(
        lambda m: (m.head_bias, m.scales),
        model,
        (jnp.broadcast_to(one, (dimension, head.outputs)), scales),
        is_leaf=lambda leaf: leaf is None,
    )


def _untrained(key, dimension, hidden, head, order, activation, dtype) -> NADE:
    if dimension < 1 or hidden < 1:
        raise InvalidArgumentError(f"expected at least one coordinate and one hidden unit; found {dimension}, {hidden}")
    key_inputs, key_heads, key_bias = jax.random.split(key, 3)
    spread = 1 / math.sqrt(dimension)
    return NADE(
        inputs=spread * jax.random.normal(key_inputs, (dimension, hidden), dtype),
        bias=spread * jax.random.normal(key_bias, (hidden,), dtype),
        heads=0.1 / math.sqrt(hidden) * jax.random.normal(key_heads, (dimension, hidden, head.outputs), dtype),
        head_bias=jnp.zeros((dimension, head.outputs), dtype),
        scales=None,
        order=checked_order(order, dimension),
        head=head,
        activation=activation,
    )


def logits_of(marginals, dimension: int) -> Float[Array, " d"]:
    """log(p/(1-p)) of probabilities (d,). Raises ``InvalidArgumentError`` when one is not in (0, 1)."""
    p = jnp.asarray(marginals, float)
    if p.shape != (dimension,) or not bool(jnp.all((p > 0) & (p < 1))):
        raise InvalidArgumentError(f"marginals must be {dimension} numbers in (0, 1); found shape {p.shape}")
    return jnp.log(p) - jnp.log1p(-p)
