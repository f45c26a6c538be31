"""The section on a Boltzmann generator: is it good, where does it fail, and against whom.

``results["generator"]`` holds, every key optional,

- ``model``: ``kind``, ``parameters``, ``training_steps``, ``training_seconds``, ``seed`` and whatever else describes it;
- ``metrics``: rows ``{"name", "unit", "draws", "note", "unweighted", "reweighted", "smc", "floor"}``, the last four
  ``{"value", "standard_error"}`` or null;
- ``ess``: ``draws``, ``raw`` (a number of draws), ``fraction``, ``cut``, ``fraction_after_cut``, ``pareto_k``,
  ``forward_fraction``;
- ``weights``: ``draws`` and ``share``, the share of the total weight that the heaviest share of the draws carries;
- ``training``: ``step``, ``loss``, ``validation_step``, ``validation_loss``, ``validation_ess``,
  ``validation_forward_ess``;
- ``energies``: ``edges``, densities ``reference``, ``model``, ``reweighted``, and ``unit``;
- ``ramachandran``: ``model``, ``reweighted``, ``reference``, each with the fields of a surface;
- ``stereochemistry``: ``frames``, ``inverted_centres``, ``flipped_peptide_bonds``, and ``weight_inverted``,
  ``weight_flipped``, the shares of the weight on draws that have either;
- ``literature``: ``columns``, ``rows``, ``note``. A row on this run is put before them, where a column is that of a metric
  or says "efficiency" (the one after the cut, as the literature has it).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from heatbath.report import generator_figures as figures
from heatbath.report.sections import Caution, Cell, Fact, Facts, Figures, Section, Table
from heatbath.report.words import (
    DASH,
    duration,
    few_effective_draws,
    missed_modes,
    number,
    percent,
    pretty,
    small_share,
    with_error,
)

#: Columns of the table of metrics, in the order of the work.
_STAGES = {"unweighted": "model alone", "reweighted": "reweighted", "smc": "after SMC", "floor": "floor"}
#: Fields of ``model`` with a name of their own; others are shown by theirs.
_MODEL = {
    "kind": "model",
    "parameters": "parameters",
    "training_steps": "training steps",
    "training_seconds": "training time",
    "seed": "seed of the training",
    "batch_size": "batch size",
    "configurations": "configurations learnt from",
    "skipped": "steps skipped, not finite",
}


def section(results: Mapping[str, Any]) -> Section | None:
    """The section, or None when the run has no generator."""
    found = results.get("generator")
    if not found:
        return None
    blocks = [
        *_cautions(found),
        *_metrics(found),
        *_plots(found),
        *_weights(found),
        *_model(found),
        *_literature(found),
    ]
    lead = (
        "Independent draws of a trained model, alone and reweighted to the Boltzmann distribution. Reweighting is exact where "
        "the model reaches; where it does not, no weight can tell."
    )
    return Section("Boltzmann generator", lead, blocks, _headline(found))


def _headline(found: Mapping[str, Any]) -> list[Fact]:
    ess = found.get("ess") or {}
    if ess.get("fraction") is None:
        return []
    return [Fact("effective draws, all weights kept", percent(ess["fraction"]), _of_draws(ess))]


def _of_draws(ess: Mapping[str, Any]) -> str:
    if ess.get("raw") is None or ess.get("draws") is None:
        return ""
    return f"{number(ess['raw'])} of {number(ess['draws'], 8)} draws"


def _cautions(found: Mapping[str, Any]) -> list[Caution]:
    ess = found.get("ess") or {}
    sentences = [few_effective_draws(ess.get("raw"), ess.get("draws")), missed_modes(ess)]
    kept = [sentence for sentence in sentences if sentence]
    return [Caution(kept)] if kept else []


# Tables --------------------------------------------------------------------------------------------------------------


def _metrics(found: Mapping[str, Any]) -> list[Table]:
    rows = found.get("metrics") or ()
    stages = [stage for stage in _STAGES if any(row.get(stage) for row in rows)]
    if not rows:
        return []
    note = (
        "A floor is the same measure between two halves of the reference draws: its own noise, below which nothing can be told "
        "apart. Multiples are of the floor. Errors are one standard error."
    )
    body = [[Cell(_named(row), _remark(row)), *(_measured(row, stage) for stage in stages)] for row in rows]
    return [Table(["distance to the reference", *(_STAGES[stage] for stage in stages)], body, note=note)]


def _named(row: Mapping[str, Any]) -> str:
    unit = row.get("unit") or "1"
    return pretty(row["name"]) + (f" ({unit})" if unit != "1" else "")


def _remark(row: Mapping[str, Any]) -> str:
    draws = f"{number(row['draws'], 8)} draws of each side" if row.get("draws") else ""
    return "; ".join(filter(None, [draws, row.get("note")]))


def _measured(row: Mapping[str, Any], stage: str) -> Cell:
    value, floor = row.get(stage) or {}, (row.get("floor") or {}).get("value")
    if value.get("value") is None:
        return Cell(DASH)
    times = f"{number(value['value'] / floor, 2)} ×" if floor and stage != "floor" else ""
    return Cell(with_error(value["value"], value.get("standard_error")), times)


def _weights(found: Mapping[str, Any]) -> list[Facts]:
    ess = found.get("ess") or {}
    facts = []
    if ess.get("fraction") is not None:
        facts.append(Fact("effective draws", percent(ess["fraction"]), f"Kish, all weights kept; {_of_draws(ess)}"))
    if ess.get("fraction_after_cut") is not None:
        cut = percent(ess.get("cut", 0.002))
        facts.append(
            Fact(
                "without the heaviest weights",
                percent(ess["fraction_after_cut"]),
                f"largest {cut} dropped, as in the literature: biased, for comparison only",
            )
        )
    if ess.get("forward_fraction") is not None:
        remark = "from reference draws; far below the first where the model misses a mode"
        facts.append(Fact("forward effective draws", small_share(ess["forward_fraction"]), remark))
    if ess.get("pareto_k") is not None:
        facts.append(Fact("Pareto k", f"{ess['pareto_k']:.2f}".replace("-", "−"), "below 0.7 averages are reliable"))
    return [Facts([*facts, *_structure(found)], "Weights")] if facts else []


def _structure(found: Mapping[str, Any]) -> list[Fact]:
    counts = found.get("stereochemistry") or {}
    frames = f"in {number(counts['frames'], 8)} draws of the model" if counts.get("frames") is not None else ""
    facts = []
    for key, share, name in (
        ("inverted_centres", "weight_inverted", "inverted chiral centres"),
        ("flipped_peptide_bonds", "weight_flipped", "flipped peptide bonds"),
    ):
        if counts.get(key) is not None:
            weight = f"; {percent(counts[share])} of the weight" if counts.get(share) is not None else ""
            facts.append(Fact(name, number(counts[key], 8), frames + weight))
    return facts


def _model(found: Mapping[str, Any]) -> list[Facts]:
    model = found.get("model") or {}
    scalars = {key: value for key, value in model.items() if isinstance(value, (str, int, float))}
    order = [*(key for key in _MODEL if key in scalars), *(key for key in scalars if key not in _MODEL)]
    facts = [Fact(_MODEL[key] if key in _MODEL else key.replace("_", " "), _scalar(key, scalars[key])) for key in order]
    return [Facts(facts, "Model")] if facts else []


def _scalar(key: str, value: Any) -> str:
    if key.endswith("seconds"):
        return duration(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.replace("-", " ") if key == "kind" else value
    return number(value) if isinstance(value, float) else f"{value:,}".replace(",", "\u202f")


def _literature(found: Mapping[str, Any]) -> list[Table]:
    table = found.get("literature") or {}
    if not table.get("rows"):
        return []
    rows = [[Cell(_plain(value)) for value in row] for row in (_own(found, table["columns"]), *table["rows"])]
    columns = [pretty(str(column)) for column in table["columns"]]
    return [Table(columns, rows, "Beside published results", str(table.get("note") or ""))]


def _own(found: Mapping[str, Any], columns: Sequence[str]) -> list[str | None]:
    """The run itself in the columns of the literature: reweighted metrics, and the efficiency after the cut."""
    metrics = {row["name"]: row.get("reweighted") or {} for row in found.get("metrics") or ()}
    row: list[str | None] = ["this run"]
    for column in columns[1:]:
        measured = next((fields for name, fields in metrics.items() if str(column).startswith(name)), {})
        text = with_error(measured["value"], measured.get("standard_error")) if measured.get("value") else None
        share = (found.get("ess") or {}).get("fraction_after_cut")
        row.append(number(share, 3) if column == "efficiency" and share is not None else text)
    return row


def _plain(value: Any) -> str:
    if value is None or value == "":
        return DASH
    return value if isinstance(value, str) else number(value, 3)


# Figures -------------------------------------------------------------------------------------------------------------


def _plots(found: Mapping[str, Any]) -> list[Figures]:
    """Maps over the whole width, then the small figures side by side."""
    blocks, narrow = [], []
    if found.get("ramachandran"):
        blocks.append(Figures([figures.ramachandran(found["ramachandran"])], wide=True))
    if found.get("energies"):
        narrow.append(figures.energies(found["energies"]))
    if found.get("weights"):
        narrow.append(figures.weights(found["weights"], (found.get("ess") or {}).get("cut")))
    if (found.get("training") or {}).get("step"):
        narrow.append(figures.training(found["training"], width=3.6 if narrow else 5.2))
    return [*blocks, Figures(narrow)] if narrow else blocks
