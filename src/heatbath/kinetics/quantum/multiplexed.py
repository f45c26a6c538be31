"""Rotations whose angle depends on other qubits, diagonal unitaries, and the preparation of any real state.

A multiplexed rotation of k controls takes 2^k rotations and 2^k controlled NOTs (Gray code; Mottonen et al., quant-ph/0404089);
a diagonal on n qubits 2^n - 2 controlled NOTs; preparing n qubits 2^n - 1 rotations and 2^n - 2 controlled NOTs.
"""

import math
from collections.abc import Sequence

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.quantum.circuit import Circuit, Gate


def walsh(values: np.ndarray) -> np.ndarray:
    """sum_j (-1)^(popcount(i & j)) values_j for every i."""
    made = np.array(values, dtype=float)
    width = 1
    while width < len(made):
        pairs = made.reshape(-1, 2, width)
        made = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        width *= 2
    return made


def multiplexed(qubits: int, name: str, target: int, controls: Sequence[int], angles: np.ndarray) -> Circuit:
    """Rotation ``name`` ("ry" or "rz") of ``target`` by ``angles[j]`` where the ``controls`` (least significant first) hold j."""
    count = len(controls)
    if len(angles) != 2**count:
        raise InvalidArgumentError(f"{count} controls need {2**count} angles; found {len(angles)}")
    mixed = walsh(angles) / 2**count
    gates = []
    for index in range(2**count):
        gray = index ^ (index >> 1)
        gates.append(Gate(name, target, angle=float(mixed[gray])))
        if count:
            following = (index + 1) & -(index + 1)
            bit = min(following.bit_length() - 1, count - 1)
            gates.append(Gate("x", target, (controls[bit],)))
    return Circuit.of(qubits, gates)


def diagonal(qubits: int, register: Sequence[int], phases: np.ndarray) -> Circuit:
    """|j> -> e^(i phases_j) |j> on a register: multiplexed rz from the top qubit down; what is left is a global phase."""
    made = Circuit(qubits)
    values = np.asarray(phases, dtype=float)
    for bit in reversed(range(len(register))):
        low, high = values[: 2**bit], values[2**bit :]
        made = made + multiplexed(qubits, "rz", register[bit], register[:bit], high - low)
        values = 0.5 * (low + high)
    return Circuit(qubits, made.gates, float(values[0]))


def prepare(qubits: int, register: Sequence[int], amplitudes: np.ndarray) -> Circuit:
    """|0> -> sum_j amplitudes_j |j> for real amplitudes of either sign, scaled to norm one: a tree of multiplexed ry.

    Raises ``InvalidArgumentError`` when they are complex, not finite, all zero, or do not fit the register.
    """
    values = np.asarray(amplitudes)
    if np.iscomplexobj(values) or values.shape != (2 ** len(register),):
        raise InvalidArgumentError(
            f"expected {2 ** len(register)} real amplitudes; found {values.dtype} {values.shape}"
        )
    if not np.isfinite(values).all() or not values.any():
        raise InvalidArgumentError("amplitudes must be finite and not all zero")
    circuit = Circuit(qubits)
    # angles from the bottom of the tree up: every level pairs amplitudes that differ in its lowest bit
    for level in range(len(register)):
        low, high = values[0::2], values[1::2]
        angles = 2 * np.arctan2(high, low)
        circuit = multiplexed(qubits, "ry", register[level], register[level + 1 :], angles) + circuit
        values = np.hypot(low, high)
    return circuit


def rotations(circuit: Circuit) -> int:
    """How many rotations a circuit holds."""
    return sum(gate.name in ("ry", "rz") for gate in circuit.gates)


def preparation_cost(qubits: int) -> dict[str, int]:
    """Rotations and controlled NOTs of ``prepare`` on a register of ``qubits``."""
    return {"rotations": 2**qubits - 1, "cx": int(math.ldexp(1, qubits)) - 2}
