"""Every example is a valid configuration and runs through to a report, shortened here."""

from pathlib import Path

import pytest

from heatbath.cli import main
from heatbath.experiments.base import experiment
from heatbath.experiments.config import build, read

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
SHORT = ["samples=64", "ladders=2", "rungs=3", "warmup=40", "thin=2", "chunk=8"]
#: What else is shortened, by experiment.
SHORTER = {
    "quantum-collisionless-boltzmann": [
        *["grid.positions=8", "grid.velocities=8", "growth.time=0.5", "collapse.time=0.2", "dead_zone.time=0.2"],
        *["collapse.read_modes=1", "algorithm.modes=2"],
    ],
    "rayleigh-boltzmann-shear": ["particles.count=200", "particles.control=200", "particles.log_times=[1.0, 2.0]"],
    "state-dependent-diffusion": [
        *[
            "dynamics.particles=400",
            "dynamics.paths=100",
            "dynamics.time=0.2",
            "dynamics.path_time=0.1",
            "dynamics.alphas=[0.5]",
        ],
    ],
    "supercooled-liquid": [
        *["chains.chains=2", "chains.draws=20", "chains.sweeps=2", "chains.warmup=2", "population.populations=2"],
        *[
            "population.members=20",
            "population.sweeps=2",
            "population.start_sweeps=50",
            "flow.members=40",
            "flow.radial=4",
        ],
        *["temperatures=[0.8, 1.0]", "compared=0.8"],
    ],
    "halo-divergences": ["halo.streams=40", "bounds.masses=2"],
    "generalized-ensemble": [
        *["sampler.samples=640", "sampler.warmup=5", "model.spins=4", "kernels.pairs=1000"],
        *["kernels.names=['gibbs-random']", "driven.spins=3", "driven.jumps=400", "driven.trajectories=4"],
    ],
    "energy-decomposition-gflownet": [
        *["bag.size=3", "bag.needed=3", "training.rounds=2", "training.chunk=1", "network.width=8"],
        *["training.draws=4", "training.replay=2", "training.methods=['led', 'fl']", "sampler.samples=100"],
    ],
    "unbiased-boltzmann-machine": [
        *["machine.side=2", "machine.hidden=[3, 2]", "training.steps=4", "training.chunk=2", "evaluation.bias_draws=0"],
        *["evaluation.pairs=10", "evaluation.longest=50", "draws.samples=20", "draws.levels=5", "draws.pictures=4"],
    ],
    "nade": [
        *["network.hidden=4", "training.steps=20", "training.validate_every=5", "models=['deep-nade']"],
        *[
            "evaluation.orders=[1, 2]",
            "evaluation.mixture=2",
            "evaluation.rows=20",
            "evaluation.pictures=4",
            "draws.samples=20",
        ],
    ],
    "temperature-steerable-flow": [
        *["model.size=toy", "training.steps=10", "training.frames=200", "training.validation_draws=50"],
        *["inference.temperatures=['0.5']", "inference.draws=200", "inference.rounds=20", "inference.warmup=20"],
    ],
    "train": ["training.steps=20", "training.validate_every=10", "training.validation_draws=50", "training.chunk=10"],
    "flow-perturbation": [
        *["training.steps=4", "training.batch_size=16", "training.frames=200"],
        *["training.chunk=2", "flow.width=8", "flow.steps=4", "weights.draws=64"],
        *["weights.exact_draws=16", "weights.annealed=16", "weights.particles=8"],
    ],
}
#: Compiling a force field, or the log Jacobians of a continuous flow, takes longer than a fast test may.
LONG = {"alanine-dipeptide", "peptide", "flow-perturbation", "steerable-flow"}
FAST = [pytest.param(p, marks=[pytest.mark.slow] if p.stem in LONG else []) for p in EXAMPLES]


def test_there_are_examples():
    """An empty folder would make the tests below pass."""
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_valid_configuration(path):
    """A renamed key would break the first thing that people try."""
    values = read(path)
    module = experiment(values["experiment"])
    module.check(build(module.Config, values))
    assert f"heatbath run examples/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", FAST, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path):
    """Whatever it samples, it ends with results and a page. Too short to be converged."""
    sampler = getattr(experiment(read(path)["experiment"]).Config(), "sampler", None)
    short = [pair for pair in SHORT if hasattr(sampler, pair.partition("=")[0])]
    settings = [word for pair in short for word in ("--set", f"sampler.{pair}")]
    settings += [word for pair in SHORTER.get(read(path)["experiment"], ()) for word in ("--set", pair)]
    settings += ["--set", "run.max_time=none"]  # the machine may be busy
    assert main(["run", str(path), "--quiet", "--out", str(tmp_path / "run"), *settings]) in (0, 4)
    assert (tmp_path / "run" / "report" / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_in_full(path, tmp_path):
    """As its user runs it, however busy the machine."""
    assert main(["run", str(path), "--quiet", "--set", "run.max_time=none", "--out", str(tmp_path / "run")]) in (0, 4)
