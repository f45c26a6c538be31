"""Overlap of energy histograms."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import energy_overlap


def test_overlap_of_normal_energies():
    """Two unit normals a distance d apart share 2 Phi(-d/2); identical rungs share all, distant ones nothing."""
    x = np.random.default_rng(0).standard_normal((4, 50000))
    x[2] += 2.0
    x[3] += 40.0
    overlap = energy_overlap(x)
    assert overlap.shape == (3,)
    assert overlap[0] > 0.98
    assert np.isclose(overlap[1], 2 * 0.15866, atol=0.02)
    assert overlap[2] == 0.0


def test_bad_input_is_refused():
    """A wrong shape or NaN."""
    with pytest.raises(InvalidArgumentError):
        energy_overlap(np.zeros(5))
    with pytest.raises(NonFiniteError):
        energy_overlap([[0.0, 1.0], [np.nan, 1.0]])
