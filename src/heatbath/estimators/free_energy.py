"""Free energies of many states from draws of all of them: the multistate Bennett acceptance ratio (MBAR).

Everything here is NumPy in float64 on the host. Free energies are reduced, f = -log Z, and belong to reduced energies u;
``u_kn[k, n]`` is the reduced energy of draw n in state k.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimate import Estimate

#: Two states count as connected when the cosine between their weight vectors is at least this (see ``MBARResult.connection``).
OVERLAP_THRESHOLD = 0.03

#: Largest number of matrix entries held at once; 2**20 doubles are 8 MB.
_CHUNK_ENTRIES = 2**20


@dataclasses.dataclass(frozen=True)
class MBARResult:
    """What MBAR knows after it has been solved.

    f_k:              (K,) reduced free energies -log Z_k, with f_k[0] = 0.
    covariance:       (K, K) covariance of f_k (asymptotic; only differences of f_k have a meaning).
    overlap:          (K, K), ``overlap[i, j]`` is the mean probability that a draw from state i is taken for one of state j;
                      rows sum to one.
    connection:       (K, K) symmetric, the cosine between the weight vectors of two states over all draws: 1 for
                      identical states, 0 for states without common draws, whatever the number of states.
    log_denominators: (N,) log sum_k n_k exp(f_k - u_kn), the log density of the mixture of all states.
    converged:        whether the equations are solved and every state hangs together with every other one.
    notes:            the reasons when it is not, naming the states (counted from 0).
    iterations:       passes over the data; ``residual`` is the largest relative violation of the equations.
    """

    f_k: np.ndarray
    covariance: np.ndarray
    overlap: np.ndarray
    connection: np.ndarray
    log_denominators: np.ndarray
    converged: bool
    notes: tuple[str, ...]
    iterations: int
    residual: float

    @property
    def standard_errors(self) -> np.ndarray:
        """(K,) standard errors of f_k - f_k[0]."""
        spread = np.diag(self.covariance) + self.covariance[0, 0] - 2.0 * self.covariance[0]
        return np.sqrt(np.maximum(spread, 0.0))

    def log_weights(self, u_n: Any) -> np.ndarray:
        """(N,) normalised log weights of all draws for a state with reduced energies ``u_n`` (N,): logsumexp is 0.

        log w_n = -u_n - log sum_k n_k exp(f_k - u_kn) + constant. Raises ``NonFiniteError`` when an energy is NaN.
        """
        return self._unnormalised(u_n) - _log_sum_exp(self._unnormalised(u_n))

    def free_energy(self, u_n: Any) -> float:
        """f = -log Z of a state with reduced energies ``u_n`` (N,), on the scale of ``f_k``."""
        return float(-_log_sum_exp(self._unnormalised(u_n)))

    def difference(self, i: int, j: int) -> Estimate:
        """f_j - f_i with its asymptotic standard error."""
        cov = self.covariance
        error = math.sqrt(max(cov[i, i] + cov[j, j] - 2.0 * cov[i, j], 0.0))
        return Estimate(
            float(self.f_k[j] - self.f_k[i]), error, method="MBAR", converged=self.converged, notes=self.notes
        )

    def _unnormalised(self, u_n: Any) -> np.ndarray:
        u = np.asarray(u_n, dtype=np.float64)
        if u.shape != self.log_denominators.shape:
            raise InvalidArgumentError(f"u_n must have the shape {self.log_denominators.shape}; found {u.shape}")
        if np.isnan(u).any():
            raise NonFiniteError(f"{int(np.isnan(u).sum())} of {u.size} reduced energies are NaN")
        return -u - self.log_denominators


def mbar(
    u_kn: Any,
    n_k: Any,
    *,
    statistical_inefficiency: Any = 1.0,
    initial: Any = None,
    tolerance: float = 1e-12,
    max_iterations: int = 500,
    overlap_threshold: float = OVERLAP_THRESHOLD,
) -> MBARResult:
    """The multistate Bennett acceptance ratio (Shirts & Chodera 2008, J. Chem. Phys. 129, 124105).

    Solves sum_n W_nk = 1 with W_nk = exp(f_k - u_kn) / sum_j n_j exp(f_j - u_jn) by Newton steps on the convex objective
    sum_n log sum_k n_k exp(f_k - u_kn) - sum_k n_k f_k, with the self-consistent iteration where a step does not help.

    u_kn: (K, N) reduced energies of all draws in all states; +inf is allowed where a draw is impossible in a state.
        The order of the draws does not matter. float32 is read as it is and summed in float64.
    n_k: (K,) number of draws that came from each state; states with none get a free energy too.
    statistical_inefficiency: g = 1 + 2 tau of the draws, one number or one per state; widens the errors only.
    initial: starting guess for f_k.

    The verdict is about overlap as well as about the equations: when the graph of states that share draws falls into
    pieces, ``converged`` is False and the notes name the two closest states of each gap.
    Raises ``InvalidArgumentError`` for shapes that do not fit and ``NonFiniteError`` for NaN.
    """
    u_kn, n_k = _checked(u_kn, n_k)
    sampled = np.flatnonzero(n_k > 0)
    guess = np.zeros(len(n_k)) if initial is None else np.array(initial, dtype=np.float64)
    rows = u_kn if len(sampled) == len(n_k) else u_kn[sampled]
    f, iterations, residual = _solve(rows, n_k[sampled], guess[sampled], tolerance, max_iterations)
    log_denominators = _log_denominators(rows, f, n_k[sampled])
    f_k = np.array([-_log_sum_exp(-np.asarray(row, dtype=np.float64) - log_denominators) for row in u_kn])
    f_k[sampled] = f
    shift = f_k[0]
    f_k, log_denominators = f_k - shift, log_denominators - shift
    gram, thirds = _weight_moments(u_kn, f_k, log_denominators, statistical_inefficiency)
    covariance = _covariance(gram, thirds, n_k, statistical_inefficiency)
    norms = np.sqrt(np.diag(gram))
    connection = gram / np.outer(norms, norms)
    notes = _verdict(connection, n_k, residual, overlap_threshold)
    return MBARResult(
        f_k, covariance, gram * n_k, connection, log_denominators, not notes, tuple(notes), iterations, residual
    )


def _checked(u_kn: Any, n_k: Any) -> tuple[np.ndarray, np.ndarray]:
    u_kn, counts = np.asarray(u_kn), np.asarray(n_k)
    if u_kn.ndim != 2 or counts.shape != (u_kn.shape[0],):
        raise InvalidArgumentError(
            f"u_kn must have the shape (states, draws) and n_k (states,); found {u_kn.shape} and {counts.shape}"
        )
    if (counts < 0).any() or counts.sum() != u_kn.shape[1]:
        raise InvalidArgumentError(
            f"n_k must be counts that add up to the {u_kn.shape[1]} draws of u_kn; found a sum of {counts.sum()}"
        )
    if u_kn.dtype != np.float32:
        u_kn = u_kn.astype(np.float64, copy=False)
    bad = int(np.isnan(u_kn).sum() + np.isneginf(u_kn).sum())
    if bad:
        raise NonFiniteError(f"{bad} of {u_kn.size} reduced energies are NaN or -inf; leave those draws out of u_kn")
    impossible = int((~np.isfinite(u_kn[counts > 0]).any(axis=0)).sum())
    if impossible:
        raise NonFiniteError(f"{impossible} of {u_kn.shape[1]} draws have an infinite energy in every sampled state")
    empty = np.flatnonzero(~np.isfinite(u_kn).any(axis=1))
    if len(empty):
        raise NonFiniteError(f"no draw has a finite energy in the states {empty.tolist()}: nothing is known about them")
    return u_kn, counts.astype(np.float64)


# The equations ------------------------------------------------------------------------------------------------------


def _chunks(u_kn: np.ndarray):
    size = max(256, _CHUNK_ENTRIES // u_kn.shape[0])
    for start in range(0, u_kn.shape[1], size):
        part = slice(start, start + size)
        yield part, np.asarray(u_kn[:, part], dtype=np.float64)


def _log_denominators(u_kn: np.ndarray, f: np.ndarray, n: np.ndarray) -> np.ndarray:
    """log sum_k n_k exp(f_k - u_kn) of every draw."""
    out = np.empty(u_kn.shape[1])
    for part, u in _chunks(u_kn):
        exponents = (f + np.log(n))[:, None] - u
        top = exponents.max(axis=0)
        out[part] = top + np.log(np.exp(exponents - top).sum(axis=0))
    return out


def _responsibilities(u_kn: np.ndarray, f: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over draws of p_k and of p_k p_j, where p_k = n_k W_nk is the posterior probability of state k."""
    sums, products = np.zeros(len(n)), np.zeros((len(n), len(n)))
    bias = (f + np.log(n))[:, None]
    for _, u in _chunks(u_kn):
        p = bias - u
        p -= p.max(axis=0)
        np.exp(p, out=p)
        p /= p.sum(axis=0)
        sums += p.sum(axis=1)
        products += p @ p.T
    return sums, products


def _self_consistent(u_kn: np.ndarray, f: np.ndarray, n: np.ndarray) -> np.ndarray:
    """One self-consistent update in logarithms, safe from any starting point."""
    log_denominators = _log_denominators(u_kn, f, n)
    new = np.array([-_log_sum_exp(-np.asarray(row, dtype=np.float64) - log_denominators) for row in u_kn])
    return new - new[0]


def _solve(u_kn, n, f, tolerance, max_iterations):
    """Newton steps guarded by the self-consistent iteration, which always lowers the objective."""
    f = f - f[0]
    if len(n) == 1:
        return f, 0, 0.0
    for _ in range(2):
        f = _self_consistent(u_kn, f, n)
    iterations, worse = 2, 0
    sums, products = _responsibilities(u_kn, f, n)
    best = (_violation(sums, n), f)
    while iterations < max_iterations and best[0] > tolerance and worse < 2:
        violation = _violation(sums, n)
        candidate = f + _newton_step(sums, products, n)
        new_sums, new_products = _responsibilities(u_kn, candidate, n)
        iterations += 1
        if not _violation(new_sums, n) < violation:
            candidate = _self_consistent(u_kn, f, n)
            new_sums, new_products = _responsibilities(u_kn, candidate, n)
            iterations += 2
            # Near the rounding floor neither kind of step helps; far from it the slow one always does in the end.
            worse = worse + 1 if violation < 1e-9 else 0
        f, sums, products = candidate, new_sums, new_products
        if _violation(sums, n) < best[0]:
            best = (_violation(sums, n), f)
    return best[1], iterations, float(best[0])


def _violation(sums: np.ndarray, n: np.ndarray) -> float:
    value = np.abs(sums / n - 1.0).max()
    return math.inf if np.isnan(value) else float(value)


def _newton_step(sums: np.ndarray, products: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Minus Hessian^-1 gradient with f_0 held; the pseudo-inverse leaves disconnected states where they are."""
    hessian = np.diag(sums) - products
    scale = 1.0 / np.sqrt(np.maximum(n, 1.0))
    scaled = (hessian * np.outer(scale, scale))[1:, 1:]
    gradient = ((sums - n) * scale)[1:]
    step = np.zeros(len(n))
    step[1:] = -(np.linalg.pinv(scaled, rcond=1e-14, hermitian=True) @ gradient) * scale[1:]
    return np.clip(step, -1e4, 1e4)


# Errors and verdict -------------------------------------------------------------------------------------------------


def _weight_moments(u_kn, f_k, log_denominators, inefficiency):
    """sum_n W_i W_j and, when states differ in inefficiency, sum_n W_k W_i W_j."""
    count = len(f_k)
    gram = np.zeros((count, count))
    thirds = np.zeros((count, count, count)) if np.ndim(inefficiency) else None
    for part, u in _chunks(u_kn):
        weights = np.exp(f_k[:, None] - u - log_denominators[part])
        gram += weights @ weights.T
        if thirds is not None:
            for k in range(count):
                thirds[k] += (weights * weights[k]) @ weights.T
    return gram, thirds


def _covariance(gram, thirds, n, inefficiency) -> np.ndarray:
    """Sandwich covariance of the estimating equations sum_n W_nk - 1 = 0.

    Jacobian A = 1 - G N with G = W^T W; score B = sum_k n_k g_k Cov_k(W), which for g = 1 is A G and then gives the
    formula of Shirts & Chodera, eq. 8. Cov_k is the covariance within state k, by reweighting all draws to it.
    """
    jacobian = np.eye(len(n)) - gram * n
    if thirds is None:
        score = float(inefficiency) * (jacobian @ gram)
    else:
        factors = np.asarray(inefficiency, dtype=np.float64)
        if factors.shape != n.shape:
            raise InvalidArgumentError(
                f"statistical_inefficiency must be a number or of shape {n.shape}; found {factors.shape}"
            )
        within = thirds - np.einsum("ki,kj->kij", gram, gram)
        score = np.einsum("k,kij->ij", n * factors, within)
    inverse = np.linalg.pinv(jacobian, rcond=1e-12)
    covariance = inverse @ score @ inverse.T
    return 0.5 * (covariance + covariance.T)


def _verdict(connection: np.ndarray, n: np.ndarray, residual: float, threshold: float) -> list[str]:
    notes = []
    if not residual < 1e-8:
        notes.append(f"the MBAR equations are not solved: residual {residual:.1e} instead of less than 1e-08")
    pieces = connected_components(connection >= threshold)
    while len(pieces) > 1:
        # Name the closest pair across the gap, join the two pieces, go on: one sentence per gap.
        first = pieces[0]
        others = np.concatenate(pieces[1:])
        block = connection[np.ix_(first, others)]
        i, j = np.unravel_index(int(np.argmax(block)), block.shape)
        left, right = sorted((int(first[i]), int(others[j])))
        cure = (
            "add a state between them" if n[left] > 0 and n[right] > 0 else "draw from it or from a state close to it"
        )
        notes.append(f"states {left} and {right} do not overlap ({block[i, j]:.2g} < {threshold:g}): {cure}")
        partner = next(index for index, piece in enumerate(pieces) if int(others[j]) in piece)
        pieces = [np.concatenate([first, pieces[partner]])] + [
            piece for index, piece in enumerate(pieces) if index not in (0, partner)
        ]
    return notes


def connected_components(adjacent: np.ndarray) -> list[np.ndarray]:
    """The pieces of a graph given by a boolean matrix (K, K), each a sorted array of node numbers."""
    count = len(adjacent)
    reach = adjacent | np.eye(count, dtype=bool)
    for _ in range(max(1, int(np.ceil(np.log2(max(count, 2)))))):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    seen, pieces = np.zeros(count, dtype=bool), []
    for node in range(count):
        if not seen[node]:
            pieces.append(np.flatnonzero(reach[node]))
            seen |= reach[node]
    return pieces


def _log_sum_exp(values: np.ndarray) -> float:
    top = values.max()
    if not np.isfinite(top):
        return float(top)
    return float(top + np.log(np.exp(values - top).sum()))
