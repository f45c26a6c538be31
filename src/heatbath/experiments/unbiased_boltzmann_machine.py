"""Boltzmann machines learned with and without bias, from the same start by the same number of updates.

Stages: one training per rule (unbiased, persistent and plain contrastive divergence), the likelihood of test rows under each
(exact sums while the machine is small, else annealing from below and from above), coupled chains of the first machine and the
times at which they meet, the bias of every rule against the exact gradient of a tiny machine, and weighted draws. The results
give ``model/``, from which ``heatbath sample --model`` draws.

Method: arXiv 2305.19684, with true couplings in place of the public code's telescoped sum. Where this differs: machines are
centred, chains are coupled by block Gibbs sweeps, and pairs that have not met at the cap are counted.
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

NAME = "unbiased-boltzmann-machine"

#: Learning rules.
RULES: Mapping[str, str] = MappingProxyType(
    {
        "unbiased": "unbiased contrastive divergence",
        "persistent": "persistent contrastive divergence",
        "contrastive-divergence": "contrastive divergence",
    }
)
#: The made-up data: all images of bars, and all of stripes.
BARS = "bars-and-stripes"


@dataclasses.dataclass(frozen=True)
class MachineConfig:
    """``hidden`` units per layer, nearest to the data first; weights start at N(0, ``scale``^2). ``side`` of bars-and-stripes."""

    hidden: tuple[int, ...] = (64, 64)
    scale: float = 0.05
    side: int = 4


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Adam for ``steps`` updates at a ``rate`` that falls to a twentieth along a cosine, and a moving average ``ema``. Weights
    are pulled to zero by ``decay`` times the rate per update, biases are not.

    The unbiased rule uses H_{k:m} of ``pairs`` free pairs of chains (0: one per row of the batch), cut off at ``cap``; the other
    two ``sweeps`` sweeps. ``coupling``: block Gibbs unit by unit, or with each half coupled maximally, or unit by unit after a
    state ("proposal") or one of a ``pool`` of states ("pool") that a mixture of ``offered`` Bernoullis, learned from the data,
    offers to both. Free chains ``start`` at data or at local modes: both are unbiased, modes are the published choice, data have
    less variance.
    """

    steps: int = 5000
    batch_size: int = 100
    rate: float = 5e-3
    decay: float = 0.05
    ema: float = 0.999
    coupling: Literal["unit-by-unit", "maximal", "proposal", "pool"] = "pool"
    offered: int = 128
    pool: int = 128
    start: Literal["data", "mode"] = "data"
    k: int = 2
    m: int = 6
    cap: int = 100
    pairs: int = 0
    sweeps: int = 1
    chunk: int = 250


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """log Z by ``chains`` chains of ``levels`` levels each way; clamped sums of ``rows`` test rows (0: all) by ``row_chains`` of
    ``row_levels``. ``pairs`` of coupled chains are followed for at most ``longest`` sweeps, ``bias_draws`` gradients (0:
    none) measure bias, and a mixture of ``mixture`` Bernoullis (0: none) stands beside the machines.
    """

    chains: int = 200
    levels: int = 2000
    rows: int = 0
    row_chains: int = 20
    row_levels: int = 200
    pairs: int = 500
    longest: int = 300
    bias_draws: int = 1000
    mixture: int = 32


@dataclasses.dataclass(frozen=True)
class DrawsConfig:
    """``samples`` weighted draws of the first machine by annealing over ``levels``; ``pictures`` of them in the report."""

    samples: int = 500
    levels: int = 1000
    pictures: int = 25


@dataclasses.dataclass(frozen=True)
class MachineExperimentConfig:
    """Configuration of the experiment. The machine of the first of ``rules`` is the one that ``model/`` holds."""

    experiment: Literal["unbiased-boltzmann-machine"] = NAME
    seed: int = 0
    rules: tuple[str, ...] = ("unbiased", "persistent", "contrastive-divergence")
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    machine: MachineConfig = dataclasses.field(default_factory=MachineConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    draws: DrawsConfig = dataclasses.field(default_factory=DrawsConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = MachineExperimentConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {
            "data": {"name": BARS},
            "machine": {"hidden": (6, 4), "side": 2},
            "training": {
                "steps": 600,
                "batch_size": 60,
                "rate": 0.05,
                "decay": 0.0,
                "ema": 0.99,
                "k": 1,
                "m": 5,
                "cap": 200,
            },
            "evaluation": {"pairs": 200, "bias_draws": 300, "mixture": 0},
            "draws": {"samples": 100, "levels": 100},
        },
        "default": {},
        BARS: {
            "data": {"name": BARS},
            "machine": {"hidden": (12,)},
            "training": {
                "steps": 6000,
                "batch_size": 120,
                "rate": 0.05,
                "decay": 0.0,
                "ema": 0.99,
                "coupling": "proposal",
                "k": 1,
                "m": 5,
                "cap": 300,
                "chunk": 500,
            },
            "evaluation": {"longest": 1000, "mixture": 0},
        },
        "digits": {
            "data": {"name": "digits"},
            "machine": {"hidden": (200, 100), "scale": 0.02},
            "training": {
                "steps": 2000,
                "rate": 2e-3,
                "decay": 0.02,
                "ema": 0.99,
                "k": 2,
                "m": 5,
                "cap": 30,
                "pairs": 50,
            },
            "evaluation": {"rows": 200, "row_chains": 10, "levels": 3000, "chains": 100, "pairs": 100, "mixture": 100},
        },
        "full": {
            "data": {"name": "fashion"},
            "rules": ("unbiased",),
            "machine": {"hidden": (784, 784), "scale": 0.01},
            "training": {
                "steps": 100_000,
                "batch_size": 1000,
                "rate": 1e-3,
                "decay": 0.002,
                "offered": 500,
                "pool": 1000,
                "k": 5,
                "m": 10,
                "cap": 50,
                "chunk": 500,
            },
            "evaluation": {"levels": 20_000, "row_levels": 2000, "rows": 1000, "mixture": 500},
            "draws": {"levels": 20_000},
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The objects of one run."""

    config: MachineExperimentConfig
    split: Any
    key: Any
    #: the machine before it has learned anything; what is drawn has its space
    target: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: MachineExperimentConfig, base: Path | None = None) -> MachineExperimentConfig:
    """Refuse what can be refused at once: numbers, names, and data that are not there."""
    check_counts(config, _LEAST)
    training, hidden = config.training, config.machine.hidden
    if not training.rate > 0 or not 0 <= training.ema < 1 or not config.machine.scale > 0 or not training.decay >= 0:
        raise InvalidArgumentError(
            "training.rate and machine.scale are positive, training.decay is not negative, training.ema in [0, 1)"
        )
    if not 0 <= training.k <= training.m < training.cap:
        raise InvalidArgumentError(
            f"training: expected 0 <= k <= m < cap; found k = {training.k}, m = {training.m}, cap = {training.cap}"
        )
    if not hidden or min(hidden) < 1:
        raise InvalidArgumentError(
            f"machine.hidden holds the sizes of hidden layers, at least 1 each; found {list(hidden)}"
        )
    if not config.rules or len(set(config.rules)) < len(config.rules):
        raise InvalidArgumentError(f"rules names every rule once, and at least one of {', '.join(RULES)}")
    for name in config.rules:
        if name not in RULES:
            raise UsageError(f"rules holds {name!r}. {nearest(name, RULES)}")
    tables.check_table(config.data, base, made_here=(BARS,), kind="binary")
    return config


_LEAST: Mapping[str, int] = MappingProxyType(
    {
        "machine.side": 2,
        "training.steps": 1,
        "training.batch_size": 1,
        "training.sweeps": 1,
        "training.offered": 1,
        "training.pool": 1,
        "training.pairs": 0,
        "training.chunk": 1,
        "evaluation.chains": 2,
        "evaluation.levels": 1,
        "evaluation.rows": 0,
        "evaluation.row_chains": 1,
        "evaluation.row_levels": 1,
        "evaluation.pairs": 2,
        "evaluation.longest": 2,
        "evaluation.bias_draws": 0,
        "evaluation.mixture": 0,
        "draws.samples": 1,
        "draws.levels": 1,
        "draws.pictures": 0,
        "data.seed": 0,
    }
)


def title(config: MachineExperimentConfig) -> str:
    """A short name for the run."""
    return tables.title(NAME, config.data)


def attachments(config: MachineExperimentConfig) -> dict[str, Any]:
    """There are no files that are copied: tables may be large, and their checksum is in the results."""
    return {}


def attached(config: MachineExperimentConfig) -> MachineExperimentConfig:
    """The configuration with paths from the root, so that the run can be resumed from anywhere."""
    return dataclasses.replace(config, data=tables.rooted(config.data))


def extended(config: MachineExperimentConfig, samples: str) -> MachineExperimentConfig:
    """A training is not extended. Raises ``UsageError``."""
    raise UsageError("this experiment ends with its stages and cannot be extended; set training.steps for a new run")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: MachineExperimentConfig, base: Path | None = None) -> Prepared:
    """Read and check the data; imports JAX."""
    import jax

    from heatbath.experiments.machine_stages import read_data, untrained

    config = check(config, base)
    table = read_data(config, base)
    return Prepared(config, table, jax.random.key(config.seed), untrained(config, table))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (NAME, *prepared.config.rules)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Sweeps of all stages as energy evaluations; memory and disk."""
    from heatbath.experiments import machine_stages

    return machine_stages.cost(prepared)


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Trainings, likelihoods, coupled chains, bias, draws."""
    from heatbath.experiments import machine_stages

    return machine_stages.stages(prepared)


def drawn(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The weighted draws of the first machine; None before the first."""
    sampled = done["draws"].sampled() if "draws" in done else None
    return None if sampled is None else sampled.ensemble


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json, and ``model/``; None before any training has begun."""
    from heatbath.experiments import machine_results

    return machine_results.results(prepared, done, run)
