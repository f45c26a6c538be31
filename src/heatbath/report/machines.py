"""The section of Boltzmann machines: likelihoods from both sides, learning by update, meeting times, bias, draws.

``results["machines"]`` holds ``data``, ``layers``, ``exact``, ``uniform``, ``training``, ``rules`` (rows with ``history`` and,
once evaluated, ``log_z``, ``nats``, ``kl``), ``mixture``, ``meetings``, ``bias`` (rows) and ``pictures``; see
``experiments/machine_results.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter

from heatbath.report import style
from heatbath.report.nade import image_tiles, show_tiles
from heatbath.report.sections import Block, Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import DASH, duration, number, percent, with_error

_NAMES = {"unbiased": "unbiased", "persistent": "persistent (PCD)", "contrastive-divergence": "plain (CD)"}
_COLOURS = {"unbiased": "vermilion", "persistent": "blue", "contrastive-divergence": "green"}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("machines")
    if not found:
        return None
    plots = [learning(found)]
    if found["meetings"]:
        plots.append(meeting_times(found["meetings"], found["training"]["cap"]))
    blocks: list[Block] = [_table(found), Figures(plots)]
    more = [bias(found["bias"])] if found["bias"] else []
    more += [draws(found["pictures"])] if found["pictures"] else []
    if more:
        blocks.append(Figures(more))
    blocks.append(Facts(_facts(found)))
    lead = (
        "The same machine, learned from the same start by the same number of updates. Rules differ in where their free chains "
        "come from; the unbiased one pays for the exact mean with variance and with chains that must meet."
    )
    return Section("Boltzmann machines", lead, blocks, _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    first = found["rules"][0]
    if "nats" not in first:
        return []
    if found["uniform"]:
        return [Fact("divergence from the data", f"{number(first['kl'], 3)} nats", _NAMES[first["name"]])]
    return [Fact("nats per test row", _text(first["nats"]), f"{_NAMES[first['name']]}, with log Z from above")]


def _text(fields: Mapping[str, Any]) -> str:
    return with_error(fields["value"], fields["standard_error"])


def _table(found: Mapping[str, Any]) -> Table:
    body = []
    for row in found["rules"]:
        done = "nats" in row
        cells = [Cell(_NAMES[row["name"]], f"{number(row['steps'], 8)} updates")]
        if found["uniform"]:
            cells.append(Cell(number(row["kl"], 3) if done else DASH))
        else:
            cells += [
                Cell(_text(row["nats"]) if done else DASH),
                Cell(number(row["nats_by_lower"], 5) if done else DASH),
            ]
        cells.append(Cell(_bounds(row["log_z"], exact=found["exact"]) if done else DASH))
        cut = DASH if row["truncated"] is None else percent(row["truncated"])
        last = "" if row["truncated_last"] is None else f"{percent(row['truncated_last'])} at the end"
        cells += [Cell(cut, last), Cell(duration(row["seconds"]))]
        body.append(cells)
    if found["mixture"]:
        name = Cell("mixture of Bernoullis", f"{found['mixture']['components']} components")
        nats = _text(found["mixture"]["nats"])
        kl = found["mixture"]["nats"]["value"] - np.log(found["data"]["tested"])
        rest = [Cell(number(float(kl), 3))] if found["uniform"] else [Cell(nats), Cell(nats)]
        body.append([name, *rest, Cell(""), Cell(""), Cell("")])
    nats = ["nats from the data"] if found["uniform"] else ["nats per row, log Z from above", "log Z from below"]
    note = (
        "The divergence KL(data || machine) by sums over all states."
        if found["uniform"]
        else "Quoted with log Z from above, which makes a machine look worse, not better. Errors are standard errors over test "
        "rows and chains."
    )
    return Table(["learned by", *nats, "log Z", "pairs cut off", "time"], body, "What was learned", note)


def _bounds(log_z: Mapping[str, float], *, exact: bool) -> str:
    if exact:
        return f"{number(log_z['lower'], 6)}, exact"
    return f"{with_error(log_z['lower'], log_z['lower_error'])} to {with_error(log_z['upper'], log_z['upper_error'])}"


def _facts(found: Mapping[str, Any]) -> list[Fact]:
    data, training = found["data"], found["training"]
    facts = [
        Fact("layers", " - ".join(map(str, found["layers"])), "visible units first"),
        Fact("table", data["name"], data["source"]),
        Fact("unbiased rule", f"H of k = {training['k']}, m = {training['m']}", f"cut off at {training['cap']} sweeps"),
    ]
    if meetings := found["meetings"]:
        share = percent(meetings["within_cap"])
        facts.append(Fact("pairs that meet within the cap", share, "of the first machine as it is now"))
    if found["pictures"]:
        facts.append(Fact("effective draws", percent(found["pictures"]["ess"]), "of the weighted draws by annealing"))
    return facts


def learning(found: Mapping[str, Any]) -> Plot:
    """Divergence or likelihood by update: exact where sums are short, else of held-out rows by short annealing."""
    shift = np.log(found["data"]["tested"]) if found["uniform"] else 0.0
    label = "KL(data || machine), nats" if found["uniform"] else "nats per row"
    with style.settings():
        figure, (axes,) = style.canvas(4.8, 3.5)
        axes.grid(axis="y")
        table = []
        for row in found["rules"]:
            history = row["history"]
            steps, values = (np.array(history.get(name, []), float) for name in ("validation_step", "validation_loss"))
            # the last value is repeated until the next one
            kept = [i for i in range(min(len(steps), len(values))) if steps[i] > 0 and steps[i] not in steps[:i]]
            steps, values = steps[kept], values[kept] - shift
            axes.plot(steps, values, color=style.THEMED[_COLOURS[row["name"]]], label=_NAMES[row["name"]], marker=".")
            table += [(row["name"], *pair) for pair in zip(steps, values, strict=True)]
        if found["uniform"]:
            axes.set_yscale("log")
        axes.set_xlabel("updates")
        axes.set_ylabel(label)
        axes.legend(loc="upper right")
        caption = (
            "Learning by update; every point is a sum over all states of the averaged machine."
            if found["exact"]
            else "Learning by update, of held-out rows under the averaged machine; log Z by short annealing from below. The "
            "table has the numbers to quote."
        )
        return style.finish(figure, "machine-learning", caption, ["rule", "step", label], table)


def meeting_times(found: Mapping[str, Any], cap: int) -> Plot:
    """How many pairs of chains met when."""
    times = np.array(found["times"], float)
    with style.settings():
        figure, (axes,) = style.canvas(4.4, 3.5)
        edges = np.unique(np.round(np.geomspace(1, max(found["longest"], 2), 25)))
        counts, edges = np.histogram(times, np.append(edges, edges[-1] + 1))
        axes.stairs(counts, edges, fill=True, color=style.THEMED["blue"], alpha=0.8)
        axes.axvline(
            cap, color=style.THEMED["vermilion"], linewidth=1.2, linestyle="--", label=f"cap while learning, {cap}"
        )
        axes.set_xscale("log")
        axes.set_xlabel("sweep at which a pair met")
        axes.set_ylabel("pairs of chains")
        axes.legend(loc="upper right")
        caption = (
            f"Meeting times of {len(times)} pairs of chains of the learned machine, from local modes; "
            f"{percent(found['truncated'])} had not met after {found['longest']} sweeps (last bin)."
        )
        rows = list(zip(edges[:-1], counts, strict=True))
        return style.finish(figure, "machine-meetings", caption, ["from sweep", "pairs"], rows)


def bias(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Distance of the mean gradient from the exact one, and what noise alone would give."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.6)
        places = np.arange(len(rows))
        colours = [style.THEMED["vermilion" if row["name"].startswith("unbiased") else "green"] for row in rows]
        axes.barh(places, [row["bias"] for row in rows], color=colours, height=0.65)
        axes.plot(
            [row["noise"] for row in rows], places, "|", color=style.THEMED["ink"], markersize=12, markeredgewidth=2
        )
        axes.set_yticks(places, [row["name"] for row in rows])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        ends = [value for row in rows for value in (row["bias"], row["noise"]) if value > 0]
        if ends:  # whole decades, so that there are labels
            axes.set_xlim(10.0 ** np.floor(np.log10(min(ends))), 10.0 ** np.ceil(np.log10(max(ends))))
        axes.set_xlabel("distance from the exact gradient / its size")
        caption = (
            "Bias of gradients of a machine of 4-3-3 units, against sums over all states. Strokes: the distance that noise alone "
            "would give; a bar that ends near its stroke shows no bias."
        )
        table = [(row["name"], row["bias"], row["noise"], row["z"], row["variance"]) for row in rows]
        columns = ["estimator", "bias", "noise", "largest z", "variance"]
        return style.finish(figure, "machine-bias", caption, columns, table)


def draws(pictures: Mapping[str, Any]) -> Plot:
    """Draws of the first machine beside rows of the data."""
    with style.settings():
        figure, axes = style.canvas(7.2, 3.5, 2)
        for place, (ax, name) in enumerate(zip(axes, ("data", "draws"), strict=True)):
            show_tiles(ax, image_tiles(pictures[name], pictures["image"]))
            ax.set_title("draws of the first machine" if place else "data")
        table = [(name, image) for name in ("data", "draws") for image in pictures[name]]
        caption = "Rows of the table, and draws of the machine chosen by their weights."
        return style.finish(figure, "machine-draws", caption, ["kind", "image"], table)
