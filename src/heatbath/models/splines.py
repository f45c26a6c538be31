"""Monotone splines of one variable: rational-quadratic on a line, an interval or a circle, and piecewise-linear.

Every function maps x of any shape elementwise; ``raw`` holds unconstrained parameters with the parameters as LEADING axis,
``(parameters, *x.shape)``, and raw = 0 is the identity. They return (y, log dy/dx), and with ``inverse=True`` the inverse map
and its own log derivative. Source: Durkan et al., arXiv 1906.04032 (eqs 4-8); circles: Rezende et al., arXiv 2002.02428.

The bin of x is found by comparing x with every knot and all that depends on it is a sum over bins with weights 0 and 1: for
the few bins of a flow this is several times faster on a CPU than searching and gathering, and its gradient has no scatter.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError

#: Smallest width and height of a bin as a fraction of the interval, and smallest slope at a knot. They bound the derivative
#: of a spline of K bins between 1e-3 and 1e3 and so the error amplification of its inverse in float32.
MINIMUM_BIN = 1e-3
MINIMUM_SLOPE = 1e-3
_SLOPE_AT_ZERO = math.log(math.expm1(1.0 - MINIMUM_SLOPE))


def rational_quadratic(
    x: Float[Array, "*event"],
    raw: Float[Array, "parameters *event"],
    *,
    bound: float = 5.0,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """On the line: a spline on [-bound, bound] and the identity outside, with continuous slope. ``raw``: 3 K - 1 parameters."""
    bins = _count_bins(raw.shape[0] + 1, 3, "3 K - 1")
    slopes = _slopes(raw[2 * bins :])
    edge = jnp.ones_like(slopes[:1])
    slopes = jnp.concatenate([edge, slopes, edge])
    inside = jnp.abs(x) < bound
    y, log_slope = _on_interval(jnp.where(inside, x, 0), raw[: 2 * bins], slopes, -bound, 2 * bound, inverse=inverse)
    return jnp.where(inside, y, x), jnp.where(inside, log_slope, 0)


def bounded_rational_quadratic(
    x: Float[Array, "*event"],
    raw: Float[Array, "parameters *event"],
    *,
    low: float,
    high: float,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """From [low, high] onto itself, slopes at the ends free. ``raw``: 3 K + 1 parameters. x outside is moved to the nearest end."""
    bins = _count_bins(raw.shape[0] - 1, 3, "3 K + 1")
    x = jnp.clip(x, low, high)
    return _on_interval(x, raw[: 2 * bins], _slopes(raw[2 * bins :]), low, high - low, inverse=inverse)


def circular_rational_quadratic(
    x: Float[Array, "*event"],
    raw: Float[Array, "parameters *event"],
    *,
    period: float | Float[Array, "..."] = 2 * math.pi,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """A smooth map of the circle of angles onto itself, y in [-pi, pi): a periodic spline and then a learned rotation.

    With ``period`` = 2 pi / n the map commutes with rotations by the period (a rotor of n equal positions). ``raw``: 3 K + 1
    parameters: widths, heights, slopes at the knots (the seam is one knot) and the angle of rotation.
    """
    bins = _count_bins(raw.shape[0] - 1, 3, "3 K + 1")
    slopes = _slopes(raw[2 * bins : 3 * bins])
    slopes = jnp.concatenate([slopes, slopes[:1]])
    x = x - raw[-1].astype(x.dtype) if inverse else x
    within = _wrap(x, period)
    y, log_slope = _on_interval(within, raw[: 2 * bins], slopes, -period / 2, period, inverse=inverse)
    y = x + (y - within)
    return _wrap(y if inverse else y + raw[-1].astype(x.dtype), 2 * math.pi), log_slope


def linear_spline(
    x: Float[Array, "*event"],
    raw: Float[Array, "bins *event"],
    *,
    low: float = 0.0,
    high: float = 1.0,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """Piecewise-linear from [low, high] onto itself with K bins of equal width; ``raw``: K heights. x outside is moved inside."""
    bins = raw.shape[0]
    extent = high - low
    heights = _fractions(raw).astype(x.dtype) * extent
    x = jnp.clip(x, low, high)
    width = extent / bins
    numbers = jnp.arange(bins, dtype=x.dtype).reshape((bins,) + (1,) * x.ndim)
    if inverse:
        passed = _passed(x - low, heights)
    else:
        passed = (x - low >= (numbers[:-1] + 1) * width).astype(x.dtype)
    here = _here(passed)
    left, bottom = low + width * jnp.sum(passed, axis=0), low + jnp.sum(passed * heights[:-1], axis=0)
    slope = jnp.sum(here * heights, axis=0) / width
    if inverse:
        return jnp.clip(left + (x - bottom) / slope, low, high), -jnp.log(slope)
    return jnp.clip(bottom + (x - left) * slope, low, high), jnp.log(slope)


def _count_bins(parameters: int, per_bin: int, rule: str) -> int:
    bins, rest = divmod(parameters, per_bin)
    if bins < 2 or rest:
        raise InvalidArgumentError(f"a spline of K >= 2 bins takes {rule} parameters along the first axis of raw")
    return bins


def _wrap(x, period):
    """x moved by multiples of the period into [-period/2, period/2)."""
    return x - period * jnp.floor(x / period + 0.5)


def _fractions(raw):
    """Positive numbers along the first axis that sum to 1, none below ``MINIMUM_BIN``."""
    return MINIMUM_BIN + (1 - MINIMUM_BIN * raw.shape[0]) * jax.nn.softmax(raw, axis=0)


def _slopes(raw):
    return MINIMUM_SLOPE + jax.nn.softplus(raw + _SLOPE_AT_ZERO)


def _passed(x, sizes):
    """1 for every bin but the last that ends at or before x (measured from the first knot), else 0. Carries no gradient."""
    ends, end = [], jnp.zeros_like(x)
    for size in jax.lax.stop_gradient(sizes)[:-1]:
        end = end + size
        ends.append(end)
    return (jax.lax.stop_gradient(x) >= jnp.stack(ends)).astype(x.dtype)


def _here(passed):
    """1 for the bin that x lies in, else 0."""
    one = jnp.ones_like(passed[:1])
    return jnp.concatenate([one, passed]) - jnp.concatenate([passed, 0 * one])


def _on_interval(x, raw, slopes, low, extent, *, inverse: bool):
    """The rational-quadratic spline from [low, low + extent] onto itself; ``slopes`` at all K + 1 knots."""
    bins = raw.shape[0] // 2
    widths = _fractions(raw[:bins]).astype(x.dtype)
    heights = _fractions(raw[bins:]).astype(x.dtype)
    slopes = slopes.astype(x.dtype)
    place = (x - low) / extent
    passed = _passed(place, heights if inverse else widths)
    here = _here(passed)
    left, width = jnp.sum(passed * widths[:-1], axis=0), jnp.sum(here * widths, axis=0)
    bottom, height = jnp.sum(passed * heights[:-1], axis=0), jnp.sum(here * heights, axis=0)
    before, after = jnp.sum(here * slopes[:-1], axis=0), jnp.sum(here * slopes[1:], axis=0)
    mean = height / width
    excess = before + after - 2 * mean
    if inverse:
        rise = place - bottom
        a = height * (mean - before) + rise * excess
        b = height * before - rise * excess
        root = jnp.sqrt(jnp.maximum(b * b + 4 * a * mean * rise, 0))
        t = jnp.clip(2 * mean * rise / (b + root), 0, 1)
        result = left + t * width
    else:
        t = jnp.clip((place - left) / width, 0, 1)
        result = bottom + height * (mean * t * t + before * t * (1 - t)) / (mean + excess * t * (1 - t))
    bend = t * (1 - t)
    denominator = mean + excess * bend
    numerator = mean * mean * (after * t * t + 2 * mean * bend + before * (1 - t) ** 2)
    log_slope = jnp.log(numerator) - 2 * jnp.log(denominator)
    return low + extent * result, -log_slope if inverse else log_slope
