"""Equally weighted draws from weighted ones."""

import numpy as np

from heatbath.experiments.resampling import in_proportion


def test_resampling_counts_are_proportional():
    """Systematic resampling: counts within one of n w, in order, so that frames stay in time order."""
    weights = np.array([0.1, 0.0, 0.4, 0.5])
    index = in_proportion(weights, 1000, np.random.default_rng(0))
    assert (np.diff(index) >= 0).all()
    assert np.abs(np.bincount(index, minlength=4) - 1000 * weights).max() <= 1
