"""A causal transformer over short sequences, evaluated at once or token by token with remembered keys and values.

Pre-normalised attention and feed-forward layers as in GPT-2. The normalisation, before every layer and before the output, has no
gain and no shift of its own: the linear map that follows it has both. Before the output it bounds what comes out for inputs far
from the data, where an exponential of the output would otherwise run away in a few tokens. Layers are scanned, so that compile
time does not grow with depth.

Whole sequences come in batches, which are flattened to rows before every linear map. Under ``jax.vmap`` over single sequences
XLA's gradients of the matrices sum over two axes, and the CPU compiler transposes their operands first (a quarter of a training
step). Backward, only products are remembered; what lies between them is computed again, which costs less than the memory.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from heatbath.errors import InvalidArgumentError


class Memory(NamedTuple):
    """Keys and values of the tokens seen so far, of every layer; places that have not been reached are zero.

    Laid out as the products of a step want them: copies of the whole memory would cost as much as the layer itself.
    """

    keys: Float[Array, "layer head dim token"]
    values: Float[Array, "layer head token dim"]


class TransformerLayer(eqx.Module):
    """h <- h + A(norm(h)); h <- h + gelu(norm(h) W1 + b1) W2 + b2, with causal softmax attention A of several heads."""

    attention_in: Float[Array, "... channel triple"]
    attention_in_bias: Float[Array, "... triple"]
    attention_out: Float[Array, "... channel channel"]
    attention_out_bias: Float[Array, "... channel"]
    feed_in: Float[Array, "... channel hidden"]
    feed_in_bias: Float[Array, "... hidden"]
    #: (out, in): the gradient of a tall matrix is the slowest product of the layer on a CPU
    feed_out: Float[Array, "... channel hidden"]
    feed_out_bias: Float[Array, "... channel"]
    heads: int = eqx.field(static=True)

    def __init__(self, key: Key[Array, ""], channels: int, heads: int, *, expansion: int, residual_gain: float, dtype):
        keys, hidden = jax.random.split(key, 4), expansion * channels
        self.attention_in = _weights(keys[0], channels, 3 * channels, dtype)
        self.attention_in_bias = jnp.zeros(3 * channels, dtype)
        self.attention_out = residual_gain * _weights(keys[1], channels, channels, dtype)
        self.attention_out_bias = jnp.zeros(channels, dtype)
        self.feed_in = _weights(keys[2], channels, hidden, dtype)
        self.feed_in_bias = jnp.zeros(hidden, dtype)
        self.feed_out = residual_gain * _weights(keys[3], hidden, channels, dtype).T
        self.feed_out_bias = jnp.zeros(channels, dtype)
        self.heads = heads

    def __call__(self, h: Float[Array, "batch token channel"]) -> Float[Array, "batch token channel"]:
        """All tokens at once; token i depends on tokens 0 to i."""
        rows = h.reshape(-1, h.shape[-1])
        inner = normalised(rows) @ self.attention_in + self.attention_in_bias
        query, key, value = jnp.split(inner.reshape(*h.shape[:2], -1), 3, axis=-1)
        mixed = attention(query, key, value, self.heads).reshape(rows.shape)
        return self._feed_forward(rows + mixed @ self.attention_out + self.attention_out_bias).reshape(h.shape)

    def step(
        self, memory: Memory, h: Float[Array, " channel"], layer: Int[Array, ""], place: Int[Array, ""]
    ) -> tuple[Memory, Float[Array, " channel"]]:
        """Token ``place`` alone, in layer number ``layer``, given the tokens before it; it enters the memory."""
        query, key, value = jnp.split(normalised(h) @ self.attention_in + self.attention_in_bias, 3)
        query, key, value = (part.reshape(self.heads, -1) for part in (query, key, value))
        # Written before it is read: the other way round, the whole memory would be copied.
        memory = Memory(memory.keys.at[layer, :, :, place].set(key), memory.values.at[layer, :, place, :].set(value))
        mixed = attention_of_one(query, memory.keys[layer], memory.values[layer], place)
        return memory, self._feed_forward(h + mixed @ self.attention_out + self.attention_out_bias)

    def _feed_forward(self, h):
        hidden = jax.nn.gelu(normalised(h) @ self.feed_in + self.feed_in_bias)
        return h + hidden @ self.feed_out.T + self.feed_out_bias


class CausalTransformer(eqx.Module):
    """A map of sequences, (token, input) to (token, output), whose row i depends on rows 0 to i. The output map starts at zero.

    channels: width, a multiple of ``head_dim``. Raises ``InvalidArgumentError`` for sizes that do not fit.
    """

    embedding: Float[Array, "input channel"]
    positions: Float[Array, "token channel"]
    layer: TransformerLayer
    output: Float[Array, "channel output"]
    output_bias: Float[Array, " output"]

    def __init__(
        self,
        key: Key[Array, ""],
        *,
        tokens: int,
        inputs: int,
        outputs: int,
        channels: int = 128,
        layers: int = 4,
        head_dim: int = 64,
        expansion: int = 4,
        dtype=jnp.float32,
    ):
        _check_sizes(channels, head_dim, tokens=tokens, inputs=inputs, outputs=outputs, layers=layers)
        key_in, key_places, key_layers = jax.random.split(key, 3)
        self.embedding = _weights(key_in, inputs, channels, dtype)
        self.positions = 0.01 * jax.random.normal(key_places, (tokens, channels), dtype)
        gain = (2 * layers) ** -0.5

        def make(key):
            return TransformerLayer(
                key, channels, channels // head_dim, expansion=expansion, residual_gain=gain, dtype=dtype
            )

        self.layer = eqx.filter_vmap(make)(jax.random.split(key_layers, layers))
        self.output = jnp.zeros((channels, outputs), dtype)
        self.output_bias = jnp.zeros(outputs, dtype)

    def __call__(self, x: Float[Array, "batch token input"]) -> Float[Array, "batch token output"]:
        """All tokens at once; sequences shorter than ``tokens`` are taken to be its beginning."""
        h = x.astype(self.embedding.dtype) @ self.embedding + self.positions[: x.shape[1]]
        arrays, rest = eqx.partition(self.layer, eqx.is_array)

        def one_layer(h, leaves):
            return eqx.combine(leaves, rest)(h), None

        saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        h, _ = jax.lax.scan(jax.checkpoint(one_layer, policy=saved, prevent_cse=False), h, arrays)
        return normalised(h) @ self.output + self.output_bias

    def begin(self) -> Memory:
        """The memory before the first token."""
        tokens, channels = self.positions.shape
        layers, heads = self.layer.feed_out_bias.shape[0], self.layer.heads
        shape = (layers, heads, channels // heads)
        dtype = self.positions.dtype
        return Memory(jnp.zeros((*shape, tokens), dtype), jnp.zeros((*shape[:2], tokens, shape[2]), dtype))

    def step(
        self, memory: Memory, x: Float[Array, " input"], place: Int[Array, ""]
    ) -> tuple[Memory, Float[Array, " output"]]:
        """Row ``place`` of the output, given that the rows before have been passed in order."""
        h = x.astype(self.embedding.dtype) @ self.embedding + self.positions[place]
        arrays, rest = eqx.partition(self.layer, eqx.is_array)

        def one_layer(carry, inputs):
            leaves, number = inputs
            return eqx.combine(leaves, rest).step(*carry, number, place), None

        numbers = jnp.arange(self.layer.feed_out_bias.shape[0])
        (memory, h), _ = jax.lax.scan(one_layer, (memory, h), (arrays, numbers))
        return memory, normalised(h) @ self.output + self.output_bias


def normalised(h: Float[Array, "... channel"]) -> Float[Array, "... channel"]:
    """Mean zero and variance one along the last axis (arXiv 1607.06450, without gain and shift)."""
    centred = h - jnp.mean(h, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def attention(
    query: Float[Array, "batch token channel"],
    key: Float[Array, "batch token channel"],
    value: Float[Array, "batch token channel"],
    heads: int,
) -> Float[Array, "batch token channel"]:
    """softmax(q k^T / sqrt(d)) v over tokens up to the own one, in each of ``heads`` slices of the channels."""
    batch, tokens, channels = query.shape
    query, key, value = (part.reshape(batch, tokens, heads, -1) for part in (query, key, value))
    scores = jnp.einsum("bthd,bshd->bhts", query * (channels // heads) ** -0.5, key)
    seen = jnp.tril(jnp.ones((tokens, tokens), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, value).reshape(batch, tokens, channels)


def attention_of_one(
    query: Float[Array, "head dim"],
    keys: Float[Array, "head dim token"],
    values: Float[Array, "head token dim"],
    place: Int[Array, ""],
) -> Float[Array, " channel"]:
    """Row ``place`` of ``attention``: places after it count for nothing."""
    scores = jnp.einsum("hd,hdt->ht", query * query.shape[1] ** -0.5, keys)
    weights = jax.nn.softmax(jnp.where(jnp.arange(keys.shape[2]) <= place, scores, -jnp.inf), axis=-1)
    return jnp.einsum("ht,htd->hd", weights, values).reshape(-1)


def _weights(key, inputs: int, outputs: int, dtype) -> Float[Array, "input output"]:
    return inputs**-0.5 * jax.random.normal(key, (inputs, outputs), dtype)


def _check_sizes(channels: int, head_dim: int, **sizes: int) -> None:
    for name, size in {"channels": channels, "head_dim": head_dim, **sizes}.items():
        if size < 1:
            raise InvalidArgumentError(f"{name} must be at least 1; found {size}")
    if channels % head_dim:
        raise InvalidArgumentError(f"channels must be a multiple of head_dim; found {channels} and {head_dim}")


def parameter_count(model: eqx.Module) -> int:
    """How many numbers ``model`` holds that training could change."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
