"""Perceptrons whose layers have been computed before: a training that learns once from what it has just drawn needs no second
pass forward, since the policy went through the same layers, with the same parameters, at the same states.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float

#: Of hidden layers.
activation = jax.nn.leaky_relu
#: What the layers of a perceptron gave, before their activations; the last is what it says.
Layers = tuple[Float[Array, "..."], ...]


def layers(perceptron: eqx.nn.MLP, x: Float[Array, " f"]) -> Layers:
    """All layers at one point."""
    found = []
    for layer in perceptron.layers:
        found.append(layer(activation(found[-1]) if found else x))
    return tuple(found)


def recalled(perceptron: eqx.nn.MLP, x: Float[Array, "n f"], known: Layers) -> Float[Array, "n out"]:
    """What the perceptron says at many points where its layers are ``known``, with its gradient."""
    value = x
    for number, (layer, found) in enumerate(zip(perceptron.layers, known, strict=True)):
        value = _product(layer.weight, layer.bias, activation(value) if number else value, found)
    return value


@jax.custom_vjp
def _product(weight: Array, bias: Array, x: Array, known: Array) -> Array:
    """x weight^T + bias, which is ``known``."""
    return known


def _forth(weight, bias, x, known):
    return known, (weight, x)


def _back(held, slope):
    weight, x = held
    return slope.T @ x, slope.sum(axis=0), slope @ weight, None


_product.defvjp(_forth, _back)
