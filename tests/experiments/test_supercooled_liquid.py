"""The experiment on supercooled liquids: what it refuses, what a small run finds, that a population continues bitwise."""

import jax
import numpy as np
import pytest

from heatbath.errors import HeatbathError
from heatbath.experiments import liquid_results, liquid_stages
from heatbath.experiments import supercooled_liquid as module
from heatbath.experiments.config import build, merge
from heatbath.experiments.launch import start
from heatbath.report import liquid as section
from heatbath.report.record import read
from heatbath.samplers.population_annealing import Level

pytest.importorskip("numba", reason="needs the extra 'liquids'")

SMALL = {
    "temperatures": (0.8, 1.0, 1.3),
    "compared": 0.8,
    "chains": {"chains": 3, "draws": 40, "sweeps": 20, "warmup": 40, "ladder_factor": 1},
    "population": {"populations": 2, "members": 32, "hottest": 2.0, "ratio": 1.2, "sweeps": 600, "start_sweeps": 400},
    "flow": {"members": 64, "sweeps": 20, "ratio": 1.3, "radial": 6},
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A small run from configuration to report."""
    return start(build(module.Config, SMALL), out=tmp_path_factory.mktemp("liquid") / "run", argv=["test"])


def test_all_methods_are_there_and_counted(ended):
    """Six methods with energies, errors and costs; training is part of the flows' cost and of nobody else's."""
    found = ended.results["liquid"]
    assert set(found["methods"]) == {*module.CHAIN_METHODS, *module.POPULATION_METHODS}
    for name, method in found["methods"].items():
        assert len(method["energy"]) == 3
        # A few hundred steps of dynamics from the start are not enough for this.
        assert name == "dynamics" or np.all(np.diff(method["energy"]) > 0), name
        assert np.all(np.array(method["energy_error"]) > 0)
        assert (method["training_evaluations"] > 0) == (name == "flow-annealing")
        assert method["cost"]["evaluations"] > method["training_evaluations"]
    assert len(found["log_z"]) == 4
    assert len(found["flows"]["remaining"]) == 3
    assert np.shape(found["confident"]["means"]) == (3, 3)


def test_the_report_shows_them(ended):
    """Figures of energies, heat capacities, local chains, costs, weights and structure."""
    page = (ended.run.path / "report" / "index.html").read_text()
    assert "Supercooled liquid" in page
    made = section.section(read(ended.run.path).results)
    assert made is not None
    assert len(made.plots) == 6


def test_few_units_are_not_over_trusted():
    """Two populations that happen to agree closely may be 6 of their standard errors off; many may not."""

    def made(units):
        return {"energy": [-2.0], "energy_error": [0.001], "units": units}

    reference = {"energy": [-2.006], "energy_error": [1e-6], "units": 8}
    few, many = (float(liquid_results.deviations(made(units), reference)[0]) for units in (2, 1000))
    assert few < 2
    assert many == pytest.approx(6.0, abs=0.1)


@pytest.mark.parametrize("moves", ["metropolis", "dynamics"])
def test_a_population_continues_bitwise(moves):
    """Every level has a key of its own, whatever happens between two of them; either kind of moves costs the same."""
    prepared = module.prepare(build(module.Config, merge(SMALL, {"population": {"moves": moves}})))
    process, ends = liquid_stages.cooling(prepared), []
    for stop in (False, True):
        carry = process.begin(jax.random.key(1))
        for _ in range(2):
            carry, _ = process.advance(carry)
            carry = jax.tree.map(np.array, carry) if stop else carry
        ends.append(carry)
    np.testing.assert_array_equal(ends[0].positions, ends[1].positions)
    np.testing.assert_array_equal(ends[0].found, ends[1].found)
    spent = ends[0].found[0, 1, Level._fields.index("evaluations")]
    sweeps = round(600 * sum(1 / 3 * beta**3 * sign for beta, sign in zip(process.betas[:2], (-1, 1), strict=True)))
    steps = sweeps if moves == "metropolis" else liquid_stages.SWEEP_COST * sweeps
    whole = -(-steps // liquid_stages.RECORDS) * liquid_stages.RECORDS  # up to whole records
    each = liquid_stages.SWEEP_COST * whole + liquid_stages.RECORDS if moves == "metropolis" else whole + 1
    assert spent == pytest.approx(32 * each, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperatures": (1.0, 0.5)}, "rising"),
        ({"compared": 0.9}, "compared"),
        ({"particles": 50}, "multiple of 43"),
        ({"chains": {"chains": 1}}, "chains.chains"),
        ({"chains": {"exchange_share": 1.0}}, "exchange_share"),
        ({"goal": 0.0}, "goal"),
        ({"population": {"slowing": 0.0}}, "population.slowing"),
    ],
)
def test_impossible_configurations_are_refused(changes, words):
    """Before anything runs."""
    with pytest.raises(HeatbathError, match=words):
        module.check(build(module.Config, merge(SMALL, changes)))
    with pytest.raises(HeatbathError, match="cannot be extended"):
        module.extended(build(module.Config, SMALL), "100")
