"""Invertible maps x = f(z) with tractable Jacobians: the ``Bijection`` contract and its combinators.

``log_det`` of x = f(z) is log|det df/dz|, as everywhere in the house. Methods act on ONE configuration; batch with
``jax.vmap``. Flows are chains of these laid over a base distribution (``models/flow.py``).
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, Scalar


class Bijection(eqx.Module):
    """An invertible map between spaces of the same dimension.

    ``forward(z) -> (x, log|det df/dz|)`` and ``inverse(x) -> (z, log|det df^-1/dx|)``; the two log determinants of a pair are
    negatives of each other. The dtype of the input is kept for x and z; log determinants may be wider. ``frozen`` classes hold
    constants: training leaves every array below them as it is.
    """

    frozen: ClassVar[bool] = False

    @abc.abstractmethod
    def forward(self, z: PyTree) -> tuple[PyTree, Scalar]:
        """x = f(z) and log|det df/dz|."""

    @abc.abstractmethod
    def inverse(self, x: PyTree) -> tuple[PyTree, Scalar]:
        """z = f^-1(x) and log|det df^-1/dx|."""


class Inverted(Bijection):
    """The same map the other way round."""

    bijection: Bijection

    def forward(self, z):
        return self.bijection.inverse(z)

    def inverse(self, x):
        return self.bijection.forward(x)


class Chain(Bijection):
    """f = f_n o ... o f_1: the first of ``bijections`` acts on the base variable first."""

    bijections: tuple[Bijection, ...]

    def forward(self, z):
        total = jnp.zeros(())
        for bijection in self.bijections:
            z, log_det = bijection.forward(z)
            total = total + log_det
        return z, total

    def inverse(self, x):
        total = jnp.zeros(())
        for bijection in reversed(self.bijections):
            x, log_det = bijection.inverse(x)
            total = total + log_det
        return x, total


class Stacked(Bijection):
    """Equal layers one after another, compiled once: every array of ``layer`` has a leading layer axis.

    Build it with ``eqx.filter_vmap(make)(keys)``. What distinguishes layers (masks, permutations) must be an array leaf, so
    that the scan carries it.
    """

    layer: Bijection

    def forward(self, z):
        return self._scan(z, reverse=False)

    def inverse(self, x):
        return self._scan(x, reverse=True)

    def _scan(self, value, *, reverse: bool):
        arrays, rest = eqx.partition(self.layer, eqx.is_array)

        def apply(carry, leaves):
            value, total = carry
            layer = eqx.combine(leaves, rest)
            value, log_det = layer.inverse(value) if reverse else layer.forward(value)
            return (value, total + log_det), None

        (value, total), _ = jax.lax.scan(apply, (value, jnp.zeros(())), arrays, reverse=reverse)
        return value, total


class Affine(Bijection):
    """x = shift + scale z, elementwise with a constant positive scale; shift and scale broadcast against z."""

    frozen: ClassVar[bool] = True

    shift: Float[Array, "..."]
    scale: Float[Array, "..."]

    def forward(self, z):
        return (self.shift + self.scale * z).astype(z.dtype), self._log_det(z)

    def inverse(self, x):
        return ((x - self.shift) / self.scale).astype(x.dtype), -self._log_det(x)

    def _log_det(self, value):
        return jnp.sum(jnp.log(jnp.broadcast_to(self.scale, value.shape)))


class Permutation(Bijection):
    """x_i = z_order[i] along the first axis; log det 0. ``order`` is a permutation of 0..n-1."""

    frozen: ClassVar[bool] = True

    order: Int[Array, " n"]

    def forward(self, z):
        return z[self.order], jnp.zeros(())

    def inverse(self, x):
        return x[jnp.argsort(self.order)], jnp.zeros(())
