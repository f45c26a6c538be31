"""What an observation matrix is: a complete set of observables on N states, the first of which is constant."""

import abc
import dataclasses
import functools
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError

#: Condition number beyond which coordinates by a plain solve have lost most of their digits.
LARGEST_CONDITION = 1e12


class ObservationMatrix(abc.ABC):
    """An invertible matrix A of shape (N, N): ``A[i, k]`` is observable k in state i, and ``A[:, 0]`` is all ones.

    Matrices with structure never form A: they give ``coordinates`` (A^-1 v), ``values`` (A lambda), ``means`` (A^T p) and single
    ``columns``. Vectors are float64 of length N; states are numbered 0 .. N-1.
    """

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """N, the number of states and of observables."""

    @abc.abstractmethod
    def coordinates(self, values: Any) -> np.ndarray:
        """Lambda = A^-1 v: the expansion of a function of the state in the observables."""

    @abc.abstractmethod
    def values(self, coordinates: Any) -> np.ndarray:
        """A lambda: the function of the state that has these coordinates."""

    @abc.abstractmethod
    def means(self, probabilities: Any) -> np.ndarray:
        """<a_k> = sum_i p_i A_ik of every observable."""

    @abc.abstractmethod
    def columns(self, numbers: Any) -> np.ndarray:
        """The observables with these numbers in every state, shape (N, len(numbers))."""

    def name(self, number: Any) -> str:
        """What observable ``number`` is called."""
        return "1" if number == 0 else f"a{number}"

    def matrix(self) -> np.ndarray:
        """A itself, shape (N, N)."""
        return self.columns(np.arange(self.size))

    def _checked(self, vector: np.ndarray, what: str) -> np.ndarray:
        vector = np.asarray(vector, dtype=np.float64)
        if vector.shape != (self.size,):
            raise InvalidArgumentError(
                f"{what} must have shape ({self.size},), one number per state; found {vector.shape}"
            )
        if not np.isfinite(vector).all():
            raise InvalidArgumentError(
                f"{what} must be finite; found {int((~np.isfinite(vector)).sum())} entries that are not"
            )
        return vector


@dataclasses.dataclass(frozen=True)
class DenseMatrix(ObservationMatrix):
    """Any invertible matrix of the user's, with a first column of ones.

    Raises ``InvalidArgumentError`` when it is not square or finite, its first column is not constant one, or its condition
    number exceeds ``LARGEST_CONDITION`` (coordinates by a plain solve would then be noise; scale or orthogonalise the columns).
    """

    entries: Any
    names: tuple[str, ...] = ()

    def __post_init__(self):
        entries = np.array(self.entries, dtype=np.float64)
        object.__setattr__(self, "entries", entries)
        if entries.ndim != 2 or entries.shape[0] != entries.shape[1] or not np.isfinite(entries).all():
            raise InvalidArgumentError(f"an observation matrix is square and finite; found shape {entries.shape}")
        if not np.array_equal(entries[:, 0], np.ones(len(entries))):
            raise InvalidArgumentError("the first column of an observation matrix is all ones (its coordinate is ln Z)")
        if not self.condition < LARGEST_CONDITION:
            raise InvalidArgumentError(
                f"the observation matrix has condition number {self.condition:.1e} (at most {LARGEST_CONDITION:.0e}): "
                f"coordinates "
                "would be noise. Scale its columns, make them orthogonal, or leave out observables that depend on others."
            )

    @functools.cached_property
    def condition(self) -> float:
        """Ratio of the largest and the smallest singular value."""
        return float(np.linalg.cond(self.entries))

    @property
    def size(self) -> int:
        return len(self.entries)

    def coordinates(self, values):
        return np.linalg.solve(self.entries, self._checked(values, "values"))

    def values(self, coordinates):
        return self.entries @ self._checked(coordinates, "coordinates")

    def means(self, probabilities):
        return self.entries.T @ self._checked(probabilities, "probabilities")

    def columns(self, numbers):
        return self.entries[:, np.asarray(numbers)]

    def name(self, number):
        return self.names[number] if self.names else super().name(number)

    def in_gauge(self, mixing: Any) -> "DenseMatrix":
        """A M. With coordinates M^-1 lambda it describes the same distribution; M must keep the column of ones."""
        return DenseMatrix(self.entries @ np.asarray(mixing, dtype=np.float64))
