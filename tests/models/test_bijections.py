"""Combinators of bijections: values, inverses and log determinants against dense linear algebra."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.models.bijections import Affine, Chain, Inverted, Permutation, Stacked
from heatbath.models.flow import Flow
from heatbath.models.gaussian import CorrelatedNormal, Normal


def chain(key) -> Chain:
    """Shifts, scales and permutations, three of them in a scanned stack."""
    shifts, scales = jax.random.normal(key, (3, 4)), 0.5 + jax.random.uniform(key, (3, 4))
    stack = Stacked(eqx.filter_vmap(Affine)(shifts, scales))
    return Chain(
        (
            Affine(shifts[0], scales[1]),
            Permutation(jnp.array([2, 0, 3, 1])),
            stack,
            Inverted(Affine(shifts[1], scales[2])),
        )
    )


def test_inverse_and_log_determinant(key):
    """A wrong order of layers or sign of a log determinant biases every weight."""
    bijection, z = chain(key), jax.random.normal(jax.random.fold_in(key, 1), (4,))
    x, log_det = bijection.forward(z)
    back, log_det_inverse = bijection.inverse(x)
    np.testing.assert_allclose(back, z, atol=1e-12)
    expected = np.linalg.slogdet(jax.jacfwd(lambda v: bijection.forward(v)[0])(z))[1]
    np.testing.assert_allclose([log_det, -log_det_inverse], expected, atol=1e-12)


def test_a_flow_of_affine_maps_is_the_normal_it_should_be(key):
    """The change of variables must give the density known in closed form, at draws and elsewhere."""
    bijection = chain(key)
    flow = Flow(Normal(jnp.zeros(4)), bijection)
    matrix = np.asarray(jax.jacfwd(lambda v: bijection.forward(v)[0])(jnp.zeros(4)))
    mean = bijection.forward(jnp.zeros(4))[0]
    exact = CorrelatedNormal.from_covariance(mean, matrix @ matrix.T)
    x, log_prob = flow.sample_and_log_prob(key)
    np.testing.assert_allclose(log_prob, exact.log_prob(x), atol=1e-10)
    np.testing.assert_allclose(flow.log_prob(x + 1.0), exact.log_prob(x + 1.0), atol=1e-10)
