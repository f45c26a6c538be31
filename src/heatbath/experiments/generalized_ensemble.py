"""Generalized ensembles by matrices: coordinates of a distribution, couplings from samples, and tests for detailed balance.

Stages: ``spins`` (Gibbs samples of a random spin model), one stage of independent pairs (x, x') for each of this package's
kernels that ``kernels.names`` lists, and ``driven`` (trajectories of a spin model one of whose couplings is not mutual). The
results put inferred couplings beside the true ones and beside pseudo-likelihood, say of every kernel whether it is in detailed
balance and whether it leaves the equilibrium law as it is, name the coupling that breaks detailed balance, and check the exact
identities of the method.

Method: arXiv 2503.17898. Where this differs: the probability-flux observation matrix is built over a spanning tree (our
construction); Vandermonde systems are solved in decimal arithmetic; tests for detailed balance and errors of coordinates are
our own addition.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError, nearest
from heatbath.experiments.limits import check_counts
from heatbath.experiments.sample import RunConfig

NAME = "generalized-ensemble"

#: What can be certified, and what each claims: "balance", "stationary" (but not in balance), or "biased".
KERNELS: Mapping[str, str] = MappingProxyType(
    {
        "random-walk": "balance",
        "mala": "balance",
        "hmc": "balance",
        "gibbs-random": "balance",
        "gibbs-sequential": "stationary",
        "mala-then-random-walk": "stationary",
        "unadjusted-langevin": "biased",
    }
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The random spin model: each of its fields and couplings is zero with probability 1 - ``density``, else of width "
    "``scale`` kT.
    """

    spins: int = 12
    scale: float = 0.3
    density: float = 0.5


@dataclasses.dataclass(frozen=True)
class SpinSamplerConfig:
    """How it is sampled: ``samples`` of all ``chains`` together, ``thin`` Gibbs sweeps apart, after ``warmup`` sweeps."""

    samples: int = 102_400
    chains: int = 64
    thin: int = 2
    warmup: int = 200


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """``level``: odds that any superfluous parameter is kept by the selection."""

    level: float = 0.05


@dataclasses.dataclass(frozen=True)
class KernelsConfig:
    """Which kernels are certified, by how many independent ``pairs`` each."""

    names: tuple[str, ...] = tuple(KERNELS)
    pairs: int = 100_000


@dataclasses.dataclass(frozen=True)
class DrivenConfig:
    """A second spin model, one of whose couplings pulls ``force`` kT harder one way than the other.

    ``trajectories`` of ``jumps`` each, from the stationary law.
    """

    spins: int = 5
    scale: float = 0.3
    force: float = 0.2
    trajectories: int = 50
    jumps: int = 20_000


@dataclasses.dataclass(frozen=True)
class GeneralizedEnsembleConfig:
    """Configuration of the experiment."""

    experiment: Literal["generalized-ensemble"] = NAME
    seed: int = 0
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    sampler: SpinSamplerConfig = dataclasses.field(default_factory=SpinSamplerConfig)
    inference: InferenceConfig = dataclasses.field(default_factory=InferenceConfig)
    kernels: KernelsConfig = dataclasses.field(default_factory=KernelsConfig)
    driven: DrivenConfig = dataclasses.field(default_factory=DrivenConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = GeneralizedEnsembleConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {
            "model": {"spins": 8},
            "sampler": {"samples": 25_600},
            "kernels": {"pairs": 20_000},
            "driven": {"spins": 4, "jumps": 4000},
        },
        "default": {},
        "full": {
            "model": {"spins": 14},
            "sampler": {"samples": 1_024_000},
            "kernels": {"pairs": 1_000_000},
            "driven": {"spins": 6, "jumps": 100_000},
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The objects of one run: the spin model that is sampled, and the master equation that is driven."""

    config: GeneralizedEnsembleConfig
    target: Any
    state: Any
    driven: Any
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: GeneralizedEnsembleConfig, base: Path | None = None) -> GeneralizedEnsembleConfig:
    """Refuse what can be refused at once."""
    ranges = {
        "model.spins": (2, 14),
        "sampler.samples": 1,
        "sampler.chains": 4,
        "sampler.thin": 1,
        "sampler.warmup": 0,
        "kernels.pairs": 1000,
        "driven.spins": (2, 8),
        "driven.trajectories": 4,
        "driven.jumps": 100,
    }
    check_counts(config, ranges)
    if not 0 < config.model.density <= 1 or not 0 < config.inference.level < 1:
        raise InvalidArgumentError("model.density is in (0, 1] and inference.level in (0, 1)")
    if not (config.model.scale > 0 and config.driven.scale > 0):
        raise InvalidArgumentError("model.scale and driven.scale must be positive")
    for name in config.kernels.names:
        if name not in KERNELS:
            raise UsageError(f"kernels.names holds {name!r}. {nearest(name, KERNELS)}")
    return config


def title(config: GeneralizedEnsembleConfig) -> str:
    """A short name for the run."""
    return NAME


def attachments(config: GeneralizedEnsembleConfig) -> dict[str, Any]:
    """There are no files of the user."""
    return {}


def attached(config: GeneralizedEnsembleConfig) -> GeneralizedEnsembleConfig:
    """The configuration itself."""
    return config


def extended(config: GeneralizedEnsembleConfig, samples: str) -> GeneralizedEnsembleConfig:
    """Later stages follow from earlier ones, so that none is extended. Raises ``UsageError``."""
    raise UsageError("this experiment ends with its stages and cannot be extended; set sampler.samples for a new run")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: GeneralizedEnsembleConfig, base: Path | None = None) -> Prepared:
    """Build both spin models."""
    import jax

    from heatbath.experiments import matrix_stages
    from heatbath.state import ThermoState
    from heatbath.targets.spins import spin_glass

    config = check(config, base)
    target = spin_glass(config.model.spins, config.model.scale, config.model.density, config.seed)
    driven = matrix_stages.driven_model(config)
    return Prepared(config, target, ThermoState(1.0), driven, jax.random.key(config.seed))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    named = {
        "mala-then-random-walk": ("mala", "random-walk"),
        "gibbs-random": ("gibbs",),
        "gibbs-sequential": ("gibbs",),
    }
    used = [kernel for name in prepared.config.kernels.names for kernel in named.get(name, (name,))]
    return ("gibbs", *dict.fromkeys(used), NAME)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Energy evaluations, memory and disk of all stages."""
    from heatbath.experiments import matrix_stages
    from heatbath.experiments.stages import total_cost
    from heatbath.samplers.base import Cost

    config = prepared.config
    pairs = Cost(len(config.kernels.names) * config.kernels.pairs * 4, 2**28, 2**16)
    states = 4**config.driven.spins
    jumps = Cost(config.driven.trajectories * config.driven.jumps, 2**26, 12 * config.driven.trajectories * states)
    return total_cost([matrix_stages.spin_sampler(prepared).cost(), pairs, jumps])


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Spins, one stage per kernel, trajectories."""
    from heatbath.experiments import matrix_stages
    from heatbath.experiments.stages import Stage

    made = [Stage("spins", lambda done: matrix_stages.spin_sampler(prepared), share=3.0)]
    for name in prepared.config.kernels.names:
        made.append(Stage(name, lambda done, name=name: matrix_stages.transition_counts(prepared, name), share=0.5))
    made.append(Stage("driven", lambda done: matrix_stages.trajectories(prepared), share=1.0))
    return tuple(made)


def drawn(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The sampled spins; None before the first."""
    sampled = done["spins"].sampled() if "spins" in done else None
    return None if sampled is None else sampled.ensemble


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before any stage has ended."""
    from heatbath.experiments import matrix_results

    return matrix_results.results(prepared, done)
