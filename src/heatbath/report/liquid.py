"""The section on supercooled liquids: energies and heat capacities by every method, whom not to trust, and what the error costs.

``results["liquid"]`` holds ``particles``, ``temperatures``, ``compared``, ``goal``, ``labels``, ``methods`` (name -> columns over
the temperatures and ``cost``) and, every key optional, ``structure``, ``log_z``, ``confident`` and ``flows``.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from heatbath.report import style
from heatbath.report.sections import Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import DASH, number, percent, with_error

_COLOURS = {
    "swap": "ink",
    "local": "vermilion",
    "dynamics": "muted",
    "tempering": "blue",
    "annealing": "green",
    "flow-annealing": "purple",
}
_MARKERS = {"swap": "o", "local": "v", "dynamics": "s", "tempering": "D", "annealing": "^", "flow-annealing": "P"}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("liquid")
    if not found:
        return None
    blocks: list[Any] = [Figures([energies(found), capacities(found)])]
    if found.get("confident"):
        blocks.append(Figures([confident(found)]))
    blocks += [_means(found), Figures([costs(found)]), _costs(found)]
    last = [plot for plot in (populations(found), structure(found)) if plot is not None]
    if last:
        blocks.append(Figures(last))
    blocks += _facts(found)
    lead = (
        f"The two-dimensional ternary liquid of {found['particles']} particles by {len(found['methods'])} methods on one energy "
        "function. Swap Monte Carlo is the reference; every energy is counted in units of one sum over all pairs, those of "
        "starts, warm-up, pilot and training included."
    )
    return Section("Supercooled liquid", lead, blocks, _headline(found))


def _label(found: Mapping[str, Any], name: str) -> str:
    return found["labels"][name]


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    facts = []
    reference = found["methods"]["swap"]
    at = found["temperatures"].index(found["compared"])
    facts.append(
        Fact(
            f"U/N at T = {number(found['compared'])}",
            with_error(reference["energy"][at], reference["energy_error"][at]),
            "swap Monte Carlo",
        )
    )
    ranked = _ranked(found)
    if len(ranked) > 1:
        facts.append(Fact("cheapest besides swap", _label(found, next(n for n in ranked if n != "swap"))))
    wrong = (found.get("confident") or {}).get("wrong")
    if wrong:
        facts.append(
            Fact(
                f"local chains wrong at T = {number(found['temperatures'][0])}",
                percent(wrong[0]),
                "by their own error bars",
            )
        )
    return facts


def energies(found: Mapping[str, Any]) -> Plot:
    """U/N minus that of the reference, against temperature."""
    reference = found["methods"]["swap"]
    with style.settings():
        figure, (axes,) = style.canvas(5.0, 3.5)
        table, shift = [], _shifts(found)
        axes.axhline(0, color=style.THEMED["muted"], linewidth=0.8)
        for name, method in found["methods"].items():
            y = [value - other for value, other in zip(method["energy"], reference["energy"], strict=True)]
            errors = [2 * e for e in method["energy_error"]]
            x = [t + shift[name] for t in found["temperatures"]]
            axes.errorbar(
                x, y, errors, fmt=_MARKERS[name], color=style.THEMED[_COLOURS[name]], markersize=4, linewidth=1.2,
                label=_label(found, name),
            )  # fmt: skip
            rows = zip(found["temperatures"], method["energy"], method["energy_error"], strict=True)
            table += [[_label(found, name), *row] for row in rows]
        axes.set_xlabel("T")
        axes.set_ylabel("U/N − reference")
        axes.legend(loc="best", fontsize=8, handlelength=1.2)
        caption = "Mean energy per particle, less that of swap Monte Carlo, with two standard errors."
        return style.finish(figure, "liquid-energies", caption, ["method", "T", "U/N", "standard error"], table)


def capacities(found: Mapping[str, Any]) -> Plot:
    """c_V against temperature."""
    with style.settings():
        figure, (axes,) = style.canvas(5.0, 3.5)
        table, shift = [], _shifts(found)
        for name, method in found["methods"].items():
            x = [t + shift[name] for t in found["temperatures"]]
            errors = [2 * e for e in method["capacity_error"]]
            axes.errorbar(
                x, method["capacity"], errors, fmt=_MARKERS[name], color=style.THEMED[_COLOURS[name]], markersize=4,
                linewidth=1.2, label=_label(found, name),
            )  # fmt: skip
            rows = zip(found["temperatures"], method["capacity"], method["capacity_error"], strict=True)
            table += [[_label(found, name), *row] for row in rows]
        axes.set_xlabel("T")
        axes.set_ylabel("heat capacity per particle")
        caption = "Configurational heat capacity from fluctuations of U, with two standard errors."
        return style.finish(figure, "liquid-capacities", caption, ["method", "T", "c_V", "standard error"], table)


def _shifts(found: Mapping[str, Any]) -> dict[str, float]:
    """Small horizontal offsets, so that error bars of one temperature can be told apart."""
    gaps = [b - a for a, b in itertools.pairwise(found["temperatures"])]
    names, step = list(found["methods"]), 0.12 * min(gaps)
    return {name: step * (index - 0.5 * (len(names) - 1)) for index, name in enumerate(names)}


def confident(found: Mapping[str, Any]) -> Plot:
    """Independent chains of local Monte Carlo, each with the error bar it would claim."""
    chains, reference = found["confident"], found["methods"]["swap"]
    temperatures = found["temperatures"]
    gaps = [b - a for a, b in itertools.pairwise(temperatures)]
    with style.settings():
        figure, (axes,) = style.canvas(6.4, 3.6)
        table = []
        for k, t in enumerate(temperatures):
            count = len(chains["means"][k])
            width = 0.7 * min(gaps[max(0, k - 1)], gaps[min(k, len(gaps) - 1)])
            for c, (mean, error) in enumerate(zip(chains["means"][k], chains["errors"][k], strict=True)):
                x = t + width * ((c + 0.5) / count - 0.5)
                label = "one local chain, two of its own standard errors" if k == c == 0 else None
                y = mean - reference["energy"][k]
                axes.errorbar(
                    [x],
                    [y],
                    [2 * error],
                    fmt="v",
                    color=style.THEMED["vermilion"],
                    markersize=3,
                    linewidth=1.0,
                    label=label,
                )
                table.append([t, c + 1, mean, error, chains["sigmas"][k][c]])
            axes.plot([t - width / 2, t + width / 2], [0, 0], color=style.THEMED["ink"], linewidth=1.4)
        axes.set_xlabel("T")
        axes.set_ylabel("U/N − reference")
        axes.legend(loc="best", fontsize=8.5)
        caption = (
            "Wrong but confident: independent starts of local Monte Carlo at every temperature. At low T they disagree with "
            "each other and with swap Monte Carlo (lines) by many of their own error bars."
        )
        columns = ["T", "chain", "U/N", "error claimed", "deviation in errors"]
        return style.finish(figure, "liquid-confident", caption, columns, table)


def _ranked(found: Mapping[str, Any]) -> list[str]:
    """Methods that reach the goal, cheapest first."""
    usable = {
        name: method["cost"]["evaluations"] for name, method in found["methods"].items() if method["cost"]["unbiased"]
    }
    return sorted(usable, key=lambda name: usable[name])


def costs(found: Mapping[str, Any]) -> Plot:
    """Energies needed for the goal."""
    names = sorted(found["methods"], key=lambda name: found["methods"][name]["cost"]["evaluations"], reverse=True)
    with style.settings():
        figure, (axes,) = style.canvas(6.0, 2.8)
        table = []
        for row, name in enumerate(names):
            cost = found["methods"][name]["cost"]
            value, error = cost["evaluations"], cost["relative_error"]
            shown = style.THEMED[_COLOURS[name]]
            axes.barh(row, value, color=shown, alpha=1.0 if cost["unbiased"] else 0.35, height=0.6)
            axes.plot([value / (1 + error), value * (1 + error)], [row, row], color=style.THEMED["ink"], linewidth=1.2)
            if not cost["unbiased"]:
                axes.text(value * (1 + error) * 1.15, row, "biased", va="center", fontsize=8.5)
            table.append([_label(found, name), value, error, cost["seconds"]])
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.set_yticks(range(len(names)), [_label(found, name) for name in names])
        axes.set_xlabel(f"energies for an error of {number(found['goal'])} in U/N at T = {number(found['compared'])}")
        caption = (
            "Cost of equal error, everything counted. Pale: the mean is wrong, which more of the same cannot mend."
        )
        return style.finish(figure, "liquid-costs", caption, ["method", "energies", "relative error", "seconds"], table)


def populations(found: Mapping[str, Any]) -> Plot | None:
    """Effective share of the weights at every step, with and without flows."""
    shown = [name for name in ("annealing", "flow-annealing") if name in found["methods"]]
    if not shown:
        return None
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.1)
        table = []
        for name in shown:
            method = found["methods"][name]
            x, y, e = method["levels"], method["ess"], [2 * v for v in method["ess_error"]]
            axes.errorbar(
                x, y, e, fmt=_MARKERS[name] + "-", color=style.THEMED[_COLOURS[name]], markersize=4, linewidth=1.2,
                label=_label(found, name),
            )  # fmt: skip
            rho, entropy = method["rho"], method["family_entropy"]
            table += [[_label(found, name), *row] for row in zip(x, y, rho, entropy, strict=True)]
        axes.set_ylim(0, 1)
        axes.set_xscale("log")
        reached = found["methods"][shown[0]]["levels"]
        ticks = [t for t in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 2, 3, 5, 10) if min(reached) <= t <= max(reached)]
        axes.set_xticks(ticks, [number(t) for t in ticks])
        axes.minorticks_off()
        axes.set_xlabel("T reached")
        axes.set_ylabel("effective share of the weights")
        axes.legend(loc="best", fontsize=8.5)
        caption = "Effective sample size of every step in temperature over the size of the population."
        return style.finish(figure, "liquid-ess", caption, ["method", "T", "share", "rho", "family entropy"], table)


def structure(found: Mapping[str, Any]) -> Plot | None:
    """g(r) at the lowest temperature."""
    made = found.get("structure")
    if not made:
        return None
    with style.settings():
        figure, (axes,) = style.canvas(4.7, 3.1)
        for name, colour, label in (("all", "ink", "all pairs"), ("11", "blue", "1–1"), ("12", "vermilion", "1–2")):
            axes.plot(made["r"], made[name], color=style.THEMED[colour], linewidth=1.2, label=label)
        axes.set_xlabel("r")
        axes.set_ylabel("g(r)")
        axes.legend(loc="best", fontsize=8.5)
        caption = f"Radial distribution functions at T = {number(found['temperatures'][0])} (swap Monte Carlo)."
        table = list(zip(made["r"], made["all"], made["11"], made["12"], strict=True))
        return style.finish(figure, "liquid-structure", caption, ["r", "all", "1-1", "1-2"], table)


def _means(found: Mapping[str, Any]) -> Table:
    rows = []
    names = list(found["methods"])
    for k, t in enumerate(found["temperatures"]):
        cells = [Cell(number(t))]
        for name in names:
            method = found["methods"][name]
            z = method.get("deviations")
            value, _, error = with_error(method["energy"][k], method["energy_error"][k]).partition(" ± ")
            away = "" if z is None else f", {z[k]:+.1f} σ".replace("-", "−")
            cells.append(Cell(value, f"± {error}{away}"))
        rows.append(cells)
    note = "Below each number its error between independent units, and its distance from swap Monte Carlo as a normal deviate."
    return Table(["T", *(_label(found, name) for name in names)], rows, "Mean energy per particle", note)


def _costs(found: Mapping[str, Any]) -> Table:
    rows = []
    cheapest = min(method["cost"]["evaluations"] for method in found["methods"].values())
    for name in sorted(found["methods"], key=lambda name: found["methods"][name]["cost"]["evaluations"]):
        method = found["methods"][name]
        cost = method["cost"]
        training = method["training_evaluations"]
        rows.append(
            [
                Cell(_label(found, name), "" if cost["unbiased"] else "mean is wrong"),
                Cell(number(cost["evaluations"], 2), f"± {percent(cost['relative_error'])}"),
                Cell(number(cost["evaluations"] / cheapest, 2)),
                Cell(number(cost["seconds"], 2)),
                Cell(number(training, 2) if training else DASH),
                Cell(number(method["evaluations"], 3), f"{number(method['seconds'], 3)} s"),
            ]
        )
    columns = [
        "method",
        "energies to the goal",
        "times the cheapest",
        "seconds to the goal",
        "of these, training",
        "this run",
    ]
    note = f"Goal: an error of {number(found['goal'])} in U/N at T = {number(found['compared'])}."
    return Table(columns, rows, "Cost of equal error", note)


def _facts(found: Mapping[str, Any]) -> list[Facts]:
    cards = []
    if found.get("log_z"):
        facts = [Fact(row["way"], with_error(row["value"], row["error"])) for row in found["log_z"]]
        ends = f"ln Z(T = {number(found['temperatures'][0])}) / Z(T = {number(found['temperatures'][-1])})"
        cards.append(Facts(facts, ends))
    if found.get("flows"):
        made = found["flows"]
        facts = [
            Fact(f"T = {number(t)}", percent(left), "of the variance of the rate of work is left")
            for t, left in zip(made["temperatures"], made["remaining"], strict=True)
        ]
        cards.append(Facts(facts, "What the flows do, on held-out configurations"))
    return cards
