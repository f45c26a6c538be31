"""The section of densities of tables: likelihoods of test rows under every model, trainings, draws and completed images.

``results["nade"]`` holds ``data`` (facts), ``models`` (rows with ``tests``: ``orders``, ``nats``, ``standard_error``, ``bits``;
and ``history``), ``baselines`` (rows with ``nats``), and ``pictures`` or null.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heatbath.report import style
from heatbath.report.sections import Block, Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.style import Plot
from heatbath.report.words import DASH, duration, number, with_error

_NAMES = {
    "nade": "NADE",
    "deep-nade": "DeepNADE",
    "conv-nade": "ConvNADE",
    "made": "MADE",
    "independent": "independent columns",
    "bernoulli-mixture": "mixture of Bernoullis",
    "gaussian": "Gaussian",
    "factor-analysers": "mixture of factor analysers",
}
_COLOURS = {"nade": "blue", "deep-nade": "vermilion", "conv-nade": "purple", "made": "green"}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has none."""
    found = results.get("nade")
    if not found:
        return None
    plots = [trainings(found["models"])]
    if any(len(row.get("tests") or ()) > 1 for row in found["models"]):
        plots.append(by_orders(found["models"]))
    blocks: list[Block] = [_table(found), Figures(plots)]
    pictures = found.get("pictures")
    if pictures:
        blocks.append(Figures([draws(pictures)]))
        if pictures.get("filled"):
            blocks.append(Figures([filled(part, pictures["image"]) for part in pictures["filled"]]))
    blocks.append(Facts(_facts(found)))
    lead = (
        "Each model gives the exact probability of a row, one coordinate after another. Lower is better: nats per test row; "
        "neither training nor stopping has seen those rows."
    )
    return Section("Densities of a table", lead, blocks, _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    tests = [(row, test) for row in found["models"] for test in row.get("tests") or ()]
    if not tests:
        return []
    row, test = min(tests, key=lambda pair: pair[1]["nats"])
    orders = f", {test['orders']} orders" if test["orders"] > 1 else ""
    text = with_error(test["nats"], test["standard_error"])
    return [Fact("nats per test row", text, f"{_NAMES[row['name']]}{orders}, lowest of all models")]


def _facts(found: Mapping[str, Any]) -> list[Fact]:
    data = found["data"]
    train, valid, test = data["rows"]
    return [
        Fact("table", data["name"], data["source"]),
        Fact(
            "columns",
            number(data["columns"], 8),
            "zeros and ones" if data["kind"] == "binary" else "real, standardised",
        ),
        Fact("rows", f"{train} / {valid} / {test}", f"training / stopping / test, {data['tested']} of them evaluated"),
        Fact("SHA-256", data["sha256"][:16]),
    ]


def _bits(test: Mapping[str, Any]) -> str:
    return with_error(test["bits"], test["bits_error"]) if "bits" in test else DASH


def _table(found: Mapping[str, Any]) -> Table:
    binary = found["data"]["kind"] == "binary"
    body = []
    for row in found["models"]:
        trained = f"{number(row['best_step'], 6)} of {number(row['steps'], 6)} steps"
        tests = row.get("tests") or [None]
        for place, test in enumerate(tests):
            orders = f"{test['orders']} order{'s' if test['orders'] > 1 else ''}" if test else "not evaluated yet"
            ensemble = test is not None and test["orders"] > 1
            name = f"EoNADE of {_NAMES[row['name']]}" if ensemble else _NAMES[row["name"]]
            cells = [Cell(name, orders), Cell(with_error(test["nats"], test["standard_error"]) if test else DASH)]
            cells += [Cell(_bits(test) if test else DASH)] if binary else []
            cells += [Cell(number(row["parameters"], 8) if not place else ""), Cell(trained if not place else "")]
            cells.append(Cell(duration(row["seconds"]) if not place else ""))
            body.append(cells)
    for row in found["baselines"]:
        cells = [Cell(_NAMES[row["name"]], "baseline"), Cell(with_error(row["nats"], row["standard_error"]))]
        body.append([*cells, *([Cell(_bits(row))] if binary else []), Cell(""), Cell(""), Cell("")])
    columns = [
        "model",
        "nats per test row",
        *(["bits per coordinate"] if binary else []),
        "parameters",
        "best step",
        "time",
    ]
    note = (
        "Errors are standard errors over test rows. An ensemble is the mean of the probabilities of its orders, and normalised "
        "as they are."
    )
    return Table(columns, body, "Test rows", note)


def trainings(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Loss of training batches and of held-out rows by step."""
    with style.settings():
        figure, (axes,) = style.canvas(4.9, 3.5)
        axes.grid(axis="y")
        table, lowest, highest = [], np.inf, -np.inf
        for row in rows:
            steps, train, valid = (np.array(row["history"][name], float) for name in ("step", "train", "valid"))
            colour = style.THEMED[_COLOURS[row["name"]]]
            axes.plot(steps, valid, color=colour, label=_NAMES[row["name"]])
            axes.plot(steps, train, color=colour, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.plot([row["best_step"]], [row["valid"]], "o", color=colour, markersize=4)
            lowest, highest = min(lowest, np.nanmin(train)), max(highest, np.nanquantile(valid, 0.9))
            table += [(row["name"], *values) for values in zip(steps, train, valid, strict=True)]
        room = 0.08 * max(highest - lowest, 1e-6)
        axes.set_ylim(lowest - room, highest + 2 * room)
        axes.set_xlabel("steps")
        axes.set_ylabel("nats per row")
        axes.legend(loc="upper right")
        caption = "Held-out rows (lines) and training batches (dotted); the point is the model that was kept."
        return style.finish(figure, "nade-training", caption, ["model", "step", "train", "held out"], table)


def by_orders(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Test likelihood of ensembles by the number of orders."""
    with style.settings():
        figure, (axes,) = style.canvas(4.4, 3.5)
        axes.grid(axis="y")
        table, ticks = [], set()
        for row in rows:
            tests = row.get("tests") or []
            if len(tests) < 2:
                continue
            orders, nats = ([test[name] for test in tests] for name in ("orders", "nats"))
            axes.plot(orders, nats, "o-", color=style.THEMED[_COLOURS[row["name"]]], label=_NAMES[row["name"]])
            ticks |= set(orders)
            table += [(row["name"], *pair) for pair in zip(orders, nats, strict=True)]
        axes.set_xscale("log")
        axes.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
        axes.minorticks_off()
        axes.set_xlabel("orders in the ensemble")
        axes.set_ylabel("nats per test row")
        axes.legend(loc="upper right")
        caption = "The mean of the probabilities of several orders is a better model than any single order."
        return style.finish(figure, "nade-orders", caption, ["model", "orders", "nats"], table)


# Pictures -------------------------------------------------------------------------------------------------------------
def draws(pictures: Mapping[str, Any]) -> Plot:
    """Draws of the model beside rows of the data."""
    with style.settings():
        figure, axes = style.canvas(7.2, 3.5, 2)
        for place, (ax, name) in enumerate(zip(axes, ("data", "draws"), strict=True)):
            tiles = image_tiles(pictures[name], pictures["image"])
            show_tiles(ax, tiles)
            ax.set_title("test rows" if not place else f"draws of {_NAMES[pictures['model']]}")
        table = [(name, image) for name in ("data", "draws") for image in pictures[name]]
        return style.finish(
            figure, "nade-draws", "Rows of the table and independent draws of the model.", ["kind", "image"], table
        )


def filled(part: Mapping[str, Any], image: Sequence[int]) -> Plot:
    """Test images, what of them was shown, and draws of the rest given that."""
    with style.settings():
        count = len(part["truth"])
        figure, (axes,) = style.canvas(4.9, 3.2)
        rows = [[_image(text, image) for text in part["truth"]]]
        seen = [_image(text, image) for text in part["seen"]]
        rows.append([np.where(mask > 0, truth, 0.5) for truth, mask in zip(rows[0], seen, strict=True)])
        rows += [[_image(text, image) for text in each] for each in part["draws"]]
        show_tiles(axes, _grid(rows))
        height = image[0] + 1
        names = ["image", "shown", *(f"draw {number + 1}" for number in range(len(part["draws"])))]
        axes.set_yticks([height * (k + 0.5) for k in range(len(names))], names)
        axes.tick_params(length=0)
        caption = f"{count} test images of which the model was shown a part; the rest ({part['which']}) are exact draws given it."
        table = [(k, *texts) for k, texts in enumerate(zip(part["truth"], part["seen"], *part["draws"], strict=True))]
        header = ["number", "truth", "seen", *(f"draw {k + 1}" for k in range(len(part["draws"])))]
        return style.finish(figure, f"nade-filled-{part['which'].replace(' ', '-')}", caption, header, table)


def _image(text: str, image: Sequence[int]) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).reshape(image[0], image[1]).astype(float) - ord("0")


def image_tiles(texts: Sequence[str], image: Sequence[int]) -> np.ndarray:
    """Images in a square of squares."""
    side = int(np.ceil(np.sqrt(len(texts))))
    images = [_image(text, image) for text in texts]
    images += [np.full((image[0], image[1]), np.nan)] * (-len(images) % side)
    return _grid([images[start : start + side] for start in range(0, len(images), side)])


def _grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Images in rows, one empty pixel between them."""
    padded = [[np.pad(image, ((0, 1), (0, 1)), constant_values=np.nan) for image in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in padded])


def show_tiles(axes, tiles: np.ndarray) -> None:
    """Draw tiles in black on white, without ticks or a frame."""
    axes.imshow(
        tiles, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", extent=(0, tiles.shape[1], tiles.shape[0], 0)
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
