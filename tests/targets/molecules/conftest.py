"""Systems that several test files look at, built once."""

import numpy as np
import pytest

pytest.importorskip("openmm", reason="the extra 'molecules' is not installed")
pytest.importorskip("rdkit", reason="the extra 'molecules' is not installed")

import heatbath
from heatbath.targets.molecules.forcefields import create_system
from heatbath.targets.molecules.openmm_comparison import clashed_frames, dynamics_frames, with_gbsa_obc_force
from heatbath.targets.molecules.sequences import build_sequence
from heatbath.targets.molecules.structures import add_hydrogens


@pytest.fixture(scope="session")
def prepared():
    """(sequence, capped) -> (topology, positions in nm) with hydrogens, remembered."""
    made = {}

    def prepare(sequence, *, capped=False):
        key = (sequence, capped)
        if key not in made:
            made[key] = add_hydrogens("amber99sbildn-obc2", *build_sequence(sequence, capped=capped))
        return made[key]

    return prepare


@pytest.fixture(scope="session")
def make_system(prepared):
    """(sequence, capped, forcefield, cutoff) -> (OpenMM System, positions)."""

    def make(sequence, *, capped=False, forcefield="amber99sbildn-obc2", cutoff=None):
        topology, positions = prepared(sequence, capped=capped)
        return create_system(forcefield, topology, cutoff), positions

    return make


@pytest.fixture(scope="session")
def make_frames(make_system):
    """(sequence, capped) -> frames of dynamics followed by badly clashed ones."""
    made = {}

    def make(sequence, *, capped=False, count=3):
        key = (sequence, capped, count)
        if key not in made:
            system, positions = make_system(sequence, capped=capped)
            moved = dynamics_frames(with_gbsa_obc_force(system), positions, count, seed=7)
            made[key] = np.concatenate([moved, clashed_frames(moved[0], count, seed=7)])
        return made[key]

    return make


@pytest.fixture(scope="session")
def dipeptide():
    """Alanine dipeptide on the XLA evaluator."""
    return heatbath.molecule("alanine-dipeptide", backend="xla")
