"""f-divergences D(c || p) = sum_i p_i phi(c_i / p_i): the family by name, their conjugates, and their values.

    name            phi(t)                                   scale x power alpha
    kl              t ln t - t + 1                           1   x 1
    reverse-kl      -ln t + t - 1                            1   x 0
    chi2            (t - 1)^2           (Pearson)            2   x 2
    neyman          (t - 1)^2 / t                            2   x -1
    hellinger       (sqrt t - 1)^2                           1/2 x 1/2
    alpha           (t^a - a t + a - 1) / (a (a - 1))        1   x a      (Cressie-Read; a ball of Renyi's divergence)
    jensen-shannon  (t ln t - (1 + t) ln((1 + t)/2)) / 2
    le-cam          (t - 1)^2 / (t + 1)
    total-variation |t - 1| / 2
    sup-norm        |t - 1|, its largest value instead of its mean

Everything is computed from u = ln t, so that ratios of any size have a divergence.
"""

import abc
import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError, nearest

#: Below this |ln t| the power divergences are summed as series; closed forms would lose digits.
_SERIES = 0.02


@dataclasses.dataclass(frozen=True)
class Divergence(abc.ABC):
    """One divergence, called ``name``."""

    name: str

    @abc.abstractmethod
    def phi(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        """The function at t = e^u; u may be -inf."""

    def of(self, u: np.ndarray | np.floating, p: np.ndarray) -> float:
        """D of the ratios e^u to the reference weights ``p``."""
        return float(np.sum(p * self.phi(u)))

    def between(self, c: np.ndarray, p: np.ndarray) -> float:
        """D(c || p) of two normalised weights. Raises ``InvalidArgumentError`` unless both are weights on p's support."""
        p, c = checked_reference(p), np.asarray(c, dtype=np.float64)
        if c.shape != p.shape or not np.isfinite(c).all() or (c < 0).any() or abs(c.sum() - 1) > 1e-8:
            raise InvalidArgumentError("c must be weights that are not negative, add up to 1 and fit p")
        with np.errstate(divide="ignore"):
            return self.of(np.log(c) - np.log(p), p)

    def of_weights(self, log_weights: Float[Array | np.ndarray, "..."]) -> float:
        """D of the weighted draws from the draws: how far importance weights are from equal (chi2 is 1 / ESS share - 1)."""
        x = np.asarray(log_weights, dtype=np.float64).reshape(-1)
        if x.size == 0 or np.isnan(x).any() or np.isposinf(x).any() or np.isneginf(x).all():
            raise InvalidArgumentError("log weights must not be NaN or +inf, and at least one must be finite")
        x = x - x.max()
        return self.of(x - math.log(np.mean(np.exp(x))), np.full(x.size, 1.0 / x.size))


@dataclasses.dataclass(frozen=True)
class SmoothDivergence(Divergence):
    """A divergence whose slope phi' can be inverted: what a ball of it contains is found from two multipliers."""

    @property
    @abc.abstractmethod
    def at_zero(self) -> float:
        """phi(0)."""

    @property
    def largest_slope(self) -> float:
        """phi'(infinity); beyond it there is no finite conjugate."""
        return math.inf

    @abc.abstractmethod
    def log_ratio(self, y: np.ndarray | np.floating) -> np.ndarray | np.floating:
        """ln t at which phi'(t) = y: -inf where phi'(0) > y."""

    @abc.abstractmethod
    def conjugate(self, y: np.ndarray | np.floating) -> np.ndarray | np.floating:
        """phi*(y) = max_t (y t - phi(t)), inf beyond the largest slope."""

    @abc.abstractmethod
    def conjugate_at(self, u: np.ndarray) -> np.ndarray:
        """phi*(phi'(t)) at t = e^u, without the slope, which large ratios cannot be told apart by."""


@dataclasses.dataclass(frozen=True)
class PowerDivergence(SmoothDivergence):
    """``scale`` times (t^alpha - alpha t + alpha - 1) / (alpha (alpha - 1)), with its limits at alpha = 0 and 1."""

    alpha: float
    scale: float = 1.0

    def phi(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        u = np.asarray(u, dtype=np.float64)
        value = self._closed(u)
        small = np.abs(u) < _SERIES
        if small.any():
            value = np.where(small, _series(self.alpha, np.where(small, u, 0.0)), value)
        return self.scale * value

    def of(self, u: np.ndarray | np.floating, p: np.ndarray) -> float:
        total = self.scale * float(p @ self._closed(np.asarray(u)))
        # the closed form loses 1e-16 |ln t| of every term: nothing beside a divergence that is not small
        return total if total > _SERIES else super().of(u, p)

    def _closed(self, u: np.ndarray) -> np.ndarray | np.floating:
        a = self.alpha
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            growth = np.expm1(u)
            if a == 1:
                value = (growth + 1) * u - growth
                return np.where(np.isneginf(u), 1.0, value)
            if a == 0:
                return growth - u
            return (np.expm1(a * u) - a * growth) / (a * (a - 1))

    @property
    def at_zero(self) -> float:
        return self.scale / self.alpha if self.alpha > 0 else math.inf

    def log_ratio(self, y: np.ndarray | np.floating) -> np.ndarray | np.floating:
        y = np.asarray(y) / self.scale
        if self.alpha == 1:
            return y
        base = 1 + (self.alpha - 1) * y
        with np.errstate(divide="ignore"):
            return np.where(
                base > 0, np.log(np.maximum(base, 0.0)) / (self.alpha - 1), -np.inf * np.sign(self.alpha - 1)
            )

    def conjugate(self, y: np.ndarray | np.floating) -> np.ndarray | np.floating:
        a, y = self.alpha, np.asarray(y) / self.scale
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            if a == 1:
                return self.scale * np.expm1(y)
            base = 1 + (a - 1) * y
            if a == 0:
                return self.scale * np.where(base > 0, -np.log(np.maximum(base, 0.0)), np.inf)
            value = (np.maximum(base, 0.0) ** (a / (a - 1)) - 1) / a
            return self.scale * (value if a > 1 else np.where(base > 0, value, np.inf))

    def conjugate_at(self, u: np.ndarray) -> np.ndarray:
        return self.scale * (u if self.alpha == 0 else np.expm1(self.alpha * u) / self.alpha)


@functools.lru_cache(maxsize=32)
def _series_coefficients(alpha: float) -> tuple[float, ...]:
    """(1 + a + ... + a^(n-2)) / n! for n = 8, ..., 2."""
    return tuple(sum(alpha**k for k in range(n - 1)) / math.factorial(n) for n in range(8, 1, -1))


def _series(alpha: float, u: np.ndarray) -> np.ndarray:
    """The power divergence for small ln t = u, to u^8."""
    made = np.zeros_like(u)
    for coefficient in _series_coefficients(alpha):
        made = made * u + coefficient
    return np.asarray(made * u * u)


@dataclasses.dataclass(frozen=True)
class BoundedSlopeDivergence(SmoothDivergence):
    """A divergence that grows in proportion to t in the end: phi' comes close to ``largest_slope`` and never reaches it.

    Large ratios lie so close to that slope that it must not be subtracted: everything is a function of ``below``, the
    distance s = phi'(infinity) - y > 0.
    """

    @abc.abstractmethod
    def log_ratio_below(self, s: np.ndarray) -> np.ndarray:
        """ln t at which phi'(t) = phi'(infinity) - s; -inf where phi'(0) is larger."""

    @abc.abstractmethod
    def curvature(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        """t phi''(t) at t = e^u."""

    def log_ratio(self, y: np.ndarray | np.floating) -> np.ndarray | np.floating:
        s = self.largest_slope - np.asarray(y)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(s > 0, self.log_ratio_below(s), np.inf)

    def conjugate(self, y: np.ndarray | np.floating) -> np.ndarray | np.floating:
        s = self.largest_slope - np.asarray(y)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(s > 0, self.conjugate_at(self.log_ratio_below(s)), np.inf)


@dataclasses.dataclass(frozen=True)
class JensenShannon(BoundedSlopeDivergence):
    """(KL(c || m) + KL(p || m)) / 2 with m = (c + p) / 2; at most ln 2."""

    def phi(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        u = np.asarray(u, dtype=np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            t = np.exp(u)
            middle = np.logaddexp(0.0, u) - math.log(2)  # ln((1 + t) / 2)
            return 0.5 * (np.where(np.isneginf(u), 0.0, t * np.where(np.isneginf(u), 0.0, u - middle)) - middle)

    @property
    def at_zero(self) -> float:
        return 0.5 * math.log(2)

    @property
    def largest_slope(self) -> float:
        return 0.5 * math.log(2)

    def log_ratio_below(self, s: np.ndarray) -> np.ndarray:
        return -2 * s - np.log(-np.expm1(-2 * s))

    def conjugate_at(self, u: np.ndarray) -> np.ndarray:
        return 0.5 * (np.logaddexp(0.0, u) - math.log(2))

    def curvature(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        return 0.5 / (1 + np.exp(u))


@dataclasses.dataclass(frozen=True)
class LeCam(BoundedSlopeDivergence):
    """sum (c - p)^2 / (c + p), the triangular discrimination; at most 2."""

    def phi(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        u = np.asarray(u, dtype=np.float64)
        return np.expm1(u) * np.tanh(0.5 * u)

    @property
    def at_zero(self) -> float:
        return 1.0

    @property
    def largest_slope(self) -> float:
        return 1.0

    def log_ratio_below(self, s: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(2 / np.sqrt(s) - 1, 0.0))

    def conjugate_at(self, u: np.ndarray) -> np.ndarray:
        root = 2 / (1 + np.exp(u))
        return (1 - root) * (3 - root)

    def curvature(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        t = np.exp(u)
        return 8 * t / ((1 + t) * (1 + t) * (1 + t))


@dataclasses.dataclass(frozen=True)
class TotalVariation(Divergence):
    """Half the sum of |c - p|: the mass that has to be moved."""

    def phi(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        return 0.5 * np.abs(np.expm1(u))


@dataclasses.dataclass(frozen=True)
class SupNorm(Divergence):
    """The largest |c / p - 1|: every weight within a share of the reference."""

    def phi(self, u: np.ndarray | np.floating) -> np.ndarray | np.floating:
        return np.abs(np.expm1(u))

    def of(self, u: np.ndarray | np.floating, p: np.ndarray) -> float:
        return float(np.max(self.phi(u)))


DIVERGENCES: dict[str, Divergence] = {
    made.name: made
    for made in (
        PowerDivergence("kl", 1.0),
        PowerDivergence("reverse-kl", 0.0),
        PowerDivergence("chi2", 2.0, 2.0),
        PowerDivergence("neyman", -1.0, 2.0),
        PowerDivergence("hellinger", 0.5, 0.5),
        JensenShannon("jensen-shannon"),
        LeCam("le-cam"),
        TotalVariation("total-variation"),
        SupNorm("sup-norm"),
    )
}


def divergence(name: str, *, alpha: float | None = None) -> Divergence:
    """The divergence called ``name``; "alpha" takes its power from ``alpha``. Raises ``InvalidArgumentError`` for others."""
    if name == "alpha":
        if alpha is None or not math.isfinite(alpha):
            raise InvalidArgumentError(f"the divergence 'alpha' needs a finite power alpha; found {alpha}")
        return PowerDivergence("alpha", float(alpha))
    if name not in DIVERGENCES:
        raise InvalidArgumentError(f"unknown divergence {name!r}. {nearest(name, [*DIVERGENCES, 'alpha'])}")
    return DIVERGENCES[name]


def checked_reference(p: np.ndarray) -> np.ndarray:
    """Normalised reference weights in float64. Raises ``InvalidArgumentError`` when one is zero, negative or not finite."""
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or p.size < 2 or not np.isfinite(p).all():
        raise InvalidArgumentError(
            f"reference weights are a list of at least two finite numbers; found shape {p.shape}"
        )
    if (p <= 0).any():
        raise InvalidArgumentError(
            f"{int((p <= 0).sum())} of {p.size} reference weights are zero or negative; leave such streams out, because no "
            "finite divergence speaks about them"
        )
    return p / p.sum()
