"""Markov jump processes on a graph: stationary law, probability fluxes, cycle affinities, entropy production, trajectories.

dp/dt = W p with ``rates[l, k]`` the rate from k to l. The probability-flux observation matrix has a column of ones and one
column per edge e = (k -> l) of a spanning tree, with entries W_lk in state k and -W_kl in state l, so that <a_e> = W_lk p_k -
W_kl p_l = J_e.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy.sparse.csgraph import breadth_first_order, connected_components

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families.observation import DenseMatrix


@dataclasses.dataclass(frozen=True)
class MasterEquation:
    """A connected graph with positive rates in both directions of every edge.

    Raises ``InvalidArgumentError`` when a rate is negative, a transition has no reverse (its affinity would be infinite), or
    the graph falls into parts.
    """

    rates: Any

    def __post_init__(self):
        rates = np.array(self.rates, dtype=np.float64)
        if rates.ndim != 2 or rates.shape[0] != rates.shape[1] or len(rates) < 2:
            raise InvalidArgumentError(f"rates are a square matrix of at least two states; found shape {rates.shape}")
        np.fill_diagonal(rates, 0.0)
        if not np.isfinite(rates).all() or (rates < 0).any():
            raise InvalidArgumentError("rates must be finite and not negative")
        one_way = np.argwhere((rates > 0) & (rates.T == 0))
        if len(one_way):
            to, start = one_way[0]
            raise InvalidArgumentError(
                f"{len(one_way)} transitions have no reverse (the first: {start} -> {to}), so that their affinity is "
                f"infinite. Give the "
                "reverse a positive rate."
            )
        parts, _ = connected_components(rates > 0)
        if parts > 1:
            raise InvalidArgumentError(f"the graph of rates falls into {parts} parts; describe each by itself")
        object.__setattr__(self, "rates", rates)

    @property
    def size(self) -> int:
        """Number of states."""
        return len(self.rates)

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """(E, 2): every edge once, from its smaller to its larger state."""
        return np.argwhere(np.triu(self.rates > 0, 1))

    @functools.cached_property
    def generator(self) -> np.ndarray:
        """W with the escape rates on its diagonal: columns sum to zero."""
        return self.rates - np.diag(self.rates.sum(axis=0))

    @functools.cached_property
    def stationary(self) -> np.ndarray:
        """The stationary law by elimination without subtractions, accurate in every entry.

        Source: Grassmann, Taksar & Heyman, Oper. Res. 33, 1107 (1985).
        """
        flow = self.rates.T.copy()  # flow[k, l] from k to l
        for last in range(self.size - 1, 0, -1):
            flow[:last, last] /= flow[last, :last].sum()
            flow[:last, :last] += np.outer(flow[:last, last], flow[last, :last])
        p = np.ones(self.size)
        for state in range(1, self.size):
            p[state] = p[:state] @ flow[:state, state]
        return p / p.sum()

    def fluxes(self, probabilities: Any = None) -> np.ndarray:
        """J_e = W_lk p_k - W_kl p_l along every edge (k, l) of ``edges``; of the stationary law by default."""
        p = self.stationary if probabilities is None else np.asarray(probabilities, dtype=np.float64)
        k, l = self.edges.T  # noqa: E741
        return self.rates[l, k] * p[k] - self.rates[k, l] * p[l]

    @functools.cached_property
    def _parents(self) -> np.ndarray:
        """Parent of every state in a breadth-first spanning tree from state 0; -1 at the root."""
        _, parents = breadth_first_order(self.rates > 0, 0, directed=False)
        return np.where(parents < 0, -1, parents)

    @functools.cached_property
    def tree(self) -> np.ndarray:
        """Which edges belong to the spanning tree, (E,) of bool."""
        parents = self._parents
        return (parents[self.edges[:, 1]] == self.edges[:, 0]) | (parents[self.edges[:, 0]] == self.edges[:, 1])

    @functools.cached_property
    def cycles(self) -> list[list[int]]:
        """One cycle per edge outside the tree, as states in order: along the chord, then back through the tree."""
        return [_loop(int(k), int(l), self._parents) for k, l in self.edges[~self.tree]]  # noqa: E741

    def affinities(self, cycles: list[list[int]] | None = None) -> np.ndarray:
        """F_c = ln of the product of forward over backward rates; all zero means detailed balance (Kolmogorov)."""
        log_ratio = np.log(self.rates, where=self.rates > 0, out=np.zeros_like(self.rates))
        cycles = self.cycles if cycles is None else cycles
        return np.array([sum(log_ratio[b, a] - log_ratio[a, b] for a, b in _steps(cycle)) for cycle in cycles])

    def entropy_production(self) -> float:
        """sigma = sum_e J_e ln(W_lk p_k / W_kl p_l) >= 0 of the stationary law, k_B per unit of time."""
        k, l = self.edges.T  # noqa: E741
        p = self.stationary
        return float(np.sum(self.fluxes() * np.log(self.rates[l, k] * p[k] / (self.rates[k, l] * p[l]))))

    def entropy_production_of_cycles(self) -> float:
        """The same as sum over fundamental cycles of chord flux times affinity."""
        return float(self.fluxes()[~self.tree] @ self.affinities())

    def flux_matrix(self) -> "FluxMatrix":
        """The probability-flux observation matrix over the spanning tree."""
        return FluxMatrix.of(self)

    def stationarity_matrix(self) -> DenseMatrix:
        """Ones, and the rows of W but the last: <a_k> = dp_k/dt, zero for every stationary law, in balance or not."""
        return DenseMatrix(np.concatenate([np.ones((self.size, 1)), self.generator.T[:, :-1]], axis=1))

    # Trajectories -----------------------------------------------------------------------------------------------------
    @functools.cached_property
    def jump_probabilities(self) -> np.ndarray:
        """(k, l): where a jump from k goes."""
        return (self.rates / self.rates.sum(axis=0)).T

    def jump_counts(self, rng: np.random.Generator, jumps: int, trajectories: int = 1, start: Any = None):
        """Numbers of jumps k -> l in independent trajectories, (trajectories, N, N), and their last states.

        They start from the stationary law unless ``start`` (states) says otherwise, so that a trajectory can be continued.
        """
        if start is None:
            start = rng.choice(self.size, trajectories, p=self.stationary)
        leave, to = np.nonzero(self.rates.T > 0)
        # one sorted table for all states: state k occupies (k, k + 1], cut at its cumulative probabilities
        cumulative = np.cumsum(self.jump_probabilities[leave, to])
        table = leave + (cumulative - np.concatenate([[0.0], cumulative[np.flatnonzero(np.diff(leave))]])[leave])
        table[np.append(np.flatnonzero(np.diff(leave)), len(leave) - 1)] = np.arange(self.size) + 1.0
        edge_counts = np.zeros((trajectories, len(leave)), dtype=np.int64)
        offsets = np.arange(trajectories) * len(leave)
        state = np.array(start)
        while jumps > 0:
            now = min(jumps, max(1, 2**20 // trajectories))
            taken = np.empty((now, trajectories), dtype=np.int64)
            for step, uniform in enumerate(rng.random((now, trajectories))):
                taken[step] = np.searchsorted(table, state + uniform, side="right")
                state = to[taken[step]]
            taken += offsets
            edge_counts += np.bincount(taken.reshape(-1), minlength=edge_counts.size).reshape(edge_counts.shape)
            jumps -= now
        counts = np.zeros((trajectories, self.size, self.size), dtype=np.int64)
        counts[:, leave, to] = edge_counts
        return counts, state

    def dwell_time(self, rng: np.random.Generator, counts: Any) -> float:
        """The time that a trajectory with these jumps took: a sum of exponential waiting times."""
        visits = np.asarray(counts).sum(axis=1)
        return float(np.sum(rng.gamma(visits, 1.0 / self.rates.sum(axis=0), size=self.size) * (visits > 0)))


@dataclasses.dataclass(frozen=True)
class FluxMatrix(DenseMatrix):
    """The probability-flux observation matrix of a master equation; ``tree_edges`` (N-1, 2) name its columns after the first."""

    tree_edges: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2), dtype=int))

    @staticmethod
    def of(equation: MasterEquation) -> "FluxMatrix":
        """Over the breadth-first spanning tree of ``equation``."""
        edges = equation.edges[equation.tree]
        entries = np.zeros((equation.size, equation.size))
        entries[:, 0] = 1.0
        for column, (k, l) in enumerate(edges, start=1):  # noqa: E741
            entries[k, column] = equation.rates[l, k]
            entries[l, column] = -equation.rates[k, l]
        names = ("1", *(f"J({k}->{l})" for k, l in edges))  # noqa: E741
        return FluxMatrix(entries, names, edges)


def _steps(cycle: list[int]) -> list[tuple[int, int]]:
    return list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))


def _loop(start: int, end: int, parents: np.ndarray) -> list[int]:
    """States of the cycle start -> end -> ... -> start, the last part within the tree."""
    up_end, up_start = _ancestors(end, parents), _ancestors(start, parents)
    shared = next(state for state in up_end if state in set(up_start))
    return (
        [start, *up_end[: up_end.index(shared) + 1], *reversed(up_start[1 : up_start.index(shared)])]
        if (shared != start)
        else [start, *up_end[: up_end.index(start)]]
    )


def _ancestors(state: int, parents: np.ndarray) -> list[int]:
    found = [state]
    while parents[found[-1]] >= 0:
        found.append(int(parents[found[-1]]))
    return found
