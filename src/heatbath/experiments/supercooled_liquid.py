"""A supercooled liquid by six methods on one energy function, with one count of energies: whom to trust, and at what cost.

Stages: ``swap`` (Monte Carlo with exchanges of unlike particles, the reference), ``local`` (one-particle moves), ``dynamics``
(Langevin), ``tempering`` (replica exchange), ``annealing`` (population annealing), ``flows`` (a flow for every step in
temperature, fitted to a pilot population) and ``flow-annealing`` (the same annealing, carried by the flows). Independent chains,
ladders and populations give all errors; energies spent on starts, warm-up, pilot and fits are counted.

Subject: arXiv 2404.09914. Nothing printed by this experiment is taken from that paper.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments.limits import check_counts, check_positive
from heatbath.experiments.sample import RunConfig

NAME = "supercooled-liquid"

#: Methods that move chains, and those that cool populations, in the order of the stages.
CHAIN_METHODS = ("swap", "local", "dynamics", "tempering")
POPULATION_METHODS = ("annealing", "flow-annealing")


@dataclasses.dataclass(frozen=True)
class ChainsConfig:
    """``chains`` independent chains or ladders; ``draws`` records ``sweeps`` sweeps (or steps) apart, after ``warmup`` records.

    Ladders of parallel tempering are ``ladder_factor`` times as long, warm-up included: what a ladder has to carry down from its
    hottest rung takes long to arrive. ``exchange_share`` of the moves of swap Monte Carlo are exchanges; ``time_step`` is that of
    the dynamics.
    """

    chains: int = 8
    draws: int = 1800
    sweeps: int = 20
    warmup: int = 1200
    ladder_factor: int = 5
    exchange_share: float = 0.2
    time_step: float = 0.005


@dataclasses.dataclass(frozen=True)
class PopulationConfig:
    """``populations`` independent ones of ``members``, cooled from the temperature ``hottest``.

    Every member begins there as a chain of its own, with ``start_sweeps`` sweeps; successive temperatures differ by the factor
    ``ratio`` at most. A member makes ``sweeps`` sweeps per factor of e at T = 1, and T^-``slowing`` times as many elsewhere: the
    colder the liquid, the longer it takes to relax. With the ``moves`` "dynamics" it makes steps of dynamics
    (``chains.time_step``) that cost as many energies: they relax a cold liquid sooner, and are biased by the time step.
    """

    populations: int = 8
    members: int = 32
    hottest: float = 5.0
    ratio: float = 1.08
    sweeps: int = 16_000
    slowing: float = 3.0
    start_sweeps: int = 600
    moves: Literal["metropolis", "dynamics"] = "metropolis"


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """Flows of ``radial`` functions per pair of species and ``steps`` integrator steps, one per temperature.

    Temperatures may lie further apart (``ratio``) than without flows. The fit is to a pilot of ``members`` cooled with ``sweeps``
    as above; ``refine`` steps of training by the work (reverse Kullback-Leibler, ``rate``) follow it; 0 for none.
    """

    members: int = 100
    sweeps: int = 600
    ratio: float = 1.12
    radial: int = 8
    steps: int = 1
    refine: int = 0
    rate: float = 1e-4


@dataclasses.dataclass(frozen=True)
class LiquidConfig:
    """``particles`` 44 or a multiple of 43; ``temperatures`` rising.

    Costs are compared at the temperature ``compared``, for the error ``goal`` in U/N.
    """

    experiment: Literal["supercooled-liquid"] = NAME
    seed: int = 0
    particles: int = 43
    temperatures: tuple[float, ...] = (0.35, 0.4, 0.45, 0.5, 0.6, 0.72, 0.85, 1.0)
    compared: float = 0.4
    goal: float = 0.005
    chains: ChainsConfig = dataclasses.field(default_factory=ChainsConfig)
    population: PopulationConfig = dataclasses.field(default_factory=PopulationConfig)
    flow: FlowConfig = dataclasses.field(default_factory=FlowConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = LiquidConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "quick": {
            "temperatures": (0.4, 0.5, 0.6, 0.72, 0.85, 1.0),
            "chains": {"chains": 4, "draws": 200, "warmup": 200},
            "population": {"populations": 3, "members": 32, "sweeps": 2000},
            "flow": {"members": 60, "sweeps": 200},
        },
        "full": {
            "chains": {"draws": 40_000, "warmup": 10_000},
            "population": {"populations": 8, "members": 1000, "sweeps": 30_000, "start_sweeps": 2000},
            "flow": {"members": 1000, "sweeps": 2000, "radial": 16, "steps": 2, "refine": 10_000},
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The liquid."""

    config: LiquidConfig
    target: Any
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: LiquidConfig, base: Path | None = None) -> LiquidConfig:
    """Refuse what can be refused at once."""
    temperatures = config.temperatures
    rising = all(a < b for a, b in itertools.pairwise(temperatures))
    if len(temperatures) < 2 or not rising or not all(math.isfinite(t) and t > 0 for t in temperatures):
        raise InvalidArgumentError(f"temperatures must be two or more, positive and rising; found {list(temperatures)}")
    if config.compared not in temperatures:
        raise InvalidArgumentError(f"compared must be one of the temperatures; found {config.compared}")
    if config.particles != 44 and (config.particles < 43 or config.particles % 43):
        raise InvalidArgumentError(f"particles must be 44 or a multiple of 43; found {config.particles}")
    least = {
        "chains.chains": 2, "chains.draws": 20, "chains.sweeps": 1, "chains.warmup": 1, "chains.ladder_factor": 1,
        "population.populations": 2, "population.members": 10, "population.sweeps": 1, "population.start_sweeps": 20,
        "flow.members": 20, "flow.sweeps": 1, "flow.radial": 2, "flow.steps": 1, "flow.refine": 0,
    }  # fmt: skip
    check_counts(config, least)
    check_positive(config, ("goal", "chains.time_step", "population.slowing", "flow.rate"))
    for name, ratio in (("population.ratio", config.population.ratio), ("flow.ratio", config.flow.ratio)):
        if not (math.isfinite(ratio) and ratio > 1):
            raise InvalidArgumentError(f"{name} must be above 1; found {ratio}")
    if not (math.isfinite(config.population.hottest) and config.population.hottest >= temperatures[-1]):
        raise InvalidArgumentError(
            f"population.hottest must be at least the highest temperature, {temperatures[-1]:g}; "
            f"found {config.population.hottest:g}"
        )
    if not 0 < config.chains.exchange_share < 1:
        raise InvalidArgumentError(f"chains.exchange_share lies between 0 and 1; found {config.chains.exchange_share}")
    return config


def title(config: LiquidConfig) -> str:
    """A short name for the run."""
    return f"{NAME}-{config.particles}"


def attachments(config: LiquidConfig) -> dict[str, Any]:
    """There are no files of the user."""
    return {}


def attached(config: LiquidConfig) -> LiquidConfig:
    """The configuration itself."""
    return config


def extended(config: LiquidConfig, samples: str) -> LiquidConfig:
    """Methods are compared at their stated lengths. Raises ``UsageError``."""
    raise UsageError("this experiment compares methods and cannot be extended; set chains.draws for a new run")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: LiquidConfig, base: Path | None = None) -> Prepared:
    """The liquid."""
    import jax

    from heatbath.targets.liquids import ternary_liquid

    config = check(config, base)
    return Prepared(config, ternary_liquid(config.particles), jax.random.key(config.seed))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (NAME,)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Energies of all stages; memory and disk of what is recorded."""
    from heatbath.experiments import liquid_stages

    return liquid_stages.cost(prepared)


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Chains, populations, flows."""
    from heatbath.experiments import liquid_stages

    return liquid_stages.stages(prepared)


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before the reference is known."""
    from heatbath.experiments import liquid_results

    return liquid_results.results(prepared, done)
