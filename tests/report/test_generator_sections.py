"""Sections on generators: their numbers are those of the results, their warnings appear, and nothing is drawn from nothing."""

import copy
import csv
import json
import re
import shutil

import pytest

from heatbath.report import build, flow_perturbation, generator, steerable
from heatbath.report.sections import Caution, Table
from heatbath.report.words import few_effective_draws, missed_modes

PARTS = ("model", "metrics", "ess", "weights", "training", "energies", "ramachandran", "stereochemistry", "literature")


@pytest.fixture(scope="module")
def page(sections_run):
    return build(sections_run)


def text_of(page):
    """What a reader sees: the page without style, scripts, figures and tags."""
    html = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def rows_of(section):
    """Texts of the first table, by the name of the row."""
    table = next(block for block in section.blocks if isinstance(block, Table))
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}, table.columns[1:]


def test_every_section_is_on_the_page(page):
    """A section that is computed and not shown hides its warning."""
    text = text_of(page)
    for title in ("Boltzmann generator", "Weights of a continuous flow", "Temperature-steerable flow"):
        assert title in text
    html = page.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    names = {path.stem for path in (page.parent / "figures").glob("*.svg")}
    expected = {"generator-maps", "generator-energies", "generator-weights", "generator-training"}
    expected |= {"flow-perturbation-bias", "flow-perturbation-cost", "steerable-delta-f", "steerable-effective"}
    assert expected <= names


def test_a_metric_stands_in_its_own_column_beside_its_floor(sections):
    """Columns that slip would show the model's own error as the reweighted one."""
    rows, columns = rows_of(generator.section(sections))
    assert list(columns) == ["model alone", "reweighted", "after SMC", "floor"]
    assert rows["energy W2 (kT)"] == ["9.31 ± 0.21", "0.410 ± 0.090", "0.330 ± 0.050", "0.190 ± 0.040"]
    assert rows["torus W2 (rad)"][2] == "–"


def test_raw_and_cut_efficiency_are_both_shown_and_told_apart(page):
    """The literature's cut without the raw number is how an unusable model looks usable."""
    text = text_of(page)
    assert re.search(r"effective draws 18\.4 % Kish, all weights kept", text)
    assert re.search(r"without the heaviest weights 24\.3 % largest 0\.2 % dropped", text)
    assert re.search(r"forward effective draws 17\.1 %", text)
    assert re.search(r"this run 0\.243 0\.410 ± 0\.090", text), "published rows are after the cut, so is ours"


def test_too_few_effective_draws_and_missing_modes_are_said(sections):
    """A generator that fails must say so beside its numbers; one that works must not cry wolf."""
    assert not any(isinstance(block, Caution) for block in generator.section(sections).blocks)
    poor = copy.deepcopy(sections)
    poor["generator"]["ess"] |= {"raw": 7.0, "fraction": 0.0007, "forward_fraction": 1e-5}
    caution = next(block for block in generator.section(poor).blocks if isinstance(block, Caution))
    assert "no more than 7 of equal weight" in caution.sentences[0]
    assert "mean nothing" in caution.sentences[0]
    assert "hardly draws" in caution.sentences[1]
    assert few_effective_draws(100, 10_000) == few_effective_draws(None, None) == ""
    assert missed_modes({"fraction": 0.2, "forward_fraction": 0.05}) == ""
    assert missed_modes({"fraction": 0.2}) == ""


@pytest.mark.parametrize("key", PARTS)
def test_every_part_of_a_generator_is_optional(sections, key):
    """A run without a reference, training or literature must still be reported."""
    assert set(sections["generator"]) == set(PARTS)
    rest = {name: part for name, part in sections["generator"].items() if name != key}
    for found in ({key: sections["generator"][key]}, rest):
        assert generator.section({"generator": found}).title


def test_no_results_no_section():
    """Headings over nothing look like failures."""
    assert [module.section({}) for module in (generator, flow_perturbation, steerable)] == [None] * 3


def test_maps_share_one_scale_and_their_data_are_those_of_the_results(page, sections):
    """Panels on their own scales would make a poor model look like the reference."""
    with (page.parent / "figures" / "generator-maps.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for name, surface in sections["generator"]["ramachandran"].items():
        shown = [row["free energy (kT)"] for row in rows if row["draws"] == name]
        flat = [cell for line in surface["free_energy"] for cell in line]
        assert shown == ["" if cell is None else str(cell) for cell in flat]
    svg = (page.parent / "figures" / "generator-maps.svg").read_text()
    assert svg.count("free energy (kT)") == 1


def test_biased_weights_are_called_biased(sections):
    """The one word that the comparison of log Jacobians is about."""
    rows, columns = rows_of(flow_perturbation.section(sections))
    word = list(columns).index("weight")
    assert rows["exact Jacobian"][word] == rows["flow perturbation, 20 steps"][word] == "unbiased"
    assert rows["Hutchinson, 1 probe"][word] == "biased"
    assert rows["exact"][columns.index("weight of the first mode")] == "0.25"


def test_the_headline_of_log_jacobians_is_of_unbiased_weights(sections):
    """The cheapest weights are biased: they must not be the number on top."""
    fact = flow_perturbation.section(sections).headline[0]
    assert (fact.text, fact.remark) == ("0.270 ± 0.014", "flow perturbation, 1 step; exact 0.25")


def test_steerable_rows_hold_their_references(sections):
    """A temperature beside another one's reference would hide a failure."""
    rows, columns = rows_of(steerable.section(sections))
    assert rows["300 K"][columns.index("ΔF")] == "3.72 ± 0.11 kT"
    assert rows["300 K"][columns.index("reference ΔF")] == "3.810 ± 0.040 kT"
    assert rows["1\u202f000 K"][columns.index("reference ΔF")] == "–"
    assert steerable.section(sections).headline[0].name == "ΔF at 300 K"


def test_a_training_is_not_called_converged(toy_run, tmp_path):
    """ "Converged" beside a model that was only trained would be read as a statement on equilibrium numbers."""
    run = shutil.copytree(toy_run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    results = {
        "method": "training of coupling-flow",
        "verdict": {"converged": False, "reasons": ["Draws are worth 0.1 %."]},
    }
    for good, word in ((False, "Not usable yet"), (True, "Usable model")):
        results["verdict"]["converged"] = good
        (run / "results.json").write_text(json.dumps(results))
        text = text_of(build(run))
        assert word in text
        assert "onverged" not in text
        assert "Draws are worth 0.1 %." in text
        assert "All 0" not in text


def test_a_run_without_target_or_temperature_is_reported(toy_run, sections, tmp_path):
    """Comparisons of methods have no molecule; their page must not fail."""
    run = shutil.copytree(toy_run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    (run / "resolved.toml").write_text('experiment = "flow-perturbation"\n')
    (run / "results.json").write_text(json.dumps({"flow_perturbation": sections["flow_perturbation"]}))
    text = text_of(build(run))
    assert text.index("flow-perturbation") < text.index("Weights of a continuous flow")
