"""Temperature-steerable flows: one flow trained at one (high) temperature, weighted at others, and used in replica exchange.

Stages: ``reference`` (replica exchange at the training temperature, unless ``data`` names a finished run), ``training``, one
stage of importance sampling for each temperature of ``inference.temperatures``, and two ladders from the coldest of them to the
training temperature: ``plain-exchange`` and ``flow-exchange`` (jumps and carried swaps). The report puts the free energy of the
second basin at every temperature beside its reference: exact where the target knows it, else that of the package, the
data folder or, at the training temperature, of the first stage; and round trips per energy evaluation beside the plain ladder's.

Method: Dibak et al., arXiv 2108.01590. Where this differs: the flow of a molecule acts on r^3 / 3 and -cos(theta), so that it is
exactly steerable in Cartesian space; torsions start from tabulated energies and entropies instead of a cut or a uniform law;
the force field has flexible bonds; molecules are weighted with a harmonic centre.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments import train
from heatbath.experiments.limits import check_counts
from heatbath.experiments.sample import AUTO
from heatbath.experiments.train import (
    ModelConfig,
    Prepared,
    TrainConfig,
    TrainingConfig,
    attached,
    attachments,
    extended,
)
from heatbath.units import parse_quantity

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

NAME = "temperature-steerable-flow"


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """What the flow is used for.

    temperatures: at which its draws are weighted, ``draws`` at each (``at_once`` in memory at once)
    ladders:      of each ladder of replica exchange; 0 leaves the exchange out
    rounds:       of moves and exchanges in production; ``warmup`` rounds before
    plain_rungs, flow_rungs: temperatures of either ladder; 0 for the usual number of the plain one
    """

    temperatures: tuple[str, ...] = ("300 K", "450 K", "600 K", "1000 K")
    draws: int = 50_000
    at_once: int = 500
    ladders: int = 16
    rounds: int = 1_000
    warmup: int = 500
    plain_rungs: int = 0
    flow_rungs: int = 3


@dataclasses.dataclass(frozen=True)
class SteerableConfig(TrainConfig):
    """Configuration of the experiment: that of ``heatbath train``, and the inference."""

    experiment: Literal["temperature-steerable-flow"] = NAME
    model: ModelConfig = dataclasses.field(default_factory=lambda: ModelConfig(kind="steerable-flow"))
    training: TrainingConfig = dataclasses.field(default_factory=lambda: TrainingConfig(steps=3_000, frames=100_000))
    inference: InferenceConfig = dataclasses.field(default_factory=InferenceConfig)


Config = SteerableConfig

_DIPEPTIDE = {
    "target": {"name": "alanine-dipeptide"},
    "temperature": "600 K",
    "sampler": {"samples": 100_000},
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": _DIPEPTIDE,
        # A model system with exact answers, in a minute or two.
        "double-well": {
            "target": {"name": "double-well", "parameters": {"barrier": 3.0, "dimension": 2}},
            "temperature": "1",
            "sampler": {"samples": 40_000},
            "training": {"steps": 3_000, "batch_size": 256, "rate": 3e-3, "frames": 40_000},
            "inference": {"temperatures": ("0.5", "0.75", "1", "1.5", "2"), "plain_rungs": 4, "rounds": 4_000},
        },
        # 20 couplings and 60 momenta with networks three layers deep, batch 1024: the sizes of the public reproduction
        "full": {
            **_DIPEPTIDE,
            "sampler": {"samples": 1_000_000},
            "model": {"kind": "steerable-flow", "sizes": {"layers": 20, "width": 128, "depth": 3}},
            "training": {"steps": 150_000, "batch_size": 1_024, "rate": 5e-4, "frames": 1_000_000, "chunk": 500},
            "inference": {"draws": 100_000, "at_once": 5_000, "ladders": 64, "rounds": 5_000},
        },
    }
)


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: SteerableConfig, base: Path | None = None) -> SteerableConfig:
    """Refuse what can be refused at once, and fill in what depends on the configuration alone."""
    inference = config.inference
    least = {"draws": 2, "at_once": 1, "rounds": 1, "warmup": 0, "ladders": 0}
    check_counts(inference, least, where="inference.")
    for name in ("plain_rungs", "flow_rungs"):
        if getattr(inference, name) == 1 or getattr(inference, name) < 0:
            raise InvalidArgumentError(f"inference.{name} is 0 or at least 2; found {getattr(inference, name)}")
    if not inference.temperatures:
        raise InvalidArgumentError("inference.temperatures needs at least one temperature")
    if config.model.kind == AUTO:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, kind="steerable-flow"))
    if config.model.kind != "steerable-flow":
        raise UsageError(f"{NAME} trains the model 'steerable-flow'; found {config.model.kind!r}.")
    checked = train.check(config, base)
    assert isinstance(checked, SteerableConfig)
    values = [parse_quantity(text, "temperature") for text in inference.temperatures]
    if len(set(values)) < len(values):
        raise InvalidArgumentError(f"inference.temperatures has one temperature twice; found {inference.temperatures}")
    if inference.ladders and min(values) >= parse_quantity(checked.temperature, "temperature"):
        raise InvalidArgumentError(
            "a ladder goes from the coldest of inference.temperatures up to the temperature of the training; found "
            f"{checked.temperature} and none below. Set inference.ladders=0 to leave the exchange out"
        )
    return checked


def title(config: SteerableConfig) -> str:
    """A short name for the run."""
    return train.title(config).replace("train-", "steerable-", 1)


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: SteerableConfig, base: Path | None = None) -> Prepared:
    """The objects of the first two stages; imports JAX."""
    return train.prepare(check(config, base), base)


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (*train.kernel_names(prepared), "flow", NAME)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """What the whole run will need."""
    from heatbath.experiments import steered
    from heatbath.samplers.records import dimension

    inference = prepared.config.inference
    size = dimension(prepared.target.space) + 3
    found = train.cost(prepared)
    ladders = [steered.exchange_cost(prepared, name) for name in steered.exchanges(prepared)]
    draws = len(inference.temperatures) * inference.draws
    added = {
        "energy_evaluations": draws + sum(cost.evaluations for cost in ladders),
        "memory_bytes": 0,
        "disk_bytes": 8 * size * draws + sum(cost.disk_bytes for cost in ladders),
    }
    return {name: None if value is None else value + added[name] for name, value in found.items()}


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Those of a training, then one per temperature, then the ladders."""
    from heatbath.experiments import steered
    from heatbath.experiments.stages import Stage

    molecule = prepared.target.unit != "1"
    units = {"energies": prepared.target.unit, **({"samples": "nm"} if molecule else {})}
    made = list(train.stages(prepared))
    for text in prepared.config.inference.temperatures:

        def weigh(done, text=text):
            return steered.importance_sampler(prepared, _model(done), text)

        made.append(Stage(stage_name(text), weigh, share=0.2, units=units))
    for name in steered.exchanges(prepared):

        def exchange(done, name=name):
            return steered.exchange_sampler(prepared, _model(done), name)

        made.append(Stage(name, exchange, share=0.7, units=units))
    return tuple(made)


def stage_name(temperature: str) -> str:
    """The stage of a temperature: "at-300-K"."""
    return "at-" + "-".join(temperature.split())


def _model(done: Mapping[str, Any]) -> Any:
    """The trained model: the moving average of the last checkpoint of the training."""
    training = done["training"]
    return training.process.trained(training.carry)


def drawn(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The ensemble of the coldest temperature that has draws; None before the first."""
    found = weighted(prepared, done)
    return found[min(found)].ensemble if found else None


def weighted(prepared: Prepared, done: Mapping[str, Any]) -> dict[float, Any]:
    """Temperature -> what its stage has drawn so far."""
    found = {}
    for text in prepared.config.inference.temperatures:
        sampled = done[stage_name(text)].sampled() if stage_name(text) in done else None
        if sampled is not None:
            found[parse_quantity(text, "temperature")] = sampled
    return found


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json: those of the training until there are draws, then those of all temperatures."""
    trained = train.results(prepared, done, run)
    found = weighted(prepared, done)
    if trained is None or not found:
        return trained
    from heatbath.experiments import steered

    return steered.results(prepared, _model(done), found, done, run, trained)
