"""Generalized thermodynamics: entropy, fluctuation-dissipation, Maxwell relations, gauges; probabilities that cannot be used."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families import DenseMatrix, GeneralizedEnsemble, Hadamard, ProductBasis
from heatbath.estimators.exponential_families.ensemble import divergence


def random_ensemble(seed=0):
    basis = ProductBasis((2, 3, 4))
    return GeneralizedEnsemble.from_coordinates(basis, np.random.default_rng(seed).normal(size=basis.size) * 0.4)


def test_entropy_is_coordinates_times_means():
    """S = lambda . <a> holds for every distribution; a wrong sign or a lost ln Z breaks it."""
    ensemble = random_ensemble()
    assert abs(ensemble.entropy - ensemble.coordinates @ ensemble.means) < 1e-12
    changed = ensemble.moved({5: 1e-5})
    difference = changed.entropy - ensemble.entropy
    middle = 0.5 * (changed.coordinates + ensemble.coordinates)
    assert abs(difference - middle[1:] @ (changed.means - ensemble.means)[1:]) < 1e-13  # dS = lambda_k d<a_k>


def test_fluctuations_are_responses():
    """d<a_j>/d lambda_k by central differences is -Cov(a_j, a_k), d ln Z / d lambda_k is -<a_k>, and both orders agree."""
    ensemble, step = random_ensemble(1), 1e-4
    numbers = np.array([1, 4, 9, 17])
    covariance = ensemble.covariance(numbers)
    found = np.zeros((4, 4))
    for column, k in enumerate(numbers):
        up, down = ensemble.moved({int(k): step}), ensemble.moved({int(k): -step})
        found[:, column] = (up.means[numbers] - down.means[numbers]) / (2 * step)
        assert abs((up.log_z - down.log_z) / (2 * step) + ensemble.means[k]) < 1e-6
    assert (np.abs(found + covariance) < 1e-6).all()
    assert (np.abs(found - found.T) < 1e-6).all()


def test_a_change_of_gauge_changes_no_number_that_can_be_measured():
    """A -> A M, lambda -> M^-1 lambda, <a> -> M^T <a>: p and S stay."""
    ensemble = random_ensemble(2)
    dense = DenseMatrix(ensemble.observation.matrix())
    mixing = np.random.default_rng(3).normal(size=(24, 24))
    mixing[:, 0] = np.eye(24)[0]
    gauged = GeneralizedEnsemble.from_probabilities(dense.in_gauge(mixing), ensemble.probabilities)
    np.testing.assert_allclose(gauged.coordinates, np.linalg.solve(mixing, ensemble.coordinates), atol=1e-10)
    np.testing.assert_allclose(gauged.means, mixing.T @ ensemble.means, atol=1e-10)
    again = GeneralizedEnsemble.from_coordinates(gauged.observation, gauged.coordinates)
    assert (np.abs(again.probabilities - ensemble.probabilities) < 1e-10).all()
    assert abs(gauged.coordinates @ gauged.means - ensemble.entropy) < 1e-10


def test_a_reference_takes_its_share_of_the_statistics():
    """Relative to a reference that holds the fields, only couplings are left; relative to itself, nothing."""
    spins = Hadamard(4)
    fields, couplings = np.zeros(16), np.zeros(16)
    fields[[spins.number(0), spins.number(2)]] = 0.3, -0.7
    couplings[spins.number(1, 3)] = 0.5
    reference = GeneralizedEnsemble.from_coordinates(spins, fields).probabilities
    ensemble = GeneralizedEnsemble.from_coordinates(spins, fields + couplings)
    assert ensemble.sufficient_statistics(1e-12, reference).tolist() == [spins.number(1, 3)]
    assert ensemble.sufficient_statistics(1e-12, ensemble.probabilities).tolist() == []
    assert len(ensemble.sufficient_statistics(1e-12)) == 3


def test_zero_probabilities_are_refused_or_counted():
    """-ln 0 must not become a large number by accident; what is added to counts is said."""
    spins = Hadamard(2)
    with pytest.raises(InvalidArgumentError, match="1 of 4 states"):
        GeneralizedEnsemble.from_probabilities(spins, [0.5, 0.25, 0.25, 0.0])
    with pytest.raises(InvalidArgumentError, match="sum"):
        GeneralizedEnsemble.from_probabilities(spins, [0.5, 0.25, 0.25, 0.1])
    made = GeneralizedEnsemble.from_counts(spins, [50, 25, 25, 0])
    assert "1 of 4 states were never seen: 0.5" in made.notes[0]
    np.testing.assert_allclose(made.probabilities, np.array([50.5, 25.5, 25.5, 0.5]) / 102)
    assert GeneralizedEnsemble.from_counts(spins, [50, 25, 24, 1]).notes == ()
    for counts in ([0, 0, 0, 0], [1, 1, 1, -1], [1, 1, np.nan, 1]):
        with pytest.raises(InvalidArgumentError):
            GeneralizedEnsemble.from_counts(spins, counts)
    with pytest.raises(InvalidArgumentError, match="pseudo_count"):
        GeneralizedEnsemble.from_counts(spins, [50, 25, 25, 0], pseudo_count=0.0)
    with pytest.raises(InvalidArgumentError, match="lambda_0"):
        made.moved({0: 1.0})


def test_errors_of_coordinates_from_frequencies():
    """Delta-method errors against the spread of 300 repetitions of 20 000 draws: within 15 % (4 sigma of that spread)."""
    ensemble, rng = random_ensemble(4), np.random.default_rng(6)
    draws = [rng.multinomial(20_000, ensemble.probabilities) for _ in range(300)]
    found = np.array([GeneralizedEnsemble.from_counts(ensemble.observation, d).coordinates for d in draws])
    stated = ensemble.saturated_errors(20_000)[1:]
    assert (np.abs(found.std(axis=0, ddof=1)[1:] / stated - 1) < 0.17).all()


def test_divergence_of_a_distribution_from_itself_is_zero():
    """And positive from any other."""
    p, q = random_ensemble(7).probabilities, random_ensemble(8).probabilities
    assert divergence(p, p) == 0.0
    assert divergence(p, q) > 0.01
