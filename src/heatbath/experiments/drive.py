"""The host loop: drives a sampler or a training chunk by chunk, writes what it produces, and can stop, die and go on.

A checkpoint is one transaction: first the draws and metrics since the last one are on disk, then the carry is saved
together with their lengths. Whatever happens between two checkpoints is cut off and computed again by ``resume``; since
a sampler's carry holds everything its future depends on, the arrays are then bitwise those of an uninterrupted run.
"""

import contextlib
import dataclasses
import enum
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from heatbath.errors import CheckpointError
from heatbath.io import checkpoint
from heatbath.io.arrays import ArrayStore
from heatbath.io.checkpoint import Checkpoint
from heatbath.io.run_directory import RunDirectory
from heatbath.io.storage import explained
from heatbath.io.trees import flatten, restore
from heatbath.process import Chunk, Process
from heatbath.samplers.base import Sampled, Sampler

#: Draws kept in memory between two checkpoints; more are written at once and counted at the next checkpoint.
PENDING_BYTES = 128 * 2**20
#: Checkpoints may take this fraction of the time at most; a slow disk makes them rarer.
CHECKPOINT_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Beat:
    """Where a run stands after a chunk: what a progress line shows.

    ``fraction`` of the whole in [0, 1]; ``draws`` at the asked state, all chains together; ``elapsed`` and ``remaining`` in
    seconds (None while unknown); ``rate`` in energy evaluations per second; ``metrics`` are the chunk's own numbers.
    """

    phase: str
    fraction: float
    draws: int
    elapsed: float
    remaining: float | None
    rate: float
    metrics: Mapping[str, float]


class Progress:
    """Where a run reports to. This one keeps silent."""

    def beat(self, beat: Beat) -> None:
        """Called after every chunk."""

    def notice(self, sentence: str) -> None:
        """Called with what a person should know."""


class Reason(enum.Enum):
    """Why the loop ended."""

    FINISHED = "finished"
    TIME = "time limit"
    SIGNAL = "signal"


@dataclasses.dataclass(frozen=True)
class Limits:
    """``deadline``: when to stop, on the clock of ``time.monotonic`` (None: never). ``checkpoint_every``: seconds."""

    deadline: float | None = None
    checkpoint_every: float = 20.0


@dataclasses.dataclass(frozen=True)
class Driven:
    """How a drive ended: the reason, the last carry, and the number of draws at the asked state, all chains together.

    ``where`` says in words how far it came, for runs of which the number of draws says too little.
    """

    reason: Reason
    carry: PyTree
    draws: int
    where: str = ""


class StopRequests:
    """Ctrl-C and SIGTERM as requests: the first is noted, the next acts at once as if this object were not there."""

    def __init__(self):
        self.requested: str | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequests"]:
        """Take the signals over for the enclosed block (in the main thread; elsewhere nothing changes)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}

        def note(number, frame):
            self.requested = signal.Signals(number).name
            for other in numbers:  # compiled code cannot be interrupted, but the default action can end the process
                signal.signal(other, signal.SIG_DFL)

        try:
            for number in numbers:
                signal.signal(number, note)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def drive(
    process: Process,
    key: Any,
    run: RunDirectory,
    *,
    resume: bool = False,
    limits: Limits | None = None,
    units: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    stop: StopRequests | None = None,
) -> Driven:
    """Run ``process`` until it is finished, the deadline has come, or a signal was noted.

    With ``resume`` it continues from the run's last good checkpoint and raises ``CheckpointError`` when there is none;
    without, it begins from ``key``. Draws go to the run's ensemble with the process's axis names and ``units``. The caller
    holds the run's lock. Raises ``RunDirectoryError`` when the disk refuses; the last checkpoint is good then.
    """
    limits, progress, stop = limits or Limits(), progress or Progress(), stop or StopRequests()
    ledger = _Ledger(run, process.axes, units or {})
    carry = process.begin(key)
    if resume:
        carry = ledger.load(carry, progress)
    else:
        carry = restore(carry, flatten(carry))  # without weak types, exactly as a resumed run would find it
        ledger.save(carry, process)
    forecast, reason = _Forecast(), Reason.FINISHED
    while not process.finished(carry):
        if stop.requested:
            reason = Reason.SIGNAL
            break
        if limits.deadline is not None and time.monotonic() >= limits.deadline:
            reason = Reason.TIME
            break
        before = time.monotonic()
        carry, chunk = process.advance(carry)
        fraction = float(process.progress(carry))
        seconds = time.monotonic() - before
        ledger.add(chunk, fraction, seconds)
        rate = float(chunk.metrics["evaluations"]) / max(seconds, 1e-9)
        remaining = forecast.remaining(chunk.phase, fraction)
        progress.beat(Beat(chunk.phase, fraction, ledger.draws, ledger.elapsed, remaining, rate, chunk.metrics))
        if ledger.is_due(limits.checkpoint_every):
            ledger.save(carry, process)
    ledger.save(carry, process)
    return Driven(reason, carry, ledger.draws)


def collected(sampler: Sampler, key: Any, run: RunDirectory, carry: PyTree | None = None) -> Sampled | None:
    """What the run's directory holds, put through ``sampler.collect``; None while there are no draws.

    Only draws that a checkpoint vouches for are read, so a run may be looked at while it is driven. ``carry`` saves a
    second start of the sampler when the caller has just driven it.
    """
    saved, _ = checkpoint.load_latest(run.state)
    if carry is None:
        carry = restore(sampler.begin(key), saved.arrays)
    arrays = ArrayStore(run.ensemble).read(saved.record["lengths"])
    if not arrays or min(len(rows) for rows in arrays.values()) == 0:
        return None
    return sampler.collect(arrays, carry)


class _Ledger:
    """The series of one run: what is on disk, what is not yet, and how far the last checkpoint vouches."""

    def __init__(self, run: RunDirectory, axes: Mapping[str, tuple[str, ...]], units: Mapping[str, str]):
        self.run, self.axes, self.units = run, axes, units
        self.store = ArrayStore(run.ensemble)
        self.step, self.draws, self.elapsed, self.evaluations = 0, 0, 0.0, 0.0
        self.lengths: dict[str, int] = {}
        self.pending: list[Mapping[str, np.ndarray]] = []
        self.pending_bytes = 0
        self.rows: list[dict] = []
        self.saved_step, self.saved_at, self.save_cost = -1, time.monotonic(), 0.0

    def load(self, template: PyTree, progress: Progress) -> PyTree:
        """The carry of the last good checkpoint, shaped like ``template``, with every series cut back to it."""
        saved, problems = checkpoint.load_latest(self.run.state)
        for problem in problems:
            progress.notice(f"{problem}; continuing from checkpoint {saved.step:06d}.")
        record = saved.record
        carry = restore(template, saved.arrays)
        self.store.truncate(record["lengths"])
        if self.run.metrics_length() < record["metrics_bytes"]:
            raise CheckpointError(f"'{self.run.metrics}' is shorter than its checkpoint says; it was changed by hand.")
        self.run.truncate_metrics(record["metrics_bytes"])
        checkpoint.discard_after(self.run.state, saved.step)
        self.step = self.saved_step = saved.step
        self.lengths, self.draws = dict(record["lengths"]), record["draws"]
        self.elapsed, self.evaluations = record["elapsed"], record["evaluations"]
        return carry

    def add(self, chunk: Chunk, fraction: float, seconds: float) -> None:
        """Take one chunk in."""
        self.step += 1
        self.elapsed += seconds
        self.evaluations += float(chunk.metrics["evaluations"])
        if chunk.phase == "production":
            self.pending.append(chunk.arrays)
            self.pending_bytes += sum(array.nbytes for array in chunk.arrays.values())
            self.draws += self._independent(chunk.arrays["energies"])
        self.rows.append(
            {
                "step": self.step,
                "phase": chunk.phase,
                "progress": fraction,
                "draws": self.draws,
                "elapsed": round(self.elapsed, 3),
                **{name: float(value) for name, value in chunk.metrics.items()},
            }
        )
        if self.pending_bytes > PENDING_BYTES:
            self._flush_draws()

    def is_due(self, every: float) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self.saved_at > max(every, self.save_cost / CHECKPOINT_SHARE)

    def save(self, carry: PyTree, process: Process) -> None:
        """One checkpoint; nothing when nothing has happened since the last."""
        if self.step == self.saved_step:
            return
        before = time.monotonic()
        self._flush_draws()
        self.store.sync()
        self.run.append_metrics(self.rows)
        self.rows = []
        record = {
            "lengths": self.lengths,
            "metrics_bytes": self.run.metrics_length(),
            "draws": self.draws,
            "elapsed": self.elapsed,
            "evaluations": self.evaluations,
            "progress": float(process.progress(carry)),
            "finished": bool(process.finished(carry)),
        }
        good = (
            f"The run is good up to checkpoint {self.saved_step:06d}." if self.saved_step >= 0 else "Nothing is lost."
        )
        with explained(self.run.path, good):
            checkpoint.save(self.run.state, Checkpoint(self.step, flatten(carry), record))
        self.saved_step, self.saved_at = self.step, time.monotonic()
        self.save_cost = self.saved_at - before

    def _independent(self, energies: np.ndarray) -> int:
        """Draws at the asked state: recorded times, times the chains or ladders that go side by side."""
        names = zip(self.axes["energies"], energies.shape, strict=True)
        return int(np.prod([size for name, size in names if name in ("draw", "chain", "ladder")]))

    def _flush_draws(self) -> None:
        if not self.pending:
            return
        names = self.pending[0]
        rows = {name: np.concatenate([chunk[name] for chunk in self.pending]) for name in names}
        # the factors of a product space are called "samples.<factor>" and share the unit of "samples"
        units = {name: self.units.get(name, self.units.get(name.partition(".")[0], "1")) for name in rows}
        self.store.append(rows, dims=self.axes, units=units)
        for name, array in rows.items():
            self.lengths[name] = self.lengths.get(name, 0) + len(array)
        self.pending, self.pending_bytes = [], 0


class _Forecast:
    """Time left, from the speed of a phase after its first chunk, which has the compilation in it."""

    def __init__(self):
        self._phase, self._since, self._fraction = "", 0.0, 0.0

    def remaining(self, phase: str, fraction: float) -> float | None:
        """Seconds left when ``fraction`` is done now; None while nobody can know."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._since, self._fraction = phase, now, fraction
            return None
        done = fraction - self._fraction
        return (now - self._since) * (1 - fraction) / done if done > 0 else None
