"""What draws of Markov chains are worth: autocorrelation times, effective sample sizes, split R-hat.

Arrays are (chain, draw), chains in time order; one chain may be given as (draw,). Definitions of R-hat and of the bulk and
tail sizes: Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021, Bayesian Analysis 16, 667.
"""

from typing import Any

import numpy as np
from scipy.special import ndtri

from heatbath.errors import InvalidArgumentError, NonFiniteError


def autocorrelation_time(chains: Any) -> float:
    """tau = 1 + 2 sum_t rho_t in draws, so that n draws are worth n / tau.

    rho_t is averaged over chains around the mean of all of them, and the sum stops where Geyer's initial monotone sequence
    does (Geyer 1992, Stat. Sci. 7, 473). NaN for constant chains. Believe it when chains are 50 tau long.
    """
    values = _chains(chains)
    covariance = _autocovariance(values - values.mean()).mean(axis=0)
    if not covariance[0] > 0:
        return float("nan")
    return _geyer_sum(covariance / covariance[0])


def effective_sample_size(chains: Any, kind: str = "bulk") -> float:
    """Independent draws that would be as good as these.

    kind: ``"bulk"`` on rank-normalised split chains, for the centre of the distribution; ``"tail"``, the smaller of the sizes
    for the 5 % and 95 % quantiles; ``"mean"`` on the split chains as they are, for the error of the mean. Chains that
    disagree lower it. NaN for values that never change. Raises ``InvalidArgumentError`` for another kind or fewer than
    four draws.
    """
    values = _chains(chains)
    if kind == "bulk":
        return _split_ess(_rank_normalised(_split(values)))
    if kind == "mean":
        return _split_ess(_split(values))
    if kind == "tail":
        quantiles = np.quantile(values, [0.05, 0.95])
        return min(_split_ess(_split((values <= quantile).astype(np.float64))) for quantile in quantiles)
    raise InvalidArgumentError(f"kind must be 'bulk', 'tail' or 'mean'; found {kind!r}")


def split_rhat(chains: Any) -> float:
    """Rank-normalised split R-hat: the larger of its value for location and for scale (folded around the median).

    Near 1 when every half of every chain sees the same distribution; above 1.01 they do not. Infinite when chains are
    stuck at different values, NaN when nothing ever changes.
    """
    values = _split(_chains(chains))
    folded = np.abs(values - np.median(values))
    location, scale = (_rhat(_rank_normalised(x)) for x in (values, folded))
    return location if np.isnan(scale) else max(location, scale)


def _chains(chains: Any) -> np.ndarray:
    values = np.asarray(chains, dtype=np.float64)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] < 4:
        raise InvalidArgumentError(f"expected an array (chain, draw) with at least 4 draws; found shape {values.shape}")
    if not np.isfinite(values).all():
        raise NonFiniteError(f"{int((~np.isfinite(values)).sum())} of {values.size} values are NaN or infinite")
    return values


def _split(values: np.ndarray) -> np.ndarray:
    """Both halves of every chain; the middle draw of an odd number is left out."""
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, -half:]])


def _rank_normalised(values: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks in all chains together; ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - 0.5 * (counts - 1)
    return ndtri((ranks[inverse.reshape(values.shape)] - 0.375) / (values.size + 0.25))


def _autocovariance(centred: np.ndarray) -> np.ndarray:
    """(1/n) sum_i x_i x_{i+t} along the last axis, by Fourier transform."""
    n = centred.shape[-1]
    size = 2 ** (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, n=size, axis=-1)
    return np.fft.irfft(np.abs(spectrum) ** 2, n=size, axis=-1)[..., :n] / n


def _geyer_sum(rho: np.ndarray) -> float:
    """1 + 2 sum of rho_t over Geyer's initial positive, monotone sequence of pair sums."""
    n = len(rho)
    even, odd = rho[0 : n - 1 : 2], rho[1:n:2]
    pairs = (even + odd)[: max(1, (n - 1) // 2)]
    negative = np.flatnonzero(pairs < 0)
    stop = max(1, int(negative[0]) if len(negative) else len(pairs) - 1)
    total = -1.0 + 2.0 * float(np.sum(np.minimum.accumulate(pairs[:stop])))
    # The first term of the pair where the sequence ends still carries signal when it is positive.
    if stop < len(pairs) and even[stop] > 0:
        total += float(even[stop])
    return total


def _split_ess(values: np.ndarray) -> float:
    """Effective sample size of chains that are already split, with between-chain variance in the denominator."""
    chains, draws = values.shape
    covariance = _autocovariance(values - values.mean(axis=1, keepdims=True)).mean(axis=0)
    within = covariance[0] * draws / (draws - 1.0)
    plus = covariance[0] + (np.var(values.mean(axis=1), ddof=1) if chains > 1 else 0.0)
    if not plus > 0:
        return float("nan")
    rho = 1.0 - (within - covariance) / plus
    rho[0] = 1.0
    total = chains * draws
    # Antithetic chains may beat independent draws, but not without bound.
    return total / max(_geyer_sum(rho), 1.0 / np.log10(total))


def _rhat(values: np.ndarray) -> float:
    draws = values.shape[1]
    within = np.mean(np.var(values, axis=1, ddof=1))
    between = np.var(values.mean(axis=1), ddof=1)
    if (np.ptp(values, axis=1) == 0).all():
        return float("inf") if between > 0 else float("nan")
    return float(np.sqrt((draws - 1) / draws + between / within))
