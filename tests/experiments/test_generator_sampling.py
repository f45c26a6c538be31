"""Sampling with trained generators: exact answers by weights, honest refusals, and runs that need no other file."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.cli import main
from heatbath.ensemble import Ensemble
from heatbath.errors import ConvergenceError
from heatbath.experiments import generators
from heatbath.experiments.config import build
from heatbath.experiments.generator_sampling import generator_sampler, within_support
from heatbath.experiments.sample import SampleConfig, check
from heatbath.io.models import ModelCard, save_model
from heatbath.io.run_directory import RunDirectory
from heatbath.models.gaussian import Normal
from heatbath.samplers.base import run_to_end
from heatbath.samplers.centre import HarmonicCentre
from heatbath.state import ThermoState
from heatbath.targets.registry import make

SIZES = generators.sizes_of("coupling-flow", "toy")


def card(target, temperature="1.0", **training):
    return ModelCard(
        "coupling-flow",
        SIZES,
        {
            **generators.describe_target(target),
            "configuration": {"name": "double-well", "parameters": {"dimension": 2}},
        },
        temperature,
        training=training,
    )


@pytest.fixture(scope="module")
def well():
    return make("double-well", dimension=2)


@pytest.fixture(scope="module")
def model(well):
    """A coupling flow that is the identity on standardised data: a normal law that covers both wells, far from exact."""
    data = np.asarray(jax.vmap(lambda k: well.sample(k, 1.0))(jax.random.split(jax.random.key(0), 2000)))
    return generators.build("coupling-flow", jax.random.key(1), well, data, **SIZES)


@pytest.fixture(scope="module")
def folder(well, model, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "well", model, card(well, steps=0, seed=1))


def sample(folder, out, *more):
    words = ["sample", "double-well", "--set", "target.parameters.dimension=2", "--model", str(folder), "--quiet"]
    return main([*words, "--out", str(out), *more])


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "flow"
    assert sample(folder, out, "--samples", "4000") == 0
    return out


# Answers --------------------------------------------------------------------------------------------------------------
def test_weights_make_a_poor_model_exact(finished):
    """The law of the house: every mean and log Z agree with quadrature, however far the model is. 4 sigma, some six numbers."""
    results = json.loads((finished / "results.json").read_text())
    found = {name: row["sigmas_from_exact"] for name, row in results["estimates"].items() if "exact" in row}
    assert {"mean energy", "log Z"} <= set(found)
    assert all(abs(sigmas) < 4 for sigmas in found.values()), found
    assert results["method"] == "flow"
    assert results["verdict"]["converged"]
    assert 0.05 < results["generator"]["ess"]["fraction"] < 0.95
    assert results["generator"]["model"]["kind"] == "coupling-flow"


def test_without_weights_the_model_is_wrong(finished):
    """Negative control: were the draws taken as they come, the mean energy would be off by many errors."""
    ensemble = _draws(finished)
    results = json.loads((finished / "results.json").read_text())
    raw = dataclasses.replace(ensemble, log_weights=np.zeros(ensemble.size), absolute=False)
    plain = raw.expect(np.asarray(raw.energies, dtype=float))
    assert abs(plain.value - results["estimates"]["mean energy"]["exact"]) > 8 * plain.standard_error


def _draws(run):
    from heatbath.experiments.launch import draws

    return draws(RunDirectory.open(run))[1]


def test_annealing_gives_the_same_answer(well, model):
    """SMC from the model must estimate the log Z that importance sampling does, and the exact one. 4 sigma."""
    state = ThermoState(1.0)
    found = {}
    for method, samples in (("flow", 4000), ("flow-smc", 2000)):
        sampler = generator_sampler(well, state, model, centre_scale=None, samples=samples, method=method)
        sampled = run_to_end(sampler, jax.random.key(4))
        found[method] = sampled.ensemble.log_z
        assert sampled.diagnostics["method"] == method
    exact = well.log_z(1.0)
    for estimate in found.values():
        assert abs(estimate.value - exact) < 4 * estimate.standard_error + 1e-9


# Support --------------------------------------------------------------------------------------------------------------
class Chiral:
    """Stands for a molecule: the hand of a configuration is the sign of its first coordinate."""

    positions = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def chirality(self, x):
        return jnp.sign(x[:1, 0]).astype(jnp.int32)


def test_mirror_images_and_infinities_have_no_weight():
    """A mirrored molecule has the energy of the right one: without this, half of a bad model's weight is another molecule."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(50, 2, 3))
    samples[3] = np.nan
    energies = np.zeros(50)
    energies[5] = np.inf
    log_weights = rng.normal(size=50)
    log_weights[7] = np.nan
    state = ThermoState(1.0, HarmonicCentre(0.5))
    ensemble = Ensemble(jnp.asarray(samples), log_weights, state, energies, absolute=True)
    kept, counts = within_support(Chiral(), ensemble)
    dead = np.isneginf(np.asarray(kept.log_weights))
    np.testing.assert_array_equal(dead, (samples[:, 0, 0] < 0) | np.isin(np.arange(50), (3, 5, 7)))
    assert counts["not_finite_positions"] == 1
    assert 0 < counts["inverted_share"] < 1
    assert counts["inverted"] > 10
    assert kept.state.bias is None
    assert np.isfinite(np.asarray(kept.samples)).all()
    assert np.isfinite(kept.expect(np.asarray(kept.energies)).value)


def test_no_weight_at_all_is_an_error_with_a_sentence():
    """Every draw a clash or a mirror image: exit code 4 and what to do, never a division by zero."""
    target = make("double-well", dimension=2)
    sampler = generator_sampler(target, ThermoState(1.0), Normal(jnp.zeros(2)), centre_scale=None, samples=10)
    arrays = {"samples": np.zeros((10, 2)), "energies": np.full(10, np.inf), "log_weights": np.full(10, -np.inf)}
    with pytest.raises(ConvergenceError, match="none of the 10 draws") as caught:
        sampler.collect(arrays, sampler.begin(jax.random.key(0)))
    assert caught.value.exit_code == 4


# Refusals -------------------------------------------------------------------------------------------------------------
def test_few_effective_draws_are_no_answer(well, tmp_path, capsys):
    """A model in one narrow corner: exit 4 and a sentence that says so, not a table of confident numbers."""
    shifted = generators.build("coupling-flow", jax.random.key(1), well, 0.02 * np.eye(2)[[0, 1, 0, 1]] + 3.0, **SIZES)
    bad = save_model(tmp_path / "bad", shifted, card(well))
    assert sample(bad, tmp_path / "run", "--samples", "500") == 4
    out = capsys.readouterr().out
    assert "NOT CONVERGED" in out
    assert "mean nothing" in out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--temperature", "2.0"], 1, "trained at 1"),
        (["--method", "hmc"], 2, "sampler.model belongs"),
        (["--rungs", "3"], 2, "independent"),
        (["--set", "target.parameters.dimension=3"], 1, "another target"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused(folder, tmp_path, capsys, words, code, text):
    """A model used for another system or temperature would give numbers that look right. No directory is left behind."""
    assert sample(folder, tmp_path / "run", *words) == code
    assert text in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_a_model_the_next_step_is_named(tmp_path, capsys):
    """The error must say how to get a model."""
    assert main(["sample", "mueller-brown", "--method", "flow", "--out", str(tmp_path / "run")]) == 2
    assert "heatbath train mueller-brown" in capsys.readouterr().err
    assert main(["sample", "mueller-brown", "--model", str(tmp_path), "--out", str(tmp_path / "run")]) != 0
    assert "model.toml" in capsys.readouterr().err


def test_the_temperature_of_the_model_is_the_default(well, tmp_path):
    """A model of 2.0 asked for nothing else draws at 2.0: the target's default would be refused, or worse, believed."""
    model = generators.build("coupling-flow", jax.random.key(1), well, None, **SIZES)
    folder = save_model(tmp_path / "warm", model, card(well, "2.0"))
    values = {
        "target": {"name": "double-well", "parameters": {"dimension": 2}},
        "sampler": {"method": "flow", "model": str(folder)},
    }
    assert check(build(SampleConfig, values)).temperature == "2.0"


# Runs -----------------------------------------------------------------------------------------------------------------
def test_a_run_carries_its_model(finished, folder, tmp_path):
    """A run that pointed to somebody's folder could be neither moved, nor extended, nor reported again."""
    before = json.loads((finished / "results.json").read_text())
    moved = tmp_path / "moved"
    finished.rename(moved)
    hidden = folder.rename(folder.with_name("hidden"))
    try:
        assert main(["report", str(moved)]) == 0
        assert json.loads((moved / "results.json").read_text())["estimates"] == before["estimates"]
        assert main(["extend", str(moved), "--samples", "+1000", "--quiet"]) == 0
        assert RunDirectory.open(moved).record()["draws"] == 5000
    finally:
        hidden.rename(folder)
        moved.rename(finished)


def test_draws_do_not_depend_on_when_they_are_made(finished, folder, tmp_path):
    """Extending must leave the first draws alone and give what one longer run gives, to the last bit."""
    assert sample(folder, tmp_path / "long", "--samples", "5000") == 0
    whole, first = _draws(tmp_path / "long"), _draws(finished)
    count = min(first.size, 4000)
    np.testing.assert_array_equal(np.asarray(whole.samples)[:count], np.asarray(first.samples)[:count])
    np.testing.assert_array_equal(np.asarray(whole.log_weights)[:count], np.asarray(first.log_weights)[:count])


def test_normal_proposals_pass_unchanged():
    """A target without atoms has neither hands nor a centre: nothing may be taken away from its weights."""
    target = make("double-well", dimension=2)
    sampler = generator_sampler(target, ThermoState(1.0), Normal(jnp.zeros(2)), centre_scale=None, samples=100)
    inner = run_to_end(sampler.inner, jax.random.key(0)).ensemble
    outer = run_to_end(sampler, jax.random.key(0)).ensemble
    np.testing.assert_array_equal(np.asarray(inner.log_weights), np.asarray(outer.log_weights))
