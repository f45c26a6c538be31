"""The correlation with a derivative of its own beside the one XLA differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.models.nade import Convolution, convolutional_nade
from heatbath.models.nade.convolution import correlated


@pytest.mark.parametrize("pad", [0, 2, 1])
def test_gradients_are_those_of_autodiff(pad):
    keys = jax.random.split(jax.random.key(0), 3)
    h = jax.random.normal(keys[0], (2, 6, 5, 3))
    kernel = jax.random.normal(keys[1], (3, 3, 3, 4))

    def plain(h, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(h, kernel, (1, 1), [(pad, pad)] * 2, dimension_numbers=layout)

    weights = jax.random.normal(keys[2], plain(h, kernel).shape)
    np.testing.assert_allclose(correlated(h, kernel, pad), plain(h, kernel))
    ours = jax.grad(lambda *a: jnp.sum(weights * jnp.asarray(correlated(*a, pad)) ** 2), (0, 1))(h, kernel)
    theirs = jax.grad(lambda *a: jnp.sum(weights * plain(*a) ** 2), (0, 1))(h, kernel)
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_starts_near_marginals_where_there_is_a_perceptron():
    marginals = np.linspace(0.1, 0.9, 16)
    layers = (Convolution(2, 3, "valid"),)
    model = convolutional_nade(jax.random.key(0), (4, 4), layers, (3,), marginals=marginals)
    nothing = jnp.zeros(16)
    found = jnp.exp(model.missing_log_probs(jnp.ones(16, int), nothing))
    np.testing.assert_allclose(found, marginals, atol=0.1)
