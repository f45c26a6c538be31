"""Writes docs/results.md from results/*.json. Run by `make docs`; a test checks that the page is up to date."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent


def cell(value) -> str:
    """A table cell: floats with four digits, everything else as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")


def section(content: dict) -> str:
    """One results file as a heading, a table and its origin."""
    lines = [f"## {content['title']}", ""]
    lines += ["| " + " | ".join(content["columns"]) + " |", "|" + "---|" * len(content["columns"])]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in content["rows"]]
    lines += [""] + [f"- {note}" for note in content["notes"]]
    machine = content["machine"]
    lines += [
        "",
        f"`{content['command']}`, {content['date']}, commit `{content['commit']}`, {machine['cores']} cores, "
        f"Python {machine['python']}, JAX {machine['jax']}.",
        "",
    ]
    return "\n".join(lines)


def page() -> str:
    """The whole results page."""
    head = (
        "# Results\n\nEvery table is generated from a JSON file under `results/`, written by the command below it.\n\n"
    )
    files = sorted((ROOT / "results").glob("*.json"))
    return head + "\n".join(section(json.loads(path.read_text())) for path in files)


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page())
