"""How long a step of the collisionless Boltzmann equation takes on a simulated quantum computer: this package, Qiskit and Aer in turn.

    python benchmarks/quantum_throughput.py [--quick] [--rounds 3]

One Strang step with a given acceleration, 13 to 20 qubits with the ancilla. Ours: block by block (``Emulator``, which knows the algorithm), and any
circuit (``engine``, which fuses runs of permutations and phases beforehand; how long that takes is told).
Peers: ``qiskit.quantum_info.Statevector`` and Aer's state-vector method on the same gates, and Aer on a circuit in which the phases of the
kick are given as ``DiagonalGate`` instead of rotations. All are timed in turn in every round after one run to warm up; medians. Circuits are
built and transpiled beforehand. Where a circuit has more than 600 gates, Qiskit's Statevector runs every n-th of them and the time
is scaled (marked ~). States of all ways are compared at 13 qubits.
"""

import argparse
import time

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import DiagonalGate
from qiskit.quantum_info import Statevector
from qiskit_aer import AerSimulator
from record import record

from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum import Circuit, Emulator, PhaseRegisters, apply, compiled, transport
from heatbath.kinetics.quantum.export import to_qiskit
from heatbath.kinetics.quantum.fourier import analyse, frequency_qubits, signed_weights, synthesise

MOST_GATES = 600


def with_diagonals(registers, force, step):
    """The Strang step for Aer, the kick as one diagonal per frequency bit over the positions and that bit."""
    grid, total = registers.grid, registers.total
    half = to_qiskit(transport.drift(registers, 0.5 * step))
    made = QuantumCircuit(total)
    made.compose(half, inplace=True)
    velocities, places = registers.velocity(), registers.position()
    made.compose(to_qiskit(analyse(total, velocities)), inplace=True)
    turns = -2 * np.pi / grid.velocities * force[0] * (step / grid.dv)
    for qubit, weight in zip(frequency_qubits(velocities), signed_weights(len(velocities)), strict=True):
        phases = np.concatenate([np.ones(grid.positions), np.exp(1j * weight * turns)])
        made.append(DiagonalGate(list(phases)), [*places, qubit])
    made.compose(to_qiskit(synthesise(total, velocities)), inplace=True)
    made.compose(half, inplace=True)
    return made


def aer_runner(circuit, start):
    full = QuantumCircuit(circuit.num_qubits)
    full.set_statevector(start)
    full.compose(circuit, inplace=True)
    full.save_statevector()
    simulator = AerSimulator(method="statevector")
    ready = transpile(full, simulator, optimization_level=0)
    phase, ready.global_phase = float(ready.global_phase), 0
    return lambda: np.exp(1j * phase) * np.asarray(simulator.run(ready).result().get_statevector(ready))


def thinned(circuit):
    """(every n-th gate, the factor by which their time is to be scaled)."""
    every = max(1, len(circuit) // MOST_GATES)
    chosen = circuit.gates[::every]
    return Circuit(circuit.qubits, chosen, circuit.phase), len(circuit) / len(chosen)


def measure(n_x, n_v, rounds):
    grid = PhaseGrid(2**n_x, 2**n_v, 1.0, 0.5)
    registers, step = PhaseRegisters(grid), 0.01
    random = np.random.default_rng(0)
    force = random.normal(size=(1, grid.positions))
    values = random.normal(size=grid.shape) + 0j
    values /= np.linalg.norm(values)
    start = np.concatenate([values.reshape(-1), np.zeros(values.size)])
    circuit = transport.strang(registers, force, step)
    sampled, factor = thinned(circuit)
    emulator, state, whole = Emulator(grid), Statevector(start), jax.numpy.asarray(start)
    on_device, pull, exported = jax.numpy.asarray(values), jax.numpy.asarray(force), to_qiskit(sampled)
    aer, aer_diagonal = aer_runner(to_qiskit(circuit), start), aer_runner(with_diagonals(registers, force, step), start)
    before = time.perf_counter()
    program = compiled(circuit)
    fusing = time.perf_counter() - before
    ways = {
        "blocks": (lambda: emulator.strang(on_device, pull, step).block_until_ready(), 1.0),
        "circuit": (lambda: apply(program, whole).block_until_ready(), 1.0),
        "qiskit": (lambda: state.evolve(exported).data, factor),
        "aer": (aer, 1.0),
        "aer diagonals": (aer_diagonal, 1.0),
    }
    ends = {name: np.asarray(run()).reshape(-1)[: values.size] for name, (run, _) in ways.items()}  # warm up
    compared = {name: float(np.abs(end - ends["blocks"]).max()) for name, end in ends.items() if ways[name][1] == 1.0}
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (run, scale) in ways.items():
            before = time.perf_counter()
            run()
            times[name].append(scale * (time.perf_counter() - before))
    return {
        "qubits": registers.total,
        "gates": len(circuit),
        "scaled": factor,
        "fusing": fusing,
        "seconds": {name: float(np.median(seconds)) for name, seconds in times.items()},
        "largest_difference": compared,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes = [(6, 6)] if options.quick else [(6, 6), (7, 7), (8, 8), (9, 9), (10, 9)]
    found = []
    for n_x, n_v in sizes:
        found.append(measure(n_x, n_v, options.rounds))
        print(found[-1], flush=True)
        if not options.quick:
            write(found)  # after every size, so that a stopped run leaves what it has measured


def write(found):
    rows = []
    for entry in found:
        seconds = entry["seconds"]
        mark = "~" if entry["scaled"] > 1 else ""
        rows.append(
            [
                entry["qubits"],
                entry["gates"],
                1 / seconds["blocks"],
                1 / seconds["circuit"],
                1e3 * entry["fusing"],
                f"{mark}{seconds['qiskit'] / seconds['blocks']:.3g}",
                seconds["aer"] / seconds["blocks"],
                seconds["aer diagonals"] / seconds["blocks"],
                f"{mark}{seconds['qiskit'] / seconds['circuit']:.3g}",
                seconds["aer"] / seconds["circuit"],
            ]
        )
    record(
        "quantum_throughput",
        title="Steps of the collisionless Boltzmann equation on simulated qubits",
        columns=[
            "qubits",
            "gates",
            "blocks: steps/s",
            "circuit: steps/s",
            "circuit: fusing once (ms)",
            "blocks over Qiskit",
            "blocks over Aer",
            "blocks over Aer with diagonals",
            "circuit over Qiskit",
            "circuit over Aer",
        ],
        rows=rows,
        notes=[
            "One Strang step with a given acceleration. Blocks: every Fourier transform and every run of phases at once; circuit: its gates as they are given.",
            "Ratios above one: ours is faster. ~: Qiskit ran every n-th gate and its time was scaled.",
            "Largest difference between the states of all ways at 13 qubits (Qiskit aside): "
            f"{max(found[0]['largest_difference'].values()):.1e}.",
        ],
        data={"sizes": found},
    )


if __name__ == "__main__":
    main()
