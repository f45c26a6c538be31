"""Jensen-Shannon divergence of Ramachandran plots against known values."""

import math

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators import ramachandran_jsd


def test_equal_and_disjoint_plots():
    """The two ends of the scale: 0 and log 2, in nats."""
    rng = np.random.default_rng(0)
    left, right = rng.uniform(-3, -0.1, (500, 2)), rng.uniform(0.1, 3, (500, 2))
    assert ramachandran_jsd(left, left) == 0.0
    np.testing.assert_allclose(ramachandran_jsd(left, right), math.log(2))


def test_two_cells_by_hand():
    """Masses (3/4, 1/4) against (1/4, 3/4); weights must do what copies do."""
    a, b = [0.5, 0.5], [-2.0, 1.0]
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    np.testing.assert_allclose(ramachandran_jsd([a, a, a, b], [a, b, b, b]), expected)
    np.testing.assert_allclose(ramachandran_jsd([a, b], [a, b], [3.0, 1.0], [0.1, 0.3]), expected)
    np.testing.assert_allclose(ramachandran_jsd([a, [np.nan, 0.0], b], [a, b], [3.0, 0.0, 1.0], [1.0, 3.0]), expected)


def test_the_seam_is_not_an_edge():
    """pi and -pi are one cell, and angles outside of [-pi, pi) belong where they wrap to."""
    np.testing.assert_allclose(ramachandran_jsd([[math.pi, 0.0]], [[-math.pi, 2 * math.pi]]), 0.0)
    apart = [[math.pi - 0.01, 0.0]], [[-math.pi + 0.01, 0.0]]
    np.testing.assert_allclose(ramachandran_jsd(*apart), math.log(2))
    assert ramachandran_jsd(*apart, smoothing=2.0) < 0.05


def test_bins_raise_the_floor_as_stated():
    """Two sets of n draws from one law differ by about (occupied bins) / (8 n) in each of the two histograms' variances."""
    rng = np.random.default_rng(1)
    n, bins = 40_000, 20
    found = ramachandran_jsd(*rng.uniform(-math.pi, math.pi, (2, n, 2)), bins=bins)
    assert 0.8 < found / (bins**2 / (4 * n)) < 1.2


def test_shapes_are_checked():
    """One angle per draw is no Ramachandran plot."""
    with pytest.raises(InvalidArgumentError, match="pairs"):
        ramachandran_jsd(np.zeros((5, 3)), np.zeros((5, 2)))
    with pytest.raises(InvalidArgumentError, match="weights"):
        ramachandran_jsd(np.zeros((5, 2)), np.zeros((5, 2)), np.zeros(5))
