"""The generator section: distances sit at their floor when there is nothing to find, and leave it when there is."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.experiments.convergence import judge
from heatbath.experiments.generator_metrics import features, metric_rows
from heatbath.experiments.generator_results import (
    energy_histograms,
    generator_section,
    stereochemistry_counts,
    weight_curve,
    weight_summary,
)
from heatbath.experiments.published import literature
from heatbath.io.datasets import Reference, load_reference, packaged_folder
from heatbath.state import ThermoState

pytest.importorskip("openmm")
pytest.importorskip("ot")
from heatbath.targets.molecules import molecule


@pytest.fixture(scope="module")
def dipeptide():
    return molecule("alanine-dipeptide")


@pytest.fixture(scope="module")
def halves():
    """The packaged reference in two parts that share no ladder: one stays the reference, the other plays the model."""
    whole = load_reference("alanine-dipeptide", packaged_folder())
    first = Reference(whole.positions[:8], whole.energies[:8], whole.record)
    return first, Reference(whole.positions[8:], whole.energies[8:], whole.record)


def as_draws(reference, log_weights=None):
    """Frames as exchangeable draws of a model."""
    state = ThermoState(float(reference.record["beta"]))
    energies = reference.flat_energies().astype(float)
    log_weights = np.zeros(reference.size) if log_weights is None else log_weights
    return Ensemble(jnp.asarray(reference.flat()), log_weights, state, energies, absolute=True)


@pytest.fixture(scope="module")
def perfect(dipeptide, halves):
    reference, other = halves
    return generator_section(
        dipeptide, as_draws(other), reference=reference, transport=300, replicates=4, model={"kind": "exact"}
    )


def by_name(section):
    return {row["name"]: row for row in section["metrics"]}


def test_a_perfect_model_sits_at_the_floor(perfect):
    """Draws of the target itself: a metric far above its floor would be a mistake in features, weights or sample sizes."""
    rows = by_name(perfect)
    assert set(rows) == {"energy W2", "torus W2", "Ramachandran JSD", "TICA W2"}
    for name, row in rows.items():
        assert row["unweighted"] == row["reweighted"], name
        error = math.hypot(row["reweighted"]["standard_error"], row["floor"]["standard_error"])
        assert abs(row["reweighted"]["value"] - row["floor"]["value"]) < 5 * error + 0.5 * row["floor"]["value"], name


def test_a_missing_mode_leaves_the_floor(dipeptide, halves):
    """Negative control: without phi > 0 the torus distance must show what the energies hide."""
    reference, other = halves
    draws = as_draws(other)
    phi = features(dipeptide, draws).torsions[:, 0]
    narrow = dataclasses.replace(draws, log_weights=np.where((phi > -1.2) & (phi < 0), 0.0, -np.inf))
    row = {r["name"]: r for r in metric_rows(dipeptide, narrow, reference, transport=300, replicates=4)}
    for name in ("torus W2", "Ramachandran JSD"):
        found, floor = row[name]["reweighted"], row[name]["floor"]
        assert found["value"] > floor["value"] + 4 * math.hypot(found["standard_error"], floor["standard_error"]), name
        assert found["value"] > row[name]["unweighted"]["value"]


def test_draws_without_an_energy_poison_nothing(dipeptide, halves):
    """Clashes overflow: draws of weight zero must leave distances finite, and histograms normalised over what counts."""
    reference, other = halves
    energies = other.flat_energies().astype(float)
    spoiled = energies.copy()
    spoiled[::50] = np.inf
    log_weights = np.where(np.isfinite(spoiled), 0.0, -np.inf)
    ensemble = dataclasses.replace(as_draws(other, log_weights), energies=spoiled)
    row = metric_rows(dipeptide, ensemble, reference, transport=100, replicates=2)[0]
    assert math.isfinite(row["reweighted"]["value"])
    assert math.isfinite(row["unweighted"]["value"])
    histograms = energy_histograms(ensemble, reference)
    width = histograms["edges"][1] - histograms["edges"][0]
    assert sum(histograms["reweighted"]) * width == pytest.approx(1.0, abs=0.02)
    assert sum(histograms["model"]) * width == pytest.approx(0.98 * sum(histograms["reweighted"]) * width, abs=0.02)


def test_the_cut_is_shown_beside_the_raw_number():
    """Dropping the largest weights flatters: both numbers must be there, and the raw one must be Kish's own."""
    rng = np.random.default_rng(1)
    log_weights = 2.0 * rng.normal(size=5000)
    summary = weight_summary(log_weights)
    weights = np.exp(log_weights)
    assert summary["raw"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    kept = np.sort(weights)[:-10]
    assert summary["fraction_after_cut"] == pytest.approx(kept.sum() ** 2 / (kept**2).sum() / kept.size)
    assert summary["fraction_after_cut"] > 1.5 * summary["fraction"]
    assert summary["cut"] == 0.002


def test_a_population_without_weight_is_no_crash():
    """Nothing but clashes: the section says zero instead of failing."""
    summary = weight_summary(np.full(100, -np.inf))
    assert summary["raw"] == 0.0
    assert summary["fraction_after_cut"] is None


def test_the_curve_of_weights_rises_to_one(halves):
    """Equal weights lie on the diagonal; the share of all draws is one."""
    curve = weight_curve(as_draws(halves[0]))
    np.testing.assert_allclose(curve["draws"], curve["share"], rtol=1e-9)
    assert curve["share"][-1] == pytest.approx(1.0)


def test_mirror_images_are_counted(dipeptide, halves):
    """A mirrored half must be counted as inverted; the unmirrored half must not."""
    few = Reference(halves[0].positions[:, :4], halves[0].energies[:, :4], halves[0].record)
    draws = as_draws(few)
    assert stereochemistry_counts(dipeptide, draws)["inverted_centres"] == 0
    signs = np.where(np.arange(few.size) % 2, -1.0, 1.0)[:, None, None]
    mirrored = dataclasses.replace(draws, samples=jnp.asarray(signs * np.asarray(draws.samples)))
    counts = stereochemistry_counts(dipeptide, mirrored)
    assert counts["inverted_centres"] == few.size // 2
    assert counts["weight_inverted"] == pytest.approx(0.5)


def test_maps_and_literature_are_there(perfect):
    """The report draws three maps on one scale and the published rows of this very system."""
    assert set(perfect["ramachandran"]) == {"model", "reweighted", "reference"}
    assert all(len(surface["free_energy"]) == 48 for surface in perfect["ramachandran"].values())
    assert perfect["literature"] == literature("alanine-dipeptide")
    assert "not checked against the papers" in literature("aaa")["note"]
    assert literature("chignolin") == {}


def test_missing_modes_are_a_verdict():
    """Weights cannot see what the model never draws; reference frames can, and then the run is not converged."""
    good = {"weights": {"ess": 5000.0, "size": 10_000, "pareto_k": 0.3}}
    ess = {"fraction": 0.5, "forward_fraction": 0.4}
    assert judge(good | {"generator": {"ess": ess}}, chains=0, visits={})["converged"]
    blind = judge(good | {"generator": {"ess": ess | {"forward_fraction": 0.01}}}, chains=0, visits={})
    assert not blind["converged"]
    assert "far less likely" in blind["reasons"][0]
