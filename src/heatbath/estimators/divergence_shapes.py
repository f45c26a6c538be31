"""Optima over divergence balls as curves of one number: normalised ratios for every width, from the reference to a point mass.

With gaps g_i in [0, 1] from the best stream the optimum is t_i = (phi')^-1(y_i), y_i = (-g_i - nu) / mu. nu follows from
sum_i p_i t_i = 1: in closed form for powers, by Newton's method for divergences with a bounded slope. A shape takes x, the
logarithm of the width, and returns (ln t, mu, nu).
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from heatbath.errors import ConvergenceError
from heatbath.estimators.divergences import BoundedSlopeDivergence, PowerDivergence

#: ln of the narrowest and of the widest width that double precision knows.
NARROWEST, WIDEST = -700.0, 700.0

Shape = Callable[[float], tuple[np.ndarray, float, float]]


def width_of(x: float) -> float:
    """e^x, kept within double precision."""
    return math.exp(min(max(x, NARROWEST), WIDEST))


def power_shape(chosen: PowerDivergence, gaps: np.ndarray, p: np.ndarray) -> Shape:
    """t is a normalised power (alpha 1: exponential) of the width plus or minus the gap."""
    a, log_p = chosen.alpha, np.log(p)

    def shape(x: float):
        width = width_of(x)
        if a == 1:
            raw = -gaps / width
        elif a > 1:
            with np.errstate(divide="ignore"):
                raw = np.log1p(np.maximum(-gaps / width, -1.0)) / (a - 1)
        else:
            raw = np.log1p(gaps / width) / (a - 1)
        total = log_sum(log_p + raw)
        u = raw - total
        if a == 1:
            return u, width / chosen.scale, width * total
        # t^(a-1) = 1 + (a-1)(R - nu)/mu with R = -gap: width^-1 e^(-(a-1) total) is (a-1)/mu, up to the sign of a - 1
        mu = abs(a - 1) * width * math.exp((a - 1) * total)
        nu = (width if a > 1 else -width) * -1.0 + mu / (a - 1)
        return u, mu / chosen.scale, nu

    return shape


class BoundedSlopeShape:
    """x = ln mu; the best stream's distance e^margin from the largest slope is found so that the weights add up to one.

    Starts from the last margin, so that neighbouring widths cost few evaluations.
    """

    def __init__(self, chosen: BoundedSlopeDivergence, gaps: np.ndarray, p: np.ndarray):
        self.chosen, self.gaps, self.p, self.log_p = chosen, gaps, p, np.log(p)
        self.margin = math.log(chosen.largest_slope)

    def __call__(self, x: float) -> tuple[np.ndarray, float, float]:
        self.margin = self._normalising(self.gaps / width_of(x))
        return self._at(x)

    def _at(self, x: float) -> tuple[np.ndarray, float, float]:
        mu = width_of(x)
        u = self.chosen.log_ratio_below(math.exp(self.margin) + self.gaps / mu)
        return u - log_sum(self.log_p + u), mu, -mu * (self.chosen.largest_slope - math.exp(self.margin))

    def _normalising(self, slopes: np.ndarray) -> float:
        """ln of the distance at which sum p t = 1: the sum falls with it."""

        def excess(margin: float) -> float:
            return log_sum(self.log_p + self.chosen.log_ratio_below(math.exp(margin) + slopes))

        low = high = self.margin
        step = 0.01
        while excess(low) < 0:
            low, step = low - step, 4 * step
            if low < NARROWEST:
                raise ConvergenceError("the weights cannot be normalised; the ball almost holds a point mass")
        step = 0.01
        while excess(high) > 0:
            high, step = high + step, 4 * step
        if low == high:
            return low
        return float(brentq(excess, low, high, xtol=1e-15, rtol=1e-15))  # pyright: ignore[reportArgumentType]

    def root(self, delta: float, x: float, most: int = 40) -> tuple[float, tuple[np.ndarray, float, float]] | None:
        """(x, the shape there) where the divergence is ``delta``, by Newton's method in (margin, x) at once; None if that fails.

        Residuals are ln sum p t and ln D / delta; their derivatives follow from d ln t / ds = -1 / (t phi'').
        """
        largest = self.chosen.largest_slope
        away = self.gaps / width_of(x)
        first = largest - float(self.p @ away)  # where all ratios are near one
        point = np.array([math.log(first) if first > 0.1 * largest else self._normalising(away), x])
        residual, slope = self._residuals(point, delta, largest)
        for _ in range(most):
            if np.abs(residual).max() < 1e-13:
                break
            determinant = slope[0, 0] * slope[1, 1] - slope[0, 1] * slope[1, 0]
            if not (math.isfinite(determinant) and determinant):
                return None
            step = -np.array([
                slope[1, 1] * residual[0] - slope[0, 1] * residual[1],
                slope[0, 0] * residual[1] - slope[1, 0] * residual[0],
            ]) / determinant  # fmt: skip
            step *= min(1.0, 2.0 / np.abs(step).max())
            for _ in range(12):
                tried = self._residuals(point + step, delta, largest)
                if np.abs(tried[0]).max() < np.abs(residual).max():
                    break
                step *= 0.5
            else:
                break  # rounding: no shorter step is better
            point, (residual, slope) = point + step, tried
        if not np.abs(residual).max() < 1e-9:
            return None
        self.margin = float(point[0])
        return float(point[1]), self._at(float(point[1]))

    def _residuals(self, point: np.ndarray, delta: float, largest: float) -> tuple[np.ndarray, np.ndarray]:
        margin, inverse = width_of(point[0]), width_of(-point[1])
        away = self.gaps * inverse
        s = margin + away
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            u = self.chosen.log_ratio_below(s)
            weights = self.p * np.exp(u)
            mass, divergence = float(weights.sum()), max(self.chosen.of(u, self.p), 1e-300)
            stiff = np.where(weights > 0, weights / self.chosen.curvature(u), 0.0)
            tilted = stiff * (largest - s)
        slope = np.array([
            [-margin * stiff.sum() / mass, float(stiff @ away) / mass],
            [-margin * tilted.sum() / divergence, float(tilted @ away) / divergence],
        ])  # fmt: skip
        return np.array([math.log(mass), math.log(divergence / delta)]), slope


def log_sum(values: np.ndarray) -> float:
    """ln sum e^values; -inf for none."""
    top = float(values.max())
    if math.isinf(top):
        return top
    return top + math.log(float(np.exp(values - top).sum()))
