"""What the experiment unbiased-boltzmann-machine found: likelihoods from both sides, meeting times, bias, the model directory."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.experiments import densities
from heatbath.experiments.convergence import Check
from heatbath.experiments.generator_training import read_metrics
from heatbath.experiments.machine_stages import BARS, bias_rows, is_summed, mixture, test_rows, trained
from heatbath.experiments.nade_results import data_facts, evaluated
from heatbath.experiments.unbiased_boltzmann_machine import RULES
from heatbath.io import provenance
from heatbath.io.models import ModelCard, save_model
from heatbath.io.run_directory import json_ready

#: Nats between the bounds of log Z beyond which a likelihood is not known.
WIDE = 1.0
#: Standard errors beyond which a gradient is biased.
FAR = 4.5
#: Gradients below which their spread is not known well enough to judge by it.
ENOUGH = 100
#: Share of pairs cut off beyond which the rule is no longer called unbiased.
CUT = 0.001


def results(prepared: Any, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Section ``machines`` and a verdict; None before the first chunk of a training."""
    config, split = prepared.config, prepared.split
    begun = [name for name in config.rules if name in done and int(done[name].carry.step)]
    if not begun:
        return None
    sizes = [split.dimension, *config.machine.hidden]
    part: dict[str, Any] = {
        "data": data_facts(split, len(test_rows(prepared))),
        "layers": sizes,
        "exact": is_summed(tuple(sizes)),
        "uniform": split.name == BARS,
        "training": dataclasses.asdict(config.training),
        "rules": [rule_row(prepared, done, name) for name in begun],
        "mixture": mixture_row(prepared) if any(f"rows-{name}" in done for name in begun) else None,
        "meetings": meeting_facts(prepared, done),
        "bias": bias_facts(done),
        "bias_draws": config.evaluation.bias_draws,
        "pictures": pictures(prepared, done),
    }
    part = json_ready(part)
    checks = [*_training_checks(part), *_bound_checks(part), *_bias_checks(part)]
    failed = [check for check in checks if not check.passed]
    ended = all(done[name].finished for name in begun) and "draws" in done and done["draws"].finished
    if done[begun[0]].finished:
        save(prepared, done, run, part["rules"][0])
    return json_ready(
        {
            "target": {"name": f"Boltzmann machine of {split.name}", "unit": "1", "dimension": sum(sizes)},
            "temperature": {"value": 1.0, "unit": "1", "beta": 1.0},
            "method": "contrastive divergence, with and without bias",
            "estimates": estimates(part),
            "machines": part,
            "verdict": {
                "converged": bool(checks) and not failed and ended,
                "reasons": [check.sentence for check in failed or checks],
                "checks": [dataclasses.asdict(check) for check in checks],
                "cautions": cautions(part),
            },
        }
    )


# Rows -----------------------------------------------------------------------------------------------------------------
def rule_row(prepared: Any, done: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One rule: its training and, once they have been evaluated, likelihoods of the test rows."""
    stage = done[name]
    history = _history(read_metrics(stage.run))
    row = {
        "name": name,
        "words": RULES[name],
        "steps": int(stage.carry.step),
        "skipped": int(stage.carry.skipped),
        "finished": stage.finished,
        "seconds": (stage.run.record() or {}).get("elapsed"),
        "history": history,
        "truncated": float(np.mean(history["truncated"])) if "truncated" in history else None,
        "truncated_last": history["truncated"][-1] if "truncated" in history else None,
        "meeting_time": history["meeting_time"][-1] if "meeting_time" in history else None,
    }
    values = evaluated(done, f"rows-{name}")
    if values is None or len(values) < 2:
        return row
    lower, lower_error, upper, upper_error = (float(value) for value in values[0, :4])
    clamped = values[1, : len(test_rows(prepared))]
    error = float(clamped.std(ddof=1) / math.sqrt(len(clamped)))
    return row | {
        "log_z": {"lower": lower, "lower_error": lower_error, "upper": upper, "upper_error": upper_error},
        # log Z from above makes the likelihood look worse: that side is the one that is quoted
        "nats": {"value": upper - float(clamped.mean()), "standard_error": math.hypot(error, upper_error)},
        "nats_by_lower": lower - float(clamped.mean()),
        "kl": upper - float(clamped.mean()) - math.log(len(clamped)),
    }


def _history(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Columns of a training's metrics, one number per chunk."""
    names = ("optimiser_step", "gradient_norm", "truncated", "meeting_time", "validation_step", "validation_loss")
    kept = [row for row in rows if "optimiser_step" in row]
    return {name: [row[name] for row in kept] for name in names if kept and name in kept[0]}


def mixture_row(prepared: Any) -> dict[str, Any] | None:
    """The mixture of Bernoullis on the same test rows."""
    values = mixture(prepared)
    if values is None:
        return None
    error = float(values.std(ddof=1) / math.sqrt(len(values)))
    return {
        "components": prepared.config.evaluation.mixture,
        "nats": {"value": -float(values.mean()), "standard_error": error},
    }


def meeting_facts(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Meeting times of coupled chains of the first machine; None before they have run."""
    values = evaluated(done, "meetings")
    if values is None or len(values) < 2:
        return None
    times, met = values[0], values[1] > 0
    return {
        "times": times,
        "longest": prepared.config.evaluation.longest,
        "mean": float(times.mean()),
        "median": float(np.median(times)),
        "largest": float(times.max()),
        "truncated": float((~met).mean()),
        "within_cap": float(((times <= prepared.config.training.cap) & met).mean()),
    }


def bias_facts(done: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bias of every estimator against the exact gradient of the tiny machine."""
    values = evaluated(done, "bias")
    if values is None:
        return []
    names = [name for name, _ in bias_rows()]
    columns = ("bias", "noise", "z", "variance")
    return [{"name": name, **dict(zip(columns, row, strict=True))} for name, row in zip(names, values, strict=False)]


def pictures(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Images of the data and of equally weighted draws, as strings of zeros and ones; None where rows are no images."""
    count, split = prepared.config.draws.pictures, prepared.split
    sampled = done["draws"].sampled() if "draws" in done else None
    if not count or sampled is None or split.image is None:
        return None
    ensemble = sampled.ensemble
    chosen = np.random.default_rng(prepared.config.seed).choice(ensemble.size, count, p=ensemble.weights().reshape(-1))
    visible = np.asarray(ensemble.samples)[chosen, : split.dimension]
    strings = [["".join(map(str, row)) for row in part] for part in (visible, split.test[:count])]
    return {"image": split.image, "draws": strings[0], "data": strings[1], "ess": ensemble.ess() / ensemble.size}


def estimates(part: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line prints: nats per test row of every rule."""
    made = {}
    for row in part["rules"]:
        if "nats" in row:
            made[f"nats per row, {row['name']}"] = {**row["nats"], "unit": "1"}
    if part["mixture"]:
        made["nats per row, mixture of Bernoullis"] = {**part["mixture"]["nats"], "unit": "1"}
    return made


# The model directory --------------------------------------------------------------------------------------------------
def save(prepared: Any, done: Mapping[str, Any], run: Any, row: Mapping[str, Any]) -> None:
    """``model/``: the machine of the first rule, from which ``heatbath sample --model`` draws by annealing."""
    config, split = prepared.config, prepared.split
    training = {
        "command": " ".join(provenance.command_line()),
        "seed": config.seed,
        "steps": row["steps"],
        "rule": row["name"],
        "data": split.source or split.name,
        "data_sha256": split.checksum,
    }
    sizes = {"hidden": list(config.machine.hidden), "levels": config.draws.levels}
    name = config.rules[0]
    card = ModelCard(
        kind=densities.BOLTZMANN_MACHINE, sizes=sizes, target=densities.facts(split), temperature="1", training=training
    )
    save_model(run.path / "model", trained(done, name), card)


# The verdict ----------------------------------------------------------------------------------------------------------
def _training_checks(part: Mapping[str, Any]) -> list[Check]:
    made = []
    for row in part["rules"]:
        text = f"{row['words'].capitalize()} made {row['steps']} updates, of which {row['skipped']} were not finite."
        made.append(
            Check(f"training, {row['name']}", bool(row["finished"] and not row["skipped"]), text, row["skipped"], 0)
        )
    return made


def _bound_checks(part: Mapping[str, Any]) -> list[Check]:
    made = []
    for row in part["rules"]:
        if "log_z" not in row or part["exact"]:
            continue
        gap = row["log_z"]["upper"] - row["log_z"]["lower"]
        text = f"The bounds of log Z of {row['name']} are {gap:.2g} nats apart (limit {WIDE:g})."
        made.append(Check(f"log Z, {row['name']}", abs(gap) <= WIDE, text, gap, WIDE))
    return made


def _bias_checks(part: Mapping[str, Any]) -> list[Check]:
    made = []
    for row in part["bias"]:
        if row["name"].startswith("unbiased") and part["bias_draws"] >= ENOUGH:
            text = f"The gradient by {row['name']} is {row['z']:.1f} standard errors from the exact one (limit {FAR})."
            made.append(Check(f"bias, {row['name']}", row["z"] <= FAR, text, row["z"], FAR))
    return made


def cautions(part: Mapping[str, Any]) -> list[str]:
    """What a reader should know although the numbers are right."""
    made = []
    for row in part["rules"]:
        if row["truncated_last"] is not None and row["truncated_last"] > CUT:
            made.append(
                f"At the end {100 * row['truncated_last']:.3g} % of the pairs of chains were cut off at "
                f"{part['training']['cap']} sweeps before they had met. The rule called unbiased was not unbiased there."
            )
        if row is not part["rules"][0] and "nats" in row and "nats" in (first := part["rules"][0]):
            error = math.hypot(row["nats"]["standard_error"], first["nats"]["standard_error"])
            if row["nats"]["value"] < first["nats"]["value"] - (0 if part["uniform"] else error):
                made.append(f"{row['words'].capitalize()} ends with a better likelihood than {first['words']}.")
    if part["mixture"] and "nats" in part["rules"][0]:
        gap = part["rules"][0]["nats"]["value"] - part["mixture"]["nats"]["value"]
        if gap > 0:
            made.append(f"A mixture of Bernoullis is better than the first machine by {gap:.3g} nats per row.")
    return made
