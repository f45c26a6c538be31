"""What the experiment generalized-ensemble found: couplings, certificates of kernels, what drives, and exact identities."""

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.special import stdtrit

from heatbath.estimators.exponential_families import (
    GeneralizedEnsemble,
    Hadamard,
    MasterEquation,
    Vandermonde,
    cycle_test,
    infer,
    pair_symmetry_test,
    pooled_affinities,
    pseudo_likelihood,
    select,
    squares,
    stationarity_test,
)
from heatbath.experiments.convergence import Check
from heatbath.experiments.generalized_ensemble import KERNELS
from heatbath.experiments.matrix_stages import driven_parameters
from heatbath.io.run_directory import json_ready

#: A test is failed when the odds of its outcome are below this.
ODDS = 1e-3


def results(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Sections ``exact``, ``inference``, ``kernels``, ``driven`` of what is there, and a verdict; None before the first draws."""
    found: dict[str, Any] = {}
    sampled = done["spins"].sampled() if "spins" in done else None
    if sampled is not None:
        found["inference"] = inference(prepared, sampled.ensemble)
    rows = [kernel_row(name, np.asarray(done[name].carry.counts)) for name in KERNELS if name in done]
    if any(row["pairs"] for row in rows):
        found["kernels"] = [row for row in rows if row["pairs"]]
    if "driven" in done and np.asarray(done["driven"].carry.counts).any():
        found["driven"] = driven(prepared, done["driven"].carry)
    if not found:
        return None
    found["exact"] = exact()
    found["ring"] = ring_curve()
    found = json_ready(found)
    checks = [check for make in _CHECKS for check in make(found)]
    failed = [check for check in checks if not check.passed]
    made = {
        "target": {"name": "generalized ensemble", "unit": "1", "dimension": prepared.target.spins},
        "temperature": {"value": 1.0, "unit": "1", "beta": 1.0},
        "method": "observation matrices",
        "estimates": {},
        "generalized_ensemble": found,
        "verdict": {
            "converged": not failed,
            "reasons": [check.sentence for check in failed or checks],
            "checks": [dataclasses.asdict(check) for check in checks],
            "cautions": [],
        },
    }
    return json_ready(made)


# Couplings from samples -----------------------------------------------------------------------------------------------
def inference(prepared: Any, ensemble: Any) -> dict[str, Any]:
    """Fields and couplings by maximum likelihood (errors from the spread over chains) and by pseudo-likelihood, with the "
    "truth.
    """
    matrix = Hadamard(prepared.target.spins)
    numbers = matrix.up_to(2)
    states = matrix.state(2 * np.asarray(ensemble.samples) - 1)
    columns = matrix.columns(numbers)
    fit = infer(columns, states)
    kept = select(fit, prepared.config.inference.level)
    couplings, fields = np.asarray(prepared.target.couplings), np.asarray(prepared.target.fields)
    other = pseudo_likelihood(matrix.configurations[states.reshape(-1)])
    rows = []
    for index, number in enumerate(numbers):
        sites = matrix.sites(number)
        truth = fields[sites[0]] if len(sites) == 1 else couplings[sites]
        pl = (
            (other.fields[sites[0]], other.field_errors[sites[0]])
            if len(sites) == 1
            else (other.couplings[sites], other.coupling_errors[sites])
        )
        rows.append(
            {
                "sites": list(sites),
                "truth": truth,
                "value": -fit.coordinates[index],
                "standard_error": fit.standard_errors[index],
                "kept": kept[index],
                "pseudo_likelihood": pl[0],
                "pseudo_likelihood_error": pl[1],
            }
        )
    z = np.array([(row["value"] - row["truth"]) / row["standard_error"] for row in rows])
    zero = np.array([row["truth"] == 0 for row in rows])
    return {
        "parameters": rows,
        "draws": fit.draws,
        "chains": fit.chains,
        "within_three_errors": np.mean(np.abs(z) < 3),
        "largest_z": np.abs(z).max(),
        "mean_square_z": np.mean(z**2),
        "true_zeros": int(zero.sum()),
        "false_positives": int((kept & zero).sum()),
        "missed": int((~kept & ~zero).sum()),
        "zeros_rejected_at_five_percent": np.mean(fit.p_values[zero] < 0.05) if zero.any() else None,
        "divergence": fit.model.divergence,
    }


# Kernels --------------------------------------------------------------------------------------------------------------
def kernel_row(name: str, counts: np.ndarray) -> dict[str, Any]:
    """Both tests of one kernel, and whether they bear out what it claims."""
    row: dict[str, Any] = {"name": name, "claim": KERNELS[name], "pairs": int(counts.sum())}
    if not row["pairs"]:
        return row
    balance, stationary = pair_symmetry_test(counts), stationarity_test(counts)
    row |= {
        "balance_p_value": balance.p_value,
        "balance_z": balance.largest_z,
        "stationary_p_value": stationary.p_value,
    }
    holds = balance.p_value > ODDS, stationary.p_value > ODDS
    row["found"] = "balance" if all(holds) else "stationary" if holds[1] else "biased"
    return row


# Driven spins ---------------------------------------------------------------------------------------------------------
def driven(prepared: Any, carry: Any) -> dict[str, Any]:
    """Is it driven, by which pair, how hard; and the entropy production that this costs."""
    counts, times = np.asarray(carry.counts), np.asarray(carry.times)
    couplings, _ = driven_parameters(prepared.config)
    pairs = squares(prepared.config.driven.spins)
    total = counts.sum(axis=0)
    overall = cycle_test(total)
    pooled = pooled_affinities(total, {f"{i} {j}": cycles for (i, j), cycles in pairs.items()})
    rows = []
    for i, j in pairs:
        name = f"{i} {j}"
        if name in pooled:
            rows.append({"pair": [i, j], "truth": 4 * (couplings[j, i] - couplings[i, j]), **pooled[name]})
    # forces from all trajectories, fluxes from each: their spread gives the error
    equation: MasterEquation = prepared.driven
    edges = equation.edges
    forward, backward = total[edges[:, 0], edges[:, 1]] + 0.5, total[edges[:, 1], edges[:, 0]] + 0.5
    net = (counts[:, edges[:, 0], edges[:, 1]] - counts[:, edges[:, 1], edges[:, 0]]) / times[:, None]
    # noise of force and flux is one and the same: on average it adds 2 kB per independent cycle to the whole (our derivation)
    excess = 2.0 * overall.degrees / times.sum()
    production = net @ np.log(forward / backward) - excess
    return {
        "spins": prepared.config.driven.spins,
        "jumps": int(total.sum()),
        "balance_p_value": overall.p_value,
        "cycles": overall.degrees,
        "left_out": overall.left_out,
        "pairs": rows,
        "entropy_production": {
            "value": production.mean(),
            "standard_error": production.std(ddof=1) / math.sqrt(len(production)),
            "exact": equation.entropy_production(),
        },
    }


# Exact identities -----------------------------------------------------------------------------------------------------
def exact() -> list[dict[str, Any]]:
    """Rows ``{"name", "value", "reference", "tolerance"}`` of identities that hold to rounding."""
    spins = Hadamard(10)
    s = spins.configurations.astype(np.float64)
    bonds = np.sum(s * np.roll(s, -1, axis=1), axis=1)
    ring = _ensemble(spins, 0.37 * bonds + 0.21 * s.sum(axis=1))
    transfer = np.exp([[0.37 + 0.21, -0.37], [-0.37, 0.37 - 0.21]])
    half = Hadamard(5)
    decimated = GeneralizedEnsemble.from_probabilities(
        half, np.bincount(half.state(s[:, ::2]), weights=_ensemble(spins, 0.37 * bonds).probabilities, minlength=32)
    )
    walk = Vandermonde(tuple(range(-20, 21, 2)))
    powers = walk.coordinates_of_probabilities([Fraction(math.comb(20, k), 2**20) for k in range(21)])
    driven_ring = three_states(1.0)
    transfer_log_z = math.log(np.trace(np.linalg.matrix_power(transfer, 10)))
    of_cycles = driven_ring.entropy_production_of_cycles()
    decimated_coupling = -decimated.coordinates[half.number(0, 1)]
    rows = [
        ("ln Z of an Ising ring of 10, beside its transfer matrix", ring.log_z, transfer_log_z, 1e-12),
        ("its coupling", -ring.coordinates[spins.number(0, 1)], 0.37, 1e-13),
        ("coefficients that are not zero", len(ring.sufficient_statistics(1e-12)), 20, 0.0),
        ("entropy beside lambda . <a>", ring.coordinates @ ring.means, ring.entropy, 1e-12),
        ("coupling after decimation, beside ln cosh(2J) / 2", decimated_coupling, 0.5 * math.log(math.cosh(0.74)), 1e-13),
        ("walk of 20 steps, 2 n lambda_2", 40 * powers[2], 0.95166, 5e-6),
        ("walk of 20 steps, 12 n^3 lambda_4", 12 * 20**3 * powers[4], 0.85996, 5e-6),
        ("entropy production of a driven ring, edges beside cycles", driven_ring.entropy_production(), of_cycles, 1e-12),
    ]  # fmt: skip
    return [{"name": n, "value": v, "reference": r, "tolerance": t} for n, v, r, t in rows]


def _ensemble(spins: Hadamard, exponents: np.ndarray) -> GeneralizedEnsemble:
    weights = np.exp(exponents)
    return GeneralizedEnsemble.from_probabilities(spins, weights / weights.sum())


def three_states(force: float) -> MasterEquation:
    """Three states in a ring with energies (0, 1/2, 1) and rates exp(-+ dE/2 +- force/6)."""
    energies, rates = np.array([0.0, 0.5, 1.0]), np.zeros((3, 3))
    for k in range(3):
        to = (k + 1) % 3
        change = energies[to] - energies[k]
        rates[to, k], rates[k, to] = math.exp(-change / 2 + force / 6), math.exp(change / 2 - force / 6)
    return MasterEquation(rates)


def ring_curve() -> dict[str, list[float]]:
    """Flux and entropy production of the three-state ring by force."""
    forces = np.linspace(0.0, 6.0, 25)
    rings = [three_states(force) for force in forces]
    flux = [float(np.abs(ring.fluxes()).max()) for ring in rings]
    return {"force": forces.tolist(), "flux": flux, "entropy_production": [r.entropy_production() for r in rings]}


# The verdict ----------------------------------------------------------------------------------------------------------
def _inference_checks(found: Mapping[str, Any]) -> list[Check]:
    part = found.get("inference")
    if part is None:
        return []
    count = len(part["parameters"])
    limit = float(stdtrit(part["chains"] - 1, 1 - ODDS / (2 * count)))  # of the largest of them
    far = f"{part['largest_z']:.1f} standard errors"
    sentence = f"The worst of {count} inferred parameters is {far} from the truth (limit {limit:.1f})."
    checks = [Check("couplings", part["largest_z"] < limit, sentence, part["largest_z"], limit)]
    wrong = part["false_positives"]
    text = f"The selection keeps {wrong} of {part['true_zeros']} parameters that are zero."
    checks.append(Check("selection", wrong <= 1, text, wrong, 1))
    return checks


def _kernel_checks(found: Mapping[str, Any]) -> list[Check]:
    words = {"balance": "in detailed balance", "stationary": "stationary, not in balance", "biased": "biased"}
    return [
        Check(
            f"kernel {row['name']}",
            row["found"] == row["claim"],
            f"The kernel {row['name']} claims to be {words[row['claim']]} and is found {words[row['found']]}.",
        )
        for row in found.get("kernels") or ()
    ]


def _driven_checks(found: Mapping[str, Any]) -> list[Check]:
    part = found.get("driven")
    if part is None:
        return []
    limit = 4.0
    named = [row["pair"] for row in part["pairs"] if abs(row["z"]) > limit]
    true = [row["pair"] for row in part["pairs"] if row["truth"] != 0 and abs(row["truth"]) > 1e-12]
    text = f"Pairs found to break detailed balance: {_pairs(named)}; true: {_pairs(true)}."
    return [Check("driving", named == true, text, len(named), len(true))]


def _pairs(pairs: list[list[int]]) -> str:
    return ", ".join(f"({i}, {j})" for i, j in pairs) or "none"


def _exact_checks(found: Mapping[str, Any]) -> list[Check]:
    wrong = [row["name"] for row in found["exact"] if not abs(row["value"] - row["reference"]) <= row["tolerance"]]
    text = f"{len(found['exact']) - len(wrong)} of {len(found['exact'])} exact identities hold" + (
        f"; not: {', '.join(wrong)}." if wrong else "."
    )
    return [Check("identities", not wrong, text, len(wrong), 0)]


_CHECKS = (_inference_checks, _kernel_checks, _driven_checks, _exact_checks)
