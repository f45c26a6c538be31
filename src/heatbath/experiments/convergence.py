"""The verdict: may the numbers of this run be believed?

Every check looks at one way in which a simulation fools people, compares one number with one limit and says so in one
sentence. A run is converged when every check that applies has passed; checks whose data a method does not produce (no
ladder, no chains) are left out, and a run that cannot be checked at all is not converged. The limits are the constants below.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtr

#: Independent draws that all chains together must hold, per observable (Vehtari et al., Bayesian Analysis 16, 667 (2021)).
MINIMUM_CHAIN_ESS = 400.0
#: The same for the indicator of a basin, whose population then has an error of a tenth of its standard deviation.
MINIMUM_BASIN_ESS = 100.0
#: Kish's effective size of the weights: below it a handful of draws decides.
MINIMUM_WEIGHT_ESS = 100.0
#: Tail exponent of the weights above which averages converge too slowly to be useful (Vehtari et al., JMLR 25, 72 (2024)).
MAXIMUM_PARETO_K = 0.7
#: How many times more effective a model's own draws may look than draws of the reference; where modes are missing this is large.
MAXIMUM_COVERAGE_RATIO = 5.0
#: Smallest acceptance of swaps between neighbouring temperatures; below it the ladder falls into two.
MINIMUM_SWAP_ACCEPTANCE = 0.05
#: Round trips between the coldest and hottest rung, all walkers together: each brings an independent configuration down.
MINIMUM_ROUND_TRIPS = 20
#: Share of the chains that must have visited a basin for the spread over chains to be its error bar.
MINIMUM_VISITING_SHARE = 0.5
#: Share of flipped peptide bonds that is too small to matter even when few chains have crossed between cis and trans.
MAXIMUM_UNRESOLVED_SHARE = 1e-2
#: Largest believable standard error of a free-energy difference, in kT. Beyond it a jackknife of log ratios is not linear.
MAXIMUM_FREE_ENERGY_ERROR = 0.5
#: Fewest independent chains whose spread is an error bar.
MINIMUM_CHAINS = 4
#: Mean acceptance below which a kernel stands still.
MINIMUM_ACCEPTANCE = 0.1
#: Boltzmann's law is taken to be broken when the odds of so large a deviation of the energy statistics are below this and
#: the deviation is larger than ``MINIMUM_DEVIATION`` (a long run would notice the rounding of 32-bit energies).
BOLTZMANN_ODDS = 1e-3
MINIMUM_DEVIATION = 0.01
#: Share of energy evaluations that may be non-finite. Each is a rejected move and harms nothing; many mean too long steps.
MAXIMUM_NON_FINITE_SHARE = 1e-2


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison of a number with its limit; ``sentence`` is for a reader and contains the number."""

    name: str
    passed: bool
    sentence: str
    value: float | int | None = None
    limit: float | int | None = None


def rhat_limit(chains: int) -> float:
    """The split R-hat that ``chains`` chains show at equilibrium when together they hold ``MINIMUM_CHAIN_ESS`` draws.

    Each of the 2m half chains then is worth e = 400 / 2m independent draws, its mean scatters with variance s^2 / e, and R-hat =
    sqrt(1 + 1/e) if the draws are much correlated. Four chains give the customary 1.01; sixteen short ones 1.04, which the
    customary limit would refuse although nothing is wrong (the many-short-chains case of Margossian et al. 2024). Kept
    within [1.01, 1.1]. Our own derivation.
    """
    return min(max(math.sqrt(1.0 + 2.0 * chains / MINIMUM_CHAIN_ESS), 1.01), 1.1)


def judge(results: Mapping[str, Any], *, chains: int, visits: Mapping[str, int]) -> dict:
    """The ``verdict`` section from the other sections of results.json.

    ``chains`` is the number of independent chains (0 for exchangeable draws); ``visits`` counts, per basin, the chains that
    visited it. Returns ``{"converged", "reasons", "checks", "cautions"}``: the reasons are the sentences of the failed
    checks, or of all checks when none failed.
    """
    checks: list[Check] = []
    if chains:
        checks += _chain_checks(results.get("chains", {}), chains)
        checks += _visit_checks(visits, chains)
    checks += _weight_checks(results.get("weights", {}), chains)
    checks += _coverage_checks((results.get("generator") or {}).get("ess") or {})
    checks += _ladder_checks(results.get("ladder", {}))
    checks += _difference_checks(results.get("free_energy_differences", ()))
    checks += _structure_checks(results.get("stereochemistry", {}), chains)
    checks += _finite_checks(results, chains)
    failed = [check for check in checks if not check.passed]
    reasons = [check.sentence for check in failed or checks]
    if not checks:
        reasons = ["Nothing in this run allows a check of convergence."]
    return {
        "converged": bool(checks) and not failed,
        "reasons": reasons,
        "checks": [dataclasses.asdict(check) for check in checks],
        "cautions": _cautions(results),
    }


def _chain_checks(diagnostics: Mapping[str, Mapping[str, Any]], chains: int) -> list[Check]:
    checks = [
        Check(
            "independent chains",
            chains >= MINIMUM_CHAINS,
            f"{chains} independent chain{'s' if chains != 1 else ''} (at least {MINIMUM_CHAINS} are needed for an error bar).",
            chains,
            MINIMUM_CHAINS,
        )
    ]
    limit = rhat_limit(chains)
    found = {name: row["rhat"] for name, row in diagnostics.items() if row["rhat"] is not None}
    if found:
        name, worst = max(found.items(), key=lambda item: item[1])
        agree = "agree" if worst <= limit else "disagree"
        sentence = f"The chains {agree}: the largest R-hat is {worst:.3f} ({name}; limit {limit:.2f})."
        checks.append(Check("R-hat", worst <= limit, sentence, worst, limit))
    for kind, least in (("observable", MINIMUM_CHAIN_ESS), ("basin", MINIMUM_BASIN_ESS)):
        sizes = {n: row["ess"] for n, row in diagnostics.items() if row["kind"] == kind and row["ess"] is not None}
        if sizes:
            name, smallest = min(sizes.items(), key=lambda item: item[1])
            word = "hold" if smallest >= least else "hold only"
            what = name if kind == "observable" else f"whether they are {name}"
            sentence = f"The chains {word} {smallest:.0f} independent draws of {what} (at least {least:.0f} are asked)."
            checks.append(Check(f"effective sample size ({kind})", smallest >= least, sentence, smallest, least))
    stuck = [name for name, row in diagnostics.items() if row["stuck"]]
    if stuck:
        sentence = f"Every chain is stuck at its own value of {', '.join(stuck)} (R-hat is infinite)."
        checks.append(Check("movement", passed=False, sentence=sentence))
    frozen = [
        n for n, row in diagnostics.items() if row["rhat"] is None and row["kind"] != "basin" and not row["stuck"]
    ]
    if frozen:
        sentence = f"Nothing moved: {', '.join(frozen)} has the same value in every draw."
        checks.append(Check("movement", passed=False, sentence=sentence))
    return checks


def _visit_checks(visits: Mapping[str, int], chains: int) -> list[Check]:
    checks = []
    for name, count in visits.items():
        passed = count >= math.ceil(MINIMUM_VISITING_SHARE * chains)
        share = "all" if count == chains else f"{count} of" if passed else f"only {count} of"
        sentence = f"The basin {name} was visited by {share} {chains} chains."
        checks.append(Check(f"visits to {name}", passed, sentence, count, MINIMUM_VISITING_SHARE * chains))
    return checks


def _weight_checks(weights: Mapping[str, Any], chains: int) -> list[Check]:
    checks = []
    if weights.get("ess") is not None:
        ess, size = weights["ess"], weights["size"]
        passed = ess >= MINIMUM_WEIGHT_ESS
        least = f"at least {MINIMUM_WEIGHT_ESS:.0f} are asked"
        sentence = f"The weights are worth {ess:.0f} equal ones out of {size} draws ({least})."
        if not passed and not chains:
            sentence += (
                " So few decide every average that the numbers mean nothing: the proposal is too far from the target."
            )
        checks.append(Check("effective size of the weights", passed, sentence, ess, MINIMUM_WEIGHT_ESS))
    if weights.get("pareto_k") is not None:
        k = weights["pareto_k"]
        passed = k <= MAXIMUM_PARETO_K
        tail = "has a harmless tail" if passed else "has so heavy a tail that a few draws decide the averages"
        sentence = f"The distribution of the weights {tail}: Pareto k is {k:.2f} (limit {MAXIMUM_PARETO_K})."
        checks.append(Check("Pareto k", passed, sentence, k, MAXIMUM_PARETO_K))
    return checks


def _coverage_checks(ess: Mapping[str, Any]) -> list[Check]:
    """Are there modes that the model lacks? Reference draws, not the model's own, can tell."""
    own, forward = ess.get("fraction"), ess.get("forward_fraction")
    if not own or forward is None:
        return []
    passed = forward * MAXIMUM_COVERAGE_RATIO >= own
    sentence = (
        f"Reference draws {'are as likely' if passed else 'are far less likely'} under the model as its own draws suggest: "
        f"{100 * forward:.2g} % effective from the reference, {100 * own:.2g} % from the model."
    )
    return [Check("coverage of the reference", passed, sentence, forward, own / MAXIMUM_COVERAGE_RATIO)]


def _ladder_checks(ladder: Mapping[str, Any]) -> list[Check]:
    checks = []
    swaps = _finite(ladder.get("swap_acceptance"))
    if swaps.size:
        worst = int(np.argmin(swaps))
        passed = bool(swaps[worst] >= MINIMUM_SWAP_ACCEPTANCE)
        state = "exchange" if passed else "hardly exchange"
        sentence = (
            f"Neighbouring temperatures {state}: the rarest swap, between rungs {worst} and {worst + 1}, is accepted in "
            f"{100 * swaps[worst]:.0f} % of the attempts (at least {100 * MINIMUM_SWAP_ACCEPTANCE:.0f} %)."
        )
        checks.append(Check("swaps", passed, sentence, float(swaps[worst]), MINIMUM_SWAP_ACCEPTANCE))
    trips = _finite(ladder.get("round_trips"))
    if trips.size:
        total = float(trips.sum())
        passed = total >= MINIMUM_ROUND_TRIPS
        sentence = (
            f"Walkers made {total:.0f} round trips between the coldest and the hottest temperature "
            f"(at least {MINIMUM_ROUND_TRIPS} are asked)."
        )
        checks.append(Check("round trips", passed, sentence, total, MINIMUM_ROUND_TRIPS))
    acceptance = _finite(ladder.get("acceptance"))
    if acceptance.size:
        worst = int(np.argmin(acceptance))
        passed = bool(acceptance[worst] >= MINIMUM_ACCEPTANCE)
        sentence = (
            f"Moves are accepted in {100 * acceptance[worst]:.0f} % of the attempts or more "
            f"(least at rung {worst}; at least {100 * MINIMUM_ACCEPTANCE:.0f} %)."
        )
        checks.append(Check("acceptance", passed, sentence, float(acceptance[worst]), MINIMUM_ACCEPTANCE))
    mbar = ladder.get("mbar")
    if mbar:
        notes = " ".join(mbar["notes"])
        sentence = "Every temperature overlaps with its neighbours (MBAR)." if mbar["converged"] else f"MBAR: {notes}"
        checks.append(Check("overlap", mbar["converged"], sentence))
    return checks + _boltzmann_checks(ladder.get("boltzmann_check"))


def _boltzmann_checks(check: Mapping[str, Any] | None) -> list[Check]:
    """Student's t of each pair's slope with the jackknife's degrees of freedom, Bonferroni's correction for the pairs."""
    if not check:
        return []
    ratio, error = (np.array(check[key], dtype=float) for key in ("slope_ratio", "standard_error"))
    known = np.isfinite(ratio) & (error > 0)
    if not known.any():
        return []
    ratio, error = ratio[known], error[known]
    odds = np.minimum(1.0, 2 * stdtr(check["ladders"] - 1, -np.abs(ratio - 1) / error) * len(ratio))
    odds[np.abs(ratio - 1) < MINIMUM_DEVIATION] = 1.0
    worst = int(np.argmin(odds)) if (odds < 1).any() else int(np.argmax(np.abs(ratio - 1) / error))
    passed = bool(odds[worst] >= BOLTZMANN_ODDS)
    sentence = (
        f"Energies at neighbouring temperatures {'stand' if passed else 'do not stand'} in Boltzmann's ratio: the worst slope is "
        f"{ratio[worst]:.3f} +- {error[worst]:.3f} times the exact one."
    )
    return [Check("energy statistics", passed, sentence, float(odds[worst]), BOLTZMANN_ODDS)]


def _difference_checks(differences: Sequence[Mapping[str, Any]]) -> list[Check]:
    checks = []
    for row in differences:
        value, error = row["value"]["value"], row["value"]["standard_error"]
        name = f"{row['from']} to {row['to']}"
        if value is None or error is None:
            sentence = f"The free energy from {name} is unknown: one of the two was never visited."
            checks.append(Check(f"error from {name}", passed=False, sentence=sentence))
            continue
        passed = error <= MAXIMUM_FREE_ENERGY_ERROR
        sentence = f"The free energy from {name} is known to {error:.2f} kT (limit {MAXIMUM_FREE_ENERGY_ERROR} kT)."
        checks.append(Check(f"error from {name}", passed, sentence, error, MAXIMUM_FREE_ENERGY_ERROR))
    return checks


def _structure_checks(stereochemistry: Mapping[str, Any], chains: int) -> list[Check]:
    if not stereochemistry:
        return []
    inverted, frames = stereochemistry["inverted_centres"], stereochemistry["frames"]
    checks = [
        Check(
            "chirality",
            inverted == 0,
            f"Every chiral centre kept its hand in all {frames} frames."
            if inverted == 0
            else f"{inverted} inverted chiral centres in {frames} frames: another molecule was sampled.",
            inverted,
            0,
        )
    ]
    flipped, visited = stereochemistry["flipped_peptide_bonds"], stereochemistry["chains_with_flips"]
    if (
        "flipped_weight" in stereochemistry
    ):  # independent draws cross no barrier: their share of the weight is an estimate
        share = stereochemistry["flipped_weight"]
        sentence = f"Draws with a peptide bond cis for trans (or the reverse) carry {100 * share:.2g} % of the weight."
        return [*checks, Check("peptide bonds", passed=True, sentence=sentence, value=share)]
    # Cis and trans are both real states. When only a few chains crossed, their ratio is an accident of the run; that
    # matters once the crossed ones are a part of the ensemble that other averages notice.
    passed = flipped <= MAXIMUM_UNRESOLVED_SHARE * frames or visited >= math.ceil(
        MINIMUM_VISITING_SHARE * max(chains, 1)
    )
    sentence = f"No peptide bond changed between cis and trans in {frames} frames."
    if flipped:
        remark = ": too rare to matter, but not a converged population" if passed else ""
        where = f"in {frames} frames, in {visited} of {chains} chains"
        sentence = f"Peptide bonds were cis for trans (or the reverse) {flipped} times {where}{remark}."
    return [*checks, Check("peptide bonds", passed, sentence, flipped, MAXIMUM_UNRESOLVED_SHARE * frames)]


def _finite_checks(results: Mapping[str, Any], chains: int) -> list[Check]:
    cost = results.get("cost", {})
    bad, total = cost.get("non_finite"), cost.get("energy_evaluations")
    if bad is None or not total:
        return []
    share = bad / total
    if not chains:  # an independent draw without a finite energy has weight zero: it costs draws, it biases nothing
        sentence = f"{bad:.0f} of {total:.0f} energies were not finite (those draws have weight zero)."
        return [Check("finite energies", passed=True, sentence=sentence, value=share)]
    passed = share <= MAXIMUM_NON_FINITE_SHARE
    sentence = f"{bad:.0f} of {total:.0f} energies were not finite (those moves were rejected)."
    return [Check("finite energies", passed, sentence, share, MAXIMUM_NON_FINITE_SHARE)]


def _cautions(results: Mapping[str, Any]) -> list[str]:
    cautions = []
    if results.get("bias"):
        cautions.append(results["bias"])
    for name, estimate in results.get("estimates", {}).items():
        cautions += [f"{name}: {note}" for note in estimate.get("notes", ()) if note != results.get("bias")]
        sigmas = estimate.get("sigmas_from_exact")
        if sigmas is not None and abs(sigmas) > 4:
            cautions.append(
                f"{name} is {abs(sigmas):.1f} standard errors away from its exact value {estimate['exact']:.6g}."
            )
    return list(dict.fromkeys(cautions))


def _finite(values: Any) -> np.ndarray:
    """The finite numbers of a number or list from JSON (null is not one)."""
    array = np.atleast_1d(np.array([] if values is None else values, dtype=float))
    return array[np.isfinite(array)]
