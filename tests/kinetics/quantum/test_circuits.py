"""Circuits against what they stand for: matrices, exact shifts, classical spectral steps, Qiskit and Aer."""

import itertools

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum import (
    Circuit,
    Emulator,
    Gate,
    PhaseRegisters,
    apply,
    basis_state,
    resources,
    transport,
    unitary,
)
from heatbath.kinetics.quantum.counters import due, kicking, streaming
from heatbath.kinetics.quantum.fourier import analyse, increment, shift, shift_when, synthesise
from heatbath.kinetics.quantum.fusion import fuse
from heatbath.kinetics.quantum.multiplexed import diagonal, multiplexed, preparation_cost, prepare, rotations
from heatbath.kinetics.vlasov import Gravity, SpectralSolver


def random_state(qubits, seed=0):
    random = np.random.default_rng(seed)
    state = random.normal(size=2**qubits) + 1j * random.normal(size=2**qubits)
    return state / np.linalg.norm(state)


def run_on_grid(circuit, values):
    """The circuit on a state of the data with the ancilla in 0; returns the same shape."""
    whole = np.concatenate([values.reshape(-1), np.zeros(values.size)])
    end = np.asarray(apply(circuit, whole))
    assert np.abs(end[values.size :]).max() < 1e-12, "the ancilla must come back to 0"
    return end[: values.size].reshape(values.shape)


def test_one_gate_at_a_time():
    """Little-endian qubits and controls of either value, against matrices written out."""
    np.testing.assert_allclose(unitary(Circuit(2, (Gate("x", 1, (0,)),))), np.eye(4)[[0, 3, 2, 1]], atol=1e-15)
    np.testing.assert_allclose(unitary(Circuit(2, (Gate("x", 0, (1,), (0,)),))), np.eye(4)[[1, 0, 2, 3]], atol=1e-15)
    turned = unitary(Circuit(1, (Gate("ry", 0, angle=0.4), Gate("p", 0, angle=0.3)), phase=0.2))
    expected = np.exp(0.2j) * np.diag([1, np.exp(0.3j)]) @ [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    np.testing.assert_allclose(turned, expected, atol=1e-15)
    circuit = Circuit(3, (Gate("h", 0), Gate("rz", 2, (0,), angle=0.7), Gate("p", 1, (2,), (0,), angle=0.5)), 0.3)
    np.testing.assert_allclose(unitary(circuit + circuit.inverse()), np.eye(8), atol=1e-14)


@pytest.mark.parametrize("widest", [1, 3, 12])
def test_fused_runs_are_their_gates(widest):
    """A table for a run of NOTs and phases must be the product of their matrices, wherever the run is cut."""
    random = np.random.default_rng(5)
    gates = []
    for name in random.choice(["x", "p", "rz", "h"], size=60, p=[0.4, 0.25, 0.25, 0.1]):
        target, *controls = (int(qubit) for qubit in random.permutation(5)[: random.integers(1, 4)])
        values = tuple(int(bit) for bit in random.integers(0, 2, len(controls)))
        gates.append(Gate(str(name), target, tuple(controls), values, float(random.normal())))
    expected = np.eye(32, dtype=complex)
    for gate in gates:
        expected = whole_matrix(gate, 5) @ expected
    pieces = fuse(Circuit(5, tuple(gates)), widest)
    found = np.eye(32, dtype=complex)
    for piece in pieces:
        found = (whole_matrix(piece, 5) if isinstance(piece, Gate) else spread(piece, 5)) @ found
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(unitary(Circuit(5, tuple(gates))), expected, atol=1e-13)
    if widest == 12:
        changes = sum(name == "h" for name in (gate.name for gate in gates))
        assert len(pieces) <= 2 * changes + 1, "runs between other gates are one piece each"


def whole_matrix(gate, qubits):
    """The matrix of a gate on all qubits, entry by entry from its definition."""
    made = np.zeros((2**qubits, 2**qubits), dtype=complex)
    for column in range(2**qubits):
        if any((column >> qubit) & 1 != bit for qubit, bit in zip(gate.controls, gate.pattern, strict=True)):
            made[column, column] = 1
            continue
        bit = (column >> gate.target) & 1
        for out in (0, 1):
            made[column ^ ((bit ^ out) << gate.target), column] = gate.matrix()[out, bit]
    return made


def spread(piece, qubits):
    """The matrix of a fused run on all qubits."""
    made = np.zeros((2**qubits, 2**qubits), dtype=complex)
    for row in range(2**qubits):
        entry = sum(((row >> qubit) & 1) << place for place, qubit in enumerate(piece.qubits))
        column = row
        for place, qubit in enumerate(piece.qubits):
            column = column & ~(1 << qubit) | ((int(piece.source[entry]) >> place) & 1) << qubit
        made[row, column] = piece.factor[entry]
    return made


def test_a_controlled_circuit_acts_where_the_control_says():
    """A lost global phase is invisible until somebody controls the circuit."""
    inner = shift(3, (0, 1), 0.3)
    inner = Circuit(3, inner.gates, 0.4)
    plain = unitary(inner)[:4, :4]
    for value in (0, 1):
        expected = np.eye(8, dtype=complex)
        expected[4 * value : 4 * value + 4, 4 * value : 4 * value + 4] = plain
        np.testing.assert_allclose(unitary(inner.when(2, value)), expected, atol=1e-14)


def test_the_fourier_transform_has_the_sign_of_numpy():
    """Every shift and every mode rests on this convention: bits of the frequency come out reversed."""
    matrix = unitary(analyse(3, (0, 1, 2)))
    reverse = [int(f"{k:03b}"[::-1], 2) for k in range(8)]
    np.testing.assert_allclose(np.asarray(matrix)[reverse], np.fft.fft(np.eye(8)) / np.sqrt(8), atol=1e-14)
    np.testing.assert_allclose(unitary(analyse(3, (0, 1, 2)) + synthesise(3, (0, 1, 2))), np.eye(8), atol=1e-14)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_two_ways_to_add_one(bits):
    """The cascade of NOTs and the phases between transforms are the same matrix, and both are the cyclic shift."""
    register = tuple(range(bits))
    cyclic = np.roll(np.eye(2**bits), 1, axis=0)
    np.testing.assert_allclose(unitary(increment(bits, register)), cyclic, atol=1e-13)
    np.testing.assert_allclose(unitary(shift(bits, register, 1)), cyclic, atol=1e-13)
    np.testing.assert_allclose(unitary(shift(bits, register, -3)), np.linalg.matrix_power(cyclic.T, 3), atol=1e-13)


@pytest.mark.parametrize(("n_x", "n_v"), [(1, 1), (2, 3), (3, 2), (4, 4), (6, 6), (7, 7)])
def test_the_drift_circuit_shifts_every_row_exactly(n_x, n_v):
    """All velocities in one circuit, negative ones too: whole cells are exact cyclic shifts to 1e-12."""
    grid = PhaseGrid(2**n_x, 2**n_v, 1.0, 0.5 * 2**n_v)  # dv = 1
    values = random_state(n_x + n_v).reshape(grid.shape)
    for cells in (1, -3):
        moved = run_on_grid(transport.drift(PhaseRegisters(grid), cells * grid.dx), values)
        expected = np.stack([np.roll(values[:, k], cells * round(v)) for k, v in enumerate(grid.v)], axis=1)
        assert np.abs(moved - expected).max() < 1e-12


@pytest.mark.parametrize("dimension", [1, 2])
def test_circuit_and_emulation_are_the_classical_step(dimension):
    """A Strang step of gates, of blocks and of NumPy's transforms, with a rough force and fractions of cells: 1e-10."""
    size = 8 if dimension == 1 else 4
    grid = PhaseGrid(size, 2 * size if dimension == 1 else size, 1.3, 0.9, dimension)
    values = random_state(2 * len(grid.shape) + (3 if dimension == 1 else 0), 1).reshape(grid.shape)
    force = np.random.default_rng(2).normal(size=(dimension, *(size,) * dimension))
    solver = SpectralSolver(grid, Gravity())
    expected = solver.drift(solver.kick(solver.drift(values, 0.1), force, 0.2), 0.1)
    np.testing.assert_allclose(Emulator(grid).strang(values, force, 0.2), expected, atol=1e-12)
    gates = run_on_grid(transport.strang(PhaseRegisters(grid), force, 0.2), values)
    np.testing.assert_allclose(gates, expected, atol=1e-10)


@pytest.mark.parametrize("fourier", [True, False])
def test_streaming_by_counters_is_the_exact_permutation(fourier):
    """Flag, controlled shift, unflag: rows that are due move, the others stay, and the ancilla is clean again."""
    grid = PhaseGrid(8, 4)
    registers, values = PhaseRegisters(grid), random_state(5, 3).reshape(grid.shape)
    cells = np.array([-2, 0, 1, 0])
    moved = run_on_grid(streaming(registers, cells, fourier=fourier), values)
    np.testing.assert_allclose(moved, Emulator(grid).stream(values, cells), atol=1e-13)
    np.testing.assert_allclose(moved[:, 0], np.roll(values[:, 0], -2), atol=1e-13)
    pushes = np.array([0, 1, 0, -1, 0, 0, 2, 0])
    pushed = run_on_grid(kicking(registers, pushes, fourier=fourier), values)
    np.testing.assert_allclose(pushed, Emulator(grid).push(values, pushes), atol=1e-13)
    np.testing.assert_allclose(pushed[6], np.roll(values[6], 2), atol=1e-13)


def test_counters_forget_nothing_and_have_a_dead_zone():
    """What is moved and what is kept add up; less than half a cell does nothing, whatever its sign."""
    gathered, moved = np.zeros(3), np.zeros(3, int)
    for _ in range(7):
        whole, gathered = due(gathered, np.array([0.3, -0.41, 0.05]))
        moved += whole
    np.testing.assert_allclose(moved + gathered, 7 * np.array([0.3, -0.41, 0.05]), atol=1e-14)
    assert moved[2] == 0
    assert np.abs(gathered).max() <= 0.5


def test_preparation_makes_any_real_state():
    """Signs and zeros included, with the announced number of rotations and controlled NOTs."""
    amplitudes = np.random.default_rng(4).normal(size=16)
    amplitudes[3:6] = 0.0
    circuit = prepare(4, (0, 1, 2, 3), amplitudes)
    np.testing.assert_allclose(apply(circuit, basis_state(4)), amplitudes / np.linalg.norm(amplitudes), atol=1e-14)
    cost = preparation_cost(4)
    assert (rotations(circuit), circuit.counts()["cx"]) == (cost["rotations"], cost["cx"])
    for bad in (np.zeros(16), np.ones(8), np.full(16, np.nan), np.ones(16) * 1j):
        with pytest.raises(InvalidArgumentError):
            prepare(4, (0, 1, 2, 3), bad)


def test_multiplexed_rotations_and_diagonals():
    """The angle follows the controls, least significant first; a diagonal keeps its global phase."""
    angles = np.array([0.1, -0.5, 1.2, 0.7])
    made = np.asarray(unitary(multiplexed(3, "rz", 2, (0, 1), angles)))
    expected = np.concatenate([np.exp(-0.5j * angles), np.exp(0.5j * angles)])
    np.testing.assert_allclose(made, np.diag(expected), atol=1e-14)
    phases = np.random.default_rng(5).normal(size=8)
    np.testing.assert_allclose(unitary(diagonal(3, (0, 1, 2), phases)), np.diag(np.exp(1j * phases)), atol=1e-14)


@pytest.mark.parametrize(("n_x", "n_v"), [(2, 2), (3, 4), (5, 3)])
def test_closed_counts_are_those_of_the_circuits(n_x, n_v):
    """A formula in the documentation that no circuit has would be a number out of the air."""
    registers = PhaseRegisters(PhaseGrid(2**n_x, 2**n_v))
    force = np.random.default_rng(6).normal(size=(1, 2**n_x))
    assert resources.circuit_cx(transport.drift(registers, 0.1)) == resources.drift_cx(n_x, n_v)
    assert resources.circuit_cx(transport.kick(registers, force[0], 0.1)) == resources.kick_cx(n_x, n_v)
    assert resources.circuit_cx(transport.strang(registers, force, 0.1)) == resources.strang_cx(n_x, n_v)
    one = np.zeros(2**n_v, int)
    one[1] = 1
    assert resources.circuit_cx(streaming(registers, one)) == resources.flagged_shift_cx(n_v, n_x)


def test_repeating_everything_for_every_reading():
    """Three steps and ten shots each: 1 + 2 + 3 steps ten times over, and once more for the end."""
    cost = resources.Repetition(steps=3, step_gates=100, applications=10, preparation_gates=5)
    assert (cost.once, cost.total) == (305, 10 * (600 + 15) + 305)


# Qiskit ---------------------------------------------------------------------------------------------------------------
def test_qiskit_computes_the_same():
    """Gate names, little-endian controls and global phase mean the same there, Aer included; counts agree with the formula."""
    pytest.importorskip("qiskit_aer", reason="needs the extra 'quantum'")
    from heatbath.kinetics.quantum.export import run_in_aer, to_qiskit, transpiled_counts

    registers = PhaseRegisters(PhaseGrid(8, 4))
    force = np.random.default_rng(7).normal(size=(1, 8))
    circuit = transport.strang(registers, force, 0.1) + streaming(registers, np.array([1, 0, 0, -1]))
    circuit = Circuit(circuit.qubits, (*circuit.gates, Gate("ry", 2, (0, 5), (0, 1), angle=0.3)), circuit.phase)
    start = random_state(registers.total, 8)
    ours = np.asarray(apply(circuit, start))
    from qiskit.quantum_info import Statevector

    assert np.abs(Statevector(start).evolve(to_qiskit(circuit)).data - ours).max() < 1e-10
    assert np.abs(run_in_aer(circuit, start) - ours).max() < 1e-10
    drift = transport.drift(registers, 0.0371)
    assert transpiled_counts(drift, level=0)["cx"] == resources.drift_cx(3, 2)
    assert transpiled_counts(drift)["cx"] <= resources.drift_cx(3, 2)


def test_bad_circuits_are_refused():
    """A target among its controls, unknown names and qubits that do not exist would be applied as something else."""
    for make in (
        lambda: Gate("cnot", 0),
        lambda: Gate("x", 0, (0,)),
        lambda: Gate("x", 0, (1, 2), (1,)),
        lambda: Circuit(2, (Gate("h", 2),)),
        lambda: Circuit(2) + Circuit(3),
        lambda: apply(Circuit(2), np.ones(3) + 0j),
        lambda: multiplexed(3, "ry", 0, (1, 2), np.zeros(3)),
        lambda: resources.circuit_cx(Circuit(3, (Gate("p", 0, (1, 2), angle=0.1),))),
    ):
        with pytest.raises(InvalidArgumentError):
            make()


def test_shifts_under_a_flag():
    """Controlling only the phases is enough: without them the transforms cancel."""
    full = unitary(shift_when(4, (0, 1, 2), 0.6, 3))
    expected = unitary(shift(4, (0, 1, 2), 0.6).when(3))
    np.testing.assert_allclose(full, expected, atol=1e-13)
    assert list(itertools.islice(np.diag(np.asarray(full)).real, 8)) == pytest.approx([1.0] * 8)
