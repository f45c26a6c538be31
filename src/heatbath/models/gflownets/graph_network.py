"""A flow network for maximal independent sets that knows no graph by heart: message passing on what is still undecided."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from heatbath.models.gflownets.environments import IndependentSet
from heatbath.models.gflownets.network import Heads, masked_log_softmax


class Padded(NamedTuple):
    """Graphs of different sizes in arrays of one shape: adjacency (g, n, n), present (g, n)."""

    adjacency: np.ndarray
    present: np.ndarray

    def environments(self, most: int) -> IndependentSet:
        """All graphs stacked as one environment with a leading axis."""
        return jax.vmap(lambda a, p: IndependentSet(a, p, most))(jnp.asarray(self.adjacency), jnp.asarray(self.present))


def padded(graphs: list[np.ndarray]) -> Padded:
    """Adjacency matrices with absent vertices added to the smaller ones."""
    size = max(len(graph) for graph in graphs)
    adjacency, present = np.zeros((len(graphs), size, size), bool), np.zeros((len(graphs), size), bool)
    for number, graph in enumerate(graphs):
        adjacency[number, : len(graph), : len(graph)], present[number, : len(graph)] = graph, True
    return Padded(adjacency, present)


class Layer(eqx.Module):
    """h_i <- h_i + W2 relu(W1 [h_i, sum of neighbours' h_j / sqrt(1 + d_i)]), over undecided vertices."""

    inner: eqx.nn.Linear
    outer: eqx.nn.Linear

    def __init__(self, key: Key[Array, ""], width: int):
        first, second = jax.random.split(key)
        self.inner = eqx.nn.Linear(2 * width, width, key=first, dtype=jnp.float32)
        self.outer = eqx.nn.Linear(width, width, key=second, dtype=jnp.float32)

    def __call__(
        self, h: Float[Array, "n w"], edges: Float[Array, "n n"], degree: Float[Array, " n"]
    ) -> Float[Array, "n w"]:
        messages = edges @ h / jnp.sqrt(1.0 + degree)[:, None]
        inner = jax.nn.relu(jax.vmap(self.inner)(jnp.concatenate([h, messages], axis=1)))
        return h + jax.vmap(self.outer)(inner)


class GraphGFlowNet(eqx.Module):
    """Policy and flow of an ``IndependentSet`` from the graph of its undecided vertices, on which alone the rest depends.

    The same weights serve every graph: another one is another ``environment``. What a vertex starts with are functions of its
    number of undecided neighbours; ``layers`` pass messages; a linear map gives the logit of every vertex, the sum over vertices
    the log flow. Backward uniform over the vertices of the set. ``potentials`` see the degrees alone. In float32.

    ``scale`` multiplies logits, flow and potentials: with the beta of a reward exp(beta |S|), what is learned is of order one
    at any temperature.
    """

    environment: IndependentSet
    embed: eqx.nn.Linear
    layers: tuple[Layer, ...]
    out: eqx.nn.MLP
    pool: eqx.nn.MLP
    potentials: eqx.nn.MLP
    log_z: Float[Array, ""]
    scale: float = eqx.field(static=True, default=1.0)

    @staticmethod
    def create(
        key: Key[Array, ""], environment: IndependentSet, *, width: int = 32, depth: int = 3, scale: float = 1.0
    ) -> "GraphGFlowNet":
        """``depth`` layers, ``width`` wide."""
        keys = jax.random.split(key, depth + 4)
        options = {"depth": 1, "activation": jax.nn.relu, "dtype": jnp.float32}
        return GraphGFlowNet(
            environment,
            eqx.nn.Linear(_FEATURES, width, key=keys[0], dtype=jnp.float32),
            tuple(Layer(k, width) for k in keys[4:]),
            eqx.nn.MLP(width, "scalar", width, key=keys[1], **options),
            eqx.nn.MLP(width, "scalar", width, key=keys[2], **options),
            eqx.nn.MLP(_FEATURES, "scalar", 16, key=keys[3], **options),
            jnp.zeros((), jnp.float32),
            scale,
        )

    def heads(self, state: Int[Array, " n"]) -> Heads:
        """Everything about one state; see ``models.gflownets.network.GFlowNet.heads``."""
        env = self.environment
        free = (state == 0).astype(jnp.float32)
        edges = env.adjacency.astype(jnp.float32) * free[None, :] * free[:, None]
        degree = jnp.sum(edges, axis=1)
        seen = _features(degree, free)
        h = jax.vmap(self.embed)(seen)
        for layer in self.layers:
            h = layer(h, edges, degree)
        flow = self.scale * jnp.sum(free * jax.vmap(self.pool)(h))
        back = jnp.zeros_like(free)
        forward = masked_log_softmax(self.scale * jax.vmap(self.out)(h), env.allowed(state))
        potentials = self.scale * jax.vmap(self.potentials)(seen)
        return Heads(forward, masked_log_softmax(back, env.allowed_back(state)), flow, potentials)


_FEATURES = 5


def _features(degree: Float[Array, " n"], free: Float[Array, " n"]) -> Float[Array, "n f"]:
    """1, degree by ten, its logarithm, how far it is above the smallest, and the logarithm of how many vertices are free."""
    least = jnp.min(jnp.where(free > 0, degree, jnp.inf))
    above = jnp.where(free > 0, degree - jnp.where(jnp.isfinite(least), least, 0.0), 0.0)
    count = jnp.broadcast_to(jnp.log1p(jnp.sum(free)), degree.shape)
    return jnp.stack([jnp.ones_like(degree), degree / 10.0, jnp.log1p(degree), above / 5.0, count], axis=1)
