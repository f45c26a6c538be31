"""The collisionless Boltzmann equation with self-gravity on qubits, beside a classical solver and linear theory.

Stages, each one run of the algorithm: ``free-streaming`` (no gravity, until the grid brings the wave back),
``growth-R`` for every ratio
R = k / k_J (small waves against the dispersion relation), ``collapse-...`` (a nonlinear collapse, its gravity read by a peek,
by shots and by amplitude estimation), ``dead-zone-...`` (a small wave with integer and with fractional kicks). The
results add circuits
against exact shifts, the state against a classical run, errors of the read-out against its cost, and gate counts.

Method: arXiv 2303.16490 for the physics and the order of operations. Ours, because that text does not fix it or was
not at hand: both
encodings, the fractional kick, the interference read-out, amplitude estimation, and every number shown.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, UsageError, nearest
from heatbath.experiments.limits import check_counts
from heatbath.experiments.sample import RunConfig

NAME = "quantum-collisionless-boltzmann"

READOUTS = ("peek", "shots", "amplitude-estimation")


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """Phase space: powers of two ``positions`` and ``velocities`` per axis, speeds up to ``width`` dispersions."""

    dimension: int = 1
    positions: int = 64
    velocities: int = 64
    width: float = 6.0


@dataclasses.dataclass(frozen=True)
class AlgorithmConfig:
    """``encoding`` of f, ``modes`` of gravity, ``time_step`` in units of (4 pi G rho)^(-1/2)."""

    encoding: Literal["amplitude", "probability"] = "amplitude"
    modes: int = 8
    time_step: float = 0.05


@dataclasses.dataclass(frozen=True)
class GrowthConfig:
    """Small waves: ``ratios`` k / k_J (one dimension), ``amplitude``, until ``time``."""

    ratios: tuple[float, ...] = (0.3, 0.5, 0.8, 1.2)
    amplitude: float = 1e-3
    time: float = 4.0


@dataclasses.dataclass(frozen=True)
class CollapseConfig:
    """A wave of ``amplitude`` at k / k_J = ``ratio`` until ``time``, with gravity read in each of ``readouts``.

    Speeds up to ``width`` dispersions: matter that falls in gets fast, and what passes the largest speed comes back at the other
    end.

    ``shots`` per step; amplitude estimation has Grover powers up to 2^(levels - 1) and ``shots_per_power``; read runs keep
    ``read_modes`` modes.
    """

    ratio: float = 0.3
    amplitude: float = 0.1
    time: float = 6.0
    width: float = 10.0
    readouts: tuple[str, ...] = READOUTS
    shots: int = 20_000
    levels: int = 6
    shots_per_power: int = 100
    read_modes: int = 2


@dataclasses.dataclass(frozen=True)
class DeadZoneConfig:
    """Integer against fractional kicks: a wave of ``amplitude`` at k / k_J = 0.5 until ``time``; 0 leaves the comparison out."""

    amplitude: float = 0.01
    time: float = 4.0


@dataclasses.dataclass(frozen=True)
class QuantumConfig:
    """Configuration of the experiment."""

    experiment: Literal["quantum-collisionless-boltzmann"] = NAME
    seed: int = 0
    grid: GridConfig = dataclasses.field(default_factory=GridConfig)
    algorithm: AlgorithmConfig = dataclasses.field(default_factory=AlgorithmConfig)
    growth: GrowthConfig = dataclasses.field(default_factory=GrowthConfig)
    collapse: CollapseConfig = dataclasses.field(default_factory=CollapseConfig)
    dead_zone: DeadZoneConfig = dataclasses.field(default_factory=DeadZoneConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = QuantumConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "quick": {
            "grid": {"positions": 32, "velocities": 32},
            "growth": {"ratios": (0.5, 1.2)},
            "collapse": {"time": 4.0, "shots": 5000},
        },
        # collapse in two dimensions: 24 qubits and the ancilla, for a machine with a GPU
        "full": {
            "grid": {"dimension": 2},
            "algorithm": {"encoding": "probability"},
            "growth": {"ratios": ()},
            "collapse": {"readouts": ("peek", "shots"), "shots": 1_000_000, "ratio": 0.3, "time": 6.0},
            "dead_zone": {"time": 0.0},
        },
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The runs of the algorithm by the name of their stage, and their numbers of steps."""

    config: QuantumConfig
    target: Any
    runs: Mapping[str, tuple[Any, int]]
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: QuantumConfig, base: Path | None = None) -> QuantumConfig:
    """Refuse what can be refused at once."""
    grid, algorithm = config.grid, config.algorithm
    for name in ("positions", "velocities"):
        value = getattr(grid, name)
        if value < 4 or value & (value - 1):
            raise InvalidArgumentError(
                f"grid.{name} is held by qubits and must be a power of two, at least 4; found {value}"
            )
    if grid.dimension not in (1, 2):
        raise InvalidArgumentError(f"grid.dimension must be 1 or 2; found {grid.dimension}")
    positive = {
        "grid.width": grid.width,
        "algorithm.time_step": algorithm.time_step,
        "growth.time": config.growth.time,
        "collapse.time": config.collapse.time,
        "collapse.width": config.collapse.width,
        "collapse.ratio": config.collapse.ratio,
        "run ratios": min(config.growth.ratios, default=1.0),
    }
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InvalidArgumentError(f"{name} must be positive; found {value}")
    if not (math.isfinite(config.dead_zone.time) and config.dead_zone.time >= 0):
        raise InvalidArgumentError(f"dead_zone.time must not be negative; found {config.dead_zone.time}")
    for name, value in (("growth", config.growth), ("collapse", config.collapse), ("dead_zone", config.dead_zone)):
        if not 0 < value.amplitude < 1:
            raise InvalidArgumentError(
                f"{name}.amplitude lies between 0 and 1, as f must not be negative; found {value.amplitude}"
            )
    for name, value in (("algorithm.modes", algorithm.modes), ("collapse.read_modes", config.collapse.read_modes)):
        if not 1 <= value < grid.positions // 2:
            raise InvalidArgumentError(f"{name} lies in 1..{grid.positions // 2 - 1}; found {value}")
    check_counts(config.collapse, dict.fromkeys(("shots", "levels", "shots_per_power"), 1), where="collapse.")
    for name in config.collapse.readouts:
        if name not in READOUTS:
            raise UsageError(f"collapse.readouts holds {name!r}. {nearest(name, READOUTS)}")
    if grid.dimension > 1:
        _check_plane(config)
    return config


def _check_plane(config: QuantumConfig) -> None:
    if config.growth.ratios or config.dead_zone.time or "amplitude-estimation" in config.collapse.readouts:
        raise UsageError(
            "in two dimensions only the collapse runs, read by peek or shots; set growth.ratios=[], dead_zone.time=0 and "
            'collapse.readouts=["peek", "shots"], or take --preset full'
        )
    if "shots" in config.collapse.readouts and config.algorithm.encoding != "probability":
        raise UsageError('in two dimensions shots measure positions; set algorithm.encoding="probability"')


def title(config: QuantumConfig) -> str:
    """A short name for the run."""
    return f"{NAME}-{config.grid.dimension}d"


def attachments(config: QuantumConfig) -> dict[str, Any]:
    """There are no files of the user."""
    return {}


def attached(config: QuantumConfig) -> QuantumConfig:
    """The configuration itself."""
    return config


def extended(config: QuantumConfig, samples: str) -> QuantumConfig:
    """There are no draws. Raises ``UsageError``."""
    raise UsageError(
        "this experiment makes no draws and cannot be extended; set growth.time or collapse.time for a new run"
    )


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: QuantumConfig, base: Path | None = None) -> Prepared:
    """The algorithm of every stage."""
    import jax

    from heatbath.experiments import quantum_stages

    config = check(config, base)
    return Prepared(config, None, quantum_stages.runs(config), jax.random.key(config.seed))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (NAME,)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """Memory of one state and its transforms; no energies are evaluated."""
    grid = prepared.config.grid
    amplitudes = (grid.positions * grid.velocities) ** grid.dimension
    return {
        "energy_evaluations": 0,
        "memory_bytes": 6 * 16 * amplitudes,
        "disk_bytes": 2 * 16 * amplitudes * len(prepared.runs),
    }


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """One per run."""
    from heatbath.experiments import quantum_stages
    from heatbath.experiments.stages import Stage

    return tuple(
        Stage(
            name,
            lambda done, name=name: quantum_stages.Evolution(*prepared.runs[name], prepared.config.seed),
            share=float(steps),
        )
        for name, (_, steps) in prepared.runs.items()
    )


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before any run has ended."""
    from heatbath.experiments import quantum_results

    return quantum_results.results(prepared, done)
