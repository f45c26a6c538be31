"""From the record of a run to the contents of its page: sections in the order in which a reader asks."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

from heatbath.report import (
    diffusion,
    flow_perturbation,
    generator,
    gflownets,
    halo,
    ladder,
    liquid,
    machines,
    matrices,
    nade,
    quantum,
    shear,
    steerable,
    surfaces,
)
from heatbath.report.record import RunRecord
from heatbath.report.sections import Fact, Section
from heatbath.report.style import Plot
from heatbath.report.words import duration, estimate, is_training, number, percent, pretty, verdict_words

#: Three-dimensional views; browsers allow about sixteen WebGL contexts in a page.
MOST_VIEWS = 8
#: Checks whose sentences stand beside "Converged", the most telling first.
_EVIDENCE = ("R-hat", "effective sample size (observable)", "round trips", "effective size of the weights", "Pareto k")
_SHOWN_VERSIONS = ("heatbath", "python", "jax", "jaxlib", "openmm", "llvmlite", "numpy", "scipy")


#: Kinds of results with a section of their own, in the order of the page.
_SECTIONS = (
    generator.section,
    flow_perturbation.section,
    steerable.section,
    matrices.section,
    gflownets.section,
    nade.section,
    machines.section,
    quantum.section,
    halo.section,
    shear.section,
    diffusion.section,
    liquid.section,
)


def sections(record: RunRecord) -> list[Section]:
    """The sections that only some runs have."""
    return [made for make in _SECTIONS if (made := make(record.results)) is not None]


def figures(record: RunRecord) -> dict[str, list[Plot]]:
    """The figures that every kind of run may have."""
    results = record.results
    found = results.get("surfaces") or {}
    return {
        "maps": surfaces.maps(found, results.get("basins") or ()),
        "profiles": surfaces.profiles(found),
        "ladder": ladder.ladder_plots(results.get("ladder") or {}),
    }


def render(record: RunRecord, plots: Mapping[str, Sequence[Plot]], special: Sequence[Section] = ()) -> str:
    """The HTML page, complete in itself; ``special`` are the sections that only some runs have."""
    assets = resources.files("heatbath.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (assets / "templates" / name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"pretty": pretty, "number": number}
    structures = views(record)
    library = (assets / "assets" / "3Dmol-min.js").read_text(encoding="utf-8") if structures else ""
    licence = (assets / "assets" / "3Dmol-LICENSE").read_text(encoding="utf-8") if structures else ""
    return environment.get_template("page.html").render(
        title=title(record),
        subtitle=subtitle(record),
        verdict=verdict(record),
        verdict_words=verdict_words(record.results),
        evidence=evidence(record),
        headline=headline(record, special),
        sections=special,
        plots=plots,
        views=structures,
        views_json=script_json([view["pdb"] for view in structures]),
        library=library,
        licence=licence,
        numbers=numbers(record),
        chains=chains(record),
        weights=weights(record),
        ladder=ladder_facts(record),
        structure=structure_facts(record),
        cost=cost(record),
        setup=setup(record),
        resolved=record.resolved,
        citations=record.citations,
    )


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: no text in it can close the element or open a comment."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# Top of the page -----------------------------------------------------------------------------------------------------


def title(record: RunRecord) -> str:
    """The name of what was sampled: the configured one, else that of the results."""
    target = record.config.get("target") or {}
    found = record.results.get("target") or {}
    name = target.get("name") or target.get("sequence") or found.get("name") or record.config.get("experiment")
    return str(name or record.path.name)


def subtitle(record: RunRecord) -> list[str]:
    """Temperature, size, force field, method."""
    results = record.results
    temperature, target = results.get("temperature") or {}, results.get("target") or {}
    parts = []
    if temperature:
        value = number(temperature["value"])
        parts.append(f"{value} K" if temperature["unit"] == "K" else f"kT = {value}")
    if "n_atoms" in target:
        parts.append(f"{target['n_atoms']} atoms")
    elif "dimension" in target:
        parts.append(f"{target['dimension']} dimension{'s' if target['dimension'] != 1 else ''}")
    parts += [str(target[name]) for name in ("formula", "forcefield") if target.get(name)]
    parts.append(str(results.get("method", "")).replace("-", " "))
    return [part for part in parts if part]


def headline(record: RunRecord, special: Sequence[Section] = ()) -> list[Fact]:
    """The one to three numbers that people came for."""
    results = record.results
    facts = []
    for row in (results.get("free_energy_differences") or ())[:2]:
        name = f"free energy, {pretty(row['from'])} → {pretty(row['to'])}"
        facts.append(Fact(name, estimate(row["value"]), _in_unit(row)))
    for basin in (results.get("basins") or ())[1:2]:
        share = basin["population"]
        facts.append(Fact(f"population, {pretty(basin['name'])}", percent(share["value"], share["standard_error"])))
    facts += [fact for made in special for fact in made.headline]
    found = results.get("estimates") or {}
    for name in ("log Z", "mean energy"):
        if name in found and len(facts) < 3:
            facts.append(Fact(name, estimate(found[name]), _against_exact(found[name])))
    return facts[:3]


def verdict(record: RunRecord) -> dict[str, Any]:
    """The verdict with every part that the page asks for; empty when the run has none."""
    found = record.results.get("verdict")
    return {"reasons": [], "checks": [], "cautions": [], **found} if found else {"checks": [], "cautions": []}


def evidence(record: RunRecord) -> list[str]:
    """The sentences that speak most for a converged run; the reasons of a verdict that has no checks."""
    found = record.results.get("verdict") or {}
    checks = found.get("checks") or ()
    if not checks:
        return [str(reason) for reason in found.get("reasons") or ()][:3]
    sentences = {check["name"]: check["sentence"] for check in checks if check["passed"]}
    return [sentences[name] for name in _EVIDENCE if name in sentences][:3]


def _in_unit(row: Mapping[str, Any]) -> str:
    """A free-energy difference in the unit of the energy; empty when it is unknown."""
    fields = row.get("in_unit") or {}
    return "" if fields.get("value") is None else estimate(fields)


def _against_exact(fields: Mapping[str, Any]) -> str:
    if fields.get("exact") is None:
        return ""
    text = f"exact {number(fields['exact'], 6)}"
    if fields.get("sigmas_from_exact") is not None:
        text += f", {abs(fields['sigmas_from_exact']):.1f} σ away"
    return text


# Structures ----------------------------------------------------------------------------------------------------------


def views(record: RunRecord) -> list[dict[str, Any]]:
    """What each three-dimensional view shows: number, name, population, file and coordinates."""
    shown = []
    units: dict[str, str] = {}
    for surface in (record.results.get("surfaces") or {}).values():
        units |= dict(zip(surface.get("coordinates", ()), surface["units"], strict=False))
    basins: list[dict[str, Any]] = record.results.get("basins") or []
    for index, basin in enumerate(basins, start=1):
        pdb = record.structures.get(basin.get("representative") or "")
        if pdb is None or len(shown) >= MOST_VIEWS:
            continue
        at = [_coordinate(name, value, units.get(name, "1")) for name, value in (basin.get("at") or {}).items()]
        share = basin["population"]
        shown.append(
            {
                "number": index,
                "name": pretty(basin["name"]),
                "population": percent(share["value"], share["standard_error"]),
                "file": basin["representative"],
                "at": ", ".join(at[:4]),
                "pdb": pdb,
            }
        )
    return shown


def _coordinate(name: str, value: float | int, unit: str) -> str:
    if unit == "rad":
        return f"{pretty(name)} = {number(round(value * 57.29577951308232), 3)}°"
    return f"{pretty(name)} = {number(value, 3)}{'' if unit == '1' else ' ' + unit}"


# Tables --------------------------------------------------------------------------------------------------------------


def numbers(record: RunRecord) -> list[Fact]:
    """Every scalar estimate with its error, unit and remark."""
    results = record.results
    facts = []
    for row in results.get("free_energy_differences") or ():
        text = " = ".join(filter(None, [estimate(row["value"]), _in_unit(row)]))
        facts.append(Fact(f"ΔF, {pretty(row['from'])} → {pretty(row['to'])}", text, row["value"]["method"]))
    for basin in results.get("basins") or ():
        share = basin["population"]
        text = percent(share["value"], share["standard_error"])
        facts.append(Fact(f"population of {pretty(basin['name'])}", text, share["method"]))
    for name, fields in (results.get("estimates") or {}).items():
        if not isinstance(fields["value"], list):
            facts.append(Fact(pretty(name), estimate(fields), _against_exact(fields) or fields.get("method", "")))
    return facts


def chains(record: RunRecord) -> list[list[str]]:
    """Rows of the table of chain diagnostics."""
    rows = []
    for name, row in (record.results.get("chains") or {}).items():
        rhat = "∞" if row.get("stuck") else "–" if row["rhat"] is None else f"{row['rhat']:.3f}"
        rows.append([pretty(name), rhat, number(row["ess"], 3), number(row["autocorrelation_time"], 3)])
    return rows


def weights(record: RunRecord) -> list[Fact]:
    """How many equal draws the weights are worth."""
    found = record.results.get("weights") or {}
    if not found:
        return []
    share = found["ess"] / found["size"] if found.get("size") else None
    facts = [Fact("effective size", f"{number(found['ess'])} of {number(found['size'], 8)} draws ({percent(share)})")]
    if found.get("pareto_k") is not None:
        facts.append(Fact("Pareto k", f"{found['pareto_k']:.2f}".replace("-", "−"), "below 0.7 averages are reliable"))
    return facts


def ladder_facts(record: RunRecord) -> list[Fact]:
    """Temperatures, round trips, acceptance."""
    found = record.results.get("ladder") or {}
    if not found:
        return []
    unit = found.get("unit", "1")
    facts = [Fact("temperatures", ", ".join(ladder.temperature(t, unit) for t in found["temperatures"]))]
    trips = found.get("round_trips")
    if isinstance(trips, list) and trips:
        text = f"{sum(trips)} in {len(trips)} ladders (fewest in one: {min(trips)})"
        facts.append(Fact("round trips", text, "coldest to hottest and back, by one walker"))
    elif trips is not None:
        facts.append(Fact("round trips", str(trips)))
    for key, name in (("swap_acceptance", "swaps accepted"), ("acceptance", "moves accepted")):
        if found.get(key):
            facts.append(Fact(name, " · ".join(percent(value) for value in found[key])))
    if found.get("step_sizes"):
        facts.append(
            Fact("step sizes", " · ".join(number(value, 3) for value in found["step_sizes"]), _step_unit(record))
        )
    return facts


def _step_unit(record: RunRecord) -> str:
    return "in ps, coldest first" if (record.results.get("target") or {}).get("unit") != "1" else "coldest first"


def structure_facts(record: RunRecord) -> list[Fact]:
    """Chiral centres and peptide bonds."""
    found = record.results.get("stereochemistry") or {}
    if not found:
        return []
    frames = number(found["frames"], 8)
    return [
        Fact("inverted chiral centres", str(found["inverted_centres"]), f"in {frames} frames at the asked temperature"),
        Fact("flipped peptide bonds", str(found["flipped_peptide_bonds"]), "cis in place of trans, or the reverse"),
    ]


def cost(record: RunRecord) -> list[Fact]:
    """What the numbers cost, and what came out per second."""
    results, run = record.results, record.results.get("run") or {}
    last = record.metrics[-1] if record.metrics else {}
    seconds = run.get("seconds") or last.get("elapsed")
    total = run.get("energy_evaluations") or (results.get("cost") or {}).get("energy_evaluations")
    facts = []
    if seconds:
        warm = [row["elapsed"] for row in record.metrics if row.get("phase") == "warm-up"]
        remark = f"of which warm-up {duration(max(warm))}" if warm else ""
        facts.append(Fact("time" if is_training(results) else "sampling time", duration(seconds), remark))
    if total:
        remark = f"{number(total / seconds, 3)} per second" if seconds else ""
        facts.append(Fact("energy evaluations", number(total, 4), remark))
    sizes = [row["ess"] for row in (results.get("chains") or {}).values() if row["ess"] is not None]
    if sizes and seconds:
        text = f"{number(min(sizes) / seconds, 3)} per second"
        facts.append(Fact("independent draws", text, "of the slowest quantity, at the asked temperature"))
    if (results.get("cost") or {}).get("non_finite") is not None:
        facts.append(
            Fact("energies that were not finite", number(results["cost"]["non_finite"], 8), "those moves were rejected")
        )
    return facts


def setup(record: RunRecord) -> list[Fact]:
    """How to run the same again."""
    found = record.provenance
    facts = []
    if found.get("argv"):
        facts.append(Fact("command", " ".join(_quoted(word) for word in found["argv"]), "code"))
    if found.get("seed") is not None:
        facts.append(Fact("seed", str(found["seed"])))
    if found.get("started"):
        facts.append(Fact("started", str(found["started"]).replace("T", " ")))
    versions = {name: found.get(name) for name in ("heatbath", "python")} | dict(found.get("packages") or {})
    shown = [f"{name} {versions[name]}" for name in _SHOWN_VERSIONS if versions.get(name)]
    if shown:
        facts.append(Fact("versions", ", ".join(shown)))
    if found.get("commit"):
        facts.append(Fact("source", f"{found['commit'][:12]}{' with local changes' if found.get('dirty') else ''}"))
    machine = [str(found[name]) for name in ("cpu", "platform") if found.get(name)]
    if found.get("cores"):
        machine.insert(1, f"{found['cores']} cores")
    if machine:
        facts.append(Fact("machine", ", ".join(machine)))
    if found.get("devices"):
        precision = "64-bit" if found.get("x64") else "32-bit"
        facts.append(Fact("devices", ", ".join(found["devices"]), f"JAX in {precision} mode"))
    return facts


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word else word
