"""What does the mean energy of the supercooled liquid at T = 0.4 cost, to an error of 0.005 per particle, by every method?

    python benchmarks/liquid_costs.py [--quick] [--methods swap local dynamics tempering annealing flow ...] [--seconds 500]

N = 43, five seeds of independent units (chains, ladders, populations). The error is the root mean square distance from a long
swap Monte Carlo, so that what all units get wrong together counts: for chains it depends on how long they are, and the cheapest
length is taken. Starts, cooling, warm-up, pilot, fits and passes of a flow are counted. Pieces (one seed of one method) are kept
in .cache; repeat the command until all are done. The populations go on to T = 0.35, for which they are not charged.
``--methods flow --slower 8`` makes the slower populations that liquid_reference.py compares (``--populations .cache/liquid_costs/slower-8``).
"""

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from liquid_cost_model import CHAINS, GOAL, SEEDS, TEMPERATURE, compare, tables
from record import record

from heatbath.experiments import liquid_stages, supercooled_liquid
from heatbath.kernels.particle_dynamics import ParticleDynamics
from heatbath.kernels.particle_engine import Chains, ParticleEngine
from heatbath.samplers.particle_chains import ParticleSampler
from heatbath.samplers.population_annealing import Level
from heatbath.samplers.population_moves import STEP_SIZE
from heatbath.targets.liquids import ternary_liquid

LIQUID = ternary_liquid()
#: A chain is cooled from T = 5 in this many sweeps, whatever moves it later; its records are averaged to this many blocks.
COOLING, BLOCKS = 3000, 200
#: Sweeps (or steps) of one chain or ladder. The time step of the dynamics is twice the usual one, which it bears (see the docs).
LENGTHS = {"swap": 20_000, "local": 12_000_000, "dynamics": 4_000_000, "tempering": 100_000}
TIME_STEP = 0.01
#: Rungs of the ladder, by factors of 1.22; a third of the exchanges are accepted.
LADDER = (0.4, 0.49, 0.6, 0.73, 0.89, 1.09)
#: Settings of the populations, the best of those tried (see the notes of the results).
POPULATION = {
    "populations": 4, "members": 60, "hottest": 5.0, "ratio": 1.08, "sweeps": 8000, "slowing": 1.5, "start_sweeps": 600,
}  # fmt: skip
#: What is different where dynamics moves the members.
BY_DYNAMICS = {"sweeps": 2000, "moves": "dynamics"}
FLOW = {"members": 100, "sweeps": 600, "ratio": 1.12, "radial": 8, "steps": 1}
POPULATIONS = ("annealing", "annealing-dynamics", "flow", "flow-dynamics")
MARKS = (0.35, 0.4, 0.5)
#: Lags in sweeps, or in steps of the dynamics (a sweep costs as many energies as four), at which the relaxation of U is looked at.
RELAXATION = {
    "local": {1.0: (50, 200, 500, 1000, 2000), 0.6: (50, 200, 1000, 3000, 6000), 0.4: (50, 200, 1000, 3000, 10_000)},
    "dynamics": {0.4: (200, 800, 4000, 12_000, 40_000)},
}


def cooled(count: int, seed: int) -> tuple[Chains, float]:
    """Chains at T = 0.4 after ``COOLING`` sweeps of one-particle moves from T = 5, and the energies that took."""
    engine, evaluations = ParticleEngine(LIQUID), 0.0
    starts = jax.vmap(LIQUID.initial)(jax.random.split(jax.random.key(seed), count))
    chains = engine.begin(np.asarray(starts), seed + 1)
    for t in np.geomspace(5.0, TEMPERATURE, 30):
        chains, moved = engine.run(chains, 1 / t, STEP_SIZE * np.sqrt(t), sweeps=COOLING // 30)
        evaluations += moved.evaluations
    return chains, evaluations


def chains_of(method: str, seed: int, *, scale: float) -> dict:
    """Means of U/N in blocks (unit, block) of independent chains at T = 0.4, and what they cost."""
    began = time.process_time()
    chains, start = cooled(CHAINS, 1000 * seed)
    engine = ParticleDynamics(LIQUID) if method == "dynamics" else None
    engine = engine or ParticleEngine(LIQUID, exchange_share=0.2 if method == "swap" else 0.0)
    size = TIME_STEP if method == "dynamics" else STEP_SIZE * np.sqrt(TEMPERATURE)
    records = 5 * BLOCKS
    sweeps = max(1, round(scale * LENGTHS[method] / records))
    _, moved = engine.run(chains, 1 / TEMPERATURE, size, sweeps=sweeps, records=records)
    return {
        "blocks": (moved.energies.reshape(CHAINS, BLOCKS, -1).mean(2) / LIQUID.particles).tolist(),
        "start": start / CHAINS,
        "per_block": moved.evaluations / CHAINS / BLOCKS,
        "seconds": time.process_time() - began,
    }


def ladders_of(seed: int, *, scale: float) -> dict:
    """The same of ladders of replica exchange, offered every ten sweeps; the cost is that of all rungs."""
    began, each = time.process_time(), 10
    draws = BLOCKS * max(1, round(scale * LENGTHS["tempering"] / each / BLOCKS))
    sampler = ParticleSampler(
        LIQUID, 1 / np.array(LADDER), ladders=CHAINS, draws=draws, sweeps=each, warmup=COOLING // each, exchange=True,
        draws_per_chunk=BLOCKS,
    )  # fmt: skip
    carry, found, start = sampler.begin(jax.random.key(1000 * seed)), [], 0.0
    while not sampler.finished(carry):
        warm = int(carry.round) < sampler.warmup
        carry, chunk = sampler.advance(carry)
        if warm:
            start = float(carry.evaluations)
        else:
            found.append(chunk.arrays["energies"])
    energies = np.concatenate(found)[: draws // BLOCKS * BLOCKS, :, 0].T / LIQUID.particles
    return {
        "blocks": energies.reshape(CHAINS, BLOCKS, -1).mean(2).tolist(),
        "start": start / CHAINS,
        "per_block": (float(carry.evaluations) - start) / CHAINS / BLOCKS,
        "seconds": time.process_time() - began,
        "exchanges": (np.asarray(carry.swapped).mean(0) / np.maximum(1, carry.attempts)).tolist(),
    }


def populations_of(method: str, seed: int, *, scale: float, slower: int) -> dict:
    """U/N, c_V and ln Z ratios of independent populations at ``MARKS``, and what each cost until T = 0.4."""
    settings = POPULATION | (BY_DYNAMICS if method.endswith("-dynamics") else {})
    settings |= {
        "members": max(20, round(scale * settings["members"])),
        "sweeps": slower * settings["sweeps"],
    }
    config = supercooled_liquid.LiquidConfig(
        temperatures=(*MARKS, 1.0),
        population=supercooled_liquid.PopulationConfig(**settings),
        flow=supercooled_liquid.FlowConfig(**FLOW),
        chains=supercooled_liquid.ChainsConfig(time_step=TIME_STEP),
    )
    prepared, began, done, pilot = supercooled_liquid.prepare(config), time.process_time(), None, 0.0
    extra, carried = {}, method.startswith("flow")
    if carried:
        fitted = driven(liquid_stages.fits(prepared), 5000 + seed)
        done, pilot = {"flows": SimpleNamespace(carry=fitted)}, float(fitted.evaluations)
        remaining = np.asarray(fitted.variances)
        extra = {
            "pilot_seconds": time.process_time() - began,
            "remaining": (remaining[:, 0] / remaining[:, 1]).tolist(),
        }
    table = np.asarray(driven(liquid_stages.cooling(prepared, done), 7000 + seed).found)
    column = {name: table[:, :, index] for index, name in enumerate(Level._fields)}
    ratio = config.flow.ratio if carried else config.population.ratio
    levels = dict(zip(config.temperatures, liquid_stages.level_of(config, ratio), strict=True))
    paid = column["evaluations"][:, : levels[TEMPERATURE] + 1].sum(1)
    return extra | {
        "sweeps": settings["sweeps"],
        "energy": {f"{t:g}": (column["mean_energy"][:, levels[t]] / LIQUID.particles).tolist() for t in MARKS},
        "variance": {f"{t:g}": column["variance"][:, levels[t]].tolist() for t in MARKS},
        "log_z": {f"{t:g}": column["log_ratio"][:, : levels[t] + 1].sum(1).tolist() for t in MARKS},
        "rho": column["rho"][:, levels[TEMPERATURE]].tolist(),
        "ess": column["ess"].mean(0).tolist(),
        "evaluations": paid.mean(),
        "pilot": pilot,
        "share_charged": float(paid.sum() / column["evaluations"].sum()),
        "seconds": time.process_time() - began,
    }


def reference(*, scale: float) -> dict:
    """U/N by swap Monte Carlo, far longer than any of the methods: independent chains, the first fifth thrown away."""
    found = {}
    for t in MARKS:
        engine = ParticleEngine(LIQUID, exchange_share=0.2)
        chains, _ = cooled(16, 424_242)
        sweeps = round(scale * (100_000 if t == TEMPERATURE else 25_000))
        chains, _ = engine.run(chains, 1 / t, STEP_SIZE * np.sqrt(t), sweeps=sweeps // 5)
        _, moved = engine.run(chains, 1 / t, STEP_SIZE * np.sqrt(t), sweeps=sweeps // 2000 + 1, records=2000)
        means = moved.energies.mean(1) / LIQUID.particles
        spread = ((moved.energies - moved.energies.mean()) ** 2).mean(1) / (LIQUID.particles * t**2)
        found[f"{t:g}"] = {
            "energy": [float(means.mean()), float(means.std(ddof=1) / 4)],
            "capacity": [float(spread.mean()), float(spread.std(ddof=1) / 4)],
        }
    return found


def relaxation(*, scale: float) -> dict:
    """Autocorrelation of U from equilibrium, by moves and temperature: lags in sweeps or steps, values, errors over chains.

    60 chains that exchanged particles before; the mean is that of all records.
    """
    return {
        moves: {f"{t:g}": autocorrelation(moves, t, lags, scale=scale) for t, lags in by_temperature.items()}
        for moves, by_temperature in RELAXATION.items()
    }


def autocorrelation(moves: str, t: float, lags: tuple[int, ...], *, scale: float) -> list[list]:
    """That of one kind of moves at one temperature."""
    chains, _ = cooled(60, 77_000)
    exchanging, size = ParticleEngine(LIQUID, exchange_share=0.2), STEP_SIZE * np.sqrt(t)
    chains, _ = exchanging.run(chains, 1 / t, size, sweeps=max(1, round(scale * 3000)))
    engine = ParticleDynamics(LIQUID) if moves == "dynamics" else ParticleEngine(LIQUID)
    each, records = lags[0], max(8, round(scale * 1.5 * lags[-1] / lags[0]))
    _, moved = engine.run(chains, 1 / t, TIME_STEP if moves == "dynamics" else size, sweeps=each, records=records)
    own = moved.energies - moved.energies.mean()
    inside = [lag // each for lag in lags if lag // each < records]
    products = np.array([(own[:, : records - k] * own[:, k:]).mean(1) for k in inside]) / (own**2).mean()
    return [
        [k * each for k in inside],
        products.mean(1).tolist(),
        (products.std(1, ddof=1) / np.sqrt(len(own))).tolist(),
    ]


def driven(process, seed: int):
    """The last carry of a process."""
    carry = process.begin(jax.random.key(seed))
    while not process.finished(carry):
        carry, _ = process.advance(carry)
    return carry


def piece(method: str, seed: int, scale: float, slower: int) -> dict:
    """One seed of one method."""
    if method == "tempering":
        return ladders_of(seed, scale=scale)
    if method.startswith(("annealing", "flow")):
        return populations_of(method, seed, scale=scale, slower=slower)
    return chains_of(method, seed, scale=scale)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short runs; prints, records nothing")
    parser.add_argument("--methods", nargs="+", default=[*LENGTHS, *POPULATIONS])
    parser.add_argument("--no-relaxation", dest="relaxation", action="store_false", help="without the autocorrelation")
    parser.add_argument("--no-reference", dest="reference", action="store_false", help="only the pieces of --methods")
    parser.add_argument("--seconds", type=float, default=500.0, help="begin no new piece after this time")
    parser.add_argument("--slower", type=int, default=1, help="populations with so many times the sweeps; no table")
    parser.add_argument("--work", type=Path, default=Path(".cache/liquid_costs"))
    arguments = parser.parse_args()
    work = arguments.work / ("quick" if arguments.quick else "full")
    if arguments.slower > 1:
        work, arguments.reference = work.with_name(f"slower-{arguments.slower}"), False
    work.mkdir(parents=True, exist_ok=True)
    scale, began, missing, data = 0.02 if arguments.quick else 1.0, time.monotonic(), [], {}
    jobs = [(method, seed) for seed in SEEDS for method in arguments.methods]
    jobs = [("relaxation", None)] * (arguments.reference and arguments.relaxation) + jobs
    jobs = [("reference", None)] * arguments.reference + jobs
    for method, seed in jobs:
        path = work / (f"{method}.json" if seed is None else f"{method}-{seed}.json")
        if not path.exists():
            if time.monotonic() - began > arguments.seconds:
                missing.append(path.stem)
                continue
            once = {"reference": reference, "relaxation": relaxation}.get(method)
            made = once(scale=scale) if once else piece(method, seed, scale, arguments.slower)
            path.write_text(json.dumps(made))
        data.setdefault(method, []).append(json.loads(path.read_text()))
    if missing or not arguments.reference:
        print(f"to do: {', '.join(missing)}; run the same command again")
        return
    found = compare(data)
    rows, notes = tables(found)
    for row in rows:
        print(*row, sep="  ")
    print(*notes, sep="\n")
    if not arguments.quick:
        settings = {
            "lengths": LENGTHS,
            "ladder": LADDER,
            "population": POPULATION,
            "by_dynamics": BY_DYNAMICS,
            "flow": FLOW,
            "time_step": TIME_STEP,
        }
        record(
            "liquid_costs",
            title=f"Cost of U/N at T = {TEMPERATURE} to an error of {GOAL}, N = 43, everything counted",
            columns=["method", "energies", "seconds", "cheapest unit", "bias of that unit", "flows cheaper by"],
            rows=rows,
            notes=notes,
            data=found | {"settings": settings},
        )


if __name__ == "__main__":
    main()
