"""How fast are energies, forces and Langevin steps of small peptides, against the fastest arrangement of OpenMM?

Everything is measured in turn, round by round, in one run on the same cores: this package (one process, batches of 1 to
1024, float32) and OpenMM (Reference and CPU platform, GBSAOBCForce and CustomGBForce, one and two processes, one and two
threads); a row gives medians over the rounds and compares with the best arrangement of OpenMM. Langevin steps are 1 fs,
noise and all: BAOAB of ``heatbath.kernels`` against ``LangevinMiddleIntegrator``. Compile time stands apart. The floor is
the time of the block's vector arithmetic at the rate of independent fused multiply-adds of this CPU.

    python benchmarks/force_field_speed.py [--quick] [--rounds 5]

Writes results/force_field_speed.json; ``--quick`` does 22 atoms and three batches and writes nothing.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import openmm
from openmm_peer import serve
from operation_count import count, multiply_adds_per_second
from record import record

import heatbath
from heatbath.kernels.langevin import Langevin
from heatbath.state import ReducedEnergy
from heatbath.targets.molecules import cpu_kernel, cpu_kernel_compiler
from heatbath.targets.molecules.forcefields import create_system
from heatbath.targets.molecules.openmm_comparison import with_gbsa_obc_force

FORCEFIELD = "amber99sbildn-obc2"
MOLECULES = {22: ("A", True), 33: ("AAA", False), 63: ("AAAAAA", False), 138: ("GYDPETGTWG", False)}
BATCHES = (1, 16, 64, 256, 1024)
SECONDS = 0.15  # per measurement

#: (platform, threads, solvent force, processes)
ARRANGEMENTS = [
    (platform, threads, solvent, processes)
    for solvent in ("GBSAOBC", "CustomGB")
    for platform, threads, processes in (
        ("Reference", 1, 1),
        ("Reference", 1, 2),
        ("CPU", 2, 1),
        ("CPU", 1, 1),
        ("CPU", 1, 2),
    )
]


class Peers:
    """Two OpenMM processes with the same molecule."""

    def __init__(self, target):
        system = create_system(FORCEFIELD, target.to_openmm_topology())
        systems = {
            "CustomGB": openmm.XmlSerializer.serialize(system),
            "GBSAOBC": openmm.XmlSerializer.serialize(with_gbsa_obc_force(system)),
        }
        positions = np.asarray(target.positions, np.float64)
        spawn = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for _ in range(2):
            here, there = spawn.Pipe()
            process = spawn.Process(target=serve, args=(there, systems, positions), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def rate(self, task: str, arrangement, seconds: float) -> float:
        """Evaluations or steps per second, of all processes together."""
        platform, threads, solvent, processes = arrangement
        pipes = self._pipes[:processes]
        for pipe in pipes:
            pipe.send((task, platform, threads, solvent, seconds))
        return sum(done / taken for done, taken in (pipe.recv() for pipe in pipes))

    def close(self) -> None:
        """End both."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


class Ours:
    """Compiled programs of one batch size, each long enough to be measured."""

    def __init__(self, target, batch: int):
        self.batch = batch
        noise = np.random.default_rng(0).normal(size=(batch, *target.positions.shape))
        self._xs = jnp.asarray(np.asarray(target.positions) + 0.002 * noise, jnp.float32)
        kernel = cpu_kernel.build(target.terms)
        begun = time.perf_counter()
        jax.block_until_ready(jax.jit(kernel)(self._xs))
        self.compile_seconds = time.perf_counter() - begun
        self._programs = {"evaluate": self._evaluations(kernel), "simulate": self._dynamics(target)}
        self._repeats = {task: self._calibrate(program) for task, program in self._programs.items()}

    def _evaluations(self, kernel):
        @jax.jit
        def run(xs, repeats):
            def once(_, xs):
                energies, forces = kernel(xs)
                return xs + jnp.float32(1e-12) * (forces + energies[:, None, None])

            return jax.lax.fori_loop(0, repeats, once, xs)

        return lambda repeats: jax.block_until_ready(run(self._xs, repeats))

    def _dynamics(self, target):
        langevin = Langevin(step_size=0.001, friction=1.0, masses=jnp.asarray(target.masses, jnp.float32))
        u = ReducedEnergy(target, heatbath.at_temperature(target, "300 K"))

        def keys(key):
            return jax.random.split(key, self.batch)

        states = jax.jit(jax.vmap(lambda key, x: langevin.init(key, x, u)))(keys(jax.random.key(0)), self._xs)

        @jax.jit
        def run(states, repeats):
            def once(index, states):
                step = jax.vmap(lambda key, state: langevin.step(key, state, u)[0])
                return step(keys(jax.random.fold_in(jax.random.key(1), index)), states)

            return jax.lax.fori_loop(0, repeats, once, states)

        def measure(repeats):
            states_after = jax.block_until_ready(run(states, repeats))
            if not np.isfinite(np.asarray(states_after.position)).all():
                raise RuntimeError("the dynamics has blown up")

        return measure

    @staticmethod
    def _calibrate(program) -> int:
        program(1)
        repeats = 1
        while True:
            begun = time.perf_counter()
            program(repeats)
            taken = time.perf_counter() - begun
            if taken > SECONDS / 3:
                return max(1, round(repeats * SECONDS / taken))
            repeats *= 3

    def rate(self, task: str) -> float:
        """Evaluations or steps (of single configurations) per second."""
        begun = time.perf_counter()
        self._programs[task](self._repeats[task])
        return self.batch * self._repeats[task] / (time.perf_counter() - begun)


def measure(n_atoms: int, batches, rounds: int) -> dict:
    """All rates of one molecule: {(who, task): [rate per round]}, and the floor."""
    sequence, capped = MOLECULES[n_atoms]
    target = heatbath.peptide(sequence, FORCEFIELD, capped=capped)
    peers, ours = Peers(target), {batch: Ours(target, batch) for batch in batches}
    rates = defaultdict(list)
    for arrangement in ARRANGEMENTS:  # makes the contexts
        peers.rate("evaluate", arrangement, 0.01)
    for _ in range(rounds):
        for task in ("evaluate", "simulate"):
            for arrangement in ARRANGEMENTS:
                rates[arrangement, task].append(peers.rate(task, arrangement, SECONDS))
            for batch, program in ours.items():
                rates[batch, task].append(program.rate(task))
    peers.close()
    width = cpu_kernel_compiler.widths("float32")[0]
    operations = count(target.terms, "float32", width)
    peak = multiply_adds_per_second("float32", width)
    threads = cpu_kernel.available_threads()
    floor = width * threads * peak / operations.arithmetic
    return {
        "atoms": n_atoms,
        "rates": {key: statistics.median(values) for key, values in rates.items()},
        "spread": {key: (min(values), max(values)) for key, values in rates.items()},
        "compile_seconds": {batch: program.compile_seconds for batch, program in ours.items()},
        "floor": floor,
        "arithmetic": operations.arithmetic,
        "other": operations.other,
        "memory": operations.memory,
        "peak_per_core": peak * width * 2,
    }


def best_peer(rates: dict, task: str):
    """(arrangement, rate) of the fastest OpenMM."""
    return max(
        ((key[0], rate) for key, rate in rates.items() if key[1] == task and isinstance(key[0], tuple)),
        key=lambda p: p[1],
    )


def label(arrangement) -> str:
    """Words for an arrangement."""
    platform, threads, solvent, processes = arrangement
    return f"{platform}, {solvent}, {processes} x {threads} (processes x threads)"


def rows_of(found: dict, batches) -> list[list]:
    """Lines of the table."""
    rows = []
    for batch in batches:
        row = [found["atoms"], batch]
        for task in ("evaluate", "simulate"):
            ours, (_, theirs) = found["rates"][batch, task], best_peer(found["rates"], task)
            row += [round(ours), round(theirs), round(ours / theirs, 1)]
        rows.append([*row, round(found["rates"][batch, "evaluate"] / found["floor"], 2)])
    return rows


COLUMNS = [
    "atoms",
    "batch",
    "evaluations/s",
    "OpenMM's best",
    "ratio",
    "Langevin steps/s",
    "OpenMM's best",
    "ratio",
    "share of the floor's rate",
]


def notes_of(found: dict) -> list[str]:
    """What does not fit into the table."""
    named = "; ".join(f"{task}: {label(best_peer(found['rates'], task)[0])}" for task in ("evaluate", "simulate"))
    compiled = max(found["compile_seconds"].values())
    return [
        f"{found['atoms']} atoms: OpenMM's fastest arrangement was, {named}.",
        f"{found['atoms']} atoms: writing and compiling the code took up to {compiled:.2f} s, once per molecule, precision and "
        f"block width; not in the rates.",
        f"{found['atoms']} atoms: a block has {found['arithmetic']:.0f} arithmetic, {found['other']:.0f} other and "
        f"{found['memory']:.0f} memory instructions on full registers; at {found['peak_per_core'] / 1e9:.0f} GFLOP/s per "
        f"core the arithmetic alone allows {found['floor']:.0f} evaluations/s on all cores.",
    ]


def show(rows: list[list]) -> None:
    """Print the table."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(COLUMNS, *rows, strict=True)]
    for row in [COLUMNS, *rows]:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    sizes, batches = ((22,), (1, 64, 1024)) if options.quick else (tuple(MOLECULES), BATCHES)
    rows, notes, data = [], [], []
    for n_atoms in sizes:
        found = measure(n_atoms, batches, 2 if options.quick else options.rounds)
        rows += rows_of(found, batches)
        notes += notes_of(found)
        data.append(
            {
                "atoms": n_atoms,
                "floor": found["floor"],
                "openmm": {
                    f"{task}: {label(key)}": [rate, *found["spread"][key, task]]
                    for (key, task), rate in found["rates"].items()
                    if isinstance(key, tuple)
                },
                "heatbath": {
                    f"{task}: batch {key}": [rate, *found["spread"][key, task]]
                    for (key, task), rate in found["rates"].items()
                    if isinstance(key, int)
                },
            }
        )
        show(rows_of(found, batches))
        print("\n".join(notes_of(found)), flush=True)
    load = os.getloadavg()[0]
    notes.append(
        f"Force field {FORCEFIELD}, no constraints, float32, {cpu_kernel.available_threads()} cores, medians of {options.rounds} "
        f"rounds in turn; load average at the end {load:.1f}. What dominates: the arithmetic of the solvent's pairs."
    )
    if not options.quick:
        record(
            "force_field_speed",
            title="Energies, forces and Langevin steps per second against OpenMM",
            columns=COLUMNS,
            rows=rows,
            notes=notes,
            data={"molecules": data},
        )


if __name__ == "__main__":
    sys.exit(main())
