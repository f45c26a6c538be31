"""What the experiment supercooled-liquid found: energies, heat capacities, structure, free energies, trust, and costs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtr

from heatbath.estimators.autocorrelation import autocorrelation_time
from heatbath.estimators.structure import radial_distribution
from heatbath.estimators.two_states import thermodynamic_integration
from heatbath.experiments import liquid_stages
from heatbath.experiments.convergence import Check
from heatbath.experiments.supercooled_liquid import CHAIN_METHODS, POPULATION_METHODS
from heatbath.io.run_directory import json_ready
from heatbath.samplers.population_annealing import Level

LABELS = {
    "swap": "swap Monte Carlo",
    "local": "local Monte Carlo",
    "dynamics": "molecular dynamics",
    "tempering": "parallel tempering",
    "annealing": "population annealing",
    "flow-annealing": "chain of flows",
}
#: Deviations up to which a method agrees with the reference, and from which a chain is wrong.
AGREES, WRONG = 4.0, 4.0
#: Deviations beyond which a method whose mean is off by more than the goal is said not to reach it.
SIGNIFICANT = 2.0
#: Methods that are expected to agree at every temperature.
TRUSTED = ("tempering", "annealing", "flow-annealing")
#: Blocks of a naive error bar.
BLOCKS = 20


def results(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Section ``liquid`` and a verdict; None before the reference is complete."""
    finished = {name: here for name, here in done.items() if here.finished}
    if "swap" not in finished:
        return None
    config = prepared.config
    methods, energies = {}, {}
    for name in CHAIN_METHODS:
        if name in finished:
            sampled = finished[name].sampled()
            energies[name] = sampled.diagnostics["energies"]
            methods[name] = of_chains(prepared, name, sampled.diagnostics, seconds(finished[name]))
    for name in POPULATION_METHODS:
        if name in finished:
            extra = finished.get("flows") if name == "flow-annealing" else None
            methods[name] = of_populations(prepared, finished[name], extra)
    for name, found in methods.items():
        found["deviations"] = deviations(found, methods["swap"]) if name != "swap" else None
        found["cost"] = cost_of(config, found, methods["swap"])
    liquid = {
        "particles": config.particles,
        "temperatures": list(config.temperatures),
        "compared": config.compared,
        "goal": config.goal,
        "labels": LABELS,
        "methods": methods,
        "structure": structure(prepared, finished["swap"].sampled().ensemble),
        "log_z": log_z(prepared, methods, finished, energies),
    }
    if "local" in energies:
        liquid["confident"] = confident(prepared, energies["local"], methods["swap"])
    if "flows" in finished:
        liquid["flows"] = flows(finished["flows"].carry, prepared)
    checks = verdicts(config, methods)
    failed = [check for check in checks if not check.passed]
    return json_ready(
        {
            "target": {
                "name": f"ternary liquid, N = {config.particles}",
                "dimension": 2 * config.particles,
                "unit": "1",
            },
            "method": "six methods on one energy function",
            "estimates": {},
            "liquid": liquid,
            "verdict": {
                "converged": not failed,
                "reasons": [check.sentence for check in failed or checks],
                "checks": [dataclasses.asdict(check) for check in checks],
                "cautions": [
                    "Local Monte Carlo and molecular dynamics are not ergodic at the lowest temperatures on the scale of this "
                    "run: their means there are shown to be wrong, and are no failure of this run."
                ],
            },
        }
    )


def seconds(stage: Any) -> float:
    """Wall time of a stage, from its last checkpoint."""
    return float((stage.run.record() or {}).get("elapsed", np.nan))


# Methods --------------------------------------------------------------------------------------------------------------
def of_chains(prepared: Any, name: str, diagnostics: Mapping[str, Any], wall: float) -> dict[str, Any]:
    """U/N and c_V at every temperature from independent chains or ladders, with errors from their spread."""
    energies = np.asarray(diagnostics["energies"], dtype=np.float64)
    count, temperatures = prepared.target.particles, np.asarray(prepared.config.temperatures)
    per_chain = energies.mean(0) / count
    # About the common mean, so that what chains disagree about counts.
    squares = ((energies - energies.mean((0, 1))) ** 2).mean(0) / (count * temperatures**2)
    root = np.sqrt(energies.shape[1])
    times = [autocorrelation_time(energies[:, :, k].T) for k in range(energies.shape[2])]
    shared = name == "tempering"
    return {
        "energy": per_chain.mean(0),
        "energy_error": per_chain.std(0, ddof=1) / root,
        "capacity": squares.mean(0),
        "capacity_error": squares.std(0, ddof=1) / root,
        "per_unit": per_chain.T,
        "units": energies.shape[1],
        "autocorrelation_sweeps": [time * prepared.config.chains.sweeps for time in times],
        "evaluations": diagnostics["evaluations"],
        # What one unit (chain or ladder) costs to know one temperature: a ladder needs all of its rungs.
        "per_unit_evaluations": diagnostics["evaluations"] / energies.shape[1] / (1 if shared else energies.shape[2]),
        "per_unit_seconds": wall / energies.shape[1] / (1 if shared else energies.shape[2]),
        "training_evaluations": 0.0,
        "training_seconds": 0.0,
        "seconds": wall,
        "swap_acceptance": diagnostics["swap_acceptance"] if shared else None,
    }


def of_populations(prepared: Any, stage: Any, flows: Any) -> dict[str, Any]:
    """The same from independent populations; ``flows`` is the stage that made their maps."""
    config = prepared.config
    table = np.asarray(stage.carry.found)
    ratio = config.population.ratio if flows is None else config.flow.ratio
    levels = liquid_stages.level_of(config, ratio)  # coldest first, as elsewhere
    every = {name: table[:, :, index] for index, name in enumerate(Level._fields)}
    column = {name: values[:, levels] for name, values in every.items()}
    count, temperatures = prepared.target.particles, np.asarray(config.temperatures)
    means = column["mean_energy"] / count
    spread = (column["mean_energy"] - column["mean_energy"].mean(0)) ** 2
    capacities = (column["variance"] + spread) / (count * temperatures**2)
    root, at = np.sqrt(len(table)), levels[config.temperatures.index(config.compared)]
    # To reach a temperature, a population pays for all that are hotter.
    paid = every["evaluations"][:, : at + 1].sum(1).mean()
    training = 0.0 if flows is None else float(flows.carry.evaluations)
    wall = seconds(stage)
    return {
        "energy": means.mean(0),
        "energy_error": means.std(0, ddof=1) / root,
        "capacity": capacities.mean(0),
        "capacity_error": capacities.std(0, ddof=1) / root,
        "per_unit": means.T,
        "units": len(table),
        # Of every level, from the second on: the temperature reached and the weights on the way.
        "levels": 1 / every["beta"][0, 1:],
        "ess": every["ess"][:, 1:].mean(0),
        "ess_error": every["ess"][:, 1:].std(0, ddof=1) / root,
        "rho": every["rho"][:, 1:].mean(0),
        "family_entropy": every["family_entropy"][:, 1:].mean(0),
        # Of every population: ln Z(coldest) / Z(hottest of the table).
        "log_ratios": every["log_ratio"][:, levels[-1] + 1 :].sum(1),
        "evaluations": float(every["evaluations"].sum()) + training,
        "per_unit_evaluations": paid,
        "per_unit_seconds": wall / len(table) * paid / every["evaluations"].sum(1).mean(),
        "training_evaluations": training,
        "training_seconds": 0.0 if flows is None else seconds(flows),
        "seconds": wall + (0.0 if flows is None else seconds(flows)),
    }


def deviations(found: Mapping[str, Any], reference: Mapping[str, Any]) -> np.ndarray:
    """U/N minus the reference as normal deviates of the same probability as Welch's t, since units are few."""
    pairs = [(found["energy_error"], found["units"]), (reference["energy_error"], reference["units"])]
    variances = [np.asarray(error) ** 2 for error, _ in pairs]
    total = variances[0] + variances[1]
    freedom = total**2 / sum(v**2 / (units - 1) for v, (_, units) in zip(variances, pairs, strict=True))
    t = (np.asarray(found["energy"]) - np.asarray(reference["energy"])) / np.sqrt(total)
    return np.sign(t) * -ndtri(np.clip(stdtr(freedom, -np.abs(t)), 1e-300, 1))


def cost_of(config: Any, found: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """Energies and seconds for the error ``goal`` in U/N at ``compared``, by independent units like those that ran.

    The variance between units says how many are needed. A method whose units share a bias cannot reach the goal by more of
    them, and is marked.
    """
    at = config.temperatures.index(config.compared)
    own = np.asarray(found["per_unit"])[at]
    variance, units = float(own.var(ddof=1)), len(own)
    bias = float(own.mean() - reference["energy"][at])
    sigmas = 0.0 if found is reference else float(deviations(found, reference)[at])
    needed = variance / config.goal**2
    return {
        "evaluations": needed * found["per_unit_evaluations"] + found["training_evaluations"],
        "seconds": needed * found["per_unit_seconds"] + found["training_seconds"],
        "relative_error": float(np.sqrt(2 / (units - 1))),
        "bias": bias,
        "sigmas": sigmas,
        # A deviation within the goal does no harm; a larger one must not be significant at all.
        "unbiased": bool(abs(bias) < config.goal or abs(sigmas) < SIGNIFICANT),
    }


# Parts ----------------------------------------------------------------------------------------------------------------
def structure(prepared: Any, ensemble: Any) -> dict[str, Any]:
    """g(r) at the lowest temperature, from at most 400 configurations of the reference, for all pairs and two kinds."""
    samples = np.asarray(ensemble.samples)
    flat = samples.reshape(-1, *samples.shape[2:])
    flat = flat[:: max(1, len(flat) // 400)]
    lengths = np.asarray(prepared.target.space.lengths)
    edges = np.linspace(0.5, 0.4999 * lengths.min(), 76)
    made = {"r": 0.5 * (edges[1:] + edges[:-1]), "all": radial_distribution(flat, lengths, edges).mean(0)}
    for name, pair in (("11", (0, 0)), ("12", (0, 1))):
        found = radial_distribution(flat, lengths, edges, kinds=prepared.target.species, pair=pair)
        made[name] = found.mean(0)
    return made


def log_z(
    prepared: Any, methods: Mapping[str, Any], finished: Mapping[str, Any], energies: Mapping[str, Any]
) -> list[dict]:
    """ln Z(coldest) / Z(hottest) by every way that there is: integration of U, MBAR over the ladder, weights."""
    betas = 1 / np.asarray(prepared.config.temperatures)
    rows = []
    reference, count = methods["swap"], prepared.target.particles
    order = np.argsort(betas)
    integral = thermodynamic_integration(
        betas[order],
        count * np.asarray(reference["energy"])[order],
        count * np.asarray(reference["energy_error"])[order],
    )
    rows.append({"way": "integral of U (swap)", "value": -integral.value, "error": integral.standard_error})
    if "tempering" in energies:
        found = finished["tempering"].process.log_z(energies["tempering"])
        rows.append({"way": "MBAR (tempering)", "value": found.value[0], "error": found.standard_error[0]})
    for name in POPULATION_METHODS:
        if name in methods:
            totals = np.asarray(methods[name]["log_ratios"])
            error = totals.std(ddof=1) / np.sqrt(len(totals))
            rows.append({"way": f"weights ({LABELS[name]})", "value": totals.mean(), "error": error})
    return rows


def confident(prepared: Any, energies: np.ndarray, reference: Mapping[str, Any]) -> dict[str, Any]:
    """Every local chain by itself: its mean, the error bar it would claim from blocks, and how far it is from the reference."""
    count = prepared.target.particles
    draws = energies.shape[0] // BLOCKS * BLOCKS
    blocks = energies[:draws].reshape(BLOCKS, -1, *energies.shape[1:]).mean(1) / count
    means, errors = blocks.mean(0), blocks.std(0, ddof=1) / np.sqrt(BLOCKS)
    combined = np.hypot(errors, np.asarray(reference["energy_error"]))
    sigmas = (means - np.asarray(reference["energy"])) / combined
    spread = means.std(0, ddof=1) / np.sqrt((errors**2).mean(0))
    return {
        "means": means.T,
        "errors": errors.T,
        "sigmas": sigmas.T,
        "wrong": (np.abs(sigmas) > WRONG).mean(0),
        # 1 when chains differ as much as their own error bars say.
        "disagreement": spread,
    }


def flows(carry: Any, prepared: Any) -> dict[str, Any]:
    """How much of the fluctuation of work is left at every temperature, on held-out configurations; hottest first."""
    config = prepared.config
    levels = liquid_stages.level_of(config, config.flow.ratio)[::-1]
    variances = np.asarray(carry.variances)[levels]
    return {"temperatures": list(reversed(config.temperatures)), "remaining": variances[:, 0] / variances[:, 1]}


def verdicts(config: Any, methods: Mapping[str, Any]) -> list[Check]:
    """Trusted methods agree with the reference at every temperature."""
    checks = []
    for name in TRUSTED:
        if name not in methods:
            continue
        z = np.abs(methods[name]["deviations"])
        worst = int(np.argmax(z))
        sentence = (
            f"{LABELS[name].capitalize()} is at most {z[worst]:.1f} σ from swap Monte Carlo "
            f"(at T = {config.temperatures[worst]:g})."
        )
        checks.append(Check(f"{LABELS[name]} agrees", bool(np.all(z < AGREES)), sentence, float(z[worst]), AGREES))
    return checks
