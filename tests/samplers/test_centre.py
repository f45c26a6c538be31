"""The centre of mass by a harmonic term in the target: nothing is lost, nothing is counted twice."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.gaussian import CorrelatedNormal
from heatbath.samplers.centre import HarmonicCentre, forget_centre, held_at_centre
from heatbath.samplers.importance import importance
from heatbath.samplers.proposals import FromDistribution
from heatbath.spaces import Euclidean
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target
from heatbath.targets.clusters import DoubleWellCluster

ATOMS = 5
SIGMA = 1 / math.sqrt(ATOMS)


class Shape(Target):
    """Independent unit normals in the mean-free subspace: U = sum |x_i - C|^2 / 2, blind to the centre."""

    space: Euclidean = Euclidean((ATOMS, 3))

    def energy(self, x):
        return 0.5 * jnp.sum((x - jnp.mean(x, axis=0)) ** 2)


#: log of the integral of exp(-U) per unit volume of the centre; dx = n^(3/2) dC dy for orthonormal mean-free y.
EXACT_LOG_Z = 1.5 * math.log(ATOMS) + 1.5 * (ATOMS - 1) * math.log(2 * math.pi)


class ShapeAndCentre(Distribution):
    """The exact law of the shape, and the centre from N(0, sigma^2 I): a perfect generator on R^(3n)."""

    def sample(self, key):
        return jax.random.normal(key, (ATOMS, 3))

    def log_prob(self, x):
        return -0.5 * jnp.sum(x**2) - 1.5 * ATOMS * math.log(2 * math.pi)


def chi_correction(x):
    """The published adjustment of log q: minus the log of the chi density of |C|, up to a constant."""
    squared = jnp.sum(jnp.mean(x, axis=0) ** 2)
    return 0.5 * squared / SIGMA**2 - jnp.log(squared)


def test_a_perfect_generator_has_full_effective_size():
    """Any efficiency below one here would be the price of the treatment of the centre; log Z must be exact."""
    u = ReducedEnergy(Shape(), ThermoState(1.0, HarmonicCentre(SIGMA)))
    ensemble = importance(jax.random.key(0), FromDistribution(ShapeAndCentre()), u, 4000)
    assert abs(ensemble.ess() / 4000 - 1) < 1e-9
    np.testing.assert_allclose(ensemble.log_z.value, EXACT_LOG_Z, rtol=1e-10)


def test_the_chi_correction_costs_two_fifths():
    """Negative control: dividing q by the chi law of |C| leaves E[r^2]^2 / E[r^4] = 0.6 of the draws."""
    x = jax.vmap(ShapeAndCentre().sample)(jax.random.split(jax.random.key(1), 200_000))
    log_weights = jax.vmap(lambda x: -Shape().energy(x) - ShapeAndCentre().log_prob(x) - chi_correction(x))(x)
    weights = np.exp(np.asarray(log_weights - log_weights[0]))
    efficiency = weights.sum() ** 2 / np.sum(weights**2) / weights.size
    assert abs(efficiency - 0.6) < 0.01


def test_without_any_correction_the_weights_are_useless():
    """Leaving the centre out of the target altogether must be visible in the effective size."""
    x = jax.vmap(ShapeAndCentre().sample)(jax.random.split(jax.random.key(1), 20_000))
    log_weights = jax.vmap(lambda x: -Shape().energy(x) - ShapeAndCentre().log_prob(x))(x)
    weights = np.exp(np.asarray(log_weights - log_weights.max()))
    assert weights.sum() ** 2 / np.sum(weights**2) / weights.size < 0.05


def test_log_z_does_not_depend_on_the_width():
    """The term is normalised, so that models with centres of different widths agree about Z."""
    for sigma in (0.5 * SIGMA, SIGMA, 1.5 * SIGMA):
        covariance = np.eye(ATOMS) + (ATOMS * sigma**2 - 1) / ATOMS * np.ones((ATOMS, ATOMS))
        normal = CorrelatedNormal.from_covariance(np.zeros(3 * ATOMS), np.kron(covariance, np.eye(3)))
        x = normal.sample(jax.random.key(2))
        u = ReducedEnergy(Shape(), ThermoState(1.0, HarmonicCentre(sigma)))
        log_weight = -u(x.reshape(ATOMS, 3)) - normal.log_prob(x)
        np.testing.assert_allclose(log_weight, EXACT_LOG_Z, rtol=1e-10)


def test_the_term_is_a_normalised_density():
    """exp(-bias) integrates to one over the centre of a single particle; a constant forgotten would shift every log Z."""
    grid = np.linspace(-4, 4, 81)
    points = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    density = np.exp(-np.asarray(jax.vmap(HarmonicCentre(0.6))(jnp.asarray(points))))
    np.testing.assert_allclose(density.sum() * (grid[1] - grid[0]) ** 3, 1.0, rtol=1e-9)


def test_forgetting_the_centre_keeps_shapes_weights_and_energies():
    """The ensemble without the bias must be centred, carry no bias and have the same weights; other biases are refused."""
    target = DoubleWellCluster(centre_trap=0.0)
    state = held_at_centre(ThermoState(1.0), 0.7)
    u = ReducedEnergy(target, state)
    count, dimension = target.space.shape
    normal = CorrelatedNormal.from_covariance(np.zeros(count * dimension), 9.0 * np.eye(count * dimension))

    class Plane(Distribution):
        def sample(self, key):
            return normal.sample(key).reshape(count, dimension)

        def log_prob(self, x):
            return normal.log_prob(x.reshape(-1))

    ensemble = importance(jax.random.key(3), FromDistribution(Plane()), u, 500)
    free = forget_centre(ensemble)
    np.testing.assert_allclose(np.asarray(free.samples).mean(axis=1), 0, atol=1e-12)
    assert free.state.bias is None
    np.testing.assert_array_equal(free.log_weights, ensemble.log_weights)
    np.testing.assert_allclose(jax.vmap(target.energy)(free.samples), ensemble.energies, rtol=1e-9)
    with pytest.raises(InvalidArgumentError, match="HarmonicCentre"):
        forget_centre(free)
    with pytest.raises(InvalidArgumentError, match="already"):
        held_at_centre(state, 0.7)


def test_types_follow_the_configuration():
    """Single-precision positions must not be promoted in the inner loop, and a width of zero has no density."""
    assert HarmonicCentre(0.3)(jnp.ones((4, 3), jnp.float32)).dtype == jnp.float32
    for sigma in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidArgumentError, match="positive"):
            HarmonicCentre(sigma)
