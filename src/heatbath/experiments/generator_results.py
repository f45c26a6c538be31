"""The ``generator`` section of results.json: how good a trained model is before and after reweighting, beside a reference.

Everything that a weight can say is said with all weights kept; the literature's cut of the largest 0.2 % stands beside it.
What no weight can say, modes that the model never draws, is asked of the reference (forward efficiency, metrics). Keys and
their meaning are listed in ``report/generator.py``, which draws them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.estimate import Estimate
from heatbath.estimators import forward_ess, kish_ess, kish_ess_after_cut, pareto_k
from heatbath.experiments.coordinates import coordinates_of, surfaces, torsion_pairs
from heatbath.experiments.generator_metrics import metric_rows
from heatbath.experiments.published import literature
from heatbath.io.datasets import Reference
from heatbath.io.run_directory import json_ready
from heatbath.models.base import Distribution
from heatbath.models.rigid import RigidAugmentation
from heatbath.samplers.centre import HarmonicCentre
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target

#: The share of largest weights that the literature drops before it states an efficiency.
CUT = 0.002
#: Bins of the energy histograms.
ENERGY_BINS = 80
#: Reference frames on which the forward efficiency is measured.
FORWARD_FRAMES = 2000


def generator_section(
    target: Target,
    ensemble: Ensemble,
    *,
    reference: Reference | None = None,
    smc: Ensemble | None = None,
    proposal: Distribution | None = None,
    centre_scale: float | None = None,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    transport: int = 2000,
    replicates: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """The section, in plain JSON types; parts whose input is missing are left out.

    ensemble:     weighted draws of the model, with centres forgotten (``samplers.centre``)
    reference:    equally weighted draws of the target in independent ladders
    smc:          the ensemble that SMC made of draws of the model
    proposal, centre_scale: the model itself, for the forward efficiency on reference frames; the standard deviation of its
                  centre in nm, None where the model has none
    model, training: what is known of the model, and its curves, passed through
    transport:    draws of each side in optimal transport, ``replicates`` of the bootstrap
    """
    section: dict[str, Any] = {
        "model": dict(model or {}),
        "ess": weight_summary(ensemble.log_weights),
        "weights": weight_curve(ensemble),
        "energies": energy_histograms(ensemble, reference),
        "ramachandran": ramachandran_maps(target, ensemble, reference),
        "stereochemistry": stereochemistry_counts(target, ensemble),
    }
    if training:
        section["training"] = dict(training)
    if reference is not None:
        section["metrics"] = metric_rows(
            target, ensemble, reference, smc=smc, transport=transport, replicates=replicates, seed=seed
        )
        section["literature"] = literature(str(reference.record["name"]))
        if proposal is not None:
            forward = forward_efficiency(target, ensemble.state, proposal, reference, centre_scale, seed=seed)
            section["ess"] |= {"forward_fraction": forward.value, "forward_standard_error": forward.standard_error}
    return json_ready({name: part for name, part in section.items() if part})


# Weights --------------------------------------------------------------------------------------------------------------
def weight_summary(log_weights: Any) -> dict[str, Any]:
    """Kish's effective size and its share of the draws, raw and without the largest 0.2 %, and the tail's Pareto k.

    Draws of weight zero count as draws. All None when no draw has a weight.
    """
    values = np.asarray(log_weights, dtype=np.float64).reshape(-1)
    summary: dict[str, Any] = {"draws": values.size, "cut": CUT, "forward_fraction": None}
    if not np.isfinite(values).any():
        return summary | {"raw": 0.0, "fraction": 0.0, "fraction_after_cut": None, "pareto_k": None}
    raw, kept = kish_ess(values), values.size - int(np.ceil(CUT * values.size))
    smaller = np.sort(values)[: max(kept, 1)]
    after = kish_ess_after_cut(values, CUT) / kept if kept and np.isfinite(smaller).any() else None
    return summary | {
        "raw": raw,
        "fraction": raw / values.size,
        "fraction_after_cut": after,
        "pareto_k": pareto_k(values),
    }


def weight_curve(ensemble: Ensemble, points: int = 80) -> dict[str, Any]:
    """Share of the total weight that the heaviest share of the draws carries, at ``points`` places, evenly in the logarithm."""
    weights = np.sort(ensemble.weights().reshape(-1))[::-1]
    counts = np.unique(np.geomspace(1, weights.size, points).round().astype(int))
    return {"draws": counts / weights.size, "share": np.minimum(np.cumsum(weights)[counts - 1], 1.0)}


def forward_efficiency(
    target: Target,
    state: ThermoState,
    proposal: Distribution,
    reference: Reference,
    centre_scale: float | None,
    *,
    frames: int = FORWARD_FRAMES,
    seed: int = 0,
) -> Estimate:
    """The share of effective draws as frames of the reference see it: small where the model lacks what the reference holds.

    Frames get a uniform orientation and a centre from the model's own law, since the reference has neither.
    """
    count = min(frames, reference.size)
    xs = jnp.asarray(reference.flat(count), dtype=jnp.float32)
    groups = np.tile(np.arange(reference.ladders), reference.size // reference.ladders)
    groups = groups[(np.arange(count) * reference.size) // count]
    held = state
    if centre_scale is not None:
        held = ThermoState(state.beta, HarmonicCentre(centre_scale))
        place = RigidAugmentation(jnp.asarray(centre_scale, dtype=float))
        xs = jax.vmap(place)(jax.random.split(jax.random.key(seed), count), xs)
    log_weights = np.asarray(_log_weights(ReducedEnergy(target, held), proposal, xs), dtype=np.float64)
    return forward_ess(np.where(np.isnan(log_weights), np.inf, log_weights), groups=groups)


@eqx.filter_jit
def _log_weights(u: ReducedEnergy, proposal: Distribution, xs: jax.Array) -> jax.Array:
    return jax.lax.map(lambda x: -u(x) - proposal.log_prob(x), xs, batch_size=500)


# Figures --------------------------------------------------------------------------------------------------------------
def energy_histograms(ensemble: Ensemble, reference: Reference | None) -> dict[str, Any]:
    """Densities of the reduced energy of the draws as they came, weighted, and of the reference, on common edges.

    The edges hold all of the reference and nine tenths of the model's draws; a learned model has a long tail of clashes.
    """
    assert ensemble.energies is not None
    beta = float(ensemble.state.beta)
    own = beta * np.asarray(ensemble.energies, dtype=np.float64).reshape(-1)
    weights = ensemble.weights().reshape(-1)
    truth = None if reference is None else beta * np.asarray(reference.energies, dtype=np.float64).reshape(-1)
    heavy = own[weights > 1e-3 / weights.size]
    pool = heavy if truth is None else np.concatenate([truth, heavy])
    low, high = float(pool.min()), float(max(np.quantile(own[np.isfinite(own)], 0.9), np.quantile(pool, 0.999)))
    if truth is not None:  # clashes of a poor model reach 1e10 kT, where no bin would show the reference
        high = min(high, float(truth.max()) + 2.0 * float(np.ptp(truth)))
        low = min(low, float(truth.min()))
    edges = np.linspace(low, high if high > low else low + 1.0, ENERGY_BINS + 1)
    width = edges[1] - edges[0]
    found = {"edges": edges, "unit": "kT"}
    finite = np.where(np.isfinite(own), own, np.inf)
    found["model"] = np.histogram(finite[finite <= edges[-1]], edges)[0] / (own.size * width)
    found["reweighted"] = np.histogram(finite, edges, weights=weights)[0] / width
    if truth is not None:
        found["reference"] = np.histogram(truth, edges)[0] / (truth.size * width)
    return found


def ramachandran_maps(target: Target, ensemble: Ensemble, reference: Reference | None) -> dict[str, Any]:
    """Free energy over the first (phi, psi): of the model's draws, reweighted, and of the reference; each as a surface."""
    pair = next(iter(torsion_pairs(list(target.observables()))), None)
    if pair is None:
        return {}
    sources = {"model": unweighted(ensemble), "reweighted": ensemble}
    if reference is not None:
        sources["reference"] = reference.ensemble()
    maps = {}
    for name, source in sources.items():
        coordinates = coordinates_of(target, source)
        kept = {part: {axis: held[axis] for axis in pair} for part, held in _parts(coordinates).items()}
        narrow = dataclasses.replace(coordinates, **kept)
        maps[name] = surfaces(source, narrow)[f"{pair[0]}, {pair[1]}"]
    return maps


def _parts(coordinates: Any) -> dict[str, Mapping[str, Any]]:
    return {"observables": coordinates.observables, "values": coordinates.values}


def unweighted(ensemble: Ensemble) -> Ensemble:
    """The same draws, each of weight one: what the model makes of itself."""
    equal = np.zeros(np.shape(ensemble.log_weights))
    return dataclasses.replace(ensemble, log_weights=equal, absolute=False, ancestors=None)


def stereochemistry_counts(target: Any, ensemble: Ensemble) -> dict[str, Any]:
    """Inverted centres and flipped peptide bonds among the model's own draws, and the share of the weight that has either."""
    if not hasattr(target, "stereochemistry_violations") or target.positions is None:
        return {}
    samples = jnp.asarray(ensemble.flat().samples)
    found = target.stereochemistry_violations(samples)
    reference = jnp.asarray(target.positions)
    hands, sides = np.asarray(target.chirality(reference)), np.cos(np.asarray(target.peptide_bonds(reference))) > 0

    def differs(x):
        return jnp.any(target.chirality(x) != hands), jnp.any((jnp.cos(target.peptide_bonds(x)) > 0) != sides)

    inverted, flipped = jax.jit(jax.vmap(differs))(samples)
    weights = ensemble.weights().reshape(-1)
    return {
        "frames": found.frames,
        "inverted_centres": sum(found.inverted_centres.values()),
        "flipped_peptide_bonds": sum(found.flipped_peptide_bonds.values()),
        "weight_inverted": float(weights[np.asarray(inverted)].sum()),
        "weight_flipped": float(weights[np.asarray(flipped)].sum()),
    }
