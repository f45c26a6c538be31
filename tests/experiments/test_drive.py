"""A driven run can be stopped, killed, damaged and continued, and gives the same numbers."""

import errno
import os
import signal
import time

import jax
import numpy as np
import pytest

from heatbath.errors import CheckpointError, RunDirectoryError
from heatbath.experiments import drive as driving
from heatbath.experiments.drive import Limits, Progress, Reason, StopRequests, collected, drive
from heatbath.io import checkpoint
from heatbath.io.arrays import ArrayStore
from heatbath.io.run_directory import RunDirectory

ALWAYS = Limits(checkpoint_every=0.0)


class StopAfter(StopRequests):
    """Requests a stop when asked for the ``count``-th time, as a signal would between two chunks."""

    def __init__(self, count):
        self.count = count

    @property
    def requested(self):
        self.count -= 1
        return "SIGTERM" if self.count < 0 else None


class Listener(Progress):
    def __init__(self):
        self.beats, self.notices = [], []

    def beat(self, beat):
        self.beats.append(beat)

    def notice(self, sentence):
        self.notices.append(sentence)


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(driving, "CHECKPOINT_SHARE", 1e9)
    return lambda name: RunDirectory.create(tmp_path / name, {"resolved.toml": ""})


@pytest.fixture
def whole(make, small_sampler, key):
    run = make("whole")
    listener = Listener()
    driven = drive(small_sampler(), key, run, units={"energies": "kJ/mol"}, progress=listener)
    return run, driven, listener


def arrays(run):
    return ArrayStore(run.ensemble).read()


def assert_same(run, other):
    first, second = arrays(run), arrays(other)
    assert set(first) == set(second)
    for name, rows in first.items():
        assert rows.tobytes() == second[name].tobytes()


def test_a_whole_run(whole, small_sampler, key):
    """Draws, axes, units and metrics are on disk, and what is collected is what was drawn."""
    run, driven, listener = whole
    assert driven.reason is Reason.FINISHED
    assert driven.draws == 120
    described = ArrayStore(run.ensemble).describe()
    assert described["energies"] == {"shape": [40, 3], "dtype": "float64", "dims": ["draw", "chain"], "unit": "kJ/mol"}
    assert [beat.phase for beat in listener.beats] == ["warm-up"] * 2 + ["production"] * 8
    assert listener.beats[-1].fraction == 1.0
    assert run.metrics_length() == run.record()["metrics_bytes"]
    assert run.last_metrics()["draws"] == 120
    sampled = collected(small_sampler(), key, run)
    assert np.array_equal(sampled.ensemble.energies, arrays(run)["energies"].T)
    assert sampled.diagnostics["scale"] == float(driven.carry.scale)


@pytest.mark.parametrize("chunks", [0, 1, 2, 3, 7])
def test_stopping_and_resuming_changes_nothing(make, small_sampler, key, whole, chunks):
    """A resumed run that differs in one bit is another run."""
    run = make("stopped")
    driven = drive(small_sampler(), key, run, stop=StopAfter(chunks))
    assert driven.reason is Reason.SIGNAL
    assert driven.draws == 15 * max(0, chunks - 2)
    assert drive(small_sampler(), key, run, resume=True).reason is Reason.FINISHED
    assert_same(run, whole[0])
    steps = [line.split(",")[0] for line in run.metrics.read_text().splitlines()]
    assert len(steps) == len(set(steps)) == 10


def test_what_lies_beyond_the_checkpoint_is_cut_off(make, small_sampler, key, whole):
    """Draws written after the last checkpoint of a killed run would be counted twice."""
    run = make("killed")
    drive(small_sampler(), key, run, stop=StopAfter(4), limits=ALWAYS)
    ArrayStore(run.ensemble).append({"samples": np.ones((3, 3)), "energies": np.ones((3, 3))})
    with run.metrics.open("a") as stream:
        stream.write('{"step": 99}\n{"half')
    assert collected(small_sampler(), key, run).ensemble.energies.shape == (3, 10)
    drive(small_sampler(), key, run, resume=True)
    assert_same(run, whole[0])


def test_a_truncated_checkpoint_costs_the_time_since_the_one_before(make, small_sampler, key, whole):
    """The previous checkpoint and its shorter series must fit together."""
    run = make("damaged")
    drive(small_sampler(), key, run, stop=StopAfter(6), limits=ALWAYS)
    newest = sorted(run.state.iterdir())[-1] / "arrays.npz"
    newest.write_bytes(newest.read_bytes()[:50])
    listener = Listener()
    drive(small_sampler(), key, run, resume=True, progress=listener)
    assert len(listener.notices) == 1
    assert "000006 is damaged" in listener.notices[0]
    assert "000005" in listener.notices[0]
    assert_same(run, whole[0])


def test_without_a_checkpoint_resume_refuses(make, small_sampler, key):
    """A silent fresh start would look like a continued run."""
    with pytest.raises(CheckpointError, match="found none"):
        drive(small_sampler(), key, make("new"), resume=True)


def test_the_key_decides(make, small_sampler, key, whole):
    """Negative control: another seed gives other draws, so the equalities above mean something."""
    run = make("other")
    drive(small_sampler(), jax.random.fold_in(key, 1), run)
    assert not np.array_equal(arrays(run)["samples"], arrays(whole[0])["samples"])


def test_more_draws_continue_the_same_chain(make, small_sampler, key):
    """`extend` must give what a longer run would have given."""
    short, long = make("short"), make("long")
    drive(small_sampler(draws=20), key, short)
    drive(small_sampler(draws=60), key, short, resume=True)
    drive(small_sampler(draws=60), key, long)
    assert_same(short, long)


def test_the_deadline_stops_cleanly(make, small_sampler, key, whole):
    """A time limit leaves a run that can be collected and continued."""
    run = make("late")
    driven = drive(small_sampler(), key, run, limits=Limits(deadline=time.monotonic()))
    assert driven.reason is Reason.TIME
    assert collected(small_sampler(), key, run) is None
    drive(small_sampler(), key, run, resume=True)
    assert_same(run, whole[0])


@pytest.mark.parametrize("place", ["draws", "checkpoint", "metrics"])
def test_a_full_disk_loses_nothing_that_was_good(make, small_sampler, key, whole, monkeypatch, place):
    """The error is one sentence, and after making room the run continues to the same numbers."""
    import zarr.storage._local as local

    run = make("full")
    drive(small_sampler(), key, run, stop=StopAfter(4), limits=ALWAYS)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if place == "draws":
            patched.setattr(local, "_put", full)
        elif place == "checkpoint":
            patched.setattr(checkpoint, "write_atomically", full)
        else:
            patched.setattr(RunDirectory, "append_metrics", lambda self, rows: raise_explained(self, full))
        with pytest.raises(RunDirectoryError, match="no space left on the disk"):
            drive(small_sampler(), key, run, resume=True, limits=ALWAYS)
    drive(small_sampler(), key, run, resume=True)
    assert_same(run, whole[0])


def raise_explained(run, action):
    with driving.explained(run.metrics):
        action()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request(number):
    """Ctrl-C in the middle of a checkpoint must not leave half of it; afterwards signals act as before."""
    before = signal.getsignal(number)
    with StopRequests().listening() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert stop.requested == signal.Signals(number).name
        assert signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(number) == before


def test_draws_do_not_pile_up_in_memory(make, small_sampler, key, whole, monkeypatch):
    """Between two checkpoints an hour apart, draws must go to the disk all the same."""
    monkeypatch.setattr(driving, "PENDING_BYTES", 200)
    run = make("piled")
    drive(small_sampler(), key, run)
    assert_same(run, whole[0])
