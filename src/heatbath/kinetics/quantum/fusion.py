"""Runs of gates that only permute and turn amplitudes, as one map on the few qubits they touch.

NOTs and phases with any controls are monomial matrices: out_i = factor_i in_source_i. Products of monomial matrices are
monomial, and a product that touches k qubits is a table of 2^k entries, however many gates it has. A multiplexed rotation of
2^10 angles so costs one pass over the state instead of 2^11. All other gates (h, ry) stay what they are.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from heatbath.kinetics.quantum.circuit import Circuit, Gate

#: A run touches at most this many qubits, so that its table (2^k complex numbers and as many indices) stays in a core's cache.
WIDEST = 12


@dataclasses.dataclass(frozen=True)
class Monomial:
    """out_i = ``factor[i]`` in_(``source[i]``) for the 2^k values i of ``qubits`` (least significant first)."""

    qubits: tuple[int, ...]
    factor: np.ndarray
    source: np.ndarray


def fuse(circuit: Circuit, widest: int = WIDEST) -> list[Monomial | Gate]:
    """The circuit in the order of time, every run of permuting and turning gates in one piece; its global phase is left out."""
    return [_monomial(piece) if isinstance(piece, list) else piece for piece in _pieces(circuit, widest)]


def _pieces(circuit: Circuit, widest: int) -> Iterator[list[Gate] | Gate]:
    """Runs of monomial gates on at most ``widest`` qubits (one gate that touches more is its own run), other gates alone."""
    run: list[Gate] = []
    touched: set[int] = set()
    for gate in circuit.gates:
        own = {gate.target, *gate.controls}
        monomial = gate.diagonal or gate.name == "x"
        if run and not (monomial and len(touched | own) <= widest):
            yield run
            run, touched = [], set()
        if not monomial:
            yield gate
            continue
        run.append(gate)
        touched |= own
    if run:
        yield run


def _monomial(run: list[Gate]) -> Monomial:
    qubits = tuple(sorted({qubit for gate in run for qubit in (gate.target, *gate.controls)}))
    place = {qubit: 1 << index for index, qubit in enumerate(qubits)}
    index = np.arange(2 ** len(qubits), dtype=np.int32)
    source, angle = index.copy(), np.zeros(len(index))
    for gate in run:
        target = place[gate.target]
        mask = sum(place[qubit] for qubit in gate.controls)
        value = sum(place[qubit] for qubit, bit in zip(gate.controls, gate.pattern, strict=True) if bit)
        if gate.name == "x":
            flipped = index ^ np.where((index & mask) == value, np.int32(target), np.int32(0))
            source, angle = source[flipped], angle[flipped]
        elif gate.name == "p":
            angle[(index & (mask | target)) == (value | target)] += gate.angle
        else:
            turn = np.where(index & target, 0.5 * gate.angle, -0.5 * gate.angle)
            angle += np.where((index & mask) == value, turn, 0.0) if mask else turn
    return Monomial(qubits, np.exp(1j * angle), source)
