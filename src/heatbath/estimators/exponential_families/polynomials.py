"""Positions on a line: the Vandermonde matrix of powers, solved by Björck and Pereyra's algorithm in as many digits as it takes.

The matrix is so badly conditioned that a plain solve in float64 returns noise from about fifteen points on. Divided
differences cost O(N^2) in any arithmetic; here they run in decimal arithmetic, and the rounding of the *input* is followed
through to every coordinate, so that an answer that the input does not determine is refused.
"""

import dataclasses
import decimal
import functools
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families.observation import ObservationMatrix


@dataclasses.dataclass(frozen=True)
class Vandermonde(ObservationMatrix):
    """Columns 1, x, x^2, ... on N different positions x: coordinates are the coefficients of -ln p(x) as a polynomial.

    positions:  integers, fractions or floats, taken as exact.
    tolerance:  largest uncertainty of a term lambda_k max|x|^k, in kT, that rounding of the input may cause before
                ``coordinates`` raises ``InvalidArgumentError``. Probabilities as integers or fractions
                (``coordinates_of_probabilities``) have no rounding, so that any N works.

    Source: Björck & Pereyra, Math. Comp. 24, 893 (1970).
    """

    positions: tuple
    tolerance: float = 1e-6

    def __post_init__(self):
        exact = tuple(Fraction(x) for x in self.positions)
        object.__setattr__(self, "positions", exact)
        if len(set(exact)) < len(exact) or not exact:
            raise InvalidArgumentError("positions of a Vandermonde matrix must be different from one another")

    @property
    def size(self) -> int:
        return len(self.positions)

    @property
    def _context(self) -> decimal.Context:
        """Digits for intermediate results; about three per position are lost, forty are kept."""
        return decimal.Context(prec=40 + 3 * self.size, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)

    @functools.cached_property
    def _nodes(self) -> list[Decimal]:
        with decimal.localcontext(self._context):
            return [_decimal(x) for x in self.positions]

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        """max|x|^k of every power."""
        return float(max(abs(x) for x in self.positions)) ** np.arange(self.size, dtype=np.float64)

    @functools.cached_property
    def _inverse_sizes(self) -> np.ndarray:
        """|A^-1| as floats, (power, position): how much each coordinate moves with each value."""
        with decimal.localcontext(self._context):
            nodes, size = self._nodes, self.size
            master = [Decimal(1)]  # coefficients of prod (x - x_i), highest power first
            for node in nodes:
                master = [a - node * b for a, b in zip([*master, Decimal(0)], [Decimal(0), *master], strict=True)]
            found = np.zeros((size, size))
            for i, node in enumerate(nodes):
                quotient = [master[0]]
                for coefficient in master[1:-1]:
                    quotient.append(coefficient + node * quotient[-1])
                scale = Decimal(1)
                for j, other in enumerate(nodes):
                    scale = scale if j == i else scale * (node - other)
                found[:, i] = [abs(float(c / scale)) for c in reversed(quotient)]
            return found

    @functools.cached_property
    def condition(self) -> float:
        """||A||_1 ||A^-1||_1, which is what a plain solve would suffer from."""
        return float(np.abs(self.matrix()).sum(axis=0).max() * self._inverse_sizes.sum(axis=0).max())

    def uncertainties(self, errors: Any) -> np.ndarray:
        """Largest possible error of every coordinate when the values are off by at most ``errors``."""
        return self._inverse_sizes @ np.abs(errors)

    def coordinates(self, values):
        values = self._checked(values, "values")
        self._require(2.0**-53 * np.abs(values))
        with decimal.localcontext(self._context):
            return _solve(self._nodes, [Decimal(float(value)) for value in values])

    def coordinates_of_probabilities(self, probabilities: Any) -> np.ndarray:
        """Coordinates of -ln p for probabilities (or counts) that are integers, fractions, or floats.

        Integers and fractions are exact and need not be normalised; floats are taken to be rounded in their last bit. Raises
        ``InvalidArgumentError`` when one is not positive, or when the rounding leaves a coordinate unknown.
        """
        given = list(probabilities)
        if len(given) != self.size or not all(value > 0 for value in given):
            raise InvalidArgumentError(f"{self.size} positive probabilities are needed, one per position")
        rounded = [0.0 if isinstance(value, (int, Fraction)) else 2.0**-53 for value in given]
        self._require(np.array(rounded))
        with decimal.localcontext(self._context):
            exact = [Fraction(value) for value in given]
            total = sum(exact)
            return _solve(self._nodes, [-_decimal(value / total).ln() for value in exact])

    def _require(self, errors: np.ndarray) -> None:
        uncertain = self.uncertainties(errors) * self._sizes
        if not (uncertain <= self.tolerance).all():
            worst = int(np.argmax(np.nan_to_num(uncertain, nan=np.inf)))
            raise InvalidArgumentError(
                f"the last bit of these numbers moves the term of x^{worst} by up to {uncertain[worst]:.1e} kT (at most "
                f"{self.tolerance:.0e} "
                f"is allowed): {self.size} positions are too many for powers in float64. Give probabilities as integers or "
                f"fractions to "
                "coordinates_of_probabilities, or use another basis."
            )

    def values(self, coordinates):
        coordinates = self._checked(coordinates, "coordinates")
        with decimal.localcontext(self._context):
            exact = [Decimal(float(value)) for value in reversed(coordinates)]
            made = []
            for node in self._nodes:
                total = Decimal(0)
                for value in exact:
                    total = total * node + value
                made.append(float(total))
        return np.array(made)

    def means(self, probabilities):
        return self.matrix().T @ self._checked(probabilities, "probabilities")

    def columns(self, numbers):
        x = np.array([float(position) for position in self.positions])
        return x[:, None] ** np.asarray(numbers)[None, :]

    def name(self, number):
        return "1" if number == 0 else f"x^{number}"


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def _solve(nodes: list[Decimal], values: list[Decimal]) -> np.ndarray:
    """Newton's divided differences, then their polynomial in powers of x."""
    made, size = list(values), len(values)
    for k in range(size - 1):
        for i in range(size - 1, k, -1):
            made[i] = (made[i] - made[i - 1]) / (nodes[i] - nodes[i - k - 1])
    for k in range(size - 2, -1, -1):
        for i in range(k, size - 1):
            made[i] -= nodes[k] * made[i + 1]
    return np.array([float(value) for value in made])
