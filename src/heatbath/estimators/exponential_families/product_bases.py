"""Variables with q values each: observation matrices that are Kronecker products of one basis per variable.

States are numbered with the last variable fastest. The Fourier basis of one variable (1, cos, sin, ... of 2 pi k x / q) is the
real discrete Fourier transform; for q = 2 it is (1, (-1)^x). The indicator basis (1, [x=1], ..., [x=q-1]) is the lattice-gas
gauge.
"""

import dataclasses
import functools
import math
from typing import Literal

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families.observation import ObservationMatrix


def fourier_basis(q: int) -> np.ndarray:
    """(q, q): columns 1, cos(2 pi x/q), sin(2 pi x/q), cos(4 pi x/q), ...; the last is (-1)^x for even q."""
    x = np.arange(q)
    columns = [np.ones(q)]
    for k in range(1, (q - 1) // 2 + 1):
        angle = 2 * np.pi * ((k * x) % q) / q
        columns += [np.cos(angle), np.sin(angle)]
    if q % 2 == 0:
        columns.append(np.where(x % 2 == 0, 1.0, -1.0))
    return np.stack(columns, axis=1)


def indicator_basis(q: int) -> np.ndarray:
    """(q, q): columns 1, [x=1], ..., [x=q-1]."""
    basis = np.eye(q)
    basis[:, 0] = 1.0
    return basis


@dataclasses.dataclass(frozen=True)
class ProductBasis(ObservationMatrix):
    """Kronecker product over variables with ``shape[v]`` values each, one small transform per variable: O(N sum q).

    ``basis`` is "fourier" or "indicator". Observable k = (k_1, ..., k_n) in mixed radix is the product of the variables' basis
    functions; ``orders`` counts the variables that take part.
    """

    shape: tuple[int, ...]
    basis: Literal["fourier", "indicator"] = "fourier"

    def __post_init__(self):
        if not self.shape or min(self.shape) < 2 or math.prod(self.shape) > 2**26:
            raise InvalidArgumentError(
                f"variables have at least two values and at most 2^26 states together; found shape {self.shape}"
            )
        if self.basis not in ("fourier", "indicator"):
            raise InvalidArgumentError(f"basis is 'fourier' or 'indicator'; found {self.basis!r}")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @functools.cached_property
    def factors(self) -> tuple[np.ndarray, ...]:
        """One (q, q) basis per variable."""
        make = fourier_basis if self.basis == "fourier" else indicator_basis
        return tuple(make(q) for q in self.shape)

    @functools.cached_property
    def orders(self) -> np.ndarray:
        """Number of variables that each observable depends on, shape (N,)."""
        digits = np.unravel_index(np.arange(self.size), self.shape)
        return np.sum([digit > 0 for digit in digits], axis=0)

    def _apply(self, matrices: list[np.ndarray], vector: np.ndarray) -> np.ndarray:
        tensor = vector.reshape(self.shape)
        for axis, matrix in enumerate(matrices):
            tensor = np.moveaxis(np.tensordot(matrix, tensor, axes=(1, axis)), 0, axis)
        return tensor.reshape(-1)

    def coordinates(self, values):
        return self._apply([np.linalg.inv(factor) for factor in self.factors], self._checked(values, "values"))

    def values(self, coordinates):
        return self._apply(list(self.factors), self._checked(coordinates, "coordinates"))

    def means(self, probabilities):
        return self._apply([factor.T for factor in self.factors], self._checked(probabilities, "probabilities"))

    def columns(self, numbers):
        digits = np.unravel_index(np.asarray(numbers), self.shape)
        states = np.unravel_index(np.arange(self.size), self.shape)
        made = np.ones((self.size, len(np.asarray(numbers))))
        for factor, digit, state in zip(self.factors, digits, states, strict=True):
            made *= factor[np.ix_(state, digit)]
        return made

    def name(self, number):
        digits = np.unravel_index(number, self.shape)
        return " ".join(f"f{digit}(x{site})" for site, digit in enumerate(digits) if digit) or "1"
