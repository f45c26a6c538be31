"""Upper limits on an expected number of signal events from what a counting experiment saw."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.stats import poisson

from heatbath.errors import InvalidArgumentError

Method = Literal["poisson", "feldman-cousins"]


def upper_limit(observed: int, background: float = 0.0, confidence: float = 0.9, method: Method = "poisson") -> float:
    """Largest signal mean that ``observed`` events allow.

    ``"poisson"``: the mean for which so few events have the probability 1 - confidence, no background taken off.
    ``"feldman-cousins"``: the unified interval with a known ``background`` (physics/9711021).
    """
    if observed < 0 or not (math.isfinite(background) and background >= 0):
        raise InvalidArgumentError(f"counts and background must not be negative; found {observed} and {background}")
    if not 0 < confidence < 1:
        raise InvalidArgumentError(f"confidence must lie between 0 and 1; found {confidence}")
    if method == "poisson":
        return _root(lambda mean: poisson.cdf(observed, mean) - (1 - confidence), 0.0, 20.0 + 4 * observed)
    if method == "feldman-cousins":
        return _feldman_cousins(observed, background, confidence)
    raise InvalidArgumentError(f"method is 'poisson' or 'feldman-cousins'; found {method!r}")


def maximum_gap_limit(gaps: Sequence[float], confidence: float = 0.9) -> float:
    """Yellin's limit (physics/0203002): ``gaps`` are the shares of the signal between neighbouring events and window edges.

    The mean mu for which a gap as large as the largest would be seen with probability 1 - confidence.
    """
    shares = np.asarray(gaps, dtype=float)
    if shares.size == 0 or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise InvalidArgumentError("gaps are shares of the expected signal: not negative, adding up to 1")
    largest = float(shares.max())

    def smaller_gap(mu: float) -> float:
        x = largest * mu
        terms = [
            (k * x - mu) ** k * math.exp(-k * x) / math.factorial(k) * (1 + k / (mu - k * x))
            for k in range(int(mu / x) + 1)
            if mu > k * x
        ]
        return 1.0 - math.exp(-mu) if largest >= 1 else sum(terms)

    low, high = 1e-6, 3.0
    while smaller_gap(high) < confidence:
        high *= 1.3
    return _root(lambda mu: smaller_gap(mu) - confidence, low, high)


def _feldman_cousins(observed: int, background: float, confidence: float) -> float:
    top = observed + 40 + int(10 * math.sqrt(observed + background + 1) + background)
    counts = np.arange(top)
    best = np.maximum(counts - background, 0.0) + background

    def accepted(signal: float) -> bool:
        chance = poisson.pmf(counts, signal + background)
        ratio = np.where(best > 0, chance / np.maximum(poisson.pmf(counts, best), 1e-300), (counts == 0) * chance)
        order = np.argsort(-ratio, kind="stable")
        held = np.cumsum(chance[order]) - chance[order] < confidence
        return bool((order[held] == observed).any())

    grid = np.arange(0.0, observed + 15 + 4 * math.sqrt(observed + 1), 0.02)
    inside = [signal for signal in grid if accepted(float(signal))]
    low = float(inside[-1]) if inside else 0.0
    high = low + 0.02
    for _ in range(20):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if accepted(middle) else (low, middle)
    return low


def _root(function, low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-12))
