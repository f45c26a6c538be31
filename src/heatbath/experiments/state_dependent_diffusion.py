"""Diffusion whose coefficient depends on position: what happens with the right drift, and what without it, in every convention.

Stages: ``with-drift`` and ``without-drift`` (particles of every convention alpha in [0, 1], from the Boltzmann distribution),
``adjusted`` (Metropolis-adjusted moves at ``coarse`` times the step, and unadjusted ones beside them) and ``paths`` (trajectories
from which D(x) and the drift are estimated as from measured ones). The results put every final law beside Boltzmann's and
beside D^-(1 - alpha) exp(-u), estimated coefficients beside the model's, and relaxation rates of the Fokker-Planck operator
beside exact ones where the model is solvable.

Subject: arXiv 0707.2234. All formulas are derived here; the numbers beside which results stand are closed forms or quadratures.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments.limits import check_counts, check_positive
from heatbath.experiments.sample import RunConfig

NAME = "state-dependent-diffusion"

MODELS = ("wavy", "wall", "student", "legendre", "gravity")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The energy and D(x).

    "wavy": u = x^2/2, D = 1 + ``contrast`` sin 2x; "wall": a sphere (radius 1) over a wall, ``weight`` kT per radius, a
    screened repulsion of ``repulsion`` kT and range ``range``, D of Bevan and Prieve; "student", "legendre", "gravity": solvable
    models (``kinetics.solvable_diffusions``).
    """

    name: Literal["wavy", "wall", "student", "legendre", "gravity"] = "wavy"
    contrast: float = 0.6
    weight: float = 1.0
    repulsion: float = 20.0
    range: float = 0.1


@dataclasses.dataclass(frozen=True)
class DynamicsConfig:
    """``particles`` of every convention in ``alphas``, ``time_step`` until ``time``; ``adjusted`` takes ``coarse`` steps at once.

    ``paths`` trajectories of ``path_time`` are recorded every ``record`` steps for the estimates.
    """

    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    particles: int = 20_000
    time_step: float = 0.005
    time: float = 5.0
    coarse: float = 40.0
    paths: int = 2000
    path_time: float = 1.0
    record: int = 2


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """Configuration of the experiment."""

    experiment: Literal["state-dependent-diffusion"] = NAME
    seed: int = 0
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    dynamics: DynamicsConfig = dataclasses.field(default_factory=DynamicsConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = DiffusionConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "wall": {
            "model": {"name": "wall"},
            "dynamics": {"time_step": 2e-4, "time": 0.4, "path_time": 0.05, "coarse": 25.0},
        },
        "student": {"model": {"name": "student"}, "dynamics": {"time_step": 0.002, "time": 2.0}},
        "gravity": {"model": {"name": "gravity"}, "dynamics": {"time_step": 0.001, "time": 3.0}},
        "full": {"dynamics": {"particles": 500_000, "time_step": 0.001, "coarse": 200.0, "paths": 20_000}},
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The model, and the process of every stage."""

    config: DiffusionConfig
    target: Any
    model: Any
    runs: Mapping[str, Any]
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: DiffusionConfig, base: Path | None = None) -> DiffusionConfig:
    """Refuse what can be refused at once."""
    model, dynamics = config.model, config.dynamics
    if not -1 < model.contrast < 1:
        raise InvalidArgumentError(
            f"model.contrast lies between -1 and 1, or D(x) is not positive everywhere; found {model.contrast}"
        )
    if not dynamics.alphas:
        raise InvalidArgumentError("dynamics.alphas names at least one convention between 0 and 1")
    for alpha in dynamics.alphas:
        if not 0 <= alpha <= 1:
            raise InvalidArgumentError(f"a convention alpha lies between 0 (Ito) and 1 (anti-Ito); found {alpha}")
    check_positive(model, ("weight", "repulsion", "range"), where="model.")
    check_positive(dynamics, ("time_step", "time", "path_time", "coarse"), where="dynamics.")
    if dynamics.time_step > dynamics.time:
        raise InvalidArgumentError(
            f"dynamics.time_step is at most dynamics.time; found {dynamics.time_step} and {dynamics.time}"
        )
    check_counts(dynamics, {"particles": 400, "paths": 100, "record": 1}, where="dynamics.")
    return config


def title(config: DiffusionConfig) -> str:
    """A short name for the run."""
    return f"{NAME}-{config.model.name}"


def attachments(config: DiffusionConfig) -> dict[str, Any]:
    """There are no files of the user."""
    return {}


def attached(config: DiffusionConfig) -> DiffusionConfig:
    """The configuration itself."""
    return config


def extended(config: DiffusionConfig, samples: str) -> DiffusionConfig:
    """Particles are not added. Raises ``UsageError``."""
    raise UsageError("this experiment compares laws and cannot be extended; set dynamics.particles for a new run")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: DiffusionConfig, base: Path | None = None) -> Prepared:
    """The model and the processes of every stage."""
    import jax

    from heatbath.experiments import diffusion_stages

    config = check(config, base)
    model = diffusion_stages.model_of(config.model)
    return Prepared(config, None, model, diffusion_stages.runs(config, model), jax.random.key(config.seed))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (NAME,)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Steps of all particles, each with one gradient; memory and disk of what is recorded."""
    runs = prepared.runs.values()
    kept = sum(8 * run.shape[0] * run.shape[1] * run.shape[2] for run in runs)
    return {
        "energy_evaluations": sum(run.total_steps for run in runs),
        "memory_bytes": 2**28 + 4 * kept,
        "disk_bytes": 2 * kept,
    }


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """With the drift, without it, adjusted moves, trajectories."""
    from heatbath.experiments.stages import Stage

    return tuple(
        Stage(name, lambda done, run=run: run, share=float(run.total_steps)) for name, run in prepared.runs.items()
    )


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before the first law is known."""
    from heatbath.experiments import diffusion_results

    return diffusion_results.results(prepared, done)
