"""Learning rates over the course of training. Their numbers are arrays, so that another rate compiles nothing anew."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from heatbath.errors import InvalidArgumentError


class Schedule(eqx.Module):
    """``schedule(step) -> learning rate`` for step = 0, 1, ..."""

    @abc.abstractmethod
    def __call__(self, step: Int[Array, ""] | int) -> Scalar: ...


class Constant(Schedule):
    """The same rate always."""

    rate: Float[Array, ""]

    def __init__(self, rate: float):
        self.rate = _number("rate", rate)

    def __call__(self, step):
        return self.rate


class Cosine(Schedule):
    """rate_T + (rate_0 - rate_T) (1 + cos(pi t / T)) / 2, constant beyond T = ``steps``; rate_T = ``last`` rate_0."""

    rate: Float[Array, ""]
    steps: Float[Array, ""]
    last: Float[Array, ""]

    def __init__(self, rate: float, steps: int, *, last: float = 0.0):
        self.rate, self.steps, self.last = _number("rate", rate), _number("steps", steps), jnp.asarray(last, float)

    def __call__(self, step):
        return self.rate * _cosine(1.0, self.last, step / self.steps)


class OneCycle(Schedule):
    """A cosine up from ``rate / division`` to ``rate`` in the first ``warmup`` fraction, and a cosine back down.

    Source: Smith & Topin, arXiv 1708.07120; with division 500 and warm-up 5 % as in arXiv 2502.18462.
    """

    rate: Float[Array, ""]
    steps: Float[Array, ""]
    warmup: Float[Array, ""]
    division: Float[Array, ""]

    def __init__(self, rate: float, steps: int, *, warmup: float = 0.05, division: float | int = 500.0):
        if not 0 < warmup < 1:
            raise InvalidArgumentError(f"warmup is a fraction of the steps, between 0 and 1; found {warmup}")
        self.rate, self.steps = _number("rate", rate), _number("steps", steps)
        self.warmup, self.division = jnp.asarray(warmup, float), _number("division", division)

    def __call__(self, step):
        fraction = jnp.clip(step / self.steps, 0.0, 1.0)
        low = 1.0 / self.division
        rising = _cosine(low, 1.0, fraction / self.warmup)
        falling = _cosine(1.0, low, (fraction - self.warmup) / (1.0 - self.warmup))
        return self.rate * jnp.where(fraction < self.warmup, rising, falling)


def _cosine(first, last, fraction):
    return last + (first - last) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(fraction, 0.0, 1.0)))


def _number(name: str, value: float | int) -> Float[Array, ""]:
    if not value > 0:
        raise InvalidArgumentError(f"{name} must be positive; found {value!r}")
    return jnp.asarray(value, float)
