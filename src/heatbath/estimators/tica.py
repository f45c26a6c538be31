"""Time-lagged independent components: the linear combinations of features that decorrelate most slowly.

    C_tau v = lambda C_0 v,    C_0 = <x_t x_t^T + x_(t+tau) x_(t+tau)^T> / 2,    C_tau = <x_t x_(t+tau)^T + x_(t+tau) x_t^T> / 2

with x centred: the reversible estimator (Perez-Hernandez et al., J. Chem. Phys. 139, 015102 (2013); Schwantes & Pande 2013).
Eigenvalues are autocorrelations at the lag. For chains that are not dynamics (replica exchange) the components are still slow
coordinates of the sampling, and still a fair plane to compare two ensembles in.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
import scipy.linalg

from heatbath.errors import InvalidArgumentError, NonFiniteError

#: Directions whose variance is below this share of the largest are left out: features are often linearly dependent.
RELATIVE_CUTOFF = 1e-6


@dataclasses.dataclass(frozen=True)
class Tica:
    """Fitted components. ``project`` maps features (n, d) to (n, k).

    mean (d,); components (d, k), slowest first; eigenvalues (k,), their autocorrelations at ``lag`` frames. The sign of each
    component makes its largest entry positive.
    """

    mean: np.ndarray
    components: np.ndarray
    eigenvalues: np.ndarray
    lag: int

    def project(self, features: Any) -> np.ndarray:
        """(features - mean) components."""
        return (np.asarray(features, dtype=np.float64) - self.mean) @ self.components


def fit_tica(
    chains: Any,
    lag: int,
    *,
    dimensions: int = 2,
    scaling: Literal["kinetic-map", "unit"] = "kinetic-map",
) -> Tica:
    """TICA of features ``chains`` (chain, time, d), one (time, d), or a list of (time, d) of different lengths.

    ``lag`` in frames, pairs never cross from one chain to the next. ``unit`` scales components to variance one under the data,
    ``kinetic-map`` multiplies each by its eigenvalue, so that distances weigh slow directions more (Noe & Clementi 2015).
    Raises ``InvalidArgumentError`` when no chain is longer than the lag or fewer than ``dimensions`` directions vary.
    """
    arrays = [np.asarray(chain, dtype=np.float64) for chain in _as_list(chains)]
    if any(array.ndim != 2 for array in arrays) or len({array.shape[1] for array in arrays}) != 1:
        raise InvalidArgumentError(
            f"chains must be (chain, time, d) or a list of (time, d) with one d; found {[a.shape for a in arrays][:4]}"
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise NonFiniteError("features of TICA must be finite")
    early = [array[:-lag] for array in arrays if lag >= 1 and len(array) > lag]
    late = [array[lag:] for array in arrays if lag >= 1 and len(array) > lag]
    if not early:
        raise InvalidArgumentError(
            f"lag must be at least 1 and shorter than a chain; found lag {lag} for lengths {[len(a) for a in arrays][:4]}"
        )
    x, y = np.concatenate(early), np.concatenate(late)
    mean = 0.5 * (x.mean(axis=0) + y.mean(axis=0))
    x, y = x - mean, y - mean
    instantaneous = (x.T @ x + y.T @ y) / (2 * len(x))
    lagged = (x.T @ y + y.T @ x) / (2 * len(x))
    whitening = _whitening(instantaneous)
    if whitening.shape[1] < dimensions:
        raise InvalidArgumentError(
            f"{dimensions} components were asked for, but only {whitening.shape[1]} independent features vary"
        )
    eigenvalues, vectors = scipy.linalg.eigh(whitening.T @ lagged @ whitening)
    order = np.argsort(eigenvalues)[::-1][:dimensions]
    eigenvalues, components = eigenvalues[order], whitening @ vectors[:, order]
    components *= np.sign(components[np.abs(components).argmax(axis=0), np.arange(dimensions)])
    if scaling == "kinetic-map":
        components = components * eigenvalues
    return Tica(mean, components, eigenvalues, lag)


def _as_list(chains: Any) -> list:
    if isinstance(chains, list | tuple):
        return list(chains)
    chains = np.asarray(chains)
    return [chains] if chains.ndim == 2 else list(chains)


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """W (d, r) with W^T C W = 1 on the directions that vary."""
    variances, vectors = scipy.linalg.eigh(covariance)
    keep = variances > RELATIVE_CUTOFF * max(variances[-1], 0.0)
    return vectors[:, keep] / np.sqrt(variances[keep])
