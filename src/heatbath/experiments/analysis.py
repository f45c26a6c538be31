"""What a finished run says: every number of results.json, computed from the draws.

``analyse`` is the last step of an experiment. It takes what a sampler collected (``Sampled``) and returns plain JSON types:
estimates with errors from independent chains, free-energy surfaces, basins with a representative structure each, the
health of the ladder, of the chains and of the weights, and a verdict (``convergence.py``) that is able to say no.
"""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.errors import UnknownTruthError
from heatbath.estimate import Estimate
from heatbath.estimators import free_energy_difference, pareto_k, populations
from heatbath.experiments.convergence import judge
from heatbath.experiments.coordinates import Coordinates, coordinates_of, representatives, surfaces
from heatbath.experiments.diagnosis import chain_diagnostics, cold_draws, ladder_section, visits
from heatbath.io.run_directory import json_ready
from heatbath.samplers.base import Sampled
from heatbath.state import ThermoState
from heatbath.targets.base import Target


def analyse(
    target: Target,
    state: ThermoState,
    sampled: Sampled,
    *,
    seed: int = 0,
    structures_dir: Path | None = None,
    generator: dict[str, Any] | None = None,
) -> dict:
    """The results of a run, ready for ``json.dumps(results, allow_nan=False)``.

    Errors come from the spread over independent chains wherever the ensemble has them. ``seed`` fixes the resampling from
    which the representative of a basin is chosen. When ``structures_dir`` is given and the target is a molecule, one PDB file
    per basin is written there, and named in the results relative to the run directory (``"structures/basin-0.pdb"``).
    ``generator`` is the section on the trained model that made the draws (``generator_results.py``).

    Sections: ``target``, ``temperature``, ``method``, ``verdict``, ``estimates``, ``surfaces``, ``basins``,
    ``free_energy_differences``, ``ladder``, ``chains``, ``weights``, ``stereochemistry``, ``cost``, ``bias``; those that
    the method or the target has nothing to say about are empty. Numbers that are not finite are written as None.
    """
    ensemble, diagnostics = sampled.ensemble, sampled.diagnostics
    coordinates = coordinates_of(target, ensemble)
    cold = cold_draws(sampled)
    results: dict[str, Any] = {
        "target": describe(target),
        "temperature": {
            "value": state.temperature(target.unit),
            "unit": "1" if target.unit == "1" else "K",
            "beta": float(state.beta),
        },
        "method": str(diagnostics.get("method", "")),
        "estimates": _estimates(target, state, ensemble, coordinates),
        "surfaces": surfaces(ensemble, coordinates),
        "basins": _basins(target, ensemble, coordinates, seed, structures_dir),
        "free_energy_differences": _differences(target, state, ensemble, coordinates),
        "ladder": ladder_section(target, diagnostics),
        "chains": chain_diagnostics(ensemble, coordinates, cold),
        "weights": _weights(ensemble),
        "stereochemistry": _stereochemistry(target, ensemble, cold),
        "cost": {
            "energy_evaluations": diagnostics.get("evaluations"),
            "non_finite": diagnostics.get("non_finite"),
        },
        "bias": ensemble.bias,
    }
    if generator is not None:
        results["generator"] = generator
    results = json_ready(results)
    chains = np.shape(ensemble.log_weights)[0] if ensemble.axes == ("chain", "draw") else 0
    results["verdict"] = json_ready(judge(results, chains=chains, visits=visits(ensemble, coordinates, cold)))
    return results


# Sections ------------------------------------------------------------------------------------------------------------


def describe(target: Target) -> dict:
    """Name, size and, for molecules, composition."""
    shape = target.space.event_shape
    described: dict[str, Any] = {"name": target_name(target), "unit": target.unit}
    if hasattr(target, "to_openmm_topology"):
        described["n_atoms"] = int(shape[0])
    else:
        described["dimension"] = int(sum(math.prod(leaf) for leaf in jax.tree.leaves(shape, is_leaf=_is_shape)))
    for field in ("forcefield", "formula", "sequence"):
        if getattr(target, field, None):
            described[field] = str(getattr(target, field))
    return described


def target_name(target: Target) -> str:
    """The target's own name, or that of its class in words: ``DoubleWell`` is "double well"."""
    return str(getattr(target, "name", "")) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(target).__name__).lower()


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple) and all(isinstance(size, int) for size in node)


def _estimates(target: Target, state: ThermoState, ensemble: Ensemble, coordinates: Coordinates) -> dict[str, Any]:
    """Mean energy, heat capacity, log Z where the weights hold it, means of observables; beside them the exact values."""
    beta = float(state.beta)
    estimates: dict[str, Any] = {}
    if ensemble.energies is not None:
        energies = np.asarray(ensemble.energies, dtype=np.float64)
        mean = ensemble.expect(energies, target.unit)
        estimates["mean energy"] = _with_truth(mean, target, target.energy, beta)
        # beta^2 Var U, the configurational heat capacity in units of k_B.
        estimates["heat capacity"] = ensemble.expect((beta * (energies - mean.value)) ** 2, "k_B").to_dict()
    if ensemble.absolute:
        exact = _truth(lambda: target.log_z(beta)) if target.knows("log_z") else None
        estimates["log Z"] = _beside(ensemble.log_z, exact)
    for name, observable in coordinates.observables.items():
        if observable.period is None:
            estimate = ensemble.expect(coordinates.values[name], observable.unit)
            # A lattice calls its energy per site "energy"; the label tells it from the energy itself.
            title = f"mean {name}" if f"mean {name}" not in estimates else f"mean {observable.label}"
            estimates[title] = _with_truth(estimate, target, observable.function, beta)
    return estimates


def _with_truth(estimate: Estimate, target: Target, function, beta: float) -> dict:
    exact = _truth(lambda: target.mean(function, beta)) if target.knows("mean") else None
    return _beside(estimate, exact)


def _truth(compute) -> float | None:
    """A declared truth, or None where the target has it for other dimensions or temperatures only."""
    try:
        return float(compute())
    except UnknownTruthError:
        return None


def _beside(estimate: Estimate, exact: float | None) -> dict:
    """An estimate with the exact value and the distance to it in standard errors."""
    fields = estimate.to_dict()
    if exact is not None:
        fields["exact"] = exact
        error = float(estimate.standard_error)
        fields["sigmas_from_exact"] = (float(estimate.value) - exact) / error if error > 0 else None
    return fields


def _basins(
    target: Target, ensemble: Ensemble, coordinates: Coordinates, seed: int, structures_dir: Path | None
) -> list[dict]:
    if not coordinates.basins:
        return []
    shares = populations(ensemble, coordinates.basins)
    chosen = representatives(ensemble, coordinates, seed)
    rows = []
    for index, name in enumerate(coordinates.basins):
        row: dict[str, Any] = {"name": name, "population": shares[name].to_dict(), "representative": None}
        draw = chosen[name]
        if draw is not None:
            row["at"] = {key: float(values.reshape(-1)[draw]) for key, values in coordinates.values.items()}
            if structures_dir is not None and hasattr(target, "to_openmm_topology"):
                row["representative"] = _write_structure(target, ensemble, draw, structures_dir / f"basin-{index}.pdb")
        rows.append(row)
    return rows


def _write_structure(target: Any, ensemble: Ensemble, draw: int, path: Path) -> str:
    from heatbath.io.trajectories import superpose, write_structure

    positions = np.asarray(ensemble.flat().samples[draw], dtype=np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    if target.positions is not None:
        positions = superpose(positions, np.asarray(target.positions, dtype=np.float64))
    write_structure(path, target, positions)
    return f"structures/{path.name}"


def _differences(target: Target, state: ThermoState, ensemble: Ensemble, coordinates: Coordinates) -> list[dict]:
    """Delta F from the first basin to each other one, in kT and in the unit of the energy."""
    rows = []
    names = list(coordinates.basins)
    for name in names[1:]:
        pair = coordinates.basins[names[0]], coordinates.basins[name]
        value = free_energy_difference(ensemble, *pair, names=(names[0], name))
        row: dict[str, Any] = {"from": names[0], "to": name, "value": value.to_dict()}
        if target.unit != "1":
            scale = 1.0 / float(state.beta)
            scaled = dataclasses.replace(
                value, value=scale * value.value, standard_error=scale * value.standard_error, unit=target.unit
            )
            row["in_unit"] = scaled.to_dict()
        rows.append(row)
    return rows


def _weights(ensemble: Ensemble) -> dict:
    log_weights = np.asarray(ensemble.log_weights, dtype=np.float64).reshape(-1)
    section: dict[str, Any] = {"ess": ensemble.ess(), "size": ensemble.size, "pareto_k": None}
    if np.ptp(log_weights[np.isfinite(log_weights)]) > 1e-12:
        section["pareto_k"] = pareto_k(log_weights)
    return section


def _stereochemistry(target: Any, ensemble: Ensemble, cold: np.ndarray) -> dict:
    """Chiral centres and peptide bonds that differ from the molecule that was built, in the draws at the asked temperature.

    Of exchangeable draws only those with a weight count, since the others are no part of the answer; the share of the weight
    that has a flipped peptide bond is stated beside their number.
    """
    if not hasattr(target, "stereochemistry_violations") or target.positions is None:
        return {}
    frames = jnp.asarray(ensemble.samples)[..., cold, :, :]
    weighted = ensemble.axes == ("draw",)
    if weighted:
        weights = ensemble.weights()
        frames, weights = frames[np.flatnonzero(weights)], weights[weights > 0]
    found = target.stereochemistry_violations(frames)
    flips = sum(found.flipped_peptide_bonds.values())
    section: dict[str, Any] = {
        "frames": found.frames,
        "inverted_centres": sum(found.inverted_centres.values()),
        "flipped_peptide_bonds": flips,
        "chains_with_flips": 0,
        "by_centre": dict(found.inverted_centres),
        "by_peptide_bond": dict(found.flipped_peptide_bonds),
    }
    if flips:
        flipped = _flipped(target, frames)
        if weighted:
            section["flipped_weight"] = float(weights[flipped].sum())
        elif frames.ndim == 4:
            section["chains_with_flips"] = int(flipped.any(axis=1).sum())
    return section


def _flipped(target: Any, frames: jax.Array) -> np.ndarray:
    """Whether any peptide bond of each frame (any leading axes) is cis for trans or the reverse."""
    own = np.cos(np.asarray(target.peptide_bonds(target.positions))) > 0
    rows = frames.reshape((-1, *frames.shape[-2:]))
    cis = np.asarray(
        jax.jit(lambda xs: jax.lax.map(lambda x: jnp.cos(target.peptide_bonds(x)) > 0, xs, batch_size=1024))(rows)
    )
    return (cis != own).any(axis=-1).reshape(frames.shape[:-2])
