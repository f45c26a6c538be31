"""Where a continuous flow moves: all of R^D, or the configurations of particles whose mean stays where it is.

Velocities are projected into the subspace, directions of flow perturbation are drawn isotropically in it, and its dimension D is
the exponent of their stretch (3N - 3 for N particles whose centre does not move, never 3N).
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution

_LOG_TWO_PI = math.log(2 * math.pi)


class Subspace(eqx.Module):
    """A linear subspace of the arrays of one ``shape``, with the Euclidean metric.

    ``project(v)`` is the orthogonal projection, ``basis()`` an orthonormal basis (D, *shape), ``dimension`` its size D.
    """

    shape: eqx.AbstractVar[tuple[int, ...]]

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """D."""

    @abc.abstractmethod
    def project(self, v: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The part of ``v`` that lies in the subspace."""

    @abc.abstractmethod
    def basis(self) -> Float[np.ndarray, "D *shape"]:
        """Orthonormal vectors that span the subspace."""

    def normal(self, key: Key[Array, ""], dtype=None) -> Float[Array, "*shape"]:
        """A standard normal vector of the subspace."""
        return self.project(jax.random.normal(key, self.shape, dtype or jnp.result_type(float)))

    def direction(self, key: Key[Array, ""], dtype=None) -> Float[Array, "*shape"]:
        """A unit vector, uniform on the sphere of the subspace."""
        v = self.normal(key, dtype)
        return v / jnp.sqrt(jnp.sum(v**2))


class FullSpace(Subspace):
    """All arrays of a shape."""

    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def dimension(self) -> int:
        return math.prod(self.shape)

    def project(self, v):
        return v

    def basis(self):
        return np.eye(self.dimension).reshape(-1, *self.shape)


class MeanFree(Subspace):
    """Particles (n, d) whose mean is zero: D = n d - d. Raises ``InvalidArgumentError`` for fewer than two particles."""

    shape: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        if len(self.shape) != 2 or self.shape[0] < 2:
            raise InvalidArgumentError(f"expected the shape (n, d) of at least two particles; found {self.shape}")

    @property
    def dimension(self) -> int:
        return (self.shape[0] - 1) * self.shape[1]

    def project(self, v):
        return v - jnp.mean(v, axis=0, keepdims=True)

    def basis(self):
        """Helmert's vectors (1, ..., 1, -k, 0, ...)/sqrt(k (k + 1)) for every coordinate axis."""
        count, axes = self.shape
        rows = np.tril(np.ones((count - 1, count)))
        k = np.arange(1, count)
        rows[k - 1, k] = -k
        rows /= np.sqrt(k * (k + 1.0))[:, None]
        return np.einsum("ki,ab->kaib", rows, np.eye(axes)).reshape(-1, count, axes)


class SubspaceNormal(Distribution):
    """Standard normal in the subspace; for particles, the mean is placed by N(0, centre_scale^2 I).

    log q0(z) = -|z_s|^2/2 - (D/2) log 2 pi  [- |C|^2/(2 s^2) - (d/2) log(2 pi s^2 n)],  z_s the part in the subspace, C the mean.
    The factor n in the last term makes q0 normalised over all of R^(n d): the coordinate orthogonal to the subspace is
    sqrt(n) C. Draws have the type ``dtype``; log densities are summed in the default floating type.
    """

    subspace: Subspace
    centre_scale: float | None = eqx.field(static=True, default=None)
    dtype: str = eqx.field(static=True, default="float32")

    def __check_init__(self):
        if isinstance(self.subspace, MeanFree) and not (self.centre_scale and self.centre_scale > 0):
            raise InvalidArgumentError(
                f"particles need centre_scale > 0, the width of the law of their mean; found {self.centre_scale}"
            )
        if isinstance(self.subspace, FullSpace) and self.centre_scale is not None:
            raise InvalidArgumentError("a normal over the full space has no separate mean: leave centre_scale out")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*shape"]:
        key_inside, key_centre = jax.random.split(key)
        dtype = jnp.dtype(self.dtype)
        z = self.subspace.normal(key_inside, dtype)
        if self.centre_scale is not None:
            z = z + self.centre_scale * jax.random.normal(key_centre, self.subspace.shape[1:], dtype)
        return z

    def log_prob(self, x: Float[Array, "*shape"]) -> Scalar:
        z = x.astype(jnp.result_type(float))
        inside = self.subspace.project(z)
        value = -0.5 * jnp.sum(inside**2) - 0.5 * self.subspace.dimension * _LOG_TWO_PI
        if self.centre_scale is not None:
            centre, scale = jnp.mean(z, axis=0), self.centre_scale
            variance = scale**2 * self.subspace.shape[0]
            value = value - 0.5 * jnp.sum((centre / scale) ** 2) - 0.5 * z.shape[1] * math.log(2 * math.pi * variance)
        return value

    def rotated(
        self, z: Float[Array, "*shape"], noise: Float[Array, "*shape"], angle: Scalar
    ) -> Float[Array, "*shape"]:
        """cos(angle) z + sin(angle) noise: for noise ~ q0 a move that leaves q0 invariant and is reversible (Crank-Nicolson)."""
        return (jnp.cos(angle) * z + jnp.sin(angle) * noise).astype(z.dtype)
