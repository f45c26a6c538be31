"""Does every sampler give the mean energies and heat capacities of the supercooled liquid of 43 particles?

    python benchmarks/liquid_reference.py [--quick] [--methods swap tempering annealing flow] [--seconds 300]

Swap Monte Carlo at T = 1.0 to 0.2; parallel tempering, population annealing and the chain of flows down to 0.35; the populations
are those of liquid_costs.py, which must have run. Every piece (one temperature, or one method) is kept in .cache, so that the
command may be repeated until all is done; it begins no new piece after ``--seconds``. Methods that are not named keep what the
results have of them. The reference column is an independent code's, with its own errors (see ``REFERENCE``).
"""

import argparse
import json
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from liquid_cost_model import SEEDS, combine
from record import earlier, measured, record, stamp

from heatbath.kernels.particle_engine import ParticleEngine
from heatbath.samplers.base import run_to_end
from heatbath.samplers.particle_chains import ParticleSampler
from heatbath.targets.liquids import ternary_liquid

#: T: (U/N, error, c_V, error) of a swap Monte Carlo in C written for this comparison (6e5 to 1e6 sweeps, one chain).
REFERENCE = {
    1.0: (-1.8820, 0.0013, 0.910, 0.006),
    0.8: (-2.0688, 0.0012, 0.966, 0.010),
    0.6: (-2.2701, 0.0014, 1.043, 0.009),
    0.5: (-2.3757, 0.0016, 1.094, 0.013),
    0.45: (-2.4280, 0.0012, 1.121, 0.011),
    0.4: (-2.4872, 0.0016, 1.141, 0.010),
    0.35: (-2.5462, 0.0011, 1.164, 0.016),
    0.3: (-2.6021, 0.0016, 1.203, 0.019),
    0.25: (-2.6624, 0.0021, 1.31, 0.03),
    0.2: (-2.7248, 0.0014, 1.19, 0.02),
}
CHAINS = 8


def swap_chains(temperature: float, sweeps: int, seed: int = 0) -> dict:
    """Independent chains from random starts, cooled from T = 2 in 25 steps; a fifth of the moves are exchanges."""
    liquid = ternary_liquid()
    engine = ParticleEngine(liquid, exchange_share=0.2)
    starts = jax.vmap(liquid.initial)(jax.random.split(jax.random.key(seed), CHAINS))
    chains, beta, began = engine.begin(np.asarray(starts), seed + 1), 1 / temperature, time.perf_counter()
    steps = np.full(CHAINS, 0.2)
    for at in np.geomspace(0.5, beta, 25):
        chains, _ = engine.run(chains, at, steps, sweeps=40)
        chains, steps = engine.tune(chains, at, rounds=6, start=float(steps.mean()))
    chains, _ = engine.run(chains, beta, steps, sweeps=sweeps // 5)
    _, moved = engine.run(chains, beta, steps, sweeps=10, records=sweeps // 10)
    found = summary(moved.energies, temperature, liquid.particles)
    found |= {"sweeps": sweeps * CHAINS, "exchange_acceptance": moved.exchange_acceptance}
    return found | {"acceptance": moved.acceptance, "seconds": time.perf_counter() - began}


def summary(energies: np.ndarray, temperature: float, particles: int) -> dict:
    """U/N and c_V of independent chains (chain, record): means and errors from their spread."""
    means, pooled = energies.mean(1), energies.mean()
    # Fluctuations about the common mean, so that what the chains disagree about counts.
    capacities = ((energies - pooled) ** 2).mean(1) / (particles * temperature**2)
    root = np.sqrt(len(energies))
    return {
        "energy": pooled / particles,
        "energy_error": means.std(ddof=1) / particles / root,
        "capacity": capacities.mean(),
        "capacity_error": capacities.std(ddof=1) / root,
    }


def row(method: str, temperature: float, found: dict) -> list:
    """A line of the table: measured, reference, deviation in combined standard errors."""
    energy, energy_error, capacity, capacity_error = REFERENCE[temperature]
    z = (found["energy"] - energy) / np.hypot(found["energy_error"], energy_error)
    z_capacity = (found["capacity"] - capacity) / np.hypot(found["capacity_error"], capacity_error)
    return [
        method,
        f"{temperature:g}",
        f"{found['energy']:.4f} ± {found['energy_error']:.4f}",
        f"{energy:.4f} ± {energy_error:.4f}",
        f"{z:+.1f}",
        f"{found['capacity']:.3f} ± {found['capacity_error']:.3f}",
        f"{capacity:.3f} ± {capacity_error:.3f}",
        f"{z_capacity:+.1f}",
    ]


def ladder(sweeps: int) -> dict:
    """Replica exchange from T = 2 to 0.35 by displacements alone: six times ``sweeps`` of every chain, after as long a warm-up."""
    temperatures = (0.35, 0.4, 0.45, 0.5, 0.6, 0.72, 0.85, 1.0, 1.25, 1.6, 2.0)
    sampler = ParticleSampler(
        ternary_liquid(),
        1 / np.array(temperatures),
        ladders=CHAINS,
        draws=6 * sweeps // 40,
        sweeps=40,
        warmup=6 * sweeps // 40,
        exchange=True,
    )
    began = time.perf_counter()
    found = run_to_end(sampler, jax.random.key(1)).diagnostics
    spent = {"seconds": time.perf_counter() - began, "evaluations": found["evaluations"]}
    return {
        f"{t:g}": summary(found["energies"][:, :, k].T, t, 43) | spent
        for k, t in enumerate(temperatures)
        if t in REFERENCE
    }


def populations(method: str, folder: Path) -> dict | None:
    """From the populations of liquid_costs.py, five seeds of four: weighted by their estimates of Z within a seed, errors over seeds.

    None when they have not been run.
    """
    paths = [folder / f"{method}-{seed}.json" for seed in SEEDS]
    if not all(path.exists() for path in paths):
        return None
    seeds, made = [json.loads(path.read_text()) for path in paths], {}
    for t in seeds[0]["energy"]:
        temperature, energies, capacities = float(t), [], []
        for seed in seeds:
            means, weights = 43 * np.array(seed["energy"][t]), seed["log_z"][t]
            mean = combine(means, weights)
            energies.append(mean / 43)
            spread = np.array(seed["variance"][t]) + (means - mean) ** 2
            capacities.append(combine(spread, weights) / (43 * temperature**2))
        root = np.sqrt(len(seeds))
        made[t] = {
            "energy": np.mean(energies),
            "energy_error": np.std(energies, ddof=1) / root,
            "capacity": np.mean(capacities),
            "capacity_error": np.std(capacities, ddof=1) / root,
            "sweeps": seeds[0]["sweeps"],
        }
    return made


def pieces(methods: list[str], sweeps: int):
    """(name, function) of everything that has to run."""
    if "swap" in methods:
        for temperature in REFERENCE:
            longer = 2 if temperature <= 0.35 else 1
            yield f"swap-{temperature:g}", lambda t=temperature, n=longer: {f"{t:g}": swap_chains(t, n * sweeps)}
    if "tempering" in methods:
        yield "tempering", lambda: ladder(sweeps)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short runs; prints, records nothing")
    parser.add_argument("--methods", nargs="+", default=["swap", "tempering", "annealing", "flow"])
    parser.add_argument("--seconds", type=float, default=300.0, help="begin no new piece after this time")
    parser.add_argument("--work", type=Path, default=Path(".cache/liquid_reference"))
    parser.add_argument("--populations", type=Path, default=Path(".cache/liquid_costs/full"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    began, data, missing = time.monotonic(), {}, []
    for name, compute in pieces(arguments.methods, 2000 if arguments.quick else 100_000):
        path = arguments.work / f"{name}{'-quick' if arguments.quick else ''}.json"
        if not path.exists():
            if time.monotonic() - began > arguments.seconds:
                missing.append(name)
                continue
            path.write_text(json.dumps(compute()))
        data[name] = json.loads(path.read_text())
        for temperature, found in data[name].items():
            print(*row(name.split("-")[0], float(temperature), found), sep="  ", flush=True)
    for name in sorted(set(arguments.methods) & {"annealing", "flow"}):
        found = None if arguments.quick else populations(name, arguments.populations)
        if found is None:
            missing.append(f"{name} (by liquid_costs.py)")
            continue
        data[name] = found
        for temperature, one in found.items():
            print(*row(name, float(temperature), one), sep="  ")
    if missing:
        print(f"to do: {', '.join(missing)}; run the same command again")
    elif not arguments.quick:
        before, when = earlier("liquid_reference")
        write(stamped(before, when) | stamped(data, stamp()))


def stamped(data: dict, when: dict) -> dict:
    """With date and commit beside every number that has none."""
    return {name: {t: when | found for t, found in part.items()} for name, part in data.items()}


def write(data: dict) -> None:
    """results/liquid_reference.json."""
    sweeps = {name: data[name]["0.4"].get("sweeps") for name in ("annealing", "flow") if name in data}
    sweeps = ", ".join(f"{count} in {name}" for name, count in sweeps.items() if count)
    rows = [row(name.split("-")[0], float(t), found) for name, part in data.items() for t, found in part.items()]
    record(
        "liquid_reference",
        title="Mean energy and heat capacity of the supercooled liquid, N = 43",
        columns=["method", "T", "U/N", "reference", "deviation", "c_V", "reference ", "deviation "],
        rows=rows,
        notes=[
            "Errors are standard errors over independent chains, ladders or seeds of four populations; deviations in combined standard errors.",
            "The reference is our own independent swap Monte Carlo in C, one chain per temperature, errors from 50 blocks.",
            f"Sweeps of a member per factor of e at T = 1, more where it is colder: {sweeps}.",
            measured({name: next(iter(part.values())) for name, part in data.items()}),
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
