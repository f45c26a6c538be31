"""From means and samples to coordinates: exact moments, errors that cover, zeros that are called zero."""

import numpy as np
import pytest

from heatbath.errors import ConvergenceError, InvalidArgumentError
from heatbath.estimators.exponential_families import (
    Hadamard,
    infer,
    minimum_kl,
    pseudo_likelihood,
    score_test,
    select,
)
from heatbath.estimators.exponential_families.ensemble import divergence
from heatbath.estimators.exponential_families.inference import joint_test


def glass(spins, seed, scale=0.3):
    """Fields and couplings, half of them zero, and what they make: (coefficients of products, columns, p)."""
    rng, matrix = np.random.default_rng(seed), Hadamard(spins)
    numbers = matrix.up_to(2)
    theta = rng.normal(size=len(numbers)) * scale
    theta[rng.random(len(numbers)) < 0.5] = 0.0
    columns = matrix.columns(numbers)
    weights = np.exp(columns @ theta)
    return theta, columns, weights / weights.sum()


@pytest.fixture(scope="module")
def twelve():
    """A random model of 12 spins and 100 000 independent draws."""
    theta, columns, p = glass(12, 0)
    return theta, columns, p, np.random.default_rng(11).choice(len(p), 100_000, p=p)


def test_exact_means_give_the_distribution_back():
    """Means of the statistics that matter determine p; one fewer leaves the Pythagorean divergence; one more gets zero."""
    theta, columns, p = glass(6, 3)
    needed, spare = np.flatnonzero(theta), int(np.flatnonzero(theta == 0)[0])
    found = minimum_kl(columns[:, needed], p @ columns[:, needed])
    assert (np.abs(found.probabilities - p) < 1e-8).all()
    assert (np.abs(found.coordinates + theta[needed]) < 1e-8).all()
    fewer = minimum_kl(columns[:, needed[1:]], p @ columns[:, needed[1:]])
    missing = divergence(p, fewer.probabilities)
    assert missing > 1e-4
    assert abs(found.divergence - fewer.divergence - missing) < 1e-10
    more = np.append(needed, spare)
    assert abs(minimum_kl(columns[:, more], p @ columns[:, more]).coordinates[-1]) < 1e-8


def test_a_reference_is_what_is_left_without_evidence():
    """Means of the reference itself ask for nothing; others change it by exp(-lambda a)."""
    rng = np.random.default_rng(0)
    q, a = rng.dirichlet(np.ones(20)), rng.normal(size=(20, 2))
    assert (np.abs(minimum_kl(a, q @ a, q).coordinates) < 1e-10).all()
    made = q * np.exp(-a @ [0.5, -0.2])
    made /= made.sum()
    np.testing.assert_allclose(minimum_kl(a, made @ a, q).coordinates, [0.5, -0.2], atol=1e-9)


def test_impossible_means_end_in_a_sentence():
    """Means outside or on the edge of the possible, statistics that depend on one another, wrong shapes."""
    spins = Hadamard(3)
    a = spins.columns(spins.up_to(1))
    with pytest.raises(ConvergenceError, match="edge"):
        minimum_kl(a, np.array([0.0, 0.0, 1.2]))
    with pytest.raises(ConvergenceError, match="edge"):
        minimum_kl(a, np.array([0.0, 0.0, 1.0]))
    with pytest.raises(InvalidArgumentError, match="depend"):
        minimum_kl(np.concatenate([a, a[:, :1]], axis=1), np.zeros(4))
    with pytest.raises(InvalidArgumentError, match="one value"):
        minimum_kl(np.ones((8, 1)), np.ones(1))
    with pytest.raises(InvalidArgumentError, match="positive"):
        minimum_kl(a, np.zeros(3), np.zeros(8))
    with pytest.raises(InvalidArgumentError, match="at least 4"):
        infer(a, np.zeros((2, 10), dtype=int))
    with pytest.raises(InvalidArgumentError, match=r"0\.\.7"):
        infer(a, np.array([0, 9]))


def test_parameters_of_twelve_spins(twelve):
    """78 parameters from 1e5 draws. Largest |z| of 78 above 4 has odds of 0.5 %; mean z^2 beyond 1 +- 0.5 of 0.2 %."""
    theta, columns, _, states = twelve
    fit = infer(columns, states)
    z = (fit.coordinates + theta) / fit.standard_errors
    assert np.abs(z).max() < 4
    assert abs(np.mean(z**2) - 1) < 0.5


def test_zero_couplings_are_called_zero(twelve):
    """Holm's selection keeps no superfluous statistic (odds 5 %, fixed seed) and drops none that is 5 errors from zero; the score
    test finds one that was left out by mistake.
    """
    theta, columns, _, states = twelve
    fit = infer(columns, states)
    kept = select(fit)
    assert not (kept & (theta == 0)).any()
    assert kept[np.abs(theta) > 5 * fit.standard_errors].all()
    smaller = infer(columns[:, kept], states)
    missed = score_test(smaller, columns[:, kept], columns[:, ~kept], states)
    assert np.abs(missed).max() < 5
    strongest = int(np.argmax(np.abs(theta)))
    without = np.flatnonzero(kept & (np.arange(len(theta)) != strongest))
    lacking = infer(columns[:, without], states)
    z = score_test(lacking, columns[:, without], columns[:, [strongest]], states)
    assert z[0] * np.sign(theta[strongest]) > 30
    assert joint_test(fit, np.flatnonzero(theta == 0))[1] > 0.01
    assert joint_test(fit, np.flatnonzero(~(theta == 0)))[1] < 1e-12


def test_false_positives_come_at_the_stated_rate():
    """5 % of true zeros have |z| > 1.96: 200 repetitions of 18 zeros, 3600 tests in all, within 4.5 sigma (1.6 %)."""
    theta, columns, p = glass(6, 8)
    rng = np.random.default_rng(1)
    counted = [infer(columns, rng.choice(64, 3000, p=p)).p_values[theta == 0] < 0.05 for _ in range(200)]
    assert abs(np.mean(counted) - 0.05) < 4.5 * np.sqrt(0.05 * 0.95 / np.size(counted)) + 0.002


def test_errors_from_chains_know_about_correlation():
    """Every draw repeated 25 times: the spread over chains gives errors 5 times those that pretend independence."""
    theta, columns, p = glass(5, 4)
    states = np.random.default_rng(2).choice(32, (64, 200), p=p).repeat(25, axis=1)
    honest, naive = infer(columns, states), infer(columns, states.reshape(-1))
    ratio = honest.standard_errors / naive.standard_errors
    assert 3.8 < np.median(ratio) < 6.2
    assert np.abs((honest.coordinates + theta) / honest.standard_errors).max() < 4
    assert np.abs((naive.coordinates + theta) / naive.standard_errors).max() > 4


def test_pseudo_likelihood_finds_the_same_couplings(twelve):
    """Another estimator with its own errors: within 4 of the truth, and no better than maximum likelihood."""
    theta, columns, _, states = twelve
    matrix = Hadamard(12)
    found = pseudo_likelihood(matrix.configurations[states])
    first, second = np.triu_indices(12, 1)
    truth = dict(zip(matrix.up_to(2), theta, strict=True))
    coupling = np.array([truth[matrix.number(i, j)] for i, j in zip(first, second, strict=True)])
    field = np.array([truth[matrix.number(i)] for i in range(12)])
    z = np.append(
        (found.couplings[first, second] - coupling) / found.coupling_errors[first, second],
        (found.fields - field) / found.field_errors,
    )
    assert np.abs(z).max() < 4
    assert abs(np.mean(z**2) - 1) < 0.5
    fit = infer(columns, states)
    likely = dict(zip(matrix.up_to(2), fit.standard_errors, strict=True))
    ratio = [found.coupling_errors[i, j] / likely[matrix.number(i, j)] for i, j in zip(first, second, strict=True)]
    assert np.min(ratio) > 0.99
    with pytest.raises(InvalidArgumentError, match=r"\+-1"):
        pseudo_likelihood(np.zeros((5, 3), dtype=int))
