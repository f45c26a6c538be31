"""The conditioner of coupling layers: a residual multilayer perceptron whose output starts at zero.

Weights are stored as (in, out) and applied as ``x @ weight``, so that ``jax.vmap`` over configurations becomes one matrix
product (batch, in) x (in, out) without a transposition.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from heatbath.errors import InvalidArgumentError


class Dense(eqx.Module):
    """x -> x @ weight + bias, with weights drawn from N(0, gain^2 / in)."""

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    @staticmethod
    def create(key: Key[Array, ""], inputs: int, outputs: int, *, gain: float = 1.0, dtype=jnp.float32) -> "Dense":
        """A fresh layer; ``gain`` 0 makes it the zero map."""
        weight = gain / math.sqrt(inputs) * jax.random.normal(key, (inputs, outputs), dtype)
        return Dense(weight, jnp.zeros(outputs, dtype))

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return x @ self.weight + self.bias


class ResidualNetwork(eqx.Module):
    """h_0 = A x, h_{i+1} = h_i + B_i silu(h_i), output C silu(h_depth), with C = 0 at the start.

    Inputs are cast to the dtype of the weights (float32 unless said otherwise) and the output stays in it: whoever needs
    float64 downstream widens the result. One configuration or any leading batch axes.
    """

    first: Dense
    hidden: tuple[Dense, ...]
    last: Dense

    @staticmethod
    def create(
        key: Key[Array, ""],
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        gain: float = 0.0,
        dtype=jnp.float32,
    ) -> "ResidualNetwork":
        """``depth`` residual layers of ``width`` units. ``gain`` scales the last layer's weights (0: the zero function).

        Raises ``InvalidArgumentError`` when a size is not positive (``depth`` may be 0).
        """
        if min(inputs, outputs, width) < 1 or depth < 0:
            raise InvalidArgumentError(
                "a network needs positive inputs, outputs and width and depth >= 0; "
                f"found {inputs}, {outputs}, {width} and {depth}"
            )
        keys = jax.random.split(key, depth + 2)
        hidden = tuple(Dense.create(keys[i + 1], width, width, dtype=dtype) for i in range(depth))
        return ResidualNetwork(
            Dense.create(keys[0], inputs, width, dtype=dtype),
            hidden,
            Dense.create(keys[-1], width, outputs, gain=gain, dtype=dtype),
        )

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return self.last(_trunk(self.first, self.hidden, x))


class Head(eqx.Module):
    """h -> reshape(h @ weight) + bias: an output of any shape, that of ``bias``.

    The bias is added after the reshape on purpose: so XLA keeps the gradient of the output in its own shape, where it is
    vector code, and does not compute indices of the flat one entry by entry (a spline layer's gradient took twice as long).
    """

    weight: Float[Array, "in flat"]
    bias: Float[Array, "*shape"]

    def __call__(self, h: Float[Array, " in"]) -> Float[Array, "*shape"]:
        return (h @ self.weight).reshape(self.bias.shape) + self.bias


class BranchedNetwork(eqx.Module):
    """The residual network with several outputs of given shapes, each from a matrix of its own. One configuration.

    Parts of ONE output would be slices, and the gradient of slices is padded and added entry by entry.
    """

    first: Dense
    hidden: tuple[Dense, ...]
    last: tuple[Head, ...]

    @staticmethod
    def create(
        key: Key[Array, ""],
        inputs: int,
        shapes: Sequence[tuple[int, ...]],
        *,
        width: int,
        depth: int,
        gain: float = 0.0,
        dtype=jnp.float32,
    ) -> "BranchedNetwork":
        """As ``ResidualNetwork.create``, with the shapes of all outputs."""
        sizes = [math.prod(shape) for shape in shapes]
        base = ResidualNetwork.create(key, inputs, sum(sizes), width=width, depth=depth, gain=gain, dtype=dtype)
        weights = jnp.split(base.last.weight, np.cumsum(sizes)[:-1], axis=1)
        heads = tuple(Head(weight, jnp.zeros(shape, dtype)) for weight, shape in zip(weights, shapes, strict=True))
        return BranchedNetwork(base.first, base.hidden, heads)

    def __call__(self, x: Float[Array, " in"]) -> tuple[Float[Array, "..."], ...]:
        h = _trunk(self.first, self.hidden, x)
        return tuple(head(h) for head in self.last)


def _trunk(first: Dense, hidden: tuple[Dense, ...], x):
    h = first(x.astype(first.weight.dtype))
    for layer in hidden:
        h = h + layer(jax.nn.silu(h))
    return jax.nn.silu(h)
