"""Binary digits and clothes under the NADE family, mixtures and Boltzmann machines: one table of likelihoods of the same test rows.

    python benchmarks/digits_likelihoods.py [--quick] [--data digits,fashion] [--models nade,...] [--seeds 1] [--work FOLDER] [--minutes 5]

``digits`` are 10 000 digits of MNIST (8000 / 1000 / 1000), ``fashion`` all of Fashion-MNIST (54 000 / 6000 / 10 000), grey values as
probabilities of a one, drawn once. Every finished training is kept in FOLDER as DATA-MODEL-SEED.json and a second call goes on;
pieces named so by other programs (restricted and deep Boltzmann machines) come into the table as they are, and rows of the results
that FOLDER does not hold stay. Sizes are such that a training takes some minutes of one core. What is costly per row is evaluated
on the first test rows only, and NADE on the same rows is shown beside it.
"""

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import equinox as eqx
import jax
import numpy as np
from record import kept_rows, measured, record

from heatbath.experiments import nade, nade_stages
from heatbath.experiments.config import build, merge
from heatbath.io.density_data import bits_per_dimension, published
from heatbath.random import named_key

jax.config.update("jax_enable_x64", True)

#: Settings of every model: those of all, and those for one table.
MODELS = {
    "nade": {"training": {"steps": 3000, "rate": 2e-3, "validate_every": 200, "patience": 5}},
    "deep-nade": {
        "network": {"hidden": 500, "layers": 2},
        "training": {"steps": 30_000, "rate": 2e-3, "validate_every": 500, "patience": 8},
    },
    "conv-nade": {
        "network": {"hidden": 250, "layers": 1, "channels": 8},
        "training": {"steps": 3000, "rate": 3e-3, "validate_every": 100, "patience": 8},
    },
}
#: Settings of a model for one table, laid over those.
OWN = {
    ("fashion", "deep-nade"): {"training": {"steps": 20_000}},
    ("fashion", "conv-nade"): {"training": {"steps": 2000}},
}
#: Number of orders -> first test rows on which an ensemble of so many is evaluated.
ROWS = {
    ("digits", "deep-nade"): {1: 1000, 2: 1000, 16: 1000, 128: 200},
    ("fashion", "deep-nade"): {1: 1000, 2: 1000, 16: 500, 128: 150},
    ("digits", "conv-nade"): {1: 60, 2: 60, 16: 15},
    ("fashion", "conv-nade"): {1: 60, 2: 60, 16: 15},
}
#: Held-out rows that stop a training: all of them would take longer than the training.
HELD_OUT = {"nade": 1000, "deep-nade": 1000, "conv-nade": 200}
MIXTURES = {"digits": (50, 100, 200), "fashion": (100,)}
WORDS = {
    "nade": "NADE",
    "deep-nade": "EoNADE",
    "conv-nade": "ConvNADE",
    "bernoulli-mixture": "mixture of Bernoullis",
    "rbm": "RBM",
    "dbm": "DBM",
}
#: What the paper has for all of MNIST (50 000 training rows, pixels made binary once and for all by others), recalled.
RECALLED = (("NADE", 88.33), ("EoNADE, 2 layers, 128 orders", 85.10))


def settings(data, model, seed, *, quick):
    """The checked configuration of one training."""
    values = merge(
        {"data": {"name": data}, "seed": seed, "models": (model,), "baselines": (), "training": {"schedule": "cosine"}},
        MODELS[model],
        OWN.get((data, model), {}),
        {"training": {"steps": 4, "validate_every": 2}, "network": {"hidden": 10, "channels": 2}} if quick else {},
    )
    return nade.check(build(nade.Config, values))


def trained(data, model, seed, *, quick, keep):
    """Test likelihoods of one model, of orderless ones by numbers of orders; and the log densities of single rows.

    The model itself is kept in the file ``keep`` before anything is evaluated, and read from there if a call was cut off later.
    """
    config = settings(data, model, seed, quick=quick)
    prepared = nade.prepare(config)
    test, began = prepared.split.test, time.perf_counter()
    split = dataclasses.replace(prepared.split, valid=prepared.split.valid[: HELD_OUT[model]])
    process = nade_stages.trainer(split, config, model, prepared.key)
    carry = process.begin(prepared.key)
    if keep.exists():
        carry = eqx.tree_deserialise_leaves(keep, carry._replace(training=None))
        carry = carry._replace(training=process.begin(prepared.key).training, waited=process.patience)
    while not process.finished(carry):
        carry, chunk = process.advance(carry)
        print(
            f"  {data} {model} {seed}: {chunk.metrics['optimiser_step']:.0f} {chunk.metrics['validation_loss']:.2f}",
            flush=True,
        )
    eqx.tree_serialise_leaves(keep, carry._replace(training=None))
    made = {"valid": float(carry.best_loss), "steps": int(carry.best_step), "seconds": time.perf_counter() - began}
    best = process.trained(carry)
    if (data, model) not in ROWS:
        found = {1: nade_stages.log_probs(best, test[:20] if quick else test)}
    else:
        found = by_orders(best, prepared.key, test, dict.fromkeys((1, 2), 3) if quick else ROWS[data, model])
    return made | numbers(found) | {"total_seconds": time.perf_counter() - began}, found


def by_orders(model, key, test, rows):
    """Number of orders -> log densities of the first rows under the ensemble of so many; fewer orders are part of more."""
    orders = nade_stages.random_orders(named_key(key, "orders"), max(rows), test.shape[1])
    parts, first, found = [], 0, {}
    for last in sorted(rows):  # orders first .. last - 1 are needed on as many rows as the ensemble of ``last`` has
        few = test[: rows[last]]
        parts.append(
            np.concatenate(
                [
                    nade_stages.log_probs_by_order(model, orders[k : min(k + 4, last)], few)
                    for k in range(first, last, 4)
                ]
            )
        )
        first = last
        every = np.concatenate([part[:, : len(few)] for part in parts])
        found[last] = np.logaddexp.reduce(every, axis=0) - np.log(last)
    return found


def numbers(found):
    """What is kept of log densities of rows, by number of orders."""
    return {
        "test": {str(n): -float(values.mean()) for n, values in found.items()},
        "test_error": {str(n): float(values.std(ddof=1) / np.sqrt(len(values))) for n, values in found.items()},
        "test_rows": {str(n): len(values) for n, values in found.items()},
        "dimension": 784,
    }


def mixture(data, seed, *, quick):
    """Test likelihood of the mixture of Bernoullis that held-out rows choose."""
    split, began = published(data), time.perf_counter()
    few = 200 if quick else len(split.train)
    fits = {
        count: nade_stages.fit_bernoulli_mixture(split.train[:few], count, seed=seed, held_out=split.valid, patience=3)
        for count in ((5,) if quick else MIXTURES[data])
    }
    count = max(fits, key=lambda count: fits[count].valid.max())
    found = {1: nade_stages.log_probs(fits[count].model, split.test)}
    made = {"remark": f"{count} components", "valid": -float(fits[count].valid.max())}
    return made | numbers(found) | {"total_seconds": time.perf_counter() - began}, found


def pieces(work, prefix):
    """(data, model) -> one dict per seed, of everything that lies in the folder."""
    found = {}
    for data in ("digits", "fashion"):
        for model in WORDS:
            for path in sorted(work.glob(f"{prefix}{data}-{model}-[0-9]*.json")):
                rows = path.with_suffix(".npz")
                values = dict(np.load(rows)) if rows.exists() else {}
                found.setdefault((data, model), []).append(json.loads(path.read_text()) | {"rows": values})
    return found


def rows_of(found):
    """Rows of the table, and the numbers behind them."""
    rows, data = [], {}
    for (table, model), parts in found.items():
        compared = found.get((table, "nade"), [{"rows": {}}])[0]["rows"].get("1")
        for orders, error in parts[0]["test_error"].items():
            values = [part["test"][orders] for part in parts]
            mean = float(np.mean(values))
            of_seeds = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            text = f"{mean:.2f}" + (f" ± {of_seeds:.2g}" if of_seeds is not None else "")
            if "lower" in parts[0] and "upper" in parts[0]:
                bounds = (np.mean([part[end] for part in parts]) for end in ("lower", "upper"))
                text += " ({:.2f} to {:.2f})".format(*bounds)
            tested = parts[0].get("test_rows", 1000 if table == "digits" else 10_000)
            tested = int(tested[orders] if isinstance(tested, dict) else tested)
            beside = "" if compared is None or model == "nade" else f"{-compared[:tested].mean():.2f}"
            words = WORDS[model] + (
                f", {orders} order{'s' * (orders != '1')}" if model in ("deep-nade", "conv-nade") else ""
            )
            words += f", {parts[0]['remark']}" if parts[0].get("remark") else ""
            bits = f"{bits_per_dimension(mean, 784):.4f}"
            rows.append([table, words, len(parts), text, f"{error:.2g}", tested, beside, bits])
            seconds = float(np.mean([part["total_seconds"] for part in parts]))
            data[f"{table}, {model} {orders}"] = {"nll": values, "row_error": error, "rows": tested, "seconds": seconds}
    return rows, data


def with_earlier(rows, data):
    """Rows and numbers together with those of the results that were not measured since, in order, and the paper's."""
    every, models = kept_rows("digits_likelihoods", rows, data), list(WORDS)

    def place(key):
        table, model, orders = key.replace(",", "").split(" ")
        return table, models.index(model), int(orders)

    keys = sorted(every, key=place)
    rows, data = [every[key][0] for key in keys], {key: every[key][1] for key in keys}
    for words, nats in RECALLED:
        rows.append(
            [
                "all of MNIST",
                f"{words} (the paper, recalled)",
                "",
                f"{nats:.2f}",
                "",
                10_000,
                "",
                f"{bits_per_dimension(nats, 784):.4f}",
            ]
        )
    return rows, data


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", default="digits,fashion")
    parser.add_argument("--models", default="bernoulli-mixture,nade,deep-nade,conv-nade")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/digits-likelihoods"))
    arguments = parser.parse_args()
    work, prefix = arguments.work, "quick-" if arguments.quick else ""
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for seed in range(arguments.seeds):
        for model in filter(None, arguments.models.split(",")):
            for data in arguments.data.split(","):
                path = work / f"{prefix}{data}-{model}-{seed}.json"
                if path.exists() or time.monotonic() - began > 60 * arguments.minutes:
                    continue
                if model == "bernoulli-mixture":
                    made, rows = mixture(data, seed, quick=arguments.quick)
                else:
                    keep = path.with_suffix(".eqx")
                    made, rows = trained(data, model, seed, quick=arguments.quick, keep=keep)
                np.savez(path.with_suffix(".npz"), allow_pickle=False, **{str(n): values for n, values in rows.items()})
                path.write_text(json.dumps(made))
                print(path.stem, made, flush=True)
    rows, data = rows_of(pieces(work, prefix))
    if arguments.quick:
        print(*rows, sep="\n")
        return
    rows, data = with_earlier(rows, data)
    record(
        "digits_likelihoods",
        title="Binary digits and clothes: the NADE family, mixtures and Boltzmann machines",
        columns=[
            "data",
            "model",
            "seeds",
            "nats per image",
            "error by rows",
            "test rows",
            "NADE on these rows",
            "bits per pixel",
        ],
        rows=rows,
        notes=[
            "Negative log-likelihood of test images; ± is the standard error over seeds, 'error by rows' that over test rows of one seed.",
            "digits: 10 000 digits of MNIST, 8000 to train on; fashion: Fashion-MNIST, 54 000 to train on. Grey values are the "
            "probabilities of a one, drawn once for all models. Where fewer rows than all were evaluated they are the first ones; NADE "
            "on the same rows stands beside.",
            "Boltzmann machines: by annealed importance sampling of the partition function; in brackets the range by its bounds, where "
            "they were taken.",
            "Rows of all of MNIST are recalled from arXiv 1605.02226 and were not checked; they have 50 000 training rows and another "
            "draw of the pixels, and are not comparable with the digits here.",
            "Trainings are sized for minutes of one core: 500 hidden units (NADE), two layers of 500 (EoNADE), 8 channels beside one "
            "layer of 250 (ConvNADE).",
            measured(data),
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
