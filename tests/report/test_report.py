"""The page: what it says, what it leaves out, and that nothing in a run can break out of it."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from heatbath.errors import RunDirectoryError
from heatbath.report import build
from heatbath.report.page import script_json


@pytest.fixture
def toy(toy_run, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(toy_run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))


def change(run, edit):
    results = json.loads((run / "results.json").read_text())
    edit(results)
    (run / "results.json").write_text(json.dumps(results))
    return results


def text_of(page):
    """What a reader sees: the page without style, scripts and tags."""
    html = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("&lt;", "<").replace("&gt;", ">")


# What it says --------------------------------------------------------------------------------------------------------


def test_the_verdict_comes_first(toy):
    """A reader who stops after the first line must know whether to trust the numbers."""
    text = text_of(build(toy))
    assert text.index("double-well") < text.index("Converged") < text.index("Numbers") < text.index("Checks")
    assert "Not converged" not in text


def test_a_bad_run_says_so_before_any_number(toy):
    """The word "converged" on the page of a run that is not would be the worst possible mistake."""

    def spoil(results):
        results["verdict"] |= {"converged": False, "reasons": ["The chains disagree: the largest R-hat is 1.500."]}

    change(toy, spoil)
    text = text_of(build(toy))
    assert text.index("Not converged") < text.index("R-hat is 1.500") < text.index("free energy, left → right")
    assert re.search(r"(?<!Not )Converged", text) is None


def test_numbers_are_those_of_the_results(toy):
    """A rounding that hides digits, a lost sign or a lost unit would change the answer."""
    results = json.loads((toy / "results.json").read_text())
    text = text_of(build(toy))
    value = results["free_energy_differences"][0]["value"]
    shown = re.search(r"ΔF, left → right (−?)([\d.]+) ± ([\d.]+) kT", text)
    found = float(shown[2]) * (-1 if shown[1] else 1)
    assert abs(found - value["value"]) < 0.06 * value["standard_error"]
    assert abs(float(shown[3]) - value["standard_error"]) < 0.06 * value["standard_error"]
    assert f"seed {7}" in text
    assert "heatbath sample double-well --temperature '300 K'" in text.replace("&#39;", "'")
    assert "@article{metropolis1953" in text


def test_every_section_of_a_full_run_is_there(toy):
    """A section that disappears silently takes its warning with it."""
    text = text_of(build(toy))
    titles = (
        "Free-energy surface",
        "Free energy along x",
        "Numbers",
        "Temperature ladder",
        "Checks",
        "Chains",
        "What was run",
    )
    assert [title for title in titles if title not in text] == []
    assert "round trips 80 in 8 ladders" in text
    assert "effective size" in text


def test_sections_without_data_are_left_out(toy):
    """Empty tables and headings without content would look like failures."""
    keep = ("target", "temperature", "method", "verdict", "estimates")
    change(toy, lambda results: [results.pop(name) for name in set(results) - set(keep)])
    for name in ("metrics.jsonl", "provenance.json", "resolved.toml", "CITATIONS.bib"):
        (toy / name).unlink()
    text = text_of(build(toy))
    for title in ("surface", "Profiles", "Temperature ladder", "Chains", "What was run", "How to cite"):
        assert title not in text
    assert "mean energy" in text


# What it is ----------------------------------------------------------------------------------------------------------


def test_the_page_is_complete_in_itself(molecule_run):
    """A link to a script, style, font or picture elsewhere would break without a network, or call home with one."""
    page = build(molecule_run)
    html = page.read_text(encoding="utf-8")
    assert page == molecule_run / "report" / "index.html"
    assert page.stat().st_size < 3e6
    outside = re.sub(r"<script\b.*?</script>", "", html, flags=re.S)
    assert re.findall(r"(?:src|href)=[\"'](?!data:|#)[^\"']*", outside) == []
    assert "@import" not in outside
    assert "default-src 'none'" in html
    assert "Redistribution and use in source and binary forms" in html


def test_figures_follow_the_theme_and_do_not_collide(molecule_run):
    """Fixed black text vanishes on a dark page; equal ids make one figure clip another."""
    html = build(molecule_run).read_text(encoding="utf-8")
    figures = re.findall(r"<svg\b.*?</svg>", html, flags=re.S)
    assert len(figures) >= 3
    assert all("var(--ink)" in figure and "#1c2733" not in figure for figure in figures)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_report_can_be_made_again_bit_by_bit(toy):
    """A page that differs from one making to the next cannot be compared or cached."""
    first = build(toy).read_bytes()
    assert build(toy).read_bytes() == first


def test_figures_are_saved_with_their_data(toy):
    """The CSV beside a figure must hold the numbers of the figure."""
    results = json.loads((toy / "results.json").read_text())
    build(toy)
    folder = toy / "report" / "figures"
    assert {path.stem for path in folder.glob("*.svg")} == {path.stem for path in folder.glob("*.csv")}
    with (folder / "profile-0.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0][1] == "free energy (kT)"
    energy = [float(row[1]) if row[1] else None for row in rows[1:]]
    assert energy == results["surfaces"]["x"]["free_energy"]
    assert (folder / "profile-0.svg").read_text().startswith("<?xml")


def test_torsions_are_shown_in_degrees_on_the_whole_circle(molecule_run):
    """Radians on the axis, or a map that stops before the seam, would misplace every basin."""
    build(molecule_run)
    with (molecule_run / "report" / "figures" / "surface-0.csv").open() as stream:
        header, *rows = csv.reader(stream)
    assert header[:2] == ["φ (Ala 2) (degrees)", "ψ (Ala 2) (degrees)"] or "degrees" in header[0]
    angles = np.array([float(row[0]) for row in rows])
    width = np.diff(np.unique(angles)).min()
    assert np.isclose(angles.min(), -180 + width / 2)
    assert np.isclose(angles.max(), 180 - width / 2)


# Hostile and broken runs ----------------------------------------------------------------------------------------------


def test_text_from_a_run_cannot_become_markup(toy):
    """Names come from files and command lines; a script in one would run in the reader's browser."""
    evil = "</script><script>alert(1)</script>"

    def poison(results):
        results["basins"][0] |= {"name": evil, "representative": "structures/evil.pdb"}
        results["verdict"] |= {"converged": False, "reasons": [evil]}

    change(toy, poison)
    (toy / "structures").mkdir()
    (toy / "structures" / "evil.pdb").write_text(f"REMARK {evil}\nEND\n")
    html = build(toy).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in html
    embedded = re.search(r'id="structures">(.*?)</script>', html, flags=re.S)[1]
    assert json.loads(embedded) == [f"REMARK {evil}\nEND\n"]


def test_json_in_a_script_reads_back():
    """Escaping that changes the text would show another structure."""
    text = "</script> <!-- & \u2028 é \\ \" '"
    assert json.loads(script_json([text])) == [text]
    assert not set("<>&") & set(script_json([text]))


def test_files_outside_the_run_are_not_embedded(toy):
    """A results.json from elsewhere must not be able to publish the reader's own files."""
    (toy.parent / "secret.pdb").write_text("SECRET")
    change(toy, lambda results: results["basins"][0].update(representative="../secret.pdb"))
    assert "SECRET" not in build(toy).read_text(encoding="utf-8")


def test_a_run_without_readable_results_is_refused(toy):
    """A traceback, or an empty page that looks like a report, would hide what is missing."""
    (toy / "results.json").write_text('{"target": ')
    with pytest.raises(RunDirectoryError, match="not valid JSON"):
        build(toy)
    (toy / "results.json").unlink()
    with pytest.raises(RunDirectoryError, match="no results"):
        build(toy)
    assert not (toy / "report").exists()


def test_a_half_written_line_of_metrics_is_skipped(toy):
    """A report made while a run goes on reads a file that ends in the middle of a line."""
    with (toy / "metrics.jsonl").open("a") as stream:
        stream.write('{"phase": "produ')
    assert "sampling time 42 s" in text_of(build(toy))
