"""Is it in detailed balance? Calibrated answers from counted transitions, for trajectories and for Markov kernels.

A single long trajectory: its net jumps along an edge are not independent (on a tree they never exceed one), so that counting
statistics per edge would be far off. Jumps out of different states are independent, however, and cycle affinities are
differences of log jump probabilities: ``cycle_test``. Many independent pairs (before, after) from exact draws:
``pair_symmetry_test``.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.special import chdtrc, ndtr

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families.master_equation import _loop, _steps

#: Added to both counts of an edge, so that the log of their ratio has little bias (Haldane 1955, Anscombe 1956).
PSEUDO_COUNT = 0.5
#: Edges with fewer jumps than this in both directions together tell nothing and are left out.
FEWEST_JUMPS = 20


@dataclasses.dataclass(frozen=True)
class CycleTest:
    """Affinities of cycles from counted jumps.

    ``cycles`` as states; ``affinities`` and ``standard_errors`` in k_B; ``statistic`` is chi-squared with ``degrees`` degrees
    of freedom under detailed balance, ``p_value`` the odds of one so large; ``left_out`` edges had too few jumps; ``one_way``
    edges have many jumps and none back, whose affinity is a lower bound.
    """

    cycles: list[list[int]]
    affinities: np.ndarray
    standard_errors: np.ndarray
    statistic: float
    degrees: int
    p_value: float
    left_out: int
    one_way: int

    @property
    def z(self) -> np.ndarray:
        """Affinities over their errors: standard normal under detailed balance."""
        return self.affinities / self.standard_errors


def cycle_test(counts: Any, cycles: list[list[int]] | None = None) -> CycleTest:
    """Kolmogorov's criterion from a trajectory: are all cycle affinities zero?

    counts: (N, N), ``counts[k, l]`` jumps from k to l (jump chains and discrete-time chains alike; the diagonal does not matter).
    cycles: which ones; by default one per edge outside a spanning tree of what was seen, which is a complete set.

    F_c = sum over the cycle of ln (n_kl / n_lk) with a variance of 1/n_kl + 1/n_lk per edge: rows of transition counts are
    independent multinomials, and the share of a row cancels where a cycle passes through. Only edges of a cycle that share a
    *state* in two cycles, or an edge, correlate them; the statistic takes this into account. Raises ``InvalidArgumentError``
    when nothing was seen.
    """
    counts = np.asarray(counts, dtype=np.float64).copy()
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not np.isfinite(counts).all() or (counts < 0).any():
        raise InvalidArgumentError(f"counts are a square matrix of numbers >= 0; found shape {counts.shape}")
    np.fill_diagonal(counts, 0.0)
    both = counts + counts.T
    seen = both >= FEWEST_JUMPS
    left_out = int(np.triu((both > 0) & ~seen, 1).sum())
    one_way = int(np.triu(seen & (np.minimum(counts, counts.T) == 0), 1).sum())
    wanted = _fundamental(seen) if cycles is None else cycles
    cycles = [cycle for cycle in wanted if all(seen[a, b] for a, b in _steps(cycle))]
    if not seen.any():
        raise InvalidArgumentError(f"no edge has {FEWEST_JUMPS} jumps; sample for longer")
    edges = np.argwhere(np.triu(seen, 1))
    number = {(int(k), int(l)): index for index, (k, l) in enumerate(edges)}  # noqa: E741
    passes = np.zeros((len(cycles), len(edges)))
    for row, cycle in enumerate(cycles):
        for a, b in _steps(cycle):
            passes[row, number[min(a, b), max(a, b)]] += 1.0 if a < b else -1.0
    forward = counts[edges[:, 0], edges[:, 1]] + PSEUDO_COUNT
    backward = counts[edges[:, 1], edges[:, 0]] + PSEUDO_COUNT
    affinities = passes @ np.log(forward / backward)
    covariance = (passes * (1 / forward + 1 / backward)) @ passes.T
    errors = np.sqrt(np.diag(covariance))
    degrees = int(np.linalg.matrix_rank(passes)) if len(cycles) else 0
    statistic = float(affinities @ np.linalg.pinv(covariance, hermitian=True) @ affinities) if degrees else 0.0
    p_value = float(chdtrc(degrees, statistic)) if degrees else 1.0
    return CycleTest(cycles, affinities, errors, statistic, degrees, p_value, left_out, one_way)


def _fundamental(seen: np.ndarray) -> list[list[int]]:
    """One cycle per edge outside a spanning forest."""
    _, part = connected_components(seen)
    found = []
    for label in range(part.max() + 1):
        root = int(np.flatnonzero(part == label)[0])
        _, parents = breadth_first_order(seen, root, directed=False)
        parents = np.where(parents < 0, -1, parents)
        for k, l in np.argwhere(np.triu(seen, 1)):  # noqa: E741
            if part[k] == label and parents[k] != l and parents[l] != k:
                found.append(_loop(int(k), int(l), parents))
    return found


def pooled_affinities(counts: Any, families: dict[str, list[list[int]]]) -> dict[str, dict[str, float]]:
    """What breaks detailed balance: the mean affinity of named families of cycles, weighted by 1/variance.

    Cycles of one family must share no state. Returns, by name, ``value``, ``standard_error``, ``z``, ``cycles`` (how many were
    seen) and ``spread_p_value``, the odds of their spread if all have one affinity; families of which nothing was seen are
    left out.
    """
    found = {}
    for name, cycles in families.items():
        test = cycle_test(counts, cycles)
        if not len(test.affinities):
            continue
        weights = 1 / test.standard_errors**2
        mean = float(weights @ test.affinities / weights.sum())
        error = float(weights.sum() ** -0.5)
        spread = float(weights @ (test.affinities - mean) ** 2)
        degrees = len(weights) - 1
        odds = float(chdtrc(degrees, spread)) if degrees else 1.0
        found[name] = {
            "value": mean,
            "standard_error": error,
            "z": mean / error,
            "cycles": len(weights),
            "spread_p_value": odds,
        }
    return found


# Kernels --------------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class SymmetryTest:
    """``statistic`` is chi-squared with ``degrees`` degrees of freedom when the kernel is right; ``p_value`` the odds of one
    so large.

    ``largest_z`` is the most deviating pair of states (or state), ``pair`` which; ``pooled`` pairs were rare and counted
    together.
    """

    statistic: float
    degrees: int
    p_value: float
    largest_z: float
    pair: tuple[int, ...]
    pooled: int = 0


def pair_symmetry_test(counts: Any, fewest: int = 20) -> SymmetryTest:
    """Detailed balance of a kernel from independent pairs (x, x'), x drawn from the equilibrium law: is p(k, l) = p(l, k)?

    counts: (N, N) pairs that go from cell k to cell l. Given n_kl + n_lk, n_kl is binomial with 1/2 under detailed balance,
    for cells of any shape and with the true equilibrium law, not just some stationary one. Sum of (n_kl - n_lk)^2 / (n_kl +
    n_lk); pairs with less than ``fewest`` are pooled. Source: Bowker, J. Am. Stat. Assoc. 43, 572 (1948).
    """
    counts = np.asarray(counts, dtype=np.float64)
    k, l = np.triu_indices(len(counts), 1)  # noqa: E741
    net, total = counts[k, l] - counts[l, k], counts[k, l] + counts[l, k]
    rare = (total < fewest) & (total > 0)
    kept = total >= fewest
    z = net[kept] / np.sqrt(total[kept])
    pairs = list(zip(k[kept].tolist(), l[kept].tolist(), strict=True))
    if total[rare].sum() >= fewest:
        z = np.append(z, net[rare].sum() / np.sqrt(total[rare].sum()))
        pairs.append((-1, -1))
    if not len(z):
        raise InvalidArgumentError("no pair of cells was seen often enough; draw more pairs or use larger cells")
    worst = int(np.argmax(np.abs(z)))
    statistic = float(z @ z)
    return SymmetryTest(
        statistic, len(z), float(chdtrc(len(z), statistic)), float(z[worst]), pairs[worst], int(rare.sum())
    )


def stationarity_test(counts: Any) -> SymmetryTest:
    """Does a kernel leave the equilibrium law as it is? Rows against columns of the same pairs (x, x').

    d_k = n_k. - n_.k with covariance V_kk = n_k. + n_.k - 2 n_kk, V_kl = -(n_kl + n_lk); d V^-1 d. A kernel may pass without
    detailed balance (a sequential sweep does). Source: Stuart, Biometrika 42, 412 (1955); Maxwell, Br. J. Psychiatry 116, 651
    (1970).
    """
    counts = np.asarray(counts, dtype=np.float64)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    change = rows - columns
    covariance = np.diag(rows + columns) - counts - counts.T
    moved = np.diag(covariance) > 0
    change, covariance = change[moved], covariance[np.ix_(moved, moved)]
    if len(change) < 2:
        raise InvalidArgumentError("nothing moved between the cells, so that nothing can be tested")
    degrees = int(np.linalg.matrix_rank(covariance))
    statistic = float(change @ np.linalg.pinv(covariance, hermitian=True) @ change)
    z = change / np.sqrt(np.diag(covariance))
    worst = int(np.argmax(np.abs(z)))
    where = (int(np.flatnonzero(moved)[worst]),)
    return SymmetryTest(statistic, degrees, float(chdtrc(degrees, statistic)), float(z[worst]), where)


def two_sided(z: float) -> float:
    """Odds of a standard normal number at least so far from zero."""
    return float(2 * ndtr(-abs(z)))
