"""Random keys that depend on names and step numbers only.

One integer seed starts a run. Every consumer folds in its own name and then the step, so that neither the order of the
calls nor an interruption changes any number.
"""

import zlib

import jax
from jaxtyping import Array, Int, Key


def named_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of the consumer called ``name``."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def step_key(key: Key[Array, ""], step: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key of one step of a loop; ``step`` may be traced."""
    return jax.random.fold_in(key, step)


def walker_keys(key: Key[Array, ""], count: int) -> Key[Array, " count"]:
    """One key per walker. Walker ``i`` gets the same key however many walkers there are."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(jax.numpy.arange(count))
