"""From a target and data to a trainer of a generator, and from a training to a model directory and numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from heatbath.experiments import generator_builders, generators
from heatbath.experiments.training_data import TrainingData, facts
from heatbath.io import provenance
from heatbath.io.models import ModelCard, save_model
from heatbath.io.run_directory import RunDirectory, json_ready
from heatbath.random import named_key
from heatbath.training import AdamW, OneCycle, Trainer, WeightsAndLikelihood
from heatbath.training.objectives import MaximumLikelihood, Objective

#: Held-out configurations that a validation looks at.
HELD_OUT = 2000
#: Points of the training curve in the model card.
CURVE_POINTS = 200


def make_trainer(
    key: Key[Array, ""],
    target: Any,
    state: Any,
    train: Any,
    held_out: Any,
    *,
    kind: str,
    sizes: Mapping[str, Any],
    settings: Any,
) -> Trainer:
    """The trainer of a new model of ``kind`` on ``train`` (n, ...); ``settings`` is a ``TrainingConfig`` without "auto".

    Held-out configurations are prepared as training data are (a rotation, momenta), once and for all.
    """
    model = generators.build(kind, named_key(key, "model"), target, train, **sizes)
    augment = generator_builders.augmentation(model)
    held_out = held_out[:: max(1, len(held_out) // HELD_OUT)][:HELD_OUT]
    if augment is not None:
        held_out = jax.vmap(augment)(jax.random.split(named_key(key, "held out"), len(held_out)), held_out)
    schedule = OneCycle(settings.rate, settings.steps)
    return Trainer(
        model,
        objective(kind),
        train,
        steps=settings.steps,
        batch_size=settings.batch_size,
        optimiser=AdamW(schedule, second=0.95, decay=settings.decay, clip=settings.clip),
        ema=settings.ema,
        augment=augment,
        validation=WeightsAndLikelihood(
            generator_builders.extended_energy(model, target, state), held_out, settings.validation_draws
        ),
        validate_every=settings.validate_every,
        steps_per_chunk=settings.chunk,
    )


def objective(kind: str) -> Objective:
    """The objective that trains a kind of model on data."""
    if generators.get(kind).objective == "flow-matching":
        from heatbath.training.objectives.flow_matching import FlowMatching

        return FlowMatching()
    return MaximumLikelihood()


def model_card(prepared: Any, model: Any, training: Mapping[str, Any]) -> ModelCard:
    """The card of a trained model; ``prepared`` is what an experiment that trains has prepared."""
    config = prepared.config
    configuration = {name: value for name, value in dataclasses.asdict(config.target).items() if value}
    return ModelCard(
        kind=config.model.kind,
        sizes=config.model.sizes,
        target={**generators.describe_target(prepared.target), "configuration": configuration},
        temperature=config.temperature,
        steerable=generators.get(config.model.kind).steerable,
        centre_scale=generator_builders.centre_scale(model),
        training=training,
    )


def conclude(prepared: Any, stage: Any, data: TrainingData, run: RunDirectory) -> dict[str, Any]:
    """Write ``model/`` into the run directory and return its results, from a training that may not have ended yet."""
    trainer, carry = stage.process, stage.carry
    model = trainer.trained(carry)
    record = stage.run.record() or {}
    rows = read_metrics(stage.run)
    measured = measure(prepared, trainer, model)
    training = {
        "command": " ".join(run.read_json("provenance.json").get("argv") or []),
        "seed": prepared.config.seed,
        "steps": int(carry.step),
        "planned_steps": trainer.steps,
        "batch_size": trainer.batch_size,
        "seconds": round(float(record.get("elapsed", 0.0)), 1),
        "skipped": int(carry.skipped),
        "parameters": generator_builders.described(model)["parameters"],
        **facts(data),
        "metrics": measured,
        "versions": {"heatbath": provenance.heatbath.__version__, **provenance.package_versions()},
        "curve": curve(rows),
    }
    save_model(run.path / "model", model, model_card(prepared, model, training))
    finished = bool(record.get("finished"))
    return json_ready(_results(prepared, training, measured, finished=finished))


def measure(prepared: Any, trainer: Trainer, model: Any) -> dict[str, float]:
    """Efficiency of ``FINAL_DRAWS`` fresh draws, and likelihood and forward efficiency of the held-out data."""
    from heatbath.experiments.train import FINAL_DRAWS
    from heatbath.training.trainer import validated

    validation = trainer.validation
    assert isinstance(validation, WeightsAndLikelihood)
    final = dataclasses.replace(validation, draws=FINAL_DRAWS)
    found = validated(model, final, named_key(prepared.key, "final validation"))
    return {name: float(value) for name, value in found.items()}


def read_metrics(run: RunDirectory) -> list[dict[str, Any]]:
    """The lines of a training's metrics.jsonl."""
    import json

    if not run.metrics.exists():
        return []
    return [json.loads(line) for line in run.metrics.read_text().splitlines() if line.endswith("}")]


def curve(rows: list[dict[str, Any]], points: int = CURVE_POINTS) -> dict[str, list[float]]:
    """Loss by step and validation by step, thinned to about ``points`` numbers each; what is not finite is left out."""
    kept = [row for row in rows if row.get("loss") is not None]
    kept = kept[:: max(1, len(kept) // points)]
    seen: dict[int, dict[str, Any]] = {
        int(row["validation_step"]): row for row in reversed(rows) if (row.get("validation_step") or -1) >= 0
    }
    checked = [seen[step] for step in sorted(seen)]
    checked = checked[:: max(1, len(checked) // points)]
    result = {
        "step": [int(row["optimiser_step"]) for row in kept],
        "loss": [float(row["loss"]) for row in kept],
        "validation_step": [int(row["validation_step"]) for row in checked],
    }
    for name in ("validation_loss", "validation_ess", "validation_forward_ess"):
        values = [float(row[name]) for row in checked if row.get(name) is not None]
        if checked and len(values) == len(checked):
            result[name] = values
    return result


def _results(
    prepared: Any, training: Mapping[str, Any], measured: Mapping[str, float], *, finished: bool
) -> dict[str, Any]:
    from heatbath.experiments.analysis import _describe
    from heatbath.experiments.train import FINAL_DRAWS, LEAST_EFFICIENCY

    target, config = prepared.target, prepared.config
    efficiency = measured["validation_ess"]
    names = {"steps": "training_steps", "seconds": "training_seconds"}
    facts = ("parameters", "steps", "seconds", "seed", "batch_size", "configurations", "skipped")
    shown = {names.get(name, name): training[name] for name in facts}
    return {
        "target": _describe(target),
        "temperature": {
            "value": prepared.state.temperature(target.unit),
            "unit": "1" if target.unit == "1" else "K",
            "beta": float(prepared.state.beta),
        },
        "method": f"training of {config.model.kind}",
        "verdict": verdict(efficiency, measured, finished=finished, least=LEAST_EFFICIENCY),
        "generator": {
            "model": {"kind": config.model.kind, "size": config.model.size, "temperature": config.temperature, **shown},
            "ess": {
                "draws": FINAL_DRAWS,
                "raw": efficiency * FINAL_DRAWS,
                "fraction": efficiency,
                "forward_fraction": measured.get("validation_forward_ess"),
            },
            "training": training["curve"],
        },
        "estimates": _estimates(measured),
        "training": {name: value for name, value in training.items() if name not in ("curve", "metrics")},
    }


def _estimates(measured: Mapping[str, float]) -> dict[str, Any]:
    labels = {
        "validation_ess": "effective draws per draw",
        "validation_forward_ess": "effective draws per draw of the data",
        "validation_loss": "held-out negative log likelihood",
    }
    plain = {"standard_error": None, "unit": "1"}
    return {label: {"value": measured[name], **plain} for name, label in labels.items() if name in measured}


def verdict(efficiency: float, measured: Mapping[str, float], *, finished: bool, least: float) -> dict[str, Any]:
    """Whether the model may be used: trained to its end, and with weights that mean something."""
    reasons = []
    words = f"reweighted draws of the model are worth {100 * efficiency:.2g} % of independent ones"
    if not finished:
        reasons.append("The training has not come to its end.")
    if not efficiency >= least:
        reasons.append(f"{words[0].upper()}{words[1:]}; below {100 * least:g} % their averages would mean nothing.")
    converged = not reasons
    cautions = []
    forward = measured.get("validation_forward_ess")
    if converged and forward is not None and np.isfinite(forward) and forward < 0.2 * efficiency:
        cautions.append(
            f"Draws of the data are worth {100 * forward:.2g} % only: the model lacks something that the data hold."
        )
    return {
        "converged": converged,
        "reasons": reasons or [f"{words[0].upper()}{words[1:]}."],
        "checks": [],
        "cautions": cautions,
    }
