"""Kish's size, and the Pareto shape against arviz and against known tails."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import kish_ess, pareto_k, pareto_smoothed_log_weights


def log_weights(k, size=20000, seed=0):
    """Log of weights with an exact Pareto tail of shape k."""
    return -k * np.log(np.random.default_rng(seed).uniform(size=size))


@pytest.mark.parametrize("k", [0.2, 0.5, 0.8, 1.2])
def test_pareto_k_of_known_tails(k):
    """Within 4 standard errors, (1 + k) / sqrt(tail), plus the pull of the prior towards 0.5."""
    tail = 3 * np.sqrt(20000)
    tolerance = 4 * (1 + k) / np.sqrt(tail) + 10 * abs(k - 0.5) / tail
    assert abs(pareto_k(log_weights(k)) - k) < tolerance


def test_light_tails_pass_and_heavy_ones_do_not():
    """The limit of 0.7 separates a good proposal from one that is too narrow."""
    z = np.random.default_rng(1).standard_normal(5000)
    assert pareto_k(-0.1 * z**2) < 0.7
    too_narrow = 0.5 * z**2 - 0.5 * (z / 3) ** 2
    assert pareto_k(too_narrow) > 0.7


@pytest.mark.parametrize("k", [0.3, 0.9])
def test_smoothing_equals_arviz(k):
    """Shape and smoothed weights, as published. With 2500 draws the tail is exactly 150 long, however it is rounded."""
    arviz = pytest.importorskip("arviz")
    x = log_weights(k, 2500)
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        theirs, shape = arviz.psislw(x.copy())
    else:
        # it takes the negative of log weights and does not normalise
        theirs, shape = array_stats.psislw(-x)
        theirs = theirs - np.log(np.sum(np.exp(theirs)))
    smooth, ours = pareto_smoothed_log_weights(x)
    assert np.isclose(ours, float(shape), rtol=1e-8)
    np.testing.assert_allclose(smooth, np.asarray(theirs), atol=1e-8)


def test_smoothing_changes_the_largest_weights_only():
    """Order and all small weights stay."""
    x = log_weights(0.8, 2000)
    smooth, _ = pareto_smoothed_log_weights(x)
    assert np.isclose(np.exp(smooth).sum(), 1.0)
    order = np.argsort(x)
    assert np.all(np.diff(smooth[order]) >= -1e-12)
    small = order[: 2000 - int(np.ceil(3 * np.sqrt(2000)))]
    assert np.ptp((smooth - x)[small]) < 1e-12


def test_kish_size():
    """n equal weights are worth n, one dominating weight one; zero weights count nothing."""
    assert np.isclose(kish_ess(np.full(50, -1e4)), 50)
    assert np.isclose(kish_ess([0.0, -800.0, -800.0]), 1.0)
    assert np.isclose(kish_ess([0.0, 0.0, -np.inf]), 2.0)


def test_edge_cases():
    """Equal weights have no tail, a handful of draws no fit; NaN is refused."""
    assert pareto_k(np.zeros(100)) == -np.inf
    assert pareto_k([0.0, 1.0, 2.0]) == np.inf
    with pytest.raises(NonFiniteError):
        pareto_k([0.0, np.nan])
    with pytest.raises(InvalidArgumentError):
        kish_ess([])
