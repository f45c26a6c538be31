"""From means or samples to coordinates: minimum Kullback-Leibler divergence, standard errors, and tests for lambda_k = 0."""

import dataclasses
from typing import Any

import numpy as np
from scipy.special import chdtrc, ndtr

from heatbath.errors import ConvergenceError, InvalidArgumentError

_STEPS = 200
#: Smallest variance of a combination of statistics, in units of the reference's, that is not taken for the edge of the possible.
_EDGE = 1e-8


@dataclasses.dataclass(frozen=True)
class MinimumKL:
    """The distribution closest to a reference Q among those with given means: p_i = Q_i exp(-lambda . a_i - ln Z).

    ``covariance`` (r, r) is that of the statistics under p, the Hessian of the dual; ``divergence`` is KL(p || Q).
    """

    coordinates: np.ndarray
    log_z: float
    probabilities: np.ndarray
    covariance: np.ndarray
    divergence: float


def minimum_kl(statistics: Any, means: Any, reference: Any = None, tolerance: float = 1e-12) -> MinimumKL:
    """The p that minimises KL(p || Q) subject to sum_i p_i a_ki = m_k.

    statistics:  (N, r), every statistic in every state (without the column of ones).
    means:       (r,) the wanted means m.
    reference:   (N,) Q > 0, uniform by default.
    tolerance:   largest error of a mean, in units of the statistic's standard deviation under Q.

    Newton's method on the convex dual ln sum_i Q_i exp(-lambda.a_i) + lambda.m. Raises ``InvalidArgumentError`` for statistics
    that depend on one another, ``ConvergenceError`` for means that no positive distribution has (lambda then runs away).
    """
    a, m, log_q = _checked(statistics, means, reference)
    q = np.exp(log_q)
    centre = q @ a
    scale = np.sqrt(q @ (a - centre) ** 2)
    varies = scale > 1e-12 * np.abs(a).max(axis=0)
    if not varies.all():
        raise InvalidArgumentError(
            f"statistics {np.flatnonzero(~varies).tolist()} have one value in every state; leave them out"
        )
    a, m = (a - centre) / scale, (m - centre) / scale
    if np.linalg.eigvalsh(a.T @ (q[:, None] * a))[0] < 1e-10:
        raise InvalidArgumentError(
            "the statistics depend linearly on one another; leave out those that follow from others"
        )
    coordinates, point = np.zeros(a.shape[1]), _dual(np.zeros(a.shape[1]), a, m, log_q)
    best = np.inf
    for _ in range(_STEPS):
        error = np.abs(point.gradient)
        if (error <= tolerance).all():
            break
        if (error <= 1e-9).all() and error.max() >= 0.5 * best:  # rounding allows no better
            break
        best = min(best, error.max())
        coordinates, point = _newton(coordinates, point, a, m, log_q)
    else:
        raise _unreachable(point.gradient)
    on_edge = np.linalg.eigvalsh(point.covariance)[0] < _EDGE
    if on_edge or not (np.abs(point.gradient) <= max(tolerance, 1e-9)).all():
        raise _unreachable(point.gradient)
    covariance = point.covariance * np.outer(scale, scale)
    lam = coordinates / scale
    log_z = point.log_z - lam @ centre
    kl = float(point.probabilities @ (-(a @ coordinates) - point.log_z))
    return MinimumKL(lam, float(log_z), point.probabilities, covariance, kl)


@dataclasses.dataclass(frozen=True)
class _Point:
    value: float
    gradient: np.ndarray
    covariance: np.ndarray
    probabilities: np.ndarray
    log_z: float


def _dual(lam: np.ndarray, a: np.ndarray, m: np.ndarray, log_q: np.ndarray) -> _Point:
    exponents = log_q - a @ lam
    top = exponents.max()
    weights = np.exp(exponents - top)
    log_z = top + np.log(weights.sum())
    p = weights / weights.sum()
    mean = p @ a
    centred = a - mean
    return _Point(log_z + lam @ m, m - mean, centred.T @ (p[:, None] * centred), p, log_z)


def _newton(
    lam: np.ndarray, point: _Point, a: np.ndarray, m: np.ndarray, log_q: np.ndarray
) -> tuple[np.ndarray, _Point]:
    """One Newton step, halved until the dual falls."""
    try:
        step = -np.linalg.solve(point.covariance, point.gradient)
    except np.linalg.LinAlgError as error:
        raise _unreachable(point.gradient) from error
    length = 1.0
    while length > 1e-10:
        new = _dual(lam + length * step, a, m, log_q)
        slack = 1e-14 * (1 + abs(point.value))
        if np.isfinite(new.value) and new.value <= point.value + 1e-4 * length * (point.gradient @ step) + slack:
            return lam + length * step, new
        length /= 2
    raise _unreachable(point.gradient)


def _unreachable(gradient: np.ndarray) -> ConvergenceError:
    return ConvergenceError(
        f"no coordinates were found for these means (largest error {np.abs(gradient).max():.1e} standard deviations): they "
        f"lie on or beyond "
        "the edge of what a positive distribution can have. Leave out statistics that never vary in the data."
    )


def _checked(statistics, means, reference) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, m = np.asarray(statistics, dtype=np.float64), np.asarray(means, dtype=np.float64)
    if a.ndim != 2 or m.shape != (a.shape[1],) or not (np.isfinite(a).all() and np.isfinite(m).all()):
        raise InvalidArgumentError(f"statistics are (N, r) and means (r,), all finite; found {a.shape} and {m.shape}")
    if reference is None:
        return a, m, np.full(len(a), -np.log(len(a)))
    q = np.asarray(reference, dtype=np.float64)
    if q.shape != (len(a),) or not (np.isfinite(q).all() and (q > 0).all()):
        raise InvalidArgumentError(f"a reference is {len(a)} positive probabilities; found shape {q.shape}")
    return a, m, np.log(q / q.sum())


# From samples ---------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Inference:
    """Maximum-likelihood coordinates of chosen statistics, with errors.

    ``coordinates``, ``standard_errors`` (r,); ``covariance`` (r, r) of the coordinates; ``model`` the fitted distribution;
    ``means`` those of the sample; ``draws`` the number of samples; ``chains`` that of the chains whose spread gave the errors
    (0: independent draws).
    """

    coordinates: np.ndarray
    standard_errors: np.ndarray
    covariance: np.ndarray
    model: MinimumKL
    means: np.ndarray
    draws: int
    chains: int = 0

    @property
    def z(self) -> np.ndarray:
        """Wald statistics lambda_k / error."""
        return self.coordinates / self.standard_errors

    @property
    def p_values(self) -> np.ndarray:
        """Two-sided odds of so large a z if lambda_k = 0."""
        return 2 * ndtr(-np.abs(self.z))


def infer(statistics: Any, states: Any, reference: Any = None) -> Inference:
    """Coordinates from sampled states: the minimum-KL distribution with the sample's means, which is the most likely one.

    statistics:  (N, r) in every state.
    states:      numbers of the sampled states: (draw,) independent draws, or (chain, draw) for chains in time order, of which at
                 least four are needed; their spread then gives the errors, autocorrelation included.

    Errors: C^-1 Sigma C^-1 with the model's covariance C and that of the sample mean Sigma. They hold for a wrong model, too.
    """
    states = np.asarray(states)
    a = np.asarray(statistics, dtype=np.float64)
    if states.ndim not in (1, 2) or not np.issubdtype(states.dtype, np.integer) or states.size < 2:
        raise InvalidArgumentError(
            f"states are integers of shape (draw,) or (chain, draw); found {states.dtype}, {states.shape}"
        )
    if states.min() < 0 or states.max() >= len(a):
        raise InvalidArgumentError(f"states are numbers in 0..{len(a) - 1}; found {states.min()}..{states.max()}")
    if states.ndim == 2 and len(states) < 4:
        raise InvalidArgumentError(f"errors from the spread over chains need at least 4 of them; found {len(states)}")
    rows = states if states.ndim == 2 else states[None]
    frequencies = np.stack([np.bincount(row, minlength=len(a)) / row.size for row in rows])
    total = frequencies.mean(axis=0)
    means = total @ a
    model = minimum_kl(a, means, reference)
    response = np.linalg.inv(model.covariance)
    if states.ndim == 2:
        spread = (frequencies @ a - means) @ response
        covariance = spread.T @ spread / (len(rows) * (len(rows) - 1))
    else:
        centred = a - means
        noise = centred.T @ (total[:, None] * centred) / states.size
        covariance = response @ noise @ response
    errors = np.sqrt(np.diag(covariance))
    return Inference(
        model.coordinates, errors, covariance, model, means, states.size, len(rows) if states.ndim == 2 else 0
    )


def score_test(fit: Inference, statistics: Any, extra: Any, states: Any) -> np.ndarray:
    """z of each statistic that the fit leaves out, (N, m) -> (m,): is its mean what the fitted model says?

    Independent draws. The deviation's variance is what is left of the statistic's own after regression on those of the fit.
    """
    a, b = np.asarray(statistics, dtype=np.float64), np.asarray(extra, dtype=np.float64)
    p = fit.model.probabilities
    a, centred = a - p @ a, b - p @ b
    across = a.T @ (p[:, None] * centred)
    residual = centred - a @ np.linalg.solve(fit.model.covariance, across)
    variance = p @ residual**2 / fit.draws
    frequencies = np.bincount(np.asarray(states).reshape(-1), minlength=len(b)) / fit.draws
    deviation = frequencies @ centred
    return deviation / np.sqrt(variance)


def select(fit: Inference, level: float = 0.05) -> np.ndarray:
    """Which statistics are needed: those whose lambda_k = 0 Holm's procedure rejects; (r,) of bool.

    The odds that any superfluous one is kept are at most ``level``, however many there are (Holm, Scand. J. Stat. 6, 65 (1979)).
    """
    p_values = fit.p_values
    order = np.argsort(p_values)
    limits = level / (len(p_values) - np.arange(len(p_values)))
    passed = np.cumprod(p_values[order] <= limits).astype(bool)
    kept = np.zeros(len(p_values), dtype=bool)
    kept[order[passed]] = True
    return kept


def joint_test(fit: Inference, numbers: Any) -> tuple[float, float]:
    """Wald's chi-squared of lambda_k = 0 for several k together, and the odds of so large a value."""
    part = np.asarray(numbers)
    lam = fit.coordinates[part]
    statistic = float(lam @ np.linalg.solve(fit.covariance[np.ix_(part, part)], lam))
    return statistic, float(chdtrc(len(part), statistic))
