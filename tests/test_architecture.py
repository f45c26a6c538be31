"""The house rules that a reader cannot see in one file: who may import whom, how long files are, what they are called."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "heatbath"
FILES = sorted(SOURCE.rglob("*.py"))

#: A package may import those of a lower level and, within its level, itself only.
LEVELS = {
    "vocabulary": 0,
    "targets": 1,
    "models": 1,
    "kinetics": 1,
    # estimators take ensembles and arrays, never samplers; replica exchange weights its draws by MBAR
    "estimators": 1,
    "kernels": 2,
    "samplers": 3,
    "training": 3,
    "tracking": 4,
    "io": 4,
    "report": 5,
    "experiments": 6,
    "cli": 7,
}
#: io and report know run directories and the vocabulary only.
NARROW = {"io": {"vocabulary", "io"}, "report": {"vocabulary", "io", "report"}}


def package_of(module: str) -> str:
    """``heatbath.kernels.hmc`` -> ``kernels``; top-level modules are the vocabulary."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (SOURCE / parts[1]).is_dir() else "vocabulary"


def imports_of(path: Path) -> set[str]:
    """heatbath modules that a file imports outside of ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("heatbath"):
            found |= {node.module} if node.module != "heatbath" else {f"heatbath.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("heatbath.")}
    return found


def violations(path: Path) -> list[str]:
    """Forbidden imports of one file, as sentences."""
    own = package_of("heatbath." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
    if path in (SOURCE / "__init__.py", SOURCE / "__main__.py"):
        return []
    bad = []
    for module in imports_of(path):
        other = package_of(module)
        if other == own:
            continue
        if LEVELS[other] >= LEVELS[own] or other not in NARROW.get(own, {other}):
            bad.append(f"{path.relative_to(SOURCE)} imports {module}")
    return bad


def test_imports_point_downwards():
    """One upward import makes a cycle possible and a layer untestable."""
    assert [sentence for path in FILES for sentence in violations(path)] == []


def test_the_import_rule_catches_an_upward_import(tmp_path, monkeypatch):
    """Negative control: a kernel that imports the report must be named."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "report").mkdir()
    bad = tmp_path / "kernels" / "bad.py"
    bad.write_text("from heatbath.report import build\n")
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    assert violations(bad) == ["kernels/bad.py imports heatbath.report"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_hold_one_idea(path):
    """Long files, files called utils and files without an opening paragraph hide what they do."""
    text = path.read_text()
    assert text.count("\n") <= 600
    assert path.stem.strip("_") not in {"utils", "util", "helpers", "helper", "common", "misc"}
    assert ast.get_docstring(ast.parse(text)), "the file does not open with a paragraph saying what lives there"


def test_importing_heatbath_imports_no_jax():
    """Start-up of the command line depends on it."""
    code = "import sys, heatbath; assert dir(heatbath); sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
