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
from jaxtyping import Array, Bool, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Affine, Bijection, Chain, Permutation, Stacked
from heatbath.models.nets.transformer import CausalTransformer
from heatbath.models.rigid import RigidAugmentation


class TransformerBlock(Bijection):
    """z_i = (x_i - mu_i(x_<i)) exp(-alpha_i(x_<i)) over the tokens i of x (token, channel); log|det dz/dx| = -sum alpha.

    ``inverse`` (x to z) is one pass; ``forward`` (z to x) goes token by token with remembered keys and values. The first token is
    left as it is. ``reverse`` (an array, so that blocks can be stacked) takes the tokens last to first.
    ``alpha_limit`` bounds |alpha| by alpha_limit tanh(alpha / alpha_limit); the map stays exactly invertible.
    x and z may have another type than the network (its parameters' type).
    """

    network: CausalTransformer
    reverse: Bool[Array, "..."]
    alpha_limit: float | None = eqx.field(static=True, default=None)

    def inverse(self, x: Float[Array, "token channel"]) -> tuple[Float[Array, "token channel"], Scalar]:
        z, log_det = self.inverses(x[None])
        return z[0], log_det[0]

    def inverses(
        self, xs: Float[Array, "batch token channel"]
    ) -> tuple[Float[Array, "batch token channel"], Float[Array, " batch"]]:
        """``inverse`` of a batch: the same numbers, with gradients of the network that are cheaper than under ``jax.vmap``."""
        xs = self._ordered(xs)
        alpha, mu = self._split(self.network(xs[:, :-1]), xs.dtype)
        zs = jnp.concatenate([xs[:, :1], (xs[:, 1:] - mu) * jnp.exp(-alpha)], axis=1)
        return self._ordered(zs), -jnp.sum(alpha, axis=(1, 2), dtype=jnp.result_type(float))

    def forward(self, z: Float[Array, "token channel"]) -> tuple[Float[Array, "token channel"], Scalar]:
        z = self._ordered(z)

        def next_token(carry, inputs):
            memory, x, total = carry
            z, place = inputs
            memory, output = self.network.step(memory, x, place)
            alpha, mu = self._split(output, z.dtype)
            x = z * jnp.exp(alpha) + mu
            return (memory, x, total + jnp.sum(alpha, dtype=total.dtype)), x

        begin = (self.network.begin(), z[0], jnp.zeros((), jnp.result_type(float)))
        (_, _, total), x = jax.lax.scan(next_token, begin, (z[1:], jnp.arange(z.shape[0] - 1)))
        return self._ordered(jnp.concatenate([z[:1], x])), total

    def _ordered(self, value):
        return jnp.where(self.reverse, jnp.flip(value, -2), value)

    def _split(self, output, dtype):
        alpha, mu = jnp.split(output.astype(dtype), 2, axis=-1)
        if self.alpha_limit is not None:
            alpha = self.alpha_limit * jnp.tanh(alpha / self.alpha_limit)
        return alpha, mu


class TransformerFlow(Distribution):
    """A molecule's Cartesian coordinates x (atom, 3) in nm by transformer blocks; normalised on all of R^(3N).

    x = scale * (f(z) with its atoms put in place), z ~ N(0, I). Nothing is subtracted from x: the density of the centre is part
    of the model. Train it on configurations prepared by ``augmentation``, whose centre is N(0, centre_scale^2 I).
    ``atom_order`` moves token rows to atoms; ``scale`` is one length for all coordinates.
    """

    blocks: Stacked
    atom_order: Permutation
    scale: Affine
    channels: int = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Float[Array, "atom 3"]:
        return self.sample_and_log_prob(key)[0]

    def log_prob(self, x: Float[Array, "atom 3"]) -> Scalar:
        return self.log_probs(x[None])[0]

    def log_probs(self, xs: Float[Array, "batch atom 3"]) -> Float[Array, " batch"]:
        scaled, log_det = jax.vmap(Chain((self.atom_order, self.scale)).inverse)(xs)
        arrays, rest = eqx.partition(self.blocks.layer, eqx.is_array)

        def one_block(carry, leaves):
            value, total = carry
            value, log_det = eqx.combine(leaves, rest).inverses(value)
            return (value, total + log_det), None

        tokens = scaled.reshape(xs.shape[0], -1, self.channels)
        begin = (tokens, jnp.zeros(xs.shape[0], jnp.result_type(float)))
        (z, log_dets), _ = jax.lax.scan(one_block, begin, arrays, reverse=True)
        return jax.vmap(_log_normal)(z) + log_dets + log_det

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Float[Array, "atom 3"], Scalar]:
        tokens = 3 * self.n_atoms // self.channels
        z = jax.random.normal(key, (tokens, self.channels), self.blocks.layer.network.output.dtype)
        scaled, log_det_blocks = self.blocks.forward(z)
        x, log_det = Chain((self.atom_order, self.scale)).forward(scaled.reshape(-1, 3))
        return x, _log_normal(z) - log_det_blocks - log_det

    @property
    def n_atoms(self) -> int:
        """How many atoms a configuration has."""
        return self.atom_order.order.shape[0]

    @property
    def centre_scale(self) -> Scalar:
        """Standard deviation of each component of the centre, in nm: scale / sqrt(N), that of a mean of N normals."""
        return self.scale.scale / np.sqrt(self.n_atoms)

    @property
    def augmentation(self) -> RigidAugmentation:
        """What prepares configurations for training: a uniform rotation, and the centre's normal law."""
        return RigidAugmentation(self.centre_scale)


@dataclasses.dataclass(frozen=True)
class TransformerFlowSize:
    """Arguments of ``transformer_flow`` that set its size."""

    tokens: Literal["atoms", "coordinates"] = "atoms"
    channels: int = 128
    blocks: int = 4
    layers: int = 2
    head_dim: int = 64


#: Sizes of arXiv 2502.18462 by molecule, and ``two-cores``, below 2 million parameters.
SIZES = {
    "two-cores": TransformerFlowSize(channels=128, blocks=4, layers=2),
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
    alpha_limit: float | None = None,
    dtype=jnp.float32,
) -> TransformerFlow:
    """An untrained flow for ``n_atoms`` atoms; it starts as N(0, scale^2 I).

    data:        configurations (draw, atom, 3), or one structure (atom, 3), in nm; the scale is the standard deviation of their
                 centred coordinates. Without it the scale is 1 nm, to be restored from a file.
    order:       the atoms in the order in which tokens are taken (default: as they are).
    alpha_limit: see ``TransformerBlock``.
    dtype:       of the network and of draws.

    Raises ``InvalidArgumentError`` when sizes, order or data do not fit.
    """
    order = _checked_order(n_atoms, order)
    channels = {"atoms": 3, "coordinates": 1}.get(size.tokens)
    if channels is None:
        raise InvalidArgumentError(f"tokens must be 'atoms' or 'coordinates'; found {size.tokens!r}")
    length = 3 * n_atoms // channels

    def make(key, reverse):
        network = CausalTransformer(
            key,
            tokens=length - 1,
            inputs=channels,
            outputs=2 * channels,
            channels=size.channels,
            layers=size.layers,
            head_dim=size.head_dim,
            dtype=dtype,
        )
        return TransformerBlock(network, reverse, alpha_limit)

    # The first block that acts on x is the last of the stack, which maps z to x.
    reverse = jnp.arange(size.blocks)[::-1] % 2 == 1
    blocks = Stacked(eqx.filter_vmap(make)(jax.random.split(key, size.blocks), reverse))
    scale = jnp.asarray(coordinate_scale(data, n_atoms), dtype=float)
    return TransformerFlow(blocks, Permutation(jnp.argsort(order)), Affine(jnp.zeros_like(scale), scale), channels)


def coordinate_scale(data, n_atoms: int) -> float:
    """Standard deviation of all centred coordinates of ``data`` (*draw, atom, 3); 1 without data."""
    if data is None:
        return 1.0
    data = np.asarray(data, np.float64)
    if data.shape[-2:] != (n_atoms, 3) or not np.isfinite(data).all():
        raise InvalidArgumentError(
            f"data must be finite with shape (draw, {n_atoms}, 3) or ({n_atoms}, 3); found {data.shape}"
        )
    return float(np.std(data - data.mean(axis=-2, keepdims=True)))


def _checked_order(n_atoms: int, order) -> Int[Array, " atom"]:
    order = np.arange(n_atoms) if order is None else np.asarray(order)
    if n_atoms < 2 or sorted(order.tolist()) != list(range(n_atoms)):
        raise InvalidArgumentError(
            f"order must name each of at least two atoms 0..{n_atoms - 1} once; found {order.tolist()}"
        )
    return jnp.asarray(order, jnp.int32)


def _log_normal(z) -> Scalar:
    wide = z.astype(jnp.result_type(float))
    return -0.5 * jnp.sum(wide**2 + np.log(2 * np.pi))
