"""Reference ensembles of peptides, made by the main job: what learned generators are trained on and compared with.

``SYSTEMS`` names them. ``make`` runs replica exchange in a run directory below the data folder (an interrupted one is
continued) and writes ``references/NAME.npz`` with its record; ``from_run`` does the second half for any finished run of
``heatbath sample``. Bonds are flexible: data with constrained bonds would have to be widened by every reweighting.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from heatbath.errors import InvalidArgumentError, UsageError, nearest
from heatbath.experiments.config import build, merge
from heatbath.experiments.resampling import in_proportion
from heatbath.io.datasets import Reference, data_folder, load_reference, records, write_reference
from heatbath.io.run_directory import RunDirectory

if TYPE_CHECKING:
    from heatbath.experiments.drive import Progress
    from heatbath.experiments.launch import Ended

#: Largest difference between a stored energy and the target's own (float32 positions), in kJ/mol, for them to be one system.
SAME_ENERGY = 0.5


@dataclasses.dataclass(frozen=True)
class ReferenceSystem:
    """One reference: a configuration of ``heatbath sample`` (as nested values), and how many frames ship with the package."""

    name: str
    summary: str
    values: Mapping[str, Any]
    frames: int = 50_000
    packaged: int = 0


def _system(name: str, summary: str, target: dict, temperature: str, samples: int, seed: int, **sizes: int):
    values = {"target": target, "temperature": temperature, "seed": seed, "sampler": {"samples": samples}}
    return ReferenceSystem(name, summary, MappingProxyType(values), **sizes)


_CAPPED = {"sequence": "AAA", "capped": True, "forcefield": "amber99sbildn-obc2"}
#: Force fields and temperatures are those of Tan et al., arXiv 2502.18462 (their public configurations).
SYSTEMS: Mapping[str, ReferenceSystem] = MappingProxyType(
    {
        system.name: system
        for system in (
            _system(
                "alanine-dipeptide",
                "Ace-Ala-Nme, amber99sbildn + OBC2, 300 K",
                {"name": "alanine-dipeptide"},
                "300 K",
                100_000,
                9101,
                frames=100_000,
                packaged=4800,
            ),
            _system(
                "alanine-dipeptide-600",
                "Ace-Ala-Nme, amber99sbildn + OBC2, 600 K",
                {"name": "alanine-dipeptide"},
                "600 K",
                100_000,
                9002,
                frames=100_000,
            ),
            _system(
                "aaa",
                "AAA, amber14 + OBC1, 310 K",
                {"sequence": "AAA", "forcefield": "amber14-obc1"},
                "310 K",
                100_000,
                9003,
                frames=100_000,
                packaged=1600,
            ),
            _system(
                "ace-aaa-nme",
                "Ace-AAA-Nme, amber99sbildn + OBC2, 300 K",
                _CAPPED,
                "300 K",
                50_000,
                9004,
                packaged=960,
            ),
            _system(
                "aaaaaa",
                "AAAAAA, amber14 + OBC1, 310 K",
                {"sequence": "AAAAAA", "forcefield": "amber14-obc1"},
                "310 K",
                30_000,
                9005,
                frames=30_000,
                packaged=960,
            ),
            _system(
                "chignolin",
                "GYDPETGTWG, amber14 + OBC1, 310 K",
                {"name": "chignolin", "forcefield": "amber14-obc1"},
                "310 K",
                20_000,
                9006,
                frames=20_000,
                packaged=480,
            ),
        )
    }
)


def system(name: str) -> ReferenceSystem:
    """The system called ``name``. Raises ``UsageError`` with the nearest names when there is none."""
    if name not in SYSTEMS:
        raise UsageError(f"there is no reference called {name!r}. {nearest(name, SYSTEMS)}")
    return SYSTEMS[name]


# Making ---------------------------------------------------------------------------------------------------------------
def make(
    name: str,
    folder: Path | None = None,
    *,
    samples: int | None = None,
    frames: int | None = None,
    max_time: str | None = None,
    overwrite: bool = False,
    progress: "Progress | None" = None,
) -> "tuple[Path | None, Ended]":
    """Draw the reference ``name`` below ``folder`` (default: the data folder) and write it; an interrupted run is continued.

    Returns the path of NAME.npz (None when ``max_time`` ended the run before its last draw; call again to go on) and how the
    run ended. Raises what the builders raise.
    """
    from heatbath.experiments import launch

    entry, folder = system(name), data_folder() if folder is None else Path(folder)
    place = folder / "runs" / name
    values = merge(entry.values, {"sampler": {"samples": samples}} if samples else {})
    if (place / "resolved.toml").is_file() and not overwrite:
        run = RunDirectory.open(place)
        more = str(samples) if samples and samples > launch.load(run).sampler.samples else None
        ended = launch.proceed(run, samples=more, max_time=max_time, progress=progress)
    else:
        from heatbath.experiments import sample

        config = build(sample.Config, merge(values, {"run": {"max_time": max_time or "none"}}))
        ended = launch.start(config, out=place, overwrite=overwrite, progress=progress)
    if not (ended.run.record() or {}).get("finished"):
        return None, ended
    reference = from_run(ended.run, frames or min(entry.frames, samples or entry.frames))
    return write_reference(folder / "references", name, reference), ended


def from_run(run: RunDirectory, frames: int) -> Reference:
    """``frames`` equally weighted draws of a run of replica exchange, the same number from each ladder, in order of time.

    Every ladder is resampled on its own by its weights (systematic resampling, so frames stay in order and a draw of weight below
    one frame appears once at most); the record carries the estimates that the run made from all of its draws.
    Raises ``InvalidArgumentError`` when the run has no independent ladders or ``frames`` is below their number.
    """
    from heatbath.experiments import launch

    target, ensemble = launch.draws(run)
    if ensemble.axes != ("chain", "draw"):
        raise InvalidArgumentError(f"a reference needs independent ladders; '{run.path}' holds exchangeable draws")
    found = of_ensemble(ensemble, frames, seed=run.read_json("provenance.json")["seed"])
    return dataclasses.replace(found, record=_provenance(run, target, ensemble))


def of_ensemble(ensemble: Any, frames: int, *, seed: int, name: str = "") -> Reference:
    """``from_run`` of an ensemble with the axes (chain, draw); the record holds ``name`` and ``beta`` only."""
    weights = ensemble.weights()
    ladders, each = weights.shape[0], frames // weights.shape[0]
    if each < 1:
        raise InvalidArgumentError(f"expected at least {ladders} frames, one per ladder; found {frames}")
    rng = np.random.default_rng(seed)
    picked = np.stack([in_proportion(row, each, rng) for row in weights])
    rows = np.arange(ladders)[:, None]
    positions = np.asarray(ensemble.samples[rows, picked], dtype=np.float32)
    energies = np.asarray(ensemble.energies)[rows, picked]
    record = {"name": name, "beta": float(ensemble.state.beta)}
    return Reference(positions - positions.mean(axis=2, keepdims=True), energies, record)


def _provenance(run: RunDirectory, target: Any, ensemble: Any) -> dict[str, Any]:
    from heatbath.experiments import launch

    made, results = run.read_json("provenance.json"), run.read_json("results.json")
    config = launch.load(run)
    return {
        "target": {key: value for key, value in dataclasses.asdict(config.target).items() if value},
        "forcefield": getattr(target, "forcefield", ""),
        "atoms": list(target.topology.atom_names),
        "temperature": ensemble.state.temperature(target.unit),
        "beta": float(ensemble.state.beta),
        "units": {"positions": "nm", "energies": target.unit, "temperature": "K"},
        "method": results["method"],
        "command": _command(made["argv"]),
        "seed": made["seed"],
        "versions": {
            "heatbath": made["heatbath"],
            "commit": made["commit"],
            "python": made["python"],
            **made["packages"],
        },
        "made": made.get("finished"),
        "draws": results["run"]["draws"],
        "converged": results["verdict"]["converged"],
        "reasons": results["verdict"]["reasons"] if not results["verdict"]["converged"] else [],
        "effective_size": _effective_size(results),
        "free_energy_differences": [
            {
                "from": row["from"],
                "to": row["to"],
                "value": row["value"]["value"],
                "standard_error": row["value"]["standard_error"],
            }
            for row in results["free_energy_differences"]
        ],
        "populations": {
            row["name"]: {key: row["population"][key] for key in ("value", "standard_error")}
            for row in results["basins"]
        },
        "mean_energy": {key: results["estimates"]["mean energy"][key] for key in ("value", "standard_error", "unit")},
    }


def _command(words: Sequence[str]) -> str:
    """The command line as one would type it again, without what changes no number: places, time limits, silence."""
    kept, skip = [], False
    for word in words:
        skipped, skip = skip, word in ("--out", "--max-time")
        if not (skipped or skip or word in ("-q", "--quiet", "--overwrite")):
            kept.append(f'"{word}"' if " " in word else word)
    return " ".join(["heatbath", *kept[1:]])  # also when it ran as ``python -m heatbath``


def _effective_size(results: Mapping[str, Any]) -> dict[str, Any]:
    """Independent draws that the run holds of its slowest observable, and of its rarest basin."""
    chains = results.get("chains") or {}
    kinds = {"observable": None, "basin": None}
    for row in chains.values():
        if row["ess"] is not None:
            kinds[row["kind"]] = min(row["ess"], kinds[row["kind"]] or row["ess"])
    return kinds


# Finding --------------------------------------------------------------------------------------------------------------
def matching(target: Any, temperature: float, *, least: int = 0) -> Reference | None:
    """The reference of ``target`` at ``temperature`` (K), or None.

    Atoms must have the same names in the same order, and the target's own energies of a few frames must be those stored:
    another force field, another cutoff or another protonation is another system.
    """
    topology = getattr(target, "topology", None)
    if topology is None:
        return None
    for name, record in records().items():
        if tuple(record["atoms"]) == topology.atom_names and abs(record["temperature"] - temperature) < 0.05:
            reference = load_reference(name, least=least if int(record["frames"]) >= least else 0)
            if same_energies(target, reference):
                return reference
    return None


def same_energies(target: Any, reference: Reference, frames: int = 8) -> bool:
    """Whether ``target`` gives the stored energies of some frames, within ``SAME_ENERGY``."""
    import jax
    import jax.numpy as jnp

    count = min(frames, reference.size)
    own = np.asarray(jax.vmap(target.energy)(jnp.asarray(reference.flat(count), dtype=float)), dtype=np.float64)
    return bool((np.abs(own - reference.flat_energies(count)) < SAME_ENERGY).all())
