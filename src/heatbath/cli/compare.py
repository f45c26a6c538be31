"""``heatbath compare``: two runs side by side, settings first, then numbers with their combined errors."""

import math
from typing import Annotated, Any

from cyclopts import Parameter

from heatbath.cli.options import Json, Run


def compare(
    first: Run,
    second: Annotated[Run, Parameter(help="Another run directory.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Show which settings differ between two runs, and every number of both with the difference in standard errors."""
    from heatbath.cli.output import print_json, print_table, with_error
    from heatbath.io.run_directory import RunDirectory

    runs = RunDirectory.open(first), RunDirectory.open(second)
    settings = _settings(*runs)
    numbers = match(*(run.read_json("results.json") for run in runs))
    if json:
        print_json({"settings": settings, "numbers": numbers})
        return 0
    rows = [[row["key"], _word(row["first"]), _word(row["second"])] for row in settings]
    print_table(rows or [["the settings are the same"]], head=["setting", str(first), str(second)] if rows else [])
    print()
    head = ["number", str(first), str(second), "difference in combined errors"]
    cells = [
        [
            row["name"],
            with_error(row["first"], row["first_error"], row["unit"]),
            with_error(row["second"], row["second_error"], row["unit"]),
            "unknown" if row["sigmas"] is None else f"{row['sigmas']:+.1f}",
        ]
        for row in numbers
    ]
    print_table(cells or [["the runs have no number in common"]], head=head if cells else [])
    return 0


def match(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """The scalar estimates that two results share, with (second - first) / sqrt(sum of squared errors).

    Numbers with the same name and different units are not compared.
    """
    ours, theirs = scalars(first), scalars(second)
    rows = []
    for name in (n for n in ours if n in theirs and ours[n].get("unit") == theirs[n].get("unit")):
        one, two = ours[name], theirs[name]
        errors = [one["standard_error"], two["standard_error"]]
        sigmas = None
        if None not in (one["value"], two["value"], *errors) and (spread := math.hypot(*errors)) > 0:
            sigmas = (two["value"] - one["value"]) / spread
        rows.append(
            {
                "name": name,
                "unit": one.get("unit", "1"),
                "first": one["value"],
                "first_error": errors[0],
                "second": two["value"],
                "second_error": errors[1],
                "sigmas": sigmas,
            }
        )
    return rows


def scalars(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every scalar estimate of a results.json, by a readable name."""
    differences = results.get("free_energy_differences") or []
    found = {f"free energy of {d['to']} relative to {d['from']}": d["value"] for d in differences}
    found |= {f"population of {b['name']}": b["population"] for b in results.get("basins") or []}
    found |= results.get("estimates") or {}
    return {name: e for name, e in found.items() if e and not isinstance(e.get("value"), (list, dict))}


def _settings(first: Any, second: Any) -> list[dict[str, Any]]:
    import tomllib

    from heatbath.experiments.config import differences

    tables = (tomllib.loads(run.read("resolved.toml")) for run in (first, second))
    return [{"key": key, "first": one, "second": two} for key, one, two in differences(*tables)]


def _word(value: Any) -> str:
    return "absent" if value is None else str(value)
