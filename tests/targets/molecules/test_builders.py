import jax
import numpy as np
import openmm
import pytest

import heatbath
from heatbath.errors import InvalidArgumentError, StructureError, UnitError, UnsupportedForceError, UsageError
from heatbath.targets.molecules import from_openmm
from heatbath.targets.molecules.sequences import AMINO_ACIDS
from heatbath.targets.molecules.structures import add_hydrogens, read_pdb


@pytest.fixture(scope="module")
def pdb_text(dipeptide, tmp_path_factory):
    path = tmp_path_factory.mktemp("pdb") / "ala.pdb"
    with path.open("w") as file:
        positions = np.asarray(dipeptide.positions) * openmm.unit.nanometer
        openmm.app.PDBFile.writeFile(dipeptide.to_openmm_topology(), positions, file)
    return path.read_text()


def test_pdb_file_gives_the_same_molecule(dipeptide, pdb_text, tmp_path):
    """If it failed, files that we wrote ourselves could not be read back."""
    path = tmp_path / "ala.pdb"
    path.write_text(pdb_text)
    read = heatbath.molecule(path, backend="xla")
    assert read.name == "ala"
    assert read.topology.bonds == dipeptide.topology.bonds
    assert read.topology.atom_names == dipeptide.topology.atom_names
    x = np.asarray(dipeptide.positions) + 0.01 * np.random.default_rng(0).normal(size=(22, 3))
    assert float(jax.jit(read.energy)(x)) == pytest.approx(float(jax.jit(dipeptide.energy)(x)), rel=1e-12)


def test_missing_hydrogens_are_added(dipeptide, pdb_text, tmp_path):
    """If it failed, structures from crystals could not be used."""
    path = tmp_path / "heavy.pdb"
    lines = [line for line in pdb_text.splitlines() if line[76:78].strip() != "H" and not line.startswith("CONECT")]
    path.write_text("\n".join(lines) + "\n")
    topology, positions = add_hydrogens("amber99sbildn-obc2", *read_pdb(path))
    assert [atom.name for atom in topology.atoms()] == list(dipeptide.topology.atom_names)
    assert np.isfinite(positions).all()


def without(pdb_text, name, residue):
    keep = [
        line
        for line in pdb_text.splitlines()
        if (line[12:16].strip(), line[17:20]) != (name, residue) and not line.startswith("CONECT")
    ]
    return "\n".join(keep) + "\n"


def with_nan(pdb_text):
    return pdb_text.replace(pdb_text.splitlines()[3][30:38], "     nan", 1)


def mirrored(pdb_text):
    lines = []
    for line in pdb_text.splitlines():
        if line.startswith(("ATOM", "HETATM")):
            line = f"{line[:30]}{-float(line[30:38]):8.3f}{line[38:]}"
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda text: "", "no ATOM"),
        (lambda text: "this is no PDB file\n", "no ATOM"),
        (lambda text: text.replace("ALA", "LIG"), "LIG 2.*unknown"),
        (lambda text: text.replace("NME", "HOH"), "water"),
        (lambda text: without(text, "CB", "ALA"), "ALA 2.*CB"),
        (lambda text: without(text, "N", "NME"), "NME 3.*N"),
        (lambda text: "\n".join(line for line in text.splitlines() if "NME" not in line) + "\n", "ALA 2.*OXT"),
        (with_nan, "finite"),
        (mirrored, "L-amino acids.*Ala 2 CA"),
    ],
)
def test_bad_files_are_refused_by_name(pdb_text, tmp_path, spoil, named):
    """If it failed, a broken file would give a traceback, or worse, a wrong molecule."""
    path = tmp_path / "bad.pdb"
    path.write_text(spoil(pdb_text))
    with pytest.raises(StructureError, match=named):
        heatbath.molecule(path, backend="xla")


def test_broken_chain_is_refused(prepared, tmp_path):
    """If it failed, residues across a gap would be joined by a bond of a nanometre."""
    topology, positions = prepared("AAA")
    far = np.array(positions)
    far[[atom.index for atom in topology.atoms() if atom.residue.index == 2]] += 1.0
    path = tmp_path / "gap.pdb"
    with path.open("w") as file:
        openmm.app.PDBFile.writeFile(topology, far * openmm.unit.nanometer, file)
    with pytest.raises(StructureError, match=r"broken between ALA 2 .* and ALA 3"):
        heatbath.molecule(path)


def test_missing_files_and_unknown_names(tmp_path):
    """If it failed, a misspelt name would end in a traceback about files, or the reverse."""
    with pytest.raises(StructureError, match="no file"):
        heatbath.molecule(tmp_path / "none.pdb")
    with pytest.raises(UsageError, match="alanine-dipeptide"):
        heatbath.molecule("alanine-dipeptid")
    with pytest.raises(UsageError, match="amber99sbildn-obc2"):
        heatbath.molecule("alanine-dipeptide", forcefield="amber99sbildn-obc3")


@pytest.mark.parametrize(
    ("sequence", "named"), [("AXA", "'X' at position 2"), ("", "empty"), ("A1", "'1'"), ("A" * 40, "40")]
)
def test_bad_sequences_are_refused(sequence, named):
    """If it failed, a letter that is no amino acid would be skipped."""
    with pytest.raises(StructureError, match=named):
        heatbath.peptide(sequence)


@pytest.mark.parametrize(("cutoff", "error"), [("2 fs", UnitError), ("-1 nm", InvalidArgumentError)])
def test_bad_cutoffs_are_refused(cutoff, error):
    """If it failed, a cutoff in the wrong unit would be taken for nanometres."""
    with pytest.raises(error):
        heatbath.peptide("A", capped=True, cutoff=cutoff)


def test_force_field_solvent_and_cutoff_reach_the_terms(dipeptide, make_system):
    """If it failed, the choice of a force field would have no effect."""
    from heatbath.targets.molecules import terms_from_system

    chosen = {}
    for forcefield in ("amber99sbildn-obc1", "amber14-obc1", "amber14-vacuum"):
        chosen[forcefield] = terms_from_system(make_system("A", capped=True, forcefield=forcefield, cutoff="2 nm")[0])
    assert chosen["amber99sbildn-obc1"].gb_model == chosen["amber14-obc1"].gb_model == "obc1"
    assert chosen["amber14-vacuum"].gb_model is None
    assert dipeptide.terms.gb_model == "obc2"
    assert dipeptide.terms.nonbonded_method == "no_cutoff"
    assert chosen["amber14-obc1"].nonbonded_method == "cutoff_non_periodic"
    assert chosen["amber14-obc1"].cutoff == chosen["amber14-obc1"].gb_cutoff == 2.0
    assert chosen["amber14-obc1"].reaction_field_dielectric == 1.0
    assert chosen["amber99sbildn-obc1"] != chosen["amber14-obc1"]


@pytest.mark.parametrize("forcefield", ["amber99sbildn-obc2", "amber14-obc1"])
def test_every_amino_acid_builds(make_system, forcefield):
    """If it failed, one of the 20 amino acids could not be built (RDKit's names of isoleucine are a known trap)."""
    for letter in AMINO_ACIDS:
        system, positions = make_system(letter, capped=True, forcefield=forcefield)
        assert system.getNumParticles() == len(positions)
        assert np.isfinite(positions).all()


def test_free_ends_are_charged(make_system):
    """If it failed, uncapped peptides would not be zwitterions."""
    from heatbath.targets.molecules import terms_from_system

    terms = terms_from_system(make_system("AAA")[0])
    assert terms.n_atoms == 33
    assert terms.charges.sum() == pytest.approx(0.0, abs=1e-6)
    assert terms_from_system(make_system("KAK")[0]).charges.sum() == pytest.approx(2.0, abs=1e-6)


def test_the_same_sequence_gives_the_same_numbers(dipeptide):
    """If it failed, two runs with one seed would start from different structures."""
    again = heatbath.peptide("A", capped=True, backend="xla")
    assert (np.asarray(again.positions) == np.asarray(dipeptide.positions)).all()
    assert again.terms == dipeptide.terms


def test_systems_of_ones_own(dipeptide, make_system, prepared):
    """If it failed, a user's own System would be evaluated with other parameters or positions."""
    system, positions = make_system("A", capped=True)
    topology, _ = prepared("A", capped=True)
    own = from_openmm(system, topology, positions * openmm.unit.angstrom * 10, name="mine", backend="xla")
    assert own.terms == dipeptide.terms
    assert own.name == "mine"
    np.testing.assert_allclose(own.positions, positions, atol=1e-12)
    assert from_openmm(system, topology).positions is None
    assert from_openmm(system, dipeptide.topology, positions.tolist()).positions.shape == (22, 3)
    rigid = openmm.app.ForceField("amber14/protein.ff14SB.xml").createSystem(topology, constraints=openmm.app.HBonds)
    with pytest.raises(UnsupportedForceError, match="constraints=None"):
        from_openmm(rigid, topology)


@pytest.mark.slow
def test_chignolin():
    """If it failed, the largest named molecule would be another one, or not relax with its natural hands."""
    chignolin = heatbath.molecule("chignolin")
    assert chignolin.n_atoms == 138
    assert len(chignolin.stereocentres) == 9
    assert chignolin.stereochemistry_violations(chignolin.positions).total == 0
    assert (np.abs(np.asarray(chignolin.peptide_bonds(chignolin.positions))) > 2.5).all()
