"""The experiment on position-dependent diffusion: what it refuses, what a small run finds, that it resumes."""

import jax
import numpy as np
import pytest

from heatbath.errors import HeatbathError
from heatbath.experiments import diffusion_results
from heatbath.experiments import state_dependent_diffusion as module
from heatbath.experiments.config import build, merge
from heatbath.experiments.launch import start
from heatbath.report import diffusion as section
from heatbath.report.record import read

SMALL = {
    "dynamics": {"alphas": (0.0, 1.0), "particles": 3000, "time_step": 0.02, "time": 2.0, "coarse": 10.0, "paths": 200},
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A small run from configuration to report."""
    return start(build(module.Config, SMALL), out=tmp_path_factory.mktemp("diffusion") / "run", argv=["test"])


def test_the_drift_decides(ended):
    """With the drift Boltzmann, without it far away at alpha = 0 and not at alpha = 1, where none is needed."""
    found = ended.results["diffusion"]
    assert all(row["from_boltzmann"] < 4.5 for row in found["with_drift"])
    without = {row["alpha"]: row for row in found["without_drift"]}
    assert without[0.0]["from_boltzmann"] > 10
    assert without[0.0]["from_expected"] < 4.5
    assert without[1.0]["from_boltzmann"] < 4.5
    assert found["adjusted"]["sigmas"] < 4.5
    assert "Position-dependent diffusion" in (ended.run.path / "report" / "index.html").read_text()
    assert len(section.section(read(ended.run.path).results).plots) == 3


def test_a_stage_continues_bitwise():
    """Blocks of particles have keys of their own, whatever happens between them."""
    run = module.prepare(build(module.Config, merge(SMALL, {"dynamics": {"particles": 400, "time": 0.2}}))).runs[
        "with-drift"
    ]
    key = jax.random.key(1)
    ends = []
    for stops in (1, 2):
        carry = run.begin(key)
        for _ in range(stops):
            carry = jax.tree.map(lambda leaf: leaf, carry)
        while not run.finished(carry):
            carry, _ = run.advance(carry)
        ends.append(carry.positions)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("name", module.MODELS)
def test_every_model_can_be_drawn_from(name):
    """Starts follow the model's own law and stay in its domain; D is positive there."""
    model = module.prepare(build(module.Config, merge(SMALL, {"model": {"name": name}}))).model
    from heatbath.experiments.diffusion_stages import equilibrium

    x = equilibrium(model, jax.random.key(0), 4000)
    assert ((x >= model.low) & (x <= model.high)).all()
    assert (model.coefficients(x) > 0).all()
    assert diffusion_results.stationarity(x, model.cdf()).sigmas < 4.5
    if model.exact is not None:
        assert diffusion_results.rates(model)[1].passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dynamics": {"alphas": (0.5, 1.5)}}, "alpha"),
        ({"dynamics": {"alphas": ()}}, "at least one"),
        ({"dynamics": {"time_step": 0.0}}, "time_step"),
        ({"dynamics": {"particles": 10}}, "particles"),
        ({"model": {"contrast": 1.0}}, "contrast"),
        ({"model": {"name": "moon"}}, "wavy"),
    ],
)
def test_nonsense_is_refused_at_once(change, words):
    """Nothing is computed for a convention outside [0, 1] or a D that is not positive."""
    with pytest.raises(HeatbathError, match=words):
        module.check(build(module.Config, merge(SMALL, change)))


@pytest.mark.parametrize("preset", module.PRESETS)
def test_presets_are_valid(preset):
    """A preset with a renamed key would fail for its first user."""
    module.check(build(module.Config, module.PRESETS[preset]))
