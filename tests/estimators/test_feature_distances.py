"""Frechet and kernel distances against closed forms; files that are no Inception statistics are refused."""

import numpy as np
import pytest
import scipy.linalg

from heatbath.errors import InvalidArgumentError, MissingDataError
from heatbath.estimators import feature_distances
from heatbath.estimators.feature_distances import (
    FeatureStatistics,
    feature_statistics,
    frechet_distance,
    kernel_distance,
    read_inception,
)

RNG = np.random.default_rng(1)


def test_frechet_distance_of_normal_laws():
    """Equal to the formula with a matrix root of the product; zero of itself, also where a covariance is singular."""
    roots = RNG.normal(size=(2, 5, 5))
    first, second = (FeatureStatistics(RNG.normal(size=5), root @ root.T) for root in roots)
    product = np.real(scipy.linalg.sqrtm(first.covariance @ second.covariance))
    expected = np.sum((first.mean - second.mean) ** 2) + np.trace(first.covariance + second.covariance - 2 * product)
    np.testing.assert_allclose(frechet_distance(first, second), expected, rtol=1e-8)
    flat = FeatureStatistics(np.zeros(3), np.diag([1.0, 0.0, 2.0]))
    assert abs(frechet_distance(flat, flat)) < 1e-12
    with pytest.raises(InvalidArgumentError, match="width"):
        frechet_distance(first, flat)


def test_kernel_distance_sees_a_shift_and_nothing_where_there_is_none():
    """Unbiased: near zero for equal laws (4.5 s.e. over 40 independent pairs of sets), far from it for shifted ones."""
    same = [kernel_distance(*RNG.normal(size=(2, 100, 4)), subsets=1, size=100).value for _ in range(40)]
    assert abs(np.mean(same)) < 4.5 * np.std(same, ddof=1) / np.sqrt(40)
    shifted = kernel_distance(RNG.normal(size=(100, 4)), RNG.normal(size=(100, 4)) + 1.0, subsets=5, size=80)
    assert shifted.value > 10 * np.std(same)


def test_inception_statistics_of_a_user(tmp_path, monkeypatch):
    """Both forms are read; another width must not pass as FID, and bad files end in a sentence. Short features stand for long."""
    monkeypatch.setattr(feature_distances, "INCEPTION_WIDTH", 16)
    features = RNG.normal(size=(30, 16))
    np.savez(tmp_path / "rows.npz", features=features)
    stats = feature_statistics(features)
    np.savez(tmp_path / "stats.npz", mu=stats.mean, sigma=stats.covariance)
    assert abs(frechet_distance(*(read_inception(tmp_path / name) for name in ("rows.npz", "stats.npz")))) < 1e-6
    np.savez(tmp_path / "narrow.npz", features=features[:, :8])
    with pytest.raises(InvalidArgumentError, match="no FID"):
        read_inception(tmp_path / "narrow.npz")
    np.savez(tmp_path / "other.npz", weights=features)
    with pytest.raises(InvalidArgumentError, match="mu and sigma"):
        read_inception(tmp_path / "other.npz")
    (tmp_path / "bad.npz").write_text("nothing")
    with pytest.raises(MissingDataError):
        read_inception(tmp_path / "bad.npz")
    with pytest.raises(InvalidArgumentError, match="finite"):
        feature_statistics(np.full((3, 2), np.nan))
