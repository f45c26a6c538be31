"""The section on sheared Rayleigh-Boltzmann flows: which law the particles reach, beside what theory says.

``results["shear"]`` holds ``regime``, ``gamma``, ``log_times``, ``collisions``, ``arrived``, ``violations``, and by regime one of
``growing`` (``curves``, ``rows``, ``ends``, ``constant``, ``windows``), ``frozen`` (``frozen_share``, ``never_share``,
``expected_never``), ``moments`` (``rows``, ``critical_rate``, ``growth``, ``lyapunov``, ``tail_exponent``) and ``stationary``
(``energies``, ``covariance``); every key may be absent.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.sections import Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import number, percent, with_error

_LEADS = {
    "growing": "Shear wins over collisions, but no profile takes over: on a logarithmic scale the velocities spread evenly "
    "between two powers of time.",
    "frozen": "Fast particles hardly collide, so that shear outruns the collisions: after a while there are no more of them.",
    "borderline": "The borderline between growing and frozen: the hazard of a collision grows with the logarithm of time.",
    "moments": "For Maxwell molecules second moments obey a closed equation, beside which the particles stand.",
    "stationary": "Collisions come more often to fast particles and hold them back: the law becomes stationary.",
}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("shear")
    if not found:
        return None
    plots, blocks = [], []
    growing, moments = found.get("growing") or {}, found.get("moments") or {}
    if growing.get("curves"):
        plots.append(law(growing))
        blocks.append(_growing_table(growing))
    if moments.get("rows"):
        plots.append(closed_moments(moments))
        blocks.append(_moment_facts(moments))
    if (found.get("frozen") or {}).get("frozen_share"):
        plots.append(freezing(found["frozen"], found["log_times"]))
        blocks.append(_frozen_facts(found["frozen"]))
    if (found.get("stationary") or {}).get("energies"):
        plots.append(energies(found["stationary"], found["log_times"]))
    plots.append(collisions(found["log_times"], found["collisions"], found.get("regime", "")))
    lead = _LEADS.get(found.get("regime", ""), "Particles in a flow.")
    return Section("Velocities under shear", lead, [Figures(plots), *blocks], _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    growing, moments = found.get("growing") or {}, found.get("moments") or {}
    facts = []
    if growing.get("rows"):
        last = growing["rows"][-1]
        facts.append(
            Fact(
                "distance from the log-uniform law",
                number(last["distance"], 2),
                f"at log t = {number(last['log_time'])}",
            )
        )
    if (found.get("frozen") or {}).get("never_share") is not None:
        frozen = found["frozen"]
        facts.append(
            Fact(
                "particles that never collide",
                percent(frozen["never_share"]),
                f"closed form {percent(frozen['expected_never'])}",
            )
        )
    if moments:
        facts.append(Fact("critical shear rate of the energy", number(moments["critical_rate"])))
    facts.append(
        Fact(
            "collisions per particle",
            number(found["collisions"][-1], 3),
            f"up to log t = {number(found['log_times'][-1])}",
        )
    )
    return facts[:2]


def law(growing: Mapping[str, Any]) -> Plot:
    """Histograms of log|w2| / log t at several times, and the density c / y."""
    low, high = growing["ends"]
    curves = growing["curves"][-3:]
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.2)
        colours = [style.THEMED[name] for name in ("muted", "green", "blue")][-len(curves) :]
        for curve, colour in zip(curves, colours, strict=True):
            axes.stairs(
                curve["density"],
                curve["edges"],
                color=colour,
                label=f"log t = {number(curve['log_time'])}",
                linewidth=1.3,
            )
        y = np.linspace(low, high, 200)
        axes.plot(y, growing["constant"] / y, color=style.THEMED["vermilion"], linestyle="--", label="c / y")
        axes.set_xlabel("log|w₂| / log t")
        axes.set_ylabel("density")
        axes.legend(loc="upper right", handlelength=1.5, fontsize=8.5)
        caption = (
            "Transverse velocities on the scale of powers of time; dashed: the log-uniform law between 1/a − 1 and 1/a."
        )
        last = growing["curves"][-1]
        rows = list(zip(last["edges"][:-1], last["edges"][1:], last["density"], strict=True))
        return style.finish(figure, "shear-law", caption, ["from", "to", "density"], rows)


def collisions(log_times: list[float], counts: list[float], regime: str) -> Plot:
    """Mean number of collisions up to each time."""
    doubling = regime == "growing" and min(log_times) > 0
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.0)
        axes.grid(axis="y")
        axes.plot(log_times, counts, marker="o", color=style.THEMED["blue"], markersize=4.5)
        if doubling:
            axes.set_xscale("log")
            axes.set_xticks(log_times, [number(value) for value in log_times])
            axes.minorticks_off()
        axes.set_xlabel("log t" + (" (logarithmic scale)" if doubling else ""))
        axes.set_ylabel("collisions per particle")
        caption = "Collisions per particle up to time t."
        if doubling:
            caption += " They grow with log log t: every doubling of log t brings as many."
        return style.finish(
            figure, "shear-collisions", caption, ["log t", "collisions"], list(zip(log_times, counts, strict=True))
        )


def freezing(frozen: Mapping[str, Any], log_times: list[float]) -> Plot:
    """Share of the particles whose last collision is over."""
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.0)
        axes.grid(axis="y")
        axes.plot(log_times, frozen["frozen_share"], marker="o", color=style.THEMED["blue"], markersize=4.5)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("log t")
        axes.set_ylabel("share after their last collision")
        caption = "Collisions freeze: share of particles that do not collide again before the last time shown."
        rows = list(zip(log_times, frozen["frozen_share"], strict=True))
        return style.finish(figure, "shear-freezing", caption, ["log t", "share"], rows)


def closed_moments(moments: Mapping[str, Any]) -> Plot:
    """Second moments with two standard errors, and their closed equation."""
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.2)
        names = list(dict.fromkeys(row["moment"] for row in moments["rows"]))
        for name, colour in zip(names, ("blue", "vermilion", "green", "purple"), strict=False):
            rows = [row for row in moments["rows"] if row["moment"] == name]
            x = [row["log_time"] for row in rows]
            axes.plot(x, [row["exact"] for row in rows], color=style.THEMED[colour], linewidth=1.2)
            errors = [2 * row["standard_error"] for row in rows]
            label = f"⟨w{name[0]} w{name[1]}⟩".translate(str.maketrans("123", "₁₂₃"))
            axes.errorbar(
                x,
                [row["value"] for row in rows],
                errors,
                fmt="o",
                color=style.THEMED[colour],
                markersize=4,
                label=label,
            )
        axes.set_xlabel("log t")
        axes.set_ylabel("second moments")
        axes.legend(loc="best", fontsize=8.5)
        caption = "Second moments of the particles, bars of two standard errors; lines: the closed moment equation."
        header = ["log t", "moment", "value", "standard error", "exact"]
        rows = [
            [row["log_time"], row["moment"], row["value"], row["standard_error"], row["exact"]]
            for row in moments["rows"]
        ]
        return style.finish(figure, "shear-moments", caption, header, rows)


def energies(stationary: Mapping[str, Any], log_times: list[float]) -> Plot:
    """Mean kinetic energy against time."""
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.0)
        axes.grid(axis="y")
        axes.plot(log_times, stationary["energies"], marker="o", color=style.THEMED["blue"], markersize=4.5)
        axes.axhline(1.5, color=style.THEMED["muted"], linewidth=1.0, linestyle="--")
        axes.set_xlabel("log t")
        axes.set_ylabel("mean kinetic energy (kT)")
        caption = "Heating by shear until collisions balance it; dashed: equilibrium."
        rows = list(zip(log_times, stationary["energies"], strict=True))
        return style.finish(figure, "shear-energy", caption, ["log t", "energy"], rows)


# Tables ---------------------------------------------------------------------------------------------------------------
def _growing_table(growing: Mapping[str, Any]) -> Table:
    windows = {round(row["window"][1], 6): row for row in growing.get("windows") or ()}
    body = []
    for row in growing["rows"]:
        pair = windows.get(round(row["log_time"], 6))
        beside = "" if pair is None else f"{number(pair['collisions'], 4)} and {number(pair['related'], 4)}"
        remark = "" if pair is None else f"{abs(pair['sigmas']):.1f} σ apart"
        body.append(
            [
                Cell(number(row["log_time"])),
                Cell(number(row["distance"], 3)),
                Cell(number(row["memory"], 2)),
                Cell(percent(row["on_line"])),
                Cell(beside, remark),
            ]
        )
    columns = [
        "log t",
        "distance from log-uniform",
        "memory of the start",
        "on w₁ = −K w₂ t",
        "collisions in related windows",
    ]
    note = (
        "Distance: Kolmogorov and Smirnov. Memory: first Fourier mode of log log|w₂|, 0 for the log-uniform law; what is "
        "left of it at late times stays for ever. Windows: from the line before to this one, and the same times 1 − a; for "
        "any start equal up to a known shift of their ends, which is taken out before σ is stated."
    )
    return Table(columns, body, note=note)


def _moment_facts(moments: Mapping[str, Any]) -> Facts:
    facts = [
        Fact("critical shear rate", number(moments["critical_rate"]), "beyond it second moments grow without limit"),
        Fact("growth rate of the energy", number(moments["growth"]), "negative: relaxation"),
        Fact(
            "Lyapunov exponent of a typical speed",
            with_error(moments["lyapunov"], None),
            "negative: the law becomes stationary",
        ),
    ]
    if moments.get("tail_exponent") is not None:
        facts.append(
            Fact(
                "tail of the stationary law",
                f"|w|^−{number(3 + moments['tail_exponent'], 3)}",
                "exponent from the generator",
            )
        )
    return Facts(facts, "Thresholds")


def _frozen_facts(frozen: Mapping[str, Any]) -> Facts:
    facts = [
        Fact("median distance from w₁ = −K w₂ t", number(frozen.get("deviation"), 2), "in log |w₁|, at the last time")
    ]
    if frozen.get("never_share") is not None:
        remark = f"{abs(frozen['sigmas']):.1f} σ from the closed form {number(frozen['expected_never'], 4)}"
        facts.insert(0, Fact("share that never collides", number(frozen["never_share"], 4), remark))
    return Facts(facts, "Frozen collisions")
