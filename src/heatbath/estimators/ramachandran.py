"""How different two Ramachandran plots are: the Jensen-Shannon divergence of weighted histograms of (phi, psi)."""

import math
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from heatbath.errors import InvalidArgumentError, NonFiniteError

#: Bins per circle: 7.5 degrees, as in the free-energy surfaces of the reports.
BINS = 48


def ramachandran_jsd(
    first: Any,
    second: Any,
    first_weights: Any = None,
    second_weights: Any = None,
    *,
    bins: int = BINS,
    smoothing: float = 0.0,
) -> float:
    """(KL(p|m) + KL(q|m)) / 2 with m = (p + q) / 2, in nats: 0 for equal plots, log 2 for disjoint ones.

    first (n, 2) and second (m, 2) hold phi and psi in radians, p and q are their weighted histograms on ``bins`` x ``bins``
    equal cells of the torus; ``smoothing`` is the standard deviation in bins of a periodic Gaussian blur of both (0: none).
    The divergence, not its square root. Finite draws raise it by about the number of occupied bins over 8 n; judge it beside
    its floor at the same number of draws.
    """
    p, q = (
        _histogram(name, angles, weights, bins, smoothing)
        for name, angles, weights in (("first", first, first_weights), ("second", second, second_weights))
    )
    middle = 0.5 * (p + q)
    return 0.5 * (_relative_entropy(p, middle) + _relative_entropy(q, middle))


def _histogram(name: str, angles: Any, weights: Any, bins: int, smoothing: float) -> np.ndarray:
    angles = np.asarray(angles, dtype=np.float64)
    if angles.ndim != 2 or angles.shape[1] != 2 or len(angles) == 0:
        raise InvalidArgumentError(f"{name} must hold pairs of angles (n, 2); found shape {angles.shape}")
    weights = np.ones(len(angles)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(angles),) or not (weights >= 0).all() or not 0 < weights.sum() < math.inf:
        raise InvalidArgumentError(
            f"the weights of {name} must be one non-negative number for each of its {len(angles)} draws, not all zero; "
            f"found shape {weights.shape}"
        )
    if not np.isfinite(angles[weights > 0]).all():
        raise NonFiniteError(f"some angles of {name} that carry weight are not finite")
    angles, weights = angles[weights > 0], weights[weights > 0]
    cell = np.floor((angles / (2 * math.pi) + 0.5) * bins).astype(np.int64) % bins
    counts = np.bincount(cell[:, 0] * bins + cell[:, 1], weights=weights, minlength=bins * bins).reshape(bins, bins)
    if smoothing > 0:
        counts = gaussian_filter(counts, smoothing, mode="wrap")
    return counts / counts.sum()


def _relative_entropy(p: np.ndarray, m: np.ndarray) -> float:
    inside = p > 0
    return float(np.sum(p[inside] * np.log(p[inside] / m[inside])))
