"""What the experiment nade found: likelihoods of test rows under every model and baseline, pictures, and the model directory."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.experiments import densities
from heatbath.experiments.convergence import Check
from heatbath.experiments.nade import MODELS
from heatbath.experiments.nade_stages import sizes, test_rows, trained
from heatbath.io import provenance
from heatbath.io.density_data import bits_per_dimension
from heatbath.io.models import ModelCard, save_model
from heatbath.io.run_directory import json_ready
from heatbath.io.tables import Split
from heatbath.models.nade import random_orders
from heatbath.random import named_key
from heatbath.training import parameter_count

#: Coordinates beyond which drawing with convolutions, one pass per coordinate, is left out of the report.
MOST_PIXELS_OF_CONVOLUTIONS = 100
#: Standard errors by which a model has to beat independent columns.
CLEAR = 4.5


def results(prepared: Any, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Section ``nade`` and a verdict; None before the first validation of a training."""
    config, split = prepared.config, prepared.split
    begun = [name for name in config.models if name in done and int(done[name].carry.looked)]
    if not begun:
        return None
    part: dict[str, Any] = {
        "data": data_facts(split, len(test_rows(prepared))),
        "models": [model_row(prepared, done, name) for name in begun],
        "baselines": baseline_rows(prepared, done),
        "pictures": pictures(prepared, done, begun[0]) if split.image is not None else None,
        "patience": config.training.patience,
    }
    part = json_ready(part)
    checks = [*_training_checks(part), *_likelihood_checks(part)]
    failed = [check for check in checks if not check.passed]
    finished = bool((run.record() or {}).get("finished")) or all(
        f"rows-{name}" in done and done[f"rows-{name}"].finished for name in config.models
    )
    if begun[0] == config.models[0] and done[begun[0]].finished:
        save(prepared, done, run, part["models"][0])
    return json_ready(
        {
            "target": {"name": f"density of {split.name}", "unit": "1", "dimension": split.dimension},
            "temperature": {"value": 1.0, "unit": "1", "beta": 1.0},
            "method": "exact likelihoods, one coordinate after another",
            "estimates": estimates(part),
            "nade": part,
            "verdict": {
                "converged": bool(checks) and not failed and finished,
                "reasons": [check.sentence for check in failed or checks],
                "checks": [dataclasses.asdict(check) for check in checks],
                "cautions": cautions(part),
            },
        }
    )


def data_facts(split: Split, tested: int) -> dict[str, Any]:
    """Name, source and sizes of the table."""
    return {
        "name": split.name,
        "source": split.source,
        "kind": split.kind,
        "columns": split.dimension,
        "rows": [len(split.train), len(split.valid), len(split.test)],
        "tested": tested,
        "image": split.image,
        "sha256": split.checksum,
        "log_volume": split.log_volume,
    }


def model_row(prepared: Any, done: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One model: its training, and the likelihood of the test rows once they have been evaluated."""
    stage = done[name]
    carry, process = stage.carry, stage.process
    row: dict[str, Any] = {
        "name": name,
        "words": MODELS[name].words,
        "parameters": parameter_count(process.trainer.model),
        "valid": float(carry.best_loss),
        "best_step": int(carry.best_step),
        "steps": int(carry.training.step),
        "skipped": int(carry.training.skipped),
        "finished": stage.finished,
        "ended_early": int(carry.waited) >= process.patience,
        "seconds": (stage.run.record() or {}).get("elapsed"),
        "history": process.history(carry),
    }
    values = evaluated(done, f"rows-{name}")
    if values is None:
        return row
    if not MODELS[name].orderless:
        return row | {"tests": [likelihood(values[0], prepared.split, 1)]}
    counts = sorted({count for count in prepared.config.evaluation.orders if count <= len(values)})
    tests = [likelihood(ensemble(values[:count]), prepared.split, count) for count in counts]
    own = {"nats": -float(values.mean()), "spread": float(values.mean(axis=1).std()) if len(values) > 1 else None}
    return row | {"tests": tests, "single_orders": own}


def evaluated(done: Mapping[str, Any], stage: str) -> np.ndarray | None:
    """The rows of log densities that a stage has computed; None before the first."""
    if stage not in done or not int(done[stage].carry.done):
        return None
    carry = done[stage].carry
    return np.asarray(carry.values, dtype=np.float64)[: int(carry.done)]


def ensemble(log_probs: np.ndarray) -> np.ndarray:
    """log of the mean over orders of the PROBABILITIES: (order, row) -> (row,)."""
    return np.logaddexp.reduce(log_probs, axis=0) - math.log(len(log_probs))


def likelihood(log_probs: np.ndarray, split: Split, orders: int) -> dict[str, Any]:
    """Mean negative log density of the rows, its standard error, and bits per coordinate where rows are binary."""
    nats, error = -float(log_probs.mean()), float(log_probs.std(ddof=1) / math.sqrt(len(log_probs)))
    made = {"orders": orders, "nats": nats, "standard_error": error}
    if split.kind == "binary":
        made["bits"] = bits_per_dimension(nats, split.dimension)
        made["bits_error"] = bits_per_dimension(error, split.dimension)
    return made


def baseline_rows(prepared: Any, done: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Likelihoods of the baselines that have been fitted so far."""
    values = evaluated(done, "baselines")
    if values is None:
        return []
    names = prepared.config.baselines[: len(values)]
    return [{"name": name, **likelihood(row, prepared.split, 1)} for name, row in zip(names, values, strict=True)]


def estimates(part: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line prints: the best number of each model."""
    made = {}
    for row in (*part["models"], *part["baselines"]):
        tests = row.get("tests") or ([row] if "nats" in row else [])
        if tests:
            last = tests[-1]
            orders = f", {last['orders']} orders" if last["orders"] > 1 else ""
            made[f"nats per row, {row['name']}{orders}"] = {
                "value": last["nats"],
                "standard_error": last["standard_error"],
                "unit": "1",
            }
    return made


# Pictures -------------------------------------------------------------------------------------------------------------
def pictures(prepared: Any, done: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Draws of the first model, and test images of which the lower half, or the noise of random pixels, is filled in.

    Images are strings of zeros and ones, row by row. Filling in needs every order, so it is of orderless models only.
    """
    count, split = prepared.config.evaluation.pictures, prepared.split
    slow = name == "conv-nade" and split.dimension > MOST_PIXELS_OF_CONVOLUTIONS
    if not count or slow or not done[name].finished:
        return None
    model = trained(done, name)
    keys = jax.random.split(named_key(prepared.key, "pictures"), count)
    made: dict[str, Any] = {"model": name, "image": split.image, "draws": _strings(_drawn(model, keys))}
    made["data"] = _strings(split.test[:count])
    if MODELS[name].orderless:
        rows = split.test[: max(1, min(count // 3, 8))]
        made["filled"] = [_filled(prepared, model, rows, which) for which in ("lower half", "three quarters at random")]
    return made


def _filled(prepared: Any, model: Any, rows: np.ndarray, which: str) -> dict[str, Any]:
    """Test images with a part hidden, and three exact draws of that part given the rest."""
    split, key = prepared.split, named_key(prepared.key, f"filled {which}")
    height, width = split.image
    if which == "lower half":
        seen = np.repeat(np.arange(height) < height // 2, width)[None].repeat(len(rows), axis=0)
    else:
        order = np.asarray(random_orders(key, len(rows), split.dimension))
        seen = np.argsort(order, axis=1) < split.dimension // 4
    keys = jax.random.split(key, (3, len(rows)))
    draws = [_completed(model, each, jnp.asarray(rows, jnp.int32), jnp.asarray(seen)) for each in keys]
    return {
        "which": which,
        "truth": _strings(rows),
        "seen": _strings(seen),
        "draws": [_strings(np.asarray(draw)) for draw in draws],
    }


@eqx.filter_jit
def _drawn(model, keys):
    return jax.lax.map(model.sample, keys, batch_size=64)


@eqx.filter_jit
def _completed(model, keys, rows, seen):
    def one(key, x, seen):
        key_order, key_draw = jax.random.split(key)
        return model.given(key_order, x, seen).sample(key_draw)

    return jax.vmap(one)(keys, rows, seen)


def _strings(images: Any) -> list[str]:
    return ["".join("1" if value else "0" for value in row) for row in np.asarray(images)]


# The model directory --------------------------------------------------------------------------------------------------
def save(prepared: Any, done: Mapping[str, Any], run: Any, row: Mapping[str, Any]) -> None:
    """``model/``: the first model, from which ``heatbath sample --model`` draws."""
    name, config, split = prepared.config.models[0], prepared.config, prepared.split
    tests = row.get("tests") or []
    training = {
        "command": " ".join(provenance.command_line()),
        "seed": config.seed,
        "steps": row["best_step"],
        "data": split.source or split.name,
        "data_sha256": split.checksum,
        "validation_loss": row["valid"],
    }
    training |= {"test_loss": tests[0]["nats"]} if tests else {}
    card = ModelCard(kind=name, sizes=sizes(config), target=densities.facts(split), temperature="1", training=training)
    save_model(run.path / "model", trained(done, name), card)


# The verdict ----------------------------------------------------------------------------------------------------------
def _training_checks(part: Mapping[str, Any]) -> list[Check]:
    made = []
    for row in part["models"]:
        end = "held-out rows" if row["ended_early"] else "the last step" if row["finished"] else "nothing yet"
        place = f"its best model is that of step {row['best_step']} of {row['steps']}"
        text = f"The training of {row['name']} was ended by {end}; {place}."
        good = row["finished"] and (row["ended_early"] or row["best_step"] < row["steps"])
        made.append(Check(f"training of {row['name']}", bool(good), text, row["best_step"], row["steps"]))
    return made


def _likelihood_checks(part: Mapping[str, Any]) -> list[Check]:
    """A model of rows must know more than their columns one by one; an ensemble no less than the mean of its members."""
    found = {row["name"]: row for row in part["baselines"]}
    made = []
    for row in part["models"]:
        tests = row.get("tests") or []
        if tests and "independent" in found:
            gain = found["independent"]["nats"] - tests[-1]["nats"]
            error = math.hypot(found["independent"]["standard_error"], tests[-1]["standard_error"])
            text = f"{row['name']} needs {gain:.4g} nats per row less than independent columns (error {error:.2g})."
            made.append(Check(f"gain of {row['name']}", gain > CLEAR * error, text, gain, CLEAR * error))
        if len(tests) > 1:
            falls = tests[0]["nats"] - tests[-1]["nats"]
            text = f"{tests[-1]['orders']} orders of {row['name']} need {falls:.4g} nats per row less than {tests[0]['orders']}."
            made.append(Check(f"orders of {row['name']}", falls > -tests[0]["standard_error"], text, falls))
    return made


def cautions(part: Mapping[str, Any]) -> list[str]:
    """What a reader should know although the numbers are right."""
    made = []
    best = _best(part["models"])
    for row in part["baselines"]:
        if best is not None and row["name"] != "independent" and row["nats"] < best:
            made.append(
                f"{row['name']}, a baseline, has the lower test likelihood loss: {row['nats']:.4g} against {best:.4g} nats."
            )
    if part["data"]["kind"] == "real":
        made.append(
            "Likelihoods are in units of standardised columns; for those in the table's own units add "
            f"{part['data']['log_volume']:.4g} nats per row."
        )
    if part["data"]["name"] in ("digits", "digits-8"):
        made.append(
            "These digits are not the full MNIST: published likelihoods of it are of other rows and more training data."
        )
    return made


def _best(rows: Sequence[Mapping[str, Any]]) -> float | None:
    values = [test["nats"] for row in rows for test in row.get("tests") or []]
    return min(values, default=None)
