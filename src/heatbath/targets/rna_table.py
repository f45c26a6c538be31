"""Binding of every short word, computed once: a table that is filled in chunks, and the target that looks things up in it."""

import time
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from heatbath.errors import InvalidArgumentError
from heatbath.process import Chunk, Process
from heatbath.spaces import Discrete
from heatbath.targets.base import Target
from heatbath.targets.rna import LETTERS, DuplexBinding


def first_number(length: int) -> int:
    """How many words are shorter: a word's number is this plus its letters read as digits of base four, the last fastest."""
    return (4**length - 1) // 3


def word_of(number: int) -> str:
    """The word of a number."""
    length = 0
    while first_number(length + 1) <= number:
        length += 1
    rest = number - first_number(length)
    return "".join(LETTERS[(rest >> 2 * place) & 3] for place in range(length - 1, -1, -1))


class TableCarry(NamedTuple):
    """Fitness by number of the word (NaN while unknown), and how many are known."""

    fitness: Float[Array, " n"]
    known: Int[Array, ""]


class FitnessTable(Process):
    """Fitness of all words of up to ``target.length`` letters, each scaled as if it had them all; those shorter than ``shortest``
    stay NaN. One chunk takes about ``seconds``.
    """

    target: DuplexBinding
    shortest: int = eqx.field(static=True, default=1)
    seconds: float = eqx.field(static=True, default=2.0)

    def __check_init__(self):
        if not 1 <= self.shortest <= self.target.length:
            raise InvalidArgumentError(f"shortest is from 1 to {self.target.length}; found {self.shortest}")

    @property
    def size(self) -> int:
        """Rows of the table."""
        return first_number(self.target.length + 1)

    def begin(self, key):
        fitness = jnp.full(self.size, jnp.nan, float)
        return TableCarry(fitness, jnp.asarray(first_number(self.shortest), jnp.int32))

    def advance(self, carry):
        began, found, place = time.monotonic(), [], int(carry.known)
        while place + len(found) < self.size and time.monotonic() - began < self.seconds:
            numbers = range(place + len(found), min(place + len(found) + 64, self.size))
            found.extend(self.target.fitness([word_of(number) for number in numbers]))
        fitness = np.array(carry.fitness)
        fitness[place : place + len(found)] = found
        new = TableCarry(jnp.asarray(fitness, carry.fitness.dtype), jnp.asarray(place + len(found), jnp.int32))
        return new, Chunk("training", {}, {"evaluations": float(len(found)), "words": float(place + len(found))})

    def finished(self, carry):
        return int(carry.known) >= self.size

    def progress(self, carry):
        return int(carry.known) / self.size


class TabulatedBinding(Target):
    """The law of ``binding`` by a table of fitness. ``energy(x)`` of whole words, ``partial(state)`` of words that still grow."""

    space: Discrete
    fitness: Float[Array, " n"]
    exponent: float
    floor: float

    def __init__(self, binding: DuplexBinding, fitness: Float[Array, " n"]):
        size = first_number(binding.length + 1)
        if len(fitness) != size:
            raise InvalidArgumentError(f"expected the fitness of {size} words; found {len(fitness)}")
        self.space, self.fitness = binding.space, jnp.asarray(fitness)
        self.exponent, self.floor = binding.exponent, binding.floor

    def _of_number(self, number):
        return -self.exponent * jnp.log(jnp.maximum(self.fitness[number], self.floor))

    def energy(self, x):
        length = self.space.shape[0]
        return self._of_number(first_number(length) + jnp.sum(x * 4 ** jnp.arange(length - 1, -1, -1)))

    def partial(self, state):
        """Energy of the word in a state of ``models.gflownets.environments.Sequence``: letter + 1 from the left, then zeros."""
        length = jnp.sum(state > 0)
        digits = jnp.where(state > 0, state - 1, 0) * 4 ** jnp.maximum(length - 1 - jnp.arange(len(state)), 0)
        return self._of_number((4**length - 1) // 3 + jnp.sum(digits))

    def log_rewards(self) -> np.ndarray:
        """log R of all whole words, by number, in float64. Raises ``InvalidArgumentError`` while the table has gaps."""
        values = np.asarray(self.fitness, dtype=np.float64)[first_number(self.space.shape[0]) :]
        if not np.isfinite(values).all():
            raise InvalidArgumentError(f"{int((~np.isfinite(values)).sum())} words of the table are not known yet")
        return self.exponent * np.log(np.maximum(values, self.floor))

    def log_z(self, beta):
        return float(np.logaddexp.reduce(beta * self.log_rewards()))
