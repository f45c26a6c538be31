"""Which qubits hold what: registers of positions and velocities, and one ancilla on top."""

import dataclasses

from heatbath.kinetics.phase_grid import PhaseGrid


@dataclasses.dataclass(frozen=True)
class PhaseRegisters:
    """The qubits of a ``grid``, least significant first, in the order of its arrays (C order), and an ancilla above them.

    ``position(axis)`` and ``velocity(axis)`` hold the indices j of x_j = j dx and k of v_k = -speed_limit + k dv. A state of the
    data alone, an array of ``grid.shape``, is the half of the whole state in which the ancilla is 0.
    """

    grid: PhaseGrid

    @property
    def data(self) -> int:
        """Qubits of positions and velocities."""
        return self.grid.dimension * sum(self.grid.qubits)

    @property
    def total(self) -> int:
        """All qubits."""
        return self.data + 1

    @property
    def ancilla(self) -> int:
        """The qubit on top."""
        return self.data

    def velocity(self, axis: int = 0) -> tuple[int, ...]:
        """Qubits of one velocity."""
        _, size = self.grid.qubits
        start = (self.grid.dimension - 1 - axis) * size
        return tuple(range(start, start + size))

    def position(self, axis: int = 0) -> tuple[int, ...]:
        """Qubits of one position."""
        size, below = self.grid.qubits
        start = self.grid.dimension * below + (self.grid.dimension - 1 - axis) * size
        return tuple(range(start, start + size))
