"""The section of the collisionless Boltzmann equation on qubits: growth, collapse, reading, the dead zone, gates.

``results["quantum"]`` holds, every key but the first three optional,

- ``qubits``, ``encoding``, ``grid``;
- ``growth``: rows ``{"ratio", "times", "mode", "rate", "expected", "window"}``;
- ``collapse``: ``runs`` (rows ``{"readout", "times", "mode", "applications_per_step", "gates_once", "gates_in_all"}``),
  ``classical`` (``difference``, ``times``, ``splines``), ``snapshot`` (``f``, ``x``, ``v``, ``time``);
- ``free_streaming``: ``times``, ``mode``, ``expected``, ``recurrence``, ``error``, ``returned``, ``circuit_error``;
- ``dead_zone``: ``runs`` (rows ``{"kick", "times", "mode"}``), ``expected``, ``amplitude``;
- ``reading``: rows ``{"encoding", "readout", "applications", "error"}``;
- ``gates``: rows ``{"qubits", "drift", "kick", "strang", "integer_drift"}``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter

from heatbath.report import style
from heatbath.report.sections import Block, Cell, Fact, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import number, percent

_COLOURS = ("blue", "vermilion", "green", "purple", "muted", "ink")
_READOUTS = {"peek": "peek at the state", "shots": "shots", "amplitude-estimation": "amplitude estimation"}
_TIME = "time (4πGρ)^(−1/2)"


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("quantum")
    if not found:
        return None
    first = [make(found[name]) for name, make in (("growth", growth), ("collapse", collapse)) if found.get(name)]
    blocks: list[Block] = [Figures(first)] if first else []
    if found.get("growth"):
        blocks.append(_rates(found["growth"]))
    if found.get("collapse"):
        blocks.append(_costs(found["collapse"]["runs"]))
    parts = (("free_streaming", streaming), ("dead_zone", dead_zone), ("reading", reading))
    second = [make(found[name]) for name, make in parts if found.get(name)]
    if (found.get("collapse") or {}).get("snapshot"):
        second.insert(0, snapshot(found["collapse"]["snapshot"]))
    if second:
        blocks.append(Figures(second))
    if found.get("gates"):
        blocks.append(_gates(found["gates"]))
    lead = (
        f"Phase space on {found['qubits']} qubits ({found['encoding']} encoding, one of them an ancilla). "
        f"Waves longer than the Jeans length "
        "grow, shorter ones fade; gravity needs the density, and reading it is what costs."
    )
    return Section("Self-gravity on qubits", lead, blocks, _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    facts = []
    rows = [row for row in found.get("growth") or () if row.get("rate") is not None]
    if rows:
        worst = max(abs(row["rate"] / row["expected"] - 1) for row in rows)
        facts.append(
            Fact("growth rates from linear theory", percent(worst), f"the largest deviation of {len(rows)} waves")
        )
    classical = (found.get("collapse") or {}).get("classical")
    if classical:
        facts.append(
            Fact("quantum and classical state differ by", number(classical["difference"], 2), "of the largest value")
        )
    read = [row for row in (found.get("collapse") or {}).get("runs", ()) if row.get("gates_in_all")]
    if read:
        least = min(row["gates_in_all"] / row["gates_once"] for row in read)
        facts.append(
            Fact("price of reading the density", f"{number(least, 2)} ×", "gates in all over those of one evolution")
        )
    return facts


# Figures --------------------------------------------------------------------------------------------------------------
def growth(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Small waves on a logarithmic axis, dashed the slopes of the dispersion relation through the start of the fit."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.6)
        axes.grid(axis="y")
        data = []
        for index, row in enumerate(rows):
            colour = style.THEMED[_COLOURS[index % 6]]
            times, mode = np.asarray(row["times"]), np.asarray(row["mode"])
            axes.plot(times, mode, color=colour, label=f"{row['ratio']:g}")
            start = int(np.searchsorted(times, row["window"][0]))
            if start < len(times):
                line = mode[start] * np.exp(row["expected"] * (times - times[start]))
                axes.plot(times[start:], line[start:], color=style.THEMED["ink"], linestyle=(0, (3, 3)), linewidth=1.0)
            data += [(row["ratio"], t, m) for t, m in zip(times, mode, strict=True)]
        axes.set_yscale("log")
        axes.set_xlabel(_TIME)
        axes.set_ylabel("density mode |ρ₁| / ρ₀")
        axes.legend(title="k / k_J", ncols=len(rows), loc="lower left", bbox_to_anchor=(0, 1), handlelength=1.3)
        caption = (
            "Small waves on qubits (lines) and the dispersion relation (dashed): growth below the Jeans wave number, "
            "damping above."
        )
        return style.finish(figure, "quantum-growth", caption, ["k / k_J", "time", "mode"], data)


def collapse(part: Mapping[str, Any]) -> Plot:
    """The collapse, with gravity read in several ways, and the classical run by characteristics."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.6)
        axes.grid(axis="y")
        data = []
        classical = part.get("classical") or {}
        if classical.get("splines"):
            axes.plot(
                classical["times"],
                classical["splines"],
                color=style.THEMED["rule"],
                linewidth=5,
                label="classical, splines",
            )
        for index, row in enumerate(part["runs"]):
            name = _READOUTS.get(row["readout"]) or str(row["readout"])
            axes.plot(row["times"], row["mode"], color=style.THEMED[_COLOURS[index % 6]], label=name, linewidth=1.4)
            data += [(name, t, m) for t, m in zip(row["times"], row["mode"], strict=True)]
        axes.set_xlabel(_TIME)
        axes.set_ylabel("density mode |ρ₁| / ρ₀")
        axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), handlelength=1.3, fontsize=8.5)
        caption = (
            "A collapse whose gravity is taken from the state vector, and from simulated measurements with their noise "
            "fed back."
        )
        return style.finish(figure, "quantum-collapse", caption, ["read by", "time", "mode"], data)


def snapshot(part: Mapping[str, Any]) -> Plot:
    """The distribution at the end of the collapse."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.4)
        values, v = np.asarray(part["f"]).T, np.asarray(part["v"])
        mesh = axes.pcolormesh(
            part["x"], v, values, cmap=style.SURFACE_MAP, vmin=0.0, shading="nearest", rasterized=True
        )
        figure.colorbar(mesh, ax=axes, label="f(x, v)")
        axes.set_xlabel("position x / L")
        axes.set_ylabel("velocity")
        lowest = percent(float(values.min() / values.max()))
        caption = (
            f"Phase space at time {part['time']:.3g}: the wave has wound up, finer than the grid. The lowest "
            f"value is {lowest} of the highest. Read from the state vector."
        )
        return style.finish(
            figure,
            "quantum-phase-space",
            caption,
            ["v \\ x", *(f"{x:g}" for x in part["x"])],
            [[a, *row] for a, row in zip(v, values, strict=True)],
        )


def streaming(part: Mapping[str, Any]) -> Plot:
    """Free streaming: the fading and the return of the wave."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.0)
        axes.grid(axis="y")
        axes.plot(part["times"], part["mode"], color=style.THEMED["blue"], label="on qubits")
        axes.plot(
            part["times"],
            part["expected"],
            color=style.THEMED["vermilion"],
            linestyle=(0, (2, 2)),
            label="Gaussian mixing",
        )
        axes.axvline(part["recurrence"], color=style.THEMED["muted"], linewidth=1)
        axes.set_xlabel(_TIME)
        axes.set_ylabel("density mode |ρ₁| / ρ₀")
        axes.legend(loc="upper center")
        caption = "Without gravity a wave mixes away; the grid of velocities brings it back at 2π / (k dv) (grey line)."
        rows = zip(part["times"], part["mode"], part["expected"], strict=True)
        return style.finish(figure, "quantum-free-streaming", caption, ["time", "mode", "Gaussian"], list(rows))


def dead_zone(part: Mapping[str, Any]) -> Plot:
    """Integer against fractional kicks."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.0)
        axes.grid(axis="y")
        data = []
        for row, colour in zip(part["runs"], ("blue", "vermilion"), strict=False):
            axes.plot(row["times"], row["mode"], color=style.THEMED[colour], label=f"{row['kick']} kick")
            data += [(row["kick"], t, m) for t, m in zip(row["times"], row["mode"], strict=True)]
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(_TIME)
        axes.set_ylabel("density mode |ρ₁| / ρ₀")
        axes.legend()
        caption = (
            f"A wave of {number(part['amplitude'])} at k / k_J = 0.5. A kick by whole cells does nothing until half a cell has "
            "gathered, so that weak gravity does not act at all."
        )
        return style.finish(figure, "quantum-dead-zone", caption, ["kick", "time", "mode"], data)


def reading(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Error of the first mode against applications of the preparation."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.4)
        axes.grid()
        series = dict.fromkeys((row["encoding"], row["readout"]) for row in rows)
        for index, (encoding, name) in enumerate(series):
            chosen = [row for row in rows if (row["encoding"], row["readout"]) == (encoding, name)]
            x, y = [row["applications"] for row in chosen], [row["error"] for row in chosen]
            look = "-" if encoding == "amplitude" else "--"
            axes.plot(
                x,
                y,
                look,
                marker="osD^"[index % 4],
                markersize=4,
                color=style.THEMED[_COLOURS[index % 6]],
                label=f"{name}, {encoding}",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("applications of the evolution")
        axes.set_ylabel("error of ρ₁ / ρ₀")
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
        caption = (
            "Reading one mode: shots gain as the square root of their number, amplitude estimation in proportion to it."
        )
        data = [(row["encoding"], row["readout"], row["applications"], row["error"]) for row in rows]
        return style.finish(figure, "quantum-reading", caption, ["encoding", "read by", "applications", "error"], data)


# Tables ---------------------------------------------------------------------------------------------------------------
def _rates(rows: Sequence[Mapping[str, Any]]) -> Table:
    body = []
    for row in rows:
        off = "" if row.get("rate") is None else percent(row["rate"] / row["expected"] - 1)
        body.append(
            [Cell(f"{row['ratio']:g}"), Cell(number(row.get("rate"))), Cell(number(row["expected"])), Cell(off)]
        )
    return Table(
        ["k / k_J", "fitted rate", "dispersion relation", "difference"], body, note="In units of (4πGρ)^(1/2)."
    )


def _costs(rows: Sequence[Mapping[str, Any]]) -> Table:
    body = []
    for row in rows:
        each = row["applications_per_step"]
        body.append(
            [
                Cell(_READOUTS.get(row["readout"]) or str(row["readout"])),
                Cell(number(each, 3) if each else "none", "" if each else "not possible on a quantum computer"),
                Cell(number(row["gates_once"], 3) if row["gates_once"] else ""),
                Cell(number(row["gates_in_all"], 3) if row.get("gates_in_all") else ""),
            ]
        )
    note = "Controlled NOTs. A reading destroys the state, so that every one needs the whole evolution before it again."
    columns = ["gravity read by", "evolutions per step", "gates of one evolution", "gates in all"]
    return Table(columns, body, heading="What the collapse costs", note=note)


def _gates(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = ("drift", "kick", "strang", "integer_drift")
    body = [[Cell(str(row["qubits"])), *(Cell(number(row[name], 6)) for name in names)] for row in rows]
    note = (
        "Controlled NOTs in closed form, equal position and velocity registers and an ancilla. The "
        "fractional drift moves all velocities at once; "
        "by whole cells every row takes a flag and a shift of its own (12 c − 18 for a NOT with c controls and clean ancillas)."
    )
    columns = ["qubits", "drift", "kick by any a(x)", "Strang step", "drift by whole cells"]
    return Table(columns, body, heading="Gates", note=note)
