"""Graphs with hidden independent sets, and their largest independent sets: exactly by constraint programming, and greedily."""

import dataclasses
import math
from typing import Any

import numpy as np

from heatbath.errors import ConvergenceError, InvalidArgumentError, MissingExtraError


@dataclasses.dataclass(frozen=True)
class HiddenSetGraph:
    """An adjacency matrix (n, n) of bool, and the cliques (lists of vertices) that cover its vertices: at most one of each "
    "is in a set.
    """

    adjacency: np.ndarray
    cliques: tuple[tuple[int, ...], ...]


def rb_graph(seed: int, *, smallest: int = 200, largest: int = 300) -> HiddenSetGraph:
    """A graph of model RB with ``smallest`` to ``largest`` vertices, isolated ones left out.

    n in 20..24 cliques of k in 5..11 vertices, p in (0.3, 1), alpha = ln k / ln n, r = -alpha / ln(1 - p): round(r n ln n - 1)
    times, two different cliques get round(p n^(2 alpha)) new edges between them. Drawn again until the size fits. Source: Xu &
    Li, J. Artif. Intell. Res. 12, 93 (2000); the ranges are those of RB-small (arXiv 2206.13211).
    """
    rng = np.random.default_rng(seed)
    for _ in range(10_000):
        n, k, p = int(rng.integers(20, 25)), int(rng.integers(5, 12)), float(rng.uniform(0.3, 1.0))
        made = _model_rb(rng, n, k, p)
        if smallest <= len(made.adjacency) <= largest:
            return made
    raise InvalidArgumentError(f"model RB makes no graph with {smallest} to {largest} vertices")


def _model_rb(rng: np.random.Generator, n: int, k: int, p: float) -> HiddenSetGraph:
    alpha = math.log(k) / math.log(n)
    rounds = round(-alpha / math.log(1 - p) * n * math.log(n) - 1)
    new = int(p * n ** (2 * alpha))
    adjacency = np.kron(np.eye(n, dtype=bool), np.ones((k, k), dtype=bool))
    np.fill_diagonal(adjacency, False)  # noqa: FBT003
    for _ in range(rounds):
        first, second = rng.choice(n, 2, replace=False)
        block = np.ix_(np.arange(k) + first * k, np.arange(k) + second * k)
        free = np.argwhere(~adjacency[block])
        chosen = free[rng.permutation(len(free))[:new]]
        rows, columns = chosen[:, 0] + first * k, chosen[:, 1] + second * k
        adjacency[rows, columns] = adjacency[columns, rows] = True
    kept = np.flatnonzero(adjacency.any(axis=1))
    place = {int(old): index for index, old in enumerate(kept)}
    cliques = (tuple(place[c * k + i] for i in range(k) if c * k + i in place) for c in range(n))
    return HiddenSetGraph(adjacency[np.ix_(kept, kept)], tuple(clique for clique in cliques if clique))


def is_maximal_independent(adjacency: Any, chosen: Any) -> bool:
    """Whether no two chosen vertices are neighbours and every other vertex has a chosen neighbour."""
    adjacency, chosen = np.asarray(adjacency, dtype=bool), np.asarray(chosen, dtype=bool)
    reached = adjacency[:, chosen].any(axis=1)
    return not (reached & chosen).any() and bool((reached | chosen).all())


def greedy_independent_set(adjacency: Any) -> np.ndarray:
    """(n,) of bool: always the vertex with the fewest undecided neighbours, the first of equals."""
    adjacency = np.asarray(adjacency, dtype=bool)
    chosen, open_ = np.zeros(len(adjacency), dtype=bool), np.ones(len(adjacency), dtype=bool)
    while open_.any():
        degrees = np.where(open_, (adjacency & open_).sum(axis=1), len(adjacency))
        vertex = int(np.argmin(degrees))
        chosen[vertex] = True
        open_ &= ~adjacency[vertex]
        open_[vertex] = False
    return chosen


def largest_independent_set(
    adjacency: Any, cliques: tuple[tuple[int, ...], ...] = (), *, seconds: float = 120.0, workers: int = 1
) -> np.ndarray:
    """(n,) of bool, proven to be the largest, by OR-tools' CP-SAT (extra ``mis``). ``cliques`` make the proof fast.

    Raises ``ConvergenceError`` when ``seconds`` do not suffice for the proof, ``MissingExtraError`` without OR-tools.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise MissingExtraError("ortools", "mis", "the exact largest independent set") from error
    adjacency = np.asarray(adjacency, dtype=bool)
    model = cp_model.CpModel()
    variables = [model.new_bool_var(f"v{index}") for index in range(len(adjacency))]
    covered = np.zeros_like(adjacency)
    for clique in cliques:
        if not (adjacency[np.ix_(clique, clique)] | np.eye(len(clique), dtype=bool)).all():
            raise InvalidArgumentError(f"vertices {clique} are no clique of this graph")
        model.add_at_most_one(variables[vertex] for vertex in clique)
        covered[np.ix_(clique, clique)] = True
    for first, second in np.argwhere(np.triu(adjacency & ~covered)):
        model.add_at_most_one(variables[first], variables[second])
    model.maximize(sum(variables))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = float(seconds)
    solver.parameters.num_workers = workers
    if solver.solve(model) != cp_model.OPTIMAL:
        raise ConvergenceError(f"no independent set was proven largest within {seconds:g} s; allow more")
    return np.array([bool(solver.value(variable)) for variable in variables])
