"""Runs made of stages: one process after another, each in a sub-directory, each resumable by itself.

::

    stages.json                     names and shares, so that the progress of the whole can be read without the program
    stages/1-reference/             state/  ensemble/  metrics.jsonl  of one driven process
    stages/2-training/

A module of an experiment that has stages offers, beside ``Config``, ``PRESETS``, ``check``, ``prepare``, ``cost`` and the others
(see ``base``):

``stages(prepared) -> tuple[Stage, ...]``
``results(prepared, done, run) -> dict | None``           ``done``: name -> ``StageRun`` of every stage that has begun; None when
                                                          it is too early
``drawn(prepared, done) -> Ensemble``                     optional: the draws that `heatbath export` writes

Finished stages are skipped on resume; the one that was interrupted continues bitwise, because its process does.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import PyTree

from heatbath.errors import RunDirectoryError
from heatbath.experiments.drive import Beat, Driven, Limits, Progress, Reason, StopRequests, collected, drive
from heatbath.io import checkpoint
from heatbath.io.run_directory import RunDirectory
from heatbath.io.trees import restore
from heatbath.process import Process
from heatbath.random import named_key
from heatbath.samplers.base import Cost, Sampled, Sampler


@dataclasses.dataclass(frozen=True)
class Stage:
    """One process of a run.

    name:  a word, also the name of its folder
    make:  builds the process when its turn comes; ``make(done)`` sees the ``StageRun`` of every earlier stage
    share: expected share of the whole run's time, any unit; used for the progress alone
    units: units of its arrays by name
    """

    name: str
    make: Callable[[Mapping[str, "StageRun"]], Process]
    share: float = 1.0
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)


class StageRun:
    """What a stage has left on disk, read when it is asked for."""

    def __init__(self, stage: Stage, run: RunDirectory, key: Any, done: Mapping[str, "StageRun"]):
        self.stage, self.run, self.key, self._done = stage, run, key, done
        self._driven: PyTree | None = None

    @functools.cached_property
    def process(self) -> Process:
        """The process itself."""
        return self.stage.make(self._done)

    @property
    def begun(self) -> bool:
        """Whether there is anything to continue: a folder of checkpoints, damaged ones included."""
        return self.run.state.is_dir() and any(self.run.state.glob("[0-9]*"))

    @property
    def finished(self) -> bool:
        """Whether its last checkpoint says so."""
        return bool((self.run.record() or {}).get("finished"))

    @property
    def carry(self) -> PyTree:
        """The carry of the last good checkpoint, or the one just driven to."""
        if self._driven is None:
            saved, _ = checkpoint.load_latest(self.run.state)
            self._driven = restore(self.process.begin(self.key), saved.arrays)
        return self._driven

    def sampled(self) -> Sampled | None:
        """What a sampler's stage has drawn so far; None while there are no draws."""
        if not isinstance(self.process, Sampler):
            raise RunDirectoryError(f"stage {self.stage.name!r} of '{self.run.path}' makes no draws")
        return collected(self.process, self.key, self.run, self.carry)

    def drive(self, **options: Any) -> Driven:
        """Begin or continue it; ``options`` are those of ``experiments.drive.drive``."""
        self._driven = None
        self.run.path.mkdir(parents=True, exist_ok=True)
        driven = drive(self.process, self.key, self.run, resume=self.begun, units=self.stage.units, **options)
        self._driven = driven.carry
        return driven


def stage_runs(stages: Sequence[Stage], run: RunDirectory, key: Any) -> dict[str, StageRun]:
    """Every stage of ``run`` by name, whether begun or not. A stage's key is ``key`` with its name folded in."""
    done: dict[str, StageRun] = {}
    for number, stage in enumerate(stages, start=1):
        place = RunDirectory(run.path / "stages" / f"{number}-{stage.name}")
        done[stage.name] = StageRun(stage, place, named_key(key, f"stage {stage.name}"), dict(done))
    return done


def drive_stages(
    stages: Sequence[Stage],
    key: Any,
    run: RunDirectory,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
    stop: StopRequests | None = None,
) -> Driven:
    """Drive every stage that is not finished, in order, until the end, the deadline or a signal.

    The result's ``carry`` are the ``stage_runs``, ``draws`` those of the last stage that was driven, and ``where`` says how far
    that one is.
    """
    progress = progress or Progress()
    run.write_json("stages.json", [{"name": stage.name, "share": stage.share} for stage in stages])
    done = stage_runs(stages, run, key)
    driven = None
    for number, (name, here) in enumerate(done.items(), start=1):
        if here.finished:
            continue
        shown = _StageProgress(progress, f"{number}/{len(stages)} {name}")
        driven = here.drive(limits=limits, progress=shown, stop=stop)
        if driven.reason is not Reason.FINISHED:
            fraction = (here.run.record() or {}).get("progress", 0.0)
            return dataclasses.replace(
                driven, carry=done, where=f"in stage {number} of {len(stages)}, {name}, {100 * fraction:.0f} % done"
            )
    if driven is None:  # every stage was finished before
        record = run.record() or {}
        return Driven(Reason.FINISHED, done, int(record.get("draws", 0)))
    return dataclasses.replace(driven, carry=done)


def begun(done: Mapping[str, StageRun]) -> dict[str, StageRun]:
    """Those of ``stage_runs`` that have left something on disk."""
    return {name: here for name, here in done.items() if here.begun}


def total_cost(costs: Sequence[Cost | None]) -> dict[str, int | None]:
    """Costs of stages added up (memory: the largest), in the form of a module's ``cost``; unknown parts make a sum unknown."""
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) < len(costs):
        return {"energy_evaluations": None, "memory_bytes": None, "disk_bytes": None}
    return {
        "energy_evaluations": sum(cost.evaluations for cost in known),
        "memory_bytes": max(cost.memory_bytes for cost in known),
        "disk_bytes": sum(cost.disk_bytes for cost in known),
    }


class _StageProgress(Progress):
    """Beats with the stage's name in their phase."""

    def __init__(self, outer: Progress, name: str):
        self._outer, self._name = outer, name

    def beat(self, beat: Beat) -> None:
        phase = self._name if beat.phase in self._name else f"{self._name}, {beat.phase}"
        self._outer.beat(dataclasses.replace(beat, phase=phase))

    def notice(self, sentence: str) -> None:
        self._outer.notice(sentence)
