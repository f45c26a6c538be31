"""Which arrays of a model training may change."""

import equinox as eqx
import jax
from jaxtyping import PyTree


def trainable(model: PyTree) -> PyTree:
    """A tree of booleans (a prefix of ``model``): True at inexact arrays that lie under no class declared ``frozen``."""
    return jax.tree.map(
        lambda node: False if _is_frozen(node) else eqx.is_inexact_array(node), model, is_leaf=_is_frozen
    )


def parameter_count(model: PyTree) -> int:
    """Number of numbers that training may change."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, trainable(model))))


def _is_frozen(node) -> bool:
    return isinstance(node, eqx.Module) and bool(getattr(type(node), "frozen", False))
