"""One form for everything under results/: what was asked, what was run, what came out, on what.

``docs/generate.py`` turns these files into the results page, so that no number in the documentation is typed by hand.
"""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"


def record(name: str, *, title: str, columns: list[str], rows: list[list], notes: list[str], data: dict) -> Path:
    """Write results/NAME.json: a table for people (``columns``, ``rows``, ``notes``) and the numbers behind it (``data``)."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "title": title,
        "command": command(),
        **stamp(),
        "machine": machine(),
        "columns": columns,
        "rows": rows,
        "notes": notes,
        "data": data,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {path.relative_to(RESULTS.parent)}")
    return path


def stamp() -> dict[str, str]:
    """Date and commit of what is measured now."""
    return {"date": datetime.date.today().isoformat(), "commit": commit()}


def _last(name: str) -> dict:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"data": {}, "rows": [], "date": "", "commit": ""}


def earlier(name: str) -> tuple[dict, dict[str, str]]:
    """``data`` of results/NAME.json as it stands, and its stamp: what a run that does not measure everything again keeps."""
    last = _last(name)
    return last["data"], {key: last[key] for key in ("date", "commit")}


def kept_rows(name: str, rows: list[list], data: dict[str, dict]) -> dict[str, tuple[list, dict]]:
    """Rows and their numbers by key, with those of results/NAME.json that were not measured again or had more seeds (``nll``).

    Row by row ``rows`` belong to ``data``; what results/NAME.json has behind them belongs to no key and is left out.
    """
    before, when = earlier(name)
    found = {key: (row, when | values) for row, (key, values) in zip(_last(name)["rows"], before.items(), strict=False)}
    for row, (key, values) in zip(rows, data.items(), strict=True):
        if key not in found or len(values["nll"]) >= len(found[key][1]["nll"]):
            found[key] = row, stamp() | values
    return found


def measured(stamps: dict[str, dict[str, str]]) -> str:
    """A sentence that says which parts, by name, were measured when and at which commit."""
    parts = {}
    for name, when in stamps.items():
        parts.setdefault((when["date"], when["commit"]), []).append(name)
    return (
        "Measured " + "; ".join(f"{d}, commit {c}: {', '.join(names)}" for (d, c), names in sorted(parts.items())) + "."
    )


class Pieces:
    """Measurements kept one by one in a JSON file, so that a second call goes on where the first was stopped; without a file they are made anew."""

    def __init__(self, path: Path | None, *, closed: bool = False):
        self.path, self.closed = path, closed
        self.found = json.loads(path.read_text()) if path and path.exists() else {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The measurement of a name, made where it is not there; None where nothing is to be measured any more."""
        if name not in self.found and not self.closed:
            began = time.perf_counter()
            self.found[name] = make()
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps(self.found))
            print(
                name, f"{time.perf_counter() - began:.0f} s", str(self.found[name])[:150], file=sys.stderr, flush=True
            )
        return self.found.get(name)


def command() -> str:
    """The command line that is running, as one would type it in the project's root; folders elsewhere by their last name."""
    program = Path(sys.argv[0])
    words = [re.sub(r"(^|=)/(?:[^/]*/)*([^/]+)$", r"\1\2", word) for word in sys.argv[1:]]
    start = (
        ["python -m", program.parent.name]
        if program.name == "__main__.py"
        else ["python", f"benchmarks/{program.name}"]
    )
    return " ".join([*start, *words])


def commit() -> str:
    """Short hash of the checkout, with a mark when the code differs from it; results and pages made from them do not count."""
    code = ("src", "benchmarks", "tests", "pyproject.toml")

    def git(*words):
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=RESULTS.parent)

    short = git("rev-parse", "--short", "HEAD").stdout.strip()
    return (short or "unknown") + ("-dirty" if git("diff", "HEAD", "--quiet", "--", *code).returncode else "")


def machine() -> dict:
    """What the numbers were measured on."""
    import importlib.metadata

    versions = {}
    for package in ("jax", "jaxlib", "numpy", "llvmlite", "openmm"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **versions,
    }
