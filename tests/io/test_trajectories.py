"""Exported ensembles, read back by the programs that people use next."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError, RunDirectoryError, UsageError
from heatbath.io.trajectories import export, superpose, write_structure
from heatbath.state import ThermoState

app = pytest.importorskip("openmm.app", reason="writing PDB, DCD and XTC needs OpenMM")
TOLERANCE = {"pdb": 6e-5, "dcd": 1e-6, "xtc": 6e-4}  # nm: 0.001 A columns, float32, 0.001 nm steps


class Methanethiol:
    """A molecule as far as files are concerned: names, bonds and a reference structure of one residue."""

    names = ("C", "S", "H1", "H2", "H3", "HS")
    positions = np.array(
        [[0.0, 0, 0], [0.18, 0, 0], [-0.04, 0.1, 0], [-0.04, -0.05, 0.09], [-0.04, -0.05, -0.09], [0.2, 0.13, 0]]
    )

    def to_openmm_topology(self):
        topology = app.Topology()
        residue = topology.addResidue("MSH", topology.addChain("A"), "7")
        symbols = ("C", "S", "H", "H", "H", "H")
        atoms = [
            topology.addAtom(name, app.Element.getBySymbol(symbol), residue)
            for name, symbol in zip(self.names, symbols, strict=True)
        ]
        for i, j in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 5)):
            topology.addBond(atoms[i], atoms[j])
        return topology


def make_ensemble(log_weights, molecule):
    rng = np.random.default_rng(3)
    shape = np.shape(log_weights)
    positions = molecule.positions + 0.02 * rng.standard_normal((*shape, 6, 3))
    axes = ("chain", "draw") if len(shape) == 2 else ("draw",)
    return Ensemble(
        jnp.asarray(positions), jnp.asarray(log_weights), ThermoState(0.4), jnp.zeros(shape) + 1.5, axes=axes
    )


@pytest.fixture
def molecule():
    return Methanethiol()


@pytest.fixture
def equal(molecule):
    return make_ensemble(np.zeros((2, 3)), molecule)


@pytest.fixture
def unequal(molecule):
    return make_ensemble(np.log([0.5, 0.25, 0.125, 0.125]), molecule)


@pytest.mark.parametrize("file_format", ["pdb", "dcd", "xtc"])
def test_mdtraj_reads_the_coordinates_back(file_format, equal, molecule, tmp_path):
    """Wrong units, a wrong order of frames or atoms, or a lost frame would give other coordinates."""
    mdtraj = pytest.importorskip("mdtraj")
    path, *rest = export(equal, molecule, tmp_path / f"run.{file_format}")
    trajectory = mdtraj.load(str(path), **({"top": str(rest[0])} if rest else {}))
    expected = np.asarray(equal.samples).reshape(-1, 6, 3)
    assert np.abs(trajectory.xyz - expected).max() < TOLERANCE[file_format]
    assert tuple(atom.name for atom in trajectory.topology.atoms) == molecule.names
    assert trajectory.topology.n_bonds == 5


@pytest.mark.filterwarnings("ignore")  # MDAnalysis warns about the empty cell of an isolated molecule
@pytest.mark.parametrize("file_format", ["pdb", "dcd", "xtc"])
def test_mdanalysis_reads_the_coordinates_back(file_format, equal, molecule, tmp_path):
    """As above, through the other library, which works in angstrom."""
    mda = pytest.importorskip("MDAnalysis")
    path, *rest = export(equal, molecule, tmp_path / f"run.{file_format}")
    universe = mda.Universe(str(rest[0] if rest else path), str(path))
    found = np.array([universe.atoms.positions.copy() for _ in universe.trajectory]) / 10
    assert np.abs(found - np.asarray(equal.samples).reshape(-1, 6, 3)).max() < TOLERANCE[file_format]
    assert list(universe.residues.resnames) == ["MSH"]


def test_unequal_weights_ask_for_a_decision(unequal, molecule, tmp_path):
    """Frames of unequal weight in a file that cannot say so would be averaged wrongly by every reader."""
    with pytest.raises(InvalidArgumentError, match=r"weights='resample'.*weights='beside'"):
        export(unequal, molecule, tmp_path / "run.xtc")
    assert list(tmp_path.iterdir()) == []


def test_weights_beside_belong_to_their_frames(unequal, molecule, tmp_path):
    """Weights in another order than the frames, or not normalised, would reweight wrongly."""
    mdtraj = pytest.importorskip("mdtraj")
    path, topology, weights = export(unequal, molecule, tmp_path / "run.dcd", weights="beside")
    assert weights.read_text().startswith("#! FIELDS log_weight\n")
    assert np.allclose(np.exp(np.loadtxt(weights)), [0.5, 0.25, 0.125, 0.125], atol=1e-9)
    assert mdtraj.load(str(path), top=str(topology)).n_frames == 4


def test_resampled_frames_appear_in_proportion_to_their_weights(unequal, molecule, tmp_path):
    """Systematic resampling of eight frames from weights 4:2:1:1 has one outcome; another means wrong weights."""
    mdtraj = pytest.importorskip("mdtraj")
    path, topology = export(unequal, molecule, tmp_path / "run.dcd", weights="resample", frames=8)
    xyz = mdtraj.load(str(path), top=str(topology)).xyz
    distance = np.abs(xyz[:, None] - np.asarray(unequal.samples)[None]).max(axis=(2, 3))
    assert np.bincount(distance.argmin(axis=1), minlength=4).tolist() == [4, 2, 1, 1]


def test_resampling_draws_as_many_frames_as_the_weights_are_worth(unequal, molecule, tmp_path):
    """More frames than the effective size would pretend to information that is not there."""
    mdtraj = pytest.importorskip("mdtraj")
    path, topology = export(unequal, molecule, tmp_path / "run.dcd", weights="resample")
    assert mdtraj.load(str(path), top=str(topology)).n_frames == int(unequal.ess())


def test_npz_holds_everything(unequal, molecule, tmp_path):
    """A missing weight, energy or atom name could not be recovered by a reader of the archive."""
    (path,) = export(unequal, molecule, tmp_path / "run.npz")
    with np.load(path) as archive:
        assert np.array_equal(archive["positions"], np.asarray(unequal.samples))
        assert np.allclose(archive["weights"], [0.5, 0.25, 0.125, 0.125])
        assert archive["energies"].tolist() == [1.5] * 4
        assert archive["atom_names"].tolist() == list(molecule.names)
        assert float(archive["beta"]) == 0.4


def test_npz_takes_any_target_and_the_others_refuse(tmp_path):
    """A toy target has no atoms: writing it as a PDB would invent some."""
    ensemble = Ensemble(jnp.arange(6.0).reshape(3, 2), jnp.zeros(3), ThermoState(1.0))
    (path,) = export(ensemble, object(), tmp_path / "toy.npz")
    with np.load(path) as archive:
        assert np.array_equal(archive["samples"], np.arange(6.0).reshape(3, 2))
    with pytest.raises(InvalidArgumentError, match="npz"):
        export(ensemble, object(), tmp_path / "toy.pdb")


def test_superposition_undoes_a_rigid_motion_but_never_a_mirror(molecule):
    """A reflection in place of a rotation would turn every L amino acid into a D one."""
    angle = 0.7
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = molecule.positions @ rotation.T + np.array([5.0, -3.0, 1.0])
    assert np.allclose(superpose(moved, molecule.positions), molecule.positions, atol=1e-12)
    chiral = molecule.positions + np.array(
        [[0, 0, 0], [0, 0, 0.02], [0, 0, 0.05], [0.03, 0, 0], [0, 0.02, 0], [0, 0, 0.04]]
    )
    mirrored = superpose(chiral * np.array([1, 1, -1]), chiral)
    assert np.abs(mirrored - chiral).max() > 0.01
    sides = [np.linalg.det(x[1:4] - x[0]) for x in (chiral, mirrored)]
    assert sides[0] * sides[1] < 0


def test_superposed_export_keeps_shapes(equal, molecule, tmp_path):
    """Superposition may move a frame but must not bend it."""
    mdtraj = pytest.importorskip("mdtraj")
    path, topology = export(equal, molecule, tmp_path / "run.dcd", superposed=True)
    xyz = mdtraj.load(str(path), top=str(topology)).xyz
    original = np.asarray(equal.samples).reshape(-1, 6, 3)

    def lengths(x):
        return np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)

    assert np.abs(lengths(xyz) - lengths(original)).max() < 1e-6


def test_coordinates_outside_the_columns_are_refused(molecule, tmp_path):
    """A PDB coordinate of nine digits is cut off by the writer and read as another number."""
    far = np.array(molecule.positions)
    far[0, 0] = -120.0
    with pytest.raises(InvalidArgumentError, match="columns of a PDB"):
        write_structure(tmp_path / "far.pdb", molecule, far)
    far[0, 0] = np.nan
    with pytest.raises(InvalidArgumentError, match="not finite"):
        write_structure(tmp_path / "far.pdb", molecule, far)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_are_one_sentence(equal, molecule, tmp_path):
    """A wrong format or a missing directory must name itself instead of showing a traceback of OpenMM."""
    with pytest.raises(UsageError, match=r"Did you mean 'xtc'"):
        export(equal, molecule, tmp_path / "run.xtcc")
    with pytest.raises(InvalidArgumentError, match="frames"):
        export(equal, molecule, tmp_path / "run.pdb", frames=3)
    with pytest.raises(RunDirectoryError, match="nowhere"):
        export(equal, molecule, tmp_path / "nowhere" / "run.pdb")


def test_the_name_in_the_package():
    """People find the function as heatbath.io.export."""
    assert importlib.import_module("heatbath.io").export is export
