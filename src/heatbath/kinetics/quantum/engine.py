"""Runs circuits on a state vector, as one compiled loop over a table of steps.

A step is a gate (a 2 x 2 matrix, a target, a mask and value of control bits) or a run of gates that only permute and turn
amplitudes (``fusion``), so that one compilation serves all circuits of a size. The state keeps its precision, complex64 or
complex128.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.quantum.circuit import Circuit, Gate
from heatbath.kinetics.quantum.fusion import fuse

#: Tables are filled up to a multiple of this length with steps that do nothing, so that few lengths are compiled.
BLOCK = 64

#: Kinds of steps: nothing, a gate, phases alone, phases and a permutation.
NOTHING, GATE, PHASES, PERMUTATION = range(4)


def basis_state(qubits: int, index: int = 0) -> Complex[Array, " amplitudes"]:
    """|index> in double precision where JAX has it."""
    return jnp.zeros(2**qubits, dtype=jnp.result_type(complex)).at[index].set(1.0)


@dataclasses.dataclass(frozen=True)
class Program:
    """A circuit made ready: steps as arrays of one length each, and the tables of all monomial maps end to end."""

    qubits: int
    steps: dict[str, np.ndarray]
    factor: np.ndarray
    source: np.ndarray
    phase: float


def apply(
    circuit: Circuit | Program, state: Complex[Array | np.ndarray, " amplitudes"]
) -> Complex[Array, " amplitudes"]:
    """The state after ``circuit``; one that is run often is made ready once, by ``compiled``.

    Raises ``InvalidArgumentError`` when the state has not 2^qubits amplitudes.
    """
    if np.shape(state) != (2**circuit.qubits,):
        raise InvalidArgumentError(
            f"expected {2**circuit.qubits} amplitudes; found an array of shape {np.shape(state)}"
        )
    state = jnp.asarray(state)
    program = compiled(circuit) if isinstance(circuit, Circuit) else circuit
    end = _run(program.steps, program.factor, program.source, state)
    return end * jnp.asarray(np.exp(1j * program.phase), state.dtype)


def unitary(circuit: Circuit) -> Complex[Array, "amplitudes amplitudes"]:
    """The matrix of a small circuit; column j is what |j> becomes."""
    size = 2**circuit.qubits
    columns = jax.vmap(lambda state: apply(circuit, state))(jnp.eye(size, dtype=jnp.result_type(complex)))
    return columns.T


def compiled(circuit: Circuit) -> Program:
    """The circuit, fused, as arrays."""
    # place[s, q] is where qubit q stands in the local index of step s, -1 where it is not in it
    pieces = fuse(circuit)
    length = -(-len(pieces) // BLOCK) * BLOCK
    steps = {
        "kind": np.zeros(length, np.int32),
        "target": np.zeros(length, np.int32),
        "mask": np.zeros(length, np.int32),
        "value": np.zeros(length, np.int32),
        "matrix": np.zeros((length, 2, 2), complex),
        "place": np.full((length, circuit.qubits), -1, np.int32),
        "offset": np.zeros(length, np.int32),
    }
    factors, sources, offset = [], [], 0
    for index, piece in enumerate(pieces):
        if isinstance(piece, Gate):
            steps["kind"][index] = GATE
            steps["target"][index] = piece.target
            steps["mask"][index] = sum(1 << qubit for qubit in piece.controls)
            steps["value"][index] = sum(bit << qubit for qubit, bit in zip(piece.controls, piece.pattern, strict=True))
            steps["matrix"][index] = piece.matrix()
            continue
        steps["kind"][index] = PHASES if (piece.source == np.arange(len(piece.source))).all() else PERMUTATION
        steps["mask"][index] = sum(1 << qubit for qubit in piece.qubits)
        steps["place"][index, list(piece.qubits)] = np.arange(len(piece.qubits))
        steps["offset"][index] = offset
        factors.append(piece.factor)
        sources.append(sum(((piece.source >> place) & 1) << qubit for place, qubit in enumerate(piece.qubits)))
        offset += len(piece.factor)
    padding = (1 << max(offset, 1).bit_length()) - offset
    return Program(
        circuit.qubits,
        steps,
        np.concatenate([*factors, np.ones(padding, complex)]),
        np.concatenate([*sources, np.zeros(padding, np.int32)]).astype(np.int32),
        circuit.phase,
    )


@jax.jit
def _run(steps, factor, source, state):
    index = jnp.arange(state.shape[0], dtype=jnp.int32)
    factor = factor.astype(state.dtype)

    def nothing(step, state):
        return state

    def gate(step, state):
        matrix = step["matrix"].astype(state.dtype)
        bit = (index >> step["target"]) & 1
        own = jnp.where(bit == 1, matrix[1, 1], matrix[0, 0])
        other = jnp.where(bit == 1, matrix[1, 0], matrix[0, 1])
        done = own * state + other * state[index ^ (1 << step["target"])]
        return jnp.where((index & step["mask"]) == step["value"], done, state)

    def local(step):
        places = (
            jnp.where(place >= 0, ((index >> qubit) & 1) << jnp.maximum(place, 0), 0)
            for qubit, place in enumerate(step["place"])
        )
        return step["offset"] + sum(places)

    def phases(step, state):
        return factor[local(step)] * state

    def permutation(step, state):
        entry = local(step)
        return factor[entry] * state[(index & ~step["mask"]) | source[entry]]

    def one(state, step):
        return jax.lax.switch(step["kind"], (nothing, gate, phases, permutation), step, state), None

    return jax.lax.scan(one, state, steps)[0]
