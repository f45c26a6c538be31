"""Floors of metrics between halves of a reference, and bootstrap errors, on cases with known answers."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators import energy_wasserstein, metric_floor, metric_with_error


def difference_of_means(first, second):
    return abs(first.mean() - second.mean())


def test_halves_keep_chains_whole():
    """Shuffled frames share the drift of their chains and hide it: here every chain has a mean of its own."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 250)
    values = rng.normal(size=40)[groups] + 0.1 * rng.normal(size=10_000)
    by_chain = metric_floor(difference_of_means, values, groups, splits=40)
    shuffled = metric_floor(difference_of_means, values, splits=40)
    # |difference of means of two groups of 20 unit normals| is 0.8 sqrt(2/20) = 0.25 on average.
    assert 0.15 < by_chain.value < 0.4
    assert shuffled.value < 0.05
    assert by_chain.notes == ()
    assert "independent" in shuffled.notes[0]


def test_floor_is_taken_at_the_same_number_of_draws():
    """Distances fall with n: a floor at another n would flatter or condemn."""
    values = np.random.default_rng(1).normal(size=20_000)
    few, many = (metric_floor(energy_wasserstein, values, size=size, splits=6) for size in (100, 5000))
    assert few.value > 3 * many.value
    assert "100 draws" in few.method


def test_weights_of_the_reference_are_used():
    """Half of the frames carry no weight; were they used, the floor of this bimodal set would be far larger."""
    values = np.concatenate([np.zeros(500), np.ones(500)])
    weights = np.concatenate([np.ones(500), np.zeros(500)])
    assert metric_floor(difference_of_means, values, weights=weights, size=100).value == 0.0


def test_bootstrap_error_is_the_spread_over_repetitions():
    """The error printed beside a metric must be what repeating the experiment gives, within a factor 1.6."""
    rng = np.random.default_rng(2)

    def experiment(replicates):
        first, second = rng.normal(2.0, 1.0, 400), rng.normal(0.0, 1.0, 400)
        return metric_with_error(energy_wasserstein, first, second, replicates=replicates)

    spread = np.std([experiment(1).value for _ in range(60)], ddof=1)
    claimed = experiment(60).standard_error
    assert 1 / 1.6 < claimed / spread < 1.6


def test_bootstrap_by_groups_is_wider():
    """Copies within a chain carry no information; an error that ignores it is too small by the root of their number."""
    rng = np.random.default_rng(3)
    chains, groups = rng.normal(3.0, 1.0, 50), np.repeat(np.arange(50), 20)
    other = rng.normal(size=1000)
    options = {"replicates": 60, "size": 1000}
    plain = metric_with_error(difference_of_means, chains[groups], other, **options)
    grouped = metric_with_error(difference_of_means, chains[groups], other, first_groups=groups, **options)
    assert grouped.standard_error > 2 * plain.standard_error


def test_weighted_sides_are_resampled():
    """A reweighted ensemble is compared through its weights."""
    values, weights = np.array([0.0, 10.0]), np.array([0.0, 1.0])
    found = metric_with_error(difference_of_means, values, np.full(5, 10.0), first_weights=weights, size=5)
    assert found.value == 0.0


def test_impossible_halves_are_refused():
    """One chain has no independent halves."""
    with pytest.raises(InvalidArgumentError, match="groups"):
        metric_floor(difference_of_means, np.zeros(10), np.zeros(10))
    with pytest.raises(InvalidArgumentError, match="one number"):
        metric_floor(difference_of_means, np.zeros(10), np.zeros(9))
