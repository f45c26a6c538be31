"""The largest and smallest mean of a quantity over all distributions within a divergence of a reference.

    max (min) sum_i c_i R_i   subject to   D(c || p) <= delta,  sum c = 1,  c >= 0

For smooth divergences the optimum is c_i = p_i t((R_i - nu) / mu) with two multipliers; power divergences have one shape
parameter left after normalisation, the others are found by Newton's method in both (``divergence_shapes``), total variation
and sup-norm are sorted and cut. Everything is done in the logarithm of the ratios, so that optima like 1e-76 of the reference
come out with all their digits. Every bound carries the value of its dual problem,

    min over mu >= 0, nu of  mu delta + nu + mu sum_i p_i phi*((R_i - nu) / mu),

which no distribution in the ball can exceed: ``gap`` is the certificate.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import brentq

from heatbath.errors import ConvergenceError, InvalidArgumentError
from heatbath.estimators.divergence_shapes import NARROWEST, WIDEST, BoundedSlopeShape, power_shape
from heatbath.estimators.divergences import (
    BoundedSlopeDivergence,
    Divergence,
    PowerDivergence,
    SmoothDivergence,
    SupNorm,
    TotalVariation,
    checked_reference,
)
from heatbath.estimators.divergences import divergence as divergence_called

Sense = Literal["max", "min"]


@dataclasses.dataclass(frozen=True)
class DivergenceBound:
    """One side of a bracket.

    value:      sum c R of the optimum; ``reference`` is sum p R
    weights:    the optimal c; also d value / d R
    slope:      d value / d delta (the multiplier mu, with its sign)
    divergence: D(c || p) that was used, at most delta
    dual:       what no distribution in the ball can pass; ``gap`` its distance from ``value``, over the range of R
    saturated:  whether the ball holds the best point mass, to double precision, so that a larger delta changes nothing
    """

    value: float
    reference: float
    weights: np.ndarray
    slope: float
    divergence: float
    dual: float
    gap: float
    saturated: bool


def divergence_bound(
    rates: Float[Array | np.ndarray, " rates"],
    p: Float[Array | np.ndarray, " streams"],
    delta: float,
    divergence: Divergence | str = "kl",
    sense: Sense = "max",
) -> DivergenceBound:
    """Bound of sum c_i rates_i over the ball of radius ``delta`` around the weights ``p`` (normalised here).

    Raises ``InvalidArgumentError`` for delta < 0, weights that are not positive, or rates that are not finite.
    """
    chosen = divergence_called(divergence) if isinstance(divergence, str) else divergence
    p, r = checked_reference(np.asarray(p)), np.asarray(rates, dtype=np.float64)
    if r.shape != p.shape or not np.isfinite(r).all():
        raise InvalidArgumentError(f"rates must be {p.size} finite numbers, one per weight; found shape {r.shape}")
    if not (math.isfinite(delta) and delta >= 0):
        raise InvalidArgumentError(f"delta, the radius of the ball, must be finite and not negative; found {delta}")
    if sense not in ("max", "min"):
        raise InvalidArgumentError(f"sense is 'max' or 'min'; found {sense!r}")
    sign = 1.0 if sense == "max" else -1.0
    best, width = float((sign * r).max()), float(np.ptp(r))
    if width == 0.0 or delta == 0.0:
        return _finished(
            p, np.zeros(p.size), r, 0.0 if width == 0.0 else math.inf, width, None, sign, chosen, saturated=width == 0.0
        )
    gaps = (best - sign * r) / width  # 0 at the best stream, 1 at the worst
    if isinstance(chosen, TotalVariation):
        u, mu, dual, full = _moved(gaps, p, delta)
    elif isinstance(chosen, SupNorm):
        u, mu, dual, full = _cut(gaps, p, delta)
    elif isinstance(chosen, SmoothDivergence):
        u, mu, dual, full = _tilted(chosen, gaps, p, delta)
    else:
        raise InvalidArgumentError(f"no solver for the divergence {chosen.name!r}")
    return _finished(p, u, r, mu, width, best - width * dual, sign, chosen, saturated=full)


def bracket(rates, p, delta: float, divergence: Divergence | str = "kl") -> tuple[DivergenceBound, DivergenceBound]:
    """(smallest, largest) mean over the ball."""
    low = divergence_bound(rates, p, delta, divergence, "min")
    return low, divergence_bound(rates, p, delta, divergence, "max")


def _finished(p, u, r, mu, width, dual, sign, chosen, *, saturated) -> DivergenceBound:
    with np.errstate(under="ignore"):
        weights = p * np.exp(u)
    value = float(weights @ r)
    limit = value if dual is None else sign * dual
    gap = 0.0 if width == 0 else sign * (limit - value) / width
    return DivergenceBound(
        value, float(p @ r), weights, sign * mu * width, chosen.of(u, p), float(limit), float(gap), bool(saturated)
    )


# All solvers minimise the mean gap in [0, 1] and return ln(c / p), mu, the dual bound on that mean, and saturation ---------
def _tilted(chosen: SmoothDivergence, gaps: np.ndarray, p: np.ndarray, delta: float):
    top = gaps <= 0
    mass = float(p[top].sum())
    limit = mass * float(chosen.phi(np.array(-math.log(mass)))) + (1 - mass) * chosen.at_zero if mass < 1 else 0.0
    if delta >= limit:
        return np.where(top, -math.log(mass), -np.inf), 0.0, 0.0, True
    shape = _shape(chosen, gaps, p)
    start = _small_ball(chosen, gaps, p, delta)
    aim = delta * (1 - 4e-12)  # a hair inside, so that rounding rarely leaves the ball
    tried: dict[float, tuple[float, tuple[np.ndarray, float, float]]] = {}

    def at(x: float) -> tuple[float, tuple[np.ndarray, float, float]]:
        if x not in tried:
            made = shape(x)
            tried[x] = chosen.of(made[0], p), made
        return tried[x]

    def excess(x: float) -> float:
        return math.log(max(at(x)[0], 1e-300) / aim)

    x = None
    if isinstance(shape, BoundedSlopeShape) and (found := shape.root(aim, start)):
        x, made = found
        tried[x] = chosen.of(made[0], p), made
    if x is None:
        ends = _bracketed(excess, start)
        if ends is None:  # no weight on the other streams that double precision knows leaves the ball
            u, mu, _ = shape(NARROWEST)
            return u, mu, 0.0, True
        x = float(brentq(excess, *ends, xtol=1e-12, rtol=1e-14, maxiter=200))  # pyright: ignore[reportArgumentType]
    step = 1e-13 * max(1.0, abs(x))
    while at(x)[0] > delta:  # rounding may leave the ball; the shape leads back in
        x += step
        step *= 2
    u, mu, nu = at(x)[1]
    dual = -(mu * delta + nu + mu * float(p @ chosen.conjugate_at(u)))
    return u, mu, dual, False


def _shape(chosen: SmoothDivergence, gaps: np.ndarray, p: np.ndarray):
    if isinstance(chosen, PowerDivergence):
        return power_shape(chosen, gaps, p)
    if isinstance(chosen, BoundedSlopeDivergence):
        return BoundedSlopeShape(chosen, gaps, p)
    raise InvalidArgumentError(f"no solver for the divergence {chosen.name!r}")


def _small_ball(chosen: SmoothDivergence, gaps: np.ndarray, p: np.ndarray, delta: float) -> float:
    """x of the optimum to lowest order in delta, where every divergence is phi''(1) / 2 times chi2: a place to start."""
    spread = 0.5 * float(p @ (gaps - p @ gaps) ** 2) / delta
    if isinstance(chosen, PowerDivergence):
        return 0.5 * math.log(spread * chosen.scale) - (math.log(abs(chosen.alpha - 1)) if chosen.alpha != 1 else 0.0)
    assert isinstance(chosen, BoundedSlopeDivergence)
    return 0.5 * math.log(spread / float(chosen.curvature(np.float64(0.0))))


def _bracketed(excess: Callable[[float], float], start: float) -> tuple[float, float] | None:
    """Two places with the root between them; None where the excess is negative down to the narrowest width."""
    low = high = max(start, NARROWEST)
    step = 0.05 + 0.55 * min(abs(excess(low)), 1.0)  # in small balls D falls as the square of the width
    while excess(low) < 0:
        if low <= NARROWEST:
            return None
        low, high, step = max(low - step, NARROWEST), low, 2 * step
    while excess(high) > 0:
        low, high, step = high, high + step, 2 * step
        if high > 2 * WIDEST:
            raise ConvergenceError("delta is too small to be told from zero in double precision")
    return low, high


def _moved(gaps: np.ndarray, p: np.ndarray, delta: float):
    """Total variation: mass delta from the worst streams to the best one."""
    best = int(np.argmin(gaps))
    order = np.argsort(-gaps, kind="stable")
    order = order[gaps[order] > gaps[best]]
    before = np.concatenate([[0.0], np.cumsum(p[order])])
    if delta >= before[-1]:
        top = gaps <= 0
        return np.where(top, -math.log(float(p[top].sum())), -np.inf), 0.0, 0.0, True
    taken = np.clip(delta - before[:-1], 0.0, p[order])
    c = p.copy()
    c[order] -= taken
    c[best] += taken.sum()
    last = order[int(np.searchsorted(before, delta, side="right")) - 1]
    mu = float(gaps[last])
    nu = -0.5 * mu
    with np.errstate(divide="ignore"):
        u = np.log(c) - np.log(p)
    dual = -(mu * delta + nu + float(np.sum(p * np.maximum(-gaps - nu, -0.5 * mu))))
    return u, mu, dual, False


def _cut(gaps: np.ndarray, p: np.ndarray, delta: float):
    """Sup-norm: upper limits for the best streams, lower ones for the worst, one in between."""
    lower, upper = max(1 - delta, 0.0) * p, (1 + delta) * p
    order = np.argsort(gaps, kind="stable")
    room = (upper - lower)[order]
    used = np.clip((1 - lower.sum()) - np.concatenate([[0.0], np.cumsum(room)[:-1]]), 0.0, room)
    c = lower.copy()
    c[order] += used
    partial = np.flatnonzero(used > 0)
    nu = -float(gaps[order[partial[-1]]])
    surplus = -gaps - nu
    dual = -(nu + float(np.sum(np.maximum(surplus, 0.0) * upper - np.maximum(-surplus, 0.0) * lower)))
    mu = float(np.sum(p * np.where(surplus > 0, surplus, -surplus if delta < 1 else 0.0)))
    top = float(p[gaps <= 0].sum())
    with np.errstate(divide="ignore"):
        return np.log(c) - np.log(p), mu, dual, (1 + delta) * top >= 1
