"""Paths from noise to data: what a velocity net is trained to predict, and the drift that its prediction means."""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar


class Interpolant(eqx.Module):
    """y_t between noise z (t = 0) and data y (t = 1)."""

    @abc.abstractmethod
    def place(self, t: Scalar) -> tuple[Scalar, Scalar]:
        """(signal, noise): y_t = signal y + noise z."""

    @abc.abstractmethod
    def target(self, t: Scalar) -> tuple[Scalar | float, Scalar | float]:
        """(a, b): the net should predict a y + b z."""

    def pair(
        self, z: Float[Array, "*shape"], y: Float[Array, "*shape"], t: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """y_t, and what the net should predict there."""
        (signal, noise), (a, b) = self.place(t), self.target(t)
        return (signal * y + noise * z).astype(y.dtype), (a * y + b * z).astype(y.dtype)

    def of_normal(self, variance: Float[Array, "*n"], t: Scalar) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
        """For data from N(0, variance): the variance of y_t, and E[prediction | y_t] / y_t."""
        (signal, noise), (a, b) = self.place(t), self.target(t)
        widened = signal**2 * variance + noise**2
        return widened, (a * signal * variance + b * noise) / widened

    @abc.abstractmethod
    def drift(self, prediction: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """dy/dt of the flow, from the prediction at (y_t, t)."""


class Straight(Interpolant):
    """Flow matching: y_t = (1 - t) z + t y, prediction y - z, dy/dt = prediction. Source: arXiv 2210.02747 (sigma_min = 0)."""

    def place(self, t):
        return t, 1 - t

    def target(self, t):
        return 1.0, -1.0

    def drift(self, prediction):
        return prediction


class Diffusion(Interpolant):
    """Variance-preserving diffusion: y_t = sin(pi t/2) y + cos(pi t/2) z, v-prediction v = sin(pi t/2) z - cos(pi t/2) y.

    Its probability-flow equation is dy/dt = -(pi/2) v. Every variance-preserving noise schedule runs along this path in a time
    of its own, sin(pi t/2) = sqrt(alpha-bar), so that a noise schedule is a choice of time grid here.
    Sources: arXiv 2202.00512 (v-prediction, appendix D), arXiv 2011.13456 (probability flow).
    """

    def place(self, t):
        return jnp.sin(0.5 * math.pi * t), jnp.cos(0.5 * math.pi * t)

    def target(self, t):
        signal, noise = self.place(t)
        return -noise, signal

    def drift(self, prediction):
        return -0.5 * math.pi * prediction
