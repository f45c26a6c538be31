"""The experiment flow-perturbation: presets are complete, and a run goes from end to end beside exact values."""

import json

import pytest

from heatbath.cli import main
from heatbath.errors import HeatbathError, UsageError
from heatbath.experiments import flow_perturbation as experiment
from heatbath.experiments.config import build, merge

TOY = [
    *[
        "training.steps=4",
        "training.batch_size=8",
        "training.frames=64",
        "training.chunk=4",
        "flow.width=8",
        "flow.depth=1",
    ],
    *["flow.steps=4", "weights.draws=64", "weights.exact_draws=16", "weights.annealed=16", "weights.particles=8"],
    *["weights.moves=1", "weights.at_once=16"],
]
#: A molecule small enough for a toy run in the place of chignolin, and its short reference.
SMALL = [
    *[
        "target.sequence=GG",
        "flow.steps=8",
        "sampler.ladders=2",
        "sampler.rungs=2",
        "sampler.warmup=1",
        "sampler.thin=1",
    ],
    *["sampler.samples=64", "sampler.chunk=16"],
]


def checked(preset, **changes):
    return experiment.check(build(experiment.Config, merge(experiment.PRESETS[preset], changes)))


@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_every_preset_is_complete(preset):
    """A preset that does not pass its own check would fail after hours."""
    config = checked(preset)
    assert set(config.weights.compare) <= set(experiment.LOG_JACOBIANS)
    assert "multi-step" in config.weights.compare


def test_what_does_not_fit_is_refused_before_anything_is_computed():
    """Nets for other targets, unknown log Jacobians, impossible numbers."""
    for changes in (
        {"flow": {"net": "equivariant"}},
        {"weights": {"compare": ("trace",)}},
        {"weights": {"refresh": 0.0}},
        {"weights": {"particles": 1}},
        {"target": {"name": "double-well", "parameters": {}}},
    ):
        with pytest.raises(HeatbathError):
            checked("default", **changes)
    with pytest.raises(UsageError, match="cannot be extended"):
        experiment.extended(checked("default"), "+100")


def settings(values):
    return [word for value in values for word in ("--set", value)]


def test_the_mixture_from_end_to_end(tmp_path):
    """Training, log Jacobians, annealing, results beside exact values; at toy size."""
    out, compare = tmp_path / "run", ["multi-step", "hutchinson-1", "exact"]
    chosen = f"weights.compare={json.dumps(compare)}"
    code = main(["run", "flow-perturbation", "--out", str(out), "-q", *settings([*TOY, chosen])])
    assert code in (0, 4)
    section = json.loads((out / "results.json").read_text())["flow_perturbation"]
    names = [row["name"] for row in section["log_jacobians"]]
    assert names == [*compare, "multi-step, annealed"]
    assert [row["products"] for row in section["log_jacobians"]] == [1, 3, 10, 1]
    unbiased = {row["name"]: row["unbiased_weight"] for row in section["log_jacobians"]}
    assert not unbiased["hutchinson-1"]
    assert unbiased["multi-step"]
    assert abs(section["exact"]["mode_weight"] - 0.25) < 0.01
    assert (out / "report" / "index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["thousand", "full", "full-chignolin"])
def test_other_presets_from_end_to_end(preset, tmp_path):
    """The presets of paper size with toy numbers: shapes, whitening, gated experts, a molecule with its centre held."""
    out = tmp_path / "run"
    small = SMALL if preset == "full-chignolin" else ["target.parameters.dimension=12", "training.frames=256"]
    code = main(["run", "flow-perturbation", "--preset", preset, "--out", str(out), "-q", *settings([*TOY, *small])])
    assert code in (0, 4)
    assert json.loads((out / "results.json").read_text())["flow_perturbation"]["log_jacobians"]


def test_a_stage_without_any_weight_is_said_and_left_out():
    """A log Jacobian that fails must not take the others' answers with it; a stage that has not begun is no failure."""
    import numpy as np

    from heatbath.ensemble import Ensemble
    from heatbath.errors import ConvergenceError
    from heatbath.experiments.perturbed_flows import _sampled
    from heatbath.samplers.base import Sampled
    from heatbath.state import ThermoState

    good = Sampled(Ensemble(np.zeros((2, 1)), np.zeros(2), ThermoState(1.0)), {})

    class Good:
        def sampled(self):
            return good

    class Empty:
        def sampled(self):
            raise ConvergenceError("none of the draws has any weight")

    found, failures = _sampled({"multi-step": Good(), "exact": Empty()}, ("multi-step", "exact", "annealing"))
    assert found == {"multi-step": good}
    assert failures == ["Stage exact: none of the draws has any weight"]
