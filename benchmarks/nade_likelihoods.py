"""Test likelihoods of the NADE family on the papers' splits, beside mixtures fitted by expectation maximisation on the same rows.

    python benchmarks/nade_likelihoods.py [--quick] [--data dna,mushrooms,...] [--seeds 5] [--work FOLDER] [--minutes 5]

Hyperparameters were chosen by held-out rows of the first seed (of Parkinsons: of three folds of the first and third), whose
likelihoods of test rows were seen meanwhile; other seeds are not so touched. A seed fixes the start, the batches and the orders; of the tables of real numbers every seed is the mean over all ten folds. Every finished training is kept in
FOLDER. With --minutes the script stops before the first training that begins later; a second call goes on. Rows of the results
that FOLDER does not hold, or holds of fewer seeds, stay as they were measured before, with date and commit of then.
"""

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import jax
import numpy as np
from record import kept_rows, measured, record, stamp

from heatbath.experiments import nade, nade_stages
from heatbath.experiments.config import build, merge
from heatbath.io.density_data import DATA_SETS, bits_per_dimension
from heatbath.random import named_key

jax.config.update("jax_enable_x64", True)

ORDERS = (1, 2, 16, 128)
#: Tables of so many test rows that ensembles of 128 orders would take longer than the training.
FEWER_ORDERS = {"mushrooms": (1, 2, 16)}
#: Tables of real numbers; every seed after the first also has an order of its own, so that seeds together are an ensemble of orders.
_REAL = {"network": {"components": 20}, "training": {"rate": 2e-2, "schedule": "cosine", "ema": 0.995}}
#: Steps, weight decay, steps between validations and hidden units of each.
_RED, _WHITE, _PARKINSONS = (
    merge(
        _REAL,
        {"training": {"steps": steps, "decay": decay, "validate_every": every}, "network": {"hidden": hidden}},
    )
    for steps, decay, every, hidden in ((1500, 1.0, 50, 50), (3600, 0.5, 200, 50), (10_000, 0.1, 400, 100))
)
_LAPLACE = {"network": {"law": "laplace"}}
#: Names of the benchmark's own for models of the experiment.
BUILT_AS = {"rnade": "nade", "rnade-laplace": "nade"}
_MADE = {"network": {"layers": 1}, "training": {"decay": 1.0, "rate": 3e-4}}
#: Settings of every table, those of single models laid over them, and the models.
TABLES = {
    "dna": (
        {},
        {"nade": {"training": {"decay": 0.3}}, "deep-nade": {"network": {"layers": 1}}, "made": _MADE},
        ("nade", "deep-nade", "made"),
    ),
    "mushrooms": (
        {"training": {"validate_every": 100}},
        {"deep-nade": {"training": {"rate": 3e-3, "steps": 40_000}}},
        ("nade", "deep-nade", "made"),
    ),
    "nips": (
        {"training": {"validate_every": 12}},
        {"deep-nade": {"network": {"layers": 1}, "training": {"decay": 0.3}}, "made": _MADE},
        ("nade", "deep-nade", "made"),
    ),
    "red-wine": (_RED, {"rnade-laplace": _LAPLACE}, ("rnade", "rnade-laplace")),
    "white-wine": (_WHITE, {"rnade-laplace": _LAPLACE}, ("rnade", "rnade-laplace")),
    "parkinsons": (_PARKINSONS, {"rnade-laplace": _LAPLACE}, ("rnade", "rnade-laplace")),
}
#: Negative log-likelihoods that were set as goals before anything was trained.
GOALS = {
    ("dna", "nade"): 84.8,
    ("dna", "deep-nade 16"): 82.3,
    ("mushrooms", "nade"): 9.81,
    ("mushrooms", "deep-nade 16"): 9.69,
    ("nips", "nade"): 273.1,
    ("nips", "deep-nade 16"): 272.4,
    ("red-wine", "rnade"): 9.36,
    ("white-wine", "rnade"): 10.23,
    ("parkinsons", "rnade"): 0.90,
    ("dna", "bernoulli-mixture"): 97.5,
    ("mushrooms", "bernoulli-mixture"): 14.2,
    ("nips", "bernoulli-mixture"): 286.6,
}
WORDS = {
    "nade": "NADE",
    "deep-nade": "EoNADE",
    "made": "MADE",
    "rnade": "RNADE, normals",
    "rnade-laplace": "RNADE, Laplace laws",
    "bernoulli-mixture": "mixture of Bernoullis",
}
WORDS |= {
    "gaussian": "Gaussian",
    "factor-analysers": "mixture of factor analysers",
    "independent": "independent columns",
}


def settings(table, model, fold, seed, *, quick):
    """The checked configuration of one training."""
    shared, own, _ = TABLES[table]
    values = merge(
        {
            "data": {"name": table, "kind": DATA_SETS[table].kind, "fold": fold},
            "seed": seed,
            "models": (BUILT_AS.get(model, model),),
            "baselines": (),
        },
        shared,
        own.get(model, {}),
        {"training": {"steps": 40}} if quick else {},
    )
    return nade.check(build(nade.Config, values))


def training(table, model, fold, seed, *, quick):
    """Test likelihoods of one model, of orderless ones by numbers of orders."""
    config = settings(table, model, fold, seed, quick=quick)
    prepared = nade.prepare(config)
    split, began = prepared.split, time.perf_counter()
    if model in BUILT_AS:
        split = in_order(split, seed)
    process = nade_stages.trainer(split, config, config.models[0], prepared.key)
    carry = process.begin(prepared.key)
    while not process.finished(carry):
        carry, _ = process.advance(carry)
    made = {"valid": float(carry.best_loss), "steps": int(carry.best_step), "seconds": time.perf_counter() - began}
    best, test = process.trained(carry), split.test
    if model != "deep-nade":
        rows = {"1": nade_stages.log_probs(best, test)}
    else:
        counts = (1, 2) if quick else FEWER_ORDERS.get(table, ORDERS)
        orders = nade_stages.random_orders(named_key(prepared.key, "orders"), counts[-1], test.shape[1])
        every = np.concatenate(
            [nade_stages.log_probs_by_order(best, orders[k : k + 16], test) for k in range(0, len(orders), 16)]
        )
        rows = {str(n): np.logaddexp.reduce(every[:n], axis=0) - np.log(n) for n in counts}
        made["mean over orders"] = -float(every.mean())
    made["test"] = {n: -float(values.mean()) for n, values in rows.items()}
    made["test_error"] = {n: float(values.std(ddof=1) / np.sqrt(len(values))) for n, values in rows.items()}
    return made | {"total_seconds": time.perf_counter() - began, "dimension": split.dimension}, rows


def in_order(split, seed):
    """The table with its columns in the order of a seed: as they are for the first, at random for others."""
    columns = np.arange(split.dimension)
    if seed:
        columns = np.random.default_rng([seed, 31]).permutation(columns)
    parts = {part: getattr(split, part)[:, columns] for part in ("train", "valid", "test")}
    return dataclasses.replace(split, means=split.means[columns], scales=split.scales[columns], **parts)


def baseline(table, name, fold, seed, *, quick):
    """Test likelihood of a mixture or a normal."""
    config = settings(table, "nade", fold, seed, quick=True)
    prepared, began = nade.prepare(config), time.perf_counter()
    values = nade_stages.log_probs(
        nade_stages.baseline(prepared.split, config.evaluation, name, seed), prepared.split.test
    )
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    made = {"test": {"1": -float(values.mean())}, "test_error": {"1": error}, "dimension": prepared.split.dimension}
    return made | {"total_seconds": time.perf_counter() - began}, {"1": values}


def jobs(tables, seeds):
    """(table, model or baseline, fold, seed), the first seed of everything first."""
    for seed in range(seeds):
        for table in tables:
            controls = [n for n, kind in nade.BASELINES.items() if kind in ("", DATA_SETS[table].kind)]
            for name in (*TABLES[table][2], *controls):
                for fold in range(DATA_SETS[table].folds):
                    yield table, name, fold, seed


def collect(work, tables, seeds, prefix):
    """All finished results: (table, name) -> seed -> one dict per fold; seeds with missing folds are left out."""
    found = {}
    for table, name, fold, seed in jobs(tables, seeds):
        path = work / f"{prefix}{table}-{name}-{fold}-{seed}.json"
        if path.exists():
            piece = json.loads(path.read_text())
            if (rows := path.with_suffix(".npz")).exists() and name in BUILT_AS:
                piece["rows"] = np.load(rows)["1"]
            found.setdefault((table, name), {}).setdefault(seed, []).append(piece)
    return {
        key: {seed: parts for seed, parts in by_seed.items() if len(parts) == DATA_SETS[key[0]].folds}
        for key, by_seed in found.items()
    }


def with_ensembles(found):
    """Also, of models of one order whose seeds have orders of their own, the mean of the probabilities of all seeds."""
    made = dict(found)
    for (table, name), by_seed in found.items():
        if name in BUILT_AS and len(by_seed) > 1:
            parts = []
            for members in zip(*by_seed.values(), strict=True):  # the same fold of every seed
                rows = np.logaddexp.reduce([part["rows"] for part in members], axis=0) - np.log(len(members))
                test = {str(len(members)): -float(rows.mean())}
                error = {str(len(members)): float(rows.std(ddof=1) / np.sqrt(len(rows)))}
                seconds = sum(part["total_seconds"] for part in members)
                parts.append(members[-1] | {"test": test, "test_error": error, "total_seconds": seconds})
            made[table, f"{name}-ensemble"] = {0: parts}
    return made


def rows_of(found):
    """Rows of the table, and the numbers behind them."""
    rows, data = [], {}
    for (table, name), by_seed in with_ensembles(found).items():
        if not by_seed:
            continue
        for orders in next(iter(by_seed.values()))[0]["test"]:
            values = [np.mean([part["test"][orders] for part in parts]) for parts in by_seed.values()]
            parts = next(iter(by_seed.values()))
            of_rows = float(np.mean([part["test_error"][orders] for part in parts]))
            if len(parts) > 1:  # folds: the error of their mean
                of_rows = float(np.std([part["test"][orders] for part in parts], ddof=1) / np.sqrt(len(parts)))
            several = name == "deep-nade" or name.endswith("-ensemble")
            name = name.removesuffix("-ensemble")
            key = f"{name} {orders}" if several else name
            goal = GOALS.get((table, key))
            mean = float(np.mean(values))
            of_seeds = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            text = f"{mean:.3f}" + (f" ± {of_seeds:.2g}" if of_seeds is not None else "")
            binary = DATA_SETS[table].kind == "binary"
            bits = f"{bits_per_dimension(mean, parts[0]['dimension']):.4f}" if binary else ""
            met = "" if goal is None else ("yes" if round(mean, 2) <= goal else "no")
            if name == "bernoulli-mixture":
                met = "" if goal is None else f"{mean - goal:+.2f}"
            words = WORDS[name] + (f", {orders} order{'s' * (orders != '1')}" if several else "")
            rows.append([table, words, len(values), text, f"{of_rows:.2g}", bits, goal, met])
            seconds = float(np.mean([sum(part["total_seconds"] for part in p) for p in by_seed.values()]))
            last = list(by_seed.values())[-1][-1]
            when = {"date": last["date"], "commit": last["commit"]}
            data[f"{table}, {key}"] = {"nll": values, "row_error": of_rows, "goal": goal, "seconds": seconds} | when
    return rows, data


def with_earlier(rows, data):
    """Rows and numbers together with those of the results that have more seeds or were not measured since, in order."""
    every = kept_rows("nade_likelihoods", rows, data)
    tables, names = list(TABLES), list(WORDS)

    def ensemble(key):
        table, name = key.split(", ", 1)
        return f"{table}, {name.split(' ')[0]}" if " " in name and name.split(" ")[0] in BUILT_AS else None

    def place(key):
        table, name = key.split(", ", 1)
        return tables.index(table), names.index(name.split(" ")[0]), int(name.split(" ")[1]) if " " in name else 0

    known = {f"{table}, {name}" for table, (_, _, models) in TABLES.items() for name in (*models, *nade.BASELINES)}
    keys = sorted((key for key in every if " ".join(key.split(" ")[:2]) in known), key=place)
    # an ensemble of all seeds takes the place of smaller ones
    largest = {ensemble(key): key for key in keys if ensemble(key)}
    keys = [key for key in keys if not ensemble(key) or largest[ensemble(key)] == key]
    return [every[key][0] for key in keys], {key: every[key][1] for key in keys}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", default=",".join(TABLES))
    parser.add_argument("--models", default="")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/nade-likelihoods"))
    arguments = parser.parse_args()
    tables, work = arguments.data.split(","), arguments.work
    seeds, prefix = (1 if arguments.quick else arguments.seeds), "quick-" if arguments.quick else ""
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for table, name, fold, seed in jobs(tables, seeds):
        path = work / f"{prefix}{table}-{name}-{fold}-{seed}.json"
        late = time.monotonic() - began > 60 * arguments.minutes
        if path.exists() or late or (arguments.models and name not in arguments.models.split(",")):
            continue
        trains = name in nade.MODELS or name in BUILT_AS
        do = training if trains else baseline
        made, log_probs = do(table, name, fold, seed, quick=arguments.quick)
        np.savez(path.with_suffix(".npz"), allow_pickle=False, **log_probs)
        path.write_text(json.dumps(made | stamp()))
        print(
            path.stem,
            {key: made[key] for key in ("valid", "steps", "test", "total_seconds") if key in made},
            flush=True,
        )
    rows, data = rows_of(collect(work, TABLES, arguments.seeds, prefix))
    if arguments.quick:
        print(*rows, sep="\n")
        return
    rows, data = with_earlier(rows, data)
    record(
        "nade_likelihoods",
        title="Test likelihoods of the NADE family on published splits",
        columns=["table", "model", "seeds", "nats per row", "error by rows", "bits per column", "goal", "reached"],
        rows=rows,
        notes=[
            "Negative log-likelihood of the test rows; ± is the standard error over seeds, 'error by rows' that over test rows "
            "(over folds, where there are ten) of one seed.",
            "Training stops by the published validation rows. Tables of real numbers are in units of standardised columns.",
            "Goals are values recalled of the papers' tables (arXiv 1605.02226), set beforehand and not checked against them; for "
            "mixtures the difference is shown, because they only prove units and splits.",
            "Folds of red wine are the paper's own; those of white wine and Parkinsons are ours.",
            measured(data),
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
