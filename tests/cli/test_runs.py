"""Runs from the command line: from the first call to a report, stopped, killed, continued, and on hostile disks."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from heatbath.cli import main
from heatbath.io.arrays import ArrayStore
from heatbath.io.run_directory import RunDirectory

SMALL = [
    *[
        "sample",
        "double-well",
        "--method",
        "random-walk",
        "--ladders",
        "4",
        "--samples",
        "400",
        "--seed",
        "7",
        "--quiet",
    ],
    *["--set", "sampler.warmup=100"],
]
#: Long enough to be killed on the way: a few seconds in some forty chunks.
LONG = [
    *["sample", "double-well", "--method", "random-walk", "--ladders", "8", "--samples", "8000", "--seed", "3"],
    *["--set", "sampler.thin=250", "--set", "sampler.chunk=25", "--set", "sampler.warmup=100"],
    *["--set", "run.checkpoint_every=0 s"],
]


def arrays(path):
    return ArrayStore(RunDirectory.open(path).ensemble).read()


def assert_same(first, second):
    one, two = arrays(first), arrays(second)
    assert set(one) == set(two)
    for name, rows in one.items():
        assert rows.shape == two[name].shape
        assert rows.tobytes() == two[name].tobytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small finished run."""
    path = tmp_path_factory.mktemp("runs") / "small"
    assert main([*SMALL, "--out", str(path)]) in (0, 4)
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A longer run that was never interrupted."""
    path = tmp_path_factory.mktemp("runs") / "long"
    assert main([*LONG, "--quiet", "--out", str(path)]) in (0, 4)
    return path


def start(path, *extra):
    """The long run in a process of its own."""
    command = [sys.executable, "-m", "heatbath", *LONG, "--out", str(path), *extra]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_draws(process, path, timeout=120):
    """Until a checkpoint with draws is on disk."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        record = RunDirectory(path).record()
        if record and record["draws"] > 0:
            return
        time.sleep(0.02)
    raise AssertionError(f"no draws: {process.communicate()}")


# A whole run ----------------------------------------------------------------------------------------------------------
def test_a_run_leaves_everything_one_needs(finished):
    """A result without its settings, versions, draws or citation cannot be used or repeated."""
    for name in (
        "config.toml",
        "resolved.toml",
        "provenance.json",
        "results.json",
        "STATUS",
        "CITATIONS.bib",
        "metrics.jsonl",
    ):
        assert (finished / name).is_file(), name
    assert (finished / "report" / "index.html").read_text().startswith("<!doctype html>")
    run = RunDirectory.open(finished)
    assert run.status().word == "done"
    results = run.read_json("results.json")
    assert results["run"]["draws"] == 400
    described = ArrayStore(run.ensemble).describe()
    assert described["energies"]["dims"] == ["draw", "chain"]
    provenance = run.read_json("provenance.json")
    assert provenance["seed"] == 7
    assert provenance["segments"][0]["outcome"] == "finished"


def test_the_resolved_configuration_gives_the_same_run(finished, tmp_path):
    """If resolved.toml left something out, nobody could repeat the run from it."""
    resolved = tomllib.loads((finished / "resolved.toml").read_text())
    assert resolved["sampler"] | {"rungs": 0, "hottest": 0} == {
        "method": "random-walk",
        "model": "",
        "samples": 400,
        "ladders": 4,
        "rungs": 0,
        "hottest": 0,
        "warmup": 100,
        "thin": resolved["sampler"]["thin"],
        "chunk": resolved["sampler"]["chunk"],
    }
    assert all(isinstance(resolved["sampler"][name], int) for name in ("thin", "chunk"))
    assert main(["run", str(finished / "resolved.toml"), "--quiet", "--out", str(tmp_path / "again")]) in (0, 4)
    assert_same(finished, tmp_path / "again")


def test_reading_verbs(finished, capsys, tmp_path):
    """Every reading verb speaks text to people and JSON to programs, on stdout alone."""
    directory = str(finished)
    for words in (["status"], ["cite"], ["report", "--page-only"], ["compare", directory]):
        assert main([words[0], directory, *words[1:], "--json"]) in (0, 4)
        json.loads(capsys.readouterr().out)
        assert main([words[0], directory, *words[1:]]) in (0, 4)
        assert capsys.readouterr().out
    assert main(["list", "runs", "--folder", str(finished.parent), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["status"] == "done"
    assert main(["export", directory, str(tmp_path / "draws.npz")]) == 0
    with np.load(tmp_path / "draws.npz") as archive:
        assert archive["log_weights"].shape == (400,)


def test_the_report_is_made_from_the_draws(finished, capsys):
    """`report` must not need anything but the directory: not the process that sampled, not results.json."""
    before = json.loads((finished / "results.json").read_text())
    (finished / "results.json").unlink()
    assert main(["report", str(finished)]) in (0, 4)
    assert json.loads((finished / "results.json").read_text()) == before


def test_extending_continues_the_chains(finished, tmp_path):
    """More samples must leave the earlier ones alone and give what one longer run gives."""
    for name, samples in (("short", "400"), ("whole", "800")):
        words = [samples if word == "400" else word for word in SMALL]
        assert main([*words, "--out", str(tmp_path / name)]) in (0, 4)
    assert main(["extend", str(tmp_path / "short"), "--samples", "+400", "--quiet"]) in (0, 4)
    assert_same(tmp_path / "short", tmp_path / "whole")
    assert tomllib.loads((tmp_path / "short" / "resolved.toml").read_text())["sampler"]["samples"] == 800
    assert main(["extend", str(tmp_path / "short"), "--samples", "100", "--quiet"]) == 2


def test_a_dry_run_says_what_it_would_cost_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    """People ask before they spend an hour."""
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["cost"]["energy_evaluations"] > 400
    assert answer["cost"]["disk_bytes"] == 400 * 2 * 8
    assert answer["config"]["sampler"]["ladders"] == 4
    assert main([*SMALL, "--dry-run"]) == 0
    assert "energy evaluations" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# Stopped, killed, damaged -----------------------------------------------------------------------------------------------
def test_kill_and_resume(long, tmp_path):
    """kill -9 at a random moment must cost time only: after `resume` every array is bitwise the same."""
    path = tmp_path / "killed"
    process = start(path)
    wait_for_draws(process, path)
    time.sleep(float(np.random.default_rng(time.time_ns()).uniform(0, 0.3)))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert RunDirectory.open(path).status().word == "crashed"
    assert main(["resume", str(path), "--quiet"]) in (0, 4)
    assert_same(path, long)
    segments = RunDirectory.open(path).read_json("provenance.json")["segments"]
    assert [segment["outcome"] for segment in segments] == ["killed", "finished"]


def test_a_polite_stop_can_be_resumed(long, tmp_path, capsys):
    """SIGTERM: exit 3, the resume command on stderr, a directory that is good for a report and for going on."""
    path = tmp_path / "stopped"
    process = start(path, "--traceback")
    wait_for_draws(process, path)
    process.terminate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert out == ""
    assert f"heatbath resume {path}" in err
    assert "error" not in err
    run = RunDirectory.open(path)
    assert run.status().word == "stopped"
    assert main(["report", str(path)]) in (0, 3)
    assert 0 < run.read_json("results.json")["run"]["draws"] < 8000
    capsys.readouterr()
    assert main(["resume", str(path), "--quiet"]) in (0, 4)
    assert_same(path, long)


def test_a_time_limit_ends_with_an_answer_or_a_way_to_go_on(tmp_path, capsys):
    """With no time at all there are no draws: exit 3 and how to continue; then the run is what it would have been."""
    assert main([*SMALL, "--out", str(tmp_path / "late"), "--max-time", "0 s"]) == 3
    assert "heatbath resume" in capsys.readouterr().err
    assert RunDirectory.open(tmp_path / "late").status().word == "stopped"
    assert main(["report", str(tmp_path / "late")]) == 1
    assert "warm-up" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "late"), "--quiet"]) in (0, 4)
    assert RunDirectory.open(tmp_path / "late").record()["draws"] == 400


def test_a_truncated_checkpoint(finished, tmp_path, capsys):
    """One sentence, and the previous checkpoint; with none left, an error and no fresh start."""
    words = [*SMALL, "--out", str(tmp_path / "run"), "--set", "run.checkpoint_every=0 s"]
    assert main(words) in (0, 4)
    _, two = sorted((tmp_path / "run" / "state").iterdir())
    (two / "arrays.npz").write_bytes((two / "arrays.npz").read_bytes()[:-20])
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "run"), "--quiet"]) in (0, 4)
    assert "is damaged" in capsys.readouterr().err
    assert_same(tmp_path / "run", finished)
    for folder in (tmp_path / "run" / "state").iterdir():
        (folder / "arrays.npz").write_bytes(b"")
    assert main(["resume", str(tmp_path / "run")]) == 1
    assert "no usable checkpoint" in capsys.readouterr().err
    assert_same(tmp_path / "run", finished)


def test_an_existing_directory_is_refused(finished, capsys, tmp_path):
    """Mixing two runs, or losing the first one. Nothing of it may change."""
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    assert main([*SMALL, "--out", str(finished)]) == 1
    err = capsys.readouterr().err
    assert all(word in err for word in ("heatbath resume", "--out", "--overwrite"))
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    assert main([*SMALL, "--out", str(tmp_path / "thesis"), "--overwrite"]) == 1
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_a_failing_analysis_loses_no_draw(tmp_path, capsys, monkeypatch):
    """A bug after hours of sampling must leave the draws, say so, and let `resume` finish the job."""

    def broken(*arguments, **options):
        raise ZeroDivisionError("bug")

    with monkeypatch.context() as patched:
        patched.setattr("heatbath.experiments.sample.results", broken)
        assert main([*SMALL, "--out", str(tmp_path / "run")]) == 1
    err = capsys.readouterr().err
    assert "400 draws are saved" in err
    assert f"heatbath resume {tmp_path / 'run'}" in err
    assert RunDirectory.open(tmp_path / "run").status().word == "failed"
    assert main(["resume", str(tmp_path / "run"), "--quiet"]) in (0, 4)
    assert RunDirectory.open(tmp_path / "run").status().word == "done"


# Hostile disks --------------------------------------------------------------------------------------------------------
@pytest.fixture
def mounted(tmp_path):
    """Mounts a small disk in memory at a folder; gives a function that remounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        )
        return done.returncode == 0

    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not mount("size=150k"):
        pytest.skip("mounting a small disk needs root on Linux")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(mounted, capsys, monkeypatch):
    """Refused when it can be foreseen; else one sentence, and with room the run goes on. The disk is really full."""
    folder, remount = mounted
    words = [word if word != "400" else "20000" for word in SMALL]
    words += ["--set", "run.checkpoint_every=0 s", "--out", str(folder / "run")]
    assert main(words) == 1
    assert "of disk for its draws" in capsys.readouterr().err
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(
        "heatbath.experiments.launch.check_room", lambda path, needed: None
    )  # others fill disks meanwhile
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "no space left on the disk" in err
    assert "Traceback" not in err
    before = RunDirectory.open(folder / "run").record()["draws"]
    remount("size=50m")
    assert main(["resume", str(folder / "run"), "--quiet"]) in (0, 4)
    assert RunDirectory.open(folder / "run").record()["draws"] == 20_000 > before


def test_a_read_only_directory(mounted, finished, capsys):
    """A run cannot be made or continued there, and the sentence says so; reading still works."""
    folder, remount = mounted
    remount("size=20m")
    subprocess.run(["cp", "-r", str(finished), str(folder / "run")], check=True)
    remount("ro")
    assert main([*SMALL, "--out", str(folder / "new")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["resume", str(folder / "run")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["status", str(folder / "run")]) == 0
    assert "done" in capsys.readouterr().out


# Bad input that only the builders can see -----------------------------------------------------------------------------
ATOM = "ATOM  {:>5} {:<4} {:<3} A   1    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           {}\n"


def broken_pdb(kind: str) -> str:
    if kind == "no PDB":
        return "this is not a structure\n"
    if kind == "unknown residue":
        return ATOM.format(1, "N", "XYZ", 0, 0, 0, "N") + ATOM.format(2, "CA", "XYZ", 1.46, 0, 0, "C") + "END\n"
    return (
        ATOM.format(1, "N", "ALA", 0, 0, 0, "N")
        + ATOM.format(2, "CA", "ALA", 1.46, 0, 0, "C").replace("1.460", "  nan")
        + "END\n"
    )


@pytest.mark.parametrize("kind", ["no PDB", "unknown residue", "not a number"])
def test_a_broken_structure(kind, tmp_path, monkeypatch, capsys):
    """A structure that cannot be used is refused in one sentence, before a run directory exists."""
    monkeypatch.chdir(tmp_path)
    Path("broken.pdb").write_text(broken_pdb(kind))
    assert main(["sample", "broken.pdb", "--quiet"]) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["broken.pdb"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["double-well", "--samples", "100000000000"], "memory"),
        (["double-well", "--set", "target.parameters.barrier=-1.0"], ""),
        (["double-well", "--set", "sampler.hottest=0.5"], "hottest"),
        (["double-well", "--method", "gibbs"], "discrete"),
        (["double-well", "--method", "hmc", "--rungs", "3"], "ladder"),
        (["--sequence", "AXB"], ""),
        (["--sequence", "AAA", "--forcefield", "amber"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_builders_refuse(words, text, tmp_path, monkeypatch, capsys):
    """Too little memory, impossible parameters: one sentence, exit 1 or 2, no directory."""
    monkeypatch.chdir(tmp_path)
    assert main(["sample", *words, "--quiet"]) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert list(tmp_path.iterdir()) == []
