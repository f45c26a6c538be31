"""Parameters as one vector: an optimiser then takes a handful of passes instead of a handful for every array of the network.

For small networks that are trained in short steps those passes, each over a few numbers, would take longer than the gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

#: Arrays of more numbers stay as they are: copying them would cost more than it saves.
LARGEST = 2**16


class Flat(NamedTuple):
    """Small float32 arrays of a tree end to end, and the others, each in their order."""

    vector: Float[Array, " n"]
    others: tuple[Array, ...]


def _is_small(leaf: Array) -> bool:
    return leaf.dtype == jnp.float32 and leaf.size <= LARGEST


def flattened(tree: PyTree) -> Flat:
    """The arrays of a tree."""
    leaves = jax.tree.leaves(tree)
    small = [leaf.reshape(-1) for leaf in leaves if _is_small(leaf)]
    vector = jnp.concatenate(small) if small else jnp.zeros(0, jnp.float32)
    return Flat(vector, tuple(leaf for leaf in leaves if not _is_small(leaf)))


def unflattened(flat: Flat, like: PyTree) -> PyTree:
    """The tree of the structure of ``like`` whose arrays are in ``flat``."""
    leaves, structure = jax.tree.flatten(like)
    others, place, found = iter(flat.others), 0, []
    for leaf in leaves:
        if _is_small(leaf):
            found.append(flat.vector[place : place + leaf.size].reshape(leaf.shape))
            place += leaf.size
        else:
            found.append(next(others))
    return jax.tree.unflatten(structure, found)


def factors(like: PyTree, name: str, factor: float) -> np.ndarray:
    """For every number of ``flattened(like).vector``: ``factor`` where its array is the attribute ``name``, else 1."""
    leaves = jax.tree_util.tree_leaves_with_path(like)
    named = [(getattr(path[0], "name", ""), leaf) for path, leaf in leaves if _is_small(leaf)]
    parts = [np.full(leaf.size, factor if found == name else 1.0, np.float32) for found, leaf in named]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
