"""What the algorithm costs: controlled NOTs in closed form, and how often everything has to be run again.

Counts are for one dimension on n_x + n_v qubits in the gate set {controlled NOT, one-qubit gates}: a controlled phase is two
controlled NOTs, a multiplexed rotation of k controls 2^k, a NOT with c >= 2 controls 12 c - 18 with c - 2 clean ancillas (six for
each of 2 c - 3 Toffolis). Compilers find savings; ``export.transpiled_counts`` counts what Qiskit makes of a circuit.
"""

import dataclasses

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.quantum.circuit import Circuit


def transform_cx(bits: int) -> int:
    """A Fourier transform without swaps: n (n - 1) / 2 controlled phases."""
    return bits * (bits - 1)


def drift_cx(position_bits: int, velocity_bits: int) -> int:
    """A drift of all velocities: two transforms, and a controlled phase per pair of bits. No dependence on N_v but its bits."""
    return 2 * transform_cx(position_bits) + 2 * position_bits * velocity_bits


def kick_cx(position_bits: int, velocity_bits: int) -> int:
    """A kick by any a(x): two transforms, n_v multiplexed rotations and a diagonal over the positions."""
    return 2 * transform_cx(velocity_bits) + velocity_bits * 2**position_bits + 2**position_bits - 2


def strang_cx(position_bits: int, velocity_bits: int) -> int:
    """Two half drifts and a kick."""
    return 2 * drift_cx(position_bits, velocity_bits) + kick_cx(position_bits, velocity_bits)


def flagged_shift_cx(row_bits: int, moved_bits: int) -> int:
    """A shift of one row by whole cells, as ``counters`` does it by phases: flag, two transforms, n controlled phases, unflag."""
    return 2 * not_cx(row_bits) + 2 * transform_cx(moved_bits) + 2 * moved_bits


def not_cx(controls: int) -> int:
    """A NOT with ``controls`` controls."""
    return controls if controls < 2 else 12 * controls - 18


def circuit_cx(circuit: Circuit) -> int:
    """The same counting applied gate by gate; gates other than NOT may have at most one control."""
    total = 0
    for gate in circuit.gates:
        controls = len(gate.controls)
        if gate.name == "x":
            total += not_cx(controls)
        elif controls > 1:
            raise InvalidArgumentError(
                f"no closed count for {gate.name} with {controls} controls; transpile the circuit"
            )
        elif controls == 1:
            total += 1 if gate.name == "h" else 2
    return total


@dataclasses.dataclass(frozen=True)
class Repetition:
    """The honest cost of ``steps`` steps of ``step_gates`` gates when every step reads the density ``applications`` times.

    A reading destroys the state: reading number t runs all t steps before it again, ``applications`` times.
    """

    steps: int
    step_gates: int
    applications: int
    preparation_gates: int = 0

    @property
    def once(self) -> int:
        """Gates of the evolution alone, as if the density were known."""
        return self.preparation_gates + self.steps * self.step_gates

    @property
    def total(self) -> int:
        """Gates of everything: sum over t of applications (preparation + t steps), and the final state once."""
        middle = self.steps * (self.steps + 1) // 2 * self.step_gates + self.steps * self.preparation_gates
        return self.applications * middle + self.once

    @property
    def overhead(self) -> float:
        """``total`` over ``once``."""
        return self.total / max(self.once, 1)
