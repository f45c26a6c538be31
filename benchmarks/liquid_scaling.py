"""How does the cost of an independent sample of the liquid grow with its size? Swap Monte Carlo, parallel tempering, chain of flows.

    python benchmarks/liquid_scaling.py [--quick] [--seconds 300]

N = 43, 86 and 172 at T = 0.6. The cost of an independent sample is what has been paid, starts, warm-up, pilot and passes of the flow
included, times Var(mean of U over a unit) / Var(U), over the units (chains, ladders, populations) of five seeds. Rungs of ladders and
levels of populations lie closer in larger systems, by the square root of N. Pieces (one size, method and seed) are kept in .cache.
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from record import record

from heatbath.experiments import liquid_stages, supercooled_liquid
from heatbath.samplers.particle_chains import ParticleSampler
from heatbath.samplers.population_annealing import Level
from heatbath.targets.liquids import ternary_liquid

TEMPERATURE, HOTTEST, COUNTS, SEEDS, UNITS = 0.6, 1.2, (43, 86, 172), range(5), 2
METHODS = ("swap", "tempering", "flow")
#: Records of chains and ladders, ten sweeps apart; half as many before them are thrown away.
RECORDS = 600
#: A rung of the ladder and a level of the population at N = 43, as factors in temperature.
RUNG, LEVEL = 1.22, 1.12
POPULATION = supercooled_liquid.PopulationConfig(
    populations=UNITS, members=16, hottest=5.0, ratio=1.08, sweeps=2000, slowing=1.5, start_sweeps=600
)
FLOW = supercooled_liquid.FlowConfig(members=50, sweeps=300, ratio=LEVEL)


def spaced(ratio: float, count: int) -> float:
    """The factor between temperatures in a liquid of ``count`` particles."""
    return math.exp(math.log(ratio) * math.sqrt(43 / count))


def chains(method: str, count: int, seed: int, shorter: int) -> dict:
    """Chains by swap Monte Carlo, or ladders from ``TEMPERATURE`` to ``HOTTEST``."""
    rungs = 1 + math.ceil(math.log(HOTTEST / TEMPERATURE) / math.log(spaced(RUNG, count)))
    temperatures = np.geomspace(TEMPERATURE, HOTTEST, rungs) if method == "tempering" else np.array([TEMPERATURE])
    records = RECORDS // shorter
    sampler = ParticleSampler(
        ternary_liquid(count),
        1 / temperatures,
        ladders=UNITS,
        draws=records,
        sweeps=10,
        warmup=records // 2,
        exchange=method == "tempering",
        exchange_share=0.2 if method == "swap" else 0.0,
    )
    carry, found = sampler.begin(jax.random.key(100 * seed + 1)), []
    while not sampler.finished(carry):
        warm = int(carry.round) < sampler.warmup
        carry, chunk = sampler.advance(carry)
        if not warm:
            found.append(chunk.arrays["energies"][:, :, 0])
    energies = np.concatenate(found)
    return {
        "means": (energies.mean(0) / count).tolist(),
        "variance": float(energies.var() / count**2),
        "evaluations": float(carry.evaluations) / UNITS,
        "rungs": rungs,
    }


def populations(count: int, seed: int, shorter: int) -> dict:
    """Populations carried by flows; the pilot is paid by the populations of a seed together."""
    config = supercooled_liquid.LiquidConfig(
        particles=count,
        temperatures=(TEMPERATURE, 1.0),
        compared=TEMPERATURE,
        population=dataclasses.replace(POPULATION, sweeps=POPULATION.sweeps // shorter),
        flow=dataclasses.replace(FLOW, ratio=spaced(LEVEL, count)),
    )
    prepared = supercooled_liquid.prepare(config)
    fitted = driven(liquid_stages.fits(prepared), 300 + seed)
    done = {"flows": SimpleNamespace(carry=fitted)}
    table = np.asarray(driven(liquid_stages.cooling(prepared, done), 400 + seed).found)
    column = {name: table[:, :, index] for index, name in enumerate(Level._fields)}
    return {
        "means": (column["mean_energy"][:, -1] / count).tolist(),
        "variance": float(column["variance"][:, -1].mean() / count**2),
        "evaluations": float((column["evaluations"].sum() + fitted.evaluations) / UNITS),
        "levels": table.shape[1],
    }


def driven(process, seed: int):
    """The last carry of a process."""
    carry = process.begin(jax.random.key(seed))
    while not process.finished(carry):
        carry, _ = process.advance(carry)
    return carry


def cost_of(pieces: list[dict], variance: float) -> tuple[float, float]:
    """Energies and seconds per independent sample."""
    means = np.concatenate([piece["means"] for piece in pieces])
    share = means.var(ddof=1) / variance
    # The median, since the first piece of a process compiles.
    return tuple(share * float(np.median([piece[what] for piece in pieces])) for what in ("evaluations", "seconds"))


def summary(data: dict[str, dict[str, list[dict]]]) -> dict:
    """By size and method: cost of an independent sample with its error (of the logarithm, by leaving out seeds), means of U/N."""
    found = {}
    for count, methods in data.items():
        variance = float(np.mean([piece["variance"] for piece in methods["swap"]]))
        found[count] = {}
        for name, pieces in methods.items():
            whole = cost_of(pieces, variance)
            logs = np.log([cost_of(pieces[:k] + pieces[k + 1 :], variance) for k in range(len(pieces))])
            errors = np.sqrt((len(pieces) - 1) * logs.var(axis=0))
            means = np.concatenate([piece["means"] for piece in pieces])
            found[count][name] = {
                "evaluations": [whole[0], float(errors[0])],
                "seconds": [whole[1], float(errors[1])],
                "energy": [float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))],
            }
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short runs; prints, records nothing")
    parser.add_argument("--seconds", type=float, default=300.0, help="begin no new piece after this time")
    parser.add_argument("--work", type=Path, default=Path(".cache/liquid_scaling"))
    arguments = parser.parse_args()
    work = arguments.work / ("quick" if arguments.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    began, missing, data, shorter = time.monotonic(), [], {}, 20 if arguments.quick else 1
    for count in COUNTS:
        for method in METHODS:
            for seed in SEEDS:
                path = work / f"{count}-{method}-{seed}.json"
                if not path.exists():
                    if time.monotonic() - began > arguments.seconds:
                        missing.append(path.stem)
                        continue
                    start = time.process_time()
                    flow = method == "flow"
                    made = populations(count, seed, shorter) if flow else chains(method, count, seed, shorter)
                    made["seconds"] = (time.process_time() - start) / UNITS
                    path.write_text(json.dumps(made))
                data.setdefault(str(count), {}).setdefault(method, []).append(json.loads(path.read_text()))
    if missing:
        print(f"to do: {', '.join(missing)}; run the same command again")
        return
    found, rows = summary(data), []
    for count, methods in found.items():
        for name, one in methods.items():
            (energies, error), (seconds, _), (energy, spread) = one["evaluations"], one["seconds"], one["energy"]
            rows.append(
                [count, name, f"{energies:.2g} (± {error:.0%})", f"{seconds:.2g}", f"{energy:.4f} ± {spread:.4f}"]
            )
            print(*rows[-1], sep="  ")
    if not arguments.quick:
        record(
            "liquid_scaling",
            title=f"Cost of an independent sample of the liquid at T = {TEMPERATURE}, by its size",
            columns=["N", "method", "energies", "seconds", "U/N"],
            rows=rows,
            notes=[
                "Energies are sums over all N (N - 1) / 2 pairs, everything counted; seconds are of processor time. Errors are those "
                "of the logarithm, by leaving out one of 5 seeds of 2 chains, ladders or populations each.",
                "Where U/N is above that of swap Monte Carlo by more than its error, a method has not equilibrated at this length, and its "
                "cost is a lower bound.",
            ],
            data={"sizes": found, "temperature": TEMPERATURE},
        )


if __name__ == "__main__":
    main()
