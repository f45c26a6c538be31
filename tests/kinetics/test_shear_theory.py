"""Closed forms of the sheared tagged particle against each other and against quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.shear_theory import (
    MaxwellMoments,
    collision_shift,
    frozen_hazard,
    log_uniform_cdf,
    log_uniform_quantile,
    lyapunov,
    memory,
    moment_lyapunov,
    tail_exponent,
)

UNIFORM, ISOTROPIC = MaxwellMoments.of(0.0), MaxwellMoments.of(1.0)


def test_relaxation_of_both_angular_laws():
    """8/15 and 1/15, 3/4 and 1/12: a wrong fourth moment would move every threshold."""
    np.testing.assert_allclose([UNIFORM.relaxation, UNIFORM.mixing], [8 / 15, 1 / 15], rtol=1e-14)
    np.testing.assert_allclose([ISOTROPIC.relaxation, ISOTROPIC.mixing], [3 / 4, 1 / 12], rtol=1e-14)
    np.testing.assert_allclose([UNIFORM.critical_rate, ISOTROPIC.critical_rate], [0.84327, 1.29904], rtol=1e-5)


def test_stationary_moments_solve_the_moment_equation():
    """The closed form must be where the exact flow of moments leads, and equilibrium must be the identity."""
    gradient = np.zeros((3, 3))
    gradient[0, 1] = 0.4
    late = UNIFORM.at(400.0, gradient, np.diag([3.0, 1.0, 2.0]))
    np.testing.assert_allclose(late, UNIFORM.stationary(0.4), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(UNIFORM.stationary(0.0), np.eye(3), rtol=1e-14)
    with pytest.raises(InvalidArgumentError, match=r"0\.84327"):
        UNIFORM.stationary(0.9)


@pytest.mark.parametrize(("law", "angular"), [(UNIFORM, 0.0), (ISOTROPIC, 1.0)])
def test_growth_is_the_second_moment_exponent(law, angular):
    """Three ways to one number: the cubic, the moment equation, and the generator on spherical harmonics, to 1e-10."""
    gradient = np.zeros((3, 3))
    gradient[0, 1] = 1.5
    mu = law.growth(1.5)
    np.testing.assert_allclose(moment_lyapunov(2.0, 1.5, angular, degree=6), mu, rtol=1e-10)
    early, late = (np.trace(law.at(t, gradient, np.eye(3))) for t in (700.0, 710.0))
    np.testing.assert_allclose(np.log(late / early) / 10, mu, rtol=1e-10)


def test_energy_threshold_is_not_the_end_of_the_stationary_state():
    """At K = 1.5 energy grows and yet a typical speed shrinks; at K = 3.2 both grow. Confusing the two is the trap."""
    assert UNIFORM.growth(1.5) > 0.2
    assert lyapunov(1.5, degree=16) < -0.05
    assert lyapunov(3.2, degree=16) > 0.05
    np.testing.assert_allclose(moment_lyapunov(0.0, 1.5, degree=8), 0.0, atol=1e-12)


def test_tail_exponent_is_two_where_energy_diverges():
    """k(2) = 0 at the critical rate defines it; above it the tail is fatter."""
    assert abs(tail_exponent(UNIFORM.critical_rate, degree=12) - 2) < 1e-3
    assert 0.5 < tail_exponent(1.5, degree=12) < 1.0
    with pytest.raises(InvalidArgumentError, match="no stationary state"):
        tail_exponent(3.2, degree=12)


@pytest.mark.parametrize("gamma", [-1.2, -1.5, -2.5])
def test_remaining_hazard_is_the_integral_of_the_rate(gamma):
    """The closed form against quadrature of |(-K w2 s, w2, w3)|^gamma over all s."""
    w2, w3, rate = 0.7, -1.1, 1.3
    perp = w2**2 + w3**2
    # s = tan(theta) |w_perp| / (K |w2|)
    integral = quad(lambda t: np.cos(t) ** (-gamma - 2), 0, np.pi / 2)[0] * perp ** ((1 + gamma) / 2) / (rate * w2)
    np.testing.assert_allclose(frozen_hazard(w2, w3, rate, gamma), integral, rtol=1e-7)
    with pytest.raises(InvalidArgumentError, match="gamma < -1"):
        frozen_hazard(1.0, 1.0, 1.0, -0.5)


@pytest.mark.parametrize(("angular", "gamma"), [(0.0, -0.5), (1.0, -0.8)])
def test_the_next_collision_comes_late_by_a_known_shift(angular, gamma):
    """tau' - tau / (1 - a) of two flights in a row, drawn with NumPy, has the mean of the closed form (4.5 standard errors)."""
    a, rate, rng, count = -gamma, 3.0, np.random.default_rng(0), 100_000
    x = rng.uniform(100.0, 300.0, size=count)
    times = []
    for _ in range(2):
        log_flight = (np.log((1 - a) * rng.exponential(size=count)) + a * (x + np.log(rate))) / (1 - a)
        times.append(log_flight)
        cosine, angle = rng.uniform(size=count) ** (1 / (1 + angular)), rng.uniform(0, 2 * np.pi, size=count)
        x = np.log(rate) + x + log_flight + np.log(cosine * np.sqrt(1 - cosine**2) * np.abs(np.cos(angle)))
    shift = times[1] - times[0] / (1 - a)
    expected = collision_shift(gamma, rate, angular)
    assert abs(shift.mean() - expected) < 4.5 * shift.std() / np.sqrt(count)
    if angular == 0:
        np.testing.assert_allclose(expected, a * (np.log(rate) - 2) / (1 - a), rtol=1e-4)


def test_log_uniform_law():
    """Quantiles invert the distribution, its ends are 1/a - 1 and 1/a, and it has no memory while a point has all."""
    p = np.linspace(0, 1, 11)
    y = log_uniform_quantile(p, -0.5)
    np.testing.assert_allclose(log_uniform_cdf(y, -0.5), p, atol=1e-12)
    np.testing.assert_allclose(y[[0, -1]], [1.0, 2.0])
    assert abs(memory(log_uniform_quantile((np.arange(1000) + 0.5) / 1000, -0.8), -0.8)) < 1e-10
    assert abs(abs(memory(np.full(10, 1.7), -0.8)) - 1) < 1e-12
    with pytest.raises(InvalidArgumentError, match="-1 < gamma < 0"):
        log_uniform_cdf(y, -1.5)
