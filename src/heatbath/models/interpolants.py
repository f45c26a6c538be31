"""Paths from noise to data: what a velocity net is trained to predict, and the drift that its prediction means."""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar


class Interpolant(eqx.Module):
    """y_t between noise z (t = 0) and data y (t = 1)."""

    @abc.abstractmethod
    def pair(
        self, z: Float[Array, "*shape"], y: Float[Array, "*shape"], t: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """y_t, and what the net should predict there."""

    @abc.abstractmethod
    def drift(self, prediction: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """dy/dt of the flow, from the prediction at (y_t, t)."""


class Straight(Interpolant):
    """Flow matching: y_t = (1 - t) z + t y, prediction y - z, dy/dt = prediction. Source: arXiv 2210.02747 (sigma_min = 0)."""

    def pair(self, z, y, t):
        return ((1 - t) * z + t * y).astype(y.dtype), y - z

    def drift(self, prediction):
        return prediction


class Diffusion(Interpolant):
    """Variance-preserving diffusion: y_t = sin(pi t/2) y + cos(pi t/2) z, v-prediction v = sin(pi t/2) z - cos(pi t/2) y.

    Its probability-flow equation is dy/dt = -(pi/2) v. Every variance-preserving noise schedule runs along this path in a time
    of its own, sin(pi t/2) = sqrt(alpha-bar), so that a noise schedule is a choice of time grid here.
    Sources: arXiv 2202.00512 (v-prediction, appendix D), arXiv 2011.13456 (probability flow).
    """

    def pair(self, z, y, t):
        angle = 0.5 * math.pi * t
        signal, noise = jnp.sin(angle), jnp.cos(angle)
        return (signal * y + noise * z).astype(y.dtype), (signal * z - noise * y).astype(y.dtype)

    def drift(self, prediction):
        return -0.5 * math.pi * prediction
