"""Log Jacobians of continuous flows: what is unbiased for the weight, what is not, and with which variance.

Linear flows (velocity A y, Euler steps) have everything in closed form. |z| < 4.5 standard errors has a false-alarm rate of 7e-6;
about 20 such tests are made, with fixed seeds.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.continuous_flow import ContinuousFlow, TimeGrid, continuous_flow
from heatbath.models.log_jacobian import (
    ExactJacobian,
    FlowPerturbation,
    Hutchinson,
    MultiStepFlowPerturbation,
)
from heatbath.models.nets.velocity import Velocity
from heatbath.models.subspaces import FullSpace, MeanFree

SIGMAS = 4.5


class LinearVelocity(Velocity):
    """v(y, t) = A y."""

    matrix: jax.Array

    def __call__(self, x, t):
        return (self.matrix @ x.reshape(-1)).reshape(x.shape)


def linear_flow(matrix, steps=8, **options) -> ContinuousFlow:
    """The flow of a constant matrix in float64, with Euler steps g_k = 1 - A/K."""
    matrix = jnp.asarray(matrix)
    options = {"integrator": "euler", "dtype": "float64", "tolerance": 1e-12, **options}
    return continuous_flow(LinearVelocity(matrix), (matrix.shape[0],), steps=steps, **options)


def random_matrix(dimension, scale, seed=0):
    """Entries N(0, scale^2 / dimension): singular values of the order of ``scale``."""
    return scale / math.sqrt(dimension) * np.random.default_rng(seed).standard_normal((dimension, dimension))


def estimates(log_jacobian, flow, count, seed=1):
    """``count`` independent values of log_det at one x."""
    x = jnp.linspace(-1.0, 1.0, math.prod(flow.subspace.shape)).reshape(flow.subspace.shape)
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(_estimates(log_jacobian, flow, x, keys)), float(_estimates(ExactJacobian(), flow, x, keys[:1])[0])


@eqx.filter_jit
def _estimates(log_jacobian, flow, x, keys):
    """One program for all flows and methods of equal shapes."""
    return jax.vmap(lambda key: log_jacobian.estimate(key, flow, x)[1])(keys)


def weight_score(log_dets, exact):
    """(mean of exp(exact - log_det) - 1) in standard errors, and that mean."""
    weights = np.exp(exact - log_dets)
    return (weights.mean() - 1) / (weights.std(ddof=1) / math.sqrt(weights.size)), weights.mean()


# The identity ---------------------------------------------------------------------------------------------------------


def stretches(matrix, subspace, count, seed):
    """|A n| for uniform n of the subspace."""
    keys = jax.random.split(jax.random.key(seed), count)
    n = jax.vmap(lambda k: subspace.direction(k).reshape(-1))(keys)
    return np.linalg.norm(np.asarray(n) @ np.asarray(matrix).T, axis=1)


@pytest.mark.parametrize("dimension", [2, 5, 10, 20])
def test_mean_of_inverse_powers_of_the_stretch_is_the_inverse_determinant(dimension):
    """The identity all of flow perturbation rests on: E|A n|^-D |det A| = 1. Spread is chosen so that the mean has a variance."""
    rng = np.random.default_rng(dimension)
    matrix = np.eye(dimension) + random_matrix(dimension, min(0.6, 1.2 / math.sqrt(dimension)), seed=dimension)
    matrix = matrix @ np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    values = stretches(matrix, FullSpace((dimension,)), 50_000, seed=dimension)
    score, mean = weight_score(dimension * np.log(values), np.linalg.slogdet(matrix)[1])
    assert abs(score) < SIGMAS, mean


def test_the_exponent_is_the_dimension_of_the_mean_free_space():
    """Ten particles move in 27 dimensions. With the exponent 30, as published code has it, weights are far off."""
    space = MeanFree((10, 3))
    basis = space.basis().reshape(27, 30)
    inside = np.eye(27) + random_matrix(27, 0.2, seed=4)
    inside *= 1.3
    values = stretches(basis.T @ inside @ basis, space, 60_000, seed=3)
    exact = np.linalg.slogdet(inside)[1]
    right, _ = weight_score(space.dimension * np.log(values), exact)
    wrong, mean = weight_score(30 * np.log(values), exact)
    assert abs(right) < SIGMAS
    assert abs(wrong) > 20, f"the exponent 3N was not noticed: mean weight {mean}"


def test_mean_free_directions_are_isotropic_in_an_orthonormal_basis():
    """A basis that is not orthonormal, or noise that is not isotropic in it, changes the law of the stretch."""
    space = MeanFree((4, 3))
    basis = space.basis().reshape(9, 12)
    np.testing.assert_allclose(basis @ basis.T, np.eye(9), atol=1e-14)
    np.testing.assert_allclose(space.basis().sum(axis=1), 0, atol=1e-14)
    keys = jax.random.split(jax.random.key(0), 50_000)
    n = np.asarray(jax.vmap(space.direction)(keys)).reshape(-1, 12) @ basis.T
    np.testing.assert_allclose(np.linalg.norm(n, axis=1), 1, rtol=1e-12)
    # second moments are 1/9 with standard error sqrt(2 (1 - 1/9) / (9 * 11) / 50000) at most
    second = n.T @ n / len(n)
    assert np.abs(second - np.eye(9) / 9).max() < 6 * math.sqrt(2 / 99 / 50_000)


# The weight -----------------------------------------------------------------------------------------------------------

FLOW = linear_flow(random_matrix(6, 0.5, seed=2))


@pytest.mark.parametrize(
    "log_jacobian",
    [FlowPerturbation(), MultiStepFlowPerturbation(), MultiStepFlowPerturbation(probes=3)],
    ids=["single", "multi", "multi-3"],
)
def test_flow_perturbation_is_unbiased_for_the_weight(log_jacobian):
    """A wrong exponent, sign or a direction shared between steps would shift the mean weight."""
    assert log_jacobian.unbiased_weight
    assert log_jacobian.bias is None
    score, mean = weight_score(*estimates(log_jacobian, FLOW, 12_000))
    assert abs(score) < SIGMAS, mean


def test_exact_is_the_determinant_of_the_whole_map():
    """Against the closed form of the linear flow: log|det(1 - A/K)^K|."""
    _, exact = estimates(ExactJacobian(), FLOW, 1)
    matrix = np.asarray(FLOW.velocity.matrix)
    assert abs(exact - 8 * np.linalg.slogdet(np.eye(6) - matrix / 8)[1]) < 1e-12


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_hutchinson_is_unbiased_for_the_logarithm_and_biased_for_the_weight(distribution):
    """Its weight is too large by about exp(Var/2); a suite that cannot see that would pass any estimate."""
    hutchinson = Hutchinson(1, distribution, order=5)
    assert not hutchinson.unbiased_weight
    assert "log" in hutchinson.bias
    values, exact = estimates(hutchinson, FLOW, 16_000)
    error = values.std(ddof=1) / math.sqrt(values.size)
    assert abs(values.mean() - exact) < SIGMAS * error
    score, mean = weight_score(values, exact)
    assert score > 20, "the bias of Hutchinson's weight was not noticed"
    assert abs(math.log(mean) - values.var() / 2) < 0.25 * values.var(), "about half the variance"


def test_hutchinson_gets_better_with_probes():
    """Four probes have a quarter of the variance, within the error of two variances (10 % is ample at 12 000 draws)."""
    one, _ = estimates(Hutchinson(1, order=2), FLOW, 12_000)
    four, _ = estimates(Hutchinson(4, order=2), FLOW, 12_000)
    assert 3.6 < one.var() / four.var() < 4.4


class RademacherDirections(MultiStepFlowPerturbation):
    """Flow perturbation with normalised +-1 vectors, past the check that refuses them."""

    def evaluate(self, seeds, flow, x):
        class Corners(type(flow.subspace)):
            def direction(self, key, dtype=None):
                return jax.random.rademacher(key, self.shape, dtype) / math.sqrt(self.dimension)

        corners = eqx.tree_at(lambda f: f.base.subspace, flow, Corners(flow.subspace.shape))
        return super().evaluate(seeds, corners, x)


class ExponentOfAllCoordinates(MultiStepFlowPerturbation):
    """The exponent 3N."""

    def dimension(self, flow):
        return math.prod(flow.subspace.shape)


def test_directions_that_are_not_isotropic_fail_and_are_refused():
    """Rademacher vectors belong to Hutchinson; in flow perturbation they bias the weight."""
    diagonal = linear_flow(np.diag([1.0, 0.5, -0.2, -0.6, -1.0]), steps=4)
    score, mean = weight_score(*estimates(RademacherDirections(), diagonal, 12_000))
    assert abs(mean - 1) > 0.05
    assert abs(score) > 20 or not np.isfinite(score), "corners of the cube were not noticed"
    good, _ = weight_score(*estimates(MultiStepFlowPerturbation(), diagonal, 12_000))
    assert abs(good) < SIGMAS
    with pytest.raises(InvalidArgumentError, match="isotropic"):
        FlowPerturbation(directions="rademacher")
    with pytest.raises(InvalidArgumentError, match="probes"):
        MultiStepFlowPerturbation(probes=0)
    with pytest.raises(InvalidArgumentError, match="distribution"):
        Hutchinson(distribution="sphere")
    with pytest.raises(InvalidArgumentError, match="order"):
        Hutchinson(order=0)


class ParticleVelocity(Velocity):
    """A nonlinear field of particles: linear in the positions, damped by their distance from the centre."""

    matrix: jax.Array

    def __call__(self, x, t):
        y = (self.matrix @ x.reshape(-1)).reshape(x.shape)
        return y / (1 + 0.1 * jnp.sum(x**2))


def test_particles_have_the_exponent_of_their_subspace():
    """The whole chain for particles with a free centre: 3N - 3 is unbiased, 3N is not, and the density is that of R^(3N)."""
    matrix = -0.9 * np.eye(12) + random_matrix(12, 0.5, seed=1)
    flow = continuous_flow(
        ParticleVelocity(jnp.asarray(matrix)), (4, 3), steps=4, centre_scale=0.7, dtype="float64", tolerance=1e-12
    )
    right, _ = weight_score(*estimates(MultiStepFlowPerturbation(), flow, 8000))
    wrong, _ = weight_score(*estimates(ExponentOfAllCoordinates(), flow, 8000))
    assert abs(right) < SIGMAS
    assert abs(wrong) > 20
    x = 0.5 * jax.random.normal(jax.random.key(2), (4, 3))

    @jax.jit
    def both(x):
        jacobian = jax.jacfwd(lambda flat: flow.to_base(flat.reshape(4, 3)).reshape(-1))(x.reshape(-1))
        return flow.log_prob(x), flow.base.log_prob(flow.to_base(x)) + jnp.linalg.slogdet(jacobian)[1]

    np.testing.assert_allclose(*both(x), atol=1e-12)


# The variance ---------------------------------------------------------------------------------------------------------


def test_variance_is_that_of_theory():
    """Var(log w) = 2 sum_k tr(S_k^2), S_k the traceless symmetric part of a step: within 20 %, and the analytic mean weight."""
    dimension, steps = 24, 16
    matrix = random_matrix(dimension, 0.6, seed=3)
    flow = linear_flow(matrix, steps)
    values, exact = estimates(MultiStepFlowPerturbation(), flow, 4000)
    symmetric = -(matrix + matrix.T) / (2 * steps)
    symmetric -= np.trace(symmetric) / dimension * np.eye(dimension)
    theory = steps * 2 * np.trace(symmetric @ symmetric)
    assert abs(values.var() / theory - 1) < 0.2
    score, _ = weight_score(values, exact)
    assert abs(score) < SIGMAS


def test_variance_falls_as_one_over_the_number_of_steps():
    """Slope -1 +- 0.15 of log variance against log K; a direction shared by all steps would give slope 0."""
    matrix = random_matrix(12, 0.8, seed=5)
    counts = np.array([4, 12, 36])
    variances = [estimates(MultiStepFlowPerturbation(), linear_flow(matrix, int(k)), 3000)[0].var() for k in counts]
    slope = np.polyfit(np.log(counts), np.log(variances), 1)[0]
    assert abs(slope + 1) < 0.15
    single = [estimates(FlowPerturbation(), linear_flow(matrix, int(k)), 3000)[0].var() for k in (4, 36)]
    assert abs(np.log(single[1] / single[0]) / np.log(9)) < 0.3, "one direction for all steps must not improve"


def test_time_grids_for_equal_shares_lower_the_variance():
    """A field that is strong near the data only wastes uniform steps; equalised ones must gain at least a factor 1.5."""
    from heatbath.models.continuous_flow import equalised_times

    class Late(Velocity):
        matrix: jax.Array

        def __call__(self, x, t):
            return 12 * t**11 * (self.matrix @ x)

    matrix = jnp.asarray(random_matrix(10, 0.8, seed=6))
    flow = continuous_flow(Late(matrix), (10,), steps=24, dtype="float64", tolerance=1e-10)
    better = eqx.tree_at(lambda f: f.times, flow, equalised_times(jax.random.key(0), flow))
    assert isinstance(better.times, TimeGrid)
    assert better.steps == flow.steps
    before = estimates(MultiStepFlowPerturbation(), flow, 3000)[0].var()
    after = estimates(MultiStepFlowPerturbation(), better, 3000)[0].var()
    assert before / after > 1.5
