"""From weighted draws to equally weighted ones, in order of time: what data sets are made of."""

import numpy as np


def in_proportion(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` indices in order, in proportion to ``weights`` (systematic resampling from one uniform number)."""
    cumulative = np.cumsum(weights)
    points = (np.arange(count) + rng.random()) / count * cumulative[-1]
    return np.clip(np.searchsorted(cumulative, points, side="right"), 0, len(weights) - 1)
