"""Moments of clusters: right, independent of how draws are cut into batches, and honest about too few draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.training.cluster_moments import ClusterMoments, Moments


def two_clusters(count=6000, seed=0):
    """Two well-separated normals in three dimensions, 1/3 and 2/3 of the draws in turn."""
    random = np.random.default_rng(seed)
    scales = np.array([[0.3, 0.5, 0.2], [0.4, 0.1, 0.6]])
    labels = (np.arange(count) % 3 > 0).astype(int)
    return np.array([[-2.0, 0, 1], [2.0, 1, 0]])[labels] + scales[labels] * random.standard_normal((count, 3)), labels


def driven(process):
    carry = process.begin(jax.random.key(0))
    while not process.finished(carry):
        carry, _ = process.advance(carry)
    return carry


def test_moments_are_those_of_the_clusters():
    """Against NumPy on the same draws: every draw once, each in its cluster, whatever the batches."""
    data, labels = two_clusters()
    process = ClusterMoments(data, draws=6000, batch_size=500)
    carry = driven(process)
    assert process.finished(carry)
    found = process.moments(carry)
    for index in (0, 1):
        mine = data[labels == index]
        np.testing.assert_allclose(found.shares[index], len(mine) / len(data), atol=1e-12)
        np.testing.assert_allclose(found.means[index], mine.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(found.covariances[index], np.cov(mine.T, bias=True), atol=1e-5)
    np.testing.assert_allclose(found.mean, data.mean(axis=0), atol=1e-5)


def test_common_axes_diagonalise_both_covariances():
    """Axes in other coordinates than the variances would make a net that starts at a wrong density."""
    data, _ = two_clusters()
    found = ClusterMoments(data, draws=6000, batch_size=500)
    found = found.moments(driven(found))
    values, vectors = np.linalg.eigh(found.pooled)
    linear = (vectors / np.sqrt(values)) @ vectors.T
    axes, variances, centres = found.common_axes(linear)
    for index in (0, 1):
        mapped = linear @ found.covariances[index] @ linear.T
        np.testing.assert_allclose(axes.T @ mapped @ axes, np.diag(variances[index]), atol=1e-9)
    np.testing.assert_allclose(found.shares @ variances, 1, atol=1e-9)
    np.testing.assert_allclose(centres, (found.means - found.mean) @ linear.T)
    three = Moments(np.ones(3) / 3, np.zeros((3, 2)), np.stack([np.eye(2)] * 3))
    with pytest.raises(InvalidArgumentError, match="two clusters"):
        three.common_axes(np.eye(2))


def test_fresh_draws_are_counted_and_too_few_are_refused():
    """A source without end stops at the number asked for; a singular covariance is refused, not used."""
    process = ClusterMoments(
        lambda key, n: jax.random.normal(key, (n, 4)) + 3.0 * jnp.sign(jnp.arange(n) % 2 - 0.5)[:, None],
        draws=50,
        batch_size=20,
    )
    carry = driven(process)
    assert float(np.asarray(carry.counts).sum()) == 60
    few = ClusterMoments(np.random.default_rng(0).standard_normal((6, 4)), draws=6)
    with pytest.raises(InvalidArgumentError, match="more draws"):
        few.moments(driven(few))
    with pytest.raises(InvalidArgumentError, match="clusters"):
        ClusterMoments(np.zeros((4, 2)), draws=4, clusters=0)
