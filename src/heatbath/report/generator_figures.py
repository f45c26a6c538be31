"""Figures of a Boltzmann generator: its maps, energies, weights, and how it was trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from heatbath.report import style
from heatbath.report.style import Plot
from heatbath.report.surfaces import HIGHEST, dress, values
from heatbath.report.words import axis_label

_PANELS = {"model": "model alone", "unweighted": "model alone", "reweighted": "reweighted", "reference": "reference"}
_CHECKED = ("loss", "ess", "forward_ess")
_SERIES = {
    "reference": ("muted", "reference"),
    "model": ("vermilion", "model alone"),
    "reweighted": ("blue", "reweighted"),
}


def ramachandran(surfaces: Mapping[str, Mapping[str, Any]]) -> Plot:
    """Free energy over the same two torsions: the model, the reweighted draws, the reference, on one scale of colours."""
    panels = {name: surfaces[name] for name in _PANELS if surfaces.get(name)}
    energies = [np.ma.masked_greater(np.ma.masked_invalid(values(s["free_energy"])), HIGHEST) for s in panels.values()]
    highest = max([2.0, *(math.ceil(float(energy.max())) for energy in energies if energy.count())])
    with style.settings():
        figure, row = style.canvas(9.6, 3.2, len(panels), sharey=True)
        rows = []
        for axes, (name, surface), energy in zip(row, panels.items(), energies, strict=True):
            scales = [180 / math.pi if unit == "rad" else 1.0 for unit in surface["units"]]
            edges = [scale * values(edge) for scale, edge in zip(scales, surface["edges"], strict=True)]
            axes.set_facecolor(style.THEMED["unseen"])
            mesh = axes.pcolormesh(*edges, energy.T, cmap=style.SURFACE_MAP, vmin=0, vmax=highest, rasterized=True)
            dress(axes, surface, edges)
            if surface["units"] == ["rad", "rad"]:
                axes.set_aspect("equal")
                axes.set_xticks((-120, 0, 120))
                axes.set_yticks((-120, 0, 120))
            axes.set_title(_PANELS[name])
            rows += _cells(name, edges, surface["free_energy"])
        row[0].set_ylabel(axis_label(surface["labels"][1], surface["units"][1]))
        bar = figure.colorbar(mesh, ax=row, pad=0.01, fraction=0.03)
        bar.set_label("free energy (kT)")
        bar.outline.set_visible(False)
        labels = [axis_label(*pair) for pair in zip(surface["labels"], surface["units"], strict=True)]
        caption = f"Free energy on one scale of colours; grey lies above {HIGHEST:.0f} kT or was never visited."
        return style.finish(figure, "generator-maps", caption, ["draws", *labels, "free energy (kT)"], rows)


def _cells(name: str, edges: Sequence[np.ndarray], energy: Sequence) -> list[tuple]:
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    return [
        (name, a, b, "" if energy[i][j] is None else energy[i][j]) for i, a in enumerate(x) for j, b in enumerate(y)
    ]


def energies(histogram: Mapping[str, Any]) -> Plot:
    """Densities of the energy: filled for the reference, lines for the model before and after reweighting."""
    edges = values(histogram["edges"])
    shown = {name: values(histogram[name]) for name in _SERIES if histogram.get(name) is not None}
    unit = histogram.get("unit", "kT")
    with style.settings():
        figure, (axes,) = style.canvas(3.6, 2.8)
        for name, density in shown.items():
            colour, label = style.THEMED[_SERIES[name][0]], _SERIES[name][1]
            if name == "reference":
                axes.stairs(density, edges, fill=True, color=colour, alpha=0.35, label=label)
            else:
                axes.stairs(density, edges, color=colour, linewidth=1.6, label=label)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"potential energy ({unit})")
        axes.legend(loc="upper right", handlelength=1.3, fontsize=8)
        rows = list(zip(edges[:-1], edges[1:], *(density.tolist() for density in shown.values()), strict=True))
        aim = " Reweighting must turn the model's curve into the reference." if "reference" in shown else ""
        caption = f"Energies of the draws.{aim}"
        return style.finish(figure, "generator-energies", caption, ["from", "to", *shown], rows)


def weights(curve: Mapping[str, Any], cut: float | int | None = None) -> Plot:
    """Share of the total weight that the heaviest draws carry; equal weights lie on the dashed line."""
    draws, share = values(curve["draws"]), values(curve["share"])
    with style.settings():
        figure, (axes,) = style.canvas(3.6, 2.8)
        axes.grid(axis="y")
        axes.plot(100 * draws, 100 * draws, "--", color=style.THEMED["muted"], linewidth=1.2, label="equal weights")
        axes.plot(100 * draws, 100 * share, color=style.THEMED["blue"], label="this run")
        if cut:
            label = f"{100 * cut:g} %, cut in the literature"
            axes.axvline(
                100 * cut, ymax=0.66, color=style.THEMED["vermilion"], linewidth=1.2, linestyle=":", label=label
            )
        axes.set_xscale("log")
        low = float(100 * draws[draws > 0].min(initial=1.0))
        axes.set_xlim(low, 100)
        ticks = [tick for tick in (0.001, 0.01, 0.1, 1, 10, 100) if tick >= 0.99 * low]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(0, 102)
        axes.set_xlabel("heaviest draws (%)")
        axes.set_ylabel("of the weight (%)")
        axes.legend(loc="upper left", handlelength=1.5, fontsize=8)
        caption = "How much of the weight the heaviest draws carry: the lower the curve, the better the model."
        rows = list(zip(draws.tolist(), share.tolist(), strict=True))
        return style.finish(figure, "generator-weights", caption, ["share of draws", "share of weight"], rows)


def training(curve: Mapping[str, Any], width: float = 3.6) -> Plot:
    """Loss and held-out loss above, effective draws of the model in training below; ``width`` in inches."""
    step, loss = values(curve["step"]), values(curve["loss"])
    held_step = values(curve.get("validation_step") or ())
    held = {name: values(curve.get(f"validation_{name}") or ()) for name in _CHECKED}
    held = {name: column for name, column in held.items() if column.size == held_step.size and column.size}
    with style.settings():
        figure, (upper,) = style.canvas(width, 2.8)
        bottom = upper
        if "ess" in held:
            upper.remove()
            upper, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
            _efficiency_panel(bottom, held_step, held)
        _loss_panel(upper, step, loss, held_step, held.get("loss"))
        bottom.set_xlabel("training step")
        bottom.xaxis.set_major_locator(MaxNLocator(4))
        parts = {"ess": "effective draws", "loss": "held-out loss"}
        shown = " and ".join(parts[name] for name in ("loss", "ess") if name in held)
        caption = f"Training: loss{', ' + shown if shown else ''}."
        rows = [("training", x, y, "", "") for x, y in zip(step, loss, strict=True)]
        rows += [
            ("validation", x, *(column[i] if column is not None else "" for column in map(held.get, _CHECKED)))
            for i, x in enumerate(held_step)
        ]
        header = ["kind", "step", "loss", "effective share", "forward effective share"]
        return style.finish(figure, "generator-training", caption, header, rows)


def _loss_panel(axes, step: np.ndarray, loss: np.ndarray, held_step: np.ndarray, held_loss: np.ndarray | None) -> None:
    axes.grid(axis="y")
    axes.plot(step, loss, color=style.THEMED["blue"], linewidth=1.2, label="training")
    seen = [loss]
    if held_loss is not None:
        look = {"marker": _marker(held_step), "markersize": 3.5}
        axes.plot(held_step, held_loss, color=style.THEMED["vermilion"], label="held out", **look)
        seen.append(held_loss)
    axes.set_ylim(*_seen(np.concatenate(seen)))
    axes.set_ylabel("loss")
    axes.legend(loc="upper right", handlelength=1.4, fontsize=8)


def _efficiency_panel(axes, step: np.ndarray, held: Mapping[str, np.ndarray]) -> None:
    """Effective share of the model's own draws, and of reference draws where it is known."""
    axes.grid(axis="y")
    axes.plot(step, 100 * held["ess"], color=style.THEMED["green"], marker=_marker(step), markersize=3.5, label="own")
    highest = [held["ess"]]
    if "forward_ess" in held:
        axes.plot(step, 100 * held["forward_ess"], "--", color=style.THEMED["purple"], linewidth=1.4, label="forward")
        axes.legend(loc="lower right", ncols=2, handlelength=1.4, fontsize=8)
        highest.append(held["forward_ess"])
    axes.set_ylabel("effective (%)")
    axes.set_ylim(0, 1.2 * max(0.01, 100 * float(np.nanmax(np.concatenate(highest), initial=0.0))))


def _marker(steps: np.ndarray) -> str | None:
    return "o" if steps.size <= 40 else None


def _seen(loss: np.ndarray) -> tuple[float, float]:
    """Limits that show the end of the training: the first steps may be hundreds of nats higher."""
    finite = loss[np.isfinite(loss)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(np.quantile(finite, 0.9))
    margin = 0.08 * max(high - low, 1e-3)
    return low - margin, high + 4 * margin
