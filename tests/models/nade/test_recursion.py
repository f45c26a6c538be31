"""The recursion's own backward pass is the gradient, and the baseline's fit is a fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.nade import MixtureHead, fit_bernoulli_mixture, nade
from heatbath.models.nade.recursion import RecursionWeights, plain_recursion, recursion


@functools.cache
def case():
    """Weights, data and a cotangent off every symmetry."""
    shapes = ((7, 5), (5,), (7,), (7, 5, 3), (7, 3), (4, 7), (4, 7, 3))
    arrays = [jax.random.normal(k, s) for k, s in zip(jax.random.split(jax.random.key(0), 7), shapes, strict=True)]
    return RecursionWeights(*arrays[:5]), arrays[5], arrays[6]


@pytest.mark.parametrize("activation", [jax.nn.sigmoid, jax.nn.relu], ids=["sigmoid", "relu"])
def test_backward_pass_equals_autodiff(activation):
    """A wrong rule would train another model than the likelihood says."""
    weights, x, cotangent = case()
    values, pulls = zip(
        *[jax.vjp(functools.partial(f, activation), weights, x) for f in (recursion, plain_recursion)], strict=True
    )
    np.testing.assert_array_equal(*values)
    own, by_autodiff = (jax.tree.leaves(pull(cotangent)) for pull in pulls)
    for a, b in zip(own, by_autodiff, strict=True):
        assert np.abs(np.asarray(b)).max() > 0.1
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_backward_pass_keeps_one_activation_per_datum():
    """The rule exists to save memory: what it keeps must not grow with coordinates times hidden units."""
    weights, x, _ = case()
    _, pull = jax.vjp(functools.partial(recursion, jax.nn.sigmoid), weights, x)
    own = sum(leaf.size for leaf in jax.tree.leaves(pull))
    _, pull = jax.vjp(functools.partial(plain_recursion, jax.nn.sigmoid), weights, x)
    plain = sum(leaf.size for leaf in jax.tree.leaves(pull))
    per_datum_and_step = x.size * weights.bias.size
    assert own <= sum(w.size for w in weights) + x.size + x.shape[0] * weights.bias.size
    assert plain > own + per_datum_and_step // 2


def test_gradient_in_single_precision_survives_many_coordinates():
    """Walking back by subtraction must not drift: 800 coordinates, against autodiff in double precision."""
    model = nade(jax.random.key(1), 800, 16)
    x = jax.random.bernoulli(jax.random.key(2), 0.3, (3, 800)).astype(jnp.int32)
    weights = RecursionWeights(model.inputs, model.bias, jnp.ones(800, jnp.float32), 30 * model.heads, model.head_bias)

    def total(rule, weights):
        return jnp.sum(jnp.sin(rule(jax.nn.sigmoid, weights, x.astype(weights.bias.dtype))))

    own = jax.jit(jax.grad(lambda w: total(recursion, w)))(weights)
    exact = jax.jit(jax.grad(lambda w: total(plain_recursion, w)))(jax.tree.map(lambda a: a.astype(float), weights))
    for a, b in zip(own, exact, strict=True):
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)


def test_damped_means_scale_one_gradient_and_no_value():
    """The trick multiplies the gradient of each mean by its scale and must leave values and the rest alone."""
    parameters = jnp.array([0.3, -0.2, 1.0, -0.5, -1.0, 0.4])
    plain, damped = (jax.value_and_grad(MixtureHead(2, damped_means=flag).log_prob) for flag in (False, True))
    (value, gradient), (same, scaled) = plain(parameters, jnp.array(0.7)), damped(parameters, jnp.array(0.7))
    np.testing.assert_allclose(value, same, rtol=1e-12)
    factor = np.array([1, 1, np.exp(-1.0), np.exp(0.4), 1, 1])
    np.testing.assert_allclose(scaled, gradient * factor, rtol=1e-9)


def test_mixture_of_coins_is_found_again():
    """Expectation maximisation must climb, and reach the likelihood of the mixture that made the data."""
    rng = np.random.default_rng(0)
    p = np.array([[0.9, 0.9, 0.1, 0.1, 0.5], [0.1, 0.2, 0.9, 0.8, 0.5]])
    x = (rng.random((3000, 5)) < p[(rng.random(3000) < 0.3).astype(int)]).astype(int)
    fit = fit_bernoulli_mixture(x[:2000], 2, seed=1, held_out=x[2000:])
    assert (np.diff(fit.train) > -1e-3).all()
    truth = np.log(0.7 * _product(x[2000:], p[0]) + 0.3 * _product(x[2000:], p[1])).mean()
    found = float(np.mean(jax.vmap(fit.model.log_prob)(jnp.asarray(x[2000:]))))
    assert abs(found - truth) < 0.02
    np.testing.assert_allclose(found, fit.valid.max(), rtol=1e-9)
    with pytest.raises(InvalidArgumentError, match="zeros and ones"):
        fit_bernoulli_mixture(x + 0.5, 2)


def _product(x, p):
    return np.prod(np.where(x == 1, p, 1 - p), axis=1)
