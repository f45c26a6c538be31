"""The experiment nade: complete presets, bad settings and bad data refused, exact numbers of a small run, resuming, drawing."""

import json

import jax
import numpy as np
import pytest

from heatbath.cli import main
from heatbath.errors import HeatbathError, InvalidArgumentError, ModelError, UsageError
from heatbath.experiments import densities, launch
from heatbath.experiments import nade as experiment
from heatbath.experiments.config import build, merge
from heatbath.experiments.nade_results import ensemble
from heatbath.experiments.nade_stages import read_data
from heatbath.io.density_data import available
from heatbath.io.run_directory import RunDirectory

RNG = np.random.default_rng(0)
#: Rows of 2 x 3 images: a bit that the others copy, with noise.
ROWS = ((RNG.random((120, 1)) < 0.4) ^ (RNG.random((120, 6)) < 0.1)).astype(np.uint8)
TOY = [
    *["network.hidden=6", "network.layers=1", "network.channels=2", "training.steps=80", "training.batch_size=32"],
    *["training.validate_every=10", "training.patience=2", "training.rate=0.03", "evaluation.orders=[1, 3]"],
    *["evaluation.mixture=2", "evaluation.pictures=4", "draws.samples=50"],
]


def checked(preset, **changes):
    return experiment.check(build(experiment.Config, merge(experiment.PRESETS[preset], changes)))


def settings(*words):
    return [word for value in (*TOY, *words) for word in ("--set", value)]


@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_every_preset_is_complete(preset):
    """A preset that does not pass its own check would fail after hours; one whose data are not here says where they belong."""
    config = build(experiment.Config, experiment.PRESETS[preset])
    if not available(config.data.name):
        with pytest.raises(HeatbathError, match=r"HEATBATH_DATA|density"):
            experiment.check(config)
        pytest.skip(f"the data set {config.data.name} is not on this machine (HEATBATH_DATA)")
    assert experiment.check(config).models


def test_what_does_not_fit_is_refused_before_anything_is_computed(tmp_path):
    """Unknown names, impossible numbers, tables of another kind, files that are not there."""
    for changes in (
        {"models": ("nadee",)},
        {"models": ()},
        {"models": ("nade", "nade")},
        {"baselines": ("gaussian",)},
        {"data": {"name": "dnaa"}},
        {"data": {"kind": "real"}},
        {"data": {"path": str(tmp_path / "none.npz")}},
        {"data": {"path": str(tmp_path), "image": (2,)}},
        {"data": {"fold": 3}},
        {"training": {"rate": 0.0}},
        {"training": {"ema": 1.0}},
        {"training": {"patience": 0}},
        {"evaluation": {"orders": ()}},
        {"network": {"hidden": 0}},
    ):
        with pytest.raises(HeatbathError):
            checked("quick", **changes)
    with pytest.raises(UsageError, match="cannot be extended"):
        experiment.extended(build(experiment.Config, {}), "+1")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (2 * ROWS, "zeros and ones"),
        (np.where(ROWS, np.nan, 0.0), "not finite"),
        (ROWS[:0], "ten rows"),
        (ROWS[0], "table"),
    ],
)
def test_bad_data_leave_no_run_behind(bad, words, tmp_path, capsys):
    """Data that are not binary, hold NaN, or are empty: one sentence, and no directory that looks like a run."""
    np.save(tmp_path / "bad.npy", bad)
    out = tmp_path / "run"
    assert main(["run", "nade", "--out", str(out), "-q", "--set", f"data.path={tmp_path / 'bad.npy'}"]) != 0
    assert words in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run on a table of ours, with every model."""
    folder = tmp_path_factory.mktemp("nade")
    np.save(folder / "rows.npy", ROWS)
    words = settings(f"data.path={folder / 'rows.npy'}", "data.image=[2, 3]", "models=['deep-nade', 'nade', 'made']")
    assert main(["run", "nade", "--out", str(folder / "run"), "-q", *words]) in (0, 4)
    return folder


def test_from_end_to_end(finished):
    """Likelihoods of results.json are those of the saved model by enumeration, and its ensemble is normalised."""
    found = json.loads((finished / "run" / "results.json").read_text())["nade"]
    assert [row["name"] for row in found["models"]] == ["deep-nade", "nade", "made"]
    assert found["data"]["rows"] == [96, 12, 12]
    model, card = densities.load_density(finished / "run")
    assert (card.kind, card.target["shape"]) == ("deep-nade", [6])
    every = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.int32)
    own = np.asarray(jax.jit(lambda xs: model.log_probs(xs))(every), np.float64)
    assert np.exp(own).sum() == pytest.approx(1.0, abs=1e-6)
    tests = {test["orders"]: test for test in found["models"][0]["tests"]}
    run = RunDirectory.open(finished / "run")
    split = read_data(launch.load(run))
    values = np.load(sorted((finished / "run" / "stages" / "4-rows-deep-nade" / "state").glob("*"))[-1] / "arrays.npz")
    rows = next(values[name] for name in values.files if values[name].ndim == 2)
    assert rows.shape == (3, len(split.test))
    assert tests[1]["nats"] == pytest.approx(-rows[0].mean(), abs=1e-9)
    assert tests[3]["nats"] == pytest.approx(-ensemble(rows).mean(), abs=1e-9)
    assert tests[3]["nats"] <= -rows.mean() + 1e-12, "the mean of probabilities is at least that of their logs (Jensen)"
    assert tests[1]["bits"] == pytest.approx(tests[1]["nats"] / (6 * np.log(2)))
    filled = found["pictures"]["filled"][0]
    for truth, seen, draw in zip(filled["truth"], filled["seen"], filled["draws"][0], strict=True):
        assert all(a == b for a, b, known in zip(truth, draw, seen, strict=True) if known == "1")
    page = (finished / "run" / "report" / "index.html").read_text()
    assert "EoNADE of DeepNADE" in page
    assert (finished / "run" / "report" / "figures" / "nade-draws.svg").exists()


def test_the_model_directory_can_be_drawn_from(finished, capsys):
    """`heatbath sample --model` gives exact draws: weights of one, log Z zero; other temperatures and methods are refused."""
    out = finished / "drawn"
    command = ["sample", "--model", str(finished / "run"), "--out", str(out), "-q"]
    assert main([*command, "--samples", "500", "--seed", "3"]) == 0
    found = json.loads((out / "results.json").read_text())
    assert abs(found["estimates"]["log Z"]["value"]) < 1e-6
    target, drawn = launch.draws(RunDirectory.open(out))
    samples = np.asarray(drawn.samples)
    assert samples.shape == (500, 6)
    every = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.int32)
    exact = np.exp(np.asarray(jax.jit(lambda xs: target.model.log_probs(xs))(every), np.float64))
    error = np.sqrt((exact @ every) * (1 - exact @ every) / 500)
    # 4.5 standard errors of six means: false alarm 4e-5
    assert (np.abs(samples.mean(axis=0) - exact @ every) < 4.5 * error).all()
    assert main(["report", str(out)]) == 0
    assert main([*command, "--temperature", "2", "--overwrite"]) != 0
    assert "temperature 1" in capsys.readouterr().err


def test_a_stopped_run_goes_on_to_the_same_numbers(finished, tmp_path):
    """Killed after the first look at the clock and resumed: the same likelihoods, to the last digit."""
    words = settings(f"data.path={finished / 'rows.npy'}", "data.image=[2, 3]", "models=['deep-nade', 'nade', 'made']")
    out = tmp_path / "run"
    assert main(["run", "nade", "--out", str(out), "-q", "--max-time", "0 s", *words]) == 3
    assert main(["resume", str(out), "-q"]) in (0, 4)
    one, two = (json.loads((path / "results.json").read_text())["nade"] for path in (finished / "run", out))
    assert [row["tests"] for row in one["models"]] == [row["tests"] for row in two["models"]]
    assert one["baselines"] == two["baselines"]


def test_real_tables_end_in_their_own_units(tmp_path):
    """A density in standardised units that is said to be in others is wrong by the volume of the scales."""
    table = RNG.normal([3.0, -1.0], [2.0, 0.5], (80, 2))
    np.save(tmp_path / "real.npy", table)
    words = settings("data.kind=real", "models=['nade']", "baselines=['gaussian', 'independent', 'factor-analysers']")
    more = [
        "network.components=2",
        "evaluation.factors=1",
        "evaluation.analysers=1",
        f"data.path={tmp_path / 'real.npy'}",
    ]
    extra = [word for value in more for word in ("--set", value)]
    assert main(["run", "nade", "--out", str(tmp_path / "run"), "-q", *words, *extra]) in (0, 4)
    model, card = densities.load_density(tmp_path / "run")
    target = densities.learned_target(model, card.target)
    means, scales = np.array(card.target["means"]), np.array(card.target["scales"])
    axes = [mean + scale * np.linspace(-9, 9, 301) for mean, scale in zip(means, scales, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(-np.asarray(jax.jit(jax.vmap(lambda x: target.energy(x)))(grid), np.float64))
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert density.sum() * cell == pytest.approx(1.0, abs=1e-3)
    draws = np.asarray(jax.vmap(lambda key: target.sample(key, 1.0))(jax.random.split(jax.random.key(0), 500)))
    assert (np.abs(draws.mean(axis=0) - means) < scales).all()
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "draws.npz")]) == 0
    with np.load(tmp_path / "draws.npz") as archive:
        kept = archive["samples"]
    # 50 draws about means of 3 and -1: standardised ones would be about zero, many scales away from 3
    assert (np.abs(kept.mean(axis=0) - means) < scales).all()


def test_draws_of_a_run_are_exported(finished, tmp_path):
    """`export` needs the space of what was drawn: the draws kept with a run would be out of reach of other programs."""
    assert main(["export", str(finished / "run"), str(tmp_path / "draws.npz")]) == 0
    with np.load(tmp_path / "draws.npz") as archive:
        assert archive["samples"].shape == (50, 6)
        assert set(np.unique(archive["samples"])) <= {0, 1}
        assert np.ptp(archive["log_weights"]) < 1e-4, "exact draws have equal weights"


def test_a_file_given_as_a_name_is_sent_to_its_setting():
    """The most likely slip of a new user must be answered with the setting that was meant, not with a list of names."""
    for name in ("mine/rows", "rows.csv"):
        with pytest.raises(UsageError, match=rf"data\.path={name}"):
            checked("quick", data={"name": name})


def test_models_that_do_not_fit_are_refused(finished):
    """Convolutions without images, and the directory of another kind of model."""
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        densities.build(jax.random.key(0), "conv-nade", table="binary", dimension=6, hidden=2, layers=1, channels=2)
    with pytest.raises(ModelError):
        densities.load_density(finished)
    model = densities.build(
        jax.random.key(0), "conv-nade", table="binary", dimension=64, image=(8, 8), hidden=4, layers=1, channels=2
    )
    assert model.dimension == 64
