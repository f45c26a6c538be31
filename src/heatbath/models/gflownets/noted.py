"""Perceptrons whose layers were noted while trajectories were drawn: a training that learns once from what it has just drawn
needs no second pass forward, since the policy went through the same layers, with the same parameters, at the same states.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: What the layers of a perceptron gave, before their activations.
Layers = tuple[Float[Array, "..."], ...]


def can_be_noted(body: Any) -> bool:
    """Whether the layers of a network are all there is to it: a perceptron with biases whose activations have no parameters."""
    if not isinstance(body, eqx.nn.MLP):
        return False
    activations = jax.tree.leaves((body.activation, body.final_activation))
    return all(layer.bias is not None for layer in body.layers) and not any(map(eqx.is_array, activations))


def layers(perceptron: eqx.nn.MLP, x: Float[Array, " f"]) -> Layers:
    """All layers at one point."""
    hidden, found = jnp.vectorize(perceptron.activation), []
    for layer in perceptron.layers:
        found.append(layer(hidden(found[-1]) if found else x))
    return tuple(found)


def last(perceptron: eqx.nn.MLP, noted: Layers) -> Float[Array, "*batch out"]:
    """What a perceptron with these layers says."""
    return jnp.vectorize(perceptron.final_activation)(noted[-1])


def said(perceptron: eqx.nn.MLP, x: Float[Array, "n f"], noted: Layers) -> Float[Array, "n out"]:
    """What the perceptron says at many points where its layers were noted, with its gradient."""
    hidden, found = jnp.vectorize(perceptron.activation), []
    for layer, known in zip(perceptron.layers, noted, strict=True):
        found.append(_product(layer.weight, layer.bias, hidden(found[-1]) if found else x, known))
    return last(perceptron, tuple(found))


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
