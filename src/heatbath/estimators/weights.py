"""How far importance weights can be trusted: Kish's effective sample size, the Pareto shape of their tail, smoothing."""

import math
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError, NonFiniteError

#: Above this shape the error of a weighted mean is not to be believed (Vehtari et al. 2024); above 1 there is no mean at all.
PARETO_K_LIMIT = 0.7


def kish_ess(log_weights: Any) -> float:
    """(sum w)^2 / sum w^2 in draws, from log weights of any shape."""
    x = _checked(log_weights)
    weights = np.exp(x - x.max())
    return float(weights.sum() ** 2 / np.sum(weights**2))


def kish_ess_after_cut(log_weights: Any, fraction: float = 0.002) -> float:
    """Kish's effective size of the draws that are left when the largest ``fraction`` of the weights is thrown away.

    The number that papers on Boltzmann generators print (0.2 %); a biased set of draws, to be shown beside the raw ``kish_ess``
    and never instead of it. The number of draws cut is rounded up.
    """
    x = np.sort(_checked(log_weights).reshape(-1))
    if not 0 <= fraction < 1:
        raise InvalidArgumentError(f"fraction must be in [0, 1); found {fraction}")
    return kish_ess(x[: max(len(x) - math.ceil(fraction * len(x)), 1)])


def pareto_k(log_weights: Any, *, relative_efficiency: float = 1.0) -> float:
    """Shape k of the generalised Pareto distribution fitted to the largest weights (Vehtari et al. 2024, JMLR 25(72)).

    1/k moments of the weights exist: k < 0.5 finite variance, k < 0.7 usable means, k >= 1 no mean. The tail has
    min(S / 5, 3 sqrt(S / relative_efficiency)) of the S draws; the fit is Zhang & Stephens' (2009) with a weak prior at
    0.5. Infinite when five or fewer weights are in the tail; -inf when all weights are equal.
    """
    return _smoothed(_checked(log_weights).reshape(-1), relative_efficiency)[1]


def pareto_smoothed_log_weights(log_weights: Any, *, relative_efficiency: float = 1.0) -> tuple[np.ndarray, float]:
    """Normalised log weights whose largest values are replaced by quantiles of the fitted tail, and k (PSIS).

    Smoothing lowers the variance and adds a small bias; results that claim exactness use the raw weights.
    """
    x = _checked(log_weights)
    smooth, k = _smoothed(x.reshape(-1), relative_efficiency)
    top = smooth.max()
    return (smooth - top - math.log(np.exp(smooth - top).sum())).reshape(x.shape), k


def _checked(log_weights: Any) -> np.ndarray:
    x = np.asarray(log_weights, dtype=np.float64)
    if x.size == 0:
        raise InvalidArgumentError("log_weights is empty")
    if np.isnan(x).any() or np.isposinf(x).any() or np.isneginf(x).all():
        raise NonFiniteError("log weights must not be NaN or +inf, and at least one must be finite")
    return x


def _smoothed(log_weights: np.ndarray, relative_efficiency: float) -> tuple[np.ndarray, float]:
    x = log_weights - log_weights.max()
    size = math.ceil(min(0.2 * len(x), 3.0 * math.sqrt(len(x) / relative_efficiency)))
    order = np.sort(x)
    if order[0] == 0.0:
        return x, -math.inf
    cutoff = max(order[max(-size - 1, -len(x))], math.log(np.finfo(np.float64).tiny))
    tail = np.flatnonzero(x > cutoff)
    if len(tail) <= 4:
        return x, math.inf
    tail = tail[np.argsort(x[tail])]
    excess = np.exp(x[tail]) - math.exp(cutoff)
    k, sigma = _fit_generalised_pareto(excess)
    if math.isfinite(k):
        x = x.copy()
        probability = (np.arange(len(tail)) + 0.5) / len(tail)
        with np.errstate(
            over="ignore"
        ):  # a quantile beyond the largest number is cut to the largest weight like any other
            x[tail] = np.minimum(np.log(_pareto_quantile(probability, k, sigma) + math.exp(cutoff)), 0.0)
    return x, k


def _fit_generalised_pareto(excess: np.ndarray) -> tuple[float, float]:
    """Shape and scale from sorted exceedances: the profile posterior mean of Zhang & Stephens (2009, Technometrics 51, 316)."""
    n = len(excess)
    count = 30 + int(math.sqrt(n))
    quartile = excess[int(n / 4 + 0.5) - 1]
    theta = 1.0 / excess[-1] + (1.0 - np.sqrt(count / (np.arange(1, count + 1) - 0.5))) / (3.0 * quartile)
    shape = np.mean(np.log1p(-theta[:, None] * excess), axis=1)
    profile = n * (np.log(-theta / shape) - shape - 1.0)
    posterior = np.exp(profile - profile.max())
    theta_mean = float(np.sum(theta * posterior) / posterior.sum())
    k = float(np.mean(np.log1p(-theta_mean * excess)))
    sigma = -k / theta_mean
    return (k * n + 5.0) / (n + 10.0), sigma


def _pareto_quantile(probability: np.ndarray, k: float, sigma: float) -> np.ndarray:
    if abs(k) < 1e-12:
        return -sigma * np.log1p(-probability)
    return sigma * np.expm1(-k * np.log1p(-probability)) / k
