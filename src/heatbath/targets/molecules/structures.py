"""Structures from PDB files: what has to be there is checked, hydrogens are added, everything else is refused by name."""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from heatbath.errors import StructureError
from heatbath.targets.molecules.forcefields import load_forcefield
from heatbath.targets.molecules.openmm_system import import_openmm

_SIDE_CHAINS = {
    "ALA": "CB",
    "ARG": "CB CG CD NE CZ NH1 NH2",
    "ASN": "CB CG OD1 ND2",
    "ASP": "CB CG OD1 OD2",
    "CYS": "CB SG",
    "GLN": "CB CG CD OE1 NE2",
    "GLU": "CB CG CD OE1 OE2",
    "GLY": "",
    "HIS": "CB CG ND1 CD2 CE1 NE2",
    "ILE": "CB CG1 CG2 CD1",
    "LEU": "CB CG CD1 CD2",
    "LYS": "CB CG CD CE NZ",
    "MET": "CB CG SD CE",
    "PHE": "CB CG CD1 CD2 CE1 CE2 CZ",
    "PRO": "CB CG CD",
    "SER": "CB OG",
    "THR": "CB OG1 CG2",
    "TRP": "CB CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2",
    "TYR": "CB CG CD1 CD2 CE1 CE2 CZ OH",
    "VAL": "CB CG1 CG2",
}
_PROTONATED = {
    "ASH": "ASP",
    "GLH": "GLU",
    "LYN": "LYS",
    "CYX": "CYS",
    "CYM": "CYS",
    "HID": "HIS",
    "HIE": "HIS",
    "HIP": "HIS",
}
_CAPS = {"ACE": {"CH3", "C", "O"}, "NME": {"N"}, "NH2": {"N"}}
_SOLVENT = {"HOH", "WAT", "TIP3", "SOL"}

#: Longest C-N distance (nm) that is still a peptide bond in a distorted file.
LONGEST_PEPTIDE_BOND = 0.25
#: pH for which hydrogens are placed.
PH = 7.0
_HYDROGEN_SEED = 2024


def read_pdb(path: str | Path) -> tuple[Any, np.ndarray]:
    """OpenMM topology and positions (atoms, 3) in nm of the first model of a PDB file.

    Raises ``StructureError`` when the file is missing, is no PDB file, has coordinates that are not finite, or holds
    residues that are unknown, incomplete or not connected.
    """
    path = Path(path)
    if not path.is_file():
        raise StructureError(f"expected a PDB file, but there is no file {str(path)!r}")
    openmm = import_openmm()
    try:
        records = [line[:6].strip() for line in path.read_text().splitlines()]
        if "ATOM" not in records and "HETATM" not in records:
            raise StructureError(f"{str(path)!r} holds no ATOM or HETATM records; is it a PDB file?")
        file = openmm.app.PDBFile(str(path))
        positions = np.asarray(file.getPositions(asNumpy=True).value_in_unit(openmm.unit.nanometer), dtype=np.float64)
    except StructureError:
        raise
    except Exception as error:  # whatever the parser trips over, the cure is another file
        raise StructureError(f"{str(path)!r} could not be read as a PDB file: {error}") from error
    check_structure(file.topology, positions)
    return file.topology, positions


def check_structure(topology: Any, positions: np.ndarray) -> None:
    """Refuse what no force field for peptides can describe, naming the residue and the cure (``StructureError``)."""
    residues = list(topology.residues())
    for atom in topology.atoms():
        if not np.isfinite(positions[atom.index]).all():
            raise StructureError(
                f"atom {atom.name} of residue {_label(atom.residue)} has the coordinates "
                f"{positions[atom.index].tolist()}; every coordinate must be a finite number"
            )
    for residue in residues:
        _check_residue(residue)
    for chain in topology.chains():
        _check_chain(list(chain.residues()), positions)


def _label(residue: Any) -> str:
    return f"{residue.name} {residue.id} (chain {residue.chain.id})"


def _check_residue(residue: Any) -> None:
    name = _PROTONATED.get(residue.name, residue.name)
    if residue.name in _SOLVENT:
        raise StructureError(
            f"residue {_label(residue)} is water; the solvent is implicit here. Remove water from the file."
        )
    if name not in _SIDE_CHAINS and name not in _CAPS:
        raise StructureError(
            f"residue {_label(residue)} is unknown: expected one of the 20 amino acids or a cap (ACE, NME, NH2). Remove it, "
            "or build a System with parameters for it and use heatbath.targets.molecules.from_openmm."
        )
    needed = _CAPS.get(name) or {"N", "CA", "C", "O", *_SIDE_CHAINS[name].split()}
    present = {atom.name for atom in residue.atoms()}
    missing = sorted(needed - present)
    if name == "NME" and not {"C", "CH3"} & present:
        missing.append("C")
    if missing:
        raise StructureError(
            f"residue {_label(residue)} lacks the heavy atoms {', '.join(missing)}. Complete the file, for example with "
            "PDBFixer; only hydrogens are added here."
        )


def _check_chain(residues: list[Any], positions: np.ndarray) -> None:
    for before, here in itertools.pairwise(residues):
        ends = {a.name: a.index for a in before.atoms()}.get("C"), {a.name: a.index for a in here.atoms()}.get("N")
        if None in ends:
            continue
        distance = float(np.linalg.norm(positions[ends[0]] - positions[ends[1]]))
        if not distance < LONGEST_PEPTIDE_BOND:
            raise StructureError(
                f"the chain is broken between {_label(before)} and {_label(here)}: C and N are {distance:.2f} nm apart. "
                "Residues are missing, or a TER record is."
            )
    last = residues[-1]
    if last.name not in _CAPS and "OXT" not in {atom.name for atom in last.atoms()}:
        raise StructureError(
            f"the last residue {_label(last)} has no atom OXT and no cap follows. Add the terminal oxygen, or end the chain "
            "with NME."
        )


def add_hydrogens(forcefield: str, topology: Any, positions: np.ndarray) -> tuple[Any, np.ndarray]:
    """Topology and positions with the hydrogens that are missing at pH 7; the same input gives the same numbers.

    Raises ``StructureError`` when the force field has no parameters for a residue as it is.
    """
    openmm = import_openmm()
    parameters = load_forcefield(forcefield)
    modeller = openmm.app.Modeller(topology, positions * openmm.unit.nanometer)
    platform = openmm.Platform.getPlatformByName("Reference")
    try:
        with _fixed_random_numbers():
            modeller.addHydrogens(parameters, pH=PH, platform=platform)
    except (ValueError, KeyError) as error:
        raise StructureError(f"hydrogens could not be added: {error}") from error
    unmatched = parameters.getUnmatchedResidues(modeller.topology)
    if unmatched:
        raise StructureError(
            f"the force field {forcefield!r} has no parameters for residue {_label(unmatched[0])} with the atoms "
            f"{', '.join(a.name for a in unmatched[0].atoms())}. Check its atom names and its neighbours in the chain."
        )
    placed = np.array(modeller.positions.value_in_unit(openmm.unit.nanometer), dtype=np.float64)
    return modeller.topology, placed


@contextmanager
def _fixed_random_numbers() -> Iterator[None]:
    """OpenMM scatters new hydrogens by Python's global generator before it relaxes them."""
    state = random.getstate()
    random.seed(_HYDROGEN_SEED)
    try:
        yield
    finally:
        random.setstate(state)
