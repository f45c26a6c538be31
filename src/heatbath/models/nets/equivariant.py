"""A velocity net for particles that turns with them: an E(n)-equivariant graph network over all pairs.

It commutes with rotations, reflections and shifts, so that a flow made of it has a density that does not change under them.
Mirror images come with the rotations: for a chiral molecule they are draws of weight zero.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.nets.residual import Dense
from heatbath.models.nets.velocity import Velocity, time_features


class EquivariantLayer(eqx.Module):
    """m_ij = phi_e(h_i, h_j, d_ij^2), x_i += mean_j (x_i - x_j)/(d_ij + 1) phi_x(m_ij), h_i += phi_h(h_i, sum_j e_ij m_ij).

    e_ij = sigmoid(a.m_ij) is attention between nodes. Source: Satorras et al., arXiv 2102.09844, equations 3 to 6.
    """

    receive: Dense
    send: Dense
    distance: Float[Array, " hidden"]
    message: Dense
    attention: Dense
    coordinate: Dense
    push: Dense
    node: Dense
    node_out: Dense

    @staticmethod
    def create(key: Key[Array, ""], hidden: int, dtype) -> "EquivariantLayer":
        """A fresh layer whose positions do not move yet."""
        keys = jax.random.split(key, 8)

        def dense(index, inputs, outputs, gain=1.0):
            return Dense.create(keys[index], inputs, outputs, gain=gain, dtype=dtype)

        return EquivariantLayer(
            dense(0, hidden, hidden),
            dense(1, hidden, hidden, 0.5),
            jnp.full(hidden, 0.1, dtype),
            dense(2, hidden, hidden),
            dense(3, hidden, 1),
            dense(4, hidden, hidden),
            dense(5, hidden, 1, 0.0),
            dense(6, 2 * hidden, hidden),
            dense(7, hidden, hidden, 0.3),
        )

    def __call__(
        self, x: Float[Array, "n axes"], h: Float[Array, "n hidden"]
    ) -> tuple[Float[Array, "n axes"], Float[Array, "n hidden"]]:
        count = x.shape[0]
        others = 1.0 - jnp.eye(count, dtype=x.dtype)
        apart = x[:, None] - x[None]
        squared = jnp.sum(apart**2, axis=-1)
        # the diagonal is set to one before the root, whose slope at zero is infinite
        length = jnp.sqrt(squared * others + jnp.eye(count, dtype=x.dtype))
        # the first layer acts on the concatenation of h_i, h_j and d^2, taken apart so that it costs n products, not n^2
        edge = self.receive(h)[:, None] + self.send(h)[None] + squared[..., None] * self.distance
        messages = jax.nn.silu(self.message(jax.nn.silu(edge)))
        strength = self.push(jax.nn.silu(self.coordinate(messages)))[..., 0] * others
        x = x + jnp.sum(apart * (strength / (length + 1.0))[..., None], axis=1) / (count - 1)
        weights = jax.nn.sigmoid(self.attention(messages)) * others[..., None]
        gathered = jnp.sum(weights * messages, axis=1)
        return x, h + self.node_out(jax.nn.silu(self.node(jnp.concatenate([h, gathered], axis=-1))))


class EquivariantVelocity(Velocity):
    """v(x, t) = x_L - x_0 over ``layers`` equal layers; nodes begin with an embedding of their kind and of the time.

    ``kinds`` (n,) tells particles apart: elements, or a number of its own for every atom of a molecule. Layers are scanned, so
    that compile time does not grow with their number.
    """

    embedding: Float[Array, "kind hidden"]
    time: Dense
    layers: EquivariantLayer
    kinds: Int[Array, " n"]
    features: int = eqx.field(static=True)

    @staticmethod
    def create(
        key: Key[Array, ""],
        kinds,
        *,
        hidden: int = 64,
        layers: int = 4,
        features: int = 32,
        dtype=jnp.float32,
    ) -> "EquivariantVelocity":
        """``kinds``: integers 0, 1, ... of the particles. Raises ``InvalidArgumentError`` for sizes that are not positive."""
        kinds = jnp.asarray(kinds, jnp.int32)
        if kinds.ndim != 1 or kinds.size < 2 or min(hidden, layers) < 1:
            raise InvalidArgumentError(
                f"expected the kinds (n,) of at least two particles, hidden >= 1 and layers >= 1; found shape {kinds.shape}, "
                f"{hidden} and {layers}"
            )
        key_embedding, key_time, key_layers = jax.random.split(key, 3)
        embedding = jax.random.normal(key_embedding, (int(kinds.max()) + 1, hidden), dtype)
        stack = eqx.filter_vmap(lambda key: EquivariantLayer.create(key, hidden, dtype))
        return EquivariantVelocity(
            embedding,
            Dense.create(key_time, features, hidden, dtype=dtype),
            stack(jax.random.split(key_layers, layers)),
            kinds,
            features,
        )

    def __call__(self, x: Float[Array, "n axes"], t: Scalar) -> Float[Array, "n axes"]:
        dtype = self.embedding.dtype
        start = x.astype(dtype)
        h = self.embedding[self.kinds] + self.time(time_features(jnp.asarray(t, dtype), self.features))
        arrays, rest = eqx.partition(self.layers, eqx.is_array)

        def apply(carry, leaves):
            return eqx.combine(leaves, rest)(*carry), None

        (moved, _), _ = jax.lax.scan(apply, (start, h), arrays)
        return moved - start
