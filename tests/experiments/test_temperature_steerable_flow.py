"""The experiment temperature-steerable-flow: presets are complete, and a run goes from end to end beside exact values."""

import json

import numpy as np
import pytest

from heatbath.cli import main
from heatbath.errors import HeatbathError
from heatbath.estimate import Estimate
from heatbath.experiments import temperature_steerable_flow as experiment
from heatbath.experiments.config import build, merge

TRAINING = ["training.steps=20", "training.batch_size=16", "training.chunk=10", "training.validate_every=20"]
TOY = [
    *TRAINING,
    "model.size=toy",
    "training.frames=400",
    "training.validation_draws=50",
    "sampler.samples=400",
    "sampler.warmup=20",
    "inference.temperatures=['0.5', '1']",
    "inference.draws=200",
    "inference.ladders=4",
    "inference.rounds=40",
    "inference.warmup=20",
    "inference.plain_rungs=2",
    "inference.flow_rungs=2",
]


def checked(preset, **changes):
    return experiment.check(build(experiment.Config, merge(experiment.PRESETS[preset], changes)))


@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_every_preset_is_complete(preset):
    """A preset that does not pass its own check would fail after hours."""
    config = checked(preset)
    assert config.model.kind == "steerable-flow"
    assert config.inference.temperatures


def test_what_does_not_fit_is_refused_before_anything_is_computed():
    """Another kind of model, a ladder with no room, one temperature twice, impossible numbers."""
    for changes in (
        {"model": {"kind": "coupling-flow"}},
        {"inference": {"temperatures": ("600 K", "700 K")}},
        {"inference": {"temperatures": ("300 K", "300 K")}},
        {"inference": {"temperatures": ()}},
        {"inference": {"flow_rungs": 1}},
        {"inference": {"draws": 0}},
    ):
        with pytest.raises(HeatbathError):
            checked("default", **changes)
    assert checked("default", inference={"temperatures": ("600 K",), "ladders": 0}).inference.ladders == 0


@pytest.mark.slow
def test_a_model_system_from_end_to_end(tmp_path):
    """Reference, training, two temperatures, two ladders, and results beside exact values; at toy size."""
    out = tmp_path / "run"
    words = [word for value in TOY for word in ("--set", value)]
    code = main(["run", "temperature-steerable-flow", "--preset", "double-well", "--out", str(out), "-q", *words])
    assert code in (0, 4)
    section = json.loads((out / "results.json").read_text())["steerable"]
    assert section["trained_at"] == 1.0
    assert [row["temperature"] for row in section["temperatures"]] == [0.5, 1.0]
    assert all(row["reference"]["standard_error"] == 0 and row["ess"] > 0 for row in section["temperatures"])
    assert section["identity_std"] < 1e-4
    assert set(section["exchange"]) >= {"plain", "flow"}
    assert "Temperature-steerable flow" in (out / "report" / "index.html").read_text()


def test_free_energy_of_a_population():
    """-log(p / (1 - p)) and its delta-method error; an empty basin has none."""
    from heatbath.experiments.steered import free_energy_of_share

    found = free_energy_of_share(Estimate(0.2, 0.01, 100.0, "test", converged=True))
    assert found is not None
    np.testing.assert_allclose([found.value, found.standard_error], [np.log(4), 0.01 / 0.16])
    assert free_energy_of_share(Estimate(0.0, 0.0, 1.0, "test", converged=True)) is None
