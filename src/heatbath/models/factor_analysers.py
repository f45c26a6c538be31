"""Mixtures of factor analysers by expectation maximisation: normals whose covariances are of low rank plus a diagonal."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution


class FactorAnalysers(Distribution):
    """p(x) = sum_k w_k N(x; m_k, L_k L_k^T + diag(n_k)) over R^d.

    ``log_weights`` (k,) need not be normalised; means m and noise variances n (k, d), loadings L (k, d, q).
    """

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    loadings: Float[Array, "k d q"]
    log_noise: Float[Array, "k d"]

    def sample(self, key):
        key_choice, key_factors, key_noise = jax.random.split(key, 3)
        k = jax.random.categorical(key_choice, self.log_weights)
        factors = jax.random.normal(key_factors, self.loadings.shape[2:], self.means.dtype)
        noise = jax.random.normal(key_noise, self.means.shape[1:], self.means.dtype)
        return self.means[k] + self.loadings[k] @ factors + jnp.exp(0.5 * self.log_noise[k]) * noise

    def log_prob(self, x):
        def part(mean, loading, log_noise):
            # Woodbury and the determinant lemma: q x q matrices only.
            scaled = loading / jnp.exp(log_noise)[:, None]
            inner = jnp.eye(loading.shape[1]) + loading.T @ scaled
            difference = x - mean
            quadratic = jnp.sum(difference**2 / jnp.exp(log_noise))
            projected = scaled.T @ difference
            quadratic = quadratic - projected @ jnp.linalg.solve(inner, projected)
            log_det = jnp.sum(log_noise) + jnp.linalg.slogdet(inner)[1]
            return -0.5 * (quadratic + log_det + x.size * math.log(2 * math.pi))

        parts = jax.vmap(part)(self.means, self.loadings, self.log_noise)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.log_weights) + parts)


@dataclasses.dataclass(frozen=True)
class AnalysersFit:
    """The model of the best iteration and mean log likelihoods on the way (``valid`` is empty without held-out data)."""

    model: FactorAnalysers
    train: np.ndarray
    valid: np.ndarray


def fit_factor_analysers(
    data,
    components: int,
    factors: int,
    *,
    seed: int = 0,
    iterations: int = 200,
    floor: float = 1e-3,
    held_out=None,
    patience: int = 10,
) -> AnalysersFit:
    """Expectation maximisation from means at random rows; noise variances stay above ``floor``, in units of a column's.

    ``data`` (n, d). With ``held_out`` (m, d), stops after ``patience`` iterations without improvement of its likelihood and
    returns the best model. Runs in NumPy. Raises ``InvalidArgumentError`` for tables that are empty or hold numbers that are not
    finite, and for counts that do not fit. Source of the updates: Ghahramani & Hinton, CRG-TR-96-1.
    """
    x = np.asarray(data, dtype=np.float64)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise InvalidArgumentError(f"expected a table (n, d) of finite numbers; found shape {x.shape}")
    if not 1 <= components <= len(x) or not 1 <= factors <= x.shape[1] or iterations < 1 or not floor > 0:
        raise InvalidArgumentError(
            f"expected 1 to {len(x)} components, 1 to {x.shape[1]} factors, an iteration and a positive floor; found "
            f"{components}, {factors}, {iterations}, {floor}"
        )
    rng = np.random.default_rng(seed)
    held = None if held_out is None else np.asarray(held_out, dtype=np.float64)
    spread = np.maximum(x.var(axis=0), 1e-12)
    weights = np.full(components, 1 / components)
    means = x[rng.choice(len(x), components, replace=False)]
    loadings = 0.3 * np.sqrt(spread)[:, None] * rng.normal(size=(components, x.shape[1], factors))
    parameters = (weights, means, loadings, np.tile(spread, (components, 1)))
    train, valid, best, best_at = [], [], parameters, 0
    for step in range(iterations):
        log_parts = _log_parts(x, *parameters)
        total = np.logaddexp.reduce(log_parts, axis=1)
        train.append(float(total.mean()))
        if held is not None:
            valid.append(float(np.logaddexp.reduce(_log_parts(held, *parameters), axis=1).mean()))
            if valid[-1] >= max(valid):
                best, best_at = parameters, step
            if step - best_at >= patience:
                break
        else:
            best = parameters
        parameters = _maximised(x, np.exp(log_parts - total[:, None]), *parameters, floor * spread)
    weights, means, loadings, noise = best
    arrays = (jnp.asarray(array) for array in (np.log(weights), means, loadings, np.log(noise)))
    return AnalysersFit(FactorAnalysers(*arrays), np.array(train), np.array(valid))


def _projection(loading: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(I + L^T N^-1 L) and B = (I + L^T N^-1 L)^-1 L^T N^-1, the regression of factors on x."""
    scaled = loading / noise[:, None]
    inner = np.eye(loading.shape[1]) + loading.T @ scaled
    return inner, np.linalg.solve(inner, scaled.T)


def _log_parts(x, weights, means, loadings, noises) -> np.ndarray:
    """log of w_k N_k(x_n), (n, k)."""
    parts = np.empty((len(x), len(weights)))
    for k, (mean, loading, noise) in enumerate(zip(means, loadings, noises, strict=True)):
        inner, regression = _projection(loading, noise)
        difference = x - mean
        explained = (difference / noise) @ loading
        quadratic = (difference**2 / noise).sum(axis=1) - (explained * (difference @ regression.T)).sum(axis=1)
        log_det = np.log(noise).sum() + np.linalg.slogdet(inner)[1]
        parts[:, k] = np.log(weights[k]) - 0.5 * (quadratic + log_det + x.shape[1] * math.log(2 * math.pi))
    return parts


def _maximised(x, shares, weights, means, loadings, noises, least):
    """One maximisation, given the share of every component in every row: means and loadings together."""
    counts = shares.sum(axis=0) + 1e-8
    new_means, new_loadings, new_noises = [], [], []
    for k, (mean, loading, noise) in enumerate(zip(means, loadings, noises, strict=True)):
        _, regression = _projection(loading, noise)
        factors = (x - mean) @ regression.T
        # Factors with a one beside them: the last column of the solution is the mean.
        wide = np.column_stack([factors, np.ones(len(x))])
        share = shares[:, k, None]
        second = wide.T @ (share * wide)
        q = loading.shape[1]
        second[:q, :q] += counts[k] * (np.eye(q) - regression @ loading)
        second += 1e-8 * np.eye(q + 1)
        first = x.T @ (share * wide)
        solution = np.linalg.solve(second, first.T).T
        residual = (share * x**2).sum(axis=0) - (solution * first).sum(axis=1)
        new_loadings.append(solution[:, :q])
        new_means.append(solution[:, q])
        new_noises.append(np.maximum(residual / counts[k], least))
    return counts / counts.sum(), np.array(new_means), np.array(new_loadings), np.array(new_noises)
