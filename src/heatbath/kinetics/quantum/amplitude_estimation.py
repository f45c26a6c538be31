"""Amplitude estimation without phase estimation: maximum likelihood over Grover powers.

A state whose "good" part has probability p = sin^2(theta) is rotated by Grover's iterate Q = A S_0 A^-1 S_good;
after m of them the
good probability is sin^2((2m + 1) theta). Counts at powers 0, 1, 2, 4, ... pin theta down with an error that falls as one over
the number of applications of A, where plain shots fall as one over its square root (Suzuki et al., arXiv 1904.10246).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Bool, Complex

from heatbath.errors import InvalidArgumentError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Grover ``powers`` and the number of ``shots`` at each. Every shot at power m applies the preparation 2m + 1 times."""

    powers: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    shots: int = 100

    def __post_init__(self):
        if not self.powers or min(self.powers) < 0 or 0 not in self.powers:
            raise InvalidArgumentError(f"powers are not negative and hold 0, to tell angles apart; found {self.powers}")
        if self.shots < 1:
            raise InvalidArgumentError(f"shots must be at least 1; found {self.shots}")

    @staticmethod
    def doubling(levels: int, shots: int) -> "Schedule":
        """Powers 0, 1, 2, 4, ..., 2^(levels - 1)."""
        return Schedule((0, *(2**level for level in range(levels))), shots)

    @property
    def applications(self) -> int:
        """How often the preparation is applied in all."""
        return sum((2 * power + 1) * self.shots for power in self.powers)

    @property
    def runs(self) -> int:
        """How many measurements are made."""
        return len(self.powers) * self.shots


def grover(
    prepared: Complex[Array | np.ndarray, " amplitudes"], good: Bool[np.ndarray, " amplitudes"], power: int
) -> Complex[np.ndarray, " amplitudes"]:
    """The state after ``power`` iterates: the sign of good amplitudes flipped, then a reflection about ``prepared``.

    A S_0 A^-1 is the reflection about A|0>, so the state vector needs no circuit for A; a test compares the two.
    """
    base = np.asarray(prepared)
    state = base.copy()
    for _ in range(power):
        state = np.where(good, -state, state)
        state = 2 * np.vdot(base, state) * base - state
    return state


def good_probabilities(probability: float, powers: Sequence[int]) -> np.ndarray:
    """sin^2((2m + 1) theta) for every power m."""
    theta = np.arcsin(np.sqrt(np.clip(probability, 0.0, 1.0)))
    return np.sin((2 * np.asarray(powers) + 1) * theta) ** 2


def estimate_probability(counts: Sequence[int] | np.ndarray, schedule: Schedule) -> float:
    """The p that makes good ``counts`` at every power most likely: a grid finer than the narrowest peak, then refined."""
    odd = 2 * np.asarray(schedule.powers) + 1
    hits = np.asarray(counts, dtype=float)

    def likelihood(theta: np.ndarray) -> np.ndarray:
        chance = np.clip(np.sin(np.outer(theta, odd)) ** 2, 1e-12, 1 - 1e-12)
        return np.log(chance) @ hits + np.log1p(-chance) @ (schedule.shots - hits)

    low, high = 0.0, 0.5 * np.pi
    count = max(200, int(8 * odd.max() * np.sqrt(schedule.shots)))
    for _ in range(4):
        grid = np.linspace(low, high, count)
        best = grid[int(np.argmax(likelihood(grid)))]
        width = grid[1] - grid[0]
        low, high, count = max(0.0, best - width), min(0.5 * np.pi, best + width), 50
    return float(np.sin(best) ** 2)


def sample_estimate(probability: float, schedule: Schedule, random: np.random.Generator) -> float:
    """One estimate of ``probability`` as an experiment would give it."""
    counts = random.binomial(schedule.shots, np.clip(good_probabilities(probability, schedule.powers), 0.0, 1.0))
    return estimate_probability(counts, schedule)
