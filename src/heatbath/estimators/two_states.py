"""Free-energy differences between two states, and along a path: BAR, exponential averaging, thermodynamic integration.

Works are reduced: w = u_1(x) - u_0(x) for draws of state 0 (forward) and u_0(x) - u_1(x) for draws of state 1 (reverse), or
the dissipated work of a driven process. Free energies are reduced too, f = -log Z.
"""

import math
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import root_scalar

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimate import Estimate
from heatbath.estimators.free_energy import OVERLAP_THRESHOLD
from heatbath.estimators.weights import PARETO_K_LIMIT, kish_ess, pareto_k


def bar(
    w_forward: Any,
    w_reverse: Any,
    *,
    statistical_inefficiency: tuple[float, float] = (1.0, 1.0),
    overlap_threshold: float = OVERLAP_THRESHOLD,
) -> Estimate:
    """f_1 - f_0 by Bennett's acceptance ratio (Bennett 1976, J. Comput. Phys. 22, 245), the two-state case of MBAR.

    Solves sum_F 1/(1 + exp(M + w_F - f)) = sum_R 1/(1 + exp(-M + w_R + f)) with M = log(n_F / n_R) for f; w_forward (n_F,) and
    w_reverse (n_R,) are reduced works. The error is Bennett's asymptotic one; ``statistical_inefficiency`` (g_F, g_R) widens it.
    Not converged when the two sets of draws do not overlap. Raises ``InvalidArgumentError`` for an empty side.
    """
    forward, reverse = _works("w_forward", w_forward), _works("w_reverse", w_reverse)
    shift = math.log(len(forward) / len(reverse))

    def imbalance(f: float) -> float:
        return _log_mean_fermi(shift + forward - f, len(forward)) - _log_mean_fermi(f - shift + reverse, len(reverse))

    low = min(forward.min(), -reverse.max()) - abs(shift) - 1.0
    high = max(forward.max(), -reverse.min()) + abs(shift) + 1.0
    value = float(root_scalar(imbalance, bracket=(low, high), method="brentq", xtol=1e-13, rtol=1e-14).root)
    # log of the probability that a draw belongs to the other side, for the draws of each side
    log_forward = -np.logaddexp(0.0, shift + forward - value)
    log_reverse = -np.logaddexp(0.0, value - shift + reverse)
    variance = sum(
        g * _relative_variance(logs) / len(logs)
        for g, logs in zip(statistical_inefficiency, (log_forward, log_reverse), strict=True)
    )
    other = np.concatenate([np.exp(log_forward), -np.expm1(log_reverse)])
    overlap = float(np.sum(other * (1 - other)) / math.sqrt(np.sum(other**2) * np.sum((1 - other) ** 2)))
    notes = ()
    if not overlap >= overlap_threshold:
        notes = (f"states 0 and 1 do not overlap ({overlap:.2g} < {overlap_threshold:g}): add a state between them",)
    return Estimate(value, math.sqrt(variance), method="BAR", converged=not notes, notes=notes)


def exponential_averaging(work: Any) -> Estimate:
    """f_1 - f_0 = -log mean exp(-w) over draws of state 0 (Zwanzig 1954; Jarzynski 1997).

    One-sided and biased upwards for few draws; not converged when the tail of exp(-w) has Pareto k above 0.7. The error is
    the delta method's. Prefer ``bar`` when draws of both states exist.
    """
    work = _works("work", work)
    top = float((-work).max())
    weights = np.exp(-work - top)
    mean = float(weights.mean())
    error = float(weights.std(ddof=1) / math.sqrt(len(work)) / mean) if len(work) > 1 else math.inf
    notes = ()
    shape = pareto_k(-work)
    if not shape < PARETO_K_LIMIT:
        notes = (f"the average hangs on a few draws (Pareto k {shape:.2f} >= {PARETO_K_LIMIT}): draw from both states",)
    return Estimate(-(top + math.log(mean)), error, kish_ess(-work), "exponential averaging", not notes, notes)


def thermodynamic_integration(lambdas: Any, mean_dudl: Any, errors: Any = None) -> Estimate:
    """f(lambda_last) - f(lambda_first) = integral of <du/dlambda> over lambda.

    lambdas (K,) increasing or decreasing, mean_dudl (K,) the mean derivative of the reduced energy in each state, errors
    (K,) its standard errors. Integrates a cubic spline, a linear functional of the means, so that errors propagate exactly.
    The spacing is judged by leaving out every second inner point: not converged when that changes the integral by more
    than the error allows. With lambda = beta this is log Z(beta_0) - log Z(beta_1) from mean energies.
    """
    x, y = np.asarray(lambdas, dtype=np.float64), np.asarray(mean_dudl, dtype=np.float64)
    e = np.zeros_like(y) if errors is None else np.asarray(errors, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or y.shape != x.shape or e.shape != x.shape:
        raise InvalidArgumentError(
            f"lambdas, mean_dudl and errors must have one shape (K,) with K >= 2; found {x.shape}, {y.shape}, {e.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(e).all()):
        raise NonFiniteError("lambdas, mean_dudl and errors must be finite")
    sign = 1.0 if x[-1] > x[0] else -1.0
    if not (np.diff(sign * x) > 0).all():
        raise InvalidArgumentError(f"lambdas must increase or decrease strictly; found {x.tolist()}")
    weights = _spline_weights(x)
    value, error = float(weights @ y), float(np.sqrt(np.sum((weights * e) ** 2)))
    notes = ()
    if len(x) >= 5:
        keep = np.unique(np.r_[np.arange(0, len(x), 2), len(x) - 1])
        change = float(_spline_weights(x[keep]) @ y[keep]) - value
        # A cubic spline's error falls as the fourth power of the spacing, so the finer rule is about 15 times better.
        doubt = abs(change) / 15.0
        if doubt > max(error, 1e-3 * abs(value), 1e-6):
            notes = (
                f"the integral depends on the spacing of lambda (by about {doubt:.2g}, error {error:.2g}): add states",
            )
    else:
        notes = (f"{len(x)} points are too few to judge the integration over lambda; use at least 5",)
    return Estimate(value, error, method="thermodynamic integration, cubic spline", converged=not notes, notes=notes)


def _works(name: str, work: Any) -> np.ndarray:
    values = np.asarray(work, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InvalidArgumentError(f"{name} must be a non-empty array (n,); found shape {values.shape}")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise NonFiniteError(f"{bad} of {len(values)} works in {name} are NaN or infinite")
    return values


def _log_mean_fermi(x: np.ndarray, count: int) -> float:
    """log of the sum of 1 / (1 + e^x); ``count`` terms."""
    logs = -np.logaddexp(0.0, x)
    top = logs.max()
    return float(top + math.log(np.exp(logs - top).sum())) if count else -math.inf


def _relative_variance(logs: np.ndarray) -> float:
    """<f^2> / <f>^2 - 1 from log f."""
    values = np.exp(logs - logs.max())
    return float(np.mean(values**2) / np.mean(values) ** 2 - 1.0)


def _spline_weights(x: np.ndarray) -> np.ndarray:
    """Weights of the integral of the cubic spline through the points (the line or parabola for two or three)."""
    sign = 1.0 if x[-1] > x[0] else -1.0
    spline = CubicSpline(sign * x, np.eye(len(x)), bc_type="not-a-knot")
    return sign * spline.integrate(sign * x[0], sign * x[-1])
