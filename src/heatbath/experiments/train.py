"""Training a generator for one system: reference data where none are given, training, and a model directory.

Stages: ``reference`` (replica exchange of the main job, unless ``data`` names a finished run), ``training``. The run ends with
``model/`` in its directory, from which ``heatbath sample --method flow --model RUN``
draws, and a report of how the training went.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments import generators, sample
from heatbath.experiments.config import Quantity
from heatbath.experiments.limits import check_counts
from heatbath.experiments.sample import AUTO, RunConfig, SamplerConfig, TargetConfig

#: Draws from which the finished model's efficiency is measured (``generator_training.FINAL_DRAWS``, read without JAX).
FINAL_DRAWS = 10_000


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which model: a kind of ``experiments/generators.py``, a named size, and settings of that size to change."""

    kind: str = AUTO
    size: str = generators.DEFAULT_SIZE
    sizes: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How it is trained. "auto" takes what goes well with the kind of model.

    ``rate`` is the highest learning rate of a one-cycle schedule, ``decay`` the weight decay, ``clip`` the largest gradient norm,
    ``held_out`` the share of the data that is not learnt. Every ``validate_every`` steps ``validation_draws`` draws are weighed.
    ``frames`` are the equally weighted configurations taken from the data. ``emphasis`` "basins" learns from every basin that
    the target names equally much, however rare it is: draws are weighed, so that answers do not change.
    """

    steps: int | Literal["auto"] = AUTO
    batch_size: int | Literal["auto"] = AUTO
    rate: float | Literal["auto"] = AUTO
    decay: float | Literal["auto"] = AUTO
    clip: float = 1.0
    ema: float = 0.999
    held_out: float = 0.1
    frames: int | Literal["auto"] = AUTO
    emphasis: Literal["none", "basins"] = "none"
    validate_every: int = 500
    validation_draws: int = 1000
    chunk: int = 50


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Configuration of ``heatbath train``. ``data`` is the directory of a finished run of ``heatbath sample``, or empty."""

    experiment: Literal["train"] = "train"
    seed: int = 0
    temperature: Annotated[str, Quantity("temperature", (AUTO,))] = AUTO
    data: str = ""
    target: TargetConfig = dataclasses.field(default_factory=TargetConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    sampler: SamplerConfig = dataclasses.field(default_factory=lambda: SamplerConfig(samples=50_000))
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = TrainConfig

_DEFAULTS = {"steps": 10_000, "batch_size": 512, "rate": 1e-3, "decay": 0.0}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {"sampler": {"samples": 5_000}, "training": {"steps": 1000, "validate_every": 250}},
        "default": {},
        "full": {"sampler": {"samples": 200_000}, "training": {"steps": 100_000, "validate_every": 5000}},
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The objects of one run, and its configuration with every choice made. ``reference`` prepares the first stage."""

    config: TrainConfig
    target: Any
    state: Any
    reference: Any
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: TrainConfig, base: Path | None = None) -> TrainConfig:
    """Refuse what can be refused at once, and fill in what depends on the configuration alone."""
    reference = sample.check(_reference(config), base)
    config = dataclasses.replace(config, temperature=reference.temperature, target=reference.target)
    molecule = sample.is_molecule(config.target)
    kind = generators.default_kind(molecule=molecule) if config.model.kind == AUTO else config.model.kind
    generators.check_kind(kind, molecule=molecule)
    sizes = generators.sizes_of(kind, config.model.size, config.model.sizes)
    training = _with_defaults(config.training, kind)
    _check_training(training)
    if config.data and not (Path(config.data) / "resolved.toml").is_file():
        raise UsageError(f"--data is the directory of a finished run of `heatbath sample`; found {config.data!r}.")
    model = dataclasses.replace(config.model, kind=kind, sizes=sizes)
    return dataclasses.replace(config, model=model, training=training)


def title(config: TrainConfig) -> str:
    """A short name for the run."""
    return f"train-{sample.title(_reference(config))}"


def attachments(config: TrainConfig) -> dict[str, Any]:
    """Files of the user that the run directory keeps a copy of."""
    return dict(sample.attachments(_reference(config)))


def attached(config: TrainConfig) -> TrainConfig:
    """The configuration that refers to the copies, and to the data by an absolute path."""
    target = sample.attached(_reference(config)).target
    return dataclasses.replace(config, target=target, data=str(Path(config.data).absolute()) if config.data else "")


def extended(config: TrainConfig, samples: str) -> TrainConfig:
    """A training is not extended: its learning rate has come to its end. Raises ``UsageError``."""
    raise UsageError(
        "a training ends with its schedule and cannot be extended. Train again with more: heatbath train ... --steps N"
    )


def _reference(config: TrainConfig) -> sample.SampleConfig:
    """The first stage as a configuration of ``heatbath sample``."""
    return sample.SampleConfig(
        seed=config.seed, temperature=config.temperature, target=config.target, sampler=config.sampler, run=config.run
    )


def _with_defaults(training: TrainingConfig, kind: str) -> TrainingConfig:
    chosen = {**_DEFAULTS, **generators.get(kind).training}
    found = {name: value for name, value in chosen.items() if getattr(training, name) == AUTO}
    return dataclasses.replace(training, **found)


def _check_training(training: TrainingConfig) -> None:
    counts = ("steps", "batch_size", "validate_every", "validation_draws", "chunk", "frames")
    check_counts(training, dict.fromkeys(counts, 1), where="training.")
    for name in ("rate", "clip"):
        if not getattr(training, name) > 0:
            raise InvalidArgumentError(f"training.{name} must be positive; found {getattr(training, name)}")
    for name in ("held_out", "ema"):
        if not 0 <= getattr(training, name) < 1:
            raise InvalidArgumentError(f"training.{name} is from 0 to below 1; found {getattr(training, name)}")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: TrainConfig, base: Path | None = None) -> Prepared:
    """Build the target, and the sampler of the reference where there are no data; imports JAX."""
    import jax

    from heatbath.state import at_temperature

    config = check(config, base)
    if config.data:
        target = sample.build_target(config.target, base)
        return Prepared(config, target, at_temperature(target, config.temperature), None, jax.random.key(config.seed))
    reference = sample.prepare(_reference(config), base)
    config = dataclasses.replace(config, sampler=reference.config.sampler)
    return Prepared(config, reference.target, reference.state, reference, reference.key)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """What both stages need; memory and disk of the training are those of its data and of a few copies of the model."""
    from heatbath.experiments.stages import total_cost
    from heatbath.samplers.base import Cost

    training = prepared.config.training
    validations = int(training.steps) // training.validate_every + 1
    evaluations = validations * training.validation_draws + FINAL_DRAWS
    costs = [Cost(evaluations, 2**30, 2**26)]
    if prepared.reference is not None:
        costs.insert(0, prepared.reference.sampler.cost())
    return total_cost(costs)


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """Names of the kernels of the reference's sampler, and the kind of model, for the bibliography."""
    kernels = () if prepared.reference is None else sample.kernel_names(prepared.reference)
    return (*kernels, prepared.config.model.kind)


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """The reference where it has to be made, then the training."""
    from heatbath.experiments.stages import Stage

    training = Stage("training", lambda done: trainer(prepared, _data(prepared, done)), share=3.0)
    if prepared.reference is None:
        return (training,)
    return (Stage("reference", lambda done: prepared.reference.sampler, units=prepared.reference.units), training)


def trainer(prepared: Prepared, data: Any) -> Any:
    """The training process on ``data`` (a ``TrainingData``)."""
    import jax.numpy as jnp

    from heatbath.experiments.generator_training import make_trainer

    config = prepared.config
    return make_trainer(
        prepared.key,
        prepared.target,
        prepared.state,
        jnp.asarray(data.train),
        jnp.asarray(data.held_out),
        kind=config.model.kind,
        sizes=config.model.sizes,
        settings=config.training,
    )


def _data(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The configurations to learn from: of the given run, or of the first stage."""
    from heatbath.experiments import training_data

    config = prepared.config
    frames = None if config.training.frames == AUTO else int(config.training.frames)
    if config.data:
        return training_data.from_run(Path(config.data), config, prepared.target, frames=frames)
    sampled = done["reference"].sampled()
    return training_data.from_ensemble(
        sampled.ensemble,
        frames or config.sampler.samples,
        held_out=config.training.held_out,
        molecule=sample.is_molecule(config.target),
        seed=config.seed,
        source="replica exchange of this run",
        emphasis=training_data.emphasis(config, prepared.target, sampled.ensemble),
    )


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Write ``model/`` and return every number of results.json; None while the training has not begun."""
    if "training" not in done:
        return None
    from heatbath.experiments.generator_training import conclude

    return conclude(prepared, done["training"], _data(prepared, done), run)
