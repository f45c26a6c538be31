"""Densities of tables, one coordinate after another: the NADE family beside mixtures, by exact likelihoods of rows held back.

Stages: one training per model, which stops by held-out rows, then the log densities of the test rows under each (orderless models
under several orders, whose mean of probabilities is an ensemble, EoNADE), then those under the baselines. The results give
negative log-likelihoods in nats and bits, pictures of draws and of completed images, and ``model/``, from which
``heatbath sample --model`` draws.

Method: arXiv 1605.02226. Where this differs: Adam with a moving average of the weights instead of plain gradient descent.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError, nearest
from heatbath.experiments import tables
from heatbath.experiments.limits import check_counts
from heatbath.experiments.sample import RunConfig
from heatbath.experiments.tables import DataConfig

NAME = "nade"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model that can be trained. ``orderless``: by missing dimensions, for every order at once; ``image``: it needs images."""

    words: str
    orderless: bool = False
    image: bool = False


#: name -> Kind
MODELS: Mapping[str, Kind] = MappingProxyType(
    {
        "nade": Kind("NADE, one order"),
        "deep-nade": Kind("DeepNADE, every order", orderless=True),
        "conv-nade": Kind("ConvNADE, every order", orderless=True, image=True),
        "made": Kind("MADE, one order"),
    }
)
#: name -> kind of table it fits ("" for any)
BASELINES: Mapping[str, str] = MappingProxyType(
    {"independent": "", "bernoulli-mixture": "binary", "gaussian": "real", "factor-analysers": "real"}
)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """``hidden`` units per layer; ``layers`` of them in orderless networks and MADE.

    Real columns have mixtures of ``components`` of the given ``law``. Convolutions have ``channels``.
    """

    hidden: int = 500
    layers: int = 2
    components: int = 10
    law: Literal["normal", "laplace"] = "normal"
    channels: int = 32


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Adam for at most ``steps`` batches, ended by ``patience`` validations in a row without a better one.

    The ``rate`` is "constant" or falls to zero in a "cosine" over the ``steps``, which helps when these are few.
    Validations come every ``validate_every`` steps, of orderless models four times as rarely, because their losses are noisier.
    ``decay`` pulls weights to zero; ``ema`` averages them (orderless models: over ten times as many steps).
    """

    steps: int = 20_000
    batch_size: int = 100
    rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    decay: float = 0.0
    ema: float = 0.99
    clip: float = 10.0
    validate_every: int = 40
    patience: int = 15


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Ensembles of the first ``orders`` random orders each; ``rows`` of the test part (0: all); ``pictures`` of images.

    ``mixture`` components of the mixture of Bernoullis and ``analysers`` of ``factors`` factors each of the mixture of factor
    analysers; 0 components are chosen among a few by held-out rows.
    """

    orders: tuple[int, ...] = (1, 2, 16)
    rows: int = 0
    pictures: int = 25
    mixture: int = 0
    analysers: int = 0
    factors: int = 4


@dataclasses.dataclass(frozen=True)
class DrawsConfig:
    """``samples`` draws of the first model, kept with the run."""

    samples: int = 1000


@dataclasses.dataclass(frozen=True)
class NadeConfig:
    """Configuration of the experiment. The first of ``models`` is the one that ``model/`` holds."""

    experiment: Literal["nade"] = NAME
    seed: int = 0
    models: tuple[str, ...] = ("deep-nade", "nade", "made")
    baselines: tuple[str, ...] = ("independent", "bernoulli-mixture")
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    draws: DrawsConfig = dataclasses.field(default_factory=DrawsConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = NadeConfig

_REAL: Mapping[str, Any] = {
    "models": ("nade", "made"),
    "baselines": ("independent", "gaussian", "factor-analysers"),
    "network": {"hidden": 50, "components": 20},
}


def _real(name: str, steps: int, decay: float, every: int) -> Mapping[str, Any]:
    """A preset for a table of real numbers; the smaller the table, the sooner it is learned by heart."""
    training = {"rate": 2e-2, "schedule": "cosine", "ema": 0.995}
    training |= {"steps": steps, "decay": decay, "validate_every": every}
    return {**_REAL, "data": {"name": name, "kind": "real"}, "training": training}


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {
            "network": {"hidden": 100, "layers": 1},
            "training": {"rate": 3e-3, "steps": 8000},
            "evaluation": {"mixture": 20},
        },
        "default": {"evaluation": {"orders": (1, 2, 16, 128)}},
        "dna": {"data": {"name": "dna"}, "network": {"layers": 1}},
        "mushrooms": {
            "data": {"name": "mushrooms"},
            "training": {"rate": 3e-3, "validate_every": 100, "steps": 40_000},
        },
        "nips": {
            "data": {"name": "nips"},
            "network": {"layers": 1},
            "training": {"decay": 0.3, "validate_every": 12},
        },
        "wine": _real("red-wine", 1500, 1.0, 50),
        "white-wine": _real("white-wine", 3600, 0.5, 200),
        "parkinsons": _real("parkinsons", 10_000, 0.3, 400),
        "digits": {
            "data": {"name": "digits"},
            "training": {"steps": 6000, "validate_every": 80},
            "evaluation": {"orders": (1, 2, 16), "mixture": 100},
        },
        "full": {
            "data": {"name": "fashion"},
            "models": ("deep-nade", "conv-nade", "nade", "made"),
            "network": {"hidden": 500, "layers": 2, "channels": 64},
            "training": {"steps": 500_000, "validate_every": 1000, "patience": 20},
            "evaluation": {"orders": (1, 2, 16, 128), "mixture": 500},
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The objects of one run."""

    config: NadeConfig
    split: Any
    key: Any
    #: the density of the first model before it has learned anything; what is drawn has its space
    target: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: NadeConfig, base: Path | None = None) -> NadeConfig:
    """Refuse what can be refused at once: numbers, names, and data that are not there."""
    check_counts(config, _LEAST)
    training = config.training
    if not training.rate > 0 or not training.clip > 0 or training.decay < 0 or not 0 <= training.ema < 1:
        raise InvalidArgumentError(
            "training.rate and training.clip are positive, training.decay >= 0, training.ema in [0, 1)"
        )
    orders = config.evaluation.orders
    if not orders or min(orders) < 1:
        raise InvalidArgumentError(f"evaluation.orders holds numbers of orders, at least 1 each; found {list(orders)}")
    _check_names(config)
    tables.check_table(config.data, base)
    return config


_LEAST: Mapping[str, int] = MappingProxyType(
    {
        "network.hidden": 1,
        "network.layers": 1,
        "network.components": 1,
        "network.channels": 1,
        "training.steps": 1,
        "training.batch_size": 1,
        "training.validate_every": 1,
        "training.patience": 1,
        "evaluation.rows": 0,
        "evaluation.pictures": 0,
        "evaluation.mixture": 0,
        "evaluation.analysers": 0,
        "evaluation.factors": 1,
        "draws.samples": 1,
        "data.fold": 0,
        "data.seed": 0,
    }
)


def _check_names(config: NadeConfig) -> None:
    if not config.models:
        raise InvalidArgumentError(f"models is empty; known are {', '.join(MODELS)}")
    if len(set(config.models)) < len(config.models):
        raise InvalidArgumentError(f"models holds a name twice: {', '.join(config.models)}")
    for name in config.models:
        if name not in MODELS:
            raise UsageError(f"models holds {name!r}. {nearest(name, MODELS)}")
    for name in config.baselines:
        if name not in BASELINES:
            raise UsageError(f"baselines holds {name!r}. {nearest(name, BASELINES)}")
        if BASELINES[name] not in ("", config.data.kind):
            raise UsageError(
                f"the baseline {name!r} is for {BASELINES[name]} tables; data.kind is {config.data.kind!r}"
            )


def title(config: NadeConfig) -> str:
    """A short name for the run."""
    return tables.title(NAME, config.data)


def attachments(config: NadeConfig) -> dict[str, Any]:
    """There are no files that are copied: tables may be large, and their checksum is in the results."""
    return {}


def attached(config: NadeConfig) -> NadeConfig:
    """The configuration with paths from the root, so that the run can be resumed from anywhere."""
    return dataclasses.replace(config, data=tables.rooted(config.data))


def extended(config: NadeConfig, samples: str) -> NadeConfig:
    """A training is not extended. Raises ``UsageError``."""
    raise UsageError("this experiment ends with its stages and cannot be extended; set training.steps for a new run")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: NadeConfig, base: Path | None = None) -> Prepared:
    """Read and check the data; imports JAX."""
    import jax

    from heatbath.experiments import densities, nade_stages

    config = check(config, base)
    split, key = nade_stages.read_data(config, base), jax.random.key(config.seed)
    model = nade_stages.untrained(split, config, config.models[0], key)
    return Prepared(config, split, key, densities.learned_target(model, densities.facts(split)))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (NAME, *prepared.config.models)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """No energies are asked for; memory and disk of models and log densities."""
    from heatbath.experiments import nade_stages

    return nade_stages.cost(prepared)


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Trainings, evaluations, baselines, draws."""
    from heatbath.experiments import nade_stages

    return nade_stages.stages(prepared)


def drawn(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The draws of the first model; None before the first."""
    sampled = done["draws"].sampled() if "draws" in done else None
    return None if sampled is None else sampled.ensemble


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json, and ``model/``; None before any training has begun."""
    from heatbath.experiments import nade_results

    return nade_results.results(prepared, done, run)
