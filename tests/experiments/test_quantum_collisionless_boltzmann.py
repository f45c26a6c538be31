"""The experiment on qubits: what it refuses, that it resumes bitwise, and that its checks can fail."""

import numpy as np
import pytest

from heatbath.errors import HeatbathError
from heatbath.experiments import quantum_collisionless_boltzmann as module
from heatbath.experiments import quantum_results
from heatbath.experiments.config import build, merge
from heatbath.experiments.launch import start
from heatbath.process import Process
from heatbath.report import quantum as section
from heatbath.report.record import read

SMALL = {
    "grid": {"positions": 16, "velocities": 16},
    "algorithm": {"modes": 2, "time_step": 0.1},
    "growth": {"ratios": (0.5, 1.2), "time": 4.0},
    "collapse": {"time": 0.5, "shots": 500, "levels": 2, "shots_per_power": 20, "read_modes": 1},
    "dead_zone": {"time": 0.5},
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A small run from configuration to report."""
    return start(build(module.Config, SMALL), out=tmp_path_factory.mktemp("quantum") / "run", argv=["test"])


def test_a_run_ends_with_every_part(ended):
    """A part that is lost on the way would leave a hole in the report without a word."""
    found = ended.results["quantum"]
    assert set(found) >= {"growth", "collapse", "free_streaming", "dead_zone", "reading", "gates"}
    assert found["qubits"] == 9
    assert [row["readout"] for row in found["collapse"]["runs"]] == list(module.READOUTS)
    assert found["collapse"]["runs"][0]["gates_in_all"] is None
    assert found["collapse"]["runs"][1]["gates_in_all"] > 100 * found["collapse"]["runs"][1]["gates_once"]
    assert found["free_streaming"]["circuit_error"] < 1e-12
    assert found["collapse"]["classical"]["difference"] < 1e-9
    page = (ended.run.path / "report" / "index.html").read_text()
    assert "Self-gravity on qubits" in page
    assert len(section.section(read(ended.run.path).results).plots) == 6


def test_wrong_gravity_is_not_converged(ended):
    """Negative control: rates that are 3 % off, and a state that is not the classical one, fail their checks."""
    found = {"growth": [{"rate": 1.03, "expected": 1.0}], "collapse": {"classical": {"difference": 1e-6}, "fast": 0.02}}
    checks = [*quantum_results._growth_checks(found), *quantum_results._collapse_checks(found)]
    assert [check.passed for check in checks] == [False, False, False]


def test_a_stage_continues_bitwise():
    """Shots of a step depend on the seed and its number only, so that an interruption changes nothing."""
    prepared = module.prepare(build(module.Config, SMALL))
    algorithm, _ = prepared.runs["collapse-shots"]
    from heatbath.experiments.quantum_stages import Evolution

    process: Process = Evolution(algorithm, 25, 3)
    straight = process.begin(None)
    while not process.finished(straight):
        straight, _ = process.advance(straight)
    broken, _ = process.advance(process.begin(None))
    again = Evolution(algorithm, 25, 3)
    broken = type(broken)(*(np.array(leaf) for leaf in broken))
    while not again.finished(broken):
        broken, _ = again.advance(broken)
    np.testing.assert_array_equal(straight.psi, broken.psi)
    np.testing.assert_array_equal(straight.read, broken.read)


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid": {"positions": 48}},
        {"grid": {"velocities": 2}},
        {"grid": {"dimension": 3}},
        {"grid": {"dimension": 2}},
        {"grid": {"width": 0.0}},
        {"algorithm": {"modes": 40}},
        {"algorithm": {"time_step": -1.0}},
        {"growth": {"ratios": (0.5, -1.0)}},
        {"collapse": {"amplitude": 1.5}},
        {"collapse": {"readouts": ("tomography",)}},
        {"collapse": {"shots": 0}},
        {"dead_zone": {"time": -1.0}},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    """Before anything is computed, with a sentence."""
    with pytest.raises(HeatbathError):
        module.check(build(module.Config, wrong))


@pytest.mark.parametrize("name", list(module.PRESETS))
def test_presets_are_valid(name):
    """A preset that is refused is the first thing a user of it sees."""
    module.check(build(module.Config, merge(module.PRESETS[name])))
