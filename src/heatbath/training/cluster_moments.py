"""Means and covariances of clusters of data, of as many draws as one likes: memory does not grow with them.

A covariance in D dimensions from n draws is off by D^2/n in squared relative Frobenius norm, which is what a density made with it
costs in the variance of log-weights (half of it). In 1000 dimensions that asks for a million draws of each cluster.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.process import Chunk, Process
from heatbath.random import named_key
from heatbath.training.sources import source_of


class MomentsCarry(NamedTuple):
    """Cluster centres, which decide, and sums over the draws that are nearest to each, relative to its centre."""

    centres: Float[Array, "cluster d"]
    counts: Float[Array, " cluster"]
    sums: Float[Array, "cluster d"]
    products: Float[Array, "cluster d d"]
    step: Int[Array, ""]
    key: Array


class Moments(NamedTuple):
    """Share, mean and covariance of every cluster, in float64 on the host."""

    shares: Float[np.ndarray, " cluster"]
    means: Float[np.ndarray, "cluster d"]
    covariances: Float[np.ndarray, "cluster d d"]

    @property
    def mean(self) -> Float[np.ndarray, " d"]:
        """Mean of all data."""
        return self.shares @ self.means

    @property
    def pooled(self) -> Float[np.ndarray, "d d"]:
        """Mean covariance within clusters."""
        return np.einsum("k,kij->ij", self.shares, self.covariances)

    def common_axes(self, linear: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Axes (d, d) in columns, variances along them (cluster, d) and centres after y = linear (x - mean), for two clusters.

        ``linear`` must make the pooled covariance the identity, which gives both clusters the same axes. Raises
        ``InvalidArgumentError`` for another number of clusters.
        """
        if len(self.shares) != 2:
            raise InvalidArgumentError(f"two clusters have common axes; found {len(self.shares)}")
        first, axes = np.linalg.eigh(linear @ self.covariances[0] @ linear.T)
        second = np.einsum("ij,ij->j", axes, linear @ self.covariances[1] @ linear.T @ axes)
        return axes, np.stack([first, second]), (self.means - self.mean) @ linear.T


class ClusterMoments(Process):
    """Sums over ``draws`` vectors (d,) from ``source``, ``batch_size`` at a time.

    The first batch is clustered by ``rounds`` of Lloyd's algorithm, begun at quantiles of its first principal component; each
    draw counts for the nearest centre. Sums run in float64 over products of float32.
    Raises ``InvalidArgumentError`` for counts below one.
    """

    source: Any
    draws: int
    batch_size: int = eqx.field(static=True)
    clusters: int = eqx.field(static=True)
    rounds: int = eqx.field(static=True)

    def __init__(self, data: Any, *, draws: int, batch_size: int = 10_000, clusters: int = 2, rounds: int = 10):
        for name, value in (("draws", draws), ("batch_size", batch_size), ("clusters", clusters), ("rounds", rounds)):
            if value < 1:
                raise InvalidArgumentError(f"{name} must be at least 1; found {value}")
        self.source, self.draws, self.clusters, self.rounds = source_of(data), draws, clusters, rounds
        self.batch_size = min(batch_size, draws)

    def begin(self, key: Key[Array, ""]) -> MomentsCarry:
        key = jax.random.key_data(named_key(key, "cluster moments"))
        centres = jnp.asarray(lloyd(np.asarray(_batch(self, key, jnp.asarray(0))), self.clusters, self.rounds))
        zeros = jnp.zeros((*centres.shape, centres.shape[1]))
        return MomentsCarry(centres, zeros[:, 0, 0], zeros[:, 0], zeros, jnp.zeros((), jnp.int32), key)

    def advance(self, carry: MomentsCarry) -> tuple[MomentsCarry, Chunk]:
        carry = _add(self, carry)
        drawn = int(carry.step) * self.batch_size
        smallest = float(np.asarray(carry.counts).min()) / drawn
        return carry, Chunk("training", {}, {"evaluations": 0.0, "drawn": drawn, "smallest_share": smallest})

    def finished(self, carry: MomentsCarry) -> bool:
        return int(carry.step) * self.batch_size >= self.draws

    def progress(self, carry: MomentsCarry) -> float:
        return min(1.0, int(carry.step) * self.batch_size / self.draws)

    def moments(self, carry: MomentsCarry) -> Moments:
        """What the sums say; raises ``InvalidArgumentError`` when a cluster has too few draws for a covariance."""
        counts, products = np.asarray(carry.counts, np.float64), np.asarray(carry.products, np.float64)
        if not (counts > products.shape[1]).all():
            raise InvalidArgumentError(
                f"a covariance in {products.shape[1]} dimensions needs more draws than that in every cluster; "
                f"found {counts.astype(int).tolist()}"
            )
        away = np.asarray(carry.sums, np.float64) / counts[:, None]
        covariances = products / counts[:, None, None] - np.einsum("ki,kj->kij", away, away)
        return Moments(counts / counts.sum(), np.asarray(carry.centres, np.float64) + away, covariances)


def lloyd(data: Float[np.ndarray, "n d"], clusters: int, rounds: int) -> Float[np.ndarray, "cluster d"]:
    """Centres of clusters by ``rounds`` of Lloyd's algorithm, begun at quantiles of the first principal component."""
    data = data.astype(np.float32)
    centred = data - data.mean(axis=0)
    first = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    first = first * np.sign(first[np.argmax(np.abs(first))])  # so that the order of clusters is no accident
    order = np.argsort(centred @ first)
    centres = np.stack([data[part].mean(axis=0) for part in np.array_split(order, clusters)])
    for _ in range(rounds):
        labels = np.argmin(np.sum(centres**2, axis=1) - 2 * data @ centres.T, axis=1)
        centres = np.stack(
            [data[labels == k].mean(axis=0) if (labels == k).any() else centres[k] for k in range(clusters)]
        )
    return centres


@eqx.filter_jit
def _batch(process: ClusterMoments, key: Array, step: Scalar) -> Array:
    key = jax.random.wrap_key_data(key)
    memory = process.source.remember(key, step, process.batch_size)
    return process.source.batch(key, memory, step, process.batch_size)[1].astype(jnp.float32)


@eqx.filter_jit
def _add(process: ClusterMoments, carry: MomentsCarry) -> MomentsCarry:
    x = _batch(process, carry.key, carry.step)
    centres = carry.centres.astype(jnp.float32)
    labels = jnp.argmin(jnp.sum(centres**2, axis=1) - 2 * x @ centres.T, axis=1)

    def sums(index):
        member = (labels == index).astype(jnp.float32)
        away = (x - centres[index]) * member[:, None]
        return jnp.sum(member), jnp.sum(away, axis=0), away.T @ away

    found = jax.lax.map(sums, jnp.arange(process.clusters))
    counts, totals, products = (
        old + new.astype(old.dtype) for old, new in zip((carry.counts, carry.sums, carry.products), found, strict=True)
    )
    return MomentsCarry(carry.centres, counts, totals, products, carry.step + 1, carry.key)
