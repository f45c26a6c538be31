"""How much further in temperature does a flow carry a liquid than no flow? Effective sample sizes of the weights, N = 43 and 86.

    python benchmarks/liquid_flow_ess.py [--quick] [--seconds 300]

Equilibrium draws by swap Monte Carlo at every temperature (independent chains; two thirds of the chains to fit the flows, the
others to measure). The identity's weights are those of population annealing. Five seeds: chains, fits and measurements are all
new for each. Pieces are kept in .cache; repeat the command until all are done.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from record import record

from heatbath.kernels.particle_engine import ParticleEngine
from heatbath.models.torus_flow import RadialVelocity, TorusFlow
from heatbath.samplers.population_annealing import works
from heatbath.samplers.population_moves import STEP_SIZE
from heatbath.targets.liquids import Liquid, ternary_liquid
from heatbath.training.work_rate import between, fit_work_rate

TEMPERATURES = (1.0, 0.85, 0.72, 0.6, 0.5, 0.45, 0.4, 0.35)
COUNTS, SEEDS, CHAINS = (43, 86), range(5), 33


def equilibrium(liquid: Liquid, seed: int, *, records: int, thin: int) -> list[np.ndarray]:
    """Draws (chain, record, particle, d) at every temperature, by swap Monte Carlo cooled from T = 5."""
    engine = ParticleEngine(liquid, exchange_share=0.2)
    starts = jax.vmap(liquid.initial)(jax.random.split(jax.random.key(seed), CHAINS))
    chains, found = engine.begin(np.asarray(starts), seed + 1), []
    for t in np.geomspace(5, TEMPERATURES[0], 20):
        chains, _ = engine.run(chains, 1 / t, STEP_SIZE * np.sqrt(t), sweeps=50)
    for t in TEMPERATURES:
        chains, _ = engine.run(chains, 1 / t, STEP_SIZE * np.sqrt(t), sweeps=10 * thin)
        kept = []
        for _ in range(records):
            chains, _ = engine.run(chains, 1 / t, STEP_SIZE * np.sqrt(t), sweeps=thin)
            kept.append(chains.configurations)
        found.append(np.stack(kept, 1))
    return found


@eqx.filter_jit
def weights_of(liquid: Liquid, flow: TorusFlow | None, xs, before, after):
    """Work of every draw on the way from ``before`` to ``after``."""
    return works(liquid, flow, xs, jax.vmap(liquid.energy)(xs), before, after)[2]


def share(work: np.ndarray) -> float:
    """Effective sample size of exp(-work) over the number of draws."""
    weights = np.exp(-(work - work.min()))
    return float(weights.sum() ** 2 / (weights**2).sum() / len(work))


def steps_of(count: int, seed: int, *, records: int = 60, thin: int = 30) -> dict:
    """Of every step in temperature: effective shares and variances of the work, without a flow and with one."""
    liquid, began = ternary_liquid(count), time.perf_counter()
    ensembles = equilibrium(liquid, seed, records=records, thin=thin)
    training = CHAINS * 2 // 3
    velocity = RadialVelocity(len(liquid.counts), min(3.0, 0.4999 * liquid.length), radial=12, time=2)
    flat = [xs.reshape(-1, *xs.shape[2:]) for xs in (part[:training] for part in ensembles)]
    fits = [fit_work_rate(liquid, velocity, jnp.asarray(xs), 1 / t) for xs, t in zip(flat, TEMPERATURES, strict=True)]
    made = {}
    for k, (hot, cold) in enumerate(itertools.pairwise(TEMPERATURES)):
        xs = jnp.asarray(ensembles[k][training:].reshape(-1, *ensembles[k].shape[2:]))
        empty = TorusFlow(velocity, liquid.counts, liquid.length, 2)
        flow = between(empty, fits[k].weights, fits[k + 1].weights, 1 / cold - 1 / hot)
        works_of = [np.asarray(weights_of(liquid, f, xs, 1 / hot, 1 / cold)) for f in (None, flow)]
        made[f"{hot:g} to {cold:g}"] = {
            "share": [share(work) for work in works_of],
            "variance": [float(work.var(ddof=1)) for work in works_of],
        }
    return {"steps": made, "draws": [len(flat[0]), len(xs)], "seconds": time.perf_counter() - began}


def mean_of(values: list[float]) -> tuple[float, float]:
    """Mean and standard error over seeds."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def rows_of(count: int, runs: list[dict]) -> list[list[str]]:
    """A line per step in temperature, and the mean factor over the steps."""
    rows, factors = [], []
    for step in runs[0]["steps"]:
        shares = np.array([run["steps"][step]["share"] for run in runs])
        variances = np.array([run["steps"][step]["variance"] for run in runs])
        factors.append(shares[:, 1] / shares[:, 0])
        pairs = (shares[:, 0], shares[:, 1], factors[-1], variances[:, 1] / variances[:, 0])
        rows.append([str(count), step, *("{:.3g} ± {:.1g}".format(*mean_of(list(part))) for part in pairs)])
    overall = np.exp(np.log(factors).mean(0))
    return [*rows, [str(count), "geometric mean", "", "", "{:.3g} ± {:.1g}".format(*mean_of(list(overall))), ""]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short runs; prints, records nothing")
    parser.add_argument("--seconds", type=float, default=300.0, help="begin no new piece after this time")
    parser.add_argument("--work", type=Path, default=Path(".cache/liquid_flow_ess"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    began, missing, data, rows = time.monotonic(), [], {}, []
    options = {"records": 10, "thin": 10} if arguments.quick else {}
    for count in COUNTS:
        runs = []
        for seed in SEEDS:
            path = arguments.work / f"{count}-{seed}{'-quick' if arguments.quick else ''}.json"
            if not path.exists():
                if time.monotonic() - began > arguments.seconds:
                    missing.append(path.stem)
                    continue
                path.write_text(json.dumps(steps_of(count, seed, **options)))
            runs.append(json.loads(path.read_text()))
        if len(runs) == len(SEEDS):
            data[str(count)] = runs
            rows += rows_of(count, runs)
            for row in rows_of(count, runs):
                print(*row, sep="  ", flush=True)
    if missing:
        print(f"to do: {', '.join(missing)}; run the same command again")
    elif not arguments.quick:
        record(
            "liquid_flow_ess",
            title="Weights of one step in temperature, with a fitted flow and without (population annealing)",
            columns=["N", "T", "share, none", "share, flow", "factor", "variance of work left"],
            rows=rows,
            notes=[
                "Share: effective sample size of the weights over the number of draws. Errors are standard errors over 5 seeds.",
                "Flow: pairwise radial velocities (12 functions per pair of species), fitted by least squares to draws of other "
                "chains than those it is measured on.",
            ],
            data=data,
        )


if __name__ == "__main__":
    main()
