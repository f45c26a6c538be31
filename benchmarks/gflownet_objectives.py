"""How many energies each loss of a generative flow network needs: learned decompositions beside DB, SubTB and forward-looking flows.

    python benchmarks/gflownet_objectives.py [--quick] [--problems bag,mis,rna] [--seeds 5] [--work FOLDER]

Three problems: bags of 13 items of 7 kinds and maximal independent sets of a graph of 20 vertices, where the law of every network is
compared with the exact one by dynamic programming; and RNA words of 14 letters, where the best 100 words met are averaged (fitness, not
its power). Energies are few and gradient steps many. All methods have the same network, start and trajectories per round and per gradient
step: fresh and remembered ones, or for ``imagined`` fresh, remembered and unpaid ones. Each has the learning rate with which it was best on
a seed of its own. Every finished training is kept in FOLDER, so that a second call goes on where the first was stopped.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import numpy as np
from record import Pieces, record

from heatbath.experiments import energy_decomposition_gflownet as experiment
from heatbath.experiments.config import build
from heatbath.experiments.gflownet_problems import problem_of
from heatbath.experiments.gflownet_results import first_below
from heatbath.experiments.gflownet_stages import trainer

#: Detailed balance, slower than learned decompositions, is given more rounds by this factor.
PATIENCE = {"db": 2.5}
#: Methods: loss, and whether flows learn from imagined trajectories too.
METHODS = {
    "led-subtb, imagined": ("led-subtb", True),
    "led, imagined": ("led", True),
    "led-subtb": ("led-subtb", False),
    "led": ("led", False),
    "fl": ("fl", False),
    "subtb": ("subtb", False),
    "db": ("db", False),
}
#: Energies of the others are compared with those of this one.
FIRST = "led-subtb, imagined"
#: Learning rates to choose from, and the seed on which that is done.
RATES, TUNING = (3e-3, 1e-2), 100
#: Settings of each problem; what has to be reached, the hardest last; trajectories in a gradient step, and how many may be imagined.
PROBLEMS = {
    "bag": (
        {
            "problem": "bag",
            "bag": {"letters": 7, "size": 13, "needed": 7},
            "network": {"width": 128},
            "training": {"rounds": 400, "draws": 8, "updates": 16, "exploration": 0.2, "dropout": 0.1, "chunk": 10},
        },
        {"total variation 0.4": ("total_variation", 0.4), "total variation 0.3": ("total_variation", 0.3)},
        (192, 128),
    ),
    "mis": (
        {
            "problem": "independent-set",
            "graph": {"vertices": 20, "density": 0.15, "beta": 2.0},
            "training": {"rounds": 62, "draws": 4, "updates": 32, "potential_updates": 16, "chunk": 2},
        },
        {"total variation 0.1": ("total_variation", 0.1)},
        (112, 64),
    ),
    "rna": (
        {
            "problem": "rna",
            "rna": {"length": 14, "exponent": 32.0},
            "training": {"rounds": 300, "draws": 4, "updates": 16, "potential_updates": 8, "chunk": 5},
        },
        {"mean of best 100 above 0.80": ("top_mean", 0.80), "mean of best 100 above 0.84": ("top_mean", 0.84)},
        (64, 32),
    ),
}


def settings_of(name, method, rate, *, quick):
    """The training of a method for a problem."""
    settings, _, (batch, imagined) = json.loads(json.dumps(PROBLEMS[name]))
    training, imagined = settings["training"], imagined if METHODS[method][1] else 0
    rounds = 2 * training["chunk"] if quick else int(training["rounds"] * PATIENCE.get(method, 1))
    training |= {
        "rounds": rounds,
        "rate": rate,
        "imagined": imagined,
        "replay": batch - imagined - training["draws"],
    }
    return settings


def history(method, settings, seed):
    """The columns of one training."""
    config = experiment.check(build(experiment.Config, settings))
    prepared = experiment.prepare(config)
    process = trainer(prepared, {}, METHODS[method][0], seed)
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


def times(method, paid, runs):
    """Energies of a method by those of the first, seed by seed; where it never got to the goal, by all that it paid."""
    if np.isfinite(paid[method]).any():
        return spread(np.array(paid[method]) / np.array(paid[FIRST]))
    bounds = [run["calls"][-1] / value for run, value in zip(runs, paid[FIRST], strict=True) if np.isfinite(value)]
    return f"more than {min(bounds):.3g} ({len(bounds)} of {len(paid[FIRST])})" if bounds else "not reached"


def best_rate(runs, goal):
    """Of trainings by rate the one that paid least for the goal; where none got there, the one that came nearest."""
    column, limit = goal
    sign = 1.0 if column == "total_variation" else -1.0

    def order(rate):
        value = to_goal(runs[rate], column, limit)
        return (value if np.isfinite(value) else np.inf, sign * runs[rate][column][-1])

    return min(runs, key=order)


def at_energies(run, column, paid):
    """What a training had after so many energies."""
    return run[column][int(np.searchsorted(run["calls"], paid, side="right")) - 1]


def table(found, rates):
    """Rows of the table, and ratios of energies to those of the first method, seed by seed."""
    rows, ratios = [], {}
    for name, methods in found.items():
        settings, goals, _ = PROBLEMS[name]
        equal = settings["training"]["rounds"] * settings["training"]["draws"]
        for words, (column, limit) in goals.items():
            paid = {m: [to_goal(run, column, limit) for run in runs] for m, runs in methods.items() if m != "uniform"}
            for method, values in paid.items():
                runs = methods[method]
                ratios[f"{name}, {words}, {method}"] = (np.array(values) / np.array(paid[FIRST])).tolist()
                last = spread([at_energies(run, column, equal) for run in runs])
                rows.append(
                    [
                        name,
                        method,
                        f"{rates[name][method]:g}",
                        words,
                        spread(values),
                        times(method, paid, runs),
                        f"{last} after {equal}",
                    ]
                )
        if "uniform" in methods:
            top, many = ([run[column] for run in methods["uniform"]] for column in ("top_mean", "modes"))
            rows.append([name, "uniform", "", "mean of best 100", "", "", f"{spread(top)} after {equal}"])
            rows.append([name, "uniform", "", "good words met", "", "", f"{spread(many)} after {equal}"])
            for method, runs in methods.items():
                if method != "uniform":
                    many = spread([at_energies(run, "modes", equal) for run in runs])
                    rows.append([name, method, "", "good words met", "", "", f"{many} after {equal}"])
    return rows, ratios


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--keep", action="store_true", help="trainings are kept in FOLDER, and nothing is written to results/"
    )
    parser.add_argument("--work", type=Path, default=Path(".cache/gflownet_objectives"))
    arguments = parser.parse_args()
    quick, found, rates = arguments.quick, {}, {}

    def run(name, method, rate, seed):
        pieces = Pieces(None if quick else arguments.work / f"{name}-{method.replace(', ', '-')}-{rate:g}-{seed}.json")
        return pieces.get("history", lambda: history(method, settings_of(name, method, rate, quick=quick), seed))

    for name in arguments.problems.split(","):
        settings, goals, _ = PROBLEMS[name]
        hardest, rates[name] = list(goals.values())[-1], {}
        for method in METHODS:
            tried = {rate: run(name, method, rate, TUNING) for rate in (RATES[:1] if quick else RATES)}
            rates[name][method] = best_rate(tried, hardest)
        for seed in range(1 if quick else arguments.seeds):
            for method, rate in rates[name].items():
                found.setdefault(name, {}).setdefault(method, []).append(run(name, method, rate, seed))
            if name == "rna":
                calls = settings["training"]["rounds"] * settings["training"]["draws"]
                found[name].setdefault("uniform", []).append(uniform(settings, calls, seed))
    rows, ratios = table(found, rates)
    print(*rows, sep="\n")
    if quick or arguments.keep:
        return
    record(
        "gflownet_objectives",
        title="Energies that losses of generative flow networks need",
        columns=[
            "problem",
            "method",
            "rate",
            "goal",
            "energies to the goal",
            f"times those of {FIRST}",
            "at equal energies",
        ],
        rows=rows,
        notes=[
            f"{arguments.seeds} seeds; the same seed is the same start for all methods. Errors are standard errors over seeds.",
            "led, led-subtb: learned potentials with detailed and subtrajectory balance; imagined: flows learn from unpaid trajectories too; "
            "fl: detailed balance, looking ahead; subtb, db: energies at the end only.",
            "All methods pay one energy per object, fl one per step (13 for bags, 14 for words).",
            f"Rates: the better of {' and '.join(f'{rate:g}' for rate in RATES)} for each method, chosen on another seed by the hardest goal.",
            "Ratios are of seeds with each other, of those where both reached the goal. More than: never reached; all that was paid, by what "
            "the first paid, smallest over the seeds where that reached it.",
            f"db is given {PATIENCE['db']} times as many rounds; the rate of every method falls by a cosine over all its rounds.",
            f"Good words are better than 95 % of random ones. Settings: {json.dumps({name: p[0] for name, p in PROBLEMS.items()})}; "
            f"trajectories per gradient step, and of these imagined: {json.dumps({name: p[2] for name, p in PROBLEMS.items()})}.",
        ],
        data={"histories": found, "ratios": ratios, "rates": rates},
    )


if __name__ == "__main__":
    main()
