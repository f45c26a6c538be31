"""``heatbath list``: what there is."""

import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from heatbath.cli.options import Json

Kind = Literal["targets", "methods", "experiments", "runs"]


def listing(
    kind: Annotated[Kind | None, Parameter(help="Which list; all but runs by default.")] = None,
    /,
    *,
    folder: Annotated[Path, Parameter(help="Where runs are looked for.")] = Path("runs"),
    json: Json = False,
) -> int:
    """List targets, methods, experiments, or the runs in a folder."""
    from heatbath.cli.output import print_json, print_table

    kinds = ("targets", "methods", "experiments") if kind is None else (kind,)
    lists = {name: _rows(name, folder) for name in kinds}
    if json:
        print_json(lists if kind is None else lists[kind])
        return 0
    for index, (name, rows) in enumerate(lists.items()):
        if kind is None:
            print(("\n" if index else "") + name)
        print_table([["  " * (kind is None) + str(cell) for cell in row.values()] for row in rows])
    return 0


def _rows(kind: str, folder: Path) -> list[dict[str, Any]]:
    if kind == "targets":
        from heatbath.targets.registry import ENTRIES

        return [
            {"name": e.name, "temperature": str(e.temperature), "description": e.description} for e in ENTRIES.values()
        ]
    if kind == "methods":
        from heatbath.experiments.methods import METHODS

        return [{"name": name, "description": text} for name, text in METHODS.items()]
    if kind == "experiments":
        from heatbath.experiments.base import EXPERIMENTS

        return [{"name": e.name, "description": e.summary} for e in EXPERIMENTS.values()]
    from heatbath.io.run_directory import find_runs

    rows = []
    for run in find_runs(folder):
        state, record = run.status(), run.record() or {}
        rows.append(
            {
                "directory": str(run.path),
                "status": state.word,
                "draws": record.get("draws", 0),
                "message": textwrap.shorten(state.message, 70, placeholder=" ..."),
            }
        )
    return rows
