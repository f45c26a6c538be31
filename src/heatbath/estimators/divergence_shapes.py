"""Optima over divergence balls as curves of one number: normalised ratios for every width, from the reference to a point mass.

With gaps g_i in [0, 1] from the best stream the optimum is t_i = (phi')^-1(y_i), y_i = (-g_i - nu) / mu. nu follows from
sum_i p_i t_i = 1: in closed form for powers, by Newton's method for divergences with a bounded slope. A shape takes x, the
logarithm of the width, and returns (ln t, mu, nu).
"""

import dataclasses
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
        away = self.gaps / width_of(x)
        largest = self.chosen.largest_slope
        first = largest - float(self.p @ away)  # the margin to lowest order, where all ratios are near one
        margin = math.log(max(first, 0.1 * largest)) if first > -0.3 * largest else self._normalising(away)
        with np.errstate(all="ignore"):
            here = self._linear(margin, x, delta)
            for _ in range(most):
                if here.worst < 1e-12:
                    break
                forward = here.newton()
                if forward is None:
                    return None
                for halving in range(12):
                    tried = self._linear(margin + forward[0] / 2**halving, x + forward[1] / 2**halving, delta)
                    if tried.worst < here.worst:
                        margin, x, here = margin + forward[0] / 2**halving, x + forward[1] / 2**halving, tried
                        break
                else:
                    break  # rounding: no shorter step is better
        if not here.worst < 1e-9:
            return None
        self.margin, mu = margin, width_of(x)
        return x, (here.u - here.residual[0], mu, -mu * (self.chosen.largest_slope - math.exp(margin)))

    def _linear(self, margin: float, x: float, delta: float) -> "_Linear":
        near, inverse = width_of(margin), width_of(-x)
        away = self.gaps * inverse
        s = near + away
        u = self.chosen.log_ratio_below(s)
        weights = self.p * np.exp(u)
        mass, divergence = max(float(weights.sum()), 1e-300), max(float(self.p @ self.chosen.phi(u)), 1e-300)
        stiff = np.where(weights > 0, weights / self.chosen.curvature(u), 0.0)
        tilted = stiff * (self.chosen.largest_slope - s)
        return _Linear(
            u,
            (math.log(mass), math.log(divergence / delta)),
            (-near * float(stiff.sum()) / mass, float(stiff @ away) / mass),
            (-near * float(tilted.sum()) / divergence, float(tilted @ away) / divergence),
        )


@dataclasses.dataclass(frozen=True)
class _Linear:
    """Both residuals at a point, and the rows of their derivatives by margin and x."""

    u: np.ndarray
    residual: tuple[float, float]
    mass: tuple[float, float]
    divergence: tuple[float, float]

    @property
    def worst(self) -> float:
        return max(abs(self.residual[0]), abs(self.residual[1]))

    def newton(self) -> tuple[float, float] | None:
        """The step to the root of the linear model, at most 2 long; None where there is none."""
        (a, b), (c, d), (first, second) = self.mass, self.divergence, self.residual
        determinant = a * d - b * c
        if not (math.isfinite(determinant) and determinant):
            return None
        step = (b * second - d * first) / determinant, (c * first - a * second) / determinant
        short = min(1.0, 2.0 / max(abs(step[0]), abs(step[1]), 1e-300))
        return short * step[0], short * step[1]


def log_sum(values: np.ndarray) -> float:
    """ln sum e^values; -inf for none."""
    top = float(values.max())
    if math.isinf(top):
        return top
    return top + math.log(float(np.exp(values - top).sum()))
