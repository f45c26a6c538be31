"""Arithmetic on configurations, which may be arrays or trees of arrays, and the masses that belong to them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError


def require_floating(x: PyTree, kernel: str) -> None:
    """Refuse integer configurations, which have no gradient and no Gaussian step."""
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InvalidArgumentError(
                f"{kernel} moves real coordinates; found a configuration of type {jnp.result_type(leaf)}. "
                "Use the Gibbs kernel for discrete targets."
            )


def scalar_dtype(x: PyTree) -> jnp.dtype:
    """The floating type in which a kernel computes scalars for ``x``."""
    return jnp.result_type(*jax.tree.leaves(x))


def standard_normal(key: Key[Array, ""], x: PyTree) -> PyTree:
    """Independent standard normals in the shape and type of ``x``."""
    leaves, structure = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, noise)


def add_scaled(x: PyTree, scale: Scalar | float, direction: PyTree) -> PyTree:
    """``x + scale * direction`` in the type of ``x``."""
    return jax.tree.map(lambda a, b: a + (scale * b).astype(a.dtype), x, direction)


def divide(x: PyTree, masses: PyTree) -> PyTree:
    """``x / masses``, leaf by leaf."""
    return jax.tree.map(lambda a, m: a / m, x, masses)


def weighted_square(x: PyTree, masses: PyTree) -> Scalar:
    """The sum of ``masses * x**2`` over all coordinates."""
    terms = jax.tree.map(lambda a, m: jnp.sum(m * a**2), x, masses)
    return jax.tree.reduce(jnp.add, terms)


def choose(accepted: Scalar, proposed: PyTree, current: PyTree) -> PyTree:
    """``proposed`` where ``accepted``, else ``current``; a NaN in the branch not taken does not spread."""
    return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), proposed, current)


def all_finite(*trees: PyTree) -> Scalar:
    """Whether every number in ``trees`` is finite."""
    flags = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(trees)]
    return jnp.stack(flags).all()


def reduced_masses(masses: PyTree, beta: Array | float, x: PyTree) -> PyTree:
    """beta M for every leaf of ``x``, broadcastable against it and in its type.

    With u = beta U the equations of motion M dv/dt = -grad U read (beta M) dv/dt = -grad u, and velocities at temperature
    1/beta have the variance 1/(beta M): a kernel that sees only u and beta needs beta M and nothing else.
    ``masses`` is a number, an array that broadcasts against x, or a tree like x.
    """
    if jax.tree.structure(masses) != jax.tree.structure(x):
        masses = jax.tree.map(lambda leaf: masses, x)
    return jax.tree.map(lambda m, leaf: jnp.asarray(beta * jnp.asarray(m), leaf.dtype), masses, x)


def thermal_velocities(key: Key[Array, ""], x: PyTree, masses: PyTree) -> PyTree:
    """Velocities from the Maxwell-Boltzmann law N(0, 1 / masses), where ``masses`` are reduced."""
    return jax.tree.map(lambda noise, m: noise / jnp.sqrt(m), standard_normal(key, x), masses)
