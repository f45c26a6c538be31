"""Constant maps that bring data to zero mean and unit width before a flow sees them, and back."""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError
from heatbath.models.bijections import Affine, Bijection


class Scaled(Bijection):
    """x = C + scale (z - C) for particles (n, d) with mean C: sizes change, the mean does not. log det = (n - 1) d log scale."""

    frozen: ClassVar[bool] = True

    scale: Float[Array, ""]

    def forward(self, z):
        return self._apply(z, self.scale), self._log_det(z)

    def inverse(self, x):
        return self._apply(x, 1 / self.scale), -self._log_det(x)

    @staticmethod
    def _apply(z, scale):
        centre = jnp.mean(z, axis=0, keepdims=True)
        return (centre + scale * (z - centre)).astype(z.dtype)

    def _log_det(self, z):
        return (z.shape[0] - 1) * z.shape[1] * jnp.log(self.scale)


class Whitening(Bijection):
    """x = mean + root z with a constant symmetric positive matrix ``root``, the square root of a covariance (d, d)."""

    frozen: ClassVar[bool] = True

    mean: Float[Array, " d"]
    root: Float[Array, "d d"]
    inverse_root: Float[Array, "d d"]
    log_det: Float[Array, ""]

    def __init__(self, mean, covariance):
        values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
        if not (values > 0).all():
            raise InvalidArgumentError("the covariance must be positive definite: give more data than dimensions")
        self.mean = jnp.asarray(mean, dtype=float)
        self.root = jnp.asarray((vectors * np.sqrt(values)) @ vectors.T, dtype=float)
        self.inverse_root = jnp.asarray((vectors / np.sqrt(values)) @ vectors.T, dtype=float)
        self.log_det = jnp.asarray(0.5 * np.sum(np.log(values)), dtype=float)

    def forward(self, z):
        return self.mean.astype(z.dtype) + self.root.astype(z.dtype) @ z, self.log_det

    def inverse(self, x):
        return self.inverse_root.astype(x.dtype) @ (x - self.mean.astype(x.dtype)), -self.log_det


def standardisation(
    shape: tuple[int, ...], data: Any = None, *, particles: bool = False, whiten: bool = False
) -> Bijection:
    """The map from standardised coordinates to those of ``data`` (m, *shape); the identity, in equal arrays, without data.

    ``particles`` (n, d) get one scale for all coordinates relative to their mean; vectors one shift and scale per coordinate or,
    with ``whiten``, the square root of their covariance. Raises ``InvalidArgumentError`` for data of another shape.
    """
    values = None if data is None else np.asarray(data, dtype=np.float64)
    if values is not None and values.shape[1:] != tuple(shape):
        raise InvalidArgumentError(f"expected data of shape (m, {', '.join(map(str, shape))}); found {values.shape}")
    if particles:
        scale = 1.0 if values is None else np.std(values - values.mean(axis=1, keepdims=True))
        return Scaled(jnp.asarray(scale, dtype=float))
    if whiten:
        size = math.prod(shape)
        mean = np.zeros(size) if values is None else values.mean(axis=0)
        return Whitening(mean, np.eye(size) if values is None else np.cov(values.T).reshape(size, size))
    shift = np.zeros(shape) if values is None else values.mean(axis=0)
    scale = np.ones(shape) if values is None else values.std(axis=0)
    return Affine(jnp.asarray(shift, dtype=float), jnp.asarray(scale, dtype=float))
