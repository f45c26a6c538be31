"""Writes docs/results.md, the figures in the README and the tables in the pages of the systems from results/*.json.

Run by `make docs`; a test checks that all of them are up to date.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def cell(value) -> str:
    """A table cell: floats with four digits, everything else as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")


def table(content: dict) -> list[str]:
    """The table of one results file, its notes, and its origin."""
    lines = ["| " + " | ".join(content["columns"]) + " |", "|" + "---|" * len(content["columns"])]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in content["rows"]]
    lines += [""] + [f"- {note}" for note in content["notes"]]
    machine = content["machine"]
    lines += [
        "",
        f"`{content['command']}`, {content['date']}, commit `{content['commit']}`, {machine['cores']} cores, "
        f"Python {machine['python']}, JAX {machine['jax']}.",
    ]
    return lines


def section(name: str, content: dict) -> str:
    """One results file as a heading, a figure where there is one, a table and its origin."""
    lines = [f"## {content['title']}", ""]
    if (ROOT / "docs" / picture(name)).exists():
        lines += [f"![{content['title']}]({picture(name)})", ""]
    return "\n".join([*lines, *table(content), ""])


def page() -> str:
    """The whole results page."""
    head = (
        "# Results\n\nEvery table is generated from a JSON file under `results/`, written by the command below it.\n\n"
    )
    files = sorted((ROOT / "results").glob("*.json"))
    return head + "\n".join(section(path.stem, json.loads(path.read_text())) for path in files)


# Tables in the pages of the systems ----------------------------------------------------------------------------------

PLACE = re.compile(r"<!-- results (\w+): begin -->\n.*?<!-- results \1: end -->", flags=re.DOTALL)


def filled(path: Path) -> str:
    """The text of a page with every place for results filled, or saying that the measurement has not been made."""

    def fill(match: re.Match) -> str:
        name = match[1]
        file = ROOT / "results" / f"{name}.json"
        lines = [f"Not measured yet: `python benchmarks/{name}.py` writes `results/{name}.json`."]
        if file.exists():
            lines = table(json.loads(file.read_text()))
            if (ROOT / "docs" / picture(name)).exists():
                lines = [f"![{name.replace('_', ' ')}](../{picture(name)})", "", *lines]
        return "\n".join([f"<!-- results {name}: begin -->", *lines, f"<!-- results {name}: end -->"])

    return PLACE.sub(fill, path.read_text())


def systems() -> dict[Path, str]:
    """Every page of a system with its tables filled."""
    return {path: filled(path) for path in sorted((ROOT / "docs" / "systems").glob("*.md"))}


# Figures -------------------------------------------------------------------------------------------------------------


def picture(name: str) -> str:
    """Where the figure of results/NAME.json lies, from docs/."""
    return f"images/{name.replace('_', '-')}.svg"


def cost_by_dimension(data: dict) -> str:
    """Cost of a weighted draw in plain draws, and time for a given error of log Z, by the dimension."""
    import numpy as np

    from heatbath.report import style

    entries = data["dimensions"]
    dimensions = [int(dimension) for dimension in entries]
    with style.settings():
        figure, (cost, time) = style.canvas(9.0, 3.4, 2)
        for index, name in enumerate(next(iter(entries.values()))["errors"]):
            ratios = [entry["ratios"][name][1] for entry in entries.values()]
            plain = [np.median(entry["times"]["seconds"]["plain"]) for entry in entries.values()]
            spread = np.array([entry["errors"][name]["relative_variance"] for entry in entries.values()])
            room = (
                data["log_z_error"] ** 2 - np.array([entry["errors"][name]["bias"] for entry in entries.values()]) ** 2
            )
            # for a target under which exact weights have a relative variance of 1; none where the bias alone is larger
            seconds = np.where(room > 0, (2 * (1 + spread) - 1) / np.where(room > 0, room, 1), np.nan) * ratios * plain
            look = {
                "color": list(style.THEMED.values())[4 + index % 4],
                "marker": "osD^vPX*"[index % 8],
                "markersize": 4.5,
            }
            look["linestyle"] = "-" if index < 4 else "--"
            cost.plot(dimensions, ratios, label=name, **look)
            time.plot(dimensions, seconds, **look)
        for axes, label in (
            (cost, "cost in plain draws"),
            (time, f"seconds for an error of {data['log_z_error']} in log Z"),
        ):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(dimensions, [str(dimension) for dimension in dimensions])
            axes.minorticks_off()
            axes.grid(axis="y")
            axes.set_xlabel("dimension")
            axes.set_ylabel(label)
        figure.legend(loc="outside right upper", fontsize=8)
        return style.finish(figure, "cost", "Cost of a weighted draw", [], []).file


def delta_f_by_temperature(data: dict) -> str:
    """Free-energy difference by temperature, as the report draws it."""
    import numpy as np

    from heatbath.report.steerable import delta_f

    def measured(values: list[float]) -> dict[str, float]:
        return {"value": float(np.mean(values)), "standard_error": float(np.std(values, ddof=1) / np.sqrt(len(values)))}

    rows = []
    for temperature, found in data["temperatures"].items():
        reference = found.get("reference")
        known = dict(zip(("value", "standard_error"), reference["delta_f"], strict=True)) if reference else None
        rows.append(
            {
                "temperature": float(temperature),
                "delta_f": measured(found["delta_f"]),
                "ess": float(np.mean(found["ess"])),
            }
            | {"reference": known}
        )
    return delta_f(rows, {"trained_at": data["trained_at"]}).file


def cost_by_size(data: dict) -> str:
    """Energies and seconds of an independent sample of the liquid, by the number of particles."""
    import numpy as np

    from heatbath.report import style

    sizes = data["sizes"]
    counts = np.array([int(count) for count in sizes])
    labels = {"swap": "swap Monte Carlo", "tempering": "parallel tempering", "flow": "chain of flows"}
    looks = {"swap": ("ink", "o"), "tempering": ("blue", "D"), "flow": ("purple", "P")}
    with style.settings():
        figure, panels = style.canvas(8.0, 3.4, 2)
        for axes, what, label in zip(panels, ("evaluations", "seconds"), ("energies", "seconds"), strict=True):
            for index, (name, (colour, marker)) in enumerate(looks.items()):
                values, errors = np.array([methods[name][what] for methods in sizes.values()]).T
                spread = [values * (1 - np.exp(-errors)), values * (np.exp(errors) - 1)]
                axes.errorbar(
                    counts * 1.02 ** (index - 1), values, spread, fmt=marker + "-", color=style.THEMED[colour],
                    markersize=4.5, linewidth=1.2, label=labels[name] if what == "evaluations" else None,
                )  # fmt: skip
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(counts, [str(count) for count in counts])
            axes.minorticks_off()
            axes.grid(axis="y")
            axes.set_xlabel("number of particles")
            axes.set_ylabel(f"{label} per independent sample")
        figure.legend(loc="outside upper center", ncols=3, fontsize=8)
        return style.finish(figure, "size", "Cost of an independent sample", [], []).file


def law_by_energies(data: dict) -> str:
    """How close each loss is by the energies it has paid: means over seeds, and their standard errors as bands."""
    import numpy as np

    from heatbath.report import style

    problems = {name: "top_mean" if name == "rna" else "total_variation" for name in data["histories"]}
    with style.settings():
        figure, panels = style.canvas(3.9 * len(problems) + 1.2, 3.3, len(problems))
        for axes, (name, column) in zip(panels, problems.items(), strict=True):
            for index, (method, runs) in enumerate(data["histories"][name].items()):
                if method == "uniform":
                    continue
                color = list(style.THEMED.values())[4 + index % 4]
                line = "-" if index < 4 else "--"
                calls = np.mean([run["calls"] for run in runs], axis=0)
                values = np.array([run[column] for run in runs], dtype=float)
                middle, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
                axes.plot(calls, middle, color=color, linestyle=line, label=method if axes is panels[0] else None)
                axes.fill_between(calls, middle - error, middle + error, color=color, alpha=0.25, linewidth=0)
            axes.set_xscale("log")
            axes.grid(axis="y")
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("energies asked for")
            axes.set_ylabel("mean fitness of the best 100" if name == "rna" else "total variation")
        figure.legend(loc="outside right upper", fontsize=8)
        return style.finish(figure, "law", "Energies that losses need", [], []).file


#: Results that have a figure, drawn from their ``data``.
FIGURES: dict[str, Callable[[dict], str]] = {
    "flow_perturbation_cost": cost_by_dimension,
    "gflownet_objectives": law_by_energies,
    "liquid_scaling": cost_by_size,
    "steerable_alanine": delta_f_by_temperature,
}


def draw() -> None:
    """Write the figure of every results file that has one, on white so that it reads in any theme."""
    for name, make in FIGURES.items():
        file = ROOT / "results" / f"{name}.json"
        if file.exists():
            svg = make(json.loads(file.read_text())["data"])
            (ROOT / "docs" / picture(name)).write_text(svg.replace("<svg ", '<svg style="background:#ffffff" ', 1))


# README --------------------------------------------------------------------------------------------------------------

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
        *learned(),
        *steered(),
        "",
        "These figures are generated; [all results](docs/results.md) say what was run.",
    ]
    return "\n".join(lines)


def learned() -> list[str]:
    """What the first of the measured generators does; nothing before it has been measured."""
    if not (ROOT / "results" / "generator_alanine.json").exists():
        return []
    runs = next(iter(load("generator_alanine")["data"].values()))
    shares = [100 * run["ess"]["fraction"] for run in runs]
    seconds = sorted(run["seconds"][-1] for run in runs)[len(runs) // 2]
    return [
        f"- **Learned**: {runs[0]['ess']['draws']} draws of a trained generator of alanine dipeptide take {seconds:.0f} s, and "
        f"{sum(shares) / len(shares):.0f} % of them are effective with every weight kept."
    ]


def steered() -> list[str]:
    """What a flow that never saw the temperature does there."""
    if not (ROOT / "results" / "steerable_alanine.json").exists():
        return []
    data = load("steerable_alanine")["data"]
    coldest, found = min(data["temperatures"].items(), key=lambda item: float(item[0]))
    share = 100 * sum(found["ess"]) / len(found["ess"])
    mean = sum(found["delta_f"]) / len(found["delta_f"])
    true, error = found["reference"]["delta_f"]
    return [
        f"- **Steerable**: a flow trained at {data['trained_at']:.0f} K only draws at {coldest} K with {share:.0f} % effective, "
        f"and gives {mean:.2f} kT for the second basin (umbrella sampling {true:.2f} ± {error:.2f})."
    ]


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
    draw()
    (ROOT / "docs" / "results.md").write_text(page())
    (ROOT / "README.md").write_text(readme())
    for place, text in systems().items():
        place.write_text(text)
