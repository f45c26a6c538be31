"""Forward effective sample size: exact values for Gaussians, and the mode that the reverse one cannot see."""

import math

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import forward_ess, kish_ess, kish_ess_after_cut


def normal_log_density(x, mean=0.0, scale=1.0):
    return -0.5 * ((x - mean) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


def test_gaussian_value_is_exact():
    """p = N(0, 1), q = N(0, s^2): Z / E_p[w] = sqrt(2 s^2 - 1) / s^2, reverse and forward alike."""
    rng = np.random.default_rng(0)
    scale = 1.4
    exact = math.sqrt(2 * scale**2 - 1) / scale**2
    x = rng.normal(size=100_000)
    log_w = normal_log_density(x) - normal_log_density(x, 0.0, scale) + 7.0
    found = forward_ess(log_w)
    assert abs(found.value - exact) < 4.5 * found.standard_error < 0.02
    known = forward_ess(log_w, log_z=7.0)
    assert abs(known.value - exact) < 4.5 * known.standard_error
    y = rng.normal(0.0, scale, 100_000)
    reverse = kish_ess(normal_log_density(y) - normal_log_density(y, 0.0, scale)) / len(y)
    assert abs(reverse - exact) < 0.01


def test_a_missed_mode_is_exposed():
    """A generator of one of two modes has perfect weights on its own draws; only frames of the target give it away."""
    rng = np.random.default_rng(1)

    def log_p(x):
        return np.logaddexp(math.log(0.5) + normal_log_density(x, -4), math.log(0.5) + normal_log_density(x, 4))

    def log_q(x):
        return normal_log_density(x, 4.0)

    own = rng.normal(4.0, 1.0, 5000)
    frames = rng.normal(size=5000) + np.where(rng.random(5000) < 0.5, 4.0, -4.0)
    reverse = kish_ess(log_p(own) - log_q(own)) / 5000
    found = forward_ess(log_p(frames) - log_q(frames))
    assert reverse > 0.95
    assert found.value < 1e-3
    assert not found.converged
    assert "upper bound" in found.notes[0]


def test_no_density_at_a_frame_is_zero():
    """q = 0 where p is not means infinite weights: efficiency zero, not NaN."""
    assert forward_ess([0.0, math.inf, 0.1]).value == 0.0
    assert forward_ess([0.0, math.inf, 0.1], [1.0, 0.0, 1.0]).value > 0.9
    with pytest.raises(NonFiniteError):
        forward_ess([0.0, math.nan])
    with pytest.raises(NonFiniteError):
        forward_ess([0.0, -math.inf])


def test_error_is_that_of_independent_chains():
    """Frames of one chain are not independent: with copies, only groups give the right error."""
    rng = np.random.default_rng(2)
    chains = rng.normal(size=200)
    log_w = 0.3 * np.repeat(chains, 50)
    naive, grouped = forward_ess(log_w), forward_ess(log_w, groups=np.repeat(np.arange(200), 50))
    np.testing.assert_allclose(grouped.value, naive.value)
    assert 6 < grouped.standard_error / naive.standard_error < 8
    values = [forward_ess(0.3 * rng.normal(size=200)).value for _ in range(400)]
    assert 0.7 < np.std(values) / grouped.standard_error < 1.4


def test_weights_of_frames_count_like_copies():
    """A reference that carries weights must not be taken as equal."""
    log_w = np.array([0.0, 0.5, -0.2, 0.3])
    copies = np.repeat(log_w, [1, 3, 2, 1])
    np.testing.assert_allclose(forward_ess(log_w, [1.0, 3.0, 2.0, 1.0]).value, forward_ess(copies).value)
    with pytest.raises(InvalidArgumentError, match="reference_weights"):
        forward_ess(log_w, [1.0, 2.0])
    with pytest.raises(InvalidArgumentError, match="groups"):
        forward_ess(log_w, groups=[1, 2])


def test_effective_size_after_the_literatures_cut():
    """The cut hides a draw that carries everything; the raw value beside it does not."""
    log_w = np.zeros(1000)
    log_w[3] = 12.0
    assert kish_ess(log_w) < 1.1
    np.testing.assert_allclose(kish_ess_after_cut(log_w), 998.0)
    np.testing.assert_allclose(kish_ess_after_cut(log_w, 0.0), kish_ess(log_w))
    with pytest.raises(InvalidArgumentError, match="fraction"):
        kish_ess_after_cut(log_w, 1.0)
