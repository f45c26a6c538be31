"""Fields and couplings of spins from samples without any partition function: maximum pseudo-likelihood."""

import dataclasses
from typing import Any

import numpy as np

from heatbath.errors import ConvergenceError, InvalidArgumentError

_STEPS = 50


@dataclasses.dataclass(frozen=True)
class PseudoLikelihood:
    """Fields (n,) and couplings (n, n) with standard errors of the same shapes, for U = -sum_{i<j} J s s - sum h s at beta = "
    "1.
    """

    fields: np.ndarray
    couplings: np.ndarray
    field_errors: np.ndarray
    coupling_errors: np.ndarray


def pseudo_likelihood(spins: Any) -> PseudoLikelihood:
    """Maximise sum over draws and sites of ln p(s_i | the others) = -ln(1 + exp(-2 s_i (h_i + sum_j J_ij s_j))).

    spins: (draw, n) of +-1, independent draws. Couplings are symmetric, fitted jointly by Newton's method; errors are Godambe's
    sandwich. Needs no sum over states, so that n may be large; less efficient than maximum likelihood. Source: Besag, The
    Statistician 24, 179 (1975).
    """
    spins = np.asarray(spins)
    if spins.ndim != 2 or spins.shape[1] < 2 or not np.isin(spins, (-1, 1)).all():
        raise InvalidArgumentError(f"spins are (draw, n) of +-1 with n >= 2; found shape {spins.shape}")
    rows, counts = np.unique(spins, axis=0, return_counts=True)
    s, weights = rows.astype(np.float64), counts / counts.sum()
    n = s.shape[1]
    first, second = np.triu_indices(n, 1)
    place = np.zeros((n, n), dtype=int)
    place[first, second] = place[second, first] = n + np.arange(len(first))
    place[np.arange(n), np.arange(n)] = np.arange(n)
    theta = np.zeros(n + len(first))
    for _ in range(_STEPS):
        scores, hessian = _scores(theta, s, weights, place)
        gradient = weights @ scores
        step = np.linalg.solve(hessian, gradient)
        theta = theta + step
        if (np.abs(step) < 1e-12 * (1 + np.abs(theta))).all():
            break
    else:
        raise ConvergenceError(
            "pseudo-likelihood has no finite maximum: some spin is determined by the others in every draw"
        )
    scores, hessian = _scores(theta, s, weights, place)
    bread = np.linalg.inv(hessian)
    covariance = bread @ (scores.T @ (weights[:, None] * scores)) @ bread / counts.sum()
    errors = np.sqrt(np.diag(covariance))
    couplings, coupling_errors = theta[place], errors[place]
    np.fill_diagonal(couplings, 0.0)
    np.fill_diagonal(coupling_errors, 0.0)
    return PseudoLikelihood(theta[:n], couplings, errors[:n], coupling_errors)


def _scores(theta: np.ndarray, s: np.ndarray, weights: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score of every distinct draw (rows, parameters), and minus the mean Hessian."""
    n, size = s.shape[1], theta.size
    scores, hessian = np.zeros((len(s), size)), np.zeros((size, size))
    for site in range(n):
        design = s.copy()
        design[:, site] = 1.0  # its own place holds the field
        slope = np.tanh(design @ theta[place[site]])
        scores[:, place[site]] += (s[:, site] - slope)[:, None] * design
        curvature = weights * (1 - slope**2)
        hessian[np.ix_(place[site], place[site])] += design.T @ (curvature[:, None] * design)
    return scores, hessian
