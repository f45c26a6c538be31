"""BAR, exponential averaging and thermodynamic integration on oscillators with known free energies."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import bar, exponential_averaging, mbar, thermodynamic_integration


def works(n_forward, n_reverse, stiffness=2.0, centre=0.5, seed=0):
    """Works between k = 1 at 0 and ``stiffness`` at ``centre``; exact free energy log(stiffness) / 2."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(n_forward)
    y = centre + random.standard_normal(n_reverse) / np.sqrt(stiffness)

    def difference(z):
        return 0.5 * stiffness * (z - centre) ** 2 - 0.5 * z**2

    return difference(x), -difference(y)


def test_bar_is_mbar_with_two_states():
    """Same equations, so the same number, for unequal numbers of draws; the two error formulas agree asymptotically."""
    forward, reverse = works(700, 1900)
    u_kn = np.stack([np.zeros(2600), np.concatenate([forward, -reverse])])
    result, estimate = mbar(u_kn, [700, 1900]), bar(forward, reverse)
    assert np.isclose(estimate.value, result.f_k[1], atol=1e-9)
    assert np.isclose(estimate.standard_error, result.standard_errors[1], rtol=1e-3)
    assert estimate.converged


def test_bar_error_bars_are_calibrated():
    """Coverage of one sigma over 400 repetitions lies within 4 binomial errors of 68.3 %."""
    hits = 0
    for seed in range(400):
        estimate = bar(*works(80, 120, seed=seed))
        hits += abs(estimate.value - 0.5 * np.log(2)) < estimate.standard_error
    assert abs(hits / 400 - 0.6827) < 4 * np.sqrt(0.6827 * 0.3173 / 400)


def test_bar_without_overlap_is_not_converged():
    """A number from two disjoint sets is noise and must say so; huge works must not overflow."""
    estimate = bar(*works(300, 300, centre=60.0))
    assert not estimate.converged
    assert "states 0 and 1 do not overlap" in estimate.notes[0]
    assert np.isfinite(estimate.value)


def test_bar_and_thermodynamic_integration_agree():
    """Two routes along one path of oscillators, within 4 of their joint errors, and both with the closed form."""
    random = np.random.default_rng(5)
    lambdas = np.linspace(0.0, 1.0, 9)
    stiffness = 1.0 + 4.0 * lambdas
    draws = random.standard_normal((9, 4000)) / np.sqrt(stiffness)[:, None]
    slopes = 2.0 * draws**2
    ti = thermodynamic_integration(lambdas, slopes.mean(axis=1), slopes.std(axis=1) / np.sqrt(4000))
    steps = [bar(0.25 * slopes[i] / 2, -0.25 * slopes[i + 1] / 2) for i in range(8)]
    total, error = sum(s.value for s in steps), np.sqrt(sum(s.standard_error**2 for s in steps))
    truth = 0.5 * np.log(5.0)
    assert ti.converged
    assert abs(ti.value - truth) < 4 * ti.standard_error
    # neighbouring BAR steps share draws, so that their errors add at most linearly
    assert abs(total - truth) < 4 * np.sqrt(2) * error
    assert abs(total - ti.value) < 4 * np.hypot(np.sqrt(2) * error, ti.standard_error)


def test_thermodynamic_integration_of_a_curve():
    """Exact for cubics, signed, and honest about points that are too few or too coarse."""
    x = np.linspace(0.0, 2.0, 7)
    assert np.isclose(thermodynamic_integration(x, 4 * x**3 - 1).value, 14.0)
    assert np.isclose(thermodynamic_integration(x[::-1], (4 * x**3 - 1)[::-1]).value, -14.0)
    coarse = np.linspace(0.0, 1.0, 5)
    assert not thermodynamic_integration(coarse, np.sin(20 * coarse)).converged
    assert not thermodynamic_integration([0.0, 1.0], [1.0, 1.0]).converged
    errors = thermodynamic_integration(x, np.ones(7), np.full(7, 0.1)).standard_error
    assert 0.1 * 2 / np.sqrt(7) * 0.9 < errors < 0.1 * 2


def test_exponential_averaging_knows_when_it_fails():
    """Right with overlap; with a few dominating draws it is biased, and the Pareto shape says so."""
    forward, _ = works(20000, 1, stiffness=1.5, centre=0.2)
    estimate = exponential_averaging(forward)
    assert estimate.converged
    assert abs(estimate.value - 0.5 * np.log(1.5)) < 4 * estimate.standard_error
    bad = exponential_averaging(works(2000, 1, stiffness=1.0, centre=4.0)[0])
    assert not bad.converged
    assert "Pareto k" in bad.notes[0]


def test_bad_input_is_refused():
    """Each with the name of the argument."""
    with pytest.raises(InvalidArgumentError, match="w_reverse"):
        bar([1.0, 2.0], [])
    with pytest.raises(NonFiniteError, match="w_forward"):
        bar([1.0, np.nan], [1.0])
    with pytest.raises(InvalidArgumentError, match="increase or decrease"):
        thermodynamic_integration([0.0, 1.0, 0.5], [1.0, 1.0, 1.0])
    with pytest.raises(InvalidArgumentError, match="one shape"):
        thermodynamic_integration([0.0, 1.0], [1.0])
    with pytest.raises(NonFiniteError, match="finite"):
        thermodynamic_integration([0.0, 1.0], [1.0, np.inf])
