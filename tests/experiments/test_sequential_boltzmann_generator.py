"""The experiment sequential-boltzmann-generator: its presets are the paper's, and every one runs from end to end."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest

from heatbath.cli import main
from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments import sequential_boltzmann_generator as experiment
from heatbath.experiments.config import build, merge
from heatbath.experiments.launch import draws
from heatbath.io.run_directory import RunDirectory

pytest.importorskip("openmm")

#: What makes any preset run in seconds: tiny chains, nets and populations. Nothing else of a preset is changed.
TOY = [
    *["sampler.ladders=2", "sampler.rungs=2", "sampler.warmup=1", "sampler.thin=1", "sampler.samples=64"],
    *["sampler.chunk=16", "training.steps=4", "training.batch_size=8", "training.chunk=4", "training.frames=64"],
    *["training.validate_every=4", "training.validation_draws=8", "model.size=toy", "inference.draws=64"],
    *["inference.annealed=8", "inference.particles=4", "inference.at_once=8", "inference.transport=16"],
]
#: Parameters of the paper's sizes in millions, as derived from their public configurations.
PAPER = {
    "full": 12.6,
    "full-alanine-dipeptide": 12.6,
    "full-tripeptide": 28,
    "full-tetrapeptide": 28,
    "full-hexapeptide": 64,
    "full-chignolin": 113,
}


def checked(preset, **changes):
    return experiment.check(build(experiment.Config, merge(experiment.PRESETS[preset], changes)))


@pytest.mark.parametrize("preset", experiment.PRESETS)
def test_every_preset_is_complete(preset):
    """A preset that does not pass its own check would fail after hours of reference sampling."""
    config = checked(preset)
    assert config.model.kind == "transformer-flow"
    assert config.training.steps != "auto"
    assert config.target.forcefield in ("amber99sbildn-obc2", "amber14-obc1")


@pytest.mark.parametrize("preset", PAPER)
def test_full_presets_have_the_size_of_the_paper(preset):
    """A smaller net under the name of the paper's would make the comparison a lie. Shapes only; nothing is allocated."""
    from heatbath.experiments import generators
    from heatbath.targets.molecules.sequences import checked_sequence

    config = checked(preset)
    letters = checked_sequence(config.target.sequence) if config.target.sequence else ""
    atoms = {"": 22, "AAA": 42 if config.target.capped else 33, "AAAAAA": 63, "GYDPETGTWG": 138}[letters]
    target = type("Sized", (), {"n_atoms": atoms, "positions": np.random.default_rng(0).normal(size=(atoms, 3))})()
    model = eqx.filter_eval_shape(
        lambda key: generators.build(config.model.kind, key, target, **config.model.sizes), jax.random.key(0)
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(model) if hasattr(leaf, "size"))
    assert count / 1e6 == pytest.approx(PAPER[preset], rel=0.05)


def test_impossible_numbers_are_refused():
    """One particle is no population."""
    with pytest.raises(InvalidArgumentError, match="annealed"):
        checked("default", inference={"annealed": 1})


def test_systems_that_are_no_molecules_are_sent_elsewhere():
    """Its report compares molecules; on a double well it would fail after the training."""
    with pytest.raises(UsageError, match="heatbath train double-well"):
        checked("default", target={"name": "double-well"})


def run(preset, folder, *more):
    words = ["run", "sequential-boltzmann-generator", "--preset", preset, "--quiet", "--out", str(folder), *more]
    for setting in TOY:
        words += ["--set", setting]
    return main(words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sbg") / "run"
    # draws of an untrained net must not pass for an answer
    assert run("default", folder, "--set", "inference.method=snis") == 4
    return folder


def test_the_default_preset_ends_in_a_report(finished):
    """From reference to report in one command, and an untrained model is not believed."""
    results = json.loads((finished / "results.json").read_text())
    generator = results["generator"]
    assert not results["verdict"]["converged"]
    assert any("worth" in reason for reason in results["verdict"]["reasons"])
    assert {"model", "metrics", "ess", "training", "energies", "ramachandran", "stereochemistry"} <= set(generator)
    names = [row["name"] for row in generator["metrics"]]
    assert names == ["energy W2", "torus W2", "Ramachandran JSD", "TICA W2"]
    for row in generator["metrics"]:
        assert row["floor"]["value"] > 0
        assert row["unweighted"]["value"] > row["floor"]["value"]
        assert row["smc"] is None
    assert generator["ess"]["draws"] == 64
    assert generator["literature"]["rows"]
    assert (finished / "report" / "index.html").read_text().count("Boltzmann generator") >= 1
    assert (finished / "model" / "model.toml").is_file()
    assert [folder.name for folder in sorted((finished / "stages").iterdir())] == [
        "1-reference",
        "2-training",
        "3-importance",
    ]


def test_the_draws_can_be_exported(finished):
    """Users want the ensemble, not only its numbers: with its weights, and without the centre that the model placed."""
    target, ensemble = draws(RunDirectory.open(finished))
    assert ensemble.size == 64
    assert ensemble.state.bias is None
    assert np.asarray(ensemble.samples).shape == (64, target.n_atoms, 3)
    assert np.abs(np.asarray(ensemble.samples).mean(axis=1)).max() < 1e-5


def test_the_model_can_be_used_again(finished, tmp_path):
    """`heatbath sample --model RUN` takes the run directory itself."""
    words = ["sample", "alanine-dipeptide", "--model", str(finished), "--samples", "64", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "again")]) == 4
    assert RunDirectory.open(tmp_path / "again").record()["draws"] == 64


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in experiment.PRESETS if name != "full"])
def test_presets_run_from_end_to_end(preset, tmp_path):
    """Nobody should find out on a rented GPU that a preset stops in its fourth stage."""
    method = "smc-mala" if preset == "default" else "smc-ula"
    assert run(preset, tmp_path / "run", "--set", f"inference.method={method}") == 4
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    # draws of an untrained net may all be clashes or mirror images; then the earlier stages are what there is
    lost = " ".join(results["verdict"]["reasons"])
    if "Stage importance" in lost:
        assert "metrics" not in results["generator"]
        return
    assert all((row["smc"] is None) == ("Stage annealing" in lost) for row in results["generator"]["metrics"])
    _, ensemble = draws(RunDirectory.open(tmp_path / "run"))
    assert ensemble.size == (64 if "Stage annealing" in lost else 8)
