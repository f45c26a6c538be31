"""Arithmetic on one register: the quantum Fourier transform, and adding one in two ways.

Both transforms leave out the swaps at the end: ``frequency_qubits`` says where the bits of the frequency are then.
"""

import math
from collections.abc import Sequence

from heatbath.kinetics.quantum.circuit import Circuit, Gate


def analyse(qubits: int, register: Sequence[int]) -> Circuit:
    """|j> -> N^(-1/2) sum_kappa e^(-2 pi i j kappa / N) |kappa>, the sign of ``numpy.fft.fft``, bits of kappa reversed.

    n Hadamards and n (n - 1) / 2 controlled phases on a register of n qubits, least significant first.
    """
    gates = []
    for high in reversed(range(len(register))):
        gates.append(Gate("h", register[high]))
        gates += [
            Gate("p", register[high], (register[low],), angle=-math.pi / 2 ** (high - low))
            for low in reversed(range(high))
        ]
    return Circuit.of(qubits, gates)


def synthesise(qubits: int, register: Sequence[int]) -> Circuit:
    """The inverse of ``analyse``."""
    return analyse(qubits, register).inverse()


def frequency_qubits(register: Sequence[int]) -> tuple[int, ...]:
    """The qubits that hold the frequency after ``analyse``, least significant first."""
    return tuple(reversed(register))


def signed_weights(bits: int) -> list[int]:
    """What every bit of a frequency is worth when the top one counts negative: 1, 2, ..., -2^(n-1)."""
    return [2**bit for bit in range(bits - 1)] + [-(2 ** (bits - 1))]


def increment(qubits: int, register: Sequence[int]) -> Circuit:
    """|j> -> |j + 1 mod N> by a cascade of NOTs, the most significant bit first, each controlled by all bits below it."""
    return Circuit.of(
        qubits, (Gate("x", register[bit], tuple(register[:bit])) for bit in reversed(range(len(register))))
    )


def shift(qubits: int, register: Sequence[int], cells: float | int) -> Circuit:
    """|j> -> |j + cells mod N> by phases between two Fourier transforms; fractions of a cell shift the interpolating wave."""
    weights = signed_weights(len(register))
    turn = -2 * math.pi * cells / 2 ** len(register)
    phases = (
        Gate("p", qubit, angle=turn * weight) for qubit, weight in zip(frequency_qubits(register), weights, strict=True)
    )
    return analyse(qubits, register) + Circuit.of(qubits, phases) + synthesise(qubits, register)


def shift_when(qubits: int, register: Sequence[int], cells: float | int, control: int) -> Circuit:
    """``shift`` where ``control`` is 1. Only the phases need the control: without them the transforms undo each other."""
    full = shift(qubits, register, cells)
    side = len(analyse(qubits, register))
    gates = [gate.when(control) if side <= index < len(full) - side else gate for index, gate in enumerate(full.gates)]
    return Circuit.of(qubits, gates)
