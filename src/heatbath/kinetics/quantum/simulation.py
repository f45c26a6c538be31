"""A run of the quantum algorithm: Strang steps of a state, with gravity from what the read-out returns.

half a drift;  read the lowest modes of the density;  kick with their gravity;  half a drift
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Array, Complex, Float

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum.counters import due
from heatbath.kinetics.quantum.emulation import Emulator
from heatbath.kinetics.quantum.encoding import Encoded
from heatbath.kinetics.quantum.readout import Peek, Reading, Readout
from heatbath.kinetics.vlasov import Gravity, acceleration

Transport = Literal["fractional", "integer"]


@dataclasses.dataclass(frozen=True)
class QuantumState:
    """``psi`` (shape of the grid), and the counters of integer transport: cells not yet moved, per velocity and per position."""

    psi: Complex[Array | np.ndarray, "..."]
    drift_counter: Float[np.ndarray, " velocities"]
    kick_counter: Float[np.ndarray, " positions"]


@dataclasses.dataclass(frozen=True)
class QuantumVlasov:
    """The algorithm on one grid.

    encoded:  start and encoding; ``gravity`` acts with ``gravity.modes`` modes (8 when it is None)
    drift, kick: "fractional" (Fourier phases) or "integer" (counters, one dimension)
    readout:  how the density is read before every kick
    """

    grid: PhaseGrid
    encoded: Encoded
    gravity: Gravity
    time_step: float
    drift: Transport = "fractional"
    kick: Transport = "fractional"
    readout: Readout = dataclasses.field(default_factory=Peek)

    def __post_init__(self):
        if "integer" in (self.drift, self.kick) and self.grid.dimension != 1:
            raise InvalidArgumentError("integer transport is built for one dimension; use fractional transport in more")
        if not (np.isfinite(self.time_step) and self.time_step > 0):
            raise InvalidArgumentError(f"time_step must be positive and finite; found {self.time_step}")
        if self.modes >= self.grid.positions // 2:
            raise InvalidArgumentError(
                f"{self.grid.positions} positions resolve fewer than {self.grid.positions // 2} modes; found {self.modes}"
            )

    @property
    def modes(self) -> int:
        """Fourier modes per axis that gravity keeps."""
        return min(8, self.grid.positions // 2 - 1) if self.gravity.modes is None else self.gravity.modes

    @property
    def mean_density(self) -> float:
        """Mass over volume, from the conserved sum of f."""
        return self.encoded.total * (self.grid.dv / self.grid.positions) ** self.grid.dimension

    def begin(self) -> QuantumState:
        """The prepared state with empty counters."""
        return QuantumState(self.encoded.psi, np.zeros(self.grid.velocities), np.zeros(self.grid.positions))

    def step(self, state: QuantumState, random: np.random.Generator) -> tuple[QuantumState, Reading]:
        """One time step, and what was read in its middle. Raises ``NonFiniteError`` when amplitudes are not finite."""
        emulator, half = Emulator(self.grid), 0.5 * self.time_step
        psi, drifted = self._drift(emulator, state.psi, state.drift_counter, half)
        reading = self.readout.read(np.asarray(psi), self.encoded, self.grid, self.modes, random)
        force = self.force(reading.contrast)
        psi, kicked = self._kick(emulator, psi, state.kick_counter, force)
        psi, drifted = self._drift(emulator, psi, drifted, half)
        if not np.isfinite(np.asarray(psi)).all():
            raise NonFiniteError("amplitudes are not finite; take a smaller time step or weaker gravity")
        return QuantumState(psi, drifted, kicked), reading

    def force(self, contrast: np.ndarray) -> np.ndarray:
        """Acceleration (dimension, positions, ...) of a density contrast, from the kept modes."""
        return acceleration(self.mean_density * contrast, self.grid, Gravity(self.gravity.strength, self.modes))

    def _drift(self, emulator, psi, counter, time):
        if self.drift == "fractional":
            return emulator.drift(psi, time), counter
        cells, counter = due(counter, self.grid.v * time / self.grid.dx)
        return emulator.stream(psi, cells), counter

    def _kick(self, emulator, psi, counter, force):
        if self.kick == "fractional":
            return emulator.kick(psi, force, self.time_step), counter
        cells, counter = due(counter, force[0] * self.time_step / self.grid.dv)
        return emulator.push(psi, cells), counter
