"""From a configuration to a finished run directory: the path that every experiment takes.

``start`` makes a run, ``proceed`` continues one, ``analyse`` redoes the numbers and the page of one from its own files.
Nothing is written before target and sampler stand, so that bad input leaves no directory behind.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from heatbath.errors import HeatbathError, Interrupted, ResourceError, RunDirectoryError
from heatbath.experiments import base
from heatbath.experiments.citations import bibliography
from heatbath.experiments.config import build, to_dict, to_toml
from heatbath.experiments.drive import Driven, Limits, Progress, Reason, StopRequests, collected, drive
from heatbath.experiments.stages import begun, drive_stages, stage_runs
from heatbath.io import provenance
from heatbath.io.run_directory import RunDirectory, check_free
from heatbath.units import parse_quantity

CONVERGED, STOPPED, NOT_CONVERGED = 0, 3, 4


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended: its directory, the exit code that says so, and its results (None when there are too few draws)."""

    run: RunDirectory
    code: int
    results: dict[str, Any] | None


def start(
    config: Any,
    *,
    given: str = "",
    out: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    argv: list[str] | None = None,
) -> Ended:
    """Run ``config`` in a new directory. ``given`` is the text of the user's configuration, kept as config.toml.

    Returns when the run is finished or its time is over. Raises ``Interrupted`` after a signal (the directory can be resumed),
    and any error of the builders before a directory exists.
    """
    began = time.monotonic()
    module = base.experiment(config.experiment)
    config = module.check(config)
    path = Path(out) if out is not None else default_path(config, module.title(config))
    check_free(path, overwrite=overwrite)
    check_writable(path)
    prepared = module.prepare(config)
    check_room(path, module.cost(prepared)["disk_bytes"])
    config = prepared.config
    argv = provenance.command_line() if argv is None else argv
    files = {
        "config.toml": given or resolved_text(config),
        "resolved.toml": resolved_text(module.attached(config)),
        "provenance.json": "{}\n",
        "CITATIONS.bib": bibliography(config, module.kernel_names(prepared)),
        **module.attachments(config),
    }
    run = RunDirectory.create(path, files, overwrite=overwrite)
    with run.driven():
        run.write_json("provenance.json", provenance.gather(seed=config.seed, argv=argv))
        return _run(run, module, prepared, began, progress or Progress(), argv, resume=False)


def proceed(
    run: RunDirectory,
    *,
    samples: str | None = None,
    max_time: str | None = None,
    progress: Progress | None = None,
    argv: list[str] | None = None,
) -> Ended:
    """Continue a run from its last good checkpoint, with more ``samples`` when given ("+10000" or a new total).

    A finished run without ``samples`` is only analysed again. The run's own time limit does not apply again; ``max_time`` does.
    """
    began = time.monotonic()
    config = load(run)
    module = base.experiment(config.experiment)
    if samples is not None:
        config = module.extended(config, samples)
    limit = "none" if max_time is None else max_time
    argv = provenance.command_line() if argv is None else argv
    with run.driven():
        prepared = module.prepare(config, run.path)
        places = [run.ensemble, *(folder / "ensemble" for folder in run.stage_folders())]
        on_disk = sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
        check_room(run.path, max(0, (module.cost(prepared)["disk_bytes"] or 0) - on_disk))
        limited = dataclasses.replace(prepared.config, run=dataclasses.replace(prepared.config.run, max_time=limit))
        if samples is not None:
            run.write("resolved.toml", resolved_text(prepared.config))
        run.set_status("running")
        return _run(
            run, module, dataclasses.replace(prepared, config=limited), began, progress or Progress(), argv, resume=True
        )


def analyse(run: RunDirectory) -> Ended:
    """Compute results.json and the report again from the draws that a checkpoint of the run vouches for.

    Raises ``RunDirectoryError`` when there are none yet.
    """
    config = load(run)
    module = base.experiment(config.experiment)
    prepared = module.prepare(config, run.path)
    results = _finish(run, module, prepared, carry=None)
    if results is None:
        raise RunDirectoryError(_nothing_yet(run))
    record = run.record() or {}
    return Ended(run, exit_code(results, finished=bool(record.get("finished"))), results)


def draws(run: RunDirectory) -> tuple[Any, Any]:
    """The target of a run and its ensemble at the asked state. Raises ``RunDirectoryError`` when there are no draws yet."""
    config = load(run)
    module = base.experiment(config.experiment)
    prepared = module.prepare(config, run.path)
    if not hasattr(module, "stages"):
        sampled = collected(prepared.sampler, prepared.key, run)
        ensemble = None if sampled is None else sampled.ensemble
    elif hasattr(module, "drawn"):
        ensemble = module.drawn(prepared, begun(stage_runs(module.stages(prepared), run, prepared.key)))
    else:
        raise RunDirectoryError(f"'{run.path}' is a run of {config.experiment!r}, which makes no draws.")
    if ensemble is None:
        raise RunDirectoryError(_nothing_yet(run))
    return prepared.target, ensemble


def _nothing_yet(run: RunDirectory) -> str:
    stage = (run.record() or {}).get("stage")
    where = f"it is still in its stage {stage!r}" if stage else "it is still in its warm-up"
    return f"'{run.path}' holds no draws yet: {where}."


def load(run: RunDirectory) -> Any:
    """The configuration of a run, from its resolved.toml."""
    import tomllib

    try:
        values = tomllib.loads(run.read("resolved.toml"))
    except tomllib.TOMLDecodeError as error:
        raise RunDirectoryError(f"'{run.path / 'resolved.toml'}' is damaged: {error}") from error
    return build(base.experiment(values.get("experiment", "")).Config, values)


def exit_code(results: dict[str, Any] | None, *, finished: bool) -> int:
    """0 when the results are converged, 4 when a finished run is not, 3 when it stopped before it was."""
    if results is not None and results["verdict"]["converged"]:
        return CONVERGED
    return NOT_CONVERGED if finished else STOPPED


def default_path(config: Any, title: str) -> Path:
    """``runs/<date>-<title>-<hash of the configuration>``."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    slug = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower()[:40] or config.experiment
    return Path("runs") / f"{stamp}-{slug}-{hashlib.sha256(repr(config).encode()).hexdigest()[:6]}"


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written before time is spent on building anything."""
    folder = _existing(path.absolute().parent)
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise RunDirectoryError(
            f"'{folder}' cannot be written, so '{path}' cannot be made. Choose another place with --out."
        )


def check_room(path: Path, needed: int | None) -> None:
    """Refuse a run whose draws would not fit on the disk. Raises ``ResourceError`` with both sizes."""
    folder = _existing(path.absolute())
    free = shutil.disk_usage(folder).free
    if needed is not None and needed > free:
        raise ResourceError(
            f"this run would need {needed / 1e9:.3g} GB of disk for its draws and {free / 1e9:.3g} GB are free at '{folder}'. "
            "Lower sampler.samples or sampler.rungs, or choose another place with --out."
        )


def _existing(folder: Path) -> Path:
    """``folder`` or its nearest ancestor that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def resolved_text(config: Any) -> str:
    """resolved.toml: every key with its value."""
    return to_toml(
        to_dict(config), header="Every setting of this run. `heatbath resume` builds the run from this file."
    )


# One drive ------------------------------------------------------------------------------------------------------------
def _run(
    run: RunDirectory, module: Any, prepared: Any, began: float, progress: Progress, argv: list[str], *, resume: bool
) -> Ended:
    settings = prepared.config.run
    seconds = None if settings.max_time == "none" else parse_quantity(settings.max_time, "duration")
    limits = Limits(
        deadline=None if seconds is None else began + seconds,
        checkpoint_every=parse_quantity(settings.checkpoint_every, "duration"),
    )
    segment = {"started": provenance.now(), "argv": argv, "outcome": "running"}
    _add_segment(run, segment)
    try:
        with StopRequests().listening() as stop:
            options = {"limits": limits, "progress": progress, "stop": stop}
            if hasattr(module, "stages"):
                driven = drive_stages(module.stages(prepared), prepared.key, run, **options)
            else:
                units = prepared.units
                driven = drive(prepared.sampler, prepared.key, run, resume=resume, units=units, **options)
        _end_segment(run, driven.reason.value, driven.draws)
        if driven.reason is Reason.SIGNAL:
            _interrupt(run, driven, stop)
        results = _finish(run, module, prepared, driven.carry)
    except KeyboardInterrupt:
        run.set_status("stopped", "interrupted after the draws were saved, before they were analysed")
        raise Interrupted(f"interrupted; every draw is saved. Analyse them with: heatbath report {run.path}") from None
    except Interrupted:
        raise
    except Exception as error:
        _mark_failed(run, error, progress)
        raise
    return _conclude(run, driven, results)


def _mark_failed(run: RunDirectory, error: Exception, progress: Progress) -> None:
    """Write the reason into STATUS, and tell the user that what was drawn is not lost."""
    sentence = str(error) if isinstance(error, HeatbathError) else f"{type(error).__name__}: {error}"
    saved = (run.record() or {}).get("draws")
    if saved:
        progress.notice(f"{saved} draws are saved; once the cause is mended, go on with: heatbath resume {run.path}")
    with contextlib.suppress(HeatbathError):  # the disk may be full
        run.set_status("failed", sentence)


def _interrupt(run: RunDirectory, driven: Driven, stop: StopRequests) -> None:
    sentence = f"stopped by {stop.requested} {driven.where or f'after {driven.draws} draws'}"
    run.set_status("stopped", sentence)
    raise Interrupted(f"{sentence}; nothing is lost. Continue with: heatbath resume {run.path}")


def _conclude(run: RunDirectory, driven: Driven, results: dict[str, Any] | None) -> Ended:
    finished = driven.reason is Reason.FINISHED
    code = exit_code(results, finished=finished)
    if results is None:
        words = f"stopped by the time limit {driven.where or 'during warm-up, before the first draw'}"
    else:
        words = "converged" if code == CONVERGED else "not converged: " + " ".join(results["verdict"]["reasons"])
        where = driven.where or f"after {driven.draws} draws"
        words = words if finished else f"stopped by the time limit {where}; {words}"
    run.set_status("done" if finished else "stopped", words)
    return Ended(run, code, results)


def _finish(run: RunDirectory, module: Any, prepared: Any, carry: Any) -> dict[str, Any] | None:
    """results.json and the report from the run's own arrays; None while there is nothing to tell."""
    if hasattr(module, "stages"):
        made = carry or stage_runs(module.stages(prepared), run, prepared.key)
        results = module.results(prepared, begun(made), run)
    else:
        sampled = collected(prepared.sampler, prepared.key, run, carry)
        results = None if sampled is None else module.results(prepared, sampled, run.structures)
    if results is None:
        return None
    from heatbath.report import build as build_report

    record = run.record() or {}
    results["run"] = {
        "draws": record.get("draws"),
        "seconds": record.get("elapsed"),
        "energy_evaluations": record.get("evaluations"),
        "finished": record.get("finished"),
    }
    run.write_json("results.json", results)
    build_report(run.path)
    return results


def _add_segment(run: RunDirectory, segment: dict[str, Any]) -> None:
    record = run.read_json("provenance.json")
    for earlier in record.setdefault("segments", []):
        if earlier["outcome"] == "running":  # nobody drives the run but us, so that process is gone
            earlier["outcome"] = "killed"
    record["segments"].append(segment)
    run.write_json("provenance.json", record)


def _end_segment(run: RunDirectory, outcome: str, draws: int) -> None:
    record = run.read_json("provenance.json")
    record["segments"][-1] |= {"outcome": outcome, "finished": provenance.now(), "draws": draws}
    record["finished"] = provenance.now()
    run.write_json("provenance.json", record)
