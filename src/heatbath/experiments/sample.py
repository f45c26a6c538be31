"""The main job: equilibrium samples of one system at one temperature.

The configuration names the system (a registered name, a structure file or a sequence), the thermodynamic state and the
sampler. ``check`` refuses what is wrong without importing JAX, ``prepare`` builds the objects, and ``results`` turns what
the sampler collected into numbers. Driving, files and exit codes are the same for every experiment: see ``launch``.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from heatbath.errors import InvalidArgumentError, StructureError, UsageError, nearest
from heatbath.experiments.config import Quantity
from heatbath.experiments.limits import check_counts
from heatbath.experiments.methods import GENERATOR_METHODS, METHODS
from heatbath.targets import registry
from heatbath.units import beta_from_temperature, parse_quantity

AUTO = "auto"
MOLECULE_FORCE_FIELD = "amber99sbildn-obc2"
MOLECULE_TEMPERATURE = "300 K"
#: Name of the copy of the user's structure file inside the run directory.
STRUCTURE_COPY = "structure.pdb"
#: Name of the copy of the trained model inside the run directory.
MODEL_COPY = "model"


@dataclasses.dataclass(frozen=True)
class TargetConfig:
    """What is sampled: exactly one of ``name``, ``structure`` (a PDB file) and ``sequence`` (one-letter code)."""

    name: str = ""
    structure: str = ""
    sequence: str = ""
    capped: bool = False
    forcefield: str = AUTO
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """How it is sampled. "auto" leaves the choice to the method; the resolved configuration holds what was chosen.

    ``samples`` counts all chains together; ``ladders`` are the independent ones (chains, for methods without a ladder);
    ``warmup`` and ``thin`` count rounds of a replica exchange and steps of a chain; ``chunk`` is the number of times that is
    recorded between two looks at the clock. ``model`` is a model directory or a run of ``heatbath train``, for the methods
    that draw from a trained generator; empty for the one that ships for the target.
    """

    method: str = AUTO
    model: str = ""
    samples: int = 10_000
    ladders: int | Literal["auto"] = AUTO
    rungs: int | Literal["auto"] = AUTO
    hottest: Annotated[str, Quantity("temperature", (AUTO,))] = AUTO
    warmup: int | Literal["auto"] = AUTO
    thin: int | Literal["auto"] = AUTO
    chunk: int | Literal["auto"] = AUTO


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How the run behaves on this machine; none of it changes a number of the result."""

    max_time: Annotated[str, Quantity("duration", ("none",))] = "none"
    checkpoint_every: Annotated[str, Quantity("duration")] = "20 s"


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Configuration of ``heatbath sample``."""

    experiment: Literal["sample"] = "sample"
    seed: int = 0
    temperature: Annotated[str, Quantity("temperature", (AUTO,))] = AUTO
    target: TargetConfig = dataclasses.field(default_factory=TargetConfig)
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)


Config = SampleConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {"sampler": {"samples": 2_000}},
        "default": {},
        "full": {"sampler": {"samples": 100_000}},
    }
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The objects of one run, and its configuration with every choice made.

    ``generator`` is the trained model and its card, for the methods that use one.
    """

    config: SampleConfig
    target: Any
    state: Any
    sampler: Any
    key: Any
    generator: Any = None

    @property
    def units(self) -> dict[str, str]:
        """Units of the arrays in the ensemble, by name."""
        energy = self.target.unit
        return {"samples": "1" if energy == "1" else "nm", "energies": energy}


# Without JAX ----------------------------------------------------------------------------------------------------------
def check(config: SampleConfig, base: Path | None = None) -> SampleConfig:
    """Refuse what can be refused at once, and fill in what depends on the configuration alone.

    ``base`` is the folder that a relative ``target.structure`` is looked for in (the working directory by default). Raises
    ``UsageError``, ``TemperatureError``, ``InvalidArgumentError`` or ``StructureError``.
    """
    if brings_its_target(config, base):
        _check_density(config)
        _check_numbers(config)
        sampler = dataclasses.replace(config.sampler, method="flow")
        return dataclasses.replace(config, temperature="1", sampler=sampler)
    _check_target(config.target, base)
    _check_numbers(config)
    config = _with_model(config, base)
    temperature = config.temperature
    if temperature == AUTO:
        entry = registry.ENTRIES.get(config.target.name)
        temperature = MOLECULE_TEMPERATURE if entry is None else str(entry.temperature)
    _check_temperature(temperature, is_molecule(config.target))
    target = config.target
    if is_molecule(target) and target.forcefield == AUTO:
        target = dataclasses.replace(target, forcefield=MOLECULE_FORCE_FIELD)
    return dataclasses.replace(config, temperature=temperature, target=target)


def brings_its_target(config: SampleConfig, base: Path | None = None) -> bool:
    """Whether no target is named and the model is one of a table, whose own density is what is sampled."""
    target = config.target
    if not config.sampler.model or target.name or target.structure or target.sequence:
        return False
    from heatbath.experiments.cards import is_density
    from heatbath.io.models import read_card

    return is_density(read_card((base or Path()) / config.sampler.model))


def _check_density(config: SampleConfig) -> None:
    """The settings that draws of a learned density leave open. Raises ``UsageError``."""
    if config.sampler.method not in (AUTO, "flow"):
        raise UsageError(
            f"draws of a learned density are exact: sampler.method is 'flow'; found {config.sampler.method!r}"
        )
    if config.temperature not in (AUTO, "1"):
        raise UsageError(f"a learned density is drawn from as it is, at temperature 1; found {config.temperature!r}")


def _with_model(config: SampleConfig, base: Path | None) -> SampleConfig:
    """The configuration with its model found, and with the model's temperature where none was asked for."""
    method, sampler = config.sampler.method, config.sampler
    if method != AUTO and method not in METHODS:
        raise UsageError(f"unknown method {method!r}. {nearest(method, METHODS)}")
    if method not in GENERATOR_METHODS:
        if sampler.model:
            raise UsageError(
                f"sampler.model belongs to the methods {' and '.join(GENERATOR_METHODS)}; found {method!r}."
            )
        return config
    for name in ("ladders", "rungs", "hottest", "warmup", "thin"):
        if getattr(sampler, name) != AUTO:
            raise UsageError(f"sampler.{name} belongs to Markov chains; draws of a trained model are independent.")
    from heatbath.experiments.shipped import model_folder

    folder = model_folder(config.target, title(config), sampler.model, base)
    if not sampler.model:
        config = dataclasses.replace(config, sampler=dataclasses.replace(sampler, model=str(folder)))
    if config.temperature == AUTO:
        from heatbath.io.models import read_card

        config = dataclasses.replace(config, temperature=read_card(folder).temperature)
    return config


def is_molecule(target: TargetConfig) -> bool:
    """Whether the configured target is a molecule with a force field, and so has physical units."""
    entry = registry.ENTRIES.get(target.name)
    return bool(target.structure or target.sequence) or (entry is not None and entry.kind == "molecule")


def title(config: SampleConfig) -> str:
    """A short name for the run: the system's name, the file's stem or the sequence."""
    target = config.target
    return target.name or target.sequence or Path(target.structure or "density").stem


def attachments(config: SampleConfig) -> dict[str, str | bytes]:
    """Files of the user that the run directory keeps a copy of, so that it can be moved and resumed anywhere."""
    files: dict[str, str | bytes] = {}
    if config.target.structure:
        files[STRUCTURE_COPY] = Path(config.target.structure).read_text(encoding="utf-8", errors="replace")
    if config.sampler.model:
        from heatbath.io.models import find_model

        folder = find_model(Path(config.sampler.model))
        files |= {f"{MODEL_COPY}/{name}": (folder / name).read_bytes() for name in ("model.toml", "arrays.npz")}
    return files


def attached(config: SampleConfig) -> SampleConfig:
    """The configuration that refers to the copies of ``attachments`` instead of the user's own files."""
    if config.target.structure:
        config = dataclasses.replace(config, target=dataclasses.replace(config.target, structure=STRUCTURE_COPY))
    if config.sampler.model:
        config = dataclasses.replace(config, sampler=dataclasses.replace(config.sampler, model=MODEL_COPY))
    return config


def extended(config: SampleConfig, samples: str) -> SampleConfig:
    """The configuration with more samples: ``"+10000"`` adds, ``"20000"`` sets. Raises ``UsageError`` unless it grows."""
    before = config.sampler.samples
    try:
        after = before + int(samples) if samples.startswith("+") else int(samples)
    except ValueError as error:
        raise UsageError(f"--samples expects a number such as +10000; found {samples!r}") from error
    if after <= before:
        raise UsageError(f"the run has {before} samples already; ask for more, for instance --samples +{before}")
    return dataclasses.replace(config, sampler=dataclasses.replace(config.sampler, samples=after))


def _check_target(target: TargetConfig, base: Path | None) -> None:
    named = {k: v for k in ("name", "structure", "sequence") if (v := getattr(target, k))}
    if len(named) != 1:
        found = " and ".join(f"{k} = {v!r}" for k, v in named.items()) or "none"
        raise UsageError(
            f"expected one target: a name (`heatbath list targets`), a PDB file or --sequence; found {found}."
        )
    if target.capped and not target.sequence:
        raise UsageError("--capped belongs to --sequence; a named molecule or a PDB file brings its own ends.")
    if target.name:
        entry = registry.get(target.name)
        for parameter in target.parameters:
            if parameter not in entry.parameters:
                raise UsageError(
                    f"target {target.name!r} has no parameter {parameter!r}. {nearest(parameter, entry.parameters)}"
                )
    elif target.parameters:
        raise UsageError("[target.parameters] belongs to a named target; a molecule has target.forcefield.")
    if target.forcefield != AUTO and not is_molecule(target):
        raise UsageError(f"target {target.name!r} is no molecule, so it takes no --forcefield.")
    if target.structure and not ((base or Path()) / target.structure).is_file():
        raise StructureError(f"expected a PDB file, but '{target.structure}' does not exist or is no file.")


def _check_numbers(config: SampleConfig) -> None:
    check_counts(config.sampler, dict.fromkeys(("samples", "ladders", "rungs", "thin", "chunk"), 1), where="sampler.")
    if config.sampler.warmup != AUTO and config.sampler.warmup < 0:
        raise InvalidArgumentError(f"sampler.warmup must not be negative; found {config.sampler.warmup}")
    if not 0 <= config.seed < 2**63:
        raise InvalidArgumentError(f"seed must be an integer from 0 to 2^63 - 1; found {config.seed}")
    for name in ("max_time", "checkpoint_every"):
        value = getattr(config.run, name)
        if value != "none" and parse_quantity(value, "duration") < 0:
            raise InvalidArgumentError(f"run.{name} must not be negative; found {value!r}")


def _check_temperature(temperature: str, physical: bool) -> None:  # noqa: FBT001
    beta_from_temperature(temperature, "kJ/mol" if physical else "1")


# With JAX -------------------------------------------------------------------------------------------------------------
def prepare(config: SampleConfig, base: Path | None = None) -> Prepared:
    """Build target, state and sampler; imports JAX. Raises what the builders raise and leaves no trace on disk."""
    import jax

    from heatbath.samplers.sample import make_sampler
    from heatbath.state import at_temperature

    config = check(config, base)
    if brings_its_target(config, base):
        return _prepare_density(config, base)
    target = build_target(config.target, base)
    state = at_temperature(target, config.temperature)
    if config.sampler.method in GENERATOR_METHODS:
        return _prepare_generator(config, base, target, state)
    config = _with_ladder(config, target)
    sampler = make_sampler(target, state, **_options(config))
    if config.sampler.chunk != AUTO:
        sampler = dataclasses.replace(sampler, draws_per_chunk=config.sampler.chunk)
    return Prepared(_resolved(config, sampler), target, state, sampler, jax.random.key(config.seed))


def _prepare_generator(config: SampleConfig, base: Path | None, target: Any, state: Any) -> Prepared:
    """The objects of a run that draws from a trained model."""
    import jax

    from heatbath.experiments.generator_sampling import DRAWS_AT_ONCE, generator_sampler
    from heatbath.experiments.generators import load_generator
    from heatbath.samplers.memory import require_memory

    sampler = config.sampler
    model, card = load_generator((base or Path()) / sampler.model, target, config.temperature)
    process = generator_sampler(
        target,
        state,
        model,
        centre_scale=card.centre_scale,
        samples=sampler.samples,
        method=sampler.method,
        draws_at_once=DRAWS_AT_ONCE if sampler.chunk == AUTO else int(sampler.chunk),
    )
    require_memory(process)
    resolved = dataclasses.replace(config, sampler=dataclasses.replace(sampler, chunk=process.draws_per_chunk))
    return Prepared(resolved, target, state, process, jax.random.key(config.seed), (model, card))


def _prepare_density(config: SampleConfig, base: Path | None) -> Prepared:
    """The objects of a run that draws from the model of a table: its own density, or energy, is the target."""
    import jax

    from heatbath.experiments.densities import load_density, target_and_proposal
    from heatbath.experiments.generator_sampling import DRAWS_AT_ONCE
    from heatbath.samplers.importance import ImportanceSampler
    from heatbath.state import ThermoState

    settings = config.sampler
    target, proposal = target_and_proposal(*load_density((base or Path()) / settings.model))
    at_once = min(DRAWS_AT_ONCE if settings.chunk == AUTO else int(settings.chunk), settings.samples)
    process = ImportanceSampler(target, ThermoState(1.0), proposal, settings.samples, at_once)
    resolved = dataclasses.replace(config, sampler=dataclasses.replace(settings, chunk=at_once))
    return Prepared(resolved, target, ThermoState(1.0), process, jax.random.key(config.seed))


def _with_ladder(config: SampleConfig, target: Any) -> SampleConfig:
    """The method and the hottest temperature in words, so that the resolved configuration gives the very same ladder."""
    from heatbath.samplers.plan import plan_for

    sampler = config.sampler
    method = "replica-exchange" if sampler.method == AUTO else sampler.method
    hottest = sampler.hottest
    if method == "replica-exchange" and hottest == AUTO:
        value = parse_quantity(config.temperature, "temperature") * plan_for(target).hottest
        hottest = f"{value:.6g}" if target.unit == "1" else f"{value:.6g} K"
    return dataclasses.replace(config, sampler=dataclasses.replace(sampler, method=method, hottest=hottest))


def _resolved(config: SampleConfig, sampler: Any) -> SampleConfig:
    """The configuration with the numbers that the sampler chose in the place of "auto"."""
    places = {
        "ladders": ("ladders", "chains"),
        "rungs": ("rungs",),
        "warmup": ("warmup_rounds", "warmup_steps"),
        "thin": ("thin",),
        "chunk": ("draws_per_chunk",),
    }
    chosen = {}
    for name, attributes in places.items():
        found = [getattr(sampler, attribute) for attribute in attributes if hasattr(sampler, attribute)]
        if getattr(config.sampler, name) == AUTO and found:
            chosen[name] = int(found[0])
    return dataclasses.replace(config, sampler=dataclasses.replace(config.sampler, **chosen))


def build_target(config: TargetConfig, base: Path | None = None) -> Any:
    """The target that a checked configuration describes."""
    if config.name:
        parameters = dict(config.parameters)
        if is_molecule(config):
            parameters.setdefault("forcefield", config.forcefield)
        return registry.make(config.name, **parameters)
    from heatbath.targets import molecules

    if config.sequence:
        return molecules.peptide(config.sequence, forcefield=config.forcefield, capped=config.capped)
    return molecules.molecule(str((base or Path()) / config.structure), forcefield=config.forcefield)


def _options(config: SampleConfig) -> dict[str, Any]:
    """Arguments of ``make_sampler``: what is decided; "auto" keeps the sampler's own default."""
    fields = dataclasses.asdict(config.sampler)
    options = {name: value for name, value in fields.items() if value != AUTO and name not in ("chunk", "model")}
    if config.sampler.method != "replica-exchange":
        for name in ("rungs", "hottest"):
            if name in options:
                raise UsageError(
                    f"sampler.{name} belongs to replica exchange; method {config.sampler.method!r} has no ladder."
                )
    return options


def kernel_names(prepared: Prepared) -> tuple[str, ...]:
    """Names for the bibliography: kernels that move the walkers, parts of composed ones too, and the kind of a trained model."""

    def names(kernel) -> list[str]:
        parts = [*getattr(kernel, "kernels", ()), *filter(None, [getattr(kernel, "kernel", None)])]
        return [name for part in parts for name in names(part)] if parts else [type(kernel).__name__.lower()]

    kind = () if prepared.generator is None else (prepared.generator[1].kind,)
    return (*kind, *names(getattr(prepared.sampler, "kernel", None)))


def cost(prepared: Prepared) -> dict[str, int | None]:
    """What the whole run will need: energy evaluations, bytes of memory and of disk (None where nobody can know)."""
    found = prepared.sampler.cost()
    if found is None:
        return {"energy_evaluations": None, "memory_bytes": None, "disk_bytes": None}
    return {
        "energy_evaluations": found.evaluations,
        "memory_bytes": found.memory_bytes,
        "disk_bytes": found.disk_bytes,
    }


def results(prepared: Prepared, sampled: Any, structures: Path | None = None) -> dict[str, Any]:
    """Every number of results.json from what the sampler collected."""
    from heatbath.experiments.analysis import analyse

    seed = prepared.config.seed
    generator = None
    if prepared.generator is not None:
        from heatbath.experiments.generator_sampling import described

        generator = described(prepared.target, prepared.state, sampled, *prepared.generator, seed=seed)
    return analyse(prepared.target, prepared.state, sampled, seed=seed, structures_dir=structures, generator=generator)
