"""Velocity nets v(x, t): the contract, a residual perceptron for vectors, and gated linear experts.

Nets compute in the type of their weights (float32 unless said otherwise) and return the shape of x.
"""

import abc
import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.nets.residual import Dense, ResidualNetwork


class Velocity(eqx.Module):
    """A field ``velocity(x, t)`` for one configuration x and a time t in [0, 1]; the output has the shape of x."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*shape"], t: Scalar) -> Float[Array, "*shape"]: ...


def time_features(t: Scalar, count: int) -> Float[Array, " count"]:
    """cos(pi j t) for j = 0 ... count/2 - 1 and sin(pi (j + 1/2) t): smooth functions on [0, 1] that need no period."""
    j = jnp.arange(count // 2, dtype=t.dtype)
    return jnp.concatenate([jnp.cos(math.pi * j * t), jnp.sin(math.pi * (j + 0.5) * t)])


class ResidualVelocity(Velocity):
    """v(x, t) = a(t) * x + network(x, time features): a residual perceptron with a linear skip that depends on time.

    The skip a(t), one number per coordinate and linear in the time features, carries the part that any flow from a normal
    law has. Both begin at zero.
    """

    network: ResidualNetwork
    skip: Dense
    features: int = eqx.field(static=True)

    @staticmethod
    def create(
        key: Key[Array, ""], dimension: int, *, width: int, depth: int, features: int = 32, dtype=jnp.float32
    ) -> "ResidualVelocity":
        """``depth`` residual layers of ``width``; raises ``InvalidArgumentError`` for sizes that are not positive."""
        key_network, key_skip = jax.random.split(key)
        network = ResidualNetwork.create(
            key_network, dimension + features, dimension, width=width, depth=depth, dtype=dtype
        )
        return ResidualVelocity(network, Dense.create(key_skip, features, dimension, gain=0.0, dtype=dtype), features)

    def __call__(self, x: Float[Array, "*shape"], t: Scalar) -> Float[Array, "*shape"]:
        flat = x.reshape(-1).astype(self.skip.weight.dtype)
        phi = time_features(jnp.asarray(t, flat.dtype), self.features)
        return (self.skip(phi) * flat + self.network(jnp.concatenate([flat, phi]))).reshape(x.shape)


class GatedLinearVelocity(Velocity):
    """v(x, t) = sum_e p_e(x, t) [ U_e diag(a_e(t)) U_e^T x + b_e(t) ] + c(t) * x, p = softmax of a small network of x and t.

    Experts that are linear in x with a symmetric matrix, whose eigenvalues follow time; the gate decides between them. One
    hidden layer whose units are switched by the gate, in other words; with as many experts as modes the exact field of a
    mixture of normals is one of its values. The eigenvalue of unit j is a_j(t) = d(t).c(s_j), with one number s_j per unit and
    two small networks that all units share; b_e(t) is a small network of t. U_e is ``vectors``/sqrt(d), so that an
    optimiser's step of equal size per number means the same in every dimension.
    """

    vectors: Float[Array, "d hidden"]
    marks: Float[Array, " hidden"]
    times: ResidualNetwork
    units: ResidualNetwork
    shifts: ResidualNetwork
    gate: ResidualNetwork
    skip: Dense
    experts: int = eqx.field(static=True)
    features: int = eqx.field(static=True)

    @staticmethod
    def create(
        key: Key[Array, ""],
        dimension: int,
        *,
        experts: int = 2,
        rank: int | None = None,
        gate_width: int = 64,
        products: int = 16,
        features: int = 32,
        dtype=jnp.float32,
    ) -> "GatedLinearVelocity":
        """``experts`` matrices of ``rank`` (all of the dimension unless given); eigenvalues and shifts begin at zero.

        ``products`` is the length of d(t) and c(s).
        """
        rank = dimension if rank is None else rank
        keys = iter(jax.random.split(key, 7))
        vectors = jax.random.normal(next(keys), (dimension, experts * rank), dtype)
        marks = jax.random.normal(next(keys), (experts * rank,), dtype)

        def network(inputs, outputs, gain):
            return ResidualNetwork.create(
                next(keys), inputs, outputs, width=gate_width, depth=1, gain=gain, dtype=dtype
            )

        return GatedLinearVelocity(
            vectors,
            marks,
            network(features, products, 0.0),
            network(1, products, 1.0),
            network(features, experts * dimension, 0.0),
            network(dimension + features, experts, 1.0),
            Dense.create(next(keys), features, dimension, gain=0.0, dtype=dtype),
            experts,
            features,
        )

    def __call__(self, x: Float[Array, "*shape"], t: Scalar) -> Float[Array, "*shape"]:
        flat = x.reshape(-1).astype(self.vectors.dtype)
        phi = time_features(jnp.asarray(t, flat.dtype), self.features)
        gate = jax.nn.softmax(self.gate(jnp.concatenate([flat, phi])))
        rates = self.units(self.marks[:, None]) @ self.times(phi)
        switched = (rates.reshape(self.experts, -1) * gate[:, None]).reshape(-1)
        hidden = switched * (flat @ self.vectors) / flat.size
        shift = gate @ self.shifts(phi).reshape(self.experts, -1)
        return (self.vectors @ hidden + shift + self.skip(phi) * flat).reshape(x.shape)

    def along(self, axes: Float[np.ndarray, "expert d d"], variances: Float[np.ndarray, "expert d"]):
        """The same net with ``axes[e][:, i]`` as the unit vectors of expert e and s = log variance along them.

        A start at the principal axes of clusters of the data (``cluster_axes``).
        """
        axes = np.asarray(axes)
        vectors = math.sqrt(axes.shape[1]) * np.concatenate(list(axes), axis=1)
        if vectors.shape != self.vectors.shape:
            raise InvalidArgumentError(f"expected axes for vectors {self.vectors.shape}; found {vectors.shape}")
        marks = np.log(np.maximum(np.asarray(variances).reshape(-1), 1e-6))
        dtype = self.vectors.dtype
        return dataclasses.replace(self, vectors=jnp.asarray(vectors, dtype), marks=jnp.asarray(marks, dtype))


def cluster_axes(
    data: Float[np.ndarray, "n d"], standardise, experts: int = 2, *, rounds: int = 10
) -> tuple[Float[np.ndarray, "expert d d"], Float[np.ndarray, "expert d"]]:
    """Principal axes, and variances along them, of ``experts`` clusters of ``data`` after ``standardise`` (n, d) -> (n, d).

    Clusters by ``rounds`` of Lloyd's algorithm on the raw data, begun at quantiles of their first principal component.
    """
    centred = data - data.mean(axis=0)
    first = np.linalg.eigh(np.cov(centred[:10_000].T))[1][:, -1]
    order = np.argsort(centred @ first)
    centres = np.stack([data[part].mean(axis=0) for part in np.array_split(order, experts)])
    for _ in range(rounds):
        labels = np.argmin(np.sum(centres**2, axis=1) - 2 * data @ centres.T, axis=1)
        centres = np.stack([data[labels == e].mean(axis=0) for e in range(experts)])
    found = [np.linalg.eigh(np.cov(standardise(data[labels == e]).T)) for e in range(experts)]
    return np.stack([axes for _, axes in found]), np.stack([variances for variances, _ in found])
