"""How much neighbouring rungs of a ladder share in energy."""

import itertools
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError, NonFiniteError


def energy_overlap(energies: Any, bins: int = 50) -> np.ndarray:
    """(rungs - 1,) overlap of the energy histograms of neighbouring rungs, sum_b min(p_b, q_b): 1 identical, 0 disjoint.

    energies (rungs, draws) of the draws at each rung. Each pair is binned on its own range. Swaps between rungs whose
    histograms share nothing are never accepted.
    """
    values = np.asarray(energies, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InvalidArgumentError(f"energies must have the shape (rungs, draws); found {values.shape}")
    if not np.isfinite(values).all():
        raise NonFiniteError(f"{int((~np.isfinite(values)).sum())} of {values.size} energies are NaN or infinite")
    return np.array([_pair_overlap(low, high, bins) for low, high in itertools.pairwise(values)])


def _pair_overlap(first: np.ndarray, second: np.ndarray, bins: int) -> float:
    edges = np.histogram_bin_edges(np.concatenate([first, second]), bins=bins)
    p, q = (np.histogram(x, bins=edges)[0] / len(x) for x in (first, second))
    return float(np.minimum(p, q).sum())
