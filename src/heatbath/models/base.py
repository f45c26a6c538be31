"""Learned or closed-form distributions whose density can be evaluated."""

import abc
from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key, PyTree, Scalar


class Distribution(eqx.Module):
    """A normalised density one can draw from. Methods act on one configuration; batch with ``jax.vmap``.

    ``frozen`` classes hold constants: training leaves every array below them as it is.
    """

    frozen: ClassVar[bool] = False

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""]) -> PyTree:
        """One draw."""

    @abc.abstractmethod
    def log_prob(self, x: PyTree) -> Scalar:
        """Normalised log density of ``x``."""

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[PyTree, Scalar]:
        """One draw and its log density; override where both are cheaper together."""
        x = self.sample(key)
        return x, self.log_prob(x)

    def log_probs(self, xs: PyTree) -> Float[Array, " batch"]:
        """``log_prob`` of a batch (leading axis of every array); overridden where that is measurably faster than ``jax.vmap``."""
        return jax.vmap(self.log_prob)(xs)
