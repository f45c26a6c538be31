"""Circuits as data: a list of one-qubit gates, each with any number of controls that are on or off.

Qubit q is bit q of the index of an amplitude (qubit 0 is the least significant, as in Qiskit).
"""

import collections
import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from heatbath.errors import InvalidArgumentError

#: Gates by name: h Hadamard, x NOT, p(angle) = diag(1, e^(i angle)), rz(angle) = diag(e^(-i angle/2), e^(i angle/2)), ry(angle).
NAMES = ("h", "x", "p", "rz", "ry")


@dataclasses.dataclass(frozen=True)
class Gate:
    """``name`` on qubit ``target``, done where every qubit of ``controls`` has its value in ``values`` (ones when empty)."""

    name: str
    target: int
    controls: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    angle: float = 0.0

    def __post_init__(self):
        if self.name not in NAMES:
            raise InvalidArgumentError(f"a gate is one of {', '.join(NAMES)}; found {self.name!r}")
        if self.target in self.controls or len(set(self.controls)) < len(self.controls):
            raise InvalidArgumentError(f"target {self.target} and controls {self.controls} must be different qubits")
        if self.values and len(self.values) != len(self.controls):
            raise InvalidArgumentError(f"{len(self.controls)} controls need as many values; found {self.values}")

    @property
    def pattern(self) -> tuple[int, ...]:
        """The value of every control."""
        return self.values or (1,) * len(self.controls)

    @property
    def diagonal(self) -> bool:
        """Whether its matrix is diagonal."""
        return self.name in ("p", "rz")

    def matrix(self) -> np.ndarray:
        """(2, 2) matrix of the gate without its controls; rows are outputs."""
        if self.name == "h":
            return np.array([[1, 1], [1, -1]], dtype=complex) / math.sqrt(2)
        if self.name == "x":
            return np.array([[0, 1], [1, 0]], dtype=complex)
        if self.name == "p":
            return np.diag([1.0, np.exp(1j * self.angle)])
        half = 0.5 * self.angle
        if self.name == "rz":
            return np.diag([np.exp(-1j * half), np.exp(1j * half)])
        return np.array([[math.cos(half), -math.sin(half)], [math.sin(half), math.cos(half)]], dtype=complex)

    def inverse(self) -> "Gate":
        """The gate that undoes it."""
        return dataclasses.replace(self, angle=-self.angle)

    def when(self, control: int, value: int = 1) -> "Gate":
        """The same gate, done only where ``control`` has ``value``."""
        return dataclasses.replace(self, controls=(*self.controls, control), values=(*self.pattern, value))


@dataclasses.dataclass(frozen=True)
class Circuit:
    """Gates in the order of time on ``qubits`` qubits, and a global ``phase`` in radians."""

    qubits: int
    gates: tuple[Gate, ...] = ()
    phase: float = 0.0

    def __post_init__(self):
        for gate in self.gates:
            if not all(0 <= qubit < self.qubits for qubit in (gate.target, *gate.controls)):
                raise InvalidArgumentError(f"{gate} names a qubit that a circuit of {self.qubits} does not have")

    @staticmethod
    def of(qubits: int, gates: Iterable[Gate], phase: float = 0.0) -> "Circuit":
        """From any iterable of gates."""
        return Circuit(qubits, tuple(gates), phase)

    def __add__(self, other: "Circuit") -> "Circuit":
        if other.qubits != self.qubits:
            raise InvalidArgumentError(f"circuits of {self.qubits} and {other.qubits} qubits do not fit together")
        return Circuit(self.qubits, self.gates + other.gates, self.phase + other.phase)

    def __len__(self) -> int:
        return len(self.gates)

    def inverse(self) -> "Circuit":
        """The circuit that undoes it."""
        return Circuit(self.qubits, tuple(gate.inverse() for gate in reversed(self.gates)), -self.phase)

    def when(self, control: int, value: int = 1) -> "Circuit":
        """The circuit done only where ``control`` has ``value``; its global phase becomes a phase of the control."""
        gates = [gate.when(control, value) for gate in self.gates]
        if self.phase:
            flip = [Gate("x", control)] if value == 0 else []
            gates += [*flip, Gate("p", control, angle=self.phase), *flip]
        return Circuit(self.qubits, tuple(gates))

    def counts(self) -> dict[str, int]:
        """Gates by name, with one "c" in front per control: ``{"h": 12, "cp": 30, "ccx": 2}``."""
        return dict(collections.Counter("c" * len(gate.controls) + gate.name for gate in self.gates))
