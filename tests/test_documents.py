"""Code in the README and the documentation runs; generated pages are up to date."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
WITH_CODE = [page for page in PAGES if "```python" in page.read_text()]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_code_in_documents_runs(page, tmp_path, monkeypatch):
    """An example that does not run is the first thing a newcomer meets. Blocks of one page share a namespace."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    namespace = {"__name__": "document"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)
    assert blocks


def test_the_results_page_is_generated_from_the_results():
    """Numbers in the documentation come from results/, not from a keyboard."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "docs" / "results.md").read_text() == generate.page()
    assert (ROOT / "README.md").read_text() == generate.readme()
    for page, text in generate.systems().items():
        assert page.read_text() == text, f"run `make docs`: {page.name} is out of date"
    for name in generate.FIGURES:
        measured = (ROOT / "results" / f"{name}.json").exists()
        assert (ROOT / "docs" / generate.picture(name)).exists() == measured


def test_relative_links_lead_somewhere():
    """A moved page leaves dead links behind."""
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"
