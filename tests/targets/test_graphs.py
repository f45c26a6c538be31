"""Graphs of model RB: cliques are cliques, sets are independent and maximal, the proven optimum is the enumerated one."""

import itertools

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.targets.graphs import greedy_independent_set, is_maximal_independent, largest_independent_set, rb_graph


def test_graphs_of_model_rb():
    """Sizes in range, cliques complete and covering, no isolated vertex, a seed repeats its graph."""
    graph = rb_graph(3)
    size = len(graph.adjacency)
    assert 200 <= size <= 300
    assert np.array_equal(graph.adjacency, graph.adjacency.T)
    assert graph.adjacency.any(axis=1).all()
    assert sorted(itertools.chain(*graph.cliques)) == list(range(size))
    for clique in graph.cliques:
        assert graph.adjacency[np.ix_(clique, clique)].sum() == len(clique) * (len(clique) - 1)
    assert np.array_equal(rb_graph(3).adjacency, graph.adjacency)
    chosen = greedy_independent_set(graph.adjacency)
    assert is_maximal_independent(graph.adjacency, chosen)
    assert 10 < chosen.sum() <= len(graph.cliques)


def test_the_proven_optimum_is_the_enumerated_one():
    """CP-SAT against all 2^12 subsets of random graphs, with and without cliques given."""
    pytest.importorskip("ortools", reason="needs OR-tools: pip install 'heatbath[mis]'")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        upper = np.triu(rng.random((12, 12)) < 0.4, 1)
        adjacency = upper | upper.T
        subsets = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
        independent = np.einsum("si,ij,sj->s", subsets, adjacency.astype(int), subsets) == 0
        found = largest_independent_set(adjacency)
        assert is_maximal_independent(adjacency, found)
        assert found.sum() == subsets[independent].sum(axis=1).max()
        first, second = np.argwhere(upper)[0]
        assert largest_independent_set(adjacency, ((int(first), int(second)),)).sum() == found.sum()
    with pytest.raises(InvalidArgumentError, match="no clique"):
        largest_independent_set(np.zeros((3, 3)), ((0, 1),))


def test_what_is_not_maximal_is_seen():
    """Negative controls: a set with an edge, a set that can grow."""
    path = np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)
    assert is_maximal_independent(path, [1, 0, 1])
    assert not is_maximal_independent(path, [1, 1, 0])
    assert not is_maximal_independent(path, [1, 0, 0])
