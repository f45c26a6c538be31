"""The conditioner of coupling layers: its start, its precision and the matrix products it becomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.nets.residual import BranchedNetwork, ResidualNetwork


def test_a_fresh_network_is_zero_and_learns():
    """Zero output makes flows start as the identity; the gradient must reach the last layer nevertheless."""
    network = ResidualNetwork.create(jax.random.key(0), 3, 5, width=8, depth=2)
    x = jnp.array([0.3, -1.0, 2.0])
    assert (np.asarray(network(x)) == 0).all()
    gradient = jax.grad(lambda network: jnp.sum(network(x)))(network)
    assert (np.abs(np.asarray(gradient.last.weight)).max(axis=0) > 0).all()


def test_the_network_computes_in_float32():
    """float64 configurations must not turn the networks into float64: that would double the cost."""
    network = ResidualNetwork.create(jax.random.key(0), 3, 5, width=8, depth=1, gain=1.0)
    assert network(jnp.ones(3, jnp.float64)).dtype == jnp.float32


def test_branches_are_parts_of_one_network():
    """Splitting the output over matrices must not change the function, only its cost."""
    sizes = {"width": 8, "depth": 2, "gain": 1.0}
    whole = ResidualNetwork.create(jax.random.key(0), 3, 2 * 4 + 3, **sizes)
    branched = BranchedNetwork.create(jax.random.key(0), 3, [(2, 4), (3,)], **sizes)
    x = jnp.array([0.3, -1.0, 2.0])
    first, second = branched(x)
    assert first.shape == (2, 4)
    np.testing.assert_allclose(jnp.concatenate([first.ravel(), second]), whole(x), atol=1e-6)


def test_a_batch_is_one_product_per_layer():
    """Under vmap every layer must become one (batch, in) x (in, out) product without transposition, the fast case of a CPU."""
    network = BranchedNetwork.create(jax.random.key(0), 3, [(2, 4), (3,)], width=8, depth=2)
    jaxpr = jax.make_jaxpr(jax.vmap(network))(jnp.ones((16, 3), jnp.float32))
    products = [equation for equation in jaxpr.jaxpr.eqns if equation.primitive.name == "dot_general"]
    assert len(products) == 5
    for product in products:
        assert product.params["dimension_numbers"] == (((1,), (0,)), ((), ()))
        assert product.outvars[0].aval.shape[0] == 16
    assert not [equation for equation in jaxpr.jaxpr.eqns if equation.primitive.name == "transpose"]


def test_impossible_sizes_are_refused():
    """A layer without units has no meaning."""
    with pytest.raises(InvalidArgumentError, match="positive"):
        ResidualNetwork.create(jax.random.key(0), 3, 0, width=8, depth=1)
