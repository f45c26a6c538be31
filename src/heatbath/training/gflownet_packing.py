"""Networks at the states that trajectories hold, and nowhere else: trajectories of different lengths lie end to end.

Arrays of trajectories are as long as the longest path there could be; where most end early, asking the network about the rest
costs many times what the states that are there do. Their number is not known to the compiler: one program each for a few
numbers, every one twice the one before, and the smallest that holds all states is run. Gradients are taken within a program:
that of a choice between programs would carry what each of them keeps for its way back.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

#: Fewest states that are worth a program of their own.
FEWEST = 64
#: Most programs.
MOST_SIZES = 5


def sizes(count: int, shortest: int, longest: int) -> list[int]:
    """Numbers of states, rising, for which ``count`` trajectories of ``shortest`` to ``longest`` steps are worth a program; the
    last holds all there can be.
    """
    found, least = [count * (longest + 1)], max(FEWEST, count * (shortest + 1))
    while shortest < longest and found[0] >= 2 * least and len(found) < MOST_SIZES:
        found.insert(0, -(-found[0] // 2))
    return found


def program(lengths: Int[Array, " n"], programs: list[int]) -> Int[Array, ""]:
    """Which of the ``sizes`` holds all states of trajectories of ``lengths`` steps."""
    return jnp.searchsorted(jnp.asarray(programs), jnp.sum(lengths + 1))


def at_states(
    of_state: Callable[..., Float[Array, " p"]],
    lengths: Int[Array, " n"],
    size: int | None,
    context: PyTree,
    *arrays: Array,
) -> Float[Array, "n t1 p"]:
    """``of_state(context, *values)`` for every state of ``n`` trajectories; zeros after their ends.

    lengths: steps of every trajectory, states 0..length are there; size: no fewer than the states of all, None for arrays as
    they are; context: one per trajectory (leading axis n), or None; arrays (n, T+1, ...): what belongs to single states. Without
    contexts all states are one axis for the network: its products of matrices are faster so, above all on the way back.
    """
    count, width = arrays[0].shape[:2]
    here = jnp.arange(width) <= lengths[:, None]
    if size is None or size >= count * width:
        if context is None:
            flat = (array.reshape(count * width, *array.shape[2:]) for array in arrays)
            found = jax.vmap(partial(of_state, None))(*flat).reshape(count, width, -1)
        else:
            found = jax.vmap(lambda c, *rows: jax.vmap(partial(of_state, c))(*rows))(context, *arrays)
        return jnp.where(here[..., None], found, 0.0)
    ends = jnp.cumsum(lengths + 1)
    starts, place = ends - lengths - 1, jnp.arange(size)
    row = jnp.minimum(jnp.searchsorted(ends, place, side="right"), count - 1)
    column = jnp.clip(place - starts[row], 0, width - 1)
    contexts = jax.tree.map(lambda leaf: leaf[row], context)
    found = jax.vmap(of_state)(contexts, *(array[row, column] for array in arrays))
    back = jnp.minimum(starts[:, None] + jnp.arange(width), size - 1)
    return _unpacked(found, back, here, row, column, place < ends[-1])


@jax.custom_vjp
def _unpacked(found: Array, back: Array, here: Array, row: Array, column: Array, used: Array) -> Array:
    return jnp.where(here[..., None], found[back], 0.0)


def _forth(found, back, here, row, column, used):
    return _unpacked(found, back, here, row, column, used), (row, column, used)


def _back(held, slope):
    """A gather like the way forth, since every state has one place: the transpose of a gather would be a slow scatter."""
    row, column, used = held
    return jnp.where(used[:, None], slope[row, column], 0.0), None, None, None, None, None


_unpacked.defvjp(_forth, _back)
