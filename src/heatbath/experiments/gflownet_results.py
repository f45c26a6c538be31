"""What the experiment energy-decomposition-gflownet found: histories of all trainings by energy calls, and honest weights."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.experiments.convergence import Check
from heatbath.experiments.energy_decomposition_gflownet import METHODS
from heatbath.experiments.gflownet_problems import Problem, is_listed
from heatbath.experiments.gflownet_stages import problem, training_names
from heatbath.io.run_directory import json_ready

#: Standard errors beyond which log Z by weights contradicts the exact one.
FAR = 4.5
#: Largest error of log Z that a network's own flow may have when its law is said to be learned.
LOG_Z_ERROR = 0.1
#: Share of the modes that counts as having found them.
MOST_MODES = 0.9


def results(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Section ``gflownets`` and a verdict; None before the first chunk of a training."""
    histories = _histories(prepared, done)
    if not histories:
        return None
    config, found = prepared.config, problem(prepared, done)
    part = {
        "problem": facts(prepared, found),
        "goal": config.goal,
        "methods": [
            method_row(name, runs, config.goal) for name in config.training.methods if (runs := histories.get(name))
        ],
        "weights": weights(done, found),
    }
    part = json_ready(part)
    checks = [check for make in _CHECKS for check in make(part)]
    failed = [check for check in checks if not check.passed]
    return json_ready(
        {
            "target": {"name": part["problem"]["words"], "unit": "1", "dimension": part["problem"]["steps"]},
            "temperature": {"value": 1 / float(prepared.state.beta), "unit": "1", "beta": float(prepared.state.beta)},
            "method": "generative flow networks",
            "estimates": {},
            "gflownets": part,
            "verdict": {
                "converged": bool(checks) and not failed,
                "reasons": [check.sentence for check in failed or checks],
                "checks": [dataclasses.asdict(check) for check in checks],
                "cautions": [],
            },
        }
    )


def _histories(prepared: Any, done: Mapping[str, Any]) -> dict[str, list[dict[str, np.ndarray]]]:
    """By method, for every seed the columns of its history."""
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for method, _, stage in training_names(prepared.config):
        if stage not in done:
            continue
        rows = np.asarray(done[stage].carry.history, dtype=np.float64)
        rows = rows[np.isfinite(rows[:, 0])]
        if len(rows):
            columns = dict(zip(done[stage].process.columns, rows.T, strict=True))
            found.setdefault(method, []).append(columns)
    return found


def facts(prepared: Any, found: Problem) -> dict[str, Any]:
    """What is built, how many objects and states there are, and log Z."""
    config = prepared.config
    words = {
        "bag": f"bags of {config.bag.size} items of {config.bag.letters} kinds",
        "hypergrid": f"grid of {config.grid.side}^{config.grid.dimension} points",
        "rna": f"RNA words of {config.rna.length} letters",
        "independent-set": f"maximal independent sets of a graph of {config.graph.vertices} vertices",
        "molecules": f"molecules of up to {config.molecules.blocks} fragments",
    }[config.problem]
    made = {"name": config.problem, "words": words, "steps": found.environment.longest, "listed": is_listed(config)}
    if found.listed is not None:
        enumeration, log_rewards = found.listed
        made |= {
            "states": len(enumeration.states),
            "objects": len(log_rewards),
            "log_z": float(np.logaddexp.reduce(log_rewards)),
            "modes": int(found.watch("db").modes.sum()),  # pyright: ignore[reportAttributeAccessIssue]
        }
    return made


def method_row(name: str, runs: list[dict[str, np.ndarray]], goal: float) -> dict[str, Any]:
    """One method: its histories, where it ended, and what it paid for the goal."""
    made: dict[str, Any] = {
        "name": name,
        "balance": METHODS[name][0],
        "decomposition": METHODS[name][1],
        "histories": runs,
    }
    last = {column: np.array([run[column][-1] for run in runs]) for column in runs[0]}
    made["final"] = {
        column: {"value": values.mean(), "standard_error": _error(values)} for column, values in last.items()
    }
    made["per_trajectory"] = float((last["calls"] / last["trajectories"]).mean())
    if "total_variation" in runs[0]:
        made["calls_to_goal"] = [first_below(run["calls"], run["total_variation"], goal) for run in runs]
        made["calls_to_modes"] = [first_below(run["calls"], -run["modes"], -MOST_MODES) for run in runs]
    return made


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else float("nan")


def first_below(calls: np.ndarray, values: np.ndarray, limit: float) -> float:
    """The calls at the first row from which ``values`` are at most ``limit``, between rows by a straight line; NaN if none."""
    under = np.flatnonzero(values <= limit)
    if not len(under):
        return float("nan")
    row = int(under[0])
    if row == 0:
        return float(calls[0])
    share = (values[row - 1] - limit) / (values[row - 1] - values[row])
    return float(calls[row - 1] + share * (calls[row] - calls[row - 1]))


def weights(done: Mapping[str, Any], found: Problem) -> dict[str, Any] | None:
    """log Z and the effective share of the weighted draws; None before the first."""
    sampled = done["draws"].sampled() if "draws" in done else None
    if sampled is None:
        return None
    ensemble = sampled.ensemble
    log_z = ensemble.log_z
    exact = None if found.listed is None else float(np.logaddexp.reduce(found.listed[1]))
    return {
        "draws": ensemble.size,
        "log_z": float(log_z.value),
        "log_z_error": float(log_z.standard_error),
        "exact": exact,
        "ess": ensemble.ess() / ensemble.size,
    }


# The verdict ----------------------------------------------------------------------------------------------------------
def _law_checks(part: Mapping[str, Any]) -> list[Check]:
    first = part["methods"][0]
    if "total_variation" not in first["final"]:
        return []
    value = first["final"]["total_variation"]["value"]
    text = f"The law of {first['name']} ends at a total variation of {value:.3f} from the exact one (goal {part['goal']:g})."
    error = abs(first["final"]["log_z_error"]["value"])
    of_flow = f"Its flow out of the start has an error of {error:.3f} in log Z (limit {LOG_Z_ERROR:g})."
    return [
        Check("total variation", value <= part["goal"], text, value, part["goal"]),
        Check("log Z of the flow", error <= LOG_Z_ERROR, of_flow, error, LOG_Z_ERROR),
    ]


def _call_checks(part: Mapping[str, Any]) -> list[Check]:
    made = []
    for row in part["methods"]:
        ahead = row["decomposition"] == "forward-looking"
        right = row["per_trajectory"] > 1 or part["problem"]["steps"] == 1 if ahead else row["per_trajectory"] == 1
        text = f"{row['name']} asked for {row['per_trajectory']:.4g} energies per trajectory."
        made.append(Check(f"energies of {row['name']}", bool(right), text, row["per_trajectory"]))
    return made


def _weight_checks(part: Mapping[str, Any]) -> list[Check]:
    found = part.get("weights")
    if not found or found["exact"] is None:
        return []
    far = abs(found["log_z"] - found["exact"]) / max(found["log_z_error"], 1e-12)
    text = (
        f"log Z by the weights of {found['draws']} draws is {far:.1f} standard errors from the exact one (limit {FAR})."
    )
    return [Check("log Z of the weights", far <= FAR, text, far, FAR)]


def _found_checks(part: Mapping[str, Any]) -> list[Check]:
    """Where objects cannot be listed: better ones must have been found than at the beginning."""
    made = []
    for row in part["methods"]:
        if "top_mean" in row["final"]:
            rises = [run["top_mean"][-1] > run["top_mean"][0] for run in row["histories"]]
            text = (
                f"{row['name']} ends with a mean of {row['final']['top_mean']['value']:.3f} over its best 100 objects."
            )
            made.append(Check(f"best of {row['name']}", all(rises), text, row["final"]["top_mean"]["value"]))
    return made


_CHECKS = (_law_checks, _weight_checks, _call_checks, _found_checks)
