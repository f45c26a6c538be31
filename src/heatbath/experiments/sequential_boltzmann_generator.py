"""Sequential Boltzmann generators: a flow trained by likelihood, reweighted, and annealed to the target by SMC.

Stages: ``reference`` (replica exchange, unless ``data`` names a finished run), ``training``, ``importance`` (self-normalised
importance sampling of the model's draws) and, unless ``inference.method`` is "snis", ``annealing`` (SMC along the geometric
path from the model to the target). The report compares the model alone, reweighted and annealed with a reference, each
distance beside its floor; the reference is the package's or the data folder's where there is one, so that the training has not
seen it, else the first stage's own draws.

Method and paper sizes: Tan et al., arXiv 2502.18462. Where this differs: the centre of mass is held by a normalised harmonic
term in the target instead of dividing by a chi law; the annealing reaches the target exactly, by Metropolis-adjusted or
weighted Langevin moves at levels of equal conditional effective size; no weight is dropped and no energy is cut off; mirror
images have weight zero.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import UsageError
from heatbath.experiments import sample, train
from heatbath.experiments.limits import check_counts
from heatbath.experiments.train import Prepared, TrainConfig, attached, attachments, extended

__all__ = [
    "PRESETS",
    "Config",
    "attached",
    "attachments",
    "check",
    "cost",
    "drawn",
    "extended",
    "kernel_names",
    "prepare",
    "results",
    "stages",
    "title",
]

NAME = "sequential-boltzmann-generator"


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """From the model to weighted draws.

    method:     "snis" stops at importance sampling; "smc-mala" and "smc-ula" also anneal, by Metropolis-adjusted Langevin
                moves or by unadjusted ones with their path weight
    draws:      of importance sampling
    annealed:   particles of SMC, all populations together; ``particles`` in one population
    moves:      per particle and level
    at_once:    draws in memory at once; numbers do not depend on it
    transport:  draws of each side in optimal transport
    """

    method: Literal["snis", "smc-mala", "smc-ula"] = "smc-mala"
    draws: int = 10_000
    annealed: int = 2_000
    particles: int = 1_000
    moves: int = 1
    at_once: int = 500
    transport: int = 2_000


@dataclasses.dataclass(frozen=True)
class SequentialConfig(TrainConfig):
    """Configuration of the experiment: that of ``heatbath train``, and the inference."""

    experiment: Literal["sequential-boltzmann-generator"] = NAME
    inference: InferenceConfig = dataclasses.field(default_factory=InferenceConfig)


Config = SequentialConfig


def _paper(target: dict[str, Any], temperature: str, size: str, samples: int) -> dict[str, Any]:
    """A preset of the paper's size: 1000 epochs of 100 000 frames at batch 512, 10 000 particles. For a GPU."""
    return {
        "target": target,
        "temperature": temperature,
        "model": {"kind": "transformer-flow", "size": size},
        "sampler": {"samples": samples},
        "training": {
            "steps": 195_000,
            "batch_size": 512,
            "rate": 1e-4,
            "decay": 4e-4,
            "frames": 100_000,
            "validate_every": 5_000,
            "chunk": 500,
        },
        "inference": {"draws": 100_000, "annealed": 10_000, "particles": 10_000, "at_once": 2_000},
    }


_DIPEPTIDE = {"name": "alanine-dipeptide", "forcefield": "amber99sbildn-obc2"}
_FULL = _paper(_DIPEPTIDE, "300 K", "alanine-dipeptide", 200_000)

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {
            "target": _DIPEPTIDE,
            "temperature": "300 K",
            "model": {"kind": "transformer-flow", "size": "small"},
            "sampler": {"samples": 100_000},
        },
        "full": _FULL,
        "full-alanine-dipeptide": _FULL,
        "full-tripeptide": _paper({"sequence": "AAA", "forcefield": "amber14-obc1"}, "310 K", "tripeptide", 200_000),
        "full-tetrapeptide": _paper(
            {"sequence": "AAA", "capped": True, "forcefield": "amber99sbildn-obc2"}, "300 K", "tetrapeptide", 200_000
        ),
        "full-hexapeptide": _paper(
            {"sequence": "AAAAAA", "forcefield": "amber14-obc1"}, "310 K", "hexapeptide", 200_000
        ),
        "full-chignolin": _paper(
            {"sequence": "GYDPETGTWG", "forcefield": "amber14-obc1"}, "310 K", "chignolin", 200_000
        ),
    }
)


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: SequentialConfig, base: Path | None = None) -> SequentialConfig:
    """Refuse what can be refused at once, and fill in what depends on the configuration alone."""
    least = {"draws": 1, "annealed": 2, "particles": 2, "moves": 1, "at_once": 1, "transport": 1}
    check_counts(config.inference, least, where="inference.")
    if not sample.is_molecule(config.target):
        name = config.target.name
        raise UsageError(
            f"{NAME} is about molecules, and '{name}' is none. Of other systems: heatbath train {name} --out MODEL, then "
            f"heatbath sample {name} --method flow-smc --model MODEL."
        )
    checked = train.check(config, base)
    assert isinstance(checked, SequentialConfig)
    return checked


def title(config: SequentialConfig) -> str:
    """A short name for the run."""
    return train.title(config).replace("train-", "sbg-", 1)


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: SequentialConfig, base: Path | None = None) -> Prepared:
    """The objects of the first two stages; imports JAX."""
    return train.prepare(check(config, base), base)


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know: the moves of the reference, the kind of model, and the inference."""
    moves = {"snis": "flow", "smc-mala": "flow-smc", "smc-ula": "flow-smc"}[prepared.config.inference.method]
    return (*train.kernel_names(prepared), moves)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """What the whole run will need; energy evaluations of the annealing are those of 100 levels."""
    from heatbath.samplers.records import dimension

    inference = prepared.config.inference
    found = train.cost(prepared)
    annealed = 0 if inference.method == "snis" else inference.annealed * (1 + 100 * inference.moves)
    disk = 8 * (dimension(prepared.target.space) + 3) * (inference.draws + (inference.annealed if annealed else 0))
    added = {"energy_evaluations": inference.draws + annealed, "memory_bytes": 0, "disk_bytes": disk}
    return {name: None if value is None else value + added[name] for name, value in found.items()}


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Those of a training, then importance sampling, then annealing."""
    from heatbath.experiments.stages import Stage

    units = {"samples": "nm", "energies": prepared.target.unit}
    made = [
        *train.stages(prepared),
        Stage("importance", lambda done: _sampler(prepared, done, "snis"), share=0.5, units=units),
    ]
    method = prepared.config.inference.method
    if method != "snis":
        made.append(Stage("annealing", lambda done: _sampler(prepared, done, method), share=2.0, units=units))
    return tuple(made)


def _sampler(prepared: Prepared, done: Mapping[str, Any], method: str) -> Any:
    from heatbath.experiments.generator_builders import centre_scale
    from heatbath.experiments.generator_sampling import generator_sampler
    from heatbath.kernels import UnadjustedLangevin
    from heatbath.samplers.plan import default_kernel, plan_for

    inference, model = prepared.config.inference, _model(done)
    target, state = prepared.target, prepared.state
    kernel = None
    if method == "smc-ula":
        adjusted: Any = default_kernel("mala", target, state, plan_for(target), None)
        kernel = UnadjustedLangevin(0.5 * adjusted.step_size, adjusted.masses)
    return generator_sampler(
        target,
        state,
        model,
        centre_scale=centre_scale(model),
        samples=inference.draws if method == "snis" else inference.annealed,
        method="flow" if method == "snis" else "flow-smc",
        draws_at_once=inference.at_once,
        particles=inference.particles,
        kernel=kernel,
        steps=inference.moves,
    )


def _model(done: Mapping[str, Any]) -> Any:
    """The trained model: the moving average of the last checkpoint of the training."""
    training = done["training"]
    return training.process.trained(training.carry)


def drawn(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The ensemble of the last stage that has draws; None before the first."""
    sampled = _sampled(done, "annealing")[0] or _sampled(done, "importance")[0]
    return None if sampled is None else sampled.ensemble


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json: those of the training until there are draws, then those of the draws beside a reference."""
    trained = train.results(prepared, done, run)
    weighted, failure = _sampled(done, "importance")
    if trained is None or weighted is None:
        return _with_failure(trained, failure)
    from heatbath.experiments.analysis import analyse
    from heatbath.experiments.generator_builders import centre_scale
    from heatbath.experiments.generator_results import generator_section

    annealed, failure = _sampled(done, "annealing")
    config, model = prepared.config, _model(done)
    section = generator_section(
        prepared.target,
        weighted.ensemble,
        reference=_reference(prepared, done),
        smc=None if annealed is None else annealed.ensemble,
        proposal=model,
        centre_scale=centre_scale(model),
        model=trained["generator"]["model"],
        training=trained["generator"]["training"],
        transport=config.inference.transport,
        seed=config.seed,
    )
    answer = annealed or weighted
    found = analyse(
        prepared.target,
        prepared.state,
        answer,
        seed=config.seed,
        structures_dir=run.structures,
        generator=section,
    )
    return _with_failure({**found, "method": config.inference.method, "training": trained["training"]}, failure)


def _sampled(done: Mapping[str, Any], stage: str) -> tuple[Any, str]:
    """What a stage has drawn, or why nothing of it has any weight: earlier stages are an answer still."""
    from heatbath.errors import ConvergenceError

    try:
        return (done[stage].sampled() if stage in done else None), ""
    except ConvergenceError as error:
        return None, f"Stage {stage}: {error}"


def _with_failure(found: dict[str, Any] | None, failure: str) -> dict[str, Any] | None:
    if found is not None and failure:
        found["verdict"] |= {"converged": False, "reasons": [failure]}
    return found


def _reference(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """Draws of the target to compare with: those of the package or the data folder, else those of the first stage."""
    from heatbath.experiments.references import matching, of_ensemble

    temperature = prepared.state.temperature(prepared.target.unit)
    found = matching(prepared.target, temperature)
    if found is not None or "reference" not in done:
        return found
    sampled = done["reference"].sampled()
    if sampled is None or sampled.ensemble.axes != ("chain", "draw"):
        return None
    frames = min(20_000, int(prepared.config.sampler.samples))
    return of_ensemble(sampled.ensemble, frames, seed=prepared.config.seed, name="the data of the training")
