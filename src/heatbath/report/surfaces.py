"""Figures of free-energy surfaces: maps of two coordinates, and profiles of one with error bands."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.style import Plot
from heatbath.report.words import axis_label, pretty

#: Maps and profiles show this many kT; what lies higher is rarer than one in 20 000 and says more about noise.
HIGHEST = 10.0


def maps(surfaces: Mapping[str, Mapping[str, Any]], basins: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """One map per two-dimensional surface; the representatives of the basins are marked with their numbers."""
    pairs = {name: s for name, s in surfaces.items() if len(s["edges"]) == 2}
    return [_map(f"surface-{index}", name, surface, basins) for index, (name, surface) in enumerate(pairs.items())]


def profiles(surfaces: Mapping[str, Mapping[str, Any]]) -> list[Plot]:
    """One profile per one-dimensional surface."""
    single = {name: s for name, s in surfaces.items() if len(s["edges"]) == 1}
    return [_profile(f"profile-{index}", name, surface) for index, (name, surface) in enumerate(single.items())]


def values(nested: Sequence) -> np.ndarray:
    """Numbers from JSON; null becomes NaN."""
    return np.array(nested, dtype=float)


def _scale(unit: str) -> float:
    return 180 / math.pi if unit == "rad" else 1.0


def _map(key: str, name: str, surface: Mapping[str, Any], basins: Sequence[Mapping[str, Any]]) -> Plot:
    scales = [_scale(unit) for unit in surface["units"]]
    edges = [scale * values(edge) for scale, edge in zip(scales, surface["edges"], strict=True)]
    energy = np.ma.masked_invalid(values(surface["free_energy"]))
    hidden = bool((energy > HIGHEST).any())
    energy = np.ma.masked_greater(energy, HIGHEST)
    highest = max(2.0, math.ceil(float(energy.max()))) if energy.count() else 2.0
    with style.settings():
        figure, (axes,) = style.canvas(5.4, 4.6)
        axes.set_facecolor(style.THEMED["unseen"])
        mesh = axes.pcolormesh(*edges, energy.T, cmap=style.SURFACE_MAP, vmin=0, vmax=highest, rasterized=True)
        _contours(axes, surface, edges, energy, highest)
        bar = figure.colorbar(mesh, ax=axes, pad=0.02)
        bar.set_label("free energy (kT)")
        bar.outline.set_visible(False)
        dress(axes, surface, edges)
        axes.set_ylabel(axis_label(surface["labels"][1], surface["units"][1]))
        _mark(axes, surface, scales, basins)
        grey = f"grey lies above {HIGHEST:.0f} kT or was never visited" if hidden else "grey was never visited"
        caption = f"Free energy over {pretty(name)}; lines every 2 kT; {grey}."
        centres = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
        rows = [
            (x, y, _cell(surface["free_energy"][i][j]), _cell(surface["standard_error"][i][j]))
            for i, x in enumerate(centres[0])
            for j, y in enumerate(centres[1])
        ]
        header = [*(axis_label(*pair) for pair in zip(surface["labels"], surface["units"], strict=True))]
        return style.finish(figure, key, caption, [*header, "free energy (kT)", "standard error (kT)"], rows)


def _contours(axes, surface, edges, energy, highest) -> None:
    """Lines every 2 kT, drawn across the seam of a circle."""
    centres = []
    for axis, edge in enumerate(edges):
        centre = (edge[1:] + edge[:-1]) / 2
        period = surface["period"][axis]
        if period is not None:
            turn = period * _scale(surface["units"][axis])
            energy = np.ma.concatenate([energy.take([-1], axis=axis), energy, energy.take([0], axis=axis)], axis=axis)
            centre = np.concatenate([[centre[-1] - turn], centre, [centre[0] + turn]])
        centres.append(centre)
    levels = np.arange(1.0, highest, 2.0)
    if levels.size and energy.count() > 4:
        axes.contour(*centres, energy.T, levels=levels, colors="white", linewidths=0.6, alpha=0.75)


def dress(axes, surface, edges) -> None:
    """Limits, ticks at round angles, and the label of the first coordinate."""
    axes.set_xlim(edges[0][0], edges[0][-1])
    axes.set_xlabel(axis_label(surface["labels"][0], surface["units"][0]))
    for axis, edge, unit in zip((axes.xaxis, axes.yaxis), edges, surface["units"], strict=False):
        if unit == "rad":
            axis.set_ticks(np.arange(math.ceil(edge[0] / 60 - 1e-6) * 60, edge[-1] + 1e-6, 60))
    if len(edges) == 2:
        axes.set_ylim(edges[1][0], edges[1][-1])
        axes.spines[["top", "right"]].set_visible(True)


def _mark(axes, surface, scales, basins) -> None:
    names = surface.get("coordinates", ())
    for number, basin in enumerate(basins, start=1):
        at = basin.get("at") or {}
        if not all(name in at for name in names) or len(names) != 2:
            continue
        x, y = (scale * at[name] for scale, name in zip(scales, names, strict=True))
        axes.plot(x, y, "o", markersize=13, color="white", markeredgecolor="black", markeredgewidth=0.8)
        axes.annotate(
            str(number), (x, y), ha="center", va="center_baseline", fontsize=8.5, color="black", weight="bold"
        )


def _profile(key: str, name: str, surface: Mapping[str, Any]) -> Plot:
    scale = _scale(surface["units"][0])
    edges = scale * values(surface["edges"][0])
    centres = (edges[1:] + edges[:-1]) / 2
    energy, error = values(surface["free_energy"]), values(surface["standard_error"])
    with style.settings():
        figure, (axes,) = style.canvas(5.2, 2.9)
        axes.grid(axis="y")
        colour = style.THEMED["blue"]
        spread = np.where(np.isfinite(error), error, 0.0)
        axes.fill_between(centres, energy - 2 * spread, energy + 2 * spread, color=colour, alpha=0.25, linewidth=0)
        axes.plot(centres, energy, color=colour, marker="o" if centres.size <= 40 else None, markersize=4)
        dress(axes, surface, [edges])
        axes.set_ylabel("free energy (kT)")
        top = float(np.nanmax(np.where(np.isfinite(energy), energy + 2 * spread, np.nan), initial=2.0))
        axes.set_ylim(-0.3, min(1.05 * top, HIGHEST + 2))
        caption = f"Free energy along {pretty(name)}; the band is two standard errors."
        rows = [
            (x, _cell(f), _cell(e))
            for x, f, e in zip(centres, surface["free_energy"], surface["standard_error"], strict=True)
        ]
        header = [axis_label(surface["labels"][0], surface["units"][0]), "free energy (kT)", "standard error (kT)"]
        return style.finish(figure, key, caption, header, rows)


def _cell(value: float | int | None) -> object:
    return "" if value is None else value
