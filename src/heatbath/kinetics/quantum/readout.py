"""How the density leaves the quantum computer: by shots, by amplitude estimation, or by a peek that only a simulation can take.

Every reading destroys the state, so that each of its shots needs the whole evolution again: a ``Reading`` counts how often.
"""

import abc
import dataclasses

import numpy as np
from jaxtyping import Array

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum.amplitude_estimation import Schedule, sample_estimate
from heatbath.kinetics.quantum.encoding import AMPLITUDE, Encoded


@dataclasses.dataclass(frozen=True)
class Reading:
    """``contrast``: rho(x) / mean rho - 1, shape (positions,)*dimension, of the modes that were read.

    ``runs`` measurements were made, for which the evolution was applied ``applications`` times; ``peeked`` when the state
    vector was looked at, which no quantum computer allows.
    """

    contrast: np.ndarray
    runs: int = 0
    applications: int = 0
    peeked: bool = False


class Readout(abc.ABC):
    """A way to read the lowest ``modes`` Fourier modes of the density."""

    @abc.abstractmethod
    def read(
        self, psi: Array | np.ndarray, encoded: Encoded, grid: PhaseGrid, modes: int, random: np.random.Generator
    ) -> Reading:
        """Read the state ``psi`` (shape of the grid), whose encoding and conserved sums ``encoded`` tells."""


@dataclasses.dataclass(frozen=True)
class Peek(Readout):
    """Looks at the state vector: exact, free, impossible on a quantum computer."""

    def read(self, psi, encoded, grid, modes, random):
        return Reading(exact_density(psi, encoded, grid) - 1.0, peeked=True)


@dataclasses.dataclass(frozen=True)
class Shots(Readout):
    """Plain measurements, ``count`` in all; errors fall as one over the square root of it.

    Probability encoding: positions are measured, all modes at once. Amplitude encoding (one dimension): every mode has two
    settings of interference with the mean (see ``readout_circuits``), which share the shots.
    """

    count: int = 100_000

    def __post_init__(self):
        if self.count < 1:
            raise InvalidArgumentError(f"shots must be at least 1; found {self.count}")

    def read(self, psi, encoded, grid, modes, random):
        if encoded.encoding != AMPLITUDE:
            share = np.maximum(position_probabilities(psi, grid), 0.0)
            counts = random.multinomial(self.count, share.reshape(-1) / share.sum()).reshape(share.shape)
            return Reading(counts * (share.size / self.count) - 1.0, self.count, self.count)
        each = max(1, self.count // (2 * modes))
        found = np.zeros(modes, complex)
        for mode in range(1, modes + 1):
            for turn in (1.0, 1j):
                plus, minus = interference_probabilities(psi, grid, mode, turn)
                counts = random.multinomial(each, [plus, minus, max(0.0, 1 - plus - minus)])
                found[mode - 1] += turn * (counts[0] - counts[1]) / each
        mean = mean_amplitude(encoded, grid)
        return Reading(contrast_of(found / (2 * mean**2), grid), 2 * modes * each, 2 * modes * each)


@dataclasses.dataclass(frozen=True)
class AmplitudeEstimation(Readout):
    """Maximum-likelihood amplitude estimation of every probability by ``schedule``; one dimension."""

    schedule: Schedule = dataclasses.field(default_factory=Schedule)

    def read(self, psi, encoded, grid, modes, random):
        found = np.zeros(modes, complex)
        questions = 0
        for mode in range(1, modes + 1):
            for turn in (1.0, 1j):
                if encoded.encoding == AMPLITUDE:
                    plus, minus = interference_probabilities(psi, grid, mode, turn)
                    difference = self._ask(plus, random) - self._ask(minus, random)
                    value, asked = difference / (2 * mean_amplitude(encoded, grid) ** 2), 2
                else:
                    value, asked = 2 * self._ask(hadamard_probability(psi, grid, mode, turn), random) - 1, 1
                found[mode - 1] += turn * value
                questions += asked
        runs, applications = questions * self.schedule.runs, questions * self.schedule.applications
        return Reading(contrast_of(found, grid), runs, applications)

    def _ask(self, probability: float, random: np.random.Generator) -> float:
        return sample_estimate(probability, self.schedule, random)


# Probabilities of outcomes -------------------------------------------------------------------------------------------
def position_probabilities(psi: Array | np.ndarray, grid: PhaseGrid) -> np.ndarray:
    """|psi|^2 summed over velocities."""
    return np.sum(np.abs(np.asarray(psi)) ** 2, axis=grid.velocity_axes)


def mean_amplitude(encoded: Encoded, grid: PhaseGrid) -> float:
    """A_0 of the amplitude encoding: sum f / (||f|| sqrt(N_x N_v)), conserved."""
    return encoded.total / (encoded.scale * np.sqrt(float(np.prod(grid.shape))))


def interference_probabilities(
    psi: Array | np.ndarray, grid: PhaseGrid, mode: int, turn: complex | float
) -> tuple[float, float]:
    """|A_0 +- A_k / turn|^2 / 2: the two outcomes of ``readout_circuits.interference`` (turn 1: real part, i: imaginary)."""
    _one_dimension(grid)
    waves = np.fft.fft(np.asarray(psi).sum(axis=1)) / np.sqrt(float(np.prod(grid.shape)))
    first, second = waves[0], waves[mode] / turn
    return float(0.5 * abs(first + second) ** 2), float(0.5 * abs(first - second) ** 2)


def hadamard_probability(psi: Array | np.ndarray, grid: PhaseGrid, mode: int, turn: complex | float) -> float:
    """(1 + Re(<e^(-ikx)> / turn)) / 2: the outcome 0 of ``readout_circuits.hadamard_test``."""
    _one_dimension(grid)
    wave = np.fft.fft(position_probabilities(psi, grid))[mode]
    return float(0.5 * (1.0 + np.real(wave / turn)))


def contrast_of(modes: np.ndarray, grid: PhaseGrid) -> np.ndarray:
    """sum over k = 1..len(modes) of 2 Re(modes_k e^(ikx))."""
    _one_dimension(grid)
    waves = np.exp(2j * np.pi / grid.positions * np.outer(np.arange(grid.positions), np.arange(1, len(modes) + 1)))
    return 2.0 * np.real(waves @ np.asarray(modes))


def exact_density(psi: Array | np.ndarray, encoded: Encoded, grid: PhaseGrid) -> np.ndarray:
    """rho / mean rho from the state vector."""
    if encoded.encoding != AMPLITUDE:
        return position_probabilities(psi, grid) * grid.positions**grid.dimension
    sums = np.real(np.asarray(psi)).sum(axis=grid.velocity_axes) * encoded.scale
    return sums * (grid.positions**grid.dimension / encoded.total)


def _one_dimension(grid: PhaseGrid) -> None:
    if grid.dimension != 1:
        raise InvalidArgumentError(
            "modes are read one by one in one dimension only; in more, measure positions of the probability encoding"
        )
