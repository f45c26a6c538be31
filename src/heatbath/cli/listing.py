"""``heatbath list``: what there is."""

import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from heatbath.cli.options import Json

Kind = Literal["targets", "methods", "models", "experiments", "references", "runs"]


def listing(
    kind: Annotated[Kind | None, Parameter(help="Which list; all but runs by default.")] = None,
    /,
    *,
    folder: Annotated[Path, Parameter(help="Where runs are looked for.")] = Path("runs"),
    json: Json = False,
) -> int:
    """List targets, methods, kinds of models, experiments, reference ensembles, or the runs in a folder."""
    from heatbath.cli.output import print_json, print_table

    kinds = ("targets", "methods", "models", "experiments", "references") if kind is None else (kind,)
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
    if kind == "models":
        from heatbath.experiments.generators import KINDS

        return [{"name": k.name, "sizes": ", ".join(k.sizes), "description": k.summary} for k in KINDS.values()]
    if kind == "experiments":
        from heatbath.experiments.base import EXPERIMENTS

        return [{"name": e.name, "description": e.summary} for e in EXPERIMENTS.values()]
    if kind == "references":
        return _references()
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


def _references() -> list[dict[str, Any]]:
    """Every reference that can be made, with the frames that are on this machine (0: `heatbath reference NAME` makes them)."""
    from heatbath.experiments.references import SYSTEMS
    from heatbath.io.datasets import records

    found = records()
    return [
        {"name": name, "frames": found.get(name, {}).get("frames", 0), "description": entry.summary}
        for name, entry in SYSTEMS.items()
    ]
