"""The largest and smallest mean of a quantity over all distributions within a divergence of a reference.

    max (min) sum_i c_i R_i   subject to   D(c || p) <= delta,  sum c = 1,  c >= 0

For smooth divergences the optimum is c_i = p_i t((R_i - nu) / mu) with two multipliers; power divergences have one shape
parameter left after normalisation, the others two nested roots, total variation and sup-norm are sorted and cut.
Everything is done
in the logarithm of the ratios, so that optima like 1e-76 of the reference come out with all their digits. Every bound carries
the value of its dual problem,

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
from heatbath.estimators.divergences import (
    Divergence,
    PowerDivergence,
    SmoothDivergence,
    SupNorm,
    TotalVariation,
    checked_reference,
)
from heatbath.estimators.divergences import divergence as divergence_called

Sense = Literal["max", "min"]
#: ln of the narrowest width that double precision knows.
NARROWEST = -700.0


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
    shape = _power_shape(chosen, gaps, p) if isinstance(chosen, PowerDivergence) else _nested_shape(chosen, gaps, p)

    def excess(x: float) -> float:
        return math.log(max(chosen.of(shape(x)[0], p), 1e-300)) - math.log(delta)

    ends = _bracketed(excess)
    if ends is None:  # no weight on the other streams that double precision knows leaves the ball
        u, mu, _ = shape(NARROWEST)
        return u, mu, 0.0, True
    low, high = ends
    x = float(brentq(excess, low, high, xtol=1e-12, rtol=1e-14, maxiter=200))  # pyright: ignore[reportArgumentType]
    step = 1e-13 * max(1.0, abs(x))
    while chosen.of(shape(x)[0], p) > delta:  # rounding may leave the ball; the shape leads back in
        x += step
        step *= 2
    u, mu, nu = shape(x)
    dual = -(mu * delta + nu + mu * float(np.sum(p * chosen.conjugate((-gaps - nu) / mu))))
    return u, mu, dual, False


def _bracketed(excess: Callable[[float], float]) -> tuple[float, float] | None:
    """Two places with the root between them; None where the excess is negative down to the narrowest width."""
    low, high = -1.0, 1.0
    while excess(low) < 0:
        if low <= NARROWEST:
            return None
        low, high = max(2 * low, NARROWEST), low
    while excess(high) > 0:
        low = high
        high *= 2
        if high > 1400:
            raise ConvergenceError("delta is too small to be told from zero in double precision")
    return low, high


def _power_shape(chosen: PowerDivergence, gaps: np.ndarray, p: np.ndarray):
    """x = ln of a width -> (ln t, mu, nu): t is a normalised power (alpha 1: exponential) of the width plus or minus the gap."""
    a, log_p = chosen.alpha, np.log(p)

    def shape(x: float):
        width = math.exp(min(max(x, NARROWEST), 700.0))
        if a == 1:
            raw = -gaps / width
        elif a > 1:
            with np.errstate(divide="ignore"):
                raw = np.log1p(np.maximum(-gaps / width, -1.0)) / (a - 1)
        else:
            raw = np.log1p(gaps / width) / (a - 1)
        total = _log_sum(log_p + raw)
        u = raw - total
        if a == 1:
            return u, width / chosen.scale, width * total
        # t^(a-1) = 1 + (a-1)(R - nu)/mu with R = -gap: width^-1 e^(-(a-1) total) is (a-1)/mu, up to the sign of a - 1
        mu = abs(a - 1) * width * math.exp((a - 1) * total)
        nu = (width if a > 1 else -width) * -1.0 + mu / (a - 1)
        return u, mu / chosen.scale, nu

    return shape


def _nested_shape(chosen: SmoothDivergence, gaps: np.ndarray, p: np.ndarray):
    """x = ln mu -> (ln t, mu, nu), with nu found so that the weights add up to one; starts from the last nu."""
    log_p = np.log(p)
    largest = chosen.largest_slope
    last = [0.0]

    def shape(x: float):
        mu = math.exp(min(max(x, NARROWEST), 700.0))
        slopes = -gaps / mu

        def excess(margin: float) -> float:  # y of the best stream is largest - e^margin
            return _log_sum(log_p + chosen.log_ratio(largest - math.exp(margin) + slopes))

        low = high = last[0]
        step = 0.5
        while excess(low) < 0:
            low, step = low - step, 2 * step
            if low < -700:
                raise ConvergenceError("the weights cannot be normalised; the ball almost holds a point mass")
        step = 0.5
        while excess(high) > 0:
            high, step = high + step, 2 * step
        margin = low if low == high else float(brentq(excess, low, high, xtol=1e-14, rtol=1e-15))  # pyright: ignore[reportArgumentType]
        last[0] = margin
        best = largest - math.exp(margin)
        u = chosen.log_ratio(best + slopes)
        return u - _log_sum(log_p + u), mu, -mu * best

    return shape


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


def _log_sum(values: np.ndarray) -> float:
    top = float(values.max())
    if math.isinf(top):
        return top
    return top + math.log(float(np.sum(np.exp(values - top))))
