"""What a report is made from: the files of one run directory, and nothing else."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heatbath.errors import RunDirectoryError


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The readable part of a run directory. Only ``results`` has to be there; what is absent is empty.

    ``structures`` maps the paths named in the results to the text of the PDB files; ``metrics`` are the lines of metrics.jsonl.
    """

    path: Path
    results: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resolved: str = ""
    citations: str = ""
    structures: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration as a dict (empty when there is none)."""
        return tomllib.loads(self.resolved)


def read(run_dir: Path) -> RunRecord:
    """Read ``run_dir``. Raises ``RunDirectoryError`` when it has no readable results.json."""
    run_dir = Path(run_dir)
    results = _results(run_dir)
    return RunRecord(
        path=run_dir,
        results=results,
        metrics=tuple(_lines(run_dir / "metrics.jsonl")),
        provenance=json.loads(_text(run_dir / "provenance.json") or "{}"),
        resolved=_text(run_dir / "resolved.toml"),
        citations=_text(run_dir / "CITATIONS.bib").strip(),
        structures=_structures(run_dir, results),
    )


def _results(run_dir: Path) -> dict:
    path = run_dir / "results.json"
    if not path.is_file():
        raise RunDirectoryError(
            f"'{run_dir}' has no results.json, so there is nothing to report. Let the run finish first."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunDirectoryError(
            f"'{path}' is not valid JSON ({error}); write the results again before reporting"
        ) from error


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _lines(path: Path) -> list[dict]:
    """The complete lines of metrics.jsonl; the last may be half written while a run is going on."""
    rows = []
    for line in _text(path).splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _structures(run_dir: Path, results: Mapping[str, Any]) -> dict[str, str]:
    """PDB texts by the name that the results give them; names that lead out of the directory are not followed."""
    found = {}
    for basin in results.get("basins", ()):
        name = basin.get("representative")
        if name and (run_dir / name).resolve().is_relative_to(run_dir.resolve()) and (run_dir / name).is_file():
            found[name] = (run_dir / name).read_text(encoding="utf-8")
    return found
