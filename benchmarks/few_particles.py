"""Does every sampler of liquids find the exact <U>, c_V and log Z of two and three particles?

    python benchmarks/few_particles.py [--quick] [--counts 3 2] [--methods ...] [--seconds 300]

Local and swap Monte Carlo, dynamics, parallel tempering, population annealing and the chain of flows at T = 1, and from T = 2 to 1,
against quadrature (Fourier sums), with standard errors of about 1e-4 per particle. No sampler is helped: chains begin at random,
and populations as chains at T = 2. Pieces are kept in .cache; repeat the command until all are done. What is not run again keeps
what the results have of it.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from record import earlier, measured, record, stamp

from heatbath.ensemble import Ensemble
from heatbath.estimators import mbar
from heatbath.kernels.particle_engine import ParticleEngine
from heatbath.models.torus_flow import RadialVelocity, TorusFlow
from heatbath.samplers.particle_chains import ParticleSampler
from heatbath.samplers.population_annealing import population_annealing
from heatbath.samplers.population_moves import ParticleSweeps
from heatbath.state import ThermoState
from heatbath.targets.liquids import Liquid, few_particles
from heatbath.training.work_rate import between, fit_path

COUNTS, BETAS, UNITS = (3, 2), (1.0, 0.5), 32
#: Largest displacement: the box is nearly empty, and a quarter of it or more is best.
STEP = 1.5
#: Options of the samplers of chains, with sweeps (steps) between records and records of every chain at every temperature.
OPTIONS = {
    "local Monte Carlo": ({}, 10, 200_000),
    "swap Monte Carlo": ({"exchange_share": 0.2}, 10, 200_000),
    "molecular dynamics": ({"moves": "dynamics", "time_step": 0.01}, 50, 400_000),
}
METHODS = (*list(OPTIONS)[:2], "parallel tempering", "population annealing", "chain of flows", "molecular dynamics")
#: Ladders side by side, and records of each, ten sweeps apart.
LADDERS, ROUNDS = 1024, 6000
#: Members of one population, sweeps at every temperature, and the temperatures on the way.
MEMBERS, SWEEPS, LEVELS = 40_000, 30, (0.7, 1.0)


def moments(liquid: Liquid, energies: np.ndarray) -> dict:
    """<U>/N, c_V and ln Z(1) / Z(2) from (draw, unit, temperature): value, standard error over units, exact value."""
    count, exact = liquid.particles, liquid.exact(BETAS[0])
    own = energies[:, :, 0]
    squares = ((own - exact.mean_energy) ** 2).mean(0) * BETAS[0] ** 2 / count
    logs = []
    for unit in range(energies.shape[1]):
        flat = energies[:, unit].T.reshape(-1)
        found = mbar(np.array(BETAS)[:, None] * flat, np.full(len(BETAS), len(energies)))
        logs.append(found.f_k[1] - found.f_k[0])
    return {
        "U/N": summed(own.mean(0) / count, exact.mean_energy / count),
        "c_V": summed(squares, exact.heat_capacity),
        "ln Z(T = 1) / Z(T = 2)": summed(np.array(logs), log_z_truth(liquid)),
    }


def summed(values: np.ndarray, truth: float) -> list[float]:
    """Mean, standard error over independent units, exact value."""
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), float(truth)]


def log_z_truth(liquid: Liquid) -> float:
    """ln Z(T = 1) / Z(T = 2)."""
    return float(liquid.log_z(BETAS[0]) - liquid.log_z(BETAS[1]))


def chains(liquid: Liquid, name: str, shorter: int) -> dict:
    """One of the methods of chains."""
    options, each, records = OPTIONS[name]
    sampler = ParticleSampler(liquid, BETAS, ladders=UNITS, draws=1, sweeps=each, warmup=200, **options)
    carry, found = sampler.begin(jax.random.key(1)), []
    while int(carry.round) < sampler.warmup:
        carry, _ = sampler.advance(carry)
    # All records are made in a few calls of the loops: without exchanges between temperatures there is nothing else to do.
    engine, state = sampler.engine(), sampler._chains(carry)
    betas = np.broadcast_to(sampler.betas, sampler.shape).reshape(-1)
    size = options["time_step"] if options.get("moves") == "dynamics" else STEP
    for _ in range(10):
        state, moved = engine.run(state, betas, size, sweeps=each, records=max(1, records // shorter // 10))
        found.append(np.moveaxis(moved.energies.reshape(*sampler.shape, -1), 2, 0))
    return moments(liquid, np.concatenate(found))


def ladders(liquid: Liquid, shorter: int) -> dict:
    """Parallel tempering between the two temperatures, many ladders side by side, in ``UNITS`` groups."""
    sampler = ParticleSampler(liquid, BETAS, ladders=LADDERS, draws=1, sweeps=10, warmup=40, exchange=True)
    carry, found = sampler.begin(jax.random.key(1)), []
    while int(carry.round) < sampler.warmup:
        carry, _ = sampler.advance(carry)
    carry = carry._replace(steps=np.full(sampler.shape, STEP))
    for _ in range(ROUNDS // shorter):
        carry, energies = sampler._round(carry)
        found.append(energies)
    grouped = np.stack(found).reshape(len(found), UNITS, LADDERS // UNITS, 2)
    return moments(liquid, np.moveaxis(grouped, 2, 1).reshape(-1, UNITS, 2))


@eqx.filter_jit
def initial(liquid: Liquid, keys: Any) -> Any:
    """Random starts, one per key."""
    return jax.vmap(liquid.initial)(keys)


def started(liquid: Liquid, members: int, seed: int) -> Ensemble:
    """A population at T = 2: a chain of 60 sweeps from a random start for every member."""
    engine = ParticleEngine(liquid)
    starts = initial(liquid, jax.random.split(jax.random.key(seed), members))
    state, _ = engine.run(engine.begin(np.asarray(starts), seed + 1), BETAS[1], STEP, sweeps=60)
    return Ensemble(jnp.asarray(state.configurations), np.zeros(members), ThermoState(BETAS[1]))


def flows(liquid: Liquid) -> list[TorusFlow]:
    """The maps between the levels, fitted to draws of separate chains at every level."""
    betas, draws = (BETAS[1], *LEVELS), []
    state, engine = started(liquid, 4000, 90_000), ParticleEngine(liquid)
    chains = engine.begin(np.asarray(state.samples), 90_001)
    for beta in betas:
        chains, _ = engine.run(chains, beta, STEP, sweeps=100)
        draws.append(jnp.asarray(chains.configurations))
    empty = TorusFlow(RadialVelocity(3, 3.0, radial=12, time=2), liquid.counts, liquid.length, 3)
    rates = fit_path(liquid, empty.velocity, draws, betas, ridge=1e-3)
    return [between(empty, rates[k].weights, rates[k + 1].weights, betas[k + 1] - betas[k]) for k in range(len(LEVELS))]


def populations(liquid: Liquid, shorter: int, *, flow: bool) -> dict:
    """Independent populations from T = 2 to 1 in two steps."""
    members, maps = MEMBERS // shorter, flows(liquid) if flow else None
    moves, exact, count = (
        ParticleSweeps(liquid, SWEEPS, step_size=STEP, records=6),
        liquid.exact(BETAS[0]),
        liquid.particles,
    )
    ratios, means, squares = [], [], []
    for seed in range(UNITS):
        start = started(liquid, members, seed)
        run = population_annealing(jax.random.key(seed + 500), liquid, start, LEVELS, moves=moves, maps=maps)
        level = run.levels[-1]
        ratios.append(np.exp(run.log_z_ratio - log_z_truth(liquid)))
        means.append(level.mean_energy / count)
        # About the exact mean; the variance of a level is over as many records as members have, three each.
        biased = level.variance * (1 - 1 / (3 * members))
        squares.append(BETAS[0] ** 2 * (biased + (level.mean_energy - exact.mean_energy) ** 2) / count)
    ratio = summed(np.array(ratios), 1.0)
    truth = log_z_truth(liquid)
    return {
        "U/N": summed(np.array(means), exact.mean_energy / count),
        "c_V": summed(np.array(squares), exact.heat_capacity),
        "ln Z(T = 1) / Z(T = 2)": [truth + float(np.log(ratio[0])), ratio[1] / ratio[0], truth],
    }


def rows_of(count: int | str, name: str, found: dict) -> list[list[str]]:
    """Lines of the table."""
    return [
        [str(count), name, what, f"{value:.5f} ± {error:.5f}", f"{truth:.5f}", f"{(value - truth) / error:+.1f}"]
        for what, (value, error, truth) in found.items()
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short runs; prints, records nothing")
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="how many particles")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no new piece after this time")
    parser.add_argument("--work", type=Path, default=Path(".cache/few_particles"))
    arguments = parser.parse_args()
    work = arguments.work / ("quick" if arguments.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    (kept, when), began, found_now, missing = earlier("few_particles"), time.monotonic(), {}, []
    stamps = kept.pop("measured", dict.fromkeys(kept, when))
    shorter = 200 if arguments.quick else 1
    for count in arguments.counts:
        liquid = few_particles(count)
        jobs: dict[str, Callable[[], dict]] = {
            name: partial(chains, liquid, name, shorter) for name in list(OPTIONS)[:2]
        }
        jobs["parallel tempering"] = partial(ladders, liquid, shorter)
        jobs["population annealing"] = partial(populations, liquid, shorter, flow=False)
        jobs["chain of flows"] = partial(populations, liquid, shorter, flow=True)
        jobs["molecular dynamics"] = partial(chains, liquid, "molecular dynamics", shorter)
        for name in arguments.methods:
            compute = jobs[name]
            path = work / f"{count} {name}.json"
            if not path.exists():
                if time.monotonic() - began > arguments.seconds:
                    missing.append(path.stem)
                    continue
                path.write_text(json.dumps(compute()))
            found_now[path.stem] = json.loads(path.read_text())
            for row in rows_of(count, name, found_now[path.stem]):
                print(*row, f"{time.monotonic() - began:.0f} s", sep="  ", flush=True)
    if missing:
        print(f"to do: {', '.join(missing)}; run the same command again")
    elif not arguments.quick:
        data, stamps = kept | found_now, stamps | dict.fromkeys(found_now, stamp())
        record(
            "few_particles",
            title="Few particles of the liquid at T = 1 by every sampler, against quadrature",
            columns=["N", "method", "quantity", "found", "exact", "deviation"],
            rows=[row for stem, found in data.items() for row in rows_of(*stem.split(" ", 1), found)],
            notes=[
                f"Errors are standard errors over {UNITS} independent chains, groups of ladders or populations; deviations in "
                "standard errors.",
                "Molecular dynamics has a time step of 0.01 and is biased by it.",
                "ln Z of chains by MBAR over the two temperatures; of populations by their weights.",
                measured(stamps),
            ],
            data=data | {"measured": stamps},
        )


if __name__ == "__main__":
    main()
