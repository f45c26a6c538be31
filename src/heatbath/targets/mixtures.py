"""Gaussian mixtures: multimodal targets with an exact normalisation in any dimension.

The energy is minus the log density, so that log Z(1) = 0. At other temperatures the density is a power of a mixture, which
can still be drawn from exactly (rejection under the sum of powers); its log Z is known by quadrature in one and two
dimensions.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import Euclidean
from heatbath.targets import quadrature
from heatbath.targets.base import Target
from heatbath.targets.coordinates import first_axes


class GaussianMixture(Target):
    """U(x) = -log sum_i w_i N(x; mu_i, Sigma_i).

    weights (k,), means (k, d), covariances (k, d, d). Truths: ``log_z(1) = 0`` in any dimension and ``log_z(beta)``,
    ``mean`` by quadrature for d <= 2; ``sample`` exactly at every beta > 0 in any dimension; ``left_probability`` at beta = 1.
    Raises ``InvalidArgumentError`` when shapes do not fit, weights are not positive or a covariance is not positive definite.
    """

    space: Euclidean
    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    cholesky: Float[Array, "k d d"]
    whitening: Float[Array, "k d d"]

    def __init__(self, weights, means, covariances):
        weights, means = np.asarray(weights, dtype=np.float64), np.asarray(means, dtype=np.float64)
        covariances = np.asarray(covariances, dtype=np.float64)
        if means.ndim != 2 or weights.shape != means.shape[:1] or covariances.shape != (*means.shape, means.shape[1]):
            raise InvalidArgumentError(
                "a mixture takes weights (k,), means (k, d) and covariances (k, d, d); "
                f"found {weights.shape}, {means.shape} and {covariances.shape}"
            )
        if not (weights > 0).all():
            raise InvalidArgumentError(f"the weights of a mixture must be positive; found {weights.tolist()}")
        try:
            cholesky = np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError as error:
            raise InvalidArgumentError("every covariance of a mixture must be positive definite") from error
        self.space = Euclidean((means.shape[1],))
        self.log_weights = jnp.asarray(np.log(weights / weights.sum()), dtype=float)
        self.means = jnp.asarray(means, dtype=float)
        self.cholesky = jnp.asarray(cholesky, dtype=float)
        self.whitening = jnp.asarray(np.linalg.inv(cholesky), dtype=float)

    def _component_log_densities(self, x):
        """(k,) log w_i + log N_i(x)."""
        whitening = self.whitening.astype(x.dtype)
        z = jnp.einsum("kij,kj->ki", whitening, x - self.means.astype(x.dtype))
        log_scale = jnp.sum(jnp.log(jnp.diagonal(whitening, axis1=1, axis2=2)), axis=1)
        constant = -0.5 * x.shape[0] * math.log(2 * math.pi)
        return self.log_weights.astype(x.dtype) + log_scale + constant - 0.5 * jnp.sum(z**2, axis=1)

    def energy(self, x):
        return -jax.nn.logsumexp(self._component_log_densities(x))

    def initial(self, key):
        return self.sample(key, 1.0)

    def observables(self):
        return first_axes(self.means.shape[1])

    def basins(self):
        """``left`` and ``right`` of the middle between the outermost means, along the first coordinate."""
        divide = float(0.5 * (self.means[:, 0].min() + self.means[:, 0].max()))
        return {"left": lambda x: x[0] < divide, "right": lambda x: x[0] >= divide}

    # Truths -----------------------------------------------------------------------------------------------------------
    def log_z(self, beta):
        dimension = self.means.shape[1]
        if float(beta) == 1.0:
            return 0.0
        if self.means.shape[0] == 1:
            return float(self._log_masses(float(beta))[0])
        if dimension > 2:
            raise UnknownTruthError(
                f"log Z of a mixture in {dimension} dimensions is known at beta = 1 only, not {beta}"
            )
        return quadrature.log_integral(self.energy, beta, *self._box(beta))

    def mean(self, observable, beta):
        if self.means.shape[1] > 2:
            raise UnknownTruthError("means of a mixture are known by quadrature in one and two dimensions")
        return quadrature.mean(self.energy, observable, beta, *self._box(beta))

    def knows(self, truth):
        return self.means.shape[1] <= 2 if truth == "mean" else super().knows(truth)

    def sample(self, key, beta):
        """Exact, by rejection: (sum a_i)^beta <= max(1, k^(beta-1)) sum a_i^beta, and a_i^beta is Gaussian."""
        log_masses = self._log_masses(beta)
        count, dimension = self.means.shape
        log_bound = jnp.maximum(jnp.asarray(beta) - 1.0, 0.0) * math.log(count)

        def propose(carry):
            key, _, _ = carry
            key, pick, place, accept = jax.random.split(key, 4)
            component = jax.random.categorical(pick, log_masses)
            z = jax.random.normal(place, (dimension,), dtype=self.means.dtype) / jnp.sqrt(beta)
            x = self.means[component] + self.cholesky[component] @ z
            logs = self._component_log_densities(x)
            log_ratio = beta * jax.nn.logsumexp(logs) - jax.nn.logsumexp(beta * logs) - log_bound
            return key, x, jnp.log(jax.random.uniform(accept, dtype=x.dtype)) < log_ratio

        start = (key, jnp.zeros_like(self.means[0]), jnp.asarray(False))  # noqa: FBT003
        return jax.lax.while_loop(lambda carry: ~carry[2], propose, start)[1]

    def left_probability(self, threshold: float = 0.0) -> float:
        """P(x_1 < threshold) at beta = 1, in any dimension."""
        spread = np.linalg.norm(np.asarray(self.cholesky[:, 0, :], dtype=np.float64), axis=1)
        z = (threshold - np.asarray(self.means[:, 0], dtype=np.float64)) / spread
        below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
        return float(np.sum(np.exp(np.asarray(self.log_weights, dtype=np.float64)) * below))

    def _log_masses(self, beta):
        """log of the integral of (w_i N_i)^beta for every component."""
        dimension = self.means.shape[1]
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(self.cholesky, axis1=1, axis2=2)), axis=1)
        power = 0.5 * (1.0 - beta) * (dimension * math.log(2 * math.pi) + log_det)
        return beta * self.log_weights + power - 0.5 * dimension * jnp.log(beta)

    def _box(self, beta):
        spread = np.linalg.norm(np.asarray(self.cholesky, dtype=np.float64), axis=2)
        reach = spread * math.sqrt(2 * quadrature.EDGE / float(beta))
        means = np.asarray(self.means, dtype=np.float64)
        return (means - reach).min(axis=0), (means + reach).max(axis=0)


def unequal_mixture(dimension: int = 10, seed: int = 0) -> GaussianMixture:
    """Two unequal modes in any number of dimensions, the benchmark of flow perturbation (arXiv 2407.10666).

    Weights 1/4 and 3/4, means -2 e_1 and +2 e_1, covariances diag(s) and Q diag(s') Q^T with variances
    s = 0.01 + |N(0, 0.25^2)| and a random orthogonal Q. Energies, log Z(1) = 0 and P(x_1 < 0) are exact.
    """
    if dimension < 1:
        raise InvalidArgumentError(f"a mixture needs at least one dimension; found {dimension}")
    random = np.random.default_rng(seed)
    variances = 0.01 + np.abs(0.25 * random.standard_normal((2, dimension)))
    rotation, _ = np.linalg.qr(random.standard_normal((dimension, dimension)))
    means = np.zeros((2, dimension))
    means[:, 0] = (-2.0, 2.0)
    covariances = np.stack([np.diag(variances[0]), (rotation * variances[1]) @ rotation.T])
    return GaussianMixture((0.25, 0.75), means, covariances)
