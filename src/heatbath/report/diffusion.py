"""The section on position-dependent diffusion: the laws that are sampled with the right drift, and without it.

``results["diffusion"]`` holds ``model`` and, every key optional, ``coefficient`` (``x``, ``diffusivity``, ``density``),
``with_drift`` and
``without_drift`` (rows ``alpha``, ``from_boltzmann``, ``from_expected``, ``edges``, ``density``, ``expected``), ``adjusted``,
``paths`` (``consistent`` and ``naive``: columns of estimates) and ``rates`` (``values``, ``exact``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.sections import Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import DASH, number, percent

_CONVENTIONS = {0.0: "Itô", 0.5: "Stratonovich", 1.0: "anti-Itô"}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("diffusion")
    if not found:
        return None
    plots, blocks = [], []
    if found.get("without_drift") and found.get("coefficient"):
        plots.append(wrong_law(found["without_drift"], found.get("with_drift") or (), found["coefficient"]))
    if found.get("coefficient"):
        plots.append(coefficient(found["coefficient"], found.get("paths") or {}))
    if (found.get("paths") or {}).get("consistent"):
        plots.append(drifts(found["paths"]))
    if found.get("with_drift"):
        blocks.append(_laws(found["with_drift"], found.get("without_drift") or ()))
    blocks += _facts(found)
    lead = (
        f"Model: {found.get('model', 'unnamed')}, with a diffusion coefficient that depends on position. Every convention of "
        "the noise needs its own drift; with it all of them sample Boltzmann's law, without it none but α = 1 does."
    )
    rows = [plots[:2], plots[2:]]  # three in one row are too small to read
    figures = [Figures(row) for row in rows if row]
    return Section("Position-dependent diffusion", lead, [*figures[:1], *blocks, *figures[1:]], _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    facts = []
    rows = {row["alpha"]: row for row in found.get("without_drift") or ()}
    if rows:
        row = rows[min(rows)]
        facts.append(
            Fact(
                "without the drift",
                f"{number(row['from_boltzmann'], 3)} σ from Boltzmann",
                f"α = {number(row['alpha'])}",
            )
        )
    if found.get("with_drift"):
        worst = max(row["from_boltzmann"] for row in found["with_drift"])
        facts.append(Fact("with the drift", f"at most {number(max(worst, 0.0), 2)} σ", "over all conventions"))
    return facts


def wrong_law(
    without: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]], profile: Mapping[str, Any]
) -> Plot:
    """Histograms with and without the drift, in the first convention, beside Boltzmann and the law that is sampled instead."""
    row = min(without, key=lambda row: row["alpha"])
    good = next((other for other in right if other["alpha"] == row["alpha"]), None)
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.3)
        axes.plot(profile["x"], profile["density"], color=style.THEMED["ink"], linewidth=1.2, label="Boltzmann")
        if good is not None:
            axes.stairs(
                good["density"], good["edges"], color=style.THEMED["blue"], label="with the drift", linewidth=1.3
            )
        axes.stairs(
            row["density"], row["edges"], color=style.THEMED["vermilion"], label="without the drift", linewidth=1.3
        )
        if row.get("expected") is not None:
            centres = 0.5 * (np.array(row["edges"][1:]) + np.array(row["edges"][:-1]))
            label = r"$e^{-u} / D^{1-\alpha}$"
            axes.plot(
                centres, row["expected"], color=style.THEMED["vermilion"], linestyle="--", linewidth=1.0, label=label
            )
        axes.set_xlabel("x")
        axes.set_ylabel("density")
        axes.legend(loc="best", handlelength=1.5, fontsize=8.5)
        caption = f"Laws sampled in the convention α = {number(row['alpha'])}: leaving the drift out gives another distribution."
        table = list(
            zip(
                row["edges"][:-1],
                row["edges"][1:],
                row["density"],
                good["density"] if good else row["density"],
                strict=True,
            )
        )
        return style.finish(figure, "diffusion-laws", caption, ["from", "to", "without drift", "with drift"], table)


def coefficient(profile: Mapping[str, Any], paths: Mapping[str, Any]) -> Plot:
    """D(x), and its estimates from trajectories."""
    found = paths.get("consistent") or {}
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.0)
        axes.plot(profile["x"], profile["diffusivity"], color=style.THEMED["muted"], linewidth=1.2, label="model")
        rows = []
        if found:
            errors = [None if e is None else 2 * e for e in found["diffusivity_error"]]
            rows = _known(found["centres"], found["diffusivity"], errors)
            if rows:
                x, y, e = zip(*rows, strict=True)
                axes.errorbar(x, y, e, fmt="o", color=style.THEMED["blue"], markersize=4, label="from trajectories")
                axes.legend(loc="best", fontsize=8.5)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("x")
        axes.set_ylabel("D(x)")
        caption = "The diffusion coefficient, and its estimate from trajectories with two standard errors."
        return style.finish(figure, "diffusion-coefficient", caption, ["x", "D", "two standard errors"], rows)


def drifts(paths: Mapping[str, Any]) -> Plot:
    """Drifts estimated from consistent and from naive trajectories."""
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.0)
        table = []
        for name, colour, label in (("consistent", "blue", "with the drift"), ("naive", "vermilion", "without it")):
            found = paths.get(name)
            if not found:
                continue
            errors = [None if e is None else 2 * e for e in found["drift_error"]]
            rows = _known(found["centres"], found["drift"], errors)
            line = _known(found["centres"], found["exact_drift"], found["exact_drift"])
            if rows:
                x, y, e = zip(*rows, strict=True)
                axes.errorbar(x, y, e, fmt="o", color=style.THEMED[colour], markersize=4, label=label)
                axes.plot([p[0] for p in line], [p[1] for p in line], color=style.THEMED[colour], linewidth=1.0)
                table += [[name, *row] for row in rows]
        axes.set_xlabel("x")
        axes.set_ylabel("⟨dx⟩ / dt")
        axes.legend(loc="best", fontsize=8.5)
        caption = "Mean drifts measured in trajectories (two standard errors) and those of the equations (lines)."
        return style.finish(figure, "diffusion-drifts", caption, ["run", "x", "drift", "two standard errors"], table)


def _known(*columns: Sequence[float | None]) -> list[tuple[float, ...]]:
    """Rows in which nothing is missing."""
    return [row for row in zip(*columns, strict=True) if None not in row]  # pyright: ignore[reportReturnType]


def _laws(right: Sequence[Mapping[str, Any]], without: Sequence[Mapping[str, Any]]) -> Table:
    wrong = {row["alpha"]: row for row in without}
    body = []
    for row in right:
        other = wrong.get(row["alpha"]) or {}
        expected = other.get("from_expected")
        body.append(
            [
                Cell(f"α = {number(row['alpha'])}", _CONVENTIONS.get(row["alpha"], "")),
                Cell(f"{number(row['from_boltzmann'], 2)} σ"),
                Cell(f"{number(other['from_boltzmann'], 3)} σ" if other else DASH),
                Cell(DASH if expected is None else f"{number(expected, 2)} σ"),
            ]
        )
    columns = [
        "convention",
        "with drift: from Boltzmann",
        "without: from Boltzmann",
        "without: from exp(−u) / D^(1 − α)",
    ]
    return Table(
        columns,
        body,
        note="σ: χ² over 40 cells of equal probability as a normal deviate; a true law lies between −3 and 3.",
    )


def _facts(found: Mapping[str, Any]) -> list[Facts]:
    cards = []
    adjusted, paths, rates = (found.get(name) or {} for name in ("adjusted", "paths", "rates"))
    if adjusted:
        facts = [
            Fact(
                "distance from Boltzmann",
                f"{number(adjusted['sigmas'], 2)} σ",
                f"at {number(adjusted['factor'])} times the step",
            ),
            Fact("moves accepted", percent(adjusted["acceptance"])),
        ]
        if adjusted.get("euler_sigmas") is not None:
            facts.append(
                Fact("the same step without decision", f"{number(adjusted['euler_sigmas'], 3)} σ from Boltzmann")
            )
        cards.append(Facts(facts, "Metropolis-adjusted moves"))
    if paths.get("naive_from_consistent") is not None:
        text = f"{number(paths['naive_from_consistent'], 3)} standard errors"
        remark = "root mean square distance of their drift from a consistent one"
        cards.append(Facts([Fact("trajectories without the drift", text, remark)], "What data tell"))
    if rates:
        pairs = list(zip(rates["values"], rates["exact"], strict=True))[1:]
        facts = [
            Fact(f"rate {i}", number(value, 8), f"exact {number(exact, 6)}")
            for i, (value, exact) in enumerate(pairs, start=1)
        ]
        cards.append(Facts(facts, "Relaxation"))
    if found.get("passage"):
        cards.append(
            Facts([Fact("mean time from −1 to 1", number(found["passage"], 5), "by quadrature")], "First passage")
        )
    return cards
