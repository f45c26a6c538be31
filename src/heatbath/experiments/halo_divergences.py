"""Limits on dark matter for every halo within a divergence of a reference halo: the weakest and the strongest, with certificates.

A halo is a list of streams with weights c; rates are linear in c. For every detector, mass, divergence and radius the expected
counts are maximised and minimised over the ball D(c || p) <= delta around the halo p, by its dual; the two limits
form a band with the
reference halo inside. Stages: one per detector. The results also show the halos that make the extremes, and how far
the weakest limit
can be from a halo-independent one.

Idea: arXiv 2403.04959. Ours: the list of divergences, their exact solutions, the duals, and all detectors, which are
cited parameters with
models for what the citations leave open.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from heatbath.errors import InvalidArgumentError, MissingDataError, UsageError, nearest
from heatbath.experiments.limits import check_counts, check_positive
from heatbath.experiments.sample import RunConfig

NAME = "halo-divergences"
HALO_COPY = "halo.csv"

#: Divergences by name (``estimators.divergences`` says what they are).
DIVERGENCES = (
    "kl",
    "reverse-kl",
    "chi2",
    "neyman",
    "hellinger",
    "jensen-shannon",
    "le-cam",
    "total-variation",
    "sup-norm",
)


@dataclasses.dataclass(frozen=True)
class HaloConfig:
    """The reference: a standard halo (km/s, GeV/cm^3) cut into ``streams``, or the CSV ``file`` with columns speed and weight."""

    v0: float = 238.0
    v_esc: float = 544.0
    earth_speed: float = 252.1
    density: float = 0.3
    streams: int = 400
    file: str = ""


@dataclasses.dataclass(frozen=True)
class BoundsConfig:
    """``detectors`` (names or TOML files), number of ``masses`` of each, ``divergences``, and ``radii`` of their balls."""

    detectors: tuple[str, ...] = ("xenon-like", "fluorine-like", "silicon-like")
    masses: int = 20
    divergences: tuple[str, ...] = DIVERGENCES
    radii: tuple[float, ...] = (0.01, 0.1, 1.0)


@dataclasses.dataclass(frozen=True)
class HaloDivergencesConfig:
    """Configuration of the experiment."""

    experiment: Literal["halo-divergences"] = NAME
    seed: int = 0
    halo: HaloConfig = dataclasses.field(default_factory=HaloConfig)
    bounds: BoundsConfig = dataclasses.field(default_factory=BoundsConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = HaloDivergencesConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "quick": {"halo": {"streams": 200}, "bounds": {"masses": 8, "divergences": ("kl", "chi2", "total-variation")}},
        "full": {"halo": {"streams": 1000}, "bounds": {"masses": 60, "radii": (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)}},
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The reference as streams, the detectors, and the standard halo (None when the user's file is the reference)."""

    config: HaloDivergencesConfig
    target: Any
    streams: Any
    halo: Any
    detectors: Mapping[str, Any]
    key: Any


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: HaloDivergencesConfig, base: Path | None = None) -> HaloDivergencesConfig:
    """Refuse what can be refused at once."""
    halo, bounds = config.halo, config.bounds
    check_positive(halo, ("v0", "v_esc", "earth_speed", "density"), where="halo.")
    if halo.earth_speed >= halo.v_esc:
        raise InvalidArgumentError(
            f"halo.earth_speed must be below halo.v_esc; found {halo.earth_speed} and {halo.v_esc} km/s"
        )
    check_counts(config, {"halo.streams": 10, "bounds.masses": 2})
    for name in ("detectors", "divergences", "radii"):
        values = getattr(bounds, name)
        if not values or len(set(values)) < len(values):
            raise InvalidArgumentError(f"bounds.{name} must not be empty nor hold anything twice; found {list(values)}")
    for name in bounds.divergences:
        if name not in DIVERGENCES:
            raise UsageError(f"bounds.divergences holds {name!r}. {nearest(name, DIVERGENCES)}")
    for radius in bounds.radii:
        if not (math.isfinite(radius) and radius >= 0):
            raise InvalidArgumentError(f"bounds.radii (delta) must not be negative; found {radius}")
    for path in _files(config):
        if not ((base or Path()) / path).is_file():
            raise MissingDataError(f"the file '{path}' that the configuration names does not exist")
    return dataclasses.replace(config, bounds=dataclasses.replace(bounds, radii=tuple(sorted(bounds.radii))))


def _files(config: HaloDivergencesConfig) -> list[str]:
    found = [name for name in config.bounds.detectors if name.endswith(".toml")]
    return [*found, config.halo.file] if config.halo.file else found


def title(config: HaloDivergencesConfig) -> str:
    """A short name for the run."""
    return NAME


def attachments(config: HaloDivergencesConfig) -> dict[str, str | bytes]:
    """The user's halo, detectors, and the tables that these name."""
    files: dict[str, str | bytes] = {}
    if config.halo.file:
        files[HALO_COPY] = Path(config.halo.file).read_text(encoding="utf-8")
    for name in config.bounds.detectors:
        if name.endswith(".toml"):
            path = Path(name)
            files[path.name] = path.read_text(encoding="utf-8")
            nuclear = tomllib.loads(path.read_text(encoding="utf-8")).get("nuclear", {})
            for table in (nuclear.get("form_factor"), nuclear.get("efficiency", {}).get("file")):
                if table:
                    files[table] = (path.parent / table).read_text(encoding="utf-8")
    return files


def attached(config: HaloDivergencesConfig) -> HaloDivergencesConfig:
    """The configuration that refers to the copies."""
    names = tuple(Path(name).name if name.endswith(".toml") else name for name in config.bounds.detectors)
    halo = dataclasses.replace(config.halo, file=HALO_COPY) if config.halo.file else config.halo
    return dataclasses.replace(config, halo=halo, bounds=dataclasses.replace(config.bounds, detectors=names))


def extended(config: HaloDivergencesConfig, samples: str) -> HaloDivergencesConfig:
    """There are no draws. Raises ``UsageError``."""
    raise UsageError(
        "this experiment makes no draws and cannot be extended; set bounds.masses or bounds.radii for a new run"
    )


# With NumPy -----------------------------------------------------------------------------------------------------------
def prepare(config: HaloDivergencesConfig, base: Path | None = None) -> Prepared:
    """Streams and detectors."""
    import jax

    from heatbath.kinetics import detectors
    from heatbath.kinetics.halo import StandardHalo
    from heatbath.kinetics.streams import Streams

    config = check(config, base)
    values = config.halo
    halo = None
    if values.file:
        streams = Streams.from_file((base or Path()) / values.file, values.density)
    else:
        halo = StandardHalo(values.v0, values.v_esc, values.earth_speed, values.density)
        streams = Streams.of_halo(halo, values.streams)
    loaded = [detectors.load(name, base) for name in config.bounds.detectors]
    return Prepared(config, None, streams, halo, {made.name: made for made in loaded}, jax.random.key(config.seed))


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """What the bibliography has to know."""
    return (NAME,)


def cost(prepared: Prepared) -> dict[str, int | None]:
    """No energies; a few numbers per bound."""
    bounds = prepared.config.bounds
    count = len(bounds.detectors) * bounds.masses * len(bounds.divergences) * len(bounds.radii) * 2
    return {"energy_evaluations": 0, "memory_bytes": 2**27, "disk_bytes": 64 * count}


def stages(prepared: Prepared) -> tuple[Any, ...]:
    """One per detector."""
    from heatbath.experiments import halo_stages
    from heatbath.experiments.stages import Stage

    return tuple(Stage(name, lambda done, name=name: halo_stages.bands(prepared, name)) for name in prepared.detectors)


def results(prepared: Prepared, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """Every number of results.json; None before the first mass."""
    from heatbath.experiments import halo_results

    return halo_results.results(prepared, done)
