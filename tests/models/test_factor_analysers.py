"""Mixtures of factor analysers: the density against normals with full covariances, and what expectation maximisation promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from heatbath.errors import InvalidArgumentError
from heatbath.models.factor_analysers import FactorAnalysers, fit_factor_analysers

RNG = np.random.default_rng(0)
LOADINGS = RNG.normal(size=(2, 4, 2))
MEANS = np.array([[0.0, 1.0, -1.0, 0.5], [3.0, 3.0, 0.0, -2.0]])
NOISE = 0.1 + RNG.random((2, 4))
TRUE = FactorAnalysers(*map(jnp.asarray, (np.log([0.3, 0.7]), MEANS, LOADINGS, np.log(NOISE))))


def rows(seed, count):
    return np.asarray(jax.vmap(TRUE.sample)(jax.random.split(jax.random.key(seed), count)))


def test_the_density_is_that_of_normals_with_full_covariances():
    """A slip in the determinant lemma would shift every likelihood in the table of baselines."""
    x = RNG.normal(size=(5, 4))
    covariances = [loading @ loading.T + np.diag(noise) for loading, noise in zip(LOADINGS, NOISE, strict=True)]
    parts = [multivariate_normal(mean, c).pdf(x) for mean, c in zip(MEANS, covariances, strict=True)]
    np.testing.assert_allclose(TRUE.log_probs(jnp.asarray(x)), np.log(0.3 * parts[0] + 0.7 * parts[1]), rtol=1e-10)


def test_draws_have_the_mean_and_covariance_of_the_density():
    """Means and second moments within 4.5 standard errors of 20000 draws: false alarm 1e-4 over 14 numbers."""
    x = rows(1, 20_000)
    mean = 0.3 * MEANS[0] + 0.7 * MEANS[1]
    second = sum(
        w * (loading @ loading.T + np.diag(noise) + np.outer(m, m))
        for w, loading, noise, m in zip((0.3, 0.7), LOADINGS, NOISE, MEANS, strict=True)
    )
    products = x[:, :, None] * x[:, None, :]
    for values, exact in ((x, mean), (products, second)):
        error = values.std(axis=0) / np.sqrt(len(x))
        assert (np.abs(values.mean(axis=0) - exact) < 4.5 * error).all()


def test_expectation_maximisation_climbs_and_finds_the_law():
    """The likelihood never falls, and ends as high as the true law's on new rows, within their standard error."""
    x, new = rows(2, 3000), rows(3, 3000)
    found = fit_factor_analysers(x, 2, 2, seed=1, iterations=150)
    assert (np.diff(found.train) > -1e-6).all()
    own, true = (np.asarray(model.log_probs(jnp.asarray(new))) for model in (found.model, TRUE))
    assert abs((own - true).mean()) < 0.02 + 4.5 * (own - true).std() / np.sqrt(len(new))
    assert own.mean() == pytest.approx(np.asarray(found.model.log_probs(jnp.asarray(x))).mean(), abs=0.15)


def test_held_out_rows_stop_it():
    """Ten rows and ten components are learned by heart: held-out rows must end it early."""
    found = fit_factor_analysers(rows(4, 20), 5, 3, iterations=200, held_out=rows(5, 200), patience=5)
    assert len(found.valid) < 200
    assert len(found.valid) - 1 - int(np.argmax(found.valid)) == 5


def test_what_does_not_fit_is_refused():
    """NaN would otherwise make every parameter NaN at the first step."""
    for data, k, q in (
        (np.zeros((0, 2)), 1, 1),
        (np.full((4, 2), np.nan), 1, 1),
        (rows(6, 5), 6, 1),
        (rows(6, 5), 1, 9),
    ):
        with pytest.raises(InvalidArgumentError):
            fit_factor_analysers(data, k, q)
