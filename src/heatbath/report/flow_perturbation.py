"""The section on log-weights of continuous flows: which of them give unbiased weights, and what each costs.

``results["flow_perturbation"]`` holds, every key optional,

- ``dimension``;
- ``log_jacobians``: rows ``{"name", "unbiased_weight", "log_z", "mode_weight", "mean_energy", "ess", "variance_log_w",
  "families", "products", "cost"}``; the estimates are ``{"value", "standard_error"}``, ``ess`` is a share of the draws,
  ``families`` the number of ancestors that SMC left, ``products`` the Jacobian-vector products per step of the flow, ``cost``
  the time of a weighted draw over that of a plain one;
- ``exact``: ``log_z``, ``mode_weight``, ``mean_energy``;
- ``cost_by_dimension``: ``dimensions`` and ``ratios``, by name the cost of a weighted draw over that of a plain one at
  each dimension, null where it was not measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from heatbath.report import style
from heatbath.report.sections import Cell, Fact, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import DASH, number, percent, pretty, with_error

_QUANTITIES = {"mode_weight": "weight of the first mode", "mean_energy": "mean energy (kT)", "log_z": "log Z"}
_NAMES = {
    "exact": "exact Jacobian",
    "multi-step": "flow perturbation, every step",
    "multi-step, annealed": "every step, then SMC",
    "single-shot": "flow perturbation, once",
    "hutchinson-1": "Hutchinson, 1 probe",
    "hutchinson-2": "Hutchinson, 2 probes",
    "hutchinson-10": "Hutchinson, 10 probes",
}
_COLOURS = ("blue", "vermilion", "green", "purple", "muted")
_MARKERS = "osD^v"


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("flow_perturbation")
    if not found:
        return None
    rows, exact = found.get("log_jacobians") or (), found.get("exact") or {}
    shown = [name for name in _QUANTITIES if any(_value(row, name) is not None for row in rows)]
    plots = [against_exact(rows, exact, shown)] if rows and shown else []
    if found.get("cost_by_dimension"):
        plots.append(cost(found["cost_by_dimension"]))
    blocks = [*([_table(rows, exact, shown)] if rows else []), *([Figures(plots)] if plots else [])]
    size = f" in {number(found['dimension'], 8)} dimensions" if found.get("dimension") else ""
    lead = (
        f"One flow{size}, its draws weighted with several log Jacobians. An unbiased estimate of a *logarithm* makes a biased "
        "weight; flow perturbation estimates the weight itself."
    ).replace("*", "")
    return Section("Weights of a continuous flow", lead, blocks, _headline(rows, exact))


def _named(name: str) -> str:
    return _NAMES.get(name, pretty(name))


def _value(row: Mapping[str, Any], name: str) -> float | int | None:
    return (row.get(name) or {}).get("value")


def _headline(rows: Sequence[Mapping[str, Any]], exact: Mapping[str, Any]) -> list[Fact]:
    """Of the annealed draws, or of the cheapest unbiased weights."""
    honest = [row for row in rows if row.get("unbiased_weight") and _value(row, "mode_weight") is not None]
    if not honest:
        return []
    best = min(
        honest, key=lambda row: ("annealed" not in row["name"], row.get("cost") or row.get("products") or np.inf)
    )
    remark = _named(best["name"]) + (f"; exact {number(exact['mode_weight'])}" if "mode_weight" in exact else "")
    share = best["mode_weight"]
    return [Fact(_QUANTITIES["mode_weight"], with_error(share["value"], share.get("standard_error")), remark)]


def _table(rows: Sequence[Mapping[str, Any]], exact: Mapping[str, Any], shown: Sequence[str]) -> Table:
    names = {"ess": "effective draws", "variance_log_w": "Var log w", "families": "ancestors"}
    names |= {"products": "Jacobian products", "cost": "cost"}
    extra = [name for name in names if any(row.get(name) is not None for row in rows)]
    columns = ["log Jacobian", "weight", *(_QUANTITIES[name] for name in shown), *(names[name] for name in extra)]
    body = []
    for row in rows:
        word = {True: "unbiased", False: "biased", None: DASH}[row.get("unbiased_weight")]
        cells = [Cell(_named(row["name"])), Cell(word)]
        cells += [_beside(row.get(name) or {}, exact.get(name)) for name in shown]
        cells += [Cell(_extra(name, row.get(name))) for name in extra]
        body.append(cells)
    if any(exact.get(name) is not None for name in shown):
        truths = [Cell(number(exact.get(name), 6)) for name in shown]
        body.append([Cell("exact"), Cell(""), *truths, *(Cell("") for _ in extra)])
    note = "σ: distance from the exact value in standard errors."
    if "products" in extra:
        note += " Jacobian products: per step of the flow, for one weight."
    if "cost" in extra:
        note += " Cost: time of a weighted draw over that of a plain one."
    return Table(columns, body, note=note)


def _beside(fields: Mapping[str, Any], exact: float | int | None) -> Cell:
    value, error = fields.get("value"), fields.get("standard_error")
    sigmas = f"{abs(value - exact) / error:.1f} σ" if value is not None and exact is not None and error else ""
    return Cell(with_error(value, error), sigmas)


def _extra(name: str, value: float | int | None) -> str:
    if value is None:
        return DASH
    if name == "ess":
        return percent(value)
    return f"{number(value, 3)} ×" if name == "cost" else number(value, 3)


def against_exact(rows: Sequence[Mapping[str, Any]], exact: Mapping[str, Any], shown: Sequence[str]) -> Plot:
    """The first of the shown quantities by every log Jacobian, with two standard errors, and its exact value."""
    name = shown[0]
    known = [row for row in rows if _value(row, name) is not None]
    where = np.arange(len(known))[::-1]
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 1.2 + 0.32 * len(known))
        axes.grid(axis="x")
        if exact.get(name) is not None:
            axes.axvline(exact[name], color=style.THEMED["muted"], linewidth=1.2)
        for position, row in zip(where, known, strict=True):
            colour = style.THEMED["blue" if row.get("unbiased_weight") else "vermilion"]
            error = 2 * (row[name].get("standard_error") or 0.0)
            fill = colour if row.get("unbiased_weight") else "none"
            axes.errorbar(
                row[name]["value"], position, xerr=error, fmt="o", color=colour, markerfacecolor=fill, capsize=3
            )
        axes.set_yticks(where, [_named(row["name"]) for row in known])
        axes.set_ylim(-0.6, len(known) - 0.4)
        axes.set_xlabel(_QUANTITIES[name])
        caption = "Filled: unbiased weights; open: biased. Bars are two standard errors, the line is the exact value."
        data = [(row["name"], row[name]["value"], row[name].get("standard_error")) for row in known]
        return style.finish(figure, "flow-perturbation-bias", caption, ["log Jacobian", name, "standard error"], data)


def cost(table: Mapping[str, Any]) -> Plot:
    """Cost of a weighted draw, in plain draws, by the dimension; both axes logarithmic."""
    dimensions = np.array(table["dimensions"], dtype=float)
    ratios = {name: np.array(column, dtype=float) for name, column in table["ratios"].items()}
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.2)
        axes.grid(axis="y")
        for index, (name, column) in enumerate(ratios.items()):
            colour, marker = style.THEMED[_COLOURS[index % 5]], _MARKERS[index % 5]
            axes.plot(dimensions, column, marker=marker, color=colour, label=_named(name), markersize=4.5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(dimensions, [number(value, 6) for value in dimensions])
        axes.minorticks_off()
        axes.set_xlabel("dimension")
        axes.set_ylabel("cost in plain draws")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), handlelength=1.5, fontsize=8.5)
        caption = "Cost of a weighted draw over that of a plain one."
        rows = [[d, *(column[i] for column in ratios.values())] for i, d in enumerate(dimensions)]
        return style.finish(figure, "flow-perturbation-cost", caption, ["dimension", *ratios], rows)
