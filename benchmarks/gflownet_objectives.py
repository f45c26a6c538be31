"""How many energies each loss of a generative flow network needs: learned decompositions beside DB, SubTB and forward-looking flows.

    python benchmarks/gflownet_objectives.py [--quick] [--problems bag,mis,rna] [--seeds 5] [--work FOLDER]

Three problems: bags of 13 items of 7 kinds and maximal independent sets of a graph of 20 vertices, where the law of every network is
compared with the exact one by dynamic programming; and RNA words of 14 letters, where the best 100 words met are averaged (fitness, not
its power). All methods have the same network, start, learning rate, replay and number of trajectories. Every finished training is kept
in FOLDER, so that a second call goes on where the first was stopped. With fewer methods than all the results have a file of their own.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import numpy as np
from record import record

from heatbath.experiments import energy_decomposition_gflownet as experiment
from heatbath.experiments.config import build
from heatbath.experiments.gflownet_problems import problem_of
from heatbath.experiments.gflownet_results import first_below
from heatbath.experiments.gflownet_stages import trainer

#: Detailed balance, slower than learned decompositions, is given more rounds by this factor.
PATIENCE = {"db": 2.5}
METHODS = ("led", "led-subtb", "fl", "subtb", "db")
#: Settings of each problem, and what has to be reached.
PROBLEMS = {
    "bag": (
        {
            "problem": "bag",
            "bag": {"letters": 7, "size": 13, "needed": 7},
            "network": {"width": 128},
            "training": {"rounds": 750, "draws": 32, "replay": 64, "updates": 2, "rate": 3e-3, "chunk": 25},
        },
        {
            "total variation 0.5": ("total_variation", 0.5),
            "total variation 0.3": ("total_variation", 0.3),
            "60 % of modes": ("modes", 0.6),
            "90 % of modes": ("modes", 0.9),
        },
    ),
    "mis": (
        {
            "problem": "independent-set",
            "graph": {"vertices": 20, "density": 0.15, "beta": 2.0},
            "training": {"rounds": 500, "draws": 16, "replay": 32, "updates": 2, "rate": 3e-3, "chunk": 10},
        },
        {"total variation 0.1": ("total_variation", 0.1)},
    ),
    "rna": (
        {
            "problem": "rna",
            "rna": {"length": 14, "exponent": 8.0},
            "training": {"rounds": 200, "draws": 16, "replay": 32, "updates": 4, "rate": 3e-3, "chunk": 5},
        },
        {"mean of best 100 above 0.70": ("top_mean", 0.70)},
    ),
}


def history(name, settings, method, seed):
    """The columns of one training."""
    config = experiment.check(build(experiment.Config, settings))
    prepared = experiment.prepare(config)
    process = trainer(prepared, {}, method, seed)
    carry, began = process.begin(jax.random.key(seed)), time.perf_counter()
    while not process.finished(carry):
        carry, _ = process.advance(carry)
    rows = np.asarray(carry.history, dtype=np.float64)
    made = dict(zip(process.columns, rows.T.tolist(), strict=True))
    return made | {"seconds": time.perf_counter() - began, "skipped": int(carry.skipped)}


def uniform(settings, calls, seed):
    """Words drawn evenly: the mean of the best 100 of as many as the others paid for, and how many are modes."""
    config = experiment.check(build(experiment.Config, settings))
    prepared = experiment.prepare(config)
    watch = problem_of(prepared).watch("db")
    letters = np.random.default_rng([seed, 3]).integers(0, 4, (calls, config.rna.length))
    return watch.measure(None, watch.note(watch.begin(), letters + 1, prepared.target._energies(letters)))


def to_goal(columns, column, limit):
    """Energies to the goal; NaN when it was not reached."""
    values, sign = np.array(columns[column], dtype=float), 1.0 if column == "total_variation" else -1.0
    return first_below(np.array(columns["calls"]), sign * values, sign * limit)


def spread(values):
    """Mean and standard error over seeds as text; says how many did not get there."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return "not reached"
    error = f" ± {known.std(ddof=1) / np.sqrt(len(known)):.2g}" if len(known) > 1 else ""
    rest = "" if len(known) == len(values) else f" ({len(known)} of {len(values)})"
    return f"{known.mean():.4g}{error}{rest}"


def at_least(runs, paid):
    """Where a method never got to the goal: all it paid by what led paid, smallest over the seeds in which led got there."""
    bounds = [run["calls"][-1] / value for run, value in zip(runs, paid, strict=False) if np.isfinite(value)]
    return f"more than {min(bounds):.3g} ({len(bounds)} of {len(paid)})" if bounds else "not reached"


def table(found, goals):
    """Rows of the table, and ratios of energies to those of learned decompositions, seed by seed."""
    rows, ratios = [], {}
    for name in found:
        for words, (column, limit) in goals[name].items():
            paid = {
                m: [to_goal(run, column, limit) for run in runs] for m, runs in found[name].items() if m != "uniform"
            }
            for method, values in paid.items():
                ratio = np.array(values) / np.array(paid["led"])
                ratios[f"{name}, {words}, {method}"] = ratio.tolist()
                last = spread([run[column][-1] for run in found[name][method]])
                per = np.mean([run["calls"][-1] / run["trajectories"][-1] for run in found[name][method]])
                times = spread(ratio) if np.isfinite(values).any() else at_least(found[name][method], paid["led"])
                rows.append([name, method, words, f"{per:.3g}", spread(values), times, last])
        if "uniform" in found[name]:
            for column in ("top_mean", "modes"):
                rows.append(
                    [name, "uniform", column, "1", "", "", spread([run[column] for run in found[name]["uniform"]])]
                )
                rows += [
                    [name, method, column, "", "", "", spread([run[column][-1] for run in runs])]
                    for method, runs in found[name].items()
                    if method != "uniform"
                ]
    return rows, ratios


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--start", type=int, default=0, help="the first of the seeds")
    parser.add_argument(
        "--keep", action="store_true", help="trainings are kept in FOLDER, and nothing is written to results/"
    )
    parser.add_argument("--work", type=Path, default=Path(".cache/gflownet_objectives"))
    arguments = parser.parse_args()
    seeds, work = (1 if arguments.quick else arguments.seeds), arguments.work
    work.mkdir(parents=True, exist_ok=True)
    found = {}
    for seed in range(arguments.start, seeds):
        for name in arguments.problems.split(","):
            settings = json.loads(json.dumps(PROBLEMS[name][0]))
            if arguments.quick:
                settings["training"] |= {"rounds": 2 * settings["training"]["chunk"]}
            for method in arguments.methods.split(","):
                rounds = int(settings["training"]["rounds"] * PATIENCE.get(method, 1))
                chosen = settings | {"training": settings["training"] | {"rounds": rounds}}
                path = work / f"{'quick-' if arguments.quick else ''}{name}-{method}-{seed}.json"
                if not path.exists():
                    path.write_text(json.dumps(history(name, chosen, method, seed)))
                    print(path.stem, json.loads(path.read_text())["seconds"], flush=True)
                found.setdefault(name, {}).setdefault(method, []).append(json.loads(path.read_text()))
            if name == "rna":
                calls = settings["training"]["rounds"] * settings["training"]["draws"]
                found[name].setdefault("uniform", []).append(uniform(settings, calls, seed))
    if arguments.keep:
        return
    rows, ratios = table(found, {name: PROBLEMS[name][1] for name in found})
    print(*rows, sep="\n")
    if arguments.quick:
        return
    some = arguments.methods != ",".join(METHODS)
    record(
        "gflownet_led_db" if some else "gflownet_objectives",
        title="Energies that losses of generative flow networks need" + (", with more patience" if some else ""),
        columns=[
            "problem",
            "method",
            "goal",
            "energies per object",
            "energies to the goal",
            "times those of led",
            "at the end",
        ],
        rows=rows,
        notes=[
            f"{seeds} seeds; the same seed is the same start for all methods. Errors are standard errors over seeds.",
            "led, led-subtb: learned potentials with detailed and subtrajectory balance; fl: detailed balance, looking ahead; subtb, db: energies at the end only.",
            "Ratios are of seeds with each other, of those where both reached the goal. More than: never reached; all that was paid, by what "
            "led paid, smallest over the seeds where led reached it.",
            "fl draws as many objects as the others and pays for every step of each.",
            f"db is given {PATIENCE['db']} times as many rounds; the rate of every method falls by a cosine over all its rounds.",
        ],
        data={"histories": found, "ratios": ratios, "settings": {name: PROBLEMS[name][0] for name in found}},
    )


if __name__ == "__main__":
    main()
