"""What an experiment is: a typed configuration and three functions, found by name without importing JAX.

An experiment is a module. Importing it must be cheap (no JAX), because its configuration is checked first. It offers

``Config``                      the configuration, a tree of frozen dataclasses
``PRESETS``                     name -> values laid over the defaults
``check(config)``               refuses what can be refused without computing anything
``prepare(config, base)``       builds target, state and sampler: a ``Prepared``
``finish(prepared, run, ...)``  turns the draws of a run directory into results and a report
"""

import dataclasses
import importlib
from typing import Any

from heatbath.errors import UsageError, nearest


@dataclasses.dataclass(frozen=True)
class ExperimentEntry:
    """One line of the table of experiments."""

    name: str
    module: str
    summary: str


EXPERIMENTS = {
    entry.name: entry
    for entry in (
        ExperimentEntry(
            "sample",
            "heatbath.experiments.sample",
            "equilibrium samples of a molecule or model system at one temperature, with free energies and a report",
        ),
        ExperimentEntry(
            "train",
            "heatbath.experiments.train",
            "a generator for a molecule or model system: reference data, training, a model to sample from",
        ),
        ExperimentEntry(
            "sequential-boltzmann-generator",
            "heatbath.experiments.sequential_boltzmann_generator",
            "a causal transformer flow of a peptide, reweighted and annealed to the target by sequential Monte Carlo",
        ),
        ExperimentEntry(
            "flow-perturbation",
            "heatbath.experiments.flow_perturbation",
            "a continuous flow weighted without its Jacobian: every log Jacobian beside exact values, then annealed",
        ),
        ExperimentEntry(
            "temperature-steerable-flow",
            "heatbath.experiments.temperature_steerable_flow",
            "a flow trained at one temperature, weighted at others, and carrying swaps between them",
        ),
        ExperimentEntry(
            "generalized-ensemble",
            "heatbath.experiments.generalized_ensemble",
            "couplings from sampled spins, certificates of detailed balance for kernels, and what drives a driven model",
        ),
        ExperimentEntry(
            "energy-decomposition-gflownet",
            "heatbath.experiments.energy_decomposition_gflownet",
            "objects built step by step with learned energy potentials: exact laws by energy calls, beside other losses",
        ),
        ExperimentEntry(
            "nade",
            "heatbath.experiments.nade",
            "exact likelihoods of binary and real tables, one coordinate after another, in one order or in many",
        ),
        ExperimentEntry(
            "unbiased-boltzmann-machine",
            "heatbath.experiments.unbiased_boltzmann_machine",
            "Boltzmann machines learned with and without bias: likelihoods from both sides, and what meeting chains cost",
        ),
        ExperimentEntry(
            "rayleigh-boltzmann-shear",
            "heatbath.experiments.rayleigh_boltzmann_shear",
            "particles that collide with a sheared gas, event by event to times beyond e^1000, beside exact laws",
        ),
        ExperimentEntry(
            "state-dependent-diffusion",
            "heatbath.experiments.state_dependent_diffusion",
            "diffusion whose coefficient depends on position: the drift of every convention, and what happens without it",
        ),
        ExperimentEntry(
            "supercooled-liquid",
            "heatbath.experiments.supercooled_liquid",
            "a supercooled liquid by flows, annealing, tempering, dynamics and swap Monte Carlo: whom to trust, at what cost",
        ),
        ExperimentEntry(
            "quantum-collisionless-boltzmann",
            "heatbath.experiments.quantum_collisionless_boltzmann",
            "self-gravitating phase space on qubits: circuits, growth of waves, collapse, and what reading the density costs",
        ),
        ExperimentEntry(
            "halo-divergences",
            "heatbath.experiments.halo_divergences",
            "limits on dark matter for every halo within a divergence of the standard one, each with a certificate",
        ),
    )
}


def experiment(name: str) -> Any:
    """The module of the experiment called ``name``. Raises ``UsageError`` when there is none."""
    if name not in EXPERIMENTS:
        raise UsageError(f"unknown experiment {name!r}. {nearest(name, EXPERIMENTS)}")
    return importlib.import_module(EXPERIMENTS[name].module)
