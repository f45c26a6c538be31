"""Generative flow networks with learned energy decompositions: who reaches the exact law with the fewest energies?

Stages: ``table`` (binding energies of all short words, RNA only), one training per method and seed, each watched by the exact
law of its network wherever all objects can be listed, and ``draws`` of the first method's network with their honest weights.
The results put total variation by energy calls of all methods side by side.

Method: arXiv 2310.03301. Where this differs: the boundary F(x) = 1 holds at every end; replayed trajectories are those that were
drawn; flows may learn from imagined trajectories, which are not paid for (``training.imagined``); modes of bags are bags, not
strings; terminal laws are computed by dynamic programming, not from samples.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError, nearest
from heatbath.experiments.limits import check_counts
from heatbath.experiments.sample import RunConfig

NAME = "energy-decomposition-gflownet"

#: Methods: balance and decomposition of each.
METHODS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "led": ("db", "learned"),
        "led-subtb": ("subtb", "learned"),
        "fl": ("db", "forward-looking"),
        "subtb": ("subtb", "none"),
        "db": ("db", "none"),
        "tb": ("tb", "none"),
    }
)


@dataclasses.dataclass(frozen=True)
class BagConfig:
    """Bags of ``size`` items of ``letters`` kinds; good with ``needed`` of one kind, the best ones a ``share`` of these."""

    letters: int = 5
    size: int = 8
    needed: int = 5
    share: float = 0.25


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """A grid of ``side``^``dimension`` points."""

    dimension: int = 2
    side: int = 16
    floor: float = 0.01


@dataclasses.dataclass(frozen=True)
class RnaConfig:
    """Words of ``length`` letters; reward = max(fitness, ``floor``)^``exponent``."""

    length: int = 8
    exponent: float = 3.0
    floor: float = 0.01


@dataclasses.dataclass(frozen=True)
class GraphConfig:
    """Maximal independent sets, at inverse temperature ``beta``, of a graph of ``vertices``, each edge with odds ``density``."""

    vertices: int = 16
    density: float = 0.25
    beta: float = 2.0


@dataclasses.dataclass(frozen=True)
class MoleculesConfig:
    """Molecules of up to ``blocks`` fragments, SMILES (empty: a small set of rings, linkers and ends).

    Reward max(score, ``floor``)^``exponent``. ``score``: "drug-likeness" (RDKit's QED), or "FILE.py:FUNCTION", a function
    of yours from a list of SMILES to scores that are not negative.
    """

    fragments: tuple[str, ...] = ()
    blocks: int = 3
    score: str = "drug-likeness"
    exponent: float = 8.0
    floor: float = 0.01


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Perceptrons of ``depth`` hidden layers, and ``memory_rows`` (a power of two, or 0) for single states: no fewer than there
    are states, or else some share a row.
    """

    width: int = 64
    depth: int = 2
    memory_rows: int = 0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """``rounds`` of ``draws`` trajectories per method and seed, learned from in ``updates`` gradient steps, each with
    ``replay`` remembered ones beside the fresh; potentials get ``potential_updates`` more. With learned potentials there are
    ``imagined`` trajectories besides, whose energies are not asked for. ``rate`` falls to ``last`` of it.
    """

    methods: tuple[str, ...] = ("led", "fl", "subtb", "db")
    seeds: int = 1
    rounds: int = 1000
    draws: int = 16
    replay: int = 32
    remembered: int = 8192
    updates: int = 4
    potential_updates: int = 4
    imagined: int = 0
    exploration: float = 0.05
    dropout: float = 0.2
    decay: float = 0.9
    rate: float = 2e-3
    last: float = 0.05
    chunk: int = 50


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """``samples`` weighted draws of the first method's network."""

    samples: int = 8000


@dataclasses.dataclass(frozen=True)
class EnergyDecompositionConfig:
    """Configuration of the experiment. ``goal``: the total variation that counts as reached."""

    experiment: Literal["energy-decomposition-gflownet"] = NAME
    seed: int = 0
    problem: Literal["bag", "hypergrid", "rna", "independent-set", "molecules"] = "bag"
    goal: float = 0.1
    bag: BagConfig = dataclasses.field(default_factory=BagConfig)
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    rna: RnaConfig = dataclasses.field(default_factory=RnaConfig)
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    molecules: MoleculesConfig = dataclasses.field(default_factory=MoleculesConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = EnergyDecompositionConfig

_FULL_BAG = {"letters": 7, "size": 13, "needed": 7}
#: Where there are more objects than a few thousand draws could meet: many draws a round, each learned from once.
_MANY = {
    "rounds": 1000,
    "draws": 256,
    "replay": 256,
    "remembered": 65_536,
    "updates": 1,
    "potential_updates": 1,
    "dropout": 0.0,
    "rate": 3e-2,
}
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {"bag": {"letters": 3, "size": 5, "needed": 4}, "training": {"rounds": 300}},
        "default": {"network": {"memory_rows": 2**13}, "training": {"rounds": 2000, "rate": 1e-2}},
        "hypergrid": {"problem": "hypergrid", "training": {"rounds": 1500}},
        "rna-8": {"problem": "rna", "network": {"memory_rows": 2**17}, "training": _MANY},
        "rna-14": {"problem": "rna", "rna": {"length": 14, "exponent": 8.0}, "training": {"rounds": 400}},
        "mis": {"problem": "independent-set", "training": {"rounds": 1500}},
        "molecules": {
            "problem": "molecules",
            "network": {"memory_rows": 2**14},
            "training": {
                "rounds": 1500,
                "draws": 128,
                "replay": 128,
                "updates": 1,
                "potential_updates": 1,
                "rate": 2e-2,
            },
        },
        "full": {
            "goal": 0.05,
            "bag": _FULL_BAG,
            "network": {"width": 32, "depth": 1, "memory_rows": 2**17},
            "training": {
                "seeds": 5,
                "rounds": 8000,
                "draws": 256,
                "replay": 256,
                "remembered": 65_536,
                "updates": 1,
                "potential_updates": 1,
                "dropout": 0.0,
                "rate": 3e-2,
                "chunk": 250,
            },
            "sampler": {"samples": 100_000},
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The objects of one run."""

    config: EnergyDecompositionConfig
    target: Any
    state: Any
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: EnergyDecompositionConfig, base: Path | None = None) -> EnergyDecompositionConfig:
    """Refuse what can be refused at once."""
    check_counts(config, _RANGES)
    training = config.training
    if not 0 <= training.exploration <= 1 or not 0 <= training.dropout < 1 or not 0 < training.decay <= 1:
        raise InvalidArgumentError(
            "training.exploration is in [0, 1], training.dropout in [0, 1), training.decay in (0, 1]"
        )
    if not 0 <= training.last <= 1:
        raise InvalidArgumentError(
            f"training.last, the part of the rate that is left, is in [0, 1]; found {training.last}"
        )
    for path, value in {"training.rate": training.rate, "goal": config.goal, **_positives(config)}.items():
        if not value > 0:
            raise InvalidArgumentError(f"{path} must be positive; found {value}")
    if training.remembered < training.draws:
        raise InvalidArgumentError("training.remembered must be at least training.draws")
    if not training.methods:
        raise InvalidArgumentError(f"training.methods is empty; known are {', '.join(METHODS)}")
    for name in training.methods:
        if name not in METHODS:
            raise UsageError(f"training.methods holds {name!r}. {nearest(name, METHODS)}")
    return config


#: Least and largest value of settings.
_RANGES: Mapping[str, int | tuple[int, int]] = MappingProxyType(
    {
        "bag.letters": (1, 10),
        "bag.size": (1, 30),
        "grid.dimension": (1, 6),
        "grid.side": (2, 64),
        "rna.length": (1, 50),
        "graph.vertices": (2, 22),
        "molecules.blocks": (1, 4),
        "network.width": 1,
        "network.depth": 1,
        "network.memory_rows": (0, 2**22),
        "training.seeds": 1,
        "training.rounds": 1,
        "training.draws": 1,
        "training.replay": 0,
        "training.updates": 1,
        "training.potential_updates": 0,
        "training.imagined": 0,
        "training.chunk": 1,
        "sampler.samples": 1,
    }
)


def _positives(config: EnergyDecompositionConfig) -> dict[str, float]:
    return {
        "grid.floor": config.grid.floor,
        "rna.floor": config.rna.floor,
        "rna.exponent": config.rna.exponent,
        "graph.beta": config.graph.beta,
        "molecules.floor": config.molecules.floor,
        "molecules.exponent": config.molecules.exponent,
    }


def title(config: EnergyDecompositionConfig) -> str:
    """A short name for the run."""
    return f"{NAME}-{config.problem}"


def attachments(config: EnergyDecompositionConfig) -> dict[str, Any]:
    """There are no files that are copied; a score of the user's is code, and stays where it is."""
    return {}


def attached(config: EnergyDecompositionConfig) -> EnergyDecompositionConfig:
    """The configuration itself."""
    return config


def extended(config: EnergyDecompositionConfig, samples: str) -> EnergyDecompositionConfig:
    """A training is not extended. Raises ``UsageError``."""
    raise UsageError("this experiment ends with its stages and cannot be extended; set training.rounds for a new run")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: EnergyDecompositionConfig, base: Path | None = None) -> Prepared:
    """Build the target; imports JAX, and what the problem needs besides."""
    import jax

    from heatbath.experiments import gflownet_problems
    from heatbath.state import ThermoState

    config = check(config, base)
    target, beta = gflownet_problems.target_of(config)
    return Prepared(config, target, ThermoState(beta), jax.random.key(config.seed))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    extra = {"rna": ("viennarna",), "molecules": ("rdkit",)}.get(prepared.config.problem, ())
    return (*(f"gflownet-{name}" for name in prepared.config.training.methods), *extra, NAME)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Energy evaluations, memory and disk of all stages."""
    from heatbath.experiments import gflownet_stages

    return gflownet_stages.cost(prepared)


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Table (RNA that can be listed), one training per method and seed, draws."""
    from heatbath.experiments import gflownet_stages

    return gflownet_stages.stages(prepared)


def drawn(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The weighted draws; None before the first."""
    sampled = done["draws"].sampled() if "draws" in done else None
    return None if sampled is None else sampled.ensemble


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before any training has begun."""
    from heatbath.experiments import gflownet_results

    return gflownet_results.results(prepared, done)
