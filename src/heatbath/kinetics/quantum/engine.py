"""Runs circuits gate by gate on a state vector, as one compiled loop over a table of gates.

Every gate is a 2 x 2 matrix, a target, and a mask and value of control bits, so that one compilation serves all circuits of
a size. The state keeps its precision (complex64 or complex128).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.quantum.circuit import Circuit

#: Tables are filled up to a multiple of this length with gates that do nothing, so that few lengths are compiled.
BLOCK = 256


def basis_state(qubits: int, index: int = 0) -> Complex[Array, " amplitudes"]:
    """|index> in double precision where JAX has it."""
    return jnp.zeros(2**qubits, dtype=jnp.result_type(complex)).at[index].set(1.0)


def apply(circuit: Circuit, state: Complex[Array | np.ndarray, " amplitudes"]) -> Complex[Array, " amplitudes"]:
    """The state after ``circuit``. Raises ``InvalidArgumentError`` when the state has not 2^qubits amplitudes."""
    if np.shape(state) != (2**circuit.qubits,):
        raise InvalidArgumentError(
            f"expected {2**circuit.qubits} amplitudes; found an array of shape {np.shape(state)}"
        )
    state = jnp.asarray(state)
    if not circuit.gates:
        return state * np.exp(1j * circuit.phase)
    return _run(_table(circuit), state) * jnp.asarray(np.exp(1j * circuit.phase), state.dtype)


def unitary(circuit: Circuit) -> Complex[Array, "amplitudes amplitudes"]:
    """The matrix of a small circuit; column j is what |j> becomes."""
    size = 2**circuit.qubits
    columns = jax.vmap(lambda state: apply(circuit, state))(jnp.eye(size, dtype=jnp.result_type(complex)))
    return columns.T


def _table(circuit: Circuit) -> dict[str, np.ndarray]:
    length = -(-len(circuit) // BLOCK) * BLOCK
    table = {
        "target": np.zeros(length, np.int32),
        "mask": np.zeros(length, np.int32),
        "value": np.zeros(length, np.int32),
        "matrix": np.broadcast_to(np.eye(2, dtype=complex), (length, 2, 2)).copy(),
        "diagonal": np.ones(length, bool),
    }
    for index, gate in enumerate(circuit.gates):
        table["target"][index] = gate.target
        table["mask"][index] = sum(1 << qubit for qubit in gate.controls)
        table["value"][index] = sum(bit << qubit for qubit, bit in zip(gate.controls, gate.pattern, strict=True))
        table["matrix"][index] = gate.matrix()
        table["diagonal"][index] = gate.diagonal
    return table


@jax.jit
def _run(table, state):
    index = jnp.arange(state.shape[0], dtype=jnp.int32)

    def step(state, gate):
        matrix = gate["matrix"].astype(state.dtype)
        bit = (index >> gate["target"]) & 1
        on = (index & gate["mask"]) == gate["value"]
        own = jnp.where(bit == 1, matrix[1, 1], matrix[0, 0])

        def mixed(state):
            partner = state[index ^ (1 << gate["target"])]
            return jnp.where(on, own * state + jnp.where(bit == 1, matrix[1, 0], matrix[0, 1]) * partner, state)

        def phased(state):
            return jnp.where(on, own * state, state)

        return jax.lax.cond(gate["diagonal"], phased, mixed, state), None

    return jax.lax.scan(step, state, table)[0]
