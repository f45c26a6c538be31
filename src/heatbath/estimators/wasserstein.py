"""Wasserstein-2 distances between two sets of weighted draws: of energies on a line, of torsions on a torus, of vectors.

    W2^2 = min over couplings of sum_ij P_ij c(x_i, y_j),   c = squared distance

One dimension is solved by sorting; the others exactly, as a linear programme of n m unknowns (POT's network simplex). All of
them are positive for two finite sets of draws from one law, and fall slowly with n (as n^(-1/d) in d > 2 dimensions): a value
means something beside its floor (``estimators.floors``) at the same n only.
"""

import math
from typing import Any

import numpy as np

from heatbath.errors import ConvergenceError, InvalidArgumentError, MissingExtraError, NonFiniteError, ResourceError
from heatbath.memory import available_bytes, readable_bytes

#: Bytes that exact transport needs per pair of points: the cost matrix, a work copy, and the solver's flow and index.
_BYTES_PER_PAIR = 32


def energy_wasserstein(first: Any, second: Any, first_weights: Any = None, second_weights: Any = None) -> float:
    """W2 between two sets of numbers (n,) and (m,), in their unit (the literature's E-W2 when they are reduced energies).

    W2^2 is the integral over p in (0, 1) of (F^-1(p) - G^-1(p))^2 with the quantile functions of the weighted draws: exact.
    Raises ``NonFiniteError`` for values that are not finite and carry weight.
    """
    x, p = _weighted("first", first, first_weights, dimensions=1)
    y, q = _weighted("second", second, second_weights, dimensions=1)
    order_x, order_y = np.argsort(x), np.argsort(y)
    x, y, levels_x, levels_y = x[order_x], y[order_y], np.cumsum(p[order_x]), np.cumsum(q[order_y])
    levels = np.sort(np.concatenate([levels_x, levels_y]))
    steps = np.diff(levels, prepend=0.0)
    middle = levels - 0.5 * steps
    at_x = x[np.minimum(np.searchsorted(levels_x, middle), len(x) - 1)]
    at_y = y[np.minimum(np.searchsorted(levels_y, middle), len(y) - 1)]
    return math.sqrt(float(np.sum(steps * (at_x - at_y) ** 2)))


def torus_wasserstein(
    first: Any,
    second: Any,
    first_weights: Any = None,
    second_weights: Any = None,
    *,
    most: int | None = None,
    seed: int = 0,
) -> float:
    """W2 between sets of angles (n, k) and (m, k) in radians; squared distance = sum over k of wrapped differences squared.

    The literature's T-W2, over all phi and psi. ``most`` takes that many draws of each side, at random by their weights, because
    the cost grows faster than n^2; compare values at one n only. Raises ``ResourceError`` when the n x m matrix does not fit
    into memory and ``MissingExtraError`` without the package POT.
    """
    x, p = _weighted("first", first, first_weights, dimensions=2)
    y, q = _weighted("second", second, second_weights, dimensions=2)
    return _transport(x, p, y, q, period=2 * math.pi, most=most, seed=seed)


def euclidean_wasserstein(
    first: Any,
    second: Any,
    first_weights: Any = None,
    second_weights: Any = None,
    *,
    most: int | None = None,
    seed: int = 0,
) -> float:
    """W2 between sets of vectors (n, k) and (m, k) with the Euclidean distance; options and errors of ``torus_wasserstein``."""
    x, p = _weighted("first", first, first_weights, dimensions=2)
    y, q = _weighted("second", second, second_weights, dimensions=2)
    return _transport(x, p, y, q, period=None, most=most, seed=seed)


def tica_wasserstein(
    projection: Any,
    first: Any,
    second: Any,
    first_weights: Any = None,
    second_weights: Any = None,
    *,
    most: int | None = None,
    seed: int = 0,
) -> float:
    """``euclidean_wasserstein`` after ``projection`` (a ``Tica`` fitted to the reference, or a function of features (n, d))."""
    project = getattr(projection, "project", projection)
    return euclidean_wasserstein(project(first), project(second), first_weights, second_weights, most=most, seed=seed)


def _weighted(name: str, values: Any, weights: Any, *, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and normalised weights of the draws that have any weight."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != dimensions or len(values) == 0:
        shape = "(n,)" if dimensions == 1 else "(n, k)"
        raise InvalidArgumentError(f"{name} must be a non-empty array {shape}; found shape {values.shape}")
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != values.shape[:1] or not (weights >= 0).all() or not 0 < weights.sum() < math.inf:
        raise InvalidArgumentError(
            f"the weights of {name} must be one non-negative number for each of its {len(values)} draws, not all zero; "
            f"found shape {weights.shape}"
        )
    values, weights = values[weights > 0], weights[weights > 0]
    if not np.isfinite(values).all():
        raise NonFiniteError(f"{int((~np.isfinite(values)).sum())} values of {name} that carry weight are not finite")
    return values, weights / weights.sum()


def _transport(
    x: np.ndarray, p: np.ndarray, y: np.ndarray, q: np.ndarray, *, period: float | None, most: int | None, seed: int
) -> float:
    """Exact W2 of weighted points, each side cut down to ``most`` draws."""
    try:
        import ot
    except ImportError as error:
        raise MissingExtraError("POT", "metrics", "optimal transport") from error
    if x.shape[1] != y.shape[1]:
        raise InvalidArgumentError(f"both sets must have the same coordinates; found {x.shape[1]} and {y.shape[1]}")
    if x.shape[1] == 0:
        raise InvalidArgumentError("transport needs at least one coordinate; found none")
    rng = np.random.default_rng(seed)
    x, p = _subsample(x, p, most, rng)
    y, q = _subsample(y, q, most, rng)
    needed, free = _BYTES_PER_PAIR * len(x) * len(y), available_bytes()
    if free is not None and needed > free:
        raise ResourceError(
            f"exact transport between {len(x)} and {len(y)} points needs {readable_bytes(needed)} and "
            f"{readable_bytes(free)} are free; give `most`, for instance {math.isqrt(free // (2 * _BYTES_PER_PAIR))}"
        )
    cost = _squared_distances(x, y, period)
    value, log = ot.emd2(p, q, cost, numItermax=100_000_000, log=True)
    if log["warning"] is not None:
        raise ConvergenceError(f"optimal transport did not converge: {log['warning']}")
    return math.sqrt(max(float(value), 0.0))


def _subsample(
    x: np.ndarray, p: np.ndarray, most: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``most`` equally weighted draws by systematic resampling in random order; all draws where there are no more."""
    if most is None or len(x) <= most:
        return x, p
    order = rng.permutation(len(x))
    points = (np.arange(most) + rng.random()) / most
    index = order[np.minimum(np.searchsorted(np.cumsum(p[order]), points), len(x) - 1)]
    return x[index], np.full(most, 1.0 / most)


def _squared_distances(x: np.ndarray, y: np.ndarray, period: float | None) -> np.ndarray:
    """(n, m), one coordinate at a time: two matrices in memory whatever their number."""
    total = np.zeros((len(x), len(y)))
    for a, b in zip(x.T, y.T, strict=True):
        difference = a[:, None] - b[None, :]
        if period is not None:
            difference -= period * np.round(difference / period)
        difference *= difference
        total += difference
    return total
