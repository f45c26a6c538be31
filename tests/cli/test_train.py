"""``heatbath train`` from the command line: data, training, model and report; stopped, continued, refused; sampled from."""

import json
from pathlib import Path

import numpy as np
import pytest

from heatbath.cli import main
from heatbath.io.models import read_card
from heatbath.io.run_directory import RunDirectory

TARGET = ["double-well", "--set", "target.parameters.dimension=2"]
REFERENCE = [
    "--samples",
    "400",
    "--set",
    "sampler.ladders=4",
    "--set",
    "sampler.rungs=2",
    "--set",
    "sampler.hottest=3.0",
]
REFERENCE += ["--set", "sampler.warmup=20"]
TRAINING = ["--size", "toy", "--steps", "60", "--seed", "5", "--quiet"]
TRAINING += ["--set", "training.validate_every=20", "--set", "training.chunk=10", "--set", "training.rate=0.01"]
SMALL = ["train", *TARGET, *REFERENCE, *TRAINING, "--set", "run.checkpoint_every=0 s"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "trained"
    assert main([*SMALL, "--out", str(path)]) == 0
    return path


def test_a_training_leaves_a_model_and_a_report(finished, capsys):
    """The model, how it was made, and how good it is must be in the directory."""
    run = RunDirectory.open(finished)
    assert run.status().word == "done"
    card = read_card(finished)
    assert card.kind == "coupling-flow"
    assert card.temperature == "1.0"
    assert card.training["steps"] == card.training["planned_steps"] == 60
    assert card.training["configurations"] == 300
    assert card.training["curve"]["validation_step"] == [20, 40, 60]
    assert card.training["command"].split()[0] == "heatbath"
    results = run.read_json("results.json")
    assert results["verdict"]["converged"]
    assert 0.05 < results["generator"]["ess"]["fraction"] < 1
    assert results["run"]["finished"]
    assert (finished / "report" / "index.html").read_text().startswith("<!doctype html>")
    assert main(["status", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["progress"] == pytest.approx(1.0)
    assert main(["show", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trained model"] == "coupling-flow"
    assert main(["report", str(finished), "--page-only"]) == 0
    assert main(["cite", str(finished)]) == 0
    assert "heatbath" in capsys.readouterr().out


def test_stopped_by_the_clock_and_resumed(finished, tmp_path, capsys):
    """No time at all stops before the first draw; resumed, the model is the same to the last bit."""
    path = tmp_path / "late"
    assert main([*SMALL, "--max-time", "0 s", "--out", str(path)]) == 3
    assert "resume" in capsys.readouterr().err
    assert "in stage 1 of 2, reference" in RunDirectory.open(path).status().message
    assert main(["resume", str(path), "--quiet"]) == 0
    assert (path / "model" / "arrays.npz").read_bytes() == (finished / "model" / "arrays.npz").read_bytes()


def test_a_signal_during_training(finished, tmp_path, capsys, monkeypatch):
    """SIGTERM between two chunks of the second stage: exit 3, the command to continue, and the same model afterwards."""
    import os
    import signal

    from heatbath.training.trainer import Trainer

    path, advance = tmp_path / "killed", Trainer.advance

    def advance_then_signal(self, carry):
        carry, chunk = advance(self, carry)
        if int(carry.step) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return carry, chunk

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "advance", advance_then_signal)
        assert main([*SMALL, "--out", str(path)]) == 3
    err = capsys.readouterr().err
    assert "in stage 2 of 2, training, 50 % done" in err
    assert f"heatbath resume {path}" in err
    assert main(["resume", str(path), "--quiet"]) == 0
    assert (path / "model" / "arrays.npz").read_bytes() == (finished / "model" / "arrays.npz").read_bytes()


def test_data_of_another_run(tmp_path, capsys):
    """A run of `heatbath sample` is taken as it is; another target or temperature is refused in one sentence."""
    data = tmp_path / "data"
    words = ["sample", *TARGET, *REFERENCE, "--seed", "2", "--quiet"]
    assert main([*words, "--out", str(data)]) in (0, 4)
    trained = ["train", *TARGET, *TRAINING, "--data", str(data)]
    assert main([*trained, "--out", str(tmp_path / "trained")]) == 0
    assert [folder.name for folder in RunDirectory.open(tmp_path / "trained").stage_folders()] == ["1-training"]
    assert read_card(tmp_path / "trained").training["data"] == "data"
    capsys.readouterr()
    assert main([*trained, "--temperature", "2.0", "--out", str(tmp_path / "warm")]) == 2
    assert "Give both the same --temperature" in capsys.readouterr().err
    other = [word if word != "double-well" else "many-well" for word in trained if "dimension" not in word]
    other = [word for i, word in enumerate(other) if not (word == "--set" and other[i + 1 : i + 2] == ["--size"])]
    assert main([*other, "--temperature", "1.0", "--out", str(tmp_path / "other")]) == 2
    assert "another target" in capsys.readouterr().err
    draws = ["sample", *TARGET, "--method", "flow", "--model", str(tmp_path / "trained"), "--samples", "500", "--quiet"]
    assert main([*draws, "--out", str(tmp_path / "drawn")]) in (0, 4)
    results = RunDirectory.open(tmp_path / "drawn").read_json("results.json")
    assert np.isfinite(results["estimates"]["log Z"]["value"])


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--model", "transformer-flow"], 2, "draws molecules"),
        (["--model", "coupling"], 2, "coupling-flow"),
        (["--size", "huge"], 2, "no size"),
        (["--set", "model.sizes.layer=3"], 2, "layers"),
        (["--steps", "0"], 2, "training.steps"),
        (["--set", "training.ema=1.5"], 2, "training.ema"),
        (["--data", "nowhere"], 2, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_at_once(words, code, text, tmp_path, monkeypatch, capsys):
    """One sentence, and no directory."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TARGET, *words, "--quiet"]) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert list(Path().iterdir()) == []


def test_a_training_cannot_be_extended(finished, capsys):
    """Its learning rate has come to its end; more steps would train with none."""
    assert main(["extend", str(finished), "--samples", "+10", "--quiet"]) == 2
    assert "--steps" in capsys.readouterr().err


def test_a_dry_run_prices_both_stages(capsys):
    """The cost of the reference and of the validations, without making anything."""
    assert main([*SMALL, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["model"]["kind"] == "coupling-flow"
    assert found["cost"]["energy_evaluations"] > 10_000
