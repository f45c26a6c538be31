"""Binary spins: the Sylvester-Hadamard matrix of all products of spins, by the fast Walsh-Hadamard transform.

States are numbered as in ``targets.lattice``: the digits of the number in base 2 are the sites, the last site fastest, and
spin = 2 digit - 1. Observable k is the product of the spins whose bit is set in k, so that the order of an interaction is the
number of bits.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families.observation import ObservationMatrix

#: Bits that one matrix product transforms: small enough for the cache, large enough for the product to be fast.
_BITS = 6


def walsh_hadamard(values: Any) -> np.ndarray:
    """w_k = sum_i (-1)^(bits of i and k in common) v_i, for a length that is a power of two; O(N log N), not normalised.

    It is its own inverse up to N. Raises ``InvalidArgumentError`` for another length.
    """
    values = np.array(values, dtype=np.float64)
    bits = max(values.size.bit_length() - 1, 0)
    if values.ndim != 1 or values.size != 1 << bits:
        raise InvalidArgumentError(
            f"the Walsh-Hadamard transform needs a vector of length 2^n; found shape {values.shape}"
        )
    done = 0
    while done < bits:
        count = min(_BITS, bits - done)
        if done == 0:  # rows at once, instead of one product with a vector per block
            values = values.reshape((-1, 1 << count)) @ _sylvester(count)
        else:
            values = np.matmul(_sylvester(count), values.reshape((-1, 1 << count, 1 << done)))
        done += count
    return values.reshape(-1)


@functools.cache
def _sylvester(bits: int) -> np.ndarray:
    matrix = np.ones((1, 1))
    for _ in range(bits):
        matrix = np.kron(np.array([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return matrix


def bit_counts(numbers: Any) -> np.ndarray:
    """How many bits are set: the order of each interaction."""
    return np.bitwise_count(np.asarray(numbers, dtype=np.uint64)).astype(int)


@dataclasses.dataclass(frozen=True)
class Hadamard(ObservationMatrix):
    """All 2^n products of n spins.

    lambda_S = 2^-n sum_s (-ln p(s)) prod_{i in S} s_i. A field h_i and a coupling J_ij of U = -sum J s s - sum h s at beta = 1
    are -lambda of the sets {i} and {i, j}. n is at most 26.
    """

    spins: int

    def __post_init__(self):
        if not 1 <= self.spins <= 26:
            raise InvalidArgumentError(f"a table of all states is possible for 1 to 26 spins; found {self.spins}")

    @property
    def size(self) -> int:
        return 1 << self.spins

    @functools.cached_property
    def orders(self) -> np.ndarray:
        """Number of spins in each product, shape (2^n,)."""
        return bit_counts(np.arange(self.size))

    @functools.cached_property
    def configurations(self) -> np.ndarray:
        """Spins of every state, (2^n, n) of +-1 in int8."""
        shifts = np.arange(self.spins - 1, -1, -1)
        return (2 * ((np.arange(self.size)[:, None] >> shifts) & 1) - 1).astype(np.int8)

    def _transform(self, vector: np.ndarray) -> np.ndarray:
        # the transform's signs are -spin, so that products of an odd number of spins change sign
        return np.where(self.orders % 2 == 0, 1.0, -1.0) * walsh_hadamard(vector)

    def coordinates(self, values):
        return self._transform(self._checked(values, "values")) / self.size

    def values(self, coordinates):
        signs = np.where(self.orders % 2 == 0, 1.0, -1.0)
        return walsh_hadamard(signs * self._checked(coordinates, "coordinates"))

    def means(self, probabilities):
        return self._transform(self._checked(probabilities, "probabilities"))

    def columns(self, numbers):
        numbers = np.asarray(numbers, dtype=np.int64)
        parity = bit_counts(np.arange(self.size)[:, None] & numbers[None, :]) + bit_counts(numbers)[None, :]
        return np.where(parity % 2 == 0, 1.0, -1.0)

    def number(self, *sites: Any) -> int:
        """The number of the product of these spins (each named once)."""
        if len(set(sites)) < len(sites) or not all(0 <= site < self.spins for site in sites):
            raise InvalidArgumentError(f"sites are different numbers in 0..{self.spins - 1}; found {sites}")
        return sum(1 << (self.spins - 1 - int(site)) for site in sites)

    def sites(self, number: Any) -> tuple[int, ...]:
        """The spins in product ``number``."""
        return tuple(site for site in range(self.spins) if number >> (self.spins - 1 - site) & 1)

    def up_to(self, order: int) -> np.ndarray:
        """Numbers of the products of 1 to ``order`` spins, small orders first."""
        numbers = np.flatnonzero((self.orders >= 1) & (self.orders <= order))
        return numbers[np.lexsort((-numbers, self.orders[numbers]))]

    def state(self, spins: Any) -> np.ndarray:
        """Numbers of configurations of +-1 (..., n)."""
        digits = (np.asarray(spins) > 0).astype(np.int64)
        return digits @ (1 << np.arange(self.spins - 1, -1, -1))

    def name(self, number):
        return "1" if number == 0 else " ".join(f"s{site}" for site in self.sites(number))
