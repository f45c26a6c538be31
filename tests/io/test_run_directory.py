"""Run directories are complete or absent, never overwritten unasked, and know whether somebody drives them."""

import errno
import json

import numpy as np
import pytest

from heatbath.errors import RunDirectoryError
from heatbath.io import run_directory, storage
from heatbath.io.run_directory import RunDirectory, find_runs, json_ready

FILES = {"resolved.toml": "seed = 1\n", "config.toml": ""}


def test_creation_is_all_or_nothing(tmp_path, monkeypatch):
    """A half-made directory that looks like a run would be resumed or reported."""

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run_directory, "write_atomically", full)
        with pytest.raises(RunDirectoryError, match=r"no space left.*Nothing was started"):
            RunDirectory.create(tmp_path / "run", FILES)
    assert list(tmp_path.iterdir()) == []
    run = RunDirectory.create(tmp_path / "run", FILES)
    assert run.read("resolved.toml") == "seed = 1\n"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_existing_run_is_refused_with_three_ways_out(tmp_path):
    """Writing into it would mix two runs."""
    RunDirectory.create(tmp_path / "run", FILES)
    with pytest.raises(RunDirectoryError, match=r"resume.*--out.*--overwrite"):
        RunDirectory.create(tmp_path / "run", FILES)
    (tmp_path / "run" / "results.json").write_text("{}")
    RunDirectory.create(tmp_path / "run", FILES, overwrite=True)
    assert not (tmp_path / "run" / "results.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_overwrite_never_deletes_what_is_no_run(tmp_path):
    """`--out ~ --overwrite` must not delete a home directory."""
    precious = tmp_path / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("x")
    with pytest.raises(RunDirectoryError, match="left alone"):
        RunDirectory.create(tmp_path / "home", FILES, overwrite=True)
    with pytest.raises(RunDirectoryError, match="left alone"):
        RunDirectory.create(precious, FILES, overwrite=True)
    assert precious.read_text() == "x"
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", FILES)


def test_opening_what_is_not_there(tmp_path):
    """A wrong path has to say so instead of failing later."""
    with pytest.raises(RunDirectoryError, match="does not exist"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        RunDirectory.open(tmp_path)


def test_status_tells_a_running_run_from_a_dead_one(tmp_path):
    """A run that was killed says "running" for ever unless its lock is asked."""
    run = RunDirectory.create(tmp_path / "run", FILES)
    assert run.status().word == "crashed"
    assert "resume" in run.status().message
    with run.driven():
        assert run.status().word == "running"
        with pytest.raises(RunDirectoryError, match="another process"), RunDirectory(run.path).driven():
            pass
        with pytest.raises(RunDirectoryError, match="driving"):
            RunDirectory.create(run.path, FILES, overwrite=True)
    run.set_status("done", "converged")
    assert run.status() == run_directory.Status("done", "converged")
    with pytest.raises(RunDirectoryError):
        run.set_status("finished")


def test_metrics_are_lines_and_can_be_cut_back(tmp_path):
    """Metrics beyond the checkpoint would show the same chunk twice after a resume."""
    run = RunDirectory.create(tmp_path / "run", FILES)
    assert run.last_metrics() == {}
    run.append_metrics([{"step": 1, "x": np.float32(0.5)}, {"step": 2, "x": float("nan")}])
    length = run.metrics_length()
    run.append_metrics([{"step": 3}])
    assert run.last_metrics() == {"step": 3}
    with run.metrics.open("a") as stream:
        stream.write('{"step": 4, "x"')
    assert run.last_metrics() == {"step": 3}
    run.truncate_metrics(length)
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert lines == [{"step": 1, "x": 0.5}, {"step": 2, "x": None}]


def test_json_is_valid_json():
    """NaN is no JSON: browsers and other languages would refuse the file."""
    value = json_ready({"a": np.array([1.0, np.nan]), 2: (np.int64(3), float("inf")), "p": np.bool_(True)})
    assert value == {"a": [1.0, None], "2": [3, None], "p": True}
    assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_errors_of_the_disk_are_sentences(tmp_path):
    """Which path, why, what to do."""
    for code, words in (
        (errno.ENOSPC, "no space left"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "could not be used"),
    ):
        with pytest.raises(RunDirectoryError, match=words), storage.explained(tmp_path):
            raise OSError(code, "text of the system")


def test_atomic_writes_leave_the_old_file_on_failure(tmp_path, monkeypatch):
    """A results.json of half its length would replace a good one."""
    path = tmp_path / "file"
    storage.write_atomically(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_runs_are_found(tmp_path):
    """`list runs` must not show folders that are no runs."""
    RunDirectory.create(tmp_path / "b", FILES)
    RunDirectory.create(tmp_path / "a", FILES)
    (tmp_path / "other").mkdir()
    assert [run.path.name for run in find_runs(tmp_path)] == ["a", "b"]
    assert find_runs(tmp_path / "none") == []
