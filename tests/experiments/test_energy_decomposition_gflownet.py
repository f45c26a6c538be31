"""The experiment energy-decomposition-gflownet: complete presets, bad settings refused, exact numbers of a small run."""

import json

import numpy as np
import pytest

from heatbath.cli import main
from heatbath.errors import HeatbathError, InvalidArgumentError, UsageError
from heatbath.experiments import energy_decomposition_gflownet as experiment
from heatbath.experiments import gflownet_problems
from heatbath.experiments.config import build, merge
from heatbath.experiments.gflownet_results import first_below

TOY = [
    *["bag.letters=2", "bag.size=3", "bag.needed=3", "network.width=8", "network.depth=1", "training.rounds=6"],
    *["training.draws=4", "training.replay=4", "training.remembered=16", "training.chunk=3", "training.updates=1"],
    *["training.potential_updates=1", "training.methods=['led', 'fl']", "sampler.samples=200"],
]


def checked(preset, **changes):
    return experiment.check(build(experiment.Config, merge(experiment.PRESETS[preset], changes)))


@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_every_preset_is_complete(preset):
    """A preset that does not pass its own check would fail after hours."""
    assert checked(preset).training.rounds > 0


def test_what_does_not_fit_is_refused_before_anything_is_computed():
    """Unknown methods, impossible numbers, extension of what cannot be extended."""
    for changes in (
        {"training": {"methods": ("leed",)}},
        {"training": {"methods": ()}},
        {"training": {"remembered": 1}},
        {"training": {"dropout": 1.0}},
        {"graph": {"vertices": 40}},
        {"graph": {"beta": 0.0}},
        {"rna": {"floor": 0.0}},
    ):
        with pytest.raises(HeatbathError):
            checked("default", **changes)
    with pytest.raises(UsageError, match="cannot be extended"):
        experiment.extended(checked("default"), "+100")


def test_energies_that_are_no_law_are_refused(monkeypatch):
    """A score that gives NaN must end in a sentence, not in a law without meaning."""
    prepared = experiment.prepare(checked("quick", bag={"letters": 2, "size": 3, "needed": 2}))
    kind = type(prepared.target)
    monkeypatch.setattr(kind, "energy", lambda self, x: np.nan * x.sum())
    with pytest.raises(InvalidArgumentError, match="not numbers"):
        gflownet_problems.problem_of(prepared)


def test_the_price_of_a_goal():
    """Between two rows by a straight line; never reached is said so; reached at once costs the first row."""
    calls = np.array([10.0, 20.0, 30.0])
    assert first_below(calls, np.array([0.5, 0.3, 0.1]), 0.2) == pytest.approx(25.0)
    assert first_below(calls, np.array([0.1, 0.3, 0.1]), 0.2) == 10.0
    assert np.isnan(first_below(calls, np.array([0.5, 0.4, 0.3]), 0.2))


def test_from_end_to_end(tmp_path):
    """Toy size: calls are one per trajectory for learned potentials and three when looking ahead; log Z by weights is exact
    within its error; a page is made.
    """
    out = tmp_path / "run"
    settings = [word for value in TOY for word in ("--set", value)]
    assert main(["run", "energy-decomposition-gflownet", "--out", str(out), "-q", *settings]) in (0, 4)
    found = json.loads((out / "results.json").read_text())["gflownets"]
    assert [row["per_trajectory"] for row in found["methods"]] == [1.0, 3.0]
    assert found["problem"]["objects"] == 4
    assert found["problem"]["states"] == 10
    weights = found["weights"]
    assert abs(weights["log_z"] - weights["exact"]) < 4.5 * weights["log_z_error"]
    history = found["methods"][0]["histories"][0]
    assert history["calls"] == [12.0, 24.0]
    assert all(0 <= value <= 1 for value in history["total_variation"])
    assert "What each method paid" in (out / "report" / "index.html").read_text()
    assert (out / "report" / "figures" / "total-variation.svg").exists()


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["hypergrid", "independent-set", "rna"])
def test_every_problem_runs(problem, tmp_path):
    """Other problems, as short: energies ahead end at the energy of the object, so that looking ahead is consistent."""
    if problem == "rna":
        pytest.importorskip("RNA", reason="needs ViennaRNA: pip install 'heatbath[rna]'")
    small = ["grid.side=4", "rna.length=3", "graph.vertices=6", f"problem={problem}"]
    settings = [word for value in [*TOY, *small] for word in ("--set", value)]
    out = tmp_path / "run"
    assert main(["run", "energy-decomposition-gflownet", "--out", str(out), "-q", *settings]) in (0, 4)
    weights = json.loads((out / "results.json").read_text())["gflownets"]["weights"]
    assert abs(weights["log_z"] - weights["exact"]) < 4.5 * weights["log_z_error"]
