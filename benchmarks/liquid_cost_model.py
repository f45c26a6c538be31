"""From independent units of a method (chains, ladders, populations) to the cost of a given root mean square error.

n units of length t have the error sqrt(B(t)^2 + V(t) / n): V is the variance between units, B what they share. Their cost is
n c(t). B is measured against a reference; its square is taken less the variance of its own estimate. n is not rounded, since the
units of one seed stand for those of another length; but at least one unit is paid.

Populations are combined with weights proportional to their estimates of Z, which makes several as good as one large one. What a
combination of k of them has left of V and B is measured on the combinations of single seeds.
"""

from typing import Any

import numpy as np

from heatbath.experiments import liquid_results

TEMPERATURE, GOAL, SEEDS, CHAINS = 0.4, 0.005, range(5), 4
LABELS = liquid_results.LABELS | {"flow": liquid_results.LABELS["flow-annealing"]}
LABELS |= {f"{name}-dynamics": f"{LABELS[name]} moved by dynamics" for name in ("annealing", "flow")}


def compare(data: dict[str, list[dict]]) -> dict[str, Any]:
    """Costs of every method in ``data`` (pieces by seed), and what the flow saves, with errors by leaving out seeds."""
    truth = data["reference"][0][f"{TEMPERATURE:g}"]["energy"]
    methods = {name: pieces for name, pieces in data.items() if name not in ("reference", "relaxation")}
    found = {}
    for name, pieces in methods.items():
        law = _populations if "log_z" in pieces[0] else _chains
        whole = law(pieces, truth)
        without = [law(pieces[:k] + pieces[k + 1 :], truth) for k in range(len(pieces))]
        logs = {what: np.array([np.log(one[what]) for one in without]) for what in ("evaluations", "seconds")}
        found[name] = whole | {
            "log_error": {what: _jackknife(values) for what, values in logs.items()},
            "log_without": {what: values.tolist() for what, values in logs.items()},
        }
    factors, flows = {}, [found[name] for name in ("flow-dynamics", "flow") if name in found]
    for name in found if flows else ():
        factors[name] = {}
        for what in ("evaluations", "seconds"):
            differences = np.array(found[name]["log_without"][what]) - np.array(flows[0]["log_without"][what])
            factors[name][what] = [float(found[name][what] / flows[0][what]), _jackknife(differences)]
    agreement = {
        name: _agreement(pieces, data["reference"][0]) for name, pieces in methods.items() if "log_z" in pieces[0]
    }
    once = {name: data[name][0] for name in ("reference", "relaxation") if name in data}
    return once | {"methods": found, "factors": factors, "agreement": agreement}


def _jackknife(values: np.ndarray) -> float:
    """Standard error from values that each leave out one seed."""
    return float(np.sqrt((len(values) - 1) * values.var()))


def _chains(pieces: list[dict], truth: list[float]) -> dict[str, Any]:
    """The cheapest length of a chain or ladder: the later half of it is averaged, cooling and the first half thrown away."""
    blocks = np.concatenate([piece["blocks"] for piece in pieces])
    start, per_block = (float(np.mean([piece[key] for piece in pieces])) for key in ("start", "per_block"))
    total = len(blocks) * (start + per_block * blocks.shape[1])
    rate = sum(piece["seconds"] for piece in pieces) / total
    curve = []
    for length in np.unique(np.geomspace(2, blocks.shape[1], 24).astype(int)):
        means = blocks[:, length // 2 : length].mean(1)
        variance, bias = means.var(ddof=1), means.mean() - truth[0]
        square = max(0.0, bias**2 - variance / len(means) - truth[1] ** 2)
        cost = start + per_block * length
        feasible = square < GOAL**2
        units = max(1.0, variance / (GOAL**2 - square)) if feasible else max(1.0, variance / GOAL**2)
        curve.append((feasible, units * cost, cost, bias, np.sqrt(variance / len(means)), units, np.sqrt(variance)))
    usable = [row for row in curve if row[0]]
    best = min(usable, key=lambda row: row[1]) if usable else curve[-1]
    return {
        "evaluations": float(best[1]),
        "seconds": float(best[1] * rate),
        "at_least": not usable,
        "unit": float(best[2]),
        "units": float(best[5]),
        "spread": float(best[6]),
        "bias": [float(best[3]), float(np.hypot(best[4], truth[1]))],
        "curve": [[float(value) for value in row] for row in curve],
    }


def _populations(pieces: list[dict], truth: list[float]) -> dict[str, Any]:
    """As many populations of a seed together as one solution; the pilot is paid once per solution."""
    key = f"{TEMPERATURE:g}"
    combined = np.array([combine(piece["energy"][key], piece["log_z"][key]) for piece in pieces])
    every = np.concatenate([piece["energy"][key] for piece in pieces])
    weights = np.concatenate([piece["log_z"][key] for piece in pieces])
    together = combine(every, weights)
    members = len(pieces[0]["energy"][key])
    # The variance of one combination, from leaving out single populations of all of them.
    left = np.array([combine(np.delete(every, k), np.delete(weights, k)) for k in range(len(every))])
    variance = _jackknife(left) ** 2 * len(pieces)
    bias = combined.mean() - truth[0]
    square = max(0.0, bias**2 - variance / len(pieces) - truth[1] ** 2)
    pilot, own = (float(np.mean([piece[name] for piece in pieces])) for name in ("pilot", "evaluations"))
    pilot_seconds = float(np.mean([piece.get("pilot_seconds", 0.0) for piece in pieces]))
    own_seconds = float(
        np.mean([(piece["seconds"] - piece.get("pilot_seconds", 0.0)) * piece["share_charged"] for piece in pieces])
    )
    # Bias and variance of a combination both fall as one over its size.
    size = _size(square, variance)
    return {
        "evaluations": pilot + size * members * own,
        "seconds": pilot_seconds + size * own_seconds,
        "at_least": False,
        "unit": members * own + pilot,
        "units": size,
        "spread": float(np.sqrt(variance)),
        "bias": [float(bias), float(np.sqrt(variance / len(pieces) + truth[1] ** 2))],
        "mean": [float(together), float(np.sqrt(variance / len(pieces)))],
        "pilot": pilot,
        "rho": float(np.mean([piece["rho"] for piece in pieces])),
    }


def _size(square: float, variance: float) -> float:
    """k with square / k^2 + variance / k = GOAL^2: how many solutions of the measured size make one of the wanted error."""
    return float((variance + np.sqrt(variance**2 + 4 * square * GOAL**2)) / (2 * GOAL**2))


def combine(values: Any, log_z: Any) -> float:
    """Mean of populations weighted by their estimates of Z."""
    log_z = np.asarray(log_z)
    weights = np.exp(log_z - log_z.max())
    return float(np.sum(weights * np.asarray(values)) / weights.sum())


def _agreement(pieces: list[dict], reference: dict) -> dict[str, list[float]]:
    """Temperature: U/N of all populations together, its error over seeds, and the distance from the reference in errors."""
    made = {}
    for t, found in reference.items():
        values = np.array([combine(piece["energy"][t], piece["log_z"][t]) for piece in pieces])
        error = values.std(ddof=1) / np.sqrt(len(values))
        distance = (values.mean() - found["energy"][0]) / np.hypot(error, found["energy"][1])
        made[t] = [float(values.mean()), float(error), float(distance)]
    return made


def tables(found: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """Rows by cost, and notes."""
    rows = []
    for name, method in sorted(found["methods"].items(), key=lambda item: item[1]["evaluations"]):
        mark = "more than " if method["at_least"] else ""
        share = method["log_error"]["evaluations"]
        factor = found["factors"].get(name)
        rows.append(
            [
                LABELS[name],
                f"{mark}{method['evaluations']:.2g} (± {share:.0%})",
                f"{mark}{method['seconds']:.2g}",
                f"{method['unit']:.2g}",
                "{:+.4f} ± {:.4f}".format(*method["bias"]),
                ""
                if factor is None or name == "flow-dynamics"
                else f"{mark}{factor['evaluations'][0]:.2g} (± {factor['evaluations'][1]:.0%})",
            ]
        )
    value, error = found["reference"][f"{TEMPERATURE:g}"]["energy"]
    notes = [
        f"Reference: swap Monte Carlo, U/N = {value:.4f} ± {error:.4f}. One energy is one sum over all pairs; seconds are of processor time.",
        "Errors of costs and factors are those of their logarithms, by leaving out one of 5 seeds.",
        "Chains and ladders: 4 per seed, cooled from T = 5, the later half averaged, at their cheapest length; 'more than': the mean "
        "of the longest still differs by more than the goal. Populations: 4 of 60 members per seed, weighted by their estimates of Z.",
        "Tuned beforehand: members against sweeps of the populations at equal cost (50 to 400 members, 1500 to 6000 sweeps per factor "
        "of e), where they begin (T = 2 or 5), the time step (0.01). A first choice for the chain of flows (125 members, 3000 sweeps at "
        "every temperature), run on these five seeds, was 0.012 per particle off and given up for more sweeps where it is cold. "
        "Of steps of dynamics for the members 1000 and 4000 were tried too, on two of the seeds.",
        "Flows cheaper by: the cost of a method over that of the chain of flows moved by dynamics.",
    ]
    for name, agreement in found["agreement"].items():
        parts = [
            f"T = {t}: {value:.4f} ± {error:.4f} ({z:+.1f} errors off)" for t, (value, error, z) in agreement.items()
        ]
        notes.append(f"{LABELS[name].capitalize()} at its temperatures: {'; '.join(parts)}.")
    for moves, by_temperature in found.get("relaxation", {}).items():
        unit = "steps" if moves == "dynamics" else "sweeps"
        for t, (lags, values, errors) in by_temperature.items():
            parts = [f"{v:.2f} ± {e:.2f} after {lag}" for lag, v, e in zip(lags, values, errors, strict=True)]
            notes.append(
                f"Autocorrelation of U under {LABELS[moves]} at T = {t}, from equilibrium: {', '.join(parts)} {unit}."
            )
    notes.append("A sweep of one-particle moves costs four energies, a step of the dynamics one.")
    return rows, notes
