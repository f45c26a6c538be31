"""From a name, a sequence, a PDB file or an OpenMM System to a ``Molecule``."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from heatbath.errors import StructureError, UsageError, nearest
from heatbath.targets.molecules.energy import Backend
from heatbath.targets.molecules.forcefields import DEFAULT_FORCEFIELD, checked_forcefield, create_system
from heatbath.targets.molecules.molecule import Molecule, minimise_energy
from heatbath.targets.molecules.openmm_system import import_openmm, terms_from_system
from heatbath.targets.molecules.sequences import build_sequence, checked_sequence
from heatbath.targets.molecules.stereochemistry import d_centres, omegas, peptide_bonds
from heatbath.targets.molecules.structures import add_hydrogens, check_structure, read_pdb
from heatbath.targets.molecules.terms import ForceFieldTerms
from heatbath.targets.molecules.topology import MoleculeTopology

#: Named molecules: sequence and whether it is capped.
MOLECULES = {"alanine-dipeptide": ("A", True), "chignolin": ("GYDPETGTWG", False)}


def molecule(
    name_or_path: str | Path,
    forcefield: str = DEFAULT_FORCEFIELD,
    *,
    cutoff: str | float | None = None,
    backend: Backend = "auto",
) -> Molecule:
    """A molecule by name (``"alanine-dipeptide"``, ``"chignolin"``) or from a PDB file of a peptide or protein.

    ``forcefield`` is protein parameters and solvent, such as ``"amber99sbildn-obc2"`` or ``"amber14-vacuum"``;
    ``cutoff`` such as ``"2 nm"`` truncates nonbonded interactions (default: none). Bonds are flexible. Missing hydrogens
    are added for pH 7, and the structure is relaxed to the nearest minimum and centred. The same input gives the same
    molecule.

    Raises ``UsageError`` for an unknown name or force field, and ``StructureError`` for a file that is missing, broken,
    incomplete, not finite, holds unknown residues or D-amino acids.
    """
    checked_forcefield(forcefield)
    if str(name_or_path) in MOLECULES:
        sequence, capped = MOLECULES[str(name_or_path)]
        return peptide(sequence, forcefield, capped=capped, cutoff=cutoff, backend=backend, name=str(name_or_path))
    path = Path(name_or_path)
    if path.suffix.lower() not in (".pdb", ".ent") and not path.exists():
        raise UsageError(
            f"expected the name of a molecule or a PDB file; found {str(name_or_path)!r}. "
            f"{nearest(str(name_or_path), MOLECULES)}"
        )
    topology, positions = read_pdb(path)
    return _from_heavy_atoms(topology, positions, forcefield, cutoff=cutoff, backend=backend, name=path.stem)


def peptide(
    sequence: str,
    forcefield: str = DEFAULT_FORCEFIELD,
    *,
    capped: bool = False,
    cutoff: str | float | None = None,
    backend: Backend = "auto",
    name: str | None = None,
) -> Molecule:
    """A peptide of L-amino acids from its one-letter sequence, with trans peptide bonds, starting extended.

    Uncapped peptides have charged ends; ``capped=True`` puts acetyl in front and N-methyl amide behind, so
    ``peptide("A", capped=True)`` is alanine dipeptide. ``forcefield``, ``cutoff`` and errors as for ``molecule``.
    """
    checked_forcefield(forcefield)
    letters = checked_sequence(sequence)
    topology, positions = build_sequence(letters, capped=capped)
    label = name or (f"Ace-{letters}-Nme" if capped else letters)
    return _from_heavy_atoms(topology, positions, forcefield, cutoff=cutoff, backend=backend, name=label)


def from_openmm(
    system: Any,
    topology: Any,
    positions: Any = None,
    *,
    name: str = "molecule",
    backend: Backend = "auto",
) -> Molecule:
    """A molecule from an ``openmm.System`` and its ``openmm.app.Topology`` (or a ``MoleculeTopology``), as they are.

    ``positions`` (an OpenMM quantity, or numbers in nm) become the reference structure unchanged; without them the
    molecule has energies but no start and no reference for its stereochemistry.

    Raises ``UnsupportedForceError`` for whatever in the System would not be evaluated, ``InvalidArgumentError`` when
    System, topology and positions do not belong together, ``StructureError`` for positions that are not finite.
    """
    record = topology if isinstance(topology, MoleculeTopology) else MoleculeTopology.from_openmm(topology)
    if positions is not None:
        unit = import_openmm().unit
        positions = positions.value_in_unit(unit.nanometer) if unit.is_quantity(positions) else positions
        positions = np.array([list(row) for row in positions], dtype=np.float64)
    return Molecule(terms_from_system(system), record, positions, name=name, backend=backend)


def _from_heavy_atoms(
    topology: Any, positions: np.ndarray, forcefield: str, *, cutoff: str | float | None, backend: Backend, name: str
) -> Molecule:
    """Add hydrogens, apply the force field, relax, centre, check."""
    check_structure(topology, positions)
    topology, positions = add_hydrogens(forcefield, topology, positions)
    record = MoleculeTopology.from_openmm(topology)
    _refuse_d_centres(record, positions)
    terms = terms_from_system(create_system(forcefield, topology, cutoff))
    relaxed = _relaxed(terms, record, positions, backend)
    return Molecule(terms, record, relaxed, name=name, forcefield=forcefield, backend=backend)


def _refuse_d_centres(record: MoleculeTopology, positions: np.ndarray) -> None:
    wrong = d_centres(record, positions)
    if wrong:
        raise StructureError(
            f"expected L-amino acids; found the other hand at {', '.join(wrong)}. Mend the structure; if it is meant, build "
            "the System yourself and use heatbath.targets.molecules.from_openmm."
        )


def _relaxed(terms: ForceFieldTerms, record: MoleculeTopology, positions: np.ndarray, backend: Backend) -> np.ndarray:
    """The nearest minimum, centred; the relaxation must keep hands and peptide bonds."""
    relaxed = minimise_energy(terms, backend, positions)
    bonds = peptide_bonds(record)
    before, after = (np.sign(np.cos(np.asarray(omegas(bonds, jnp.asarray(x))))) for x in (positions, relaxed))
    if d_centres(record, relaxed) or not np.array_equal(before, after):
        raise StructureError(
            "the structure has such overlaps that relaxing it inverted a centre or a peptide bond. Give a better one."
        )
    return relaxed - relaxed.mean(axis=0)
