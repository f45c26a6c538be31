"""Monotone splines of one variable: rational-quadratic on a line, an interval or a circle, and piecewise-linear.

Every function maps x of any shape elementwise. Parameters are unconstrained arrays with the bins (or knots) as LEADING axis,
``(K, *x.shape)``; all zero is the identity. They return (y, log dy/dx), and with ``inverse=True`` the inverse map and its own log
derivative. Source: Durkan et al., arXiv 1906.04032 (eqs 4-8); circles: Rezende et al., arXiv 2002.02428.

Two choices are made for speed on CPUs, where XLA turns each into plain vector code. The bin of x is found by comparing x with
every knot, and what depends on it is a sum over bins with weights 0 and 1: no search, no gather, and a gradient without scatter.
And positive numbers come from (r + sqrt(r^2 + 4)) / 2 (arXiv 2112.11687) in place of exponentials.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError

#: Smallest width and height of a bin as a fraction of the interval, and smallest slope at a knot. They bound how much a spline
#: can amplify errors of its argument in float32.
MINIMUM_BIN = 1e-3
MINIMUM_SLOPE = 1e-3


def rational_quadratic(
    x: Float[Array, "*event"],
    widths: Float[Array, "bins *event"],
    heights: Float[Array, "bins *event"],
    slopes: Float[Array, "knots *event"],
    *,
    bound: float = 5.0,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """On the line: a spline on [-bound, bound] and the identity outside, with continuous slope.

    ``slopes`` are those at the K - 1 inner knots.
    """
    bins = _checked_bins(widths, heights, slopes, -1)
    widths, heights, slopes = _fractions(widths), _fractions(heights), _slopes(slopes)
    inside = jnp.abs(x) < bound

    def slopes_around(bin_):
        before = _selected(slopes, bin_ - 1) + (bin_ == 0)
        return before, _selected(slopes, bin_) + (bin_ == bins - 1)

    y, log_slope = _on_interval(
        jnp.where(inside, x, 0), widths, heights, slopes_around, -bound, 2 * bound, inverse=inverse
    )
    return jnp.where(inside, y, x), jnp.where(inside, log_slope, 0)


def bounded_rational_quadratic(
    x: Float[Array, "*event"],
    widths: Float[Array, "bins *event"],
    heights: Float[Array, "bins *event"],
    slopes: Float[Array, "knots *event"],
    *,
    low: float,
    high: float,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """From [low, high] onto itself, slopes at the ends free; x outside is moved to the nearest end.

    ``slopes`` are those at all K + 1 knots.
    """
    _checked_bins(widths, heights, slopes, 1)
    widths, heights, slopes = _fractions(widths), _fractions(heights), _slopes(slopes)

    def slopes_around(bin_):
        return _selected(slopes, bin_), _selected(slopes, bin_ + 1)

    return _on_interval(jnp.clip(x, low, high), widths, heights, slopes_around, low, high - low, inverse=inverse)


def circular_rational_quadratic(
    x: Float[Array, "*event"],
    widths: Float[Array, "bins *event"],
    heights: Float[Array, "bins *event"],
    slopes: Float[Array, "bins *event"],
    rotation: Float[Array, "*event"],
    *,
    period: float | Float[Array, "..."] = 2 * math.pi,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """A smooth map of the circle of angles onto itself, y in [-pi, pi): a periodic spline, then a turn by ``rotation`` (radians).

    With ``period`` = 2 pi / n the map commutes with rotations by the period (a rotor of n equal positions). ``slopes`` are those
    at the K knots of the circle, the seam first.
    """
    bins = _checked_bins(widths, heights, slopes, 0)
    widths, heights, slopes = _fractions(widths), _fractions(heights), _slopes(slopes)
    rotation = rotation.astype(x.dtype)

    def slopes_around(bin_):
        return _selected(slopes, bin_), _selected(slopes, jnp.where(bin_ == bins - 1, 0, bin_ + 1))

    x = x - rotation if inverse else x
    within = _wrap(x, period)
    y, log_slope = _on_interval(within, widths, heights, slopes_around, -period / 2, period, inverse=inverse)
    y = x + (y - within)
    return _wrap(y if inverse else y + rotation, 2 * math.pi), log_slope


def linear_spline(
    x: Float[Array, "*event"],
    heights: Float[Array, "bins *event"],
    *,
    low: float = 0.0,
    high: float = 1.0,
    inverse: bool = False,
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """Piecewise-linear from [low, high] onto itself with K bins of equal width. x outside is moved inside."""
    bins, extent = heights.shape[0], high - low
    heights = _fractions(heights).astype(x.dtype)
    place = (jnp.clip(x, low, high) - low) / extent
    if inverse:
        bin_ = _bin(place, heights)
    else:
        bin_ = jnp.clip(jnp.floor(jax.lax.stop_gradient(place) * bins), 0, bins - 1).astype(jnp.int32)
    bottom, slope = _passed(heights, bin_), bins * _selected(heights, bin_)
    left = bin_.astype(x.dtype) / bins
    if inverse:
        return low + extent * jnp.clip(left + (place - bottom) / slope, 0, 1), -jnp.log(slope)
    return low + extent * jnp.clip(bottom + (place - left) * slope, 0, 1), jnp.log(slope)


def _checked_bins(widths, heights, slopes, extra: int) -> int:
    bins = widths.shape[0]
    if bins < 2 or heights.shape[0] != bins or slopes.shape[0] != bins + extra:
        raise InvalidArgumentError(
            f"expected K >= 2 widths, K heights and K + {extra} slopes; "
            f"found {bins}, {heights.shape[0]} and {slopes.shape[0]}"
        )
    return bins


def _wrap(x, period):
    """x moved by multiples of the period into [-period/2, period/2)."""
    return x - period * jnp.floor(x / period + 0.5)


def _positive(raw):
    """(r + sqrt(r^2 + 4)) / 2, without cancellation for negative r: 1 at r = 0, r for large r, 1 / |r| for very negative r."""
    root = jnp.sqrt(raw * raw + 4) + jnp.abs(raw)
    return jnp.where(raw < 0, 2 / root, root / 2)


def _fractions(raw):
    """Positive numbers along the first axis that sum to 1, none below ``MINIMUM_BIN``."""
    positive = _positive(raw)
    return MINIMUM_BIN + (1 - MINIMUM_BIN * raw.shape[0]) * (positive / jnp.sum(positive, axis=0))


def _slopes(raw):
    return MINIMUM_SLOPE + (1 - MINIMUM_SLOPE) * _positive(raw)


def _bin(place, sizes):
    """Number of the bin in which ``place`` (measured from the first knot) lies; beyond the last knot, the last bin."""
    place, sizes = jax.lax.stop_gradient((place, sizes))
    end, number = jnp.zeros_like(place), jnp.zeros(place.shape, jnp.int32)
    for k in range(sizes.shape[0] - 1):
        end = end + sizes[k]
        number = number + (place >= end)
    return number


def _numbers(values):
    return jnp.arange(values.shape[0], dtype=jnp.int32).reshape((-1,) + (1,) * (values.ndim - 1))


def _selected(values, index):
    """values[index], and 0 for an index out of range."""
    return jnp.sum(jnp.where(_numbers(values) == index, values, 0), axis=0)


def _passed(values, index):
    """Sum of values[:index]."""
    return jnp.sum(jnp.where(_numbers(values) < index, values, 0), axis=0)


def _on_interval(x, widths, heights, slopes_around, low, extent, *, inverse: bool):
    """The rational-quadratic spline from [low, low + extent] onto itself; ``slopes_around(bin)`` at its two knots."""
    widths, heights = widths.astype(x.dtype), heights.astype(x.dtype)
    place = (x - low) / extent
    bin_ = _bin(place, heights if inverse else widths)
    left, width = _passed(widths, bin_), _selected(widths, bin_)
    bottom, height = _passed(heights, bin_), _selected(heights, bin_)
    before, after = (slope.astype(x.dtype) for slope in slopes_around(bin_))
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
    numerator = mean * mean * (after * t * t + 2 * mean * bend + before * (1 - t) ** 2)
    log_slope = jnp.log(numerator) - 2 * jnp.log(mean + excess * bend)
    return low + extent * result, -log_slope if inverse else log_slope
