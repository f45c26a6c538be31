"""How far two sets of images are apart, seen through the features of a network: Frechet and kernel distances.

What the numbers mean depends on the network. With features of the published Inception network they are FID and KID; with features
of any other classifier they are not, and must be named after it, with its accuracy and with the distance between training and
test images, below which no model can be told from the data.
"""

import dataclasses
from pathlib import Path

import numpy as np

from heatbath.errors import InvalidArgumentError, MissingDataError
from heatbath.estimate import Estimate

#: Width of the features that FID is defined by.
INCEPTION_WIDTH = 2048


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
    """Mean (d,) and covariance (d, d) of features."""

    mean: np.ndarray
    covariance: np.ndarray

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.mean)


def feature_statistics(features) -> FeatureStatistics:
    """Mean and covariance of features (n, d). Raises ``InvalidArgumentError`` unless there are two rows of finite numbers."""
    rows = _checked(features)
    return FeatureStatistics(rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared Wasserstein-2 distance of the two normal laws.

    Biased upwards for few rows. The root is that of the symmetric C1^(1/2) C2 C1^(1/2), so that it exists for singular
    covariances too. Source: Heusel et al., arXiv 1706.08500, equation 6.
    """
    if first.width != second.width:
        raise InvalidArgumentError(f"features of one network have one width; found {first.width} and {second.width}")
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ second.covariance @ root)
    trace = np.trace(first.covariance) + np.trace(second.covariance) - 2 * np.sqrt(np.maximum(mixed, 0.0)).sum()
    return float(np.sum((first.mean - second.mean) ** 2) + trace)


def kernel_distance(first, second, *, subsets: int = 50, size: int = 200, seed: int = 0) -> Estimate:
    """Squared maximum mean discrepancy of features (n, d) and (m, d) with the kernel (x.y/d + 1)^3, unbiased; KID.

    Mean over ``subsets`` pairs of subsets of at most ``size`` rows, with the standard error of that mean (subsets overlap, so
    that it says nothing about other rows). Source: Binkowski et al., arXiv 1801.01401.
    """
    a, b = _checked(first), _checked(second)
    if a.shape[1] != b.shape[1]:
        raise InvalidArgumentError(f"features of one network have one width; found {a.shape[1]} and {b.shape[1]}")
    count, rng = min(size, len(a), len(b)), np.random.default_rng(seed)
    values = np.array(
        [
            _squared_discrepancy(
                a[rng.choice(len(a), count, replace=False)], b[rng.choice(len(b), count, replace=False)]
            )
            for _ in range(subsets)
        ]
    )
    error = values.std(ddof=1) / np.sqrt(subsets) if subsets > 1 else float("nan")
    return Estimate(float(values.mean()), float(error), float(subsets), "subsets of features")


def _squared_discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    n, width = x.shape

    def kernel(a, b):
        return (a @ b.T / width + 1) ** 3

    own = sum(k.sum() - np.trace(k) for k in (kernel(x, x), kernel(y, y))) / (n * (n - 1))
    return float(own - 2 * kernel(x, y).mean())


def read_inception(file: Path) -> FeatureStatistics:
    """A user's own Inception statistics: an npz with ``mu`` and ``sigma`` (as FID tools write them) or ``features`` (n, 2048).

    Only numbers from such files may be called FID. Raises ``MissingDataError`` when the file cannot be read, and
    ``InvalidArgumentError`` when it holds neither, or features of another width.
    """
    file = Path(file)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise MissingDataError(
            f"'{file}' cannot be read as an npz archive of Inception statistics ({error}). Make one with a tool for FID."
        ) from error
    if {"mu", "sigma"} <= set(arrays):
        found = FeatureStatistics(np.asarray(arrays["mu"], np.float64), np.asarray(arrays["sigma"], np.float64))
    elif "features" in arrays:
        found = feature_statistics(arrays["features"])
    else:
        raise InvalidArgumentError(f"expected mu and sigma, or features, in '{file}'; found {sorted(arrays)}")
    if found.mean.shape != (INCEPTION_WIDTH,) or found.covariance.shape != (INCEPTION_WIDTH, INCEPTION_WIDTH):
        raise InvalidArgumentError(
            f"Inception has {INCEPTION_WIDTH} features; '{file}' holds the shapes {found.mean.shape}, {found.covariance.shape}. "
            "Distances by other features are no FID: use feature_statistics and name the network."
        )
    return found


def _checked(features) -> np.ndarray:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise InvalidArgumentError(f"expected finite features (n, d) of two images at least; found shape {rows.shape}")
    return rows
