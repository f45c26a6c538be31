"""The Rayleigh-Boltzmann equation under shear: tagged particles followed, collision by collision, to times beyond e^1000.

Stages: ``flow`` (particles in the flow, looked at at every log time asked for), ``interval`` (fewer particles, with another
interval of the thinning, which must not matter) and ``equilibrium`` (the same collisions without flow, which must give the
Maxwellian). What is compared depends on gamma: closed moment equations at 0, the log-uniform law and the relation between
collisions at different times for -1 < gamma < 0, frozen collisions below -1, a stationary state above 0.

Equation, the picture of a Markov process and the regimes: arXiv 2506.15449. Every number beside which results stand is our own
derivation, listed in ``kinetics.shear_theory``.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments.sample import RunConfig

NAME = "rayleigh-boltzmann-shear"


@dataclasses.dataclass(frozen=True)
class FlowConfig:
    """The flow: simple shear at ``shear_rate`` K, or any L0 as the nine numbers of ``gradient``, row by row."""

    shear_rate: float = 2.0
    gradient: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class CollisionConfig:
    """The kernel b(n.om) |w - w*|^gamma with b ~ |n.om|^angular of integral ``strength``; partners Maxwellian or at rest."""

    gamma: float = -0.5
    strength: float = 1.0
    angular: float = 0.0
    background: Literal["maxwellian", "rest"] = "maxwellian"


@dataclasses.dataclass(frozen=True)
class ParticleConfig:
    """``count`` particles from a thermal, lognormal or point-like law, seen at ``log_times``; ``attempts`` per particle and view.

    ``speed`` multiplies all starting velocities (particles among partners at rest that are too slow for the shear stop).
    ``interval`` is the expected number of candidates per window of the thinning, ``other_interval`` that of the control.
    """

    count: int = 20_000
    start: Literal["thermal", "lognormal", "point"] = "thermal"
    speed: float = 1.0
    log_times: tuple[float, ...] = (12.5, 25.0, 50.0, 100.0, 200.0, 400.0)
    attempts: int = 20_000
    interval: float = 1.0
    other_interval: float = 4.0
    control: int = 8000


@dataclasses.dataclass(frozen=True)
class ShearConfig:
    """Configuration of the experiment."""

    experiment: Literal["rayleigh-boltzmann-shear"] = NAME
    seed: int = 0
    flow: FlowConfig = dataclasses.field(default_factory=FlowConfig)
    collisions: CollisionConfig = dataclasses.field(default_factory=CollisionConfig)
    particles: ParticleConfig = dataclasses.field(default_factory=ParticleConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = ShearConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "frozen": {
            "collisions": {"gamma": -1.5, "background": "rest"},
            "particles": {"log_times": (2.5, 5.0, 10.0, 20.0, 40.0), "speed": 3.0},
        },
        "maxwell": {
            "flow": {"shear_rate": 0.4},
            "collisions": {"gamma": 0.0},
            "particles": {"log_times": (-1.0, 0.0, 1.0, 2.0, 3.0, 3.5)},
        },
        "stationary": {
            "flow": {"shear_rate": 1.0},
            "collisions": {"gamma": 0.5},
            "particles": {"log_times": (-1.0, 0.0, 1.0, 2.0, 3.0, 3.5)},
        },
        "full": {
            "particles": {
                "count": 1_000_000,
                "control": 100_000,
                "log_times": (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0),
            }
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The processes of the three stages."""

    config: ShearConfig
    target: Any
    runs: Mapping[str, Any]
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: ShearConfig, base: Path | None = None) -> ShearConfig:
    """Refuse what can be refused at once."""
    flow, collisions, particles = config.flow, config.collisions, config.particles
    if not -3 < collisions.gamma <= 1:
        raise InvalidArgumentError(
            f"collisions.gamma must be above -3, where the collision rate diverges, and at most 1; found {collisions.gamma}"
        )
    if flow.gradient and not (len(flow.gradient) == 9 and all(math.isfinite(value) for value in flow.gradient)):
        raise InvalidArgumentError(f"flow.gradient has nine finite numbers, row by row; found {list(flow.gradient)}")
    if collisions.background == "rest" and (collisions.gamma >= 0 or flow.gradient):
        raise InvalidArgumentError('a background at rest is offered for gamma < 0 in simple shear; use "maxwellian"')
    finite = {"flow.shear_rate": flow.shear_rate, "collisions.angular": collisions.angular}
    positive = {
        "collisions.strength": collisions.strength,
        "particles.speed": particles.speed,
        "particles.interval": particles.interval,
        "particles.other_interval": particles.other_interval,
    }
    for name, value in (finite | positive).items():
        if not (math.isfinite(value) and value >= 0 and (value > 0 or name in finite)):
            raise InvalidArgumentError(
                f"{name} must be finite and {'not negative' if name in finite else 'positive'}; found {value}"
            )
    times = particles.log_times
    if len(times) < 2 or not all(math.isfinite(t) for t in times) or list(times) != sorted(set(times)):
        raise InvalidArgumentError(
            f"particles.log_times holds at least two finite numbers in rising order; found {list(times)}"
        )
    for name in ("count", "control"):
        if getattr(particles, name) < 200:
            raise InvalidArgumentError(
                f"particles.{name} must be at least 200 for an error bar; found {getattr(particles, name)}"
            )
    if particles.attempts < 100:
        raise InvalidArgumentError(f"particles.attempts must be at least 100; found {particles.attempts}")
    return config


def title(config: ShearConfig) -> str:
    """A short name for the run."""
    return f"{NAME}-gamma{config.collisions.gamma:g}"


def attachments(config: ShearConfig) -> dict[str, Any]:
    """There are no files of the user."""
    return {}


def attached(config: ShearConfig) -> ShearConfig:
    """The configuration itself."""
    return config


def extended(config: ShearConfig, samples: str) -> ShearConfig:
    """Particles are not added. Raises ``UsageError``."""
    raise UsageError(
        "this experiment makes no equilibrium draws and cannot be extended; set particles.count for a new run"
    )


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: ShearConfig, base: Path | None = None) -> Prepared:
    """The processes of every stage. Raises ``InvalidArgumentError`` for times at which the flow has imploded."""
    import jax

    from heatbath.experiments import shear_stages

    config = check(config, base)
    runs = shear_stages.runs(config)
    last, asked = runs["flow"].process.deformation.last_log_time, config.particles.log_times[-1]
    if asked >= last:
        raise InvalidArgumentError(
            f"the flow of flow.gradient can be followed to log time {last:.6g}, where it implodes or numbers end; "
            f"particles.log_times asks for {asked:g}"
        )
    return Prepared(config, None, runs, jax.random.key(config.seed))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (NAME,)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Memory and disk of the views; no energies are evaluated."""
    views = sum(run.count * len(run.log_times) * 64 for run in prepared.runs.values())
    return {"energy_evaluations": 0, "memory_bytes": 2**28 + 4 * views, "disk_bytes": 2 * views}


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """Flow, interval, equilibrium."""
    from heatbath.experiments.stages import Stage

    return tuple(Stage(name, lambda done, run=run: run, share=float(run.count)) for name, run in prepared.runs.items())


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before the first view."""
    from heatbath.experiments import shear_results

    return shear_results.results(prepared, done)
