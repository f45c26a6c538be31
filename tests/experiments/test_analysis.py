"""results.json: its numbers against exact ones, and its verdict against runs that are known to be bad."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import lfilter

from heatbath.ensemble import Ensemble
from heatbath.estimators import split_rhat
from heatbath.experiments.analysis import analyse
from heatbath.experiments.convergence import judge, rhat_limit
from heatbath.experiments.diagnosis import boltzmann_check, cold_draws
from heatbath.samplers.base import Sampled
from heatbath.samplers.weighting import ladder_ensemble
from heatbath.state import ThermoState
from heatbath.targets.lattice import ising
from heatbath.targets.molecules.stereochemistry import peptide_bonds
from heatbath.targets.toy import DoubleWell

BETAS = np.array([1.0, 0.6, 0.35, 0.2])
LADDERS, DRAWS = 8, 400
STATE = ThermoState(1.0)


@pytest.fixture(scope="module")
def well():
    return DoubleWell(barrier=4.0, dimension=2)


@pytest.fixture(scope="module")
def exact_draws(well):
    """samples (draw, ladder, rung, 2) and energies: independent exact draws at every temperature."""

    @jax.jit
    def at(key, beta):
        xs = jax.vmap(lambda k: well.sample(k, beta))(jax.random.split(key, DRAWS * LADDERS))
        return xs, jax.vmap(well.energy)(xs)

    pairs = [at(jax.random.key(i), beta) for i, beta in enumerate(BETAS)]
    samples = np.stack([np.asarray(xs).reshape(DRAWS, LADDERS, 2) for xs, _ in pairs], axis=2)
    return samples, np.stack([np.asarray(u).reshape(DRAWS, LADDERS) for _, u in pairs], axis=2)


def ladder_run(samples, energies, betas=BETAS, **changes):
    """What replica exchange would return for these draws."""
    ensemble, found = ladder_ensemble(samples, energies, STATE, [ThermoState(float(beta)) for beta in betas])
    diagnostics = {
        "method": "replica-exchange",
        "betas": betas,
        "step_sizes": np.full(len(betas), 0.1),
        "acceptance": np.full(len(betas), 0.7),
        "swap_acceptance": np.full(len(betas) - 1, 0.4),
        "round_trips": 80,
        "round_trips_per_ladder": np.full(LADDERS, 10),
        "energies": energies,
        "evaluations": 10_000,
        "non_finite": 0,
    }
    return Sampled(ensemble, {**diagnostics, **found, **changes})


@pytest.fixture(scope="module")
def good(well, exact_draws):
    return analyse(well, STATE, ladder_run(*exact_draws))


def failed(results):
    return {check["name"] for check in results["verdict"]["checks"] if not check["passed"]}


# Numbers -------------------------------------------------------------------------------------------------------------


def test_estimates_agree_with_exact_values(good):
    """A wrong weight, axis or unit would move a mean away from its quadrature. Four sigma: one false alarm in 5000."""
    found = {name: row["sigmas_from_exact"] for name, row in good["estimates"].items() if "exact" in row}
    assert set(found) >= {"mean energy", "mean x", "mean y"}
    assert all(abs(sigmas) < 4 for sigmas in found.values()), found


def test_populations_and_their_difference_agree_with_quadrature(well, good):
    """Basins with the wrong sign of Delta F, or populations of all rungs together, would miss the exact share."""
    exact = float(well.mean(well.basins()["right"], 1.0))
    share = good["basins"][1]["population"]
    assert good["basins"][1]["name"] == "right"
    assert abs(share["value"] - exact) < 4 * share["standard_error"]
    difference = good["free_energy_differences"][0]
    assert (difference["from"], difference["to"]) == ("left", "right")
    value = difference["value"]
    assert value["unit"] == "kT"
    assert abs(value["value"] + np.log(exact / (1 - exact))) < 4 * value["standard_error"]


def test_heat_capacity_is_the_variance_of_the_energy(well, good, exact_draws):
    """The formula beta^2 Var U in units of k_B; exact draws of the cold rung give it independently."""
    cold = exact_draws[1][:, :, 0]
    row = good["estimates"]["heat capacity"]
    spread = 4 * np.hypot(row["standard_error"], np.var(cold) * np.sqrt(8 / cold.size))
    assert abs(row["value"] - np.var(cold)) < spread


def test_surfaces_have_bins_errors_and_labels(good):
    """A profile whose populations are not those of the basins is another distribution's."""
    surface = good["surfaces"]["x"]
    centres = np.diff(surface["edges"][0]) / 2 + surface["edges"][0][:-1]
    energy = np.array(surface["free_energy"], dtype=float)
    mass = np.exp(-np.where(np.isfinite(energy), energy, np.inf))
    share = mass[centres > 0].sum() / mass.sum()
    assert abs(share - good["basins"][1]["population"]["value"]) < 0.02
    assert len(surface["standard_error"]) == len(centres)
    assert good["surfaces"]["x, y"]["coordinates"] == ["x", "y"]


def test_a_discrete_observable_gets_one_bin_per_value():
    """Even bins over the values of a magnetisation make a comb of empty and double bins."""
    target = DoubleWell(barrier=4.0, dimension=2)
    rng = np.random.default_rng(0)
    xs = np.stack([rng.choice([-1.0, -0.5, 0.0, 1.0], (4, 100), p=[0.4, 0.3, 0.2, 0.1]), rng.random((4, 100))], axis=-1)
    ensemble = Ensemble(jnp.asarray(xs), jnp.zeros((4, 100)), STATE, axes=("chain", "draw"))
    surface = analyse(target, STATE, Sampled(ensemble, {}))["surfaces"]["x"]
    assert surface["edges"][0] == [-1.25, -0.75, -0.25, 0.5, 1.5]
    share = np.mean(xs[..., 0] == 1.0) / np.mean(xs[..., 0] == -1.0)
    assert np.isclose(surface["free_energy"][-1] - surface["free_energy"][0], -np.log(share))


def test_an_observable_called_energy_does_not_replace_the_energy():
    """An Ising model's energy per site has the name "energy"; the total energy must not vanish behind it."""
    lattice = ising((3, 3))
    xs = np.random.default_rng(0).integers(0, 2, (4, 50, 3, 3))
    energies = jax.vmap(jax.vmap(lattice.energy))(jnp.asarray(xs))
    ensemble = Ensemble(jnp.asarray(xs), jnp.zeros((4, 50)), STATE, energies, axes=("chain", "draw"))
    results = analyse(lattice, STATE, Sampled(ensemble, {}))
    total, per_site = (results["estimates"][name]["value"] for name in ("mean energy", "mean energy per site"))
    assert np.isclose(total, np.mean(energies))
    assert np.isclose(per_site, total / 9)


def test_results_are_strict_json(good):
    """NaN in the file would break every reader but Python's."""
    assert json.loads(json.dumps(good, allow_nan=False)) == good


def test_chain_diagnostics_look_at_the_asked_temperature_only(exact_draws):
    """Draws of hot rungs among those of the cold one would hide a stuck chain behind good mixing."""
    run = ladder_run(*exact_draws)
    cold = cold_draws(run)
    assert np.array_equal(np.asarray(run.ensemble.samples)[:, cold], np.moveaxis(exact_draws[0][:, :, 0], 0, 1))


def test_representatives_are_typical_members_of_their_basin(well, good):
    """A representative outside its basin, or in its far tail, would show people the wrong structure."""
    left, right = (basin["at"] for basin in good["basins"])
    assert -1.3 < left["x"] < -0.7
    assert 0.7 < right["x"] < 1.3
    assert abs(left["y"]) < 1


# The verdict ----------------------------------------------------------------------------------------------------------


def test_independent_exact_draws_converge(good):
    """A verdict that always says no is of no use."""
    assert good["verdict"]["converged"], good["verdict"]["reasons"]
    assert len(good["verdict"]["reasons"]) == len(good["verdict"]["checks"]) > 10


def test_chains_that_stay_in_one_well_do_not_converge(well, exact_draws):
    """Every ladder sits in the well it began in: each looks fine alone, together they must be refused."""
    samples, energies = (np.array(a) for a in exact_draws)
    side = np.where(np.arange(LADDERS) % 2, 1.0, -1.0)[None, :, None]
    samples[..., 0] = np.abs(samples[..., 0]) * side
    results = analyse(well, STATE, ladder_run(samples, energies))
    assert not results["verdict"]["converged"]
    assert {"R-hat", "movement"} <= failed(results)
    assert results["chains"]["in right"] | {"ess": 0, "autocorrelation_time": 0} == {
        "kind": "basin",
        "rhat": None,
        "ess": 0,
        "autocorrelation_time": 0,
        "stuck": True,
    }


def test_a_basin_seen_by_few_chains_does_not_converge(well, exact_draws):
    """The error bar of a rare basin is unknown when one lucky chain found it."""
    samples, energies = (np.array(a) for a in exact_draws)
    samples[:, 1:, :, 0] = -np.abs(samples[:, 1:, :, 0])
    results = analyse(well, STATE, ladder_run(samples, energies))
    assert "visits to right" in failed(results)
    assert any("only 1 of 8 chains" in reason for reason in results["verdict"]["reasons"])


def test_correlated_chains_do_not_converge(well, exact_draws):
    """Each draw repeated a hundred times is the information of one: the effective size must see it."""
    samples, energies = (np.repeat(a[:4], 100, axis=0) for a in exact_draws)
    results = analyse(well, STATE, ladder_run(samples, energies))
    assert "effective sample size (observable)" in failed(results)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"swap_acceptance": [0.4, 0.01, 0.4]}, "swaps"),
        ({"round_trips_per_ladder": [1] * LADDERS}, "round trips"),
        ({"acceptance": [0.7, 0.7, 0.7, 0.02]}, "acceptance"),
        ({"mbar_converged": False, "mbar_notes": ["states 1 and 2 do not overlap"]}, "overlap"),
        ({"non_finite": 2000}, "finite energies"),
    ],
)
def test_a_sick_ladder_is_named(change, name, well, exact_draws):
    """Each symptom of a ladder must be refused by its own check, with a sentence that has the number."""
    results = analyse(well, STATE, ladder_run(*exact_draws, **change))
    assert failed(results) == {name}
    assert len(results["verdict"]["reasons"]) == 1


def test_draws_of_the_wrong_temperature_are_found_out(well, exact_draws):
    """A sampler with a wrong temperature in one rung has chains that agree perfectly; only Boltzmann's law betrays it."""
    samples, energies = (np.array(a) for a in exact_draws)
    claimed = BETAS.copy()
    claimed[2] = 0.45  # drawn at 0.35
    assert "energy statistics" in failed(analyse(well, STATE, ladder_run(samples, energies, claimed)))


def test_one_chain_never_converges(well, exact_draws):
    """A single chain that is stuck looks the same as one that is not."""
    xs, energies = exact_draws[0][:, :, 0], exact_draws[1][:, :, 0]
    ensemble = Ensemble(
        jnp.asarray(xs.reshape(1, -1, 2)),
        jnp.zeros((1, DRAWS * LADDERS)),
        STATE,
        jnp.asarray(energies.reshape(1, -1)),
        axes=("chain", "draw"),
    )
    results = analyse(well, STATE, Sampled(ensemble, {"method": "hmc"}))
    assert failed(results) == {"independent chains"}
    assert results["ladder"] == {}


def test_weighted_draws_give_log_z_and_are_judged_by_their_weights(well):
    """Exchangeable draws have no chains: log Z must be right, and a bad proposal must show in the weights."""

    def importance(scale, shift, size=20_000):
        rng = np.random.default_rng(1)
        xs = shift + scale * rng.standard_normal((size, 2))
        log_q = -0.5 * np.sum(((xs - shift) / scale) ** 2, axis=1) - np.log(2 * np.pi * scale**2)
        energies = np.asarray(jax.vmap(well.energy)(jnp.asarray(xs)))
        ensemble = Ensemble(
            jnp.asarray(xs), jnp.asarray(-energies - log_q), STATE, jnp.asarray(energies), absolute=True
        )
        return analyse(well, STATE, Sampled(ensemble, {"method": "importance"}))

    wide, narrow = importance(1.3, 0.0), importance(0.3, -1.0)
    assert wide["verdict"]["converged"], wide["verdict"]["reasons"]
    assert abs(wide["estimates"]["log Z"]["sigmas_from_exact"]) < 4
    assert wide["chains"] == {}
    assert "Pareto k" in failed(narrow)


def test_a_declared_bias_is_repeated(well, exact_draws):
    """A step-size bias that the report does not mention would pass for an exact result."""
    xs = jnp.asarray(np.moveaxis(exact_draws[0][:, :, 0], 0, 1))
    ensemble = Ensemble(
        xs, jnp.zeros((LADDERS, DRAWS)), STATE, axes=("chain", "draw"), bias="Steps of 2 fs bias the law."
    )
    results = analyse(well, STATE, Sampled(ensemble, {"method": "langevin"}))
    assert "Steps of 2 fs bias the law." in results["verdict"]["cautions"]


# What the limits stand on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chains", [4, 16])
def test_the_limit_of_rhat_is_what_400_independent_draws_show(chains):
    """A limit far below would refuse good runs, one far above would accept bad ones.

    Autoregressive chains with tau = 20 that hold 400 independent draws together, 60 times: the mean R-hat is within a
    quarter of the limit's excess over one, and four sigma of the mean.
    """
    rng, decay = np.random.default_rng(chains), 19 / 21
    noise = np.sqrt(1 - decay**2) * rng.standard_normal((60, chains, 400 * 20 // chains))
    noise[..., 0] /= np.sqrt(1 - decay**2)
    found = np.array([split_rhat(lfilter([1.0], [1.0, -decay], run)) for run in noise])
    excess = rhat_limit(chains) - 1
    assert abs(found.mean() - 1 - excess) < 0.25 * excess + 4 * found.std() / np.sqrt(60)


def test_boltzmann_slopes_of_exact_draws_are_one_within_their_errors(exact_draws):
    """Errors that are too small would accuse a correct sampler. 4 sigma of Student's t with 7 degrees: one in 200."""
    check = boltzmann_check(exact_draws[1], BETAS)
    sigmas = (np.array(check["slope_ratio"]) - 1) / np.array(check["standard_error"])
    assert (np.abs(sigmas) < 4).all(), sigmas


# Molecules ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alanine():
    pytest.importorskip("openmm", reason="molecules need OpenMM")
    pytest.importorskip("rdkit", reason="peptides are built with RDKit")
    import heatbath

    return heatbath.molecule("alanine-dipeptide")


def shaken(molecule, *, mirrored=False):
    rng = np.random.default_rng(5)
    xs = np.asarray(molecule.positions) + 0.004 * rng.standard_normal((4, 30, molecule.n_atoms, 3))
    if mirrored:
        xs[2, 3] *= np.array([1, 1, -1])
    return Sampled(Ensemble(jnp.asarray(xs), jnp.zeros((4, 30)), ThermoState(0.4), axes=("chain", "draw")), {})


def test_representatives_of_a_molecule_are_written(alanine, tmp_path):
    """The report shows these files: wrong units or a missing file would show nothing or a ball of atoms."""
    mdtraj = pytest.importorskip("mdtraj")
    results = analyse(alanine, ThermoState(0.4), shaken(alanine), structures_dir=tmp_path / "structures")
    assert results["target"]["n_atoms"] == 22
    assert results["stereochemistry"]["inverted_centres"] == 0
    assert "phi, psi" in results["surfaces"]
    visited = [basin for basin in results["basins"] if basin["representative"]]
    assert visited
    for basin in visited:
        xyz = mdtraj.load(str(tmp_path / basin["representative"])).xyz[0]
        assert np.sqrt(np.mean((xyz - np.asarray(alanine.positions)) ** 2)) < 0.02


def test_an_inverted_centre_is_refused(alanine):
    """One D-alanine among the frames means that another molecule was sampled."""
    results = analyse(alanine, ThermoState(0.4), shaken(alanine, mirrored=True))
    assert results["stereochemistry"]["inverted_centres"] == 1
    assert "chirality" in failed(results)


@pytest.mark.parametrize(("share", "accepted"), [(0.001, True), (0.2, False)])
def test_cis_peptide_bonds_of_one_chain_matter_when_they_are_many(share, accepted):
    """A population that one lucky chain decides must not pass; a handful of flips must not condemn a long run."""
    found = {
        "inverted_centres": 0,
        "flipped_peptide_bonds": int(10_000 * share),
        "frames": 10_000,
        "chains_with_flips": 1,
    }
    verdict = judge({"stereochemistry": found}, chains=8, visits={})
    assert {check["name"]: check["passed"] for check in verdict["checks"]}["peptide bonds"] is accepted


def test_flips_are_counted_per_chain(alanine):
    """The number of chains that crossed decides whether the cis population is believed."""
    run = shaken(alanine)
    xs = np.array(run.ensemble.samples)
    # Turning the last atom of omega half a turn about the bond C-N makes the peptide bond cis.
    _, carbon, nitrogen, last = peptide_bonds(alanine.topology)[-1].torsion.atoms
    for x in xs[1, :3]:
        axis = (x[nitrogen] - x[carbon]) / np.linalg.norm(x[nitrogen] - x[carbon])
        arm = x[last] - x[carbon]
        x[last] = x[carbon] + 2 * axis * (axis @ arm) - arm
    shaken_run = Sampled(eqx.tree_at(lambda e: e.samples, run.ensemble, jnp.asarray(xs)), {})
    results = analyse(alanine, ThermoState(0.4), shaken_run)
    assert results["stereochemistry"]["flipped_peptide_bonds"] == 3
    assert results["stereochemistry"]["chains_with_flips"] == 1
