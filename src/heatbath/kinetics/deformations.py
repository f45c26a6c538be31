"""Homoenergetic flows: how peculiar velocities change between collisions, dw/dt = -L(t) w with L(t) = L0 (I + t L0)^-1.

Simple shear is treated in logarithms and reaches any time; the other classes (dilatation, combined shear, any L0) use
ordinary numbers and stop at exp(200).
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.collisions import Velocity
from heatbath.kinetics.jump_process import Flight, log_difference


class Deformation(eqx.Module):
    """The flight map of peculiar velocities, and how far ahead speeds can be bounded."""

    @property
    @abc.abstractmethod
    def last_log_time(self) -> float:
        """log of the last time that may be asked for."""

    @abc.abstractmethod
    def carried(self, flight: Flight) -> Velocity:
        """The velocity now; ``flight.state`` is the one at the start of the flight."""

    @abc.abstractmethod
    def look_ahead(self, flight: Flight, log_length: Scalar, log_least: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """(log of a length, log of the smallest and of the largest speed within it).

        The length is ``log_length`` or shorter where speeds change much within it, but never shorter than ``log_least`` for
        that reason alone.
        """

    @abc.abstractmethod
    def slowest_ahead(self, flight: Flight) -> Scalar:
        """log of the smallest speed on the rest of the flight, where it is known in closed form; else of the speed now."""


class SimpleShear(Deformation):
    """L = K e1 (x) e2: w1(s) = w1 - K w2 s. ``rate`` is K > 0 (0: no flow)."""

    rate: Float[Array, ""]

    def __init__(self, rate: Any):
        if not isinstance(rate, Array) and not (np.isfinite(rate) and rate >= 0):
            raise InvalidArgumentError(f"the shear rate must be finite and not negative; found {rate}")
        self.rate = jnp.asarray(rate, jnp.result_type(float))

    @property
    def last_log_time(self) -> float:
        return math.inf

    def carried(self, flight: Flight) -> Velocity:
        w = flight.state
        log_strain = jnp.log(self.rate) + flight.log_elapsed
        shift = jnp.maximum(log_strain, 0.0)
        first = w.vector[0] * jnp.exp(-shift) - w.vector[1] * jnp.exp(log_strain - shift)
        vector = jnp.stack([first, w.vector[1] * jnp.exp(-shift), w.vector[2] * jnp.exp(-shift)])
        return Velocity(vector, w.log_scale + shift)

    def slowest_ahead(self, flight: Flight) -> Scalar:
        w = flight.state
        across = w.log_scale + 0.5 * jnp.log(w.vector[1] ** 2 + w.vector[2] ** 2)
        return jnp.where(self._log_minimum(w) > flight.log_elapsed, across, self._log_speed(flight, flight.log_elapsed))

    def _log_minimum(self, w: Velocity) -> Scalar:
        """log of the time at which |w|^2, a parabola, is smallest: w1 / (K w2); -inf where that is not after the start."""
        strain = self.rate * w.vector[1]
        ahead = (w.vector[0] * strain > 0) & (strain != 0)
        return jnp.where(ahead, jnp.log(jnp.where(ahead, w.vector[0] / jnp.where(ahead, strain, 1.0), 1.0)), -jnp.inf)

    def look_ahead(self, flight: Flight, log_length: Scalar, log_least: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        now, log_minimum = flight.log_elapsed, self._log_minimum(flight.state)
        halfway = log_difference(log_minimum, now) - jnp.log(2.0)
        shortened = jnp.minimum(log_length, jnp.maximum(halfway, log_least))
        log_length = jnp.where(log_minimum > now, shortened, log_length)
        end = jnp.logaddexp(now, log_length)
        lowest = self._log_speed(flight, jnp.clip(log_minimum, now, end))
        return log_length, lowest, jnp.maximum(self._log_speed(flight, now), self._log_speed(flight, end))

    def _log_speed(self, flight: Flight, log_elapsed: Scalar) -> Scalar:
        return self.carried(flight._replace(log_elapsed=log_elapsed)).log_speed


class Homoenergetic(Deformation):
    """Any L0: w(t + s) = (I + s L(t))^-1 w(t), with L(t) = L0 adj(I + t L0) / det(I + t L0).

    ``gradient`` is L0 (3, 3). Shear is K e1 (x) e2, dilatation c I or c e (x) e; a negative c makes the gas implode at a finite
    time, which is ``last_log_time``. Where L(t) does not decay the cost grows with time; use ``SimpleShear`` for simple shear.
    """

    gradient: Float[Array, "3 3"]
    last: float = eqx.field(static=True)

    def __init__(self, gradient: Any):
        matrix = np.asarray(gradient, float)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise InvalidArgumentError(f"a velocity gradient is a finite 3 x 3 matrix; found shape {matrix.shape}")
        self.gradient = jnp.asarray(matrix, jnp.result_type(float))
        self.last = min(200.0, _implosion(matrix))

    @property
    def last_log_time(self) -> float:
        return self.last

    def gradient_at(self, log_time: Scalar) -> Float[Array, "3 3"]:
        """L(t)."""
        time = jnp.exp(jnp.minimum(log_time, 201.0))
        return self.gradient @ _inverse(self.gradient, time)

    def carried(self, flight: Flight) -> Velocity:
        elapsed = jnp.exp(jnp.minimum(flight.log_elapsed, 201.0))
        w = flight.state
        return Velocity(_inverse(self.gradient_at(flight.log_start), elapsed) @ w.vector, w.log_scale)

    def slowest_ahead(self, flight: Flight) -> Scalar:
        return self.carried(flight).log_speed

    def look_ahead(self, flight: Flight, log_length: Scalar, log_least: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        # |(I + hL)^-1 w| lies between |w| / (1 + h|L|) and |w| / (1 - h|L|)
        now = jnp.logaddexp(flight.log_start, flight.log_elapsed)
        size = jnp.linalg.norm(self.gradient_at(now))
        log_length = jnp.minimum(log_length, jnp.log(0.5) - jnp.log(size))
        strain = jnp.exp(log_length) * size
        log_speed = self.carried(flight).log_speed
        return log_length, log_speed - jnp.log1p(strain), log_speed - jnp.log1p(-strain)


def _inverse(matrix: Array, time: Scalar) -> Array:
    """(I + t L)^-1 = [I + t (tr L - L) + t^2 adj L] / det, a ratio of polynomials without cancellation for large t."""
    trace = jnp.trace(matrix)
    square = matrix @ matrix
    second = 0.5 * (trace**2 - jnp.trace(square))
    adjugate = square - trace * matrix + second * jnp.eye(3)
    determinant = jnp.linalg.det(matrix)
    top = jnp.eye(3) + time * (trace * jnp.eye(3) - matrix) + time**2 * adjugate
    return top / (1 + time * trace + time**2 * second + time**3 * determinant)


def _implosion(matrix: np.ndarray) -> float:
    """log of the first time at which I + t L0 is singular; infinity when there is none."""
    eigenvalues = np.linalg.eigvals(matrix)
    size = np.abs(matrix).max()
    real = [-1 / e.real for e in eigenvalues if e.real < -1e-12 * size and abs(e.imag) <= 1e-7 * abs(e.real)]
    return math.log(min(real)) if real else math.inf
