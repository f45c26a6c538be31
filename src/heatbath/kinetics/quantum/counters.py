"""Transport by whole cells: every row keeps a counter, and moves when it has gathered half a cell.

The way of Todorova and Steijl (JCP 409 (2020) 109347) for discrete velocities: rows that are due are flagged on the ancilla
by a NOT controlled by the pattern of their index, then the other register is shifted under the flag. Positive distributions
stay positive. Drifts gather steadily and lose nothing but resolution; an acceleration too weak to gather half a cell of velocity
does nothing at all (``dead zone``), so that gravity by counters is not linear in a small perturbation.
"""

import dataclasses

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.quantum.circuit import Circuit, Gate
from heatbath.kinetics.quantum.fourier import increment, shift_when
from heatbath.kinetics.quantum.registers import PhaseRegisters


@dataclasses.dataclass(frozen=True)
class Counters:
    """What every row has gathered and not yet moved, in cells: ``drift`` per velocity, ``kick`` per position. One dimension."""

    drift: np.ndarray
    kick: np.ndarray

    @staticmethod
    def empty(positions: int, velocities: int) -> "Counters":
        """Nothing gathered."""
        return Counters(np.zeros(velocities), np.zeros(positions))


def due(gathered: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(whole cells to move now, what stays in the counter) after ``cells`` more; the counter stays within half a cell."""
    total = gathered + cells
    whole = np.rint(total)
    return whole.astype(int), total - whole


def streaming(registers: PhaseRegisters, cells: np.ndarray, *, fourier: bool = True) -> Circuit:
    """Moves every position by ``cells[k]`` whole cells where the velocity has index k."""
    return _moves(registers, registers.velocity(), registers.position(), cells, fourier=fourier)


def kicking(registers: PhaseRegisters, cells: np.ndarray, *, fourier: bool = True) -> Circuit:
    """Moves every velocity by ``cells[j]`` whole cells where the position has index j."""
    return _moves(registers, registers.position(), registers.velocity(), cells, fourier=fourier)


def _moves(registers: PhaseRegisters, rows, moved, cells: np.ndarray, *, fourier: bool) -> Circuit:
    if registers.grid.dimension != 1:
        raise InvalidArgumentError("counters are built for one dimension; use fractional transport in more")
    total, flag = registers.total, registers.ancilla
    up = increment(total, moved).when(flag)
    circuit = Circuit(total)
    for row in np.flatnonzero(cells):
        count = int(cells[row])
        pattern = tuple((int(row) >> bit) & 1 for bit in range(len(rows)))
        raised = Circuit.of(total, [Gate("x", flag, tuple(rows), pattern)])
        if fourier:
            moves = shift_when(total, moved, count, flag)
        else:
            moves = sum([up if count > 0 else up.inverse()] * abs(count), Circuit(total))
        circuit = circuit + raised + moves + raised
    return circuit
