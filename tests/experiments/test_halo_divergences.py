"""The experiment on halos: bands and their reports, users' files, refusals."""

import numpy as np
import pytest

from heatbath.errors import HeatbathError
from heatbath.experiments import halo_divergences as module
from heatbath.experiments import halo_results
from heatbath.experiments.config import build, merge
from heatbath.experiments.launch import analyse, start
from heatbath.report import halo as section
from heatbath.report.record import read

SMALL = {
    "halo": {"streams": 60},
    "bounds": {
        "detectors": ("xenon-like", "fluorine-like"),
        "masses": 4,
        "divergences": ("kl", "total-variation"),
        "radii": (0.1, 0.01),
    },
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    return start(build(module.Config, SMALL), out=tmp_path_factory.mktemp("halo") / "run", argv=["test"])


def test_bands_hold_the_reference_and_widen(ended):
    """The figure's point: the standard halo inside, wider with the radius, wider near threshold than above it."""
    for row in ended.results["halo"]["detectors"]:
        reference = np.array(row["reference"])
        strongest, weakest = section._limits(row, "strongest"), section._limits(row, "weakest")
        assert (strongest <= reference[:, None, None]).all()
        assert (weakest >= reference[:, None, None]).all()
        assert (weakest[:, :, 1] >= weakest[:, :, 0]).all()
        opening = weakest[:, 0, 1] / reference
        assert opening[0] - 1 > 1.5 * (opening[-1] - 1)
        assert row["largest_gap"] < 1e-8
    assert ended.results["verdict"]["checks"][0]["passed"]


def test_the_report_has_its_figures_and_can_be_made_again(ended):
    """From the directory alone."""
    made = section.section(read(ended.run.path).results)
    assert [plot.name for plot in made.plots] == ["halo-bands", "halo-divergences", "halo-extremes"]
    again = analyse(ended.run)
    assert again.results["halo"]["detectors"][0]["weakest"] == ended.results["halo"]["detectors"][0]["weakest"]


def test_checks_can_fail(ended):
    """Negative controls: a loose dual, a reference outside its band, streams that miss a part of the rate."""
    row = {
        "largest_gap": 1e-6,
        "reference": np.ones(2),
        "strongest": np.full((2, 1, 1), 1.1),
        "weakest": np.full((2, 1, 1), 2.0),
    }
    found = {"detectors": [row], "completeness": [{"streams": 1000, "error": 0.03}]}
    checks = [
        check for make in (halo_results._gaps, halo_results._inside, halo_results._complete) for check in make(found)
    ]
    assert [check.passed for check in checks] == [False, False, False]


def test_a_halo_and_a_detector_of_the_user(tmp_path, monkeypatch):
    """Their files are copied into the run, which then needs nothing outside it."""
    monkeypatch.chdir(tmp_path)
    speeds = np.linspace(20.0, 700.0, 40)
    (tmp_path / "mine.csv").write_text(
        "speed,weight\n" + "\n".join(f"{v},{v**2 * np.exp(-((v / 250) ** 2))}" for v in speeds)
    )
    (tmp_path / "tank.toml").write_text(
        'name = "tank"\nsummary = "s"\nsource = "none"\nexposure_kg_day = 10.0\nmasses_gev = [5.0, 50.0]\n'
        "[counting]\nobserved = 1\n"
        '[nuclear]\ninteraction = "spin-independent"\nwindow_kev = [1.0, 20.0]\n'
        "isotopes = [{ mass_number = 40, share = 1.0 }]\n"
    )
    values = {
        "halo": {"file": "mine.csv"},
        "bounds": {"detectors": ("tank.toml",), "masses": 2, "divergences": ("kl",), "radii": (0.1,)},
    }
    ended = start(build(module.Config, values), out=tmp_path / "run", argv=["test"])
    (tmp_path / "mine.csv").unlink()
    (tmp_path / "tank.toml").unlink()
    assert analyse(ended.run).results["halo"]["reference"] == "streams of the user"


@pytest.mark.parametrize(
    "wrong",
    [
        {"bounds": {"radii": (-0.1,)}},
        {"bounds": {"radii": ()}},
        {"bounds": {"divergences": ("renyi",)}},
        {"bounds": {"detectors": ("none.toml",)}},
        {"bounds": {"masses": 1}},
        {"halo": {"v0": 0.0}},
        {"halo": {"earth_speed": 600.0}},
        {"halo": {"streams": 3}},
        {"halo": {"file": "none.csv"}},
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
