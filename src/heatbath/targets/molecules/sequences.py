"""Three-dimensional peptides from one-letter sequences: heavy atoms from RDKit, stretched out, all L and all trans."""

import itertools
from typing import Any

import numpy as np

from heatbath.errors import MissingExtraError, StructureError
from heatbath.targets.molecules.openmm_system import import_openmm

#: The amino acids that a sequence may contain.
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
#: Longest chain that is embedded without templates; longer ones should come from a PDB file.
LONGEST = 20
#: Backbone torsions of the starting structure, degrees: an extended strand, in which no side chains overlap.
PHI, PSI, OMEGA = -135.0, 135.0, 180.0

_EMBEDDING_SEED = 2024
_ATTEMPTS = 8


def checked_sequence(sequence: str) -> str:
    """The sequence in capitals. Raises ``StructureError`` naming the first letter that is no amino acid."""
    letters = sequence.strip().upper()
    if not letters:
        raise StructureError("expected a sequence of one-letter amino acids such as 'AAA'; found an empty one")
    for position, letter in enumerate(letters, start=1):
        if letter not in AMINO_ACIDS:
            raise StructureError(
                f"expected one-letter amino acids ({AMINO_ACIDS}); found {letter!r} at position {position} of {sequence!r}"
            )
    if len(letters) > LONGEST:
        raise StructureError(
            f"expected at most {LONGEST} residues, found {len(letters)}; give longer chains as a PDB file"
        )
    return letters


def build_sequence(sequence: str, *, capped: bool) -> tuple[Any, np.ndarray]:
    """OpenMM topology and positions (atoms, 3) in nm of the heavy atoms of a peptide.

    Uncapped: free ends (N-terminal amine, C-terminal carboxylate). Capped: acetyl in front, N-methyl amide behind.
    Raises ``StructureError`` for letters that are no amino acids or when no structure can be embedded, and
    ``MissingExtraError`` without RDKit. The same sequence always gives the same numbers.
    """
    letters = checked_sequence(sequence)
    molecule = _embedded("G" + letters + "G" if capped else letters)
    _stretch(molecule)
    return _topology(molecule, capped=capped)


def _import_rdkit() -> Any:
    try:
        from rdkit import Chem
        from rdkit.Chem import AllChem, rdMolTransforms  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("rdkit", "molecules", "Building a peptide from its sequence") from error
    return Chem


def _embedded(letters: str) -> Any:
    """RDKit molecule with hydrogens, PDB residue names and one conformer."""
    chem = _import_rdkit()
    molecule = chem.AddHs(chem.MolFromSequence(letters))
    parameters = chem.AllChem.ETKDGv3()
    for attempt in range(_ATTEMPTS):
        parameters.randomSeed = _EMBEDDING_SEED + attempt
        parameters.useRandomCoords = attempt > 0 or len(letters) > 4
        if chem.AllChem.EmbedMolecule(molecule, parameters) == 0:
            return molecule
    raise StructureError(f"no three-dimensional structure was found for {letters!r}; give the molecule as a PDB file")


def _backbone(molecule: Any) -> list[dict[str, int]]:
    """Atom index by PDB name, one mapping per residue."""
    residues: dict[int, dict[str, int]] = {}
    for atom in molecule.GetAtoms():
        info = atom.GetPDBResidueInfo()
        if info is not None and atom.GetAtomicNum() > 1:
            residues.setdefault(info.GetResidueNumber(), {})[info.GetName().strip()] = atom.GetIdx()
    return [residues[number] for number in sorted(residues)]


def _stretch(molecule: Any) -> None:
    """Turn the backbone into an extended strand with trans peptide bonds (phi of proline is part of its ring)."""
    transforms = _import_rdkit().rdMolTransforms
    conformer = molecule.GetConformer()
    residues = _backbone(molecule)
    ring = molecule.GetRingInfo()
    for before, here in itertools.pairwise(residues):
        turns = [
            ((before["N"], before["CA"], before["C"], here["N"]), PSI),
            ((before["CA"], before["C"], here["N"], here["CA"]), OMEGA),
            ((before["C"], here["N"], here["CA"], here["C"]), PHI),
        ]
        for atoms, degrees in turns:
            if not ring.NumBondRings(molecule.GetBondBetweenAtoms(atoms[1], atoms[2]).GetIdx()):
                transforms.SetDihedralDeg(conformer, *atoms, degrees)


def _topology(molecule: Any, *, capped: bool) -> tuple[Any, np.ndarray]:
    app = import_openmm().app
    residues = _backbone(molecule)
    names = [molecule.GetAtomWithIdx(r["C"]).GetPDBResidueInfo().GetResidueName() for r in residues]
    if capped:
        first, last = residues[0], residues[-1]
        residues[0] = {"CH3": first["CA"], "C": first["C"], "O": first["O"]}
        residues[-1] = {"N": last["N"], "C": last["CA"]}
        names[0], names[-1] = "ACE", "NME"
    topology = app.Topology()
    chain = topology.addChain("A")
    made: dict[int, Any] = {}
    for name, members in zip(names, residues, strict=True):
        residue = topology.addResidue(name, chain)
        for label, index in _named(name, members, molecule).items():
            element = app.Element.getByAtomicNumber(molecule.GetAtomWithIdx(index).GetAtomicNum())
            made[index] = topology.addAtom(label, element, residue)
    for bond in molecule.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if all(end in made for end in ends):
            topology.addBond(made[ends[0]], made[ends[1]])
    positions = np.asarray(molecule.GetConformer().GetPositions())[list(made)] * 0.1
    return topology, positions


def _named(residue: str, members: dict[str, int], molecule: Any) -> dict[str, int]:
    """PDB names; RDKit exchanges CG1 and CG2 of isoleucine, where CG1 is the one that carries CD1."""
    if residue != "ILE":
        return members
    bonded = {atom.GetIdx() for atom in molecule.GetAtomWithIdx(members["CD1"]).GetNeighbors()}
    if members["CG1"] in bonded:
        return members
    exchange = {"CG1": "CG2", "CG2": "CG1"}
    return {exchange.get(label, label): index for label, index in members.items()}
