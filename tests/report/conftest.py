"""Run directories to report on: results of ``analyse`` on real ensembles, with the files that a run leaves behind."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.experiments.analysis import analyse
from heatbath.samplers.base import Sampled
from heatbath.samplers.weighting import ladder_ensemble
from heatbath.state import ThermoState
from heatbath.targets.toy import DoubleWell

BETAS = np.array([1.0, 0.6, 0.35])
CITATION = "@article{metropolis1953,\n  title = {Equation of State Calculations},\n  year = {1953}\n}\n"


def write_run(path, results, name):
    """The files of a finished run, as far as a report reads them."""
    path.mkdir(exist_ok=True)
    results["run"] = {"seconds": 42.0, "energy_evaluations": 1.2e6}
    rows = [{"phase": "warm-up", "elapsed": 10.0}, {"phase": "production", "elapsed": 42.0}]
    provenance = {
        "heatbath": "0.1.0",
        "python": "3.11.0",
        "packages": {"jax": "0.10.1"},
        "argv": ["heatbath", "sample", name, "--temperature", "300 K"],
        "seed": 7,
        "started": "2026-01-01T12:00:00+00:00",
        "cpu": "a processor",
        "devices": ["cpu: cpu"],
        "x64": True,
    }
    (path / "results.json").write_text(json.dumps(results, allow_nan=False))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "provenance.json").write_text(json.dumps(provenance))
    (path / "resolved.toml").write_text(f'seed = 7\n\n[target]\nname = "{name}"\n')
    (path / "CITATIONS.bib").write_text(CITATION)
    return path


@pytest.fixture(scope="session")
def sections():
    """Results of runs with generators; tests that change them take a copy."""
    spec = importlib.util.spec_from_file_location("synthetic", Path(__file__).parent / "synthetic.py")
    synthetic = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synthetic)
    return synthetic.all_sections()


@pytest.fixture(scope="session")
def sections_run(toy_run, sections, tmp_path_factory):
    """A run with every section."""
    run = tmp_path_factory.mktemp("sections") / "run"
    shutil.copytree(toy_run, run, ignore=shutil.ignore_patterns("report"))
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | sections, allow_nan=False))
    return run


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """A double well: exact draws at three temperatures in eight ladders, with MBAR weights. Converged."""
    target, state, ladders, draws = DoubleWell(barrier=4.0, dimension=2), ThermoState(1.0), 8, 300

    @jax.jit
    def at(key, beta):
        xs = jax.vmap(lambda k: target.sample(k, beta))(jax.random.split(key, draws * ladders))
        return xs, jax.vmap(target.energy)(xs)

    pairs = [at(jax.random.key(i), beta) for i, beta in enumerate(BETAS)]
    samples = np.stack([np.asarray(xs).reshape(draws, ladders, 2) for xs, _ in pairs], axis=2)
    energies = np.stack([np.asarray(u).reshape(draws, ladders) for _, u in pairs], axis=2)
    ensemble, found = ladder_ensemble(samples, energies, state, [ThermoState(float(beta)) for beta in BETAS])
    diagnostics = {
        "method": "replica-exchange",
        "betas": BETAS,
        "step_sizes": [0.1, 0.2, 0.3],
        "acceptance": [0.7, 0.8, 0.9],
        "swap_acceptance": [0.4, 0.5],
        "round_trips_per_ladder": [10] * ladders,
        "energies": energies,
        "evaluations": 10_000,
        "non_finite": 3,
    }
    results = analyse(target, state, Sampled(ensemble, {**diagnostics, **found}))
    return write_run(tmp_path_factory.mktemp("toy") / "run", results, "double-well")


@pytest.fixture(scope="session")
def molecule_run(tmp_path_factory):
    """Alanine dipeptide shaken around two values of phi and psi, in four short chains. Not converged."""
    pytest.importorskip("openmm", reason="molecules need OpenMM")
    pytest.importorskip("rdkit", reason="peptides are built with RDKit")
    import heatbath

    molecule = heatbath.molecule("alanine-dipeptide")
    rng = np.random.default_rng(2)
    turned = [np.asarray(molecule.positions), _with_phi(molecule, 1.0)]
    side = (rng.random((4, 60)) < 0.2).astype(int)
    xs = np.stack(turned)[side] + 0.008 * rng.standard_normal((4, 60, molecule.n_atoms, 3))
    energies = jnp.asarray(rng.normal(-60, 20, (4, 60)))
    ensemble = Ensemble(jnp.asarray(xs), jnp.zeros((4, 60)), ThermoState(0.4), energies, axes=("chain", "draw"))
    path = tmp_path_factory.mktemp("molecule") / "run"
    path.mkdir()
    results = analyse(
        molecule, ThermoState(0.4), Sampled(ensemble, {"method": "hmc"}), structures_dir=path / "structures"
    )
    return write_run(path, results, "alanine-dipeptide")


def _with_phi(molecule, phi):
    """The reference structure with everything beyond the bond N-CA turned so that the first phi is ``phi``."""
    x = np.array(molecule.positions)
    _, nitrogen, alpha, _ = molecule.observables()["phi"].function.atoms
    angle = phi - float(molecule.observables()["phi"].function(jnp.asarray(x)))
    reached, front = {nitrogen, alpha}, [alpha]
    while front:  # the atoms on the far side of the bond
        front = [j for i in front for j in molecule.topology.neighbours[i] if j not in reached]
        reached |= set(front)
    moving = sorted(reached - {nitrogen, alpha})
    axis = (x[alpha] - x[nitrogen]) / np.linalg.norm(x[alpha] - x[nitrogen])
    arms = x[moving] - x[alpha]
    x[moving] = (
        x[alpha]
        + np.cos(angle) * arms
        + np.sin(angle) * np.cross(axis, arms)
        + (1 - np.cos(angle)) * np.outer(arms @ axis, axis)
    )
    return x
