"""Circuits for Qiskit (extra "quantum"): the same gates, counts after transpiling, and a run in Aer."""

import numpy as np

from heatbath.errors import MissingExtraError
from heatbath.kinetics.quantum.circuit import Circuit, Gate


def to_qiskit(circuit: Circuit):
    """A ``qiskit.QuantumCircuit`` with the same qubits, gates and global phase. Raises ``MissingExtraError`` without Qiskit."""
    try:
        from qiskit import QuantumCircuit
    except ImportError as error:
        raise MissingExtraError("qiskit", "quantum", "exporting circuits") from error
    made = QuantumCircuit(circuit.qubits, global_phase=circuit.phase)
    for gate in circuit.gates:
        made.append(_gate(gate), [*gate.controls, gate.target])
    return made


def transpiled_counts(circuit: Circuit, *, level: int = 1) -> dict[str, int]:
    """Gates by name, and "depth", in the basis {cx, u} at an optimisation ``level`` of Qiskit's transpiler."""
    from_qiskit = to_qiskit(circuit)
    from qiskit import transpile

    made = transpile(from_qiskit, basis_gates=["cx", "u"], optimization_level=level, seed_transpiler=0)
    return {**{str(name): int(count) for name, count in made.count_ops().items()}, "depth": int(made.depth())}


def run_in_aer(circuit: Circuit, state: np.ndarray) -> np.ndarray:
    """The state after ``circuit`` in Aer's state-vector simulator. Raises ``MissingExtraError`` without Aer."""
    try:
        from qiskit_aer import AerSimulator
    except ImportError as error:
        raise MissingExtraError("qiskit-aer", "quantum", "running circuits in Aer") from error
    from qiskit import QuantumCircuit, transpile

    full = QuantumCircuit(circuit.qubits)
    full.set_statevector(np.asarray(state, dtype=complex))  # pyright: ignore[reportAttributeAccessIssue]
    full.compose(to_qiskit(circuit), inplace=True)
    full.save_statevector()  # pyright: ignore[reportAttributeAccessIssue]
    simulator = AerSimulator(method="statevector")
    ready = transpile(full, simulator, optimization_level=0)
    phase, ready.global_phase = float(ready.global_phase), 0  # Aer turns the state by it before the start is set
    return np.exp(1j * phase) * np.asarray(simulator.run(ready).result().get_statevector(ready))


def _gate(gate: Gate):
    from qiskit.circuit.library import HGate, PhaseGate, RYGate, RZGate, XGate

    makers = {
        "h": lambda: HGate(),
        "x": lambda: XGate(),
        "p": lambda: PhaseGate(gate.angle),
        "rz": lambda: RZGate(gate.angle),
        "ry": lambda: RYGate(gate.angle),
    }
    plain = makers[gate.name]()
    if not gate.controls:
        return plain
    pattern = "".join(str(bit) for bit in reversed(gate.pattern))  # Qiskit writes the first control last
    return plain.control(len(gate.controls), ctrl_state=pattern, annotated=False)
