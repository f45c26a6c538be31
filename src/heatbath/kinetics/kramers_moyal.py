"""D(x) and the drift from recorded trajectories: the first two Kramers-Moyal coefficients, with errors, and what they imply.

The same numbers tell whether a simulation, or an experiment, is consistent: for a system in equilibrium the drift of Ito's form
has to be D d(log p)/dx + dD/dx with the density p that the data themselves show.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from heatbath.errors import InvalidArgumentError

#: Fewest displacements in a bin for an error bar.
MINIMUM_COUNT = 30


@dataclasses.dataclass(frozen=True)
class LocalCoefficients:
    """Estimates in bins of x.

    ``centres``: mean position of a bin's displacements; ``diffusivity`` and ``drift`` (Ito: <dx>/dt) with standard errors over
    independent trajectories; ``counts``; NaN where a bin has fewer than ``MINIMUM_COUNT`` displacements. ``curvature`` is the
    change of the diffusivity when the lag is doubled, a measure of the error of finite time steps, already taken out.
    """

    centres: Float[np.ndarray, " bins"]
    diffusivity: Float[np.ndarray, " bins"]
    diffusivity_error: Float[np.ndarray, " bins"]
    drift: Float[np.ndarray, " bins"]
    drift_error: Float[np.ndarray, " bins"]
    counts: np.ndarray
    curvature: Float[np.ndarray, " bins"]


def kramers_moyal(
    paths: Float[np.ndarray, "n times"], time_step: float, edges: Float[np.ndarray, " edges"]
) -> LocalCoefficients:
    """Local coefficients of one-dimensional ``paths`` recorded every ``time_step``.

    With c1(h) = <dx>/h and c2(h) = <dx^2>/(2h) at lag h, the values are 2 c(h) - c(2h), from which errors of first order in h
    are gone; both lags start in the same bin. Errors come from the spread over paths. Raises ``InvalidArgumentError`` for paths
    that are too few or too short, or not finite.
    """
    paths = np.asarray(paths, float)
    if paths.ndim != 2 or paths.shape[0] < 8 or paths.shape[1] < 3:
        raise InvalidArgumentError(
            f"expected at least 8 trajectories of 3 positions, shape (n, times); found {paths.shape}. Cut long ones into pieces."
        )
    if not np.isfinite(paths).all() or not time_step > 0:
        raise InvalidArgumentError("positions must be finite and the time between them positive")
    here = paths[:, :-2]
    near, far = paths[:, 1:-1] - here, paths[:, 2:] - here
    bins = len(edges) - 1
    place = np.digitize(here, edges) - 1
    inside = (place >= 0) & (place < bins)
    row = np.broadcast_to(np.arange(len(paths))[:, None], here.shape)
    flat = (row * bins + place)[inside]

    def summed(values):
        return np.bincount(flat, values[inside], len(paths) * bins).reshape(len(paths), bins)

    counts = summed(np.ones_like(here))
    h = time_step
    once, twice = near**2 / (2 * h), far**2 / (4 * h)
    square, square_error = _ratio(summed(2 * once - twice), counts)
    drift, drift_error = _ratio(summed(2 * near / h - far / (2 * h)), counts)
    curvature = _ratio(summed(twice - once), counts)[0]
    centres = _ratio(summed(here), counts)[0]
    return LocalCoefficients(centres, square, square_error, drift, drift_error, counts.sum(0).astype(int), curvature)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean per displacement and its jackknife-like error over paths."""
    total = counts.sum(0)
    enough = total >= MINIMUM_COUNT
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(0) / total
        residual = sums - mean * counts
        n = len(sums)
        error = np.sqrt((residual**2).sum(0) * n / (n - 1)) / total
    return np.where(enough, mean, np.nan), np.where(enough, error, np.nan)
