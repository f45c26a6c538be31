"""The section of generalized ensembles: inferred couplings, certificates of kernels, what breaks detailed balance, identities.

``results["generalized_ensemble"]`` holds, every key optional,

- ``inference``: ``parameters`` (rows ``{"sites", "truth", "value", "standard_error", "kept", "pseudo_likelihood",
  "pseudo_likelihood_error"}``), ``draws``, ``chains``, ``largest_z``, ``true_zeros``, ``false_positives``, ``missed``;
- ``kernels``: rows ``{"name", "claim", "found", "pairs", "balance_p_value", "balance_z", "stationary_p_value"}``;
- ``driven``: ``spins``, ``jumps``, ``balance_p_value``, ``cycles``, ``pairs`` (rows
  ``{"pair", "truth", "value", "standard_error", "z"}``),
  ``entropy_production`` (``{"value", "standard_error", "exact"}``);
- ``ring``: ``force``, ``flux``, ``entropy_production``;
- ``exact``: rows ``{"name", "value", "reference", "tolerance"}``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.sections import Block, Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import number, percent, with_error

_FOUND = {"balance": "detailed balance", "stationary": "stationary, no balance", "biased": "changes the law"}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("generalized_ensemble")
    if not found:
        return None
    plots = []
    if found.get("inference"):
        plots.append(couplings(found["inference"]))
    if found.get("driven"):
        plots.append(affinities(found["driven"]))
    if found.get("ring"):
        plots.append(ring(found["ring"]))
    blocks: list[Block] = [Figures(plots)] if plots else []
    if found.get("inference"):
        blocks.append(_inference(found["inference"]))
    if found.get("kernels"):
        blocks.append(_kernels(found["kernels"]))
    if found.get("driven"):
        blocks.append(_driven(found["driven"]))
    if found.get("exact"):
        blocks.append(_exact(found["exact"]))
    lead = (
        "Every distribution on finitely many states is exp(-λ·a) for one vector of coordinates λ. Here λ comes from samples, "
        "and from "
        "trajectories comes the answer whether probability flows in circles."
    )
    return Section("Coordinates and fluxes", lead, blocks, _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    facts = []
    part = found.get("inference")
    if part:
        text = f"{len(part['parameters'])} within {number(part['largest_z'], 2)} errors"
        facts.append(Fact("inferred parameters", text, f"from {number(part['draws'], 8)} draws"))
    rows = found.get("kernels") or ()
    if rows:
        right = sum(row["found"] == row["claim"] for row in rows)
        facts.append(Fact("kernels as they claim", f"{right} of {len(rows)}", "detailed balance and stationarity"))
    if found.get("driven"):
        row = max(found["driven"]["pairs"], key=lambda row: abs(row["z"]))
        text = with_error(row["value"], row["standard_error"])
        facts.append(
            Fact("strongest affinity", text, f"pair ({row['pair'][0]}, {row['pair'][1]}); exact {number(row['truth'])}")
        )
    return facts


# Tables ---------------------------------------------------------------------------------------------------------------
def _inference(part: Mapping[str, Any]) -> Facts:
    facts = [
        Fact("draws", number(part["draws"], 8), f"{part['chains']} chains; their spread gives the errors"),
        Fact(
            "farthest from the truth",
            f"{number(part['largest_z'], 3)} errors",
            f"of {len(part['parameters'])} parameters",
        ),
        Fact("zeros kept by the selection", f"{part['false_positives']} of {part['true_zeros']}", "Holm's procedure"),
        Fact("parameters missed", str(part["missed"]), "too small for this many draws"),
    ]
    if part.get("zeros_rejected_at_five_percent") is not None:
        facts.append(Fact("zeros with |z| > 1.96", percent(part["zeros_rejected_at_five_percent"]), "5 % are expected"))
    return Facts(facts, "Fields and couplings from samples")


def _kernels(rows: Sequence[Mapping[str, Any]]) -> Table:
    body = [
        [
            Cell(row["name"]),
            Cell(_FOUND[row["claim"]]),
            Cell(_FOUND[row["found"]], "" if row["found"] == row["claim"] else "not as claimed"),
            Cell(_odds(row["balance_p_value"]), f"largest deviation {number(abs(row['balance_z']), 2)} σ"),
            Cell(_odds(row["stationary_p_value"])),
            Cell(number(row["pairs"], 8)),
        ]
        for row in rows
    ]
    columns = ["kernel", "claims", "found", "odds of the flux", "odds of the drift", "pairs"]
    note = (
        "Pairs (x, x') of one step from exact draws, by cells. Flux: are k → l and l → k as frequent? Drift: are the cells as "
        "full "
        "as before? Odds below 0.001 speak against."
    )
    return Table(columns, body, "Certificates of kernels", note)


def _odds(value: float | int) -> str:
    return "below 10⁻⁶" if value < 1e-6 else number(value, 2)


def _driven(part: Mapping[str, Any]) -> Facts:
    production = part["entropy_production"]
    broken = [row for row in part["pairs"] if abs(row["z"]) > 4]
    names = ", ".join(f"({row['pair'][0]}, {row['pair'][1]})" for row in broken) or "none"
    facts = [
        Fact("jumps", number(part["jumps"], 8), f"of {part['spins']} spins"),
        Fact("odds of detailed balance", _odds(part["balance_p_value"]), f"{part['cycles']} independent cycles"),
        Fact("pairs that break it", names, "mean affinity of their squares beyond 4 errors"),
        Fact(
            "entropy production",
            with_error(production["value"], production["standard_error"]) + " kB per attempt time",
            f"exact {number(production['exact'])}",
        ),
    ]
    return Facts(facts, "A driven model")


def _exact(rows: Sequence[Mapping[str, Any]]) -> Table:
    body = [
        [
            Cell(row["name"]),
            Cell(number(row["value"], 12)),
            Cell(number(row["reference"], 12)),
            Cell(number(abs(row["value"] - row["reference"]), 2)),
        ]
        for row in rows
    ]
    return Table(["identity", "value", "beside", "difference"], body, "Exact identities")


# Figures --------------------------------------------------------------------------------------------------------------
def couplings(part: Mapping[str, Any]) -> Plot:
    """Inferred parameters by their true values, maximum likelihood with two errors, pseudo-likelihood as rings."""
    rows = part["parameters"]
    truth = np.array([row["truth"] for row in rows], dtype=float)
    value, error = (np.array([row[key] for row in rows], dtype=float) for key in ("value", "standard_error"))
    other = np.array([row["pseudo_likelihood"] for row in rows], dtype=float)
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.6)
        reach = [min(truth.min(), value.min()) - 0.05, max(truth.max(), value.max()) + 0.05]
        axes.plot(reach, reach, color=style.THEMED["rule"], linewidth=1.0)
        options = {"fmt": "o", "markersize": 3.5, "linewidth": 1.0}
        axes.errorbar(truth, value, 2 * error, color=style.THEMED["blue"], label="maximum likelihood", **options)
        axes.plot(
            truth,
            other,
            "o",
            markersize=7,
            color=style.THEMED["vermilion"],
            markerfacecolor="none",
            label="pseudo-likelihood",
        )
        axes.set_xlabel("true field or coupling (kT)")
        axes.set_ylabel("inferred (kT)")
        axes.legend(loc="upper left")
        table = [
            (" ".join(map(str, row["sites"])), *r)
            for row, r in zip(rows, zip(truth, value, error, other, strict=True), strict=True)
        ]
        caption = "Fields and couplings from samples; bars are two standard errors."
        return style.finish(
            figure, "couplings", caption, ["spins", "truth", "inferred", "standard error", "pseudo-likelihood"], table
        )


def affinities(part: Mapping[str, Any]) -> Plot:
    """Mean affinity of the squares of every pair of spins, with two errors; crosses where the model drives."""
    rows = part["pairs"]
    value, error, truth = (
        np.array([row[k] for row in rows], dtype=float) for k in ("value", "standard_error", "truth")
    )
    where = np.arange(len(rows))
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.6)
        axes.axhline(0.0, color=style.THEMED["muted"], linewidth=1.0)
        axes.errorbar(where, value, 2 * error, fmt="o", color=style.THEMED["blue"], markersize=4, label="from jumps")
        axes.plot(where, truth, "x", color=style.THEMED["vermilion"], markersize=8, label="exact")
        step = max(1, len(rows) // 12)
        axes.set_xticks(where[::step], [f"{row['pair'][0]}, {row['pair'][1]}" for row in rows[::step]], fontsize=8)
        axes.set_xlabel("pair of spins")
        axes.set_ylabel("affinity of its squares (kB)")
        axes.legend(loc="best")
        table = [(*row["pair"], v, e, t) for row, v, e, t in zip(rows, value, error, truth, strict=True)]
        caption = "What breaks detailed balance: the affinity around flip i, flip j, flip i back, flip j back."
        return style.finish(figure, "affinities", caption, ["i", "j", "affinity", "standard error", "exact"], table)


def ring(curve: Mapping[str, Any]) -> Plot:
    """Flux and entropy production of the three-state ring by the force around it."""
    force, flux, production = (np.array(curve[key], dtype=float) for key in ("force", "flux", "entropy_production"))
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.6)
        axes.grid(axis="y")
        axes.plot(force, flux, color=style.THEMED["blue"], label="flux J")
        axes.plot(force, production, color=style.THEMED["vermilion"], label="entropy production J F")
        axes.set_xlabel("force around the ring (kT)")
        axes.set_ylabel("per unit of time")
        axes.legend(loc="upper left")
        table = list(zip(force, flux, production, strict=True))
        caption = "Three states in a ring, exact: no force, no flux."
        return style.finish(figure, "driven-ring", caption, ["force", "flux", "entropy production"], table)
