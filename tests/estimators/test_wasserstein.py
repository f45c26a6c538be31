"""Wasserstein-2 distances against independent solvers and closed forms."""

import itertools
import math

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError, ResourceError
from heatbath.estimators import energy_wasserstein, euclidean_wasserstein, tica_wasserstein, torus_wasserstein
from heatbath.estimators import wasserstein as module


def by_enumeration(cost: np.ndarray) -> float:
    """W2 of equal numbers of equally weighted points: the best permutation, by trying all."""
    count = len(cost)
    totals = [cost[range(count), list(order)].sum() for order in itertools.permutations(range(count))]
    return math.sqrt(min(totals) / count)


def test_energies_on_weighted_steps():
    """Quantile functions of unequal weights must be merged exactly, not interpolated."""
    # Mass 0.25 travels from 0 to 1 and 0.25 from 2 to 1; half stays.
    found = energy_wasserstein([0.0, 2.0], [0.0, 1.0, 2.0], [0.5, 0.5], [0.25, 0.5, 0.25])
    np.testing.assert_allclose(found, math.sqrt(0.5))
    np.testing.assert_allclose(energy_wasserstein([1.0, 2.0, 5.0], [4.0, 8.0, 5.0]), 3.0)


def test_energies_against_an_independent_solver():
    """A wrong sort or cumulative weight would show against POT's one-dimensional solver."""
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    x, y, p, q = rng.normal(size=300), rng.normal(0.7, 1.5, 200), rng.random(300), rng.random(200)
    theirs = math.sqrt(float(ot.emd2_1d(x, y, p / p.sum(), q / q.sum())))
    np.testing.assert_allclose(energy_wasserstein(x, y, p, q), theirs, rtol=1e-9)


def test_energies_of_two_normals():
    """Between normals W2^2 = (difference of means)^2 + (difference of deviations)^2."""
    rng = np.random.default_rng(1)
    found = energy_wasserstein(rng.normal(3.0, 2.0, 200_000), rng.normal(0.0, 1.0, 200_000))
    assert abs(found - math.sqrt(10.0)) < 0.02


def test_draws_without_weight_are_not_heard():
    """An infinite energy of weight zero must not spoil the distance; one that carries weight must be refused."""
    assert energy_wasserstein([0.0, np.inf], [0.0], [1.0, 0.0]) == 0.0
    with pytest.raises(NonFiniteError, match="first"):
        energy_wasserstein([0.0, np.inf], [0.0])


def test_the_torus_is_round():
    """Angles on both sides of the seam are neighbours; forgetting it would give 2 pi for these."""
    pytest.importorskip("ot")
    first, second = [[math.pi - 0.1, 0.0]], [[-math.pi + 0.1, 0.0]]
    np.testing.assert_allclose(torus_wasserstein(first, second), 0.2)
    np.testing.assert_allclose(torus_wasserstein(first, np.asarray(second) + 4 * math.pi), 0.2)
    np.testing.assert_allclose(euclidean_wasserstein(first, second), 2 * math.pi - 0.2)


def test_transport_is_the_best_assignment():
    """A coupling that is not optimal would give too large a distance: compared with all permutations."""
    pytest.importorskip("ot")
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-math.pi, math.pi, (2, 6, 4))
    difference = x[:, None] - y[None]
    difference = np.arctan2(np.sin(difference), np.cos(difference))
    np.testing.assert_allclose(torus_wasserstein(x, y), by_enumeration((difference**2).sum(axis=-1)))
    plain = ((x[:, None] - y[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(euclidean_wasserstein(x, y), by_enumeration(plain))


def test_weights_count_like_copies():
    """A draw of weight two is two draws."""
    pytest.importorskip("ot")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    weights = np.array([2.0, 1.0, 0.0, 3.0, 1.0])
    copies = np.repeat(x, weights.astype(int), axis=0)
    np.testing.assert_allclose(euclidean_wasserstein(x, y, weights), euclidean_wasserstein(copies, y))


def test_subsampling_is_by_weight_and_repeatable():
    """Thinned sides must keep the law of their weights: here all of it sits on ten of a thousand draws."""
    pytest.importorskip("ot")
    x = np.zeros((1000, 1))
    x[:10] = 1.0
    weights = np.where(x[:, 0] > 0, 1.0, 1e-12)
    assert euclidean_wasserstein(x, np.ones((1, 1)), weights, most=50) < 1e-6
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 300, 2))
    assert euclidean_wasserstein(a, b, most=60, seed=1) == euclidean_wasserstein(a, b, most=60, seed=1)
    assert euclidean_wasserstein(a, b, most=60, seed=1) != euclidean_wasserstein(a, b, most=60, seed=2)


def test_projection_comes_first():
    """TICA's distance is that of the projected points, for a fitted object and for a function."""
    pytest.importorskip("ot")
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 40, 3))
    expected = euclidean_wasserstein(a[:, :2] * 2, b[:, :2] * 2)
    np.testing.assert_allclose(tica_wasserstein(lambda x: x[:, :2] * 2, a, b), expected)


def test_what_does_not_fit_is_refused(monkeypatch):
    """Ten gigabytes of cost matrix must be an error before, not a killed process after."""
    pytest.importorskip("ot")
    monkeypatch.setattr(module, "available_bytes", lambda: 32 * 100 * 99)
    points = np.zeros((100, 1))
    with pytest.raises(ResourceError, match="`most`"):
        euclidean_wasserstein(points, points)
    assert euclidean_wasserstein(points, points, most=50) == 0.0


def test_shapes_are_checked():
    """A flattened array would be compared as one long list of numbers."""
    pytest.importorskip("ot")
    for bad in (np.zeros(3), np.zeros((0, 2)), np.zeros((3, 1))):
        with pytest.raises(InvalidArgumentError):
            torus_wasserstein(bad, np.zeros((3, 2)))
    with pytest.raises(InvalidArgumentError, match="weights"):
        energy_wasserstein([0.0, 1.0], [0.0], [1.0, -1.0])
