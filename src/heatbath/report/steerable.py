"""The section on temperature-steerable flows: one training temperature, answers at others.

``results["steerable"]`` holds, every key optional,

- ``trained_at``: the temperature of the training data; ``unit``: "K" or "1" (kT);
- ``temperatures``: rows ``{"temperature", "ess", "delta_f", "population", "reference"}``: ``ess`` a share of the draws,
  ``delta_f`` and ``population`` ``{"value", "standard_error"}``, ``reference`` the same for ``delta_f``, or null;
- ``identity_std``: standard deviation over draws of log p' - (T/T') log p, zero for an exactly steerable flow;
- ``exchange``: ``plain`` and ``flow``, round trips per million energy evaluations, and their ``factor``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from heatbath.report import style
from heatbath.report.sections import Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import DASH, number, percent, with_error


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("steerable")
    if not found:
        return None
    rows = found.get("temperatures") or ()
    blocks = []
    if any(_known(row.get("delta_f")) for row in rows):
        blocks.append(Figures([delta_f(rows, found), effective(rows, found)]))
    if rows:
        blocks.append(_table(rows, found))
    facts = _facts(found)
    if facts:
        blocks.append(Facts(facts))
    where = f" at {_at(found['trained_at'], found)}" if found.get("trained_at") else ""
    lead = (
        f"The flow was trained{where} only. Scaling its base gives every other temperature; weights correct what the flow "
        "has not learned."
    )
    return Section("Temperature-steerable flow", lead, blocks, _headline(rows, found))


def _known(fields: Mapping[str, Any] | None) -> bool:
    return bool(fields) and fields.get("value") is not None


def _at(temperature: float, found: Mapping[str, Any]) -> str:
    return f"{number(temperature)} K" if found.get("unit", "K") == "K" else f"kT = {number(temperature)}"


def _axis(found: Mapping[str, Any]) -> str:
    return "temperature" + (" (K)" if found.get("unit", "K") == "K" else " (kT)")


def _headline(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> list[Fact]:
    """The coldest temperature: the farthest that the flow is asked to go."""
    known = [row for row in rows if _known(row.get("delta_f"))]
    if not known:
        return []
    row = min(known, key=lambda row: row["temperature"])
    reference = row.get("reference")
    remark = f"reference {_text(reference)}" if _known(reference) else ""
    return [Fact(f"ΔF at {_at(row['temperature'], found)}", _text(row["delta_f"]), remark)]


def _text(fields: Mapping[str, Any] | None, unit: str = "kT") -> str:
    return with_error(fields["value"], fields.get("standard_error"), unit) if fields else DASH


def _table(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Table:
    body = []
    for row in rows:
        share, apart = row.get("population"), _sigmas(row)
        body.append(
            [
                Cell(_at(row["temperature"], found)),
                Cell(percent(row.get("ess"))),
                Cell(_text(row.get("delta_f")), apart),
                Cell(_text(row.get("reference"))),
                Cell(percent(share["value"], share.get("standard_error")) if share else DASH),
            ]
        )
    columns = ["temperature", "effective draws", "ΔF", "reference ΔF", "population of the second basin"]
    return Table(columns, body, note="σ: distance from the reference in joint standard errors.")


def _sigmas(row: Mapping[str, Any]) -> str:
    flow, reference = row.get("delta_f") or {}, row.get("reference") or {}
    if not (_known(flow) and _known(reference)):
        return ""
    error = np.hypot(flow.get("standard_error") or 0.0, reference.get("standard_error") or 0.0)
    return f"{abs(flow['value'] - reference['value']) / error:.1f} σ" if error > 0 else ""


def _facts(found: Mapping[str, Any]) -> list[Fact]:
    facts = []
    if found.get("identity_std") is not None:
        remark = "spread of log p′ − (T/T′) log p; zero for an exactly steerable flow"
        facts.append(Fact("steerability", number(found["identity_std"], 2), remark))
    exchange = found.get("exchange") or {}
    names = {"plain": "round trips, plain exchange", "flow": "round trips, exchange with flow moves"}
    for key, name in names.items():
        if exchange.get(key):
            facts.append(Fact(name, _rate(exchange[key]), "per million energy evaluations"))
    if exchange.get("factor"):
        facts.append(Fact("factor", _rate(exchange["factor"]), "at equal numbers of energy evaluations"))
    return facts


def _rate(value: Mapping[str, Any] | float) -> str:
    return _text(value, "1") if isinstance(value, Mapping) else number(value, 3)


def delta_f(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Plot:
    """Delta F by the temperature: reweighted draws of the flow with two standard errors, and the reference."""
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.1)
        axes.grid(axis="y")
        for key, colour, marker, label, shift in (
            ("reference", "muted", "s", "reference", 1.0),
            ("delta_f", "blue", "o", "flow, reweighted", 1.008),
        ):
            known = [row for row in rows if _known(row.get(key))]
            if not known:
                continue
            where = [shift * row["temperature"] for row in known]
            error = [2 * (row[key].get("standard_error") or 0.0) for row in known]
            axes.errorbar(
                where, [row[key]["value"] for row in known], error, fmt=marker, color=style.THEMED[colour], capsize=3,
                markersize=5, linewidth=1.4, label=label,
            )  # fmt: skip
        _trained(axes, found)
        axes.set_xlabel(_axis(found))
        axes.set_ylabel("ΔF (kT)")
        axes.legend(handlelength=1.4)
        header = ["temperature", "delta F (kT)", "standard error (kT)", "reference (kT)", "standard error (kT)"]
        data = [(row["temperature"], *_pair(row.get("delta_f")), *_pair(row.get("reference"))) for row in rows]
        caption = (
            "Free-energy difference by the temperature; the flow was trained at one. Bars are two standard errors."
        )
        return style.finish(figure, "steerable-delta-f", caption, header, data)


def effective(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Plot:
    """Effective share of the draws by the temperature, logarithmic."""
    known = [row for row in rows if row.get("ess")]
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.1)
        axes.grid(axis="y")
        where, share = [row["temperature"] for row in known], [100 * row["ess"] for row in known]
        axes.plot(where, share, "o-", color=style.THEMED["green"], markersize=5)
        axes.set_yscale("log")
        axes.set_ylim(min(1.0, 0.5 * min(share, default=1.0)), 110)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        _trained(axes, found)
        axes.set_xlabel(_axis(found))
        axes.set_ylabel("effective draws (%)")
        caption = "How many draws remain after reweighting at each temperature."
        return style.finish(
            figure,
            "steerable-effective",
            caption,
            ["temperature", "effective share"],
            list(zip(where, share, strict=True)),
        )


def _trained(axes, found: Mapping[str, Any]) -> None:
    if found.get("trained_at"):
        axes.axvline(
            found["trained_at"], color=style.THEMED["vermilion"], linewidth=1.2, linestyle=":", label="trained here"
        )


def _pair(fields: Mapping[str, Any] | None) -> tuple:
    return (fields["value"], fields.get("standard_error")) if fields else ("", "")
