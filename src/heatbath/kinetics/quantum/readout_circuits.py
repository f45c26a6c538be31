"""Circuits that turn a Fourier mode of the density into the probability of an outcome.

Amplitude encoding: after transforming x and a Hadamard on every velocity qubit, the amplitude of |k>|0...0> is

    A_k = sum_x e^(-ikx) sum_v psi / sqrt(N_x N_v),

proportional to rho_k. Its phase comes from interference with A_0, known from the conserved mass: P(+) - P(-) = 2
Re(conj(A_0) A_k).
Probability encoding: <psi| e^(-ikx) |psi> = rho_k / rho_0 by a Hadamard test on the ancilla, P(0) = (1 + Re) / 2.
"""

import math
from typing import Literal

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.quantum.circuit import Circuit, Gate
from heatbath.kinetics.quantum.fourier import analyse, frequency_qubits
from heatbath.kinetics.quantum.registers import PhaseRegisters

Part = Literal["real", "imaginary"]


def interference(registers: PhaseRegisters, mode: int, part: Part = "real") -> tuple[Circuit, int, int]:
    """(circuit, index of the outcome "+", index of "-") that show A_0 + A_k and A_0 - A_k (times -i for the imaginary part)."""
    _check(registers, mode)
    total = registers.total
    bits = frequency_qubits(registers.position())
    kept = [qubit for bit, qubit in enumerate(bits) if (mode >> bit) & 1]
    pivot, others = kept[0], kept[1:]
    gates = [Gate("h", qubit) for qubit in registers.velocity()]
    gates += [Gate("x", qubit, (pivot,)) for qubit in others]
    if part == "imaginary":
        gates.append(Gate("p", pivot, angle=-0.5 * math.pi))
    gates.append(Gate("h", pivot))
    return analyse(total, registers.position()) + Circuit.of(total, gates), 0, 1 << pivot


def hadamard_test(registers: PhaseRegisters, mode: int, part: Part = "real") -> Circuit:
    """The ancilla ends in 0 with probability (1 + Re <e^(-ikx)>) / 2, or with Im in place of Re."""
    _check(registers, mode)
    ancilla, turn = registers.ancilla, -2 * math.pi * mode / registers.grid.positions
    gates = [Gate("h", ancilla)]
    gates += [Gate("p", qubit, (ancilla,), angle=turn * 2**bit) for bit, qubit in enumerate(registers.position())]
    if part == "imaginary":
        gates.append(Gate("p", ancilla, angle=-0.5 * math.pi))
    gates.append(Gate("h", ancilla))
    return Circuit.of(registers.total, gates)


def _check(registers: PhaseRegisters, mode: int) -> None:
    if registers.grid.dimension != 1:
        raise InvalidArgumentError("modes are read one by one in one dimension only; measure positions in more")
    if not 1 <= mode < registers.grid.positions // 2:
        raise InvalidArgumentError(f"a mode lies in 1..{registers.grid.positions // 2 - 1}; found {mode}")
