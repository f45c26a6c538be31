"""The health of a run, as sections of results.json: chains at the asked temperature, and the temperature ladder.

Keys of ``Sampled.diagnostics`` that are read, all optional: ``method``; ``rung`` (the rung of each draw along the draw axis);
``betas``, ``step_sizes``, ``acceptance`` (one per rung); ``swap_acceptance`` (one per pair of neighbours);
``round_trips_per_ladder``; ``energies`` (draw, ladder, rung); ``overlap``, ``mbar_converged``, ``mbar_notes``,
``free_energies``, ``free_energy_errors`` (of MBAR); ``evaluations`` and ``non_finite`` (counts).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.estimators import autocorrelation_time, effective_sample_size, energy_overlap, split_rhat
from heatbath.experiments.coordinates import Coordinates
from heatbath.samplers.base import Sampled
from heatbath.targets.base import Target
from heatbath.units import temperature_from_beta

#: Bins of the energy histograms.
ENERGY_BINS = 80
#: Draws per rung that the Boltzmann check looks at.
MOST_CHECKED = 4000


def cold_draws(sampled: Sampled) -> np.ndarray:
    """Indices along the draw axis of the draws made AT the asked temperature (rung 0), in time order.

    Replica exchange puts the draws of all rungs into one chain per ladder, weighted by MBAR; chain diagnostics need those of
    one rung. Without a ladder these are all draws.
    """
    rung = sampled.diagnostics.get("rung")
    if rung is None:
        return np.arange(np.shape(sampled.ensemble.log_weights)[-1])
    return np.flatnonzero(np.asarray(rung) == 0)


def _rung_energies(diagnostics: Mapping[str, Any]) -> np.ndarray | None:
    """(draw, ladder, rung) or None when there is no ladder of temperatures."""
    if diagnostics.get("energies") is None or diagnostics.get("betas") is None:
        return None
    energies = np.asarray(diagnostics["energies"])
    return energies if energies.ndim == 3 and energies.shape[2] > 1 else None


# Chains --------------------------------------------------------------------------------------------------------------


def chain_diagnostics(ensemble: Ensemble, coordinates: Coordinates, cold: np.ndarray) -> dict[str, dict]:
    """R-hat, effective size and autocorrelation time (in draws) of every observable, basin and of the energy.

    A circular observable is judged by the worse of its cosine and sine, a basin by its indicator. All None where a
    column never changes. Empty for exchangeable draws.
    """
    if ensemble.axes != ("chain", "draw") or cold.size < 4:
        return {}
    rows: dict[str, dict] = {}
    if ensemble.energies is not None:
        rows["energy"] = _worst([np.asarray(ensemble.energies, dtype=np.float64)[:, cold]], "observable")
    for name, observable in coordinates.observables.items():
        rows[name if name not in rows else observable.label] = _worst(
            [column[:, cold] for column in coordinates.features(name)], "observable"
        )
    for name, inside in coordinates.basins.items():
        rows[f"in {name}"] = _worst([inside[:, cold].astype(np.float64)], "basin")
    return rows


def _worst(columns: list[np.ndarray], kind: str) -> dict:
    """The least favourable numbers of the columns that stand for one quantity.

    ``stuck`` says that chains sit at different values for ever (R-hat is infinite and written as None).
    """
    row: dict[str, Any] = {"kind": kind, "rhat": None, "ess": None, "autocorrelation_time": None, "stuck": False}
    if all(np.ptp(column) > 0 for column in columns):
        row["rhat"] = max(float(split_rhat(column)) for column in columns)
        # Rounding in the variance of constant chains can make an infinite R-hat a merely enormous one.
        row["stuck"] = row["rhat"] > 1e6
        row["rhat"] = None if row["stuck"] else row["rhat"]
        row["ess"] = min(float(effective_sample_size(column)) for column in columns)
        row["autocorrelation_time"] = max(float(autocorrelation_time(column)) for column in columns)
    return row


def visits(ensemble: Ensemble, coordinates: Coordinates, cold: np.ndarray) -> dict[str, int]:
    """How many chains visited each basin at the asked temperature."""
    if ensemble.axes != ("chain", "draw"):
        return {}
    return {name: int(inside[:, cold].any(axis=1).sum()) for name, inside in coordinates.basins.items()}


# Ladder --------------------------------------------------------------------------------------------------------------


def ladder_section(target: Target, diagnostics: Mapping[str, Any]) -> dict:
    """Temperatures, step sizes, acceptance, swaps, round trips, energy histograms and their agreement with Boltzmann's law."""
    if diagnostics.get("betas") is None or np.size(diagnostics["betas"]) < 2:
        return {}
    betas = np.asarray(diagnostics["betas"], dtype=np.float64)
    section: dict[str, Any] = {
        "temperatures": [temperature_from_beta(float(beta), target.unit) for beta in betas],
        "unit": "1" if target.unit == "1" else "K",
        "energy_unit": target.unit,
    }
    for name in ("step_sizes", "acceptance", "swap_acceptance", "overlap", "free_energies", "free_energy_errors"):
        section[name] = diagnostics.get(name)
    section["round_trips"] = diagnostics.get("round_trips_per_ladder", diagnostics.get("round_trips"))
    if "mbar_converged" in diagnostics:
        section["mbar"] = {"converged": bool(diagnostics["mbar_converged"]), "notes": list(diagnostics["mbar_notes"])}
    energies = _rung_energies(diagnostics)
    if energies is not None:
        section["energy_histograms"] = energy_histograms(energies)
        section["boltzmann_check"] = boltzmann_check(energies, betas)
    return section


def energy_histograms(energies: np.ndarray) -> dict:
    """Counts per rung on common edges that leave out the highest 0.1 %, and the overlap of neighbours."""
    columns = energies.reshape(-1, energies.shape[-1]).T.astype(np.float64)
    low, high = np.quantile(columns, [0.0, 0.999])
    edges = np.linspace(low, high if high > low else low + 1.0, ENERGY_BINS + 1)
    counts = np.array([np.histogram(column, edges)[0] for column in columns])
    return {"edges": edges, "counts": counts, "overlap": energy_overlap(columns)}


def boltzmann_check(energies: np.ndarray, betas: np.ndarray) -> dict | None:
    """Do the energies of neighbouring rungs stand in the ratio that Boltzmann's law demands?

    log p_j(E) / p_i(E) = const - (beta_j - beta_i) E holds whatever the density of states. The slope is fitted by maximum
    likelihood (logistic regression of the rung on the energy) and given relative to beta_j - beta_i: one, if the sampler is
    right and equilibrated. Errors are a jackknife over ladders. Shirts, J. Chem. Theory Comput. 9, 909 (2013).
    None for fewer than two ladders.
    """
    draws, ladders, rungs = energies.shape
    if ladders < 2 or draws < 2:
        return None
    stride = max(1, draws * ladders // MOST_CHECKED)
    thin = np.asarray(energies[::stride], dtype=np.float64)
    ratios, errors = [], []
    for rung in range(rungs - 1):
        pair, change = thin[:, :, rung : rung + 2], betas[rung + 1] - betas[rung]
        value = _logistic_slope(pair) / change
        left_out = np.array([_logistic_slope(np.delete(pair, ladder, axis=1)) / change for ladder in range(ladders)])
        ratios.append(value)
        errors.append(np.sqrt((ladders - 1) / ladders * np.sum((left_out - left_out.mean()) ** 2)))
    return {"slope_ratio": ratios, "standard_error": errors, "ladders": ladders}


def _logistic_slope(pair: np.ndarray) -> float:
    """s of log p_1(E) / p_0(E) = c - s E, by Newton's method; NaN when the two sets do not overlap."""
    columns = pair.reshape(-1, 2)
    energy, label = columns.T.reshape(-1), np.repeat([0.0, 1.0], len(columns))
    centre, scale = energy.mean(), energy.std()
    if not scale > 0:
        return np.nan
    features = np.stack([np.ones_like(energy), (energy - centre) / scale])
    parameters = np.zeros(2)
    for _ in range(50):
        probability = 1.0 / (1.0 + np.exp(-np.clip(parameters @ features, -500, 500)))
        gradient = features @ (label - probability)
        hessian = (features * (probability * (1 - probability))) @ features.T
        if not np.linalg.det(hessian) > 1e-12 * len(energy):
            return np.nan
        step = np.linalg.solve(hessian, gradient)
        parameters += step
        if np.abs(step).max() < 1e-10:
            break
    return float(-parameters[1] / scale)
