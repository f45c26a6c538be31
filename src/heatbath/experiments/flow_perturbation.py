"""Flow perturbation: a continuous flow whose draws are weighted without its Jacobian, and annealed over noise and directions.

Stages: ``reference`` (molecules only: replica exchange), ``moments`` (gated-linear nets on whitened data: means and covariances
of the clusters, where the net begins), ``training`` (v-prediction on data with equal numbers of both modes
of the mixture, so that the flow is deliberately wrong about their weights, or on the reference), one stage of importance sampling
for each log Jacobian that is compared, and ``annealing`` (SMC over noise and directions with multi-step flow perturbation).
The mixture's mean energy, mode weights and log Z are exact; the report puts every way of weighting beside them.

Method and sizes: arXiv 2407.10666, arXiv 2601.21177. Where this differs: the flow is its own discrete map, so that no error of
an integrator is left; directions live in the mean-free space of a molecule, with its dimension as exponent; derivatives are
Jacobian products; the annealing moves are reversible for the prior; molecules have flexible bonds.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments import sample
from heatbath.experiments.config import Quantity
from heatbath.experiments.sample import AUTO, RunConfig, SamplerConfig, TargetConfig

NAME = "flow-perturbation"

#: Names of the log Jacobians that can be compared, in the order of the table; "exact" costs as many products as dimensions.
LOG_JACOBIANS = ("multi-step", "single-shot", "hutchinson-1", "hutchinson-2", "hutchinson-10", "exact")


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """The flow. ``net``: "residual" (perceptron), "gated-linear" (vectors), "equivariant" (molecules).

    ``width`` and ``depth`` are those of the net (gated linear: width of the gate); ``whiten`` standardises vectors by the
    covariance of their data and fixes the axes of gated experts along those of its clusters. ``steps`` of ``integrator`` make
    the flow.
    """

    net: Literal["residual", "gated-linear", "equivariant"] = "residual"
    width: int = 128
    depth: int = 2
    steps: int = 20
    integrator: Literal["euler", "heun", "rk4"] = "heun"
    whiten: bool = False


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How it is trained: ``steps`` of Adam at batch ``batch_size``, one-cycle ``rate``.

    ``frames``: data for standardisation, for the moments of clusters and, for molecules, for learning; vectors are drawn
    afresh at every step.
    """

    steps: int = 3000
    batch_size: int = 256
    rate: float = 2e-3
    frames: int = 20_000
    chunk: int = 100


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
    """What is done with the flow.

    compare:   log Jacobians whose importance weights are compared, ``draws`` of each (``exact_draws`` of "exact")
    probes:    directions per step of multi-step flow perturbation
    annealed:  particles of SMC, all populations together; ``particles`` in one; ``moves`` per particle and level
    step_size: sine of the largest angle by which a move turns the noise, at the start; ``refresh``: largest share of directions
               that it draws afresh
    share:     share of the particles that stays effective from one level to the next, as a run of ``pilot`` particles finds them
    at_once:   draws in memory at once
    """

    compare: tuple[str, ...] = LOG_JACOBIANS
    draws: int = 40_000
    exact_draws: int = 20_000
    probes: int = 1
    annealed: int = 8000
    particles: int = 2000
    moves: int = 2
    step_size: float = 0.7
    refresh: float = 0.7
    share: float = 0.9
    pilot: int = 500
    at_once: int = 1000


@dataclasses.dataclass(frozen=True)
class FlowPerturbationConfig:
    """Configuration of the experiment. The target is the mixture in ``parameters.dimension`` dimensions, or a molecule."""

    experiment: Literal["flow-perturbation"] = NAME
    seed: int = 0
    temperature: Annotated[str, Quantity("temperature", (AUTO,))] = AUTO
    target: TargetConfig = dataclasses.field(
        default_factory=lambda: TargetConfig(name="gaussian-mixture", parameters={"dimension": 10})
    )
    flow: FlowConfig = dataclasses.field(default_factory=FlowConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    weights: WeightsConfig = dataclasses.field(default_factory=WeightsConfig)
    sampler: SamplerConfig = dataclasses.field(default_factory=lambda: SamplerConfig(samples=50_000))
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = FlowPerturbationConfig

_THOUSAND = {
    "target": {"name": "gaussian-mixture", "parameters": {"dimension": 1000}},
    "flow": {"net": "gated-linear", "width": 64, "steps": 32, "integrator": "euler", "whiten": True},
    "training": {"steps": 300, "batch_size": 256, "rate": 3e-4, "frames": 1_500_000, "chunk": 50},
    "weights": {
        "compare": ("multi-step", "hutchinson-1"),
        "draws": 1500,
        "probes": 8,
        "annealed": 4000,
        "particles": 1000,
        "moves": 1,
        "share": 0.6,
        "pilot": 250,
        "at_once": 250,
    },
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "thousand": _THOUSAND,
        # arXiv 2407.10666: perceptron 2000 wide, 20 RK4 nodes, 1000 particles; more of each, for a GPU
        "full": {
            **_THOUSAND,
            "flow": {"net": "residual", "width": 2000, "depth": 1, "steps": 100, "integrator": "euler", "whiten": True},
            "training": {"steps": 200_000, "batch_size": 2048, "rate": 5e-4, "frames": 100_000, "chunk": 1000},
            "weights": {
                "draws": 20_000,
                "annealed": 40_000,
                "particles": 10_000,
                "moves": 2,
                "share": 0.9,
                "pilot": 1000,
                "at_once": 5000,
            },
        },
        # perceptron 2048 wide, 12 layers; 4000 particles
        "full-chignolin": {
            "target": {"sequence": "GYDPETGTWG", "forcefield": "amber14-obc1"},
            "temperature": "310 K",
            "flow": {"net": "residual", "width": 2048, "depth": 12, "steps": 100, "integrator": "heun"},
            "training": {"steps": 500_000, "batch_size": 512, "rate": 2e-4, "frames": 160_000, "chunk": 1000},
            "weights": {
                "compare": ("multi-step", "single-shot", "hutchinson-1"),
                "draws": 20_000,
                "probes": 4,
                "annealed": 16_000,
                "particles": 4000,
                "moves": 4,
                "at_once": 2000,
            },
            "sampler": {"samples": 200_000},
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The objects of one run, and its configuration with every choice made. ``reference`` prepares a molecule's first stage."""

    config: FlowPerturbationConfig
    target: Any
    state: Any
    reference: Any
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: FlowPerturbationConfig, base: Path | None = None) -> FlowPerturbationConfig:
    """Refuse what can be refused at once, and fill in what depends on the configuration alone."""
    reference = sample.check(_reference(config), base)
    config = dataclasses.replace(config, temperature=reference.temperature, target=reference.target)
    molecule = sample.is_molecule(config.target)
    if not molecule and config.target.name != "gaussian-mixture":
        raise UsageError(f"{NAME} knows the target 'gaussian-mixture' and molecules; found {config.target.name!r}.")
    fitting = ("residual", "equivariant") if molecule else ("residual", "gated-linear")
    if config.flow.net not in fitting:
        raise UsageError(f"flow.net of this target is one of {', '.join(fitting)}; found {config.flow.net!r}.")
    for name in config.weights.compare:
        if name not in LOG_JACOBIANS:
            raise UsageError(f"weights.compare holds {name!r}; known are {', '.join(LOG_JACOBIANS)}.")
    for section in ("flow", "training", "weights"):
        for field in dataclasses.fields(getattr(config, section)):
            value = getattr(getattr(config, section), field.name)
            least = 2 if field.name in ("particles", "annealed", "pilot") else 0 if field.name == "depth" else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise InvalidArgumentError(f"{section}.{field.name} must be at least {least}; found {value}")
    for name in ("step_size", "refresh"):
        if not 0 < getattr(config.weights, name) <= 1:
            raise InvalidArgumentError(
                f"weights.{name} is above 0 and at most 1; found {getattr(config.weights, name)}"
            )
    if not 0 < config.weights.share < 1:
        raise InvalidArgumentError(f"weights.share is above 0 and below 1; found {config.weights.share}")
    return config


def has_moments(config: FlowPerturbationConfig) -> bool:
    """Whether the axes of the net are those of clusters of the data."""
    return config.flow.net == "gated-linear" and config.flow.whiten


def title(config: FlowPerturbationConfig) -> str:
    """A short name for the run."""
    return f"{NAME}-{sample.title(_reference(config))}"


def attachments(config: FlowPerturbationConfig) -> dict[str, Any]:
    """Files of the user that the run directory keeps a copy of."""
    return dict(sample.attachments(_reference(config)))


def attached(config: FlowPerturbationConfig) -> FlowPerturbationConfig:
    """The configuration that refers to the copies."""
    return dataclasses.replace(config, target=sample.attached(_reference(config)).target)


def extended(config: FlowPerturbationConfig, samples: str) -> FlowPerturbationConfig:
    """A training is not extended. Raises ``UsageError``."""
    raise UsageError("this experiment ends with its stages and cannot be extended; set weights.annealed for a new run")


def _reference(config: FlowPerturbationConfig) -> sample.SampleConfig:
    """A molecule's first stage as a configuration of ``heatbath sample``."""
    return sample.SampleConfig(
        seed=config.seed, temperature=config.temperature, target=config.target, sampler=config.sampler, run=config.run
    )


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: FlowPerturbationConfig, base: Path | None = None) -> Prepared:
    """Build the target, and for a molecule the sampler of its reference; imports JAX."""
    import jax

    from heatbath.state import at_temperature

    config = check(config, base)
    if not sample.is_molecule(config.target):
        target = sample.build_target(config.target, base)
        return Prepared(config, target, at_temperature(target, config.temperature), None, jax.random.key(config.seed))
    reference = sample.prepare(_reference(config), base)
    config = dataclasses.replace(config, sampler=reference.config.sampler)
    return Prepared(config, reference.target, reference.state, reference, reference.key)


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    kernels = () if prepared.reference is None else sample.kernel_names(prepared.reference)
    return (*kernels, "continuous-flow", NAME)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Energy evaluations, memory and disk of all stages; the annealing is charged 50 levels."""
    from heatbath.experiments.stages import total_cost
    from heatbath.samplers.base import Cost
    from heatbath.samplers.records import dimension

    weights, size = prepared.config.weights, dimension(prepared.target.space)
    compared = sum(weights.exact_draws if name == "exact" else weights.draws for name in weights.compare)
    evaluations = compared + weights.annealed * (1 + 50 * weights.moves)
    costs = [Cost(evaluations, 2**30, 8 * (size + 3) * (compared + weights.annealed))]
    if prepared.reference is not None:
        costs.insert(0, prepared.reference.sampler.cost())
    return total_cost(costs)


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Reference (molecules), moments of clusters (see ``has_moments``), training, one importance sampling per log Jacobian,
    annealing.
    """
    from heatbath.experiments import perturbed_flows
    from heatbath.experiments.stages import Stage

    units = {"energies": prepared.target.unit, **({"samples": "nm"} if prepared.reference is not None else {})}
    made = []
    if prepared.reference is not None:
        made.append(Stage("reference", lambda done: prepared.reference.sampler, units=prepared.reference.units))
    if has_moments(prepared.config):
        made.append(Stage("moments", lambda done: perturbed_flows.moments(prepared), share=0.5))
    made.append(Stage("training", lambda done: perturbed_flows.trainer(prepared, done), share=4.0))
    for name in prepared.config.weights.compare:

        def weigh(done, name=name):
            return perturbed_flows.importance_sampler(prepared, done, name)

        made.append(Stage(name, weigh, share=0.3, units=units))
    made.append(Stage("annealing", lambda done: perturbed_flows.annealer(prepared, done), share=4.0, units=units))
    return tuple(made)


def drawn(prepared: Prepared, done: Mapping[str, Any]) -> Any:
    """The ensemble of the annealing; None before its first population."""
    sampled = done["annealing"].sampled() if "annealing" in done else None
    return None if sampled is None else sampled.ensemble


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before any draws."""
    from heatbath.experiments import perturbed_flows

    return perturbed_flows.results(prepared, done, run)
