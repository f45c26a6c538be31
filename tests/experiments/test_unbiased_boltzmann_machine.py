"""The experiment unbiased-boltzmann-machine: presets, refusals, exact numbers of a small run, resuming, drawing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.cli import main
from heatbath.errors import HeatbathError, InvalidArgumentError, UsageError
from heatbath.experiments import densities, launch
from heatbath.experiments import unbiased_boltzmann_machine as experiment
from heatbath.experiments.config import build, merge
from heatbath.experiments.machine_stages import bars_and_stripes, read_data
from heatbath.io.density_data import available
from heatbath.io.run_directory import RunDirectory

TOY = [
    *["data.name=bars-and-stripes", "machine.side=2", "machine.hidden=[3, 2]", "training.steps=6", "training.chunk=3"],
    *["training.batch_size=12", "training.k=1", "training.m=2", "training.cap=50", "evaluation.bias_draws=5"],
    *[
        "rules=['unbiased', 'persistent']",
        "evaluation.pairs=10",
        "evaluation.longest=100",
        "evaluation.mixture=2",
        "draws.samples=40",
        "draws.levels=10",
    ],
]


def checked(preset, **changes):
    return experiment.check(build(experiment.Config, merge(experiment.PRESETS[preset], changes)))


def settings(*words):
    return [word for value in (*TOY, *words) for word in ("--set", value)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run of all stages."""
    out = tmp_path_factory.mktemp("machines") / "run"
    assert main(["run", "unbiased-boltzmann-machine", "--out", str(out), "-q", *settings()]) in (0, 4)
    return out


@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_every_preset_is_complete(preset):
    """A preset that does not pass its own check would fail after hours; missing data must be said to be missing."""
    config = build(experiment.Config, experiment.PRESETS[preset])
    if config.data.name != experiment.BARS and not available(config.data.name):
        with pytest.raises(HeatbathError, match=r"HEATBATH_DATA|heatbath\[density\]"):
            experiment.check(config)
        pytest.skip(f"the data set {config.data.name} is not on this machine (HEATBATH_DATA)")
    assert experiment.check(config).rules


def test_what_does_not_fit_is_refused_before_anything_is_computed(tmp_path):
    """Unknown rules and data, caps before m, tables of numbers, files that are not there."""
    for changes in (
        {"rules": ("unbiassed",)},
        {"rules": ()},
        {"rules": ("persistent", "persistent")},
        {"training": {"k": 3, "m": 2}},
        {"training": {"m": 300}},
        {"training": {"rate": 0.0}},
        {"machine": {"hidden": ()}},
        {"machine": {"side": 1}},
        {"data": {"name": "barz"}},
        {"data": {"kind": "real", "name": "red-wine"}},
        {"data": {"path": str(tmp_path / "none.npz")}},
    ):
        with pytest.raises(HeatbathError):
            checked("quick", **changes)
    with pytest.raises(UsageError, match="cannot be extended"):
        experiment.extended(build(experiment.Config, {}), "+1")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.full((20, 4), 2), "zeros and ones"),
        (np.full((20, 4), np.nan), "not finite"),
        (np.zeros((0, 4)), "ten rows"),
        (np.zeros(20), "table"),
    ],
)
def test_bad_data_end_in_a_sentence(bad, words, tmp_path):
    """Rows that are not binary, not finite, absent or no table must not start a run."""
    np.save(tmp_path / "bad.npy", bad)
    config = checked("quick", data={"path": str(tmp_path / "bad.npy")})
    with pytest.raises(InvalidArgumentError, match=words):
        read_data(config)


def test_bars_and_stripes_are_all_there():
    """2 (2^side) - 2 images, each constant along rows or along columns."""
    images = bars_and_stripes(3).reshape(-1, 3, 3)
    assert len(images) == 14
    for image in images:
        assert (image == image[:, :1]).all() or (image == image[:1]).all()


def test_a_short_run_has_exact_numbers(finished):
    """Likelihoods are those of the saved machine by sums over all states; the page shows every section."""
    found = json.loads((finished / "results.json").read_text())
    part = found["machines"]
    assert [row["name"] for row in part["rules"]] == ["unbiased", "persistent"]
    machine, card = densities.load_density(finished)
    rows = bars_and_stripes(2)
    exact = -np.mean(np.asarray(jax.jit(jax.vmap(machine.log_likelihood))(jnp.asarray(rows))))
    assert part["rules"][0]["nats"]["value"] == pytest.approx(exact, abs=1e-4)
    assert part["rules"][0]["kl"] == pytest.approx(exact - np.log(len(rows)), abs=1e-4)
    assert part["rules"][0]["log_z"]["lower"] == pytest.approx(machine.log_z(1.0), abs=1e-4)
    assert part["meetings"]["truncated"] == 0
    assert part["bias"][0]["name"] == "CD-1"
    assert card.training["rule"] == "unbiased"
    page = (finished / "report" / "index.html").read_text()
    assert "What was learned" in page
    for figure in ("machine-learning", "machine-meetings", "machine-bias", "machine-draws"):
        assert (finished / "report" / "figures" / f"{figure}.svg").exists()


def test_draws_of_the_model_have_honest_weights(finished, tmp_path):
    """`heatbath sample --model` must draw the machine itself: log Z by its weights against the exact one, 4.5 standard errors."""
    out = tmp_path / "draws"
    assert main(["sample", "--model", str(finished), "--samples", "200", "--out", str(out), "-q"]) in (0, 4)
    _, ensemble = launch.draws(RunDirectory(out))
    machine, _ = densities.load_density(finished)
    assert abs(ensemble.log_z.value - machine.log_z(1.0)) < 4.5 * ensemble.log_z.standard_error


def test_resuming_continues_bitwise(finished, tmp_path):
    """A run stopped by its time limit and resumed must end with the very numbers of an uninterrupted one."""
    out = tmp_path / "run"
    assert main(["run", "unbiased-boltzmann-machine", "--out", str(out), "-q", "--max-time", "0 s", *settings()]) == 3
    assert main(["resume", str(out), "-q"]) in (0, 4)
    one, other = (json.loads((path / "results.json").read_text())["machines"] for path in (finished, out))
    for first, second in zip(one["rules"], other["rules"], strict=True):
        assert first["nats"] == second["nats"]
    assert one["bias"] == other["bias"]
