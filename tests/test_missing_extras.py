"""Every extra that is not installed is asked for by name, with the command that installs it."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from heatbath.errors import MissingExtraError
from heatbath.estimators.wasserstein import torus_wasserstein
from heatbath.kinetics.quantum.circuit import Circuit
from heatbath.kinetics.quantum.export import run_in_aer, to_qiskit
from heatbath.targets import fragments, graphs, rna
from heatbath.targets.molecules.openmm_system import import_openmm
from heatbath.targets.molecules.sequences import build_sequence

ROOT = Path(__file__).parent.parent
POINTS = np.zeros((3, 2))

#: (module that is missing, its extra) -> what needs it
CASES = {
    ("RNA", "rna"): lambda: rna.DuplexBinding(),
    ("rdkit", "chem"): lambda: fragments.assemble(("C", "O"), blocks=2),
    ("ortools.sat.python", "mis"): lambda: graphs.largest_independent_set(np.zeros((2, 2), bool)),
    ("rdkit", "molecules"): lambda: build_sequence("AA", capped=True),
    ("openmm", "molecules"): import_openmm,
    ("ot", "metrics"): lambda: torus_wasserstein(POINTS, POINTS),
    ("qiskit", "quantum"): lambda: to_qiskit(Circuit(1)),
    ("qiskit_aer", "quantum"): lambda: run_in_aer(Circuit(1), np.array([1.0, 0.0])),
}


@pytest.mark.parametrize(("module", "extra"), CASES)
def test_the_extra_is_named(monkeypatch, module, extra):
    """A traceback of an import, or advice to install something that does not exist, helps nobody."""
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'heatbath\[{extra}\]'"):
        CASES[module, extra]()


def test_every_extra_exists():
    """The command that an error recommends must work, and ``heatbath[all]`` must hold what it names."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    everything = extras["all"][0].removeprefix("heatbath[").removesuffix("]").split(",")
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r'MissingExtraError\(\s*"[^"]+",\s*"([^"]+)"', source))
    assert {extra for _, extra in CASES} <= named <= set(everything) <= set(extras)
