"""Writes docs/results.md, and the figures in the README, from results/*.json.

Run by `make docs`; a test checks that both are up to date.
"""

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


BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def load(name: str) -> dict:
    """The contents of results/NAME.json."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def figures() -> str:
    """The headline figures as a list, each from a results file."""
    accuracy, speed = load("force_field_accuracy"), load("force_field_speed")
    job, reference = load("main_job")["data"], load("alanine_reference")["data"]
    total = [row for row in accuracy["rows"] if row[1] == "cpu-kernel float64"]
    seconds = sorted(run["seconds"] for run in job["runs"])
    worst, systems = max(row[3] for row in total), accuracy["data"]["systems"]
    middle = seconds[len(seconds) // 2]
    lines = [
        f"- **Exact**: energies within {worst:.0e} (relative) of OpenMM's Reference platform in float64, over {systems} systems.",
        f"- **Fast**: {fastest(speed)} OpenMM's best arrangement on the same two cores.",
        "- **Honest**: eight seeds of the main job give the free energy of alanine dipeptide's second basin with a stated error "
        f"of {job['stated']:.3f} kT and a spread of {job['spread']:.3f} kT; their mean is {abs(job['overall_score']):.1f} "
        f"standard errors from umbrella sampling ({reference['delta_f_kt']:.2f} ± {reference['delta_f_kt_error']:.2f} kT). "
        f"A run takes {middle:.0f} s in all.",
        "",
        "These figures are generated; [all results](docs/results.md) say what was run.",
    ]
    return "\n".join(lines)


def fastest(speed: dict) -> str:
    """The best ratio of energies and forces for the smallest and the largest molecule."""
    columns = speed["columns"]
    atoms, ratio = columns.index("atoms"), columns.index("ratio")
    best = {}
    for row in speed["rows"]:
        best[row[atoms]] = max(best.get(row[atoms], 0), row[ratio])
    small, large = min(best), max(best)
    ratios = f"{best[small]:.0f} times ({small} atoms) and {best[large]:.0f} times ({large} atoms)"
    return f"{ratios} as many energies and forces per second as"


def readme() -> str:
    """The README with its figures replaced."""
    text = (ROOT / "README.md").read_text()
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    return f"{head}{BEGIN}\n{figures()}\n{END}{tail}"


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page())
    (ROOT / "README.md").write_text(readme())
