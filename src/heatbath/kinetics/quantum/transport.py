"""Drift and kick of the whole distribution in one circuit each: phases between Fourier transforms.

Drift, of all velocities at once: transform x, a controlled phase between every frequency bit and every velocity bit, transform
back. Cells moved may be fractional. Kick: transform v, a phase e^(-2 pi i kappa a(x) t / (N_v dv)) multiplexed over the positions
for every frequency bit, transform back.
"""

import math

import numpy as np

from heatbath.kinetics.quantum.circuit import Circuit, Gate
from heatbath.kinetics.quantum.fourier import analyse, frequency_qubits, signed_weights, synthesise
from heatbath.kinetics.quantum.multiplexed import diagonal, multiplexed
from heatbath.kinetics.quantum.registers import PhaseRegisters


def drift(registers: PhaseRegisters, time: float, axis: int = 0) -> Circuit:
    """f(x - v time, v) along one axis; n_x (n_x - 1) + n_x n_v controlled phases."""
    grid, total = registers.grid, registers.total
    positions, velocities = registers.position(axis), registers.velocity(axis)
    turn = -2 * math.pi / grid.positions
    per_index, offset = grid.dv * time / grid.dx, -grid.speed_limit * time / grid.dx
    gates = []
    for qubit, weight in zip(frequency_qubits(positions), signed_weights(len(positions)), strict=True):
        gates.append(Gate("p", qubit, angle=turn * weight * offset))
        for bit, control in enumerate(velocities):
            gates.append(Gate("p", qubit, (control,), angle=turn * weight * per_index * 2**bit))
    return analyse(total, positions) + Circuit.of(total, gates) + synthesise(total, positions)


def kick(registers: PhaseRegisters, force: np.ndarray, time: float, axis: int = 0) -> Circuit:
    """f(x, v - a(x) time) along one axis; ``force`` is that component of a on the positions, shape (positions,)*dimension.

    2^(all position qubits) rotations per frequency bit, and a diagonal over the positions that makes up for rz being traceless.
    """
    grid, total = registers.grid, registers.total
    velocities = registers.velocity(axis)
    places = [qubit for other in reversed(range(grid.dimension)) for qubit in registers.position(other)]
    turns = -2 * np.pi / grid.velocities * np.asarray(force).reshape(-1) * (time / grid.dv)
    phases = Circuit(total)
    for qubit, weight in zip(frequency_qubits(velocities), signed_weights(len(velocities)), strict=True):
        phases = phases + multiplexed(total, "rz", qubit, places, weight * turns)
    phases = phases + diagonal(total, places, -0.5 * turns)  # the weights add up to -1
    return analyse(total, velocities) + phases + synthesise(total, velocities)


def strang(registers: PhaseRegisters, force: np.ndarray, time: float) -> Circuit:
    """Half a drift, the kick with ``force`` of shape (dimension, positions, ...), half a drift."""
    axes = range(registers.grid.dimension)
    half = [drift(registers, 0.5 * time, axis) for axis in axes]
    kicks = [kick(registers, force[axis], time, axis) for axis in axes]
    return sum([*half, *kicks, *half], Circuit(registers.total))
