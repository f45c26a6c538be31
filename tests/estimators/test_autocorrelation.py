"""Autocorrelation times on AR(1) with a closed form, effective sizes and R-hat against arviz."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import autocorrelation_time, effective_sample_size, split_rhat


def ar1(rho, chains, draws, seed=0):
    """Stationary AR(1) chains with unit innovations; tau = (1 + rho) / (1 - rho)."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((chains, draws))
    x = np.empty((chains, draws))
    x[:, 0] = noise[:, 0] / np.sqrt(1 - rho**2)
    for t in range(1, draws):
        x[:, t] = rho * x[:, t - 1] + noise[:, t]
    return x


@pytest.fixture(scope="module")
def oracle():
    """(ess(x, method), rhat(x)) of arviz, whose two generations keep them in different places."""
    pytest.importorskip("arviz")
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        from arviz import ess, rhat

        return lambda x, method: float(ess(x, method=method)), lambda x: float(rhat(x))
    axes = {"chain_axis": 0, "draw_axis": 1}
    tail = {"tail": (0.05, 0.95)}
    return (
        lambda x, method: float(array_stats.ess(x, method=method, prob=tail.get(method), **axes)),
        lambda x: float(array_stats.rhat(x, **axes)),
    )


@pytest.mark.parametrize(("rho", "chains", "draws"), [(0.0, 4, 500), (0.9, 4, 1000), (-0.5, 3, 701), (0.97, 2, 2000)])
def test_effective_sizes_and_rhat_equal_arviz(oracle, rho, chains, draws):
    """The definitions are published; another number would be another statistic under the same name."""
    x = ar1(rho, chains, draws) ** 3
    ess, rhat = oracle
    for kind in ("bulk", "tail", "mean"):
        assert np.isclose(effective_sample_size(x, kind), ess(x, kind), rtol=1e-8)
    assert np.isclose(split_rhat(x), rhat(x), rtol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_autocorrelation_time_of_an_ar1_process(rho):
    """tau = (1 + rho) / (1 - rho) to within 10 % on 20 chains of 5000 draws (its own noise is about 3 %)."""
    assert np.isclose(autocorrelation_time(ar1(rho, 20, 5000)), (1 + rho) / (1 - rho), rtol=0.1)


def test_the_effective_size_predicts_the_error_of_the_mean():
    """Var(mean) = var / ess over 400 repetitions, within 4 standard errors of a variance (28 %)."""
    runs = [ar1(0.8, 2, 400, seed) for seed in range(400)]
    predicted = np.mean([run.var() / effective_sample_size(run, "mean") for run in runs])
    observed = np.var([run.mean() for run in runs])
    assert abs(observed / predicted - 1) < 4 * np.sqrt(2 / 400)


def test_rhat_finds_a_stuck_chain():
    """One of four chains in another basin, or one that never moves, or one that drifts: R-hat far above 1.01."""
    good = ar1(0.3, 4, 1000)
    assert split_rhat(good) < 1.01
    elsewhere, frozen, drifting, wide = good.copy(), good.copy(), good.copy(), good.copy()
    elsewhere[2] += 4.0
    frozen[1] = 0.3
    drifting += np.linspace(0, 4, 1000)
    wide[0] *= 5.0
    assert split_rhat(elsewhere) > 1.3
    assert split_rhat(frozen) > 1.05
    assert split_rhat(drifting) > 1.3
    assert split_rhat(wide) > 1.1, "a chain that is too wide shows in the folded values only"
    assert split_rhat(np.repeat([[0.0], [1.0], [2.0]], 100, axis=1)) == np.inf
    assert effective_sample_size(elsewhere) < 0.05 * effective_sample_size(good)


def test_constant_values_are_unknown_not_perfect():
    """A value that never changes says nothing about mixing."""
    constant = np.ones((4, 100))
    assert np.isnan(split_rhat(constant))
    assert np.isnan(effective_sample_size(constant))
    assert np.isnan(autocorrelation_time(constant))


def test_bad_input_is_refused():
    """Wrong shapes, too few draws, NaN, unknown kinds."""
    with pytest.raises(InvalidArgumentError, match="chain, draw"):
        split_rhat(np.zeros((2, 2, 10)))
    with pytest.raises(InvalidArgumentError, match="at least 4 draws"):
        effective_sample_size(np.zeros((3, 3)))
    with pytest.raises(NonFiniteError, match="1 of 8"):
        split_rhat([1.0, 2.0, np.nan, 4.0, 5.0, 6.0, 7.0, 8.0])
    with pytest.raises(InvalidArgumentError, match="'bulk', 'tail' or 'mean'"):
        effective_sample_size(np.arange(10.0), "median")
