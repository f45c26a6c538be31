"""Networks that give every coordinate's law from any subset of the others: the orderless members of the family share them."""

import abc
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError


class MaskedNetwork(eqx.Module):
    """network(x, mask) -> (d, o): outputs for every coordinate from x where ``mask`` (d,) is one; the rest of x is not seen.

    ``begin``, ``reveal`` and ``outputs_at`` give the same numbers when coordinates become known one after the other; a network
    that can do this cheaper than by a full pass overrides all three.
    """

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Number of coordinates."""

    @property
    @abc.abstractmethod
    def dtype(self):
        """Type of the weights."""

    @abc.abstractmethod
    def __call__(self, x: Array, mask: Array) -> Float[Array, "d o"]: ...

    def begin(self) -> PyTree:
        """Memory when nothing is known."""
        zeros = jnp.zeros(self.dimension, self.dtype)
        return zeros, zeros

    def reveal(self, memory: PyTree, site: Int[Array, ""], value: Scalar) -> PyTree:
        """Memory once x_site = value is known."""
        x, mask = memory
        return x.at[site].set(value.astype(self.dtype)), mask.at[site].set(1)

    def outputs_at(self, memory: PyTree, site: Int[Array, ""]) -> Float[Array, " o"]:
        """Outputs for one coordinate."""
        return self(*memory)[site]


class MaskedPerceptron(MaskedNetwork):
    """Rectified layers over [x m, m]: a = W^T(x m) + F^T m + c, h = relu(a), more layers, then one head per coordinate.

    A coordinate that becomes known changes a by W_s x_s + F_s alone, so a step of an order costs O(H + H^2 per further layer)
    instead of a full pass. Source: arXiv 1605.02226, section 4.
    """

    inputs: Float[Array, "d h"]
    flags: Float[Array, "d h"]
    bias: Float[Array, " h"]
    layers: tuple[tuple[Array, Array], ...]
    heads: Float[Array, "d last o"]
    head_bias: Float[Array, "d o"]

    def __init__(self, key: Key[Array, ""], dimension: int, hidden: Sequence[int], outputs: int, dtype=jnp.float32):
        if dimension < 1 or not hidden or min(hidden) < 1:
            raise InvalidArgumentError(
                f"expected at least one coordinate and one hidden layer of positive width; found {dimension}, {hidden}"
            )
        keys = jax.random.split(key, 3 + len(hidden))
        spread = 1 / math.sqrt(dimension)
        self.inputs = spread * jax.random.normal(keys[0], (dimension, hidden[0]), dtype)
        self.flags = spread * jax.random.normal(keys[1], (dimension, hidden[0]), dtype)
        self.bias = jnp.zeros(hidden[0], dtype)
        sizes = zip(keys[3:], hidden[:-1], hidden[1:], strict=False)
        self.layers = tuple(
            (math.sqrt(2 / a) * jax.random.normal(k, (a, b), dtype), jnp.zeros(b, dtype)) for k, a, b in sizes
        )
        last = hidden[-1]
        self.heads = 0.1 / math.sqrt(last) * jax.random.normal(keys[2], (dimension, last, outputs), dtype)
        self.head_bias = jnp.zeros((dimension, outputs), dtype)

    @property
    def dimension(self) -> int:
        return self.inputs.shape[0]

    @property
    def dtype(self):
        return self.inputs.dtype

    def __call__(self, x, mask):
        mask = mask.astype(self.dtype)
        a = (x.astype(self.dtype) * mask) @ self.inputs + mask @ self.flags + self.bias
        return jnp.einsum("h,dho->do", self.hidden(a), self.heads) + self.head_bias

    def hidden(self, a: Float[Array, " h"]) -> Float[Array, " last"]:
        """The last hidden layer from the first one's activations."""
        h = jax.nn.relu(a)
        for matrix, bias in self.layers:
            h = jax.nn.relu(h @ matrix + bias)
        return h

    def begin(self):
        return self.bias

    def reveal(self, memory, site, value):
        return memory + value.astype(self.dtype) * self.inputs[site] + self.flags[site]

    def outputs_at(self, memory, site):
        return self.hidden(memory) @ self.heads[site] + self.head_bias[site]


class SummedNetworks(MaskedNetwork):
    """The sum of the outputs of several networks over the same coordinates, e.g. a convolution and a perceptron."""

    parts: tuple[MaskedNetwork, ...]

    def __check_init__(self):
        if not self.parts or len({part.dimension for part in self.parts}) != 1:
            raise InvalidArgumentError(
                f"networks that are summed must have one dimension; found {[part.dimension for part in self.parts]}"
            )

    @property
    def dimension(self) -> int:
        return self.parts[0].dimension

    @property
    def dtype(self):
        return self.parts[0].dtype

    def __call__(self, x, mask):
        return sum((part(x, mask) for part in self.parts[1:]), self.parts[0](x, mask))

    def begin(self):
        return tuple(part.begin() for part in self.parts)

    def reveal(self, memory, site, value):
        return tuple(part.reveal(own, site, value) for part, own in zip(self.parts, memory, strict=True))

    def outputs_at(self, memory, site):
        found = [part.outputs_at(own, site) for part, own in zip(self.parts, memory, strict=True)]
        return sum(found[1:], found[0])
