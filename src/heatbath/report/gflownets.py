"""The section of generative flow networks: how near each method's law is to the exact one, by the energies that it asked for.

``results["gflownets"]`` holds

- ``problem``: ``words``, ``steps``, ``listed`` and, where all objects are listed, ``states``, ``objects``, ``modes``, ``log_z``;
- ``goal``: the total variation to be reached;
- ``methods``: rows ``{"name", "per_trajectory", "histories", "final", "calls_to_goal", "calls_to_modes"}``; a history has
  columns ``calls``, ``total_variation``, ``modes``, ``log_z_error`` or ``calls``, ``top_mean``, ``modes``;
- ``weights``: ``draws``, ``log_z``, ``log_z_error``, ``exact``, ``ess``; or null.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.sections import Block, Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import DASH, number, percent, with_error

#: How methods are called in text, and how they are drawn.
_NAMES = {
    "led": "LED, detailed balance",
    "led-subtb": "LED, sub-trajectories",
    "fl": "forward-looking",
    "subtb": "sub-trajectory balance",
    "db": "detailed balance",
    "tb": "trajectory balance",
}
_COLOURS = {"led": "vermilion", "led-subtb": "vermilion", "fl": "purple", "subtb": "green", "db": "blue", "tb": "muted"}
_LINES = {"led-subtb": "--", "tb": "--"}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("gflownets")
    if not found:
        return None
    rows, listed = found["methods"], found["problem"]["listed"]
    if listed:
        plots = [by_calls(rows, "total_variation", found["goal"]), by_calls(rows, "modes", None)]
    else:
        plots = [by_calls(rows, "top_mean", None), by_calls(rows, "modes", None)]
    blocks: list[Block] = [Figures(plots), _table(found) if listed else _best_table(found), Facts(_facts(found))]
    lead = (
        "All methods build the same objects step by step. They differ in the energies they ask for: a learned decomposition "
        "pays one per object, forward-looking flows one per step."
    )
    return Section("Laws learned by energy calls", lead, blocks, _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    first = found["methods"][0]
    name = _NAMES[first["name"]]
    if not found["problem"]["listed"]:
        return [Fact("mean of the best 100", _text(first["final"].get("top_mean")), name)]
    text = _text(first["final"].get("total_variation"))
    calls = f"{name}, {number(first['final']['calls']['value'], 6)} energies"
    return [Fact("total variation from the exact law", text, calls)]


def _facts(found: Mapping[str, Any]) -> list[Fact]:
    problem, weights = found["problem"], found.get("weights")
    facts = [Fact("what is built", problem["words"], f"in at most {problem['steps']} steps")]
    if problem["listed"]:
        facts += [
            Fact("objects", number(problem["objects"], 8), f"{number(problem['states'], 8)} states, all listed"),
            Fact("modes", number(problem["modes"], 8)),
            Fact("log Z, exact", number(problem["log_z"], 6)),
        ]
    if weights:
        facts += [
            Fact("log Z by weights", with_error(weights["log_z"], weights["log_z_error"]), f"{weights['draws']} draws"),
            Fact("effective draws", percent(weights["ess"]), "of the first method's network"),
        ]
    return facts


def _text(fields: Mapping[str, Any] | None) -> str:
    return DASH if not fields else with_error(fields["value"], fields["standard_error"])


def _reached(calls: Sequence[float | None] | None) -> str:
    known = [value for value in calls or () if value is not None]
    if not known:
        return "not reached"
    rest = "" if len(known) == len(calls or ()) else f" ({len(known)} of {len(calls or ())} runs)"
    error = np.std(known, ddof=1) / np.sqrt(len(known)) if len(known) > 1 else None
    return (with_error(float(np.mean(known)), float(error)) if error else number(float(np.mean(known)), 4)) + rest


def _table(found: Mapping[str, Any]) -> Table:
    body = [
        [
            Cell(_NAMES[row["name"]]),
            Cell(number(row["per_trajectory"], 3)),
            Cell(_reached(row.get("calls_to_goal"))),
            Cell(_reached(row.get("calls_to_modes"))),
            Cell(_text(row["final"]["total_variation"])),
            Cell(_text(row["final"]["log_z_error"])),
        ]
        for row in found["methods"]
    ]
    columns = ["method", "energies per object", f"energies to {number(found['goal'], 2)}", "energies to 90 % of modes"]
    note = "Total variation is exact, by dynamic programming over all states. Errors are those over seeds."
    return Table([*columns, "total variation at the end", "error of log Z"], body, "What each method paid", note)


def _best_table(found: Mapping[str, Any]) -> Table:
    body = [
        [
            Cell(_NAMES[row["name"]]),
            Cell(number(row["per_trajectory"], 3)),
            Cell(number(row["final"]["calls"]["value"], 6)),
            Cell(_text(row["final"]["top_mean"])),
            Cell(_text(row["final"]["modes"])),
        ]
        for row in found["methods"]
    ]
    note = "Modes are different objects better than 95 % of random ones. Errors are those over seeds."
    columns = ["method", "energies per object", "energies", "mean of the best 100", "modes"]
    return Table(columns, body, "What each method found", note)


_AXES = {
    "total_variation": "total variation from the exact law",
    "modes": "share of the modes met",
    "top_mean": "mean of the best 100",
}


def by_calls(rows: Sequence[Mapping[str, Any]], column: str, goal: float | None) -> Plot:
    """One quantity of all methods by energy calls; thin lines are seeds, thick ones their mean."""
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.6)
        table = []
        for row in rows:
            runs = [(_numbers(run["calls"]), _numbers(run[column])) for run in row["histories"]]
            colour, line = style.THEMED[_COLOURS[row["name"]]], _LINES.get(row["name"], "-")
            for calls, values in runs if len(runs) > 1 else ():
                axes.plot(calls, values, line, color=colour, linewidth=0.6, alpha=0.5)
            length = min(len(calls) for calls, _ in runs)
            calls, values = (np.mean([run[part][:length] for run in runs], axis=0) for part in (0, 1))
            axes.plot(calls, values, line, color=colour, linewidth=2.0, label=_NAMES[row["name"]])
            table += [(row["name"], *pair) for pair in zip(calls, values, strict=True)]
        axes.set_xscale("log")
        if column == "total_variation":
            axes.set_yscale("log")
        if goal is not None:
            axes.axhline(goal, color=style.THEMED["muted"], linewidth=1.0, linestyle=":")
        many = column == "modes" and any(
            np.nanmax(_numbers(run[column])) > 1 for row in rows for run in row["histories"]
        )
        axes.set_xlabel("energies asked for")
        axes.set_ylabel("modes met" if many else _AXES[column])
        axes.legend(loc="best", fontsize=8)
        caption = {
            "total_variation": "How near the law of the network is to the exact one, by energies paid; dotted: the goal.",
            "modes": "How much of what is worth finding has been met while learning.",
            "top_mean": "The best objects met so far.",
        }[column]
        return style.finish(figure, column.replace("_", "-"), caption, ["method", "energies", column], table)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
