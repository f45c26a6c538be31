"""A causal transformer over one short sequence, evaluated at once or token by token with remembered keys and values.

Pre-normalised attention and feed-forward layers as in GPT-2. The normalisation has no gain and no shift of its own: the linear
map that follows it has both. Layers are scanned, so that compile time does not grow with depth.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from heatbath.errors import InvalidArgumentError


class Memory(NamedTuple):
    """Keys and values of the tokens seen so far, of every layer; places that have not been reached are zero."""

    keys: Float[Array, "layer token channel"]
    values: Float[Array, "layer token channel"]


class TransformerLayer(eqx.Module):
    """h <- h + A(norm(h)); h <- h + W2 gelu(W1 norm(h) + b1) + b2, with causal softmax attention A of several heads."""

    attention_in: Float[Array, "... channel triple"]
    attention_in_bias: Float[Array, "... triple"]
    attention_out: Float[Array, "... channel channel"]
    attention_out_bias: Float[Array, "... channel"]
    feed_in: Float[Array, "... channel hidden"]
    feed_in_bias: Float[Array, "... hidden"]
    feed_out: Float[Array, "... hidden channel"]
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
        self.feed_out = residual_gain * _weights(keys[3], hidden, channels, dtype)
        self.feed_out_bias = jnp.zeros(channels, dtype)
        self.heads = heads

    def __call__(self, h: Float[Array, "token channel"]) -> Float[Array, "token channel"]:
        """All tokens at once; row i depends on rows 0 to i."""
        query, key, value = jnp.split(normalised(h) @ self.attention_in + self.attention_in_bias, 3, axis=-1)
        h = h + attention(query, key, value, self.heads) @ self.attention_out + self.attention_out_bias
        return self._feed_forward(h)

    def step(
        self,
        h: Float[Array, " channel"],
        keys: Float[Array, "token channel"],
        values: Float[Array, "token channel"],
        place: Int[Array, ""],
    ) -> tuple[Float[Array, " channel"], Float[Array, " channel"], Float[Array, " channel"]]:
        """Token ``place`` alone, given keys and values of those before it; also returns its own key and value."""
        query, key, value = jnp.split(normalised(h) @ self.attention_in + self.attention_in_bias, 3)
        mixed = attention_of_one(query, key, value, keys, values, place, self.heads)
        return self._feed_forward(h + mixed @ self.attention_out + self.attention_out_bias), key, value

    def _feed_forward(self, h):
        hidden = jax.nn.gelu(normalised(h) @ self.feed_in + self.feed_in_bias)
        return h + hidden @ self.feed_out + self.feed_out_bias


class CausalTransformer(eqx.Module):
    """A map from (tokens, inputs) to (tokens, outputs) whose row i depends on rows 0 to i. The output map starts at zero.

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

    def __call__(self, x: Float[Array, "token input"]) -> Float[Array, "token output"]:
        """All tokens at once; a sequence shorter than ``tokens`` is taken to be its beginning."""
        h = x.astype(self.embedding.dtype) @ self.embedding + self.positions[: x.shape[0]]
        arrays, rest = eqx.partition(self.layer, eqx.is_array)
        h, _ = jax.lax.scan(lambda h, leaves: (eqx.combine(leaves, rest)(h), None), h, arrays)
        return h @ self.output + self.output_bias

    def begin(self) -> Memory:
        """The memory before the first token."""
        empty = jnp.zeros((self.layer.feed_out_bias.shape[0], *self.positions.shape), self.positions.dtype)
        return Memory(empty, empty)

    def step(
        self, memory: Memory, x: Float[Array, " input"], place: Int[Array, ""]
    ) -> tuple[Memory, Float[Array, " output"]]:
        """Row ``place`` of the output, given that the rows before have been passed in order."""
        h = x.astype(self.embedding.dtype) @ self.embedding + self.positions[place]
        arrays, rest = eqx.partition(self.layer, eqx.is_array)

        def one_layer(carry, inputs):
            h, memory = carry
            leaves, number = inputs
            h, key, value = eqx.combine(leaves, rest).step(h, memory.keys[number], memory.values[number], place)
            memory = Memory(memory.keys.at[number, place].set(key), memory.values.at[number, place].set(value))
            return (h, memory), None

        numbers = jnp.arange(self.layer.feed_out_bias.shape[0])
        (h, memory), _ = jax.lax.scan(one_layer, (h, memory), (arrays, numbers))
        return memory, h @ self.output + self.output_bias


def normalised(h: Float[Array, "... channel"]) -> Float[Array, "... channel"]:
    """Mean zero and variance one along the last axis (arXiv 1607.06450, without gain and shift)."""
    centred = h - jnp.mean(h, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def attention(
    query: Float[Array, "token channel"],
    key: Float[Array, "token channel"],
    value: Float[Array, "token channel"],
    heads: int,
) -> Float[Array, "token channel"]:
    """softmax(q k^T / sqrt(d)) v over tokens up to the own one, in each of ``heads`` slices of the channels."""
    tokens, channels = query.shape
    query, key, value = (part.reshape(tokens, heads, -1) for part in (query, key, value))
    scores = jnp.einsum("thd,shd->hts", query * (channels // heads) ** -0.5, key)
    seen = jnp.tril(jnp.ones((tokens, tokens), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
    return jnp.einsum("hts,shd->thd", weights, value).reshape(tokens, channels)


def attention_of_one(query, key, value, keys, values, place, heads: int) -> Float[Array, " channel"]:
    """Row ``place`` of ``attention``, whose own key and value are not yet among ``keys`` and ``values`` (token, channel)."""
    tokens, channels = keys.shape
    query = query.reshape(heads, -1) * (channels // heads) ** -0.5
    scores = jnp.einsum("hd,shd->hs", query, keys.reshape(tokens, heads, -1))
    scores = jnp.where(jnp.arange(tokens) < place, scores, -jnp.inf)
    own = jnp.sum(query * key.reshape(heads, -1), axis=-1, keepdims=True)
    weights = jax.nn.softmax(jnp.concatenate([scores, own], axis=-1), axis=-1)
    mixed = jnp.einsum("hs,shd->hd", weights[:, :-1], values.reshape(tokens, heads, -1))
    return (mixed + weights[:, -1:] * value.reshape(heads, -1)).reshape(channels)


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
