"""Where batches come from. A batch depends on the key and the step alone, so that a resumed training sees the same ones."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.random import step_key


class Source(eqx.Module):
    """``batch(key, memory, step, size) -> (memory, batch)``; ``remember(key, step, size)`` makes the memory of any step."""

    @property
    def available(self) -> int | None:
        """Number of configurations; None when they are drawn afresh."""
        return None

    def remember(self, key: Key[Array, ""], step: Int[Array, ""], size: int) -> PyTree:
        """What ``batch`` needs besides key and step, and what is too dear to make at every step."""
        return None

    @abc.abstractmethod
    def batch(self, key: Key[Array, ""], memory: PyTree, step: Int[Array, ""], size: int) -> tuple[PyTree, PyTree]: ...


class Shuffled(Source):
    """Equally weighted data, in a new order every epoch. What does not fill a batch is left out of that epoch."""

    data: PyTree

    @property
    def available(self) -> int:
        return len(jax.tree.leaves(self.data)[0])

    def remember(self, key, step, size):
        return jax.random.permutation(step_key(key, step // (self.available // size)), self.available)

    def batch(self, key, memory, step, size):
        per_epoch = self.available // size
        position = step % per_epoch
        memory = jax.lax.cond(position == 0, lambda: self.remember(key, step, size), lambda: memory)
        chosen = jax.lax.dynamic_slice_in_dim(memory, position * size, size)
        return memory, jax.tree.map(lambda leaf: leaf[chosen], self.data)


class Weighted(Source):
    """Data with weights: configuration i is in a batch with probability w_i each time, independently."""

    data: PyTree
    cumulative: Float[Array, " n"]

    def __init__(self, data: PyTree, log_weights):
        log_weights = np.asarray(log_weights, dtype=np.float64)
        if log_weights.ndim != 1 or len(log_weights) != len(jax.tree.leaves(data)[0]):
            raise InvalidArgumentError(
                f"expected one log weight per configuration, {len(jax.tree.leaves(data)[0])}; found shape {log_weights.shape}"
            )
        finite = np.where(np.isfinite(log_weights), log_weights, -np.inf)
        if not np.isfinite(finite).any():
            raise InvalidArgumentError("no configuration has a finite log weight, so nothing can be drawn")
        total = np.cumsum(np.exp(finite - finite.max()))
        self.data, self.cumulative = jax.tree.map(jnp.asarray, data), jnp.asarray(total / total[-1])

    @property
    def available(self) -> int:
        return len(self.cumulative)

    def batch(self, key, memory, step, size):
        at = jax.random.uniform(step_key(key, step), (size,), self.cumulative.dtype)
        # "right": a configuration of weight zero has no interval of its own, and is never found
        chosen = jnp.minimum(jnp.searchsorted(self.cumulative, at, side="right"), self.available - 1)
        return memory, jax.tree.map(lambda leaf: leaf[chosen], self.data)


class Fresh(Source):
    """New configurations at every step: ``draw(key, size)`` gives a batch."""

    draw: Callable[[Array, int], PyTree]

    def batch(self, key, memory, step, size):
        return memory, self.draw(step_key(key, step), size)


class Nothing(Source):
    """No data: the batch is None."""

    def batch(self, key, memory, step, size):
        return memory, None


def source_of(data: Any) -> Source:
    """A ``Source`` of whatever ``fit`` takes as data: None, a source, a function ``draw(key, n)``, or arrays (n, ...).

    Raises ``InvalidArgumentError`` when arrays are empty or of different lengths.
    """
    if data is None:
        return Nothing()
    if isinstance(data, Source):
        return data
    if callable(data):
        return Fresh(data)
    arrays = jax.tree.map(jnp.asarray, data)
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(arrays)}
    if len(lengths) != 1 or 0 in lengths:
        raise InvalidArgumentError(
            f"expected data arrays with one common first axis, not empty; found lengths {sorted(lengths)}"
        )
    return Shuffled(arrays)
