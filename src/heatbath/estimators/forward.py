"""Forward effective sample size: what draws of the target say about a generator, missed modes included.

The usual (reverse) efficiency is measured on the generator's own draws, and cannot see where it never goes. With weights
w = exp(-u) / q of draws x ~ p of the target, the same quantity Z^2 / E_q[w^2] is

    Z / E_p[w] = 1 / (E_p[w] E_p[1/w]),     because E_q[w^2] = Z E_p[w] and E_p[1/w] = 1/Z,

which collapses when q is small where p is not.
"""

import math
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimate import Estimate
from heatbath.estimators.weights import PARETO_K_LIMIT, pareto_k


def forward_ess(
    log_weights: Any, reference_weights: Any = None, groups: Any = None, *, log_z: float | None = None
) -> Estimate:
    """The forward efficiency Z / E_p[w] as a fraction of the number of draws, in (0, 1].

    log_weights:        log w = -u(x) - log q(x) of frames x of the reference (n,), up to a common constant.
    reference_weights:  weights of the frames, where they are not equal.
    groups:             number of the independent chain of every frame (n,): errors come from the spread over chains.
    log_z:              log Z where it is known; else 1 / E_p[1/w] stands for Z, which needs the constant of no term.

    A frame with q = 0 (log w = +inf) makes the value 0. Not converged when the weights of the frames have a Pareto tail above
    0.7: then a few frames carry E_p[w] and the value is an upper bound. Error by the delta method.
    Source: Midgley et al., arXiv 2208.01893; Blessing et al., arXiv 2406.07423.
    """
    log_w = np.asarray(log_weights, dtype=np.float64)
    share = _shares(log_w, reference_weights)
    members = _members(groups, len(log_w))
    if np.isnan(log_w).any() or np.isneginf(log_w).any():
        raise NonFiniteError("log weights of reference frames must not be NaN or -inf: p has density where p was drawn")
    if np.isposinf(log_w[share > 0]).any():
        return Estimate(0.0, 0.0, method="forward efficiency", notes=("the model has no density at some frames",))
    mean, relative = _mean_exponential(log_w, share)
    if log_z is None:
        inverse, relative_inverse = _mean_exponential(-log_w, share)
        value, influence = math.exp(-mean - inverse), share * (relative + relative_inverse - 2)
    else:
        value, influence = math.exp(log_z - mean), share * (relative - 1)
    totals = np.bincount(members, weights=influence)
    count = len(totals)
    error = value * math.sqrt(float(np.sum(totals**2)) * count / max(count - 1, 1))
    notes = _notes(log_w, share)
    return Estimate(min(value, 1.0), error, method="forward efficiency", converged=not notes, notes=notes)


def _shares(log_w: np.ndarray, weights: Any) -> np.ndarray:
    if log_w.ndim != 1 or len(log_w) < 2:
        raise InvalidArgumentError(f"log_weights must be an array (n,) of at least two frames; found {log_w.shape}")
    weights = np.ones(len(log_w)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != log_w.shape or not (weights >= 0).all() or not weights.sum() > 0:
        raise InvalidArgumentError(
            f"reference_weights must be one non-negative number for each of {len(log_w)} frames; found {weights.shape}"
        )
    return weights / weights.sum()


def _members(groups: Any, count: int) -> np.ndarray:
    if groups is None:
        return np.arange(count)
    groups = np.asarray(groups)
    if groups.shape != (count,):
        raise InvalidArgumentError(f"groups must hold one number for each of {count} frames; found {groups.shape}")
    return np.unique(groups, return_inverse=True)[1]


def _mean_exponential(logs: np.ndarray, share: np.ndarray) -> tuple[float, np.ndarray]:
    """log of the mean of exp(logs), and each exp(log) over that mean."""
    top = logs[share > 0].max()
    terms = np.where(share > 0, np.exp(np.minimum(logs - top, 0.0)), 0.0)
    mean = float(np.sum(share * terms))
    return top + math.log(mean), terms / mean


def _notes(log_w: np.ndarray, share: np.ndarray) -> tuple[str, ...]:
    inside = share > 0
    k = pareto_k(log_w[inside] + np.log(share[inside]))
    if k < PARETO_K_LIMIT:
        return ()
    return (
        f"the mean weight of the reference hangs on a few frames (Pareto k {k:.2f} >= {PARETO_K_LIMIT}): the forward "
        "efficiency is an upper bound",
    )
