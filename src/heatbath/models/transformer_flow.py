"""Causal transformer flows over the Cartesian coordinates of a molecule: exact likelihood, one pass to evaluate, cached draws.

Each block is autoregressive over tokens (atoms, or single coordinates), every other block in the opposite order. Nothing in it
knows of rotations: it is trained on randomly oriented configurations (``rigid.RigidAugmentation``).
Source: arXiv 2412.06329 (the block), arXiv 2502.18462 (on molecules).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Bijection, Stacked
from heatbath.models.cartesian import CartesianGenerator, cartesian_generator
from heatbath.models.molecular_frame import FramedGenerator, framed_generator
from heatbath.models.nets.transformer import CausalTransformer


class TransformerBlock(Bijection):
    """x_i = mu_i(x_<i) + M_i(x_<i) z_i over the tokens i of x (token, channel), M_i with diagonal exp(alpha_i).

    M_i is diagonal, as in the paper, or lower ``triangular``: then the channels of a token are correlated too, within one block.
    log|det dz/dx| = -sum alpha. ``inverse`` (x to z) is one pass; ``forward`` (z to x) goes token by token with remembered keys
    and values. The first token is left as it is. ``reverse`` (an array, so that blocks can be stacked) takes the tokens last to
    first. ``alpha_limit`` bounds |alpha| by alpha_limit tanh(alpha / alpha_limit); the map stays exactly invertible.
    x and z may have another type than the network (its parameters' type).
    """

    network: CausalTransformer
    reverse: Bool[Array, "..."]
    alpha_limit: float | None = eqx.field(static=True, default=None)
    triangular: bool = eqx.field(static=True, default=False)

    def inverse(self, x: Float[Array, "token channel"]) -> tuple[Float[Array, "token channel"], Scalar]:
        z, log_det = self.inverses(x[None])
        return z[0], log_det[0]

    def inverses(
        self, xs: Float[Array, "batch token channel"]
    ) -> tuple[Float[Array, "batch token channel"], Float[Array, " batch"]]:
        """``inverse`` of a batch: the same numbers, with gradients of the network that are cheaper than under ``jax.vmap``."""
        xs = self._ordered(xs)
        alpha, mu, lower = self._parts(self.network(xs[:, :-1]), xs.dtype)
        zs = jnp.concatenate([xs[:, :1], _solved(xs[:, 1:] - mu, jnp.exp(-alpha), lower)], axis=1)
        return self._ordered(zs), -jnp.sum(alpha, axis=(1, 2), dtype=jnp.result_type(float))

    def forward(self, z: Float[Array, "token channel"]) -> tuple[Float[Array, "token channel"], Scalar]:
        z = self._ordered(z)

        def next_token(carry, inputs):
            memory, x, total = carry
            z, place = inputs
            memory, output = self.network.step(memory, x, place)
            alpha, mu, lower = self._parts(output, z.dtype)
            x = z * jnp.exp(alpha) + mu + _multiplied(lower, z)
            return (memory, x, total + jnp.sum(alpha, dtype=total.dtype)), x

        begin = (self.network.begin(), z[0], jnp.zeros((), jnp.result_type(float)))
        (_, _, total), x = jax.lax.scan(next_token, begin, (z[1:], jnp.arange(z.shape[0] - 1)))
        return self._ordered(jnp.concatenate([z[:1], x])), total

    def _ordered(self, value):
        return jnp.where(self.reverse, jnp.flip(value, -2), value)

    def _parts(self, output, dtype):
        """alpha, mu and the rows of M below the diagonal, one after another, from the outputs of the network."""
        channels = self.network.embedding.shape[0]
        output = output.astype(dtype)
        alpha, mu = output[..., :channels], output[..., channels : 2 * channels]
        if self.alpha_limit is not None:
            alpha = self.alpha_limit * jnp.tanh(alpha / self.alpha_limit)
        return alpha, mu, output[..., 2 * channels :]


def outputs_of(channels: int, *, triangular: bool) -> int:
    """How many numbers a block needs per token."""
    return 2 * channels + (channels * (channels - 1) // 2 if triangular else 0)


def _row(channel: int) -> slice:
    """Where row ``channel`` of a strictly lower triangle lies when its rows follow each other."""
    return slice(channel * (channel - 1) // 2, channel * (channel + 1) // 2)


def _multiplied(lower, z):
    """L z for the strictly lower triangle L."""
    if lower.shape[-1] == 0:
        return jnp.zeros_like(z)
    rows = [jnp.sum(lower[..., _row(k)] * z[..., :k], axis=-1) for k in range(z.shape[-1])]
    return jnp.stack(rows, axis=-1)


def _solved(right, inverse_diagonal, lower):
    """z with (L + diag) z = right, channel by channel."""
    if lower.shape[-1] == 0:
        return right * inverse_diagonal
    found = []
    for k in range(right.shape[-1]):
        row = lower[..., _row(k)]
        known = sum((row[..., j] * found[j] for j in range(k)), jnp.zeros((), right.dtype))
        found.append((right[..., k] - known) * inverse_diagonal[..., k])
    return jnp.stack(found, axis=-1)


class TransformerFlow(Distribution):
    """A vector y (d,) = f(z), z ~ N(0, I), by transformer blocks over tokens of ``channels`` consecutive numbers."""

    blocks: Stacked
    tokens: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        return self.sample_and_log_prob(key)[0]

    def log_prob(self, x: Float[Array, " d"]) -> Scalar:
        return self.log_probs(x[None])[0]

    def log_probs(self, xs: Float[Array, "batch d"]) -> Float[Array, " batch"]:
        arrays, rest = eqx.partition(self.blocks.layer, eqx.is_array)

        def one_block(carry, leaves):
            value, total = carry
            value, log_det = eqx.combine(leaves, rest).inverses(value)
            return (value, total + log_det), None

        tokens = xs.reshape(-1, self.tokens, self.channels)
        begin = (tokens, jnp.zeros(xs.shape[0], jnp.result_type(float)))
        (z, log_dets), _ = jax.lax.scan(one_block, begin, arrays, reverse=True)
        return _log_normal(z) + log_dets

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Float[Array, " d"], Scalar]:
        z = jax.random.normal(key, (self.tokens, self.channels), self.blocks.layer.network.output.dtype)
        x, log_det = self.blocks.forward(z)
        return x.reshape(-1), _log_normal(z) - log_det


@dataclasses.dataclass(frozen=True)
class TransformerFlowSize:
    """What sets the form and size of a transformer flow.

    tokens: "atoms" (three channels) or single "coordinates"
    frame:  coordinates in the molecule's own frame (``molecular_frame``), spanned by the first three atoms in order; otherwise
            in space, where orientation is learned from rotated data
    ``alpha_limit`` and ``triangular``: see ``TransformerBlock``
    """

    tokens: Literal["atoms", "coordinates"] = "atoms"
    channels: int = 128
    blocks: int = 4
    layers: int = 2
    head_dim: int = 64
    alpha_limit: float | None = None
    triangular: bool = False
    frame: bool = False


#: Sizes of arXiv 2502.18462 by molecule, in space; and ``two-cores``, below 2 million parameters, in the molecule's own frame.
SIZES = {
    "two-cores": TransformerFlowSize(channels=96, blocks=6, layers=2, head_dim=32, triangular=True, frame=True),
    "alanine-dipeptide": TransformerFlowSize("coordinates", channels=256, blocks=4, layers=4),
    "tripeptide": TransformerFlowSize(channels=256, blocks=6, layers=6),
    "tetrapeptide": TransformerFlowSize(channels=256, blocks=6, layers=6),
    "hexapeptide": TransformerFlowSize(channels=384, blocks=6, layers=6),
    "chignolin": TransformerFlowSize(channels=384, blocks=8, layers=8),
}


def transformer_flow(
    key: Key[Array, ""],
    *,
    n_atoms: int,
    data: Float[Array, "*draw atom 3"] | Float[np.ndarray, "*draw atom 3"] | None = None,
    size: TransformerFlowSize = SIZES["two-cores"],
    order: Sequence[int] | None = None,
    dtype=jnp.float32,
) -> CartesianGenerator | FramedGenerator:
    """An untrained transformer flow for ``n_atoms`` atoms; it starts as a normal with the scale of the data.

    ``data`` and ``order``: see ``cartesian_generator`` and ``framed_generator``; ``dtype``: of the network and of draws. Raises
    ``InvalidArgumentError`` when sizes, order or data do not fit.
    """
    channels = {"atoms": 3, "coordinates": 1}.get(size.tokens)
    if channels is None:
        raise InvalidArgumentError(f"tokens must be 'atoms' or 'coordinates'; found {size.tokens!r}")
    make, numbers = (framed_generator, 3 * n_atoms - 6) if size.frame else (cartesian_generator, 3 * n_atoms)
    vector = vector_flow(key, tokens=numbers // channels, channels=channels, size=size, dtype=dtype)
    return make(vector, n_atoms=n_atoms, data=data, order=order)


def vector_flow(
    key: Key[Array, ""], *, tokens: int, channels: int, size: TransformerFlowSize, dtype=jnp.float32
) -> TransformerFlow:
    """An untrained flow over vectors of tokens * channels numbers; it starts as N(0, I). ``size.tokens`` is not used."""
    if tokens < 2 or channels < 1 or size.blocks < 1:
        raise InvalidArgumentError(
            f"a flow needs two tokens, one channel and one block; found {tokens}, {channels} and {size.blocks}"
        )

    def make(key, reverse):
        network = CausalTransformer(
            key,
            tokens=tokens - 1,
            inputs=channels,
            outputs=outputs_of(channels, triangular=size.triangular),
            channels=size.channels,
            layers=size.layers,
            head_dim=size.head_dim,
            dtype=dtype,
        )
        return TransformerBlock(network, reverse, size.alpha_limit, size.triangular)

    # The stack maps z to x: the block that acts on x first is its last.
    reverse = jnp.arange(size.blocks)[::-1] % 2 == 1
    return TransformerFlow(
        Stacked(eqx.filter_vmap(make)(jax.random.split(key, size.blocks), reverse)), tokens, channels
    )


def _log_normal(z: Float[Array, "*batch token channel"]) -> Float[Array, "*batch"]:
    wide = z.astype(jnp.result_type(float))
    return -0.5 * jnp.sum(wide**2 + np.log(2 * np.pi), axis=(-2, -1))
