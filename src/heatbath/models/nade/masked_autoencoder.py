"""MADE: an autoencoder whose masked weights make every output see only the inputs before it. The baseline of the family."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from heatbath.errors import InvalidArgumentError
from heatbath.models.nade.autoregressive import Autoregressive, checked_order
from heatbath.models.nade.fixed_order import logits_of
from heatbath.models.nade.heads import Coin, Head


class MADE(Autoregressive):
    """All conditionals in one pass of a network with masked weights; a draw takes as many passes as coordinates.

    Hidden unit k of a layer has a degree m(k); it sees units of degree <= m(k), inputs having their place in the order (from 1),
    and output t sees units of degree < t. ``direct`` (d, d, o) leads from every input to the outputs after it. Masks multiply the
    weights, so that nothing can be learned around them. Source: arXiv 1502.03509, equations 12-14.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    masks: tuple[Bool[Array, "_ _"], ...]
    direct: Float[Array, "d d o"]
    order: Int[Array, " d"]
    head: Head

    def all_parameters(self, x: Array) -> Float[Array, "d o"]:
        """Parameters of every coordinate's law given the coordinates before it."""
        x = x.astype(self.biases[0].dtype)
        place = jnp.argsort(self.order)
        allowed = place[:, None] < place[None, :]
        h, direct = x, jnp.einsum("i,ido->do", x, jnp.where(allowed[:, :, None], self.direct, 0))
        for index, (weight, bias, mask) in enumerate(zip(self.weights, self.biases, self.masks, strict=True)):
            h = h if index == 0 else jax.nn.relu(h)
            h = h @ jnp.where(mask, weight, 0) + bias
        return h.reshape((self.dimension, self.head.outputs)) + direct

    def conditionals(self, x):
        return jax.vmap(self.head.log_prob)(self.all_parameters(x), x).astype(jnp.result_type(float))

    def begin(self):
        return jnp.zeros(self.dimension, self.biases[0].dtype)

    def parameters(self, memory, site):
        return self.all_parameters(memory)[site]

    def reveal(self, memory, site, value):
        return memory.at[site].set(value.astype(memory.dtype))


def made(
    key: Key[Array, ""],
    dimension: int,
    hidden: Sequence[int] = (500,),
    *,
    head: Head | None = None,
    order=None,
    marginals=None,
    dtype=jnp.float32,
) -> MADE:
    """An untrained MADE; degrees of hidden units are spread evenly over 1 .. d-1. ``head`` is a coin when None.

    It starts near a product of laws that do not depend on one another: coins near ``marginals`` (d,), probabilities of a one,
    where they are given. The first layer starts ten times as small as its fan-in asks for: units that are spread widely from the
    start let the outputs learn a small table by heart before the units have learned anything.

    Raises ``InvalidArgumentError`` for sizes below one, an order that is no permutation, or marginals outside (0, 1).
    """
    if dimension < 2 or not hidden or min(hidden) < 1:
        raise InvalidArgumentError(
            f"expected two coordinates and one hidden layer at least; found {dimension}, {hidden}"
        )
    head = Coin() if head is None else head
    order = checked_order(order, dimension)
    place = np.empty(dimension, int)
    place[np.asarray(order)] = np.arange(1, dimension + 1)
    degrees = [place, *(1 + np.arange(width) % (dimension - 1) for width in hidden)]
    masks = [after[None, :] >= before[:, None] for before, after in itertools.pairwise(degrees)]
    masks.append(np.repeat(place, head.outputs)[None, :] > degrees[-1][:, None])
    keys = jax.random.split(key, len(masks))
    gains = (0.1 * math.sqrt(2), *(math.sqrt(2),) * (len(hidden) - 1), 0.1)
    weights = tuple(
        gain / math.sqrt(mask.shape[0]) * jax.random.normal(k, mask.shape, dtype)
        for k, mask, gain in zip(keys, masks, gains, strict=True)
    )
    last = jnp.zeros(masks[-1].shape[1], dtype) if marginals is None else logits_of(marginals, dimension).astype(dtype)
    biases = (*(jnp.zeros(mask.shape[1], dtype) for mask in masks[:-1]), last)
    allowed = tuple(jnp.asarray(mask) for mask in masks)
    direct = jnp.zeros((dimension, dimension, head.outputs), dtype)
    return MADE(weights=weights, biases=biases, masks=allowed, direct=direct, order=order, head=head)
