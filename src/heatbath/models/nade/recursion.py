"""The recursion of NADE over a batch in O(H D) operations and O(H) memory per datum, forwards and backwards.

Autodiff of the plain scan would keep every hidden state, D times as much memory. The rule below walks back from the last
activation and takes away one input after another instead.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class RecursionWeights(NamedTuple):
    """Weights in the order of the recursion: what is seen first comes first.

    inputs (d, h); bias (h,); scales (d,); heads (d, h, o); head_bias (d, o).
    """

    inputs: Float[Array, "d h"]
    bias: Float[Array, " h"]
    scales: Float[Array, " d"]
    heads: Float[Array, "d h o"]
    head_bias: Float[Array, "d o"]


def plain_recursion(
    activation: Callable[[Array], Array], weights: RecursionWeights, x: Float[Array, "batch d"]
) -> Float[Array, "batch d o"]:
    """out_t = head_bias_t + heads_t^T act(scale_t a_t), a_0 = bias, a_{t+1} = a_t + inputs_t x_t.

    Source: arXiv 1605.02226, equations 4-6 and 18 (a scale per coordinate is needed for real x).
    """
    return _forward(activation, weights, x)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recursion(
    activation: Callable[[Array], Array], weights: RecursionWeights, x: Float[Array, "batch d"]
) -> Float[Array, "batch d o"]:
    """``plain_recursion`` with a backward pass of O(H D) operations and O(H) memory per datum."""
    return _forward(activation, weights, x)[0]


def _forward(activation, weights, x):
    def go(a, inputs):
        value, column, scale, head, head_bias = inputs
        out = activation(scale * a) @ head + head_bias
        return a + value[:, None] * column, out

    start = jnp.broadcast_to(weights.bias, (x.shape[0], weights.bias.shape[0]))
    rows = (x.T, weights.inputs, weights.scales, weights.heads, weights.head_bias)
    last, outputs = jax.lax.scan(go, start, rows)
    return jnp.swapaxes(outputs, 0, 1), last


def _forward_rule(activation, weights, x):
    outputs, last = _forward(activation, weights, x)
    return outputs, (weights, x, last)


def _backward_rule(activation, kept, cotangent):
    weights, x, last = kept

    def back(carry, inputs):
        a, a_bar = carry  # of the step after this one
        out_bar, value, column, scale, head = inputs
        value_bar, column_bar = a_bar @ column, value @ a_bar
        a = a - value[:, None] * column
        hidden, pull = jax.vjp(lambda a, scale: activation(scale * a), a, scale)
        more, scale_bar = pull(out_bar @ head.T)
        return (a, a_bar + more), (value_bar, column_bar, scale_bar, hidden.T @ out_bar, jnp.sum(out_bar, axis=0))

    rows = (jnp.swapaxes(cotangent, 0, 1), x.T, weights.inputs, weights.scales, weights.heads)
    (_, a_bar), found = jax.lax.scan(back, (last, jnp.zeros_like(last)), rows, reverse=True)
    values, columns, scales, heads, head_biases = found
    return RecursionWeights(columns, jnp.sum(a_bar, axis=0), scales, heads, head_biases), values.T


recursion.defvjp(_forward_rule, _backward_rule)
