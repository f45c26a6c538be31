"""How long does it take to anneal 10 000 particles of the tripeptide AAA from a flow to exp(-u), gradients included?

The inference of sequential Boltzmann generators (arXiv 2502.18462): 100 levels, one Langevin move each, 33 atoms, amber14 with
implicit solvent, 310 K. One particle needs one gradient of the energy and one of the model's log q per level and no other
evaluation. Both parts are also timed alone, at the same number of evaluations and in the same chunks. The flow is untrained:
time does not depend on its weights. A normal start shows what is left when log q costs nothing. Last, the speed of exact
optimal transport at 2000 and 10 000 torsion vectors.

    python benchmarks/sbg_inference.py [--quick] [--particles 10000] [--levels 100] [--starts internal narrow] [--chunk 256]

Rows are written to results/sbg_inference.json as they are finished; those that are there already are kept unless --again is given.
"""

import argparse
import json
import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

from record import RESULTS, record

from heatbath.estimators import torus_wasserstein
from heatbath.experiments import generators
from heatbath.io.datasets import load_reference
from heatbath.kernels import MALA, UnadjustedLangevin
from heatbath.models.base import Distribution
from heatbath.samplers.annealing import linear_schedule
from heatbath.samplers.centre import HarmonicCentre
from heatbath.samplers.smc import anneal
from heatbath.state import ReducedEnergy, at_temperature
from heatbath.targets.molecules import peptide

#: (kind, size, changes) of a generator by name; ``narrow`` has a quarter of the parameters of the transformer for two cores.
FLOWS = {
    "internal": ("internal-coordinate-flow", "small", {}),
    "narrow": ("transformer-flow", "small", {"channels": 64, "head_dim": 32}),
    "transformer": ("transformer-flow", "small", {}),
}
KERNELS = {"MALA": MALA, "unadjusted": UnadjustedLangevin}
STEP = 1e-4  # ps: so small that particles stay where the energy is finite; time does not depend on it


class NormalStart(Distribution):
    """Independent normals around one structure: a log q that costs nothing."""

    mean: jax.Array
    width: float

    def sample(self, key):
        return self.mean + self.width * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, x):
        return -0.5 * jnp.sum(((x - self.mean) / self.width) ** 2) - x.size * jnp.log(self.width * jnp.sqrt(2 * jnp.pi))


def start(name: str, target, frames) -> Distribution:
    if name == "normal":
        return NormalStart(jnp.asarray(frames[0]), 0.01)
    kind, size, changes = FLOWS[name]
    sizes = generators.sizes_of(kind, size, changes)
    return generators.build(kind, jax.random.key(0), target, frames, **sizes)


def seconds(function, *arguments, rounds: int = 3) -> float:
    """Median over rounds after a first call that compiles."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def part_seconds(function, xs, chunk: int, evaluations: int) -> float:
    """Time of ``evaluations`` values and gradients of ``function``, from one chunk."""
    run = jax.jit(jax.vmap(jax.value_and_grad(function)))
    return seconds(run, xs[:chunk]) * evaluations / chunk


def anneal_row(name: str, kernel: str, particles: int, levels: int, chunk: int) -> dict:
    reference = load_reference("aaa")
    frames = np.asarray(reference.flat(), np.float32)
    target = peptide("AAA", forcefield="amber14-obc1")
    model = start(name, target, frames)
    sigma = float(model.centre_scale) if hasattr(model, "centre_scale") else 0.01 / np.sqrt(frames.shape[1])
    state = at_temperature(target, "310 K")
    u = ReducedEnergy(target, type(state)(state.beta, HarmonicCentre(sigma)))
    schedule = linear_schedule(levels)
    masses = jnp.asarray(target.masses, jnp.float32)
    masses = masses if masses.ndim == 0 else masses.reshape(-1, 1)
    moves = KERNELS[kernel](jnp.asarray(STEP), masses=masses)

    options = {"particles": particles, "chunk": chunk}
    begin = time.perf_counter()
    program = eqx.filter_jit(anneal).lower(jax.random.key(0), model, u, moves, schedule, **options).compile()
    compilation = time.perf_counter() - begin
    begin, begin_cpu = time.perf_counter(), time.process_time()
    _, infos = jax.block_until_ready(program(jax.random.key(1), model, u, moves, schedule, **options))
    total, total_cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    reached, evaluations = infos.level, infos.moves.evaluations
    assert float(reached[-1]) == 1.0
    assert int(evaluations.sum()) == particles * levels
    xs = jnp.asarray(np.resize(frames, (chunk, *frames.shape[1:])))
    count = particles * (levels + 1)
    row = {
        "start": name,
        "kernel": kernel,
        "particles": particles,
        "levels": levels,
        "chunk": chunk,
        "seconds": total,
        "cpu_seconds": total_cpu,
        "compilation_seconds": compilation,
        "finite_moves": float(1 - infos.moves.non_finite.sum() / (particles * levels)),
        "energy_seconds": part_seconds(u, xs, chunk, count),
        "model_seconds": part_seconds(model.log_prob, xs, chunk, count),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.Array)),
    }
    print(json.dumps(row), flush=True)
    return row


def transport_rows(sizes) -> list[dict]:
    rows = []
    torus_wasserstein(np.zeros((2, 1)), np.zeros((2, 1)))  # the import of the solver
    for size in sizes:
        x, y = np.random.default_rng(0).vonmises(0.0, 1.0, (2, size, 4))
        begin = time.perf_counter()
        value = torus_wasserstein(x, y)
        rows.append({"transport": size, "seconds": time.perf_counter() - begin, "value": value})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def known() -> dict:
    path = RESULTS / "sbg_inference.json"
    return json.loads(path.read_text())["data"] if path.exists() else {}


def peer_note() -> list[str]:
    """OpenMM's fastest arrangement on a molecule of as many atoms, where it has been measured (force_field_speed.py)."""
    path = RESULTS / "force_field_speed.json"
    rates = [row[3] for row in json.loads(path.read_text())["rows"] if row[0] == 33] if path.exists() else []
    if not rates:
        return []
    return [
        f"OpenMM's fastest arrangement on the same cores would need {1e6 / rates[0]:.0f} s for a million energies with forces of 33 "
        "atoms (force_field_speed)."
    ]


def save(data: dict) -> None:
    rows = [
        [
            row["start"],
            f"{row['parameters']:,}",
            row["kernel"],
            f"{row['particles']:,} x {row['levels']}",
            f"{row['seconds']:.0f} s",
            f"{row['cpu_seconds']:.0f} s",
            f"{row['energy_seconds']:.0f} s",
            f"{row['model_seconds']:.0f} s",
            f"{600 / row['seconds']:.2f}",
        ]
        for row in data.values()
        if "start" in row
    ]
    notes = [
        "Energies and log q alone: as many values with gradients as the annealing needs, in the same chunks.",
        *peer_note(),
    ]
    notes += [
        f"Exact transport of {row['transport']:,} x {row['transport']:,}: {row['seconds']:.1f} s."
        for row in data.values()
        if "transport" in row
    ]
    columns = [
        "start",
        "parameters",
        "moves",
        "particles x levels",
        "annealing",
        "processor time",
        "energies alone",
        "log q alone",
        "10 min / time",
    ]
    record(
        "sbg_inference",
        title="Annealing AAA from a flow to its Boltzmann distribution",
        columns=columns,
        rows=rows,
        notes=notes,
        data=data,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="512 particles x 4 levels, transport of 500; nothing recorded"
    )
    parser.add_argument("--particles", type=int, default=10_000)
    parser.add_argument("--levels", type=int, default=100)
    parser.add_argument("--starts", nargs="*", default=["normal", *FLOWS], choices=["normal", *FLOWS])
    parser.add_argument("--kernels", nargs="*", default=["MALA", "unadjusted"], choices=[*KERNELS])
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    particles, levels = (512, 4) if arguments.quick else (arguments.particles, arguments.levels)
    data = {} if arguments.again or arguments.quick else known()
    for name in arguments.starts:
        for kernel in arguments.kernels:
            key = f"{name}/{kernel}/{particles}/{levels}/{arguments.chunk}"
            if key not in data:
                data[key] = anneal_row(name, kernel, particles, levels, arguments.chunk)
                if not arguments.quick:
                    save(data)
    for row in transport_rows((500,) if arguments.quick else (2000, 10_000)):
        data[f"transport/{row['transport']}"] = row
    if not arguments.quick:
        save(data)


if __name__ == "__main__":
    main()
