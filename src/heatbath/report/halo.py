"""The section of divergence balls around a halo: bands of limits by mass, brackets, extreme halos, modulation.

``results["halo"]`` holds ``reference``, ``streams``, ``divergences``, ``radii``, and

- ``detectors``: rows ``{"name", "summary", "source", "notes", "masses", "reference", "halo_independent", "weakest",
"strongest"}``, limits in
  cm^2, the last two (mass, divergence, radius), null where there is none;
- ``extremes``: ``detector``, ``mass``, ``radius``, ``speeds``, ``reference``, ``curves``, ``table``;
- ``completeness`` and ``modulation``, optional.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.sections import Block, Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import number, percent

_NAMES = {
    "kl": "Kullback-Leibler",
    "reverse-kl": "reverse Kullback-Leibler",
    "chi2": "Pearson χ²",
    "neyman": "Neyman χ²",
    "hellinger": "Hellinger²",
    "jensen-shannon": "Jensen-Shannon",
    "le-cam": "Le Cam",
    "total-variation": "total variation",
    "sup-norm": "sup-norm",
}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("halo")
    if not found:
        return None
    blocks: list[Block] = [Figures([bands(found)], wide=True)]
    if len(found["divergences"]) > 1:
        blocks.append(Figures([by_divergence(found)], wide=True))
    blocks.append(_table(found["extremes"]))
    blocks.append(Figures([halos(found["extremes"])]))
    if found.get("modulation"):
        blocks.append(_modulation(found["modulation"]))
    blocks.append(_sources(found["detectors"]))
    lead = (
        f"Upper limits for every halo within a divergence δ of the {found['reference']}, cut into "
        f"{found['streams']} streams. The weakest and the "
        "strongest limit of each ball are exact: every bound meets its dual."
    )
    return Section("Limits for all halos in a ball", lead, blocks, _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    part = found["extremes"]
    row = part["table"][0]
    text = f"{number(row['smallest'], 2)} to {number(row['largest'], 3)} ×"
    remark = f"{_NAMES[row['divergence']]}, δ = {part['radius']:g}, {part['detector']} at {number(part['mass'], 3)} GeV"
    worst = max(detector["largest_gap"] for detector in found["detectors"])
    return [
        Fact("expected counts over the reference halo's", text, remark),
        Fact("largest dual gap", number(worst, 2), "over the range of the rates"),
    ]


# Figures --------------------------------------------------------------------------------------------------------------
def bands(found: Mapping[str, Any]) -> Plot:
    """A panel per detector: the bands of the first divergence at every radius, the reference inside,
    the halo-independent limit.
    """
    detectors, radii = found["detectors"], found["radii"]
    shades = np.linspace(0.45, 0.12, len(radii))
    with style.settings():
        figure, panels = style.canvas(3.4 * len(detectors) + 0.4, 3.7, len(detectors))
        data = []
        for axes, row in zip(panels, detectors, strict=True):
            masses = np.asarray(row["masses"], dtype=float)
            strongest, weakest = _limits(row, "strongest"), _limits(row, "weakest")
            reference = np.asarray(row["reference"], dtype=float)
            top = np.nanmax(reference) * 30
            for index in reversed(range(len(radii))):
                low, high = strongest[:, 0, index], np.minimum(weakest[:, 0, index], 10 * top)
                axes.fill_between(
                    masses,
                    low,
                    high,
                    color=style.THEMED["blue"],
                    alpha=shades[index],
                    linewidth=0,
                    label=f"δ = {radii[index]:g}",
                )
                data += [
                    (row["name"], m, radii[index], a, b)
                    for m, a, b in zip(masses, low, weakest[:, 0, index], strict=True)
                ]
            axes.plot(masses, reference, color=style.THEMED["ink"], label=found["reference"], linewidth=1.6)
            axes.plot(
                masses,
                np.asarray(row["halo_independent"], dtype=float),
                color=style.THEMED["vermilion"],
                linestyle=(0, (2, 2)),
                linewidth=1.2,
                label="best single stream",
            )
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(np.nanmin(np.asarray(row["halo_independent"], dtype=float)) / 3, top)
            axes.set_title(row["name"])
            axes.set_xlabel("mass (GeV)")
            axes.grid(axis="y")
        panels[0].set_ylabel("upper limit on σ (cm²)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=min(6, len(labels)), fontsize=8.5)
        name = _NAMES[found["divergences"][0]]
        caption = (
            f"Limits against mass for all halos within a {name} divergence δ: a band opens downwards little and upwards "
            "without end near threshold."
        )
        header = ["detector", "mass (GeV)", "delta", "strongest (cm2)", "weakest (cm2)"]
        return style.finish(figure, "halo-bands", caption, header, data)


def by_divergence(found: Mapping[str, Any]) -> Plot:
    """Band of every divergence at the middle radius, over the reference's limit, for each detector."""
    detectors, names = found["detectors"], found["divergences"]
    place = len(found["radii"]) // 2
    colours = [style.THEMED[name] for name in ("blue", "vermilion", "green", "purple", "muted", "ink")]
    with style.settings():
        figure, panels = style.canvas(3.4 * len(detectors) + 0.4, 3.6, len(detectors))
        data = []
        for axes, row in zip(panels, detectors, strict=True):
            masses = np.asarray(row["masses"], dtype=float)
            reference = np.asarray(row["reference"], dtype=float)
            for index, name in enumerate(names):
                look = {"color": colours[index % 6], "linestyle": "-" if index < 6 else "--", "linewidth": 1.3}
                low, high = (_limits(row, side)[:, index, place] / reference for side in ("strongest", "weakest"))
                axes.plot(masses, low, **look)
                axes.plot(masses, np.where(np.isfinite(high), high, np.nan), label=_NAMES[name], **look)
                data += [(row["name"], name, m, a, b) for m, a, b in zip(masses, low, high, strict=True)]
            axes.axhline(1.0, color=style.THEMED["muted"], linewidth=0.8)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(0.1, 100)
            axes.set_title(row["name"])
            axes.set_xlabel("mass (GeV)")
            axes.grid(axis="y")
        panels[0].set_ylabel("limit over the reference's")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8.5)
        radius = found["radii"][place]
        caption = f"Weakest and strongest limit of every divergence at δ = {radius:g}, over that of the reference halo."
        return style.finish(
            figure, "halo-divergences", caption, ["detector", "divergence", "mass (GeV)", "strongest", "weakest"], data
        )


def halos(part: Mapping[str, Any]) -> Plot:
    """Speed distributions of the extremes."""
    with style.settings():
        figure, (axes,) = style.canvas(5.2, 3.6)
        speeds = np.asarray(part["speeds"])
        reference = 1e3 * np.asarray(part["reference"])
        axes.fill_between(speeds, reference, color=style.THEMED["rule"], alpha=0.7, linewidth=0, label="reference")
        data = [("reference", s, f) for s, f in zip(speeds, reference / 1e3, strict=True)]
        for curve, colour in zip(part["curves"], ("blue", "vermilion", "green"), strict=False):
            name = _NAMES[curve["divergence"]]
            axes.plot(speeds, 1e3 * np.asarray(curve["largest"]), color=style.THEMED[colour], linewidth=1.3, label=name)
            axes.plot(
                speeds,
                1e3 * np.asarray(curve["smallest"]),
                color=style.THEMED[colour],
                linestyle=(0, (2, 2)),
                linewidth=1.1,
            )
            for side in ("largest", "smallest"):
                data += [(f"{curve['divergence']} {side}", s, f) for s, f in zip(speeds, curve[side], strict=True)]
        axes.set_ylim(0, 2.2 * reference.max())
        axes.set_xlabel("speed in the detector (km/s)")
        axes.set_ylabel("density (10⁻³ s/km)")
        axes.legend(fontsize=8.5)
        caption = (
            f"Halos with most (lines) and fewest (dashed) counts within δ = {part['radius']:g} for {part['detector']} at "
            f"{number(part['mass'], 3)} GeV. Peaks beyond the frame are single streams."
        )
        return style.finish(figure, "halo-extremes", caption, ["halo", "speed (km/s)", "density"], data)


def _limits(row: Mapping[str, Any], side: str) -> np.ndarray:
    """(mass, divergence, radius) limits; infinite where a halo of the ball is not seen at all."""
    values = np.array(row[side], dtype=float)
    return np.where(np.isnan(values), np.inf, values)


# Tables ---------------------------------------------------------------------------------------------------------------
def _table(part: Mapping[str, Any]) -> Table:
    body = []
    for row in part["table"]:
        words = "the best single stream lies in the ball" if row["saturated"] else ""
        body.append(
            [
                Cell(_NAMES[row["divergence"]]),
                Cell(f"{number(row['smallest'], 3)} ×"),
                Cell(f"{number(row['largest'], 4)} ×", words),
                Cell(number(row["slope"], 3)),
                Cell(number(row["gap"], 2)),
            ]
        )
    heading = f"{part['detector']} at {number(part['mass'], 3)} GeV, δ = {part['radius']:g}"
    note = (
        "Expected counts over those of the reference halo; slope: change of the largest per unit of δ; gap: primal to "
        "dual, over the range of rates."
    )
    return Table(["divergence", "smallest", "largest", "slope", "gap"], body, heading=heading, note=note)


def _modulation(part: Mapping[str, Any]) -> Facts:
    facts = [Fact("reference halo", percent(part["value"]), "(June − December) / 2 over the mean rate")]
    for row in part["table"]:
        facts.append(
            Fact(
                f"δ = {row['radius']:g}", f"{percent(row['smallest'])} to {percent(row['largest'])}", "Kullback-Leibler"
            )
        )
    where = f"{part['detector']} at {number(part['mass'], 3)} GeV"
    return Facts(facts, heading=f"Annual modulation, {where}, {part['streams']} streams in three dimensions")


def _sources(rows: Sequence[Mapping[str, Any]]) -> Table:
    body = [
        [Cell(row["name"], row["summary"]), Cell(number(row["events"], 4)), Cell(row["source"], " ".join(row["notes"]))]
        for row in rows
    ]
    return Table(
        ["detector", "events allowed", "where the numbers come from, and what is a model"], body, heading="Detectors"
    )
