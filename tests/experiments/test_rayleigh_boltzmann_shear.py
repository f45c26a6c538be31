"""The experiment on sheared gases: what it refuses, what a small run finds, that it resumes bitwise, that checks can fail."""

import jax
import numpy as np
import pytest

from heatbath.errors import HeatbathError
from heatbath.experiments import rayleigh_boltzmann_shear as module
from heatbath.experiments import shear_results
from heatbath.experiments.config import build, merge
from heatbath.experiments.launch import start
from heatbath.report import shear as section
from heatbath.report.record import read

SMALL = {"particles": {"count": 400, "control": 400, "log_times": (40.0, 80.0, 160.0)}}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A small run from configuration to report."""
    return start(build(module.Config, SMALL), out=tmp_path_factory.mktemp("shear") / "run", argv=["test"])


def test_a_small_run_reaches_the_log_uniform_law(ended):
    """Every particle arrives, the law is near the log-uniform one, related windows agree, controls pass, the page has it all."""
    found = ended.results["shear"]
    assert found["regime"] == "growing"
    assert found["arrived"][-1] == 1.0
    assert found["violations"] == 0
    assert found["growing"]["rows"][-1]["distance"] < 0.12
    assert len(found["growing"]["windows"]) == 1
    assert ended.results["verdict"]["converged"], ended.results["verdict"]["reasons"]
    assert "Velocities under shear" in (ended.run.path / "report" / "index.html").read_text()
    assert len(section.section(read(ended.run.path).results).plots) == 2


def test_a_stage_continues_bitwise():
    """A checkpoint between two views must not change a single velocity."""
    run = module.prepare(build(module.Config, SMALL)).runs["flow"]
    key = jax.random.key(3)
    first = run.begin(key)
    for _ in range(3):
        first, _ = run.advance(first)
    second, _ = run.advance(run.begin(key))
    second = jax.tree.map(lambda leaf: leaf, second)
    while not run.finished(second):
        second, _ = run.advance(second)
    np.testing.assert_array_equal(first.views.logs, second.views.logs)
    assert run.progress(second) == 1


def test_checks_can_fail():
    """Negative controls: a heated gas, particles that did not arrive, a broken majorant."""
    rng = np.random.default_rng(0)
    w = 1.3 * rng.normal(size=(1, 2000, 3))
    views = shear_results.Views(np.log(np.abs(w)), np.sign(w), np.ones((1, 2000)), np.ones((1, 2000), bool))
    assert not shear_results.equilibrium(views)[1].passed
    assert not shear_results._arrived({"arrived": [1.0, 0.97]}).passed
    assert not shear_results._bounded({"violations": 3}).passed
    other = shear_results.Views(views.logs + 0.2, views.signs, views.jumps, views.arrived)
    assert not shear_results.interval(views, other, 0)[1].passed


def test_remaining_hazard_from_any_start():
    """The angle before and after the slowest point: quadrature of the rate along a flight, to 1e-6."""
    w, rate, gamma = np.array([[1.5, 0.7, -0.4], [-1.5, 0.7, -0.4]]), 2.0, -1.5
    s = np.concatenate([np.linspace(0, 20, 400_001), np.geomspace(20, 1e9, 400_001)[1:]])
    for start_at, value in zip(w, shear_results._remaining(w, rate, gamma, 1.0), strict=True):
        rates = ((start_at[0] - rate * start_at[1] * s) ** 2 + start_at[1] ** 2 + start_at[2] ** 2) ** (gamma / 2)
        np.testing.assert_allclose(value, np.trapezoid(rates, s), rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"collisions": {"gamma": -3.0}}, "above -3"),
        ({"collisions": {"gamma": 1.2}}, "at most 1"),
        ({"collisions": {"gamma": 0.5, "background": "rest"}}, "maxwellian"),
        ({"collisions": {"strength": 0.0}}, "strength"),
        ({"flow": {"shear_rate": -1.0}}, "shear_rate"),
        ({"flow": {"gradient": (1.0, 2.0)}}, "nine"),
        ({"flow": {"gradient": (float("nan"),) * 9}}, "finite"),
        ({"particles": {"log_times": (10.0, 5.0)}}, "rising"),
        ({"particles": {"count": 10}}, "at least 200"),
    ],
)
def test_nonsense_is_refused_at_once(change, words):
    """Nothing is computed and no directory is made for parameters without a meaning."""
    with pytest.raises(HeatbathError, match=words):
        module.check(build(module.Config, merge(SMALL, change)))


def test_times_after_an_implosion_are_refused_before_anything_runs():
    """L0 = -1/2 ends the world at t = 2; a run would fail after its first views."""
    gradient = (-0.5, 0.0, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0, -0.5)
    with pytest.raises(HeatbathError, match="implodes"):
        module.prepare(build(module.Config, merge(SMALL, {"flow": {"gradient": gradient}})))


@pytest.mark.parametrize("preset", module.PRESETS)
def test_presets_are_valid(preset):
    """A preset with a renamed key would fail for its first user."""
    module.check(build(module.Config, module.PRESETS[preset]))
