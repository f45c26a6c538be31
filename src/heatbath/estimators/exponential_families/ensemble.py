"""A distribution in an observation matrix: coordinates, means, entropy, and the identities of generalized thermodynamics."""

import dataclasses
import functools
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families.observation import ObservationMatrix

#: How far probabilities may be from a sum of one.
NORMALISATION = 1e-9


@dataclasses.dataclass(frozen=True)
class GeneralizedEnsemble:
    """p_i = exp(-sum_k lambda_k A_ik) on N states.

    observation:    the matrix A.
    coordinates:    lambda, shape (N,); lambda_0 = ln Z.
    probabilities:  p, shape (N,), all positive.
    notes:          what was done to the input, in sentences.
    """

    observation: ObservationMatrix
    coordinates: np.ndarray
    probabilities: np.ndarray
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_probabilities(observation: ObservationMatrix, probabilities: Any) -> "GeneralizedEnsemble":
        """The coordinates of p. Raises ``InvalidArgumentError`` when p is not normalised or any state has probability zero."""
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape != (observation.size,) or not np.isfinite(p).all() or not abs(p.sum() - 1) <= NORMALISATION:
            raise InvalidArgumentError(
                f"probabilities are {observation.size} finite numbers with sum 1; found shape {p.shape}, sum {p.sum():.9g}"
            )
        if not (p > 0).all():
            raise InvalidArgumentError(
                f"{int((p <= 0).sum())} of {p.size} states have no positive probability, and -ln p needs one. Leave them out "
                f"of the state "
                "space, or use from_counts with a pseudo-count."
            )
        return GeneralizedEnsemble(observation, observation.coordinates(-np.log(p)), p)

    @staticmethod
    def from_counts(observation: ObservationMatrix, counts: Any, pseudo_count: float = 0.5) -> "GeneralizedEnsemble":
        """Coordinates of observed frequencies, with ``pseudo_count`` added to every state if any was never seen.

        The addition is stated in ``notes``. See ``saturated_errors`` for what the coordinates are worth.
        """
        counts = np.asarray(counts, dtype=np.float64)
        if (
            counts.shape != (observation.size,)
            or not np.isfinite(counts).all()
            or (counts < 0).any()
            or not counts.sum() > 0
        ):
            raise InvalidArgumentError(
                f"counts are {observation.size} numbers >= 0, one of them positive; found {counts}"
            )
        empty, notes = int((counts == 0).sum()), ()
        if empty:
            if not pseudo_count > 0:
                raise InvalidArgumentError(f"{empty} states were never seen; a positive pseudo_count is needed")
            counts = counts + pseudo_count
            notes = (f"{empty} of {counts.size} states were never seen: {pseudo_count:g} was added to every count.",)
        p = counts / counts.sum()
        return GeneralizedEnsemble(observation, observation.coordinates(-np.log(p)), p, notes)

    @staticmethod
    def from_coordinates(observation: ObservationMatrix, coordinates: Any) -> "GeneralizedEnsemble":
        """The distribution with these lambda_k, k >= 1; lambda_0 is replaced by ln Z."""
        coordinates = np.array(coordinates, dtype=np.float64)
        coordinates[0] = 0.0
        exponents = -observation.values(coordinates)
        top = exponents.max()
        log_z = top + np.log(np.exp(exponents - top).sum())
        coordinates[0] = log_z
        return GeneralizedEnsemble(observation, coordinates, np.exp(exponents - log_z))

    @property
    def log_z(self) -> float:
        """lambda_0."""
        return float(self.coordinates[0])

    @functools.cached_property
    def means(self) -> np.ndarray:
        """<a_k>, shape (N,)."""
        return self.observation.means(self.probabilities)

    @property
    def entropy(self) -> float:
        """S = -sum p ln p = lambda . <a>, in units of k_B."""
        return float(-np.sum(self.probabilities * np.log(self.probabilities)))

    def covariance(self, numbers: Any) -> np.ndarray:
        """Cov(a_j, a_k) of the observables with these numbers: -d<a_j>/d lambda_k, which is symmetric (Maxwell's relations)."""
        columns = self.observation.columns(numbers)
        centred = columns - self.probabilities @ columns
        return centred.T @ (self.probabilities[:, None] * centred)

    def moved(self, changes: dict[int, float]) -> "GeneralizedEnsemble":
        """The distribution with some coordinates (never lambda_0) changed by these amounts."""
        if 0 in changes:
            raise InvalidArgumentError("lambda_0 = ln Z follows from the other coordinates and cannot be moved")
        coordinates = self.coordinates.copy()
        for number, change in changes.items():
            coordinates[number] += change
        return GeneralizedEnsemble.from_coordinates(self.observation, coordinates)

    def relative_coordinates(self, reference: Any) -> np.ndarray:
        """Coordinates of -ln(p/Q): those that are not zero belong to the statistics that are sufficient given ``reference`` Q."""
        reference = np.asarray(reference, dtype=np.float64)
        if reference.shape != self.probabilities.shape or not (reference > 0).all():
            raise InvalidArgumentError(f"a reference is {self.probabilities.size} positive probabilities")
        return self.observation.coordinates(-np.log(self.probabilities / reference))

    def sufficient_statistics(self, tolerance: float, reference: Any = None) -> np.ndarray:
        """Numbers k >= 1 of the observables with |lambda_k| > ``tolerance``, relative to ``reference`` (default: uniform)."""
        reference = np.full(self.probabilities.size, 1.0 / self.probabilities.size) if reference is None else reference
        large = np.abs(self.relative_coordinates(reference)) > tolerance
        large[0] = False
        return np.flatnonzero(large)

    def saturated_errors(self, draws: float | int) -> np.ndarray:
        """Standard errors of the coordinates k >= 1 when p are frequencies of ``draws`` independent draws, by the delta method.

        Cov(-ln p) = diag(1 / (n p)) up to a constant that moves lambda_0 alone; needs A^-1 row by row, so N is at most 4096.
        """
        size = self.observation.size
        if size > 4096:
            raise InvalidArgumentError(f"errors of all coordinates are computed for at most 4096 states; found {size}")
        variance = np.zeros(size)
        for state in range(size):
            unit = np.zeros(size)
            unit[state] = 1.0
            variance += self.observation.coordinates(unit) ** 2 / (draws * self.probabilities[state])
        return np.sqrt(variance)


def divergence(p: Any, q: Any) -> float:
    """Kullback-Leibler divergence sum p ln(p/q) of two positive distributions, in nats."""
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    return float(np.sum(p * np.log(p / q)))
