"""The experiment generalized-ensemble: presets are complete, and a small run finds what is there to be found."""

import json

import pytest

from heatbath.cli import main
from heatbath.errors import HeatbathError, UsageError
from heatbath.experiments import generalized_ensemble as experiment
from heatbath.experiments.config import build, merge

TOY = [
    *["model.spins=4", "sampler.samples=6400", "sampler.warmup=20", "sampler.thin=1", "kernels.pairs=4000"],
    *["kernels.names=['gibbs-random', 'gibbs-sequential']", "driven.spins=3", "driven.jumps=2000"],
    "driven.trajectories=20",
]


def checked(preset, **changes):
    return experiment.check(build(experiment.Config, merge(experiment.PRESETS[preset], changes)))


@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_every_preset_is_complete(preset):
    """A preset that does not pass its own check would fail after hours."""
    assert set(checked(preset).kernels.names) == set(experiment.KERNELS)


def test_what_does_not_fit_is_refused_before_anything_is_computed():
    """Too many spins, unknown kernels, impossible numbers."""
    for changes in (
        {"model": {"spins": 30}},
        {"model": {"density": 0.0}},
        {"sampler": {"chains": 2}},
        {"kernels": {"names": ("metropolis",)}},
        {"driven": {"spins": 1}},
    ):
        with pytest.raises(HeatbathError):
            checked("default", **changes)
    with pytest.raises(UsageError, match="cannot be extended"):
        experiment.extended(checked("default"), "+100")


def test_from_end_to_end(tmp_path):
    """All stages at toy size: the right pair drives, both kernels are what they claim, identities hold, a page is made."""
    out = tmp_path / "run"
    settings = [word for value in TOY for word in ("--set", value)]
    assert main(["run", "generalized-ensemble", "--out", str(out), "-q", *settings]) in (0, 4)
    results = json.loads((out / "results.json").read_text())
    found = results["generalized_ensemble"]
    assert [row["found"] for row in found["kernels"]] == ["balance", "stationary"]
    assert [row["pair"] for row in found["driven"]["pairs"] if abs(row["z"]) > 4] == [[0, 2]]
    assert found["inference"]["largest_z"] < 5
    assert all(abs(row["value"] - row["reference"]) <= row["tolerance"] for row in found["exact"])
    production = found["driven"]["entropy_production"]
    assert abs(production["value"] - production["exact"]) < 5 * production["standard_error"]
    page = (out / "report" / "index.html").read_text()
    assert "Certificates of kernels" in page
    assert (out / "report" / "figures" / "affinities.svg").exists()
