"""Figures of a temperature ladder: energies with their overlap, swaps, and the agreement with Boltzmann's law."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.style import Plot
from heatbath.report.words import number


def ladder_plots(ladder: Mapping[str, Any]) -> list[Plot]:
    """Every figure that the ladder has data for."""
    plots = []
    if ladder.get("energy_histograms"):
        plots.append(energies(ladder))
    if ladder.get("swap_acceptance"):
        plots.append(swaps(ladder))
    if ladder.get("boltzmann_check"):
        plots.append(boltzmann(ladder))
    return plots


def temperature(value: float | int, unit: str) -> str:
    """``300 K``, or the bare number of kT."""
    return f"{number(value, 3)} K" if unit == "K" else number(value, 3)


def _unit(ladder: Mapping[str, Any]) -> str:
    return " (K)" if ladder.get("unit") == "K" else " (kT)"


def energies(ladder: Mapping[str, Any]) -> Plot:
    """Histograms of the energy, one per temperature, cold to hot.

    The height is the square root of the density: narrow cold and wide hot distributions are then both seen, and so are the
    tails in which neighbours overlap.
    """
    histogram = ladder["energy_histograms"]
    edges, counts = np.array(histogram["edges"], dtype=float), np.array(histogram["counts"], dtype=float)
    density = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) / np.diff(edges)
    centres = (edges[1:] + edges[:-1]) / 2
    names = [temperature(value, ladder.get("unit", "1")) for value in ladder["temperatures"]]
    with style.settings():
        figure, (axes,) = style.canvas(7.8, 3.1)
        for rung, row in enumerate(np.sqrt(density)):
            colour = style.HEAT_MAP(rung / max(len(density) - 1, 1))
            axes.fill_between(centres, row, color=colour, alpha=0.2, linewidth=0)
            axes.plot(centres, row, color=colour, linewidth=1.5, label=names[rung])
        axes.set_ylim(0, 1.05 * float(np.sqrt(density.max())))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        unit = ladder.get("energy_unit", "1")
        axes.set_xlabel("potential energy" + (f" ({unit})" if unit != "1" else ""))
        columns = 1 if len(names) <= 12 else 2
        title = None if ladder.get("unit") == "K" else "kT"
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=columns, handlelength=1.2, title=title)
        rows = [(x, *column) for x, column in zip(centres, counts.astype(int).T.tolist(), strict=True)]
        header = ["energy", *(f"counts at {name}" for name in names)]
        caption = "Energies at each temperature; the height is the square root of the density."
        return style.finish(figure, "energies", caption, header, rows)


def swaps(ladder: Mapping[str, Any]) -> Plot:
    """Acceptance of swaps and overlap of the energies, per pair of neighbours."""
    accepted = np.array(ladder["swap_acceptance"], dtype=float)
    overlap = (ladder.get("energy_histograms") or {}).get("overlap")
    temperatures = np.array(ladder["temperatures"], dtype=float)
    middle = np.sqrt(temperatures[1:] * temperatures[:-1])
    with style.settings():
        figure, (axes,) = style.canvas(3.6, 2.7)
        axes.grid(axis="y")
        axes.plot(middle, 100 * accepted, "o-", color=style.THEMED["blue"], label="swaps accepted")
        if overlap is not None:
            shared = 100 * np.array(overlap, dtype=float)
            axes.plot(middle, shared, "s--", color=style.THEMED["vermilion"], label="energies shared", markersize=5)
        axes.set_ylim(0, 100)
        _temperature_axis(axes, ladder, temperatures)
        axes.set_ylabel("%")
        axes.legend(loc="upper left", ncols=2, fontsize=8, handlelength=1.4, columnspacing=1.0)
        rows = list(zip(temperatures[:-1], temperatures[1:], accepted, overlap or [""] * len(accepted), strict=True))
        header = ["from", "to", "swap acceptance", "energy overlap"]
        return style.finish(figure, "swaps", "Exchange between neighbouring temperatures.", header, rows)


def boltzmann(ladder: Mapping[str, Any]) -> Plot:
    """Fitted slope of log p_j(E)/p_i(E) over the one that Boltzmann's law demands."""
    check = ladder["boltzmann_check"]
    ratio, error = np.array(check["slope_ratio"], dtype=float), np.array(check["standard_error"], dtype=float)
    temperatures = np.array(ladder["temperatures"], dtype=float)
    middle = np.sqrt(temperatures[1:] * temperatures[:-1])
    with style.settings():
        figure, (axes,) = style.canvas(3.6, 2.7)
        axes.axhline(1.0, color=style.THEMED["muted"], linewidth=1.0)
        axes.errorbar(middle, ratio, 2 * error, fmt="o", color=style.THEMED["green"], capsize=3, linewidth=1.4)
        reach = float(np.nanmax(np.abs(ratio - 1) + 2 * error, initial=0.02)) * 1.3
        axes.set_ylim(1 - reach, 1 + reach)
        _temperature_axis(axes, ladder, temperatures)
        axes.set_ylabel("slope / exact slope")
        rows = list(zip(temperatures[:-1], temperatures[1:], ratio, error, strict=True))
        header = ["from", "to", "slope ratio", "standard error"]
        caption = (
            "Energy statistics of neighbouring temperatures against Boltzmann's law; bars are two standard errors."
        )
        return style.finish(figure, "boltzmann", caption, header, rows)


def _temperature_axis(axes, ladder: Mapping[str, Any], temperatures: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.set_xlim(temperatures.min() * 0.98, temperatures.max() * 1.02)
    shown = temperatures if len(temperatures) <= 6 else temperatures[:: len(temperatures) // 4]
    axes.set_xticks(shown, [number(value, 3) for value in shown])
    axes.minorticks_off()
    axes.set_xlabel("temperature" + _unit(ladder))
