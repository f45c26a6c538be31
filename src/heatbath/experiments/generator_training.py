"""From a target and data to a trainer of a generator, and from a training to a model directory and numbers."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from heatbath.estimate import Estimate
from heatbath.estimators import pareto_k
from heatbath.experiments import generator_builders, generators
from heatbath.experiments.training_data import TrainingData, facts
from heatbath.io import provenance
from heatbath.io.models import ModelCard, save_model
from heatbath.io.run_directory import RunDirectory, json_ready
from heatbath.random import named_key
from heatbath.training import AdamW, OneCycle, Trainer, WeightsAndLikelihood
from heatbath.training.objectives import MaximumLikelihood, Objective
from heatbath.training.self_improvement import draw_weighted
from heatbath.training.validation import efficiency, forward_efficiency

#: Held-out configurations that a validation looks at.
HELD_OUT = 2000
#: Points of the training curve in the model card.
CURVE_POINTS = 200
#: Draws from which the finished model's efficiency is measured.
FINAL_DRAWS = 10_000
#: Kish's efficiency below which reweighted draws of a model would mean nothing.
LEAST_EFFICIENCY = 0.01
#: Draws of the data worth less than this share of the model's own point to modes that the model lacks.
MISSING_MODES = 0.2


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
    model = generators.build(kind, named_key(key, "model"), target, train, beta=float(state.beta), **sizes)
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
        "command": _command(run.read_json("provenance.json").get("argv") or []),
        "seed": prepared.config.seed,
        "steps": int(carry.step),
        "planned_steps": trainer.steps,
        "batch_size": trainer.batch_size,
        "seconds": round(float(record.get("elapsed", 0.0)), 1),
        "skipped": int(carry.skipped),
        "parameters": generator_builders.described(model)["parameters"],
        **facts(data),
        "metrics": {name: float(estimate.value) for name, estimate in measured.items()},
        "versions": {"heatbath": provenance.heatbath.__version__, **provenance.package_versions()},
        "curve": curve(rows),
    }
    save_model(run.path / "model", model, model_card(prepared, model, training))
    finished = bool(record.get("finished"))
    return json_ready(_results(prepared, training, measured, finished=finished))


def _command(argv: Sequence[str]) -> str:
    """The command as one would type it; folders of this machine are left to the reader."""
    words = [Path(word).name if word.startswith("/") else word for word in argv]
    return " ".join(["heatbath", *(f'"{word}"' if " " in word else word for word in words[1:])])


def measure(prepared: Any, trainer: Trainer, model: Any) -> dict[str, Estimate]:
    """Efficiency of ``FINAL_DRAWS`` fresh draws, and likelihood and forward efficiency of the held-out data, with errors."""
    validation = trainer.validation
    assert isinstance(validation, WeightsAndLikelihood)
    assert validation.u is not None
    key = named_key(prepared.key, "final validation")
    _, drawn = draw_weighted(key, model, validation.u, FINAL_DRAWS, chunk=validation.chunk)
    drawn = np.asarray(drawn, np.float64)
    log_probs, held_out = (np.asarray(v, np.float64) for v in _of_data(model, validation))
    tail = pareto_k(drawn) if np.isfinite(drawn).any() else math.nan
    return {
        "validation_ess": _jackknife(efficiency, drawn, f"Kish, {FINAL_DRAWS} draws"),
        "validation_forward_ess": _jackknife(forward_efficiency, held_out, f"{held_out.size} held-out configurations"),
        "validation_loss": Estimate(
            float(-log_probs.mean()),
            float(log_probs.std(ddof=1) / math.sqrt(log_probs.size)),
            float(log_probs.size),
            f"{log_probs.size} held-out configurations",
        ),
        "pareto_k": Estimate(float(tail), math.nan, float(drawn.size), "tail of the weights"),
    }


@eqx.filter_jit
def _of_data(model: Any, validation: WeightsAndLikelihood) -> tuple[Array, Array]:
    """log q and log w = -u - log q of the held-out configurations."""
    assert validation.u is not None
    log_probs = jax.lax.map(model.log_prob, validation.held_out, batch_size=validation.chunk)
    return log_probs, -jax.lax.map(validation.u, validation.held_out, batch_size=validation.chunk) - log_probs


def _jackknife(function: Callable[[Array], Array], values: np.ndarray, method: str, blocks: int = 20) -> Estimate:
    """``function`` of all values with its error from leaving out one of ``blocks`` blocks at a time."""
    value = float(function(jnp.asarray(values)))
    blocks = min(blocks, values.size)
    parts = np.array_split(values, blocks)
    left_out = [float(function(jnp.asarray(np.concatenate([*parts[:i], *parts[i + 1 :]])))) for i in range(blocks)]
    error = math.sqrt((blocks - 1) * float(np.var(left_out)))
    return Estimate(value, error, float(values.size), method)


def read_metrics(run: RunDirectory) -> list[dict[str, Any]]:
    """The lines of a training's metrics.jsonl."""
    if not run.metrics.exists():
        return []
    return [json.loads(line) for line in run.metrics.read_text().splitlines() if line.endswith("}")]


def curve(rows: list[dict[str, Any]], points: int = CURVE_POINTS) -> dict[str, list[int] | list[float]]:
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
    prepared: Any, training: Mapping[str, Any], measured: Mapping[str, Estimate], *, finished: bool
) -> dict[str, Any]:
    from heatbath.experiments.analysis import describe

    target, config = prepared.target, prepared.config
    effective = float(measured["validation_ess"].value)
    names = {"steps": "training_steps", "seconds": "training_seconds"}
    facts = ("parameters", "steps", "seconds", "seed", "batch_size", "configurations", "skipped")
    shown = {names.get(name, name): training[name] for name in facts}
    return {
        "target": describe(target),
        "temperature": {
            "value": prepared.state.temperature(target.unit),
            "unit": "1" if target.unit == "1" else "K",
            "beta": float(prepared.state.beta),
        },
        "method": f"training of {config.model.kind}",
        "verdict": verdict(effective, float(measured["validation_forward_ess"].value), finished=finished),
        "generator": {
            "model": {"kind": config.model.kind, "size": config.model.size, "temperature": config.temperature, **shown},
            "ess": {
                "draws": FINAL_DRAWS,
                "raw": effective * FINAL_DRAWS,
                "fraction": effective,
                "forward_fraction": float(measured["validation_forward_ess"].value),
                "pareto_k": float(measured["pareto_k"].value),
            },
            "training": training["curve"],
        },
        "estimates": {label: measured[name].to_dict() for name, label in LABELS.items()},
        "training": {name: value for name, value in training.items() if name not in ("curve", "metrics")},
    }


#: What the measured numbers are called where people read them.
LABELS = {
    "validation_ess": "effective draws per draw",
    "validation_forward_ess": "effective draws per draw of the data",
    "validation_loss": "held-out negative log likelihood",
}


def verdict(effective: float, forward: float, *, finished: bool) -> dict[str, Any]:
    """Whether the model may be used: trained to its end, and with weights that mean something.

    ``effective`` is what a draw of the model is worth after reweighting, ``forward`` the same of a draw of the data.
    """
    reasons, cautions = [], []
    words = f"draws of the model are worth {100 * effective:.2g} % of independent ones"
    if not finished:
        reasons.append("The training has not come to its end.")
    if not effective >= LEAST_EFFICIENCY:
        reasons.append(f"Reweighted {words}; below {100 * LEAST_EFFICIENCY:g} % their averages would mean nothing.")
    if not reasons and np.isfinite(forward) and forward < MISSING_MODES * effective:
        cautions.append(f"Draws of the data are worth {100 * forward:.2g} % only: the model lacks what they hold.")
    return {
        "converged": not reasons,
        "reasons": reasons or [f"Reweighted {words}."],
        "checks": [],
        "cautions": cautions,
    }
