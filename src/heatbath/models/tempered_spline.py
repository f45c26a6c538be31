"""Tempered splines: densities of angles whose bins, not whose values, are raised to the power of a temperature.

The second construction of arXiv 2108.01590. A distribution function C on [0, 1] has bins of widths w_k and heights h_k; at
tau = T / T_0 widths stay and h'_k = w_k (h_k / w_k)^(1/tau) / S, S = sum_j w_j (h_j / w_j)^(1/tau), slopes at knots
s'_k = s_k^(1/tau) / S. With a piecewise-linear C this is exactly a power of the density. With a rational-quadratic C it is one at
the knots and on average over bins; and where the bins depend on other coordinates, S does too, which breaks the law in any case.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.steerable_flow import Steerable, Thermostat


class TemperedSpline(Steerable):
    """Independent angles in [-pi, pi), each with a spline of K bins as its distribution function, normalised at every tau.

    ``widths`` and ``heights`` (K, angles) are logits of fractions of the circle and of probability; ``slopes`` (K, angles)
    logarithms of the density at the first knot of each bin, relative to the geometric mean of the bins around it. Smooth splines
    (rational-quadratic, Durkan et al., arXiv 1906.04032) are approximately steerable only, and say so.
    """

    thermostat: Thermostat  # pyright: ignore
    widths: Float[Array, "bins angles"]
    heights: Float[Array, "bins angles"]
    slopes: Float[Array, "..."]
    smooth: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        shapes = {self.widths.shape, self.heights.shape, self.slopes.shape}
        if len(shapes) != 1 or self.widths.ndim != 2 or self.widths.shape[0] < 2:
            raise InvalidArgumentError(
                f"expected widths, heights and slopes of one shape (bins >= 2, angles); found {shapes}"
            )

    @property
    def exact(self) -> bool:
        return not self.smooth

    @property
    def bias(self) -> str | None:
        if not self.smooth:
            return None
        return "inside the bins of a rational-quadratic spline the density is not exactly a power of that at another temperature"

    def at(self, beta) -> "TemperedSpline":
        return eqx.tree_at(lambda model: model.thermostat, self, self.thermostat.at(beta))

    def carried(self, x: Float[Array, " angles"], beta) -> Float[Array, " angles"]:
        """Angles stay: any other choice would change their volume."""
        return x

    def sample(self, key: Key[Array, ""]) -> Float[Array, " angles"]:
        return self.sample_and_log_prob(key)[0]

    def log_prob(self, x: Float[Array, " angles"]) -> Scalar:
        return self._evaluated((x + math.pi) / (2 * math.pi), inverse=False)[1]

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Float[Array, " angles"], Scalar]:
        place, log_prob = self._evaluated(jax.random.uniform(key, self.widths.shape[1:]), inverse=True)
        return (2 * math.pi) * place - math.pi, log_prob

    def _evaluated(self, value, *, inverse: bool) -> tuple[Array, Scalar]:
        """C(value) or C^-1(value), and the log density at the place in question."""
        widths, heights, slopes = self._bins()
        if self.smooth:
            result, slope = _rational_quadratic(value, widths, heights, slopes, inverse=inverse)
        else:
            result, slope = _linear(value, widths, heights, inverse=inverse)
        return result.astype(value.dtype), jnp.sum(jnp.log(slope)) - value.shape[0] * math.log(2 * math.pi)

    def _bins(self) -> tuple[Array, Array, Array]:
        """Widths, heights and slopes at knots, at this temperature."""
        widths = jax.nn.softmax(self.widths.astype(float), axis=0)
        means = jax.nn.log_softmax(self.heights.astype(float), axis=0) - jnp.log(widths)
        around = 0.5 * (means + jnp.roll(means, 1, axis=0)) + self.slopes
        tempered = jnp.log(widths) + means / self.tau
        log_sum = jax.nn.logsumexp(tempered, axis=0)
        return widths, jnp.exp(tempered - log_sum), jnp.exp(around / self.tau - log_sum)


def _here(value, sizes) -> tuple[Array, Array]:
    """1 for the bin that each value lies in, else 0, and the start of every bin."""
    starts = jnp.cumsum(sizes, axis=0) - sizes
    later = jnp.concatenate([value >= starts[1:], jnp.zeros_like(value, bool)[None]])
    here = (value >= starts.at[0].set(-jnp.inf)) & ~later
    return here.astype(sizes.dtype), starts


def _linear(value, widths, heights, *, inverse: bool) -> tuple[Array, Array]:
    given, other = (heights, widths) if inverse else (widths, heights)
    here, starts = _here(value, given)
    own, far = jnp.sum(here * given, axis=0), jnp.sum(here * other, axis=0)
    begin = jnp.sum(here * (jnp.cumsum(other, axis=0) - other), axis=0)
    result = begin + (value - jnp.sum(here * starts, axis=0)) / own * far
    return result, jnp.sum(here * heights / widths, axis=0)


def _rational_quadratic(value, widths, heights, slopes, *, inverse: bool) -> tuple[Array, Array]:
    """C(value) (or its inverse) and dC at the place, eqs 4-8 of arXiv 1906.04032; the last knot is the first one."""
    here, starts = _here(value, heights if inverse else widths)

    def pick(values):
        return jnp.sum(here * values, axis=0)

    width, height = pick(widths), pick(heights)
    left, bottom = pick(jnp.cumsum(widths, axis=0) - widths), pick(jnp.cumsum(heights, axis=0) - heights)
    before, after, mean = pick(slopes), pick(jnp.roll(slopes, -1, axis=0)), height / width
    excess = before + after - 2 * mean
    if inverse:
        rise = value - pick(starts)
        a = height * (mean - before) + rise * excess
        b = height * before - rise * excess
        t = 2 * mean * rise / (b + jnp.sqrt(jnp.maximum(b * b + 4 * a * mean * rise, 0)))
    else:
        t = (value - left) / width
    t = jnp.clip(t, 0, 1)
    bend = t * (1 - t)
    scale = mean + excess * bend
    slope = mean**2 * (after * t**2 + 2 * mean * bend + before * (1 - t) ** 2) / scale**2
    result = left + t * width if inverse else bottom + height * (mean * t**2 + before * bend) / scale
    return result, slope
