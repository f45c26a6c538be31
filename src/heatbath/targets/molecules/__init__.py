"""Molecules: builders, and an OpenMM System turned into a JAX energy.

``molecule`` and ``peptide`` build targets from names, PDB files and sequences; ``from_openmm`` takes a System of your own.
"""

from heatbath.targets.molecules.builders import MOLECULES, from_openmm, molecule, peptide
from heatbath.targets.molecules.forcefields import DEFAULT_FORCEFIELD, FORCEFIELDS
from heatbath.targets.molecules.molecule import Molecule
from heatbath.targets.molecules.openmm_system import terms_from_system
from heatbath.targets.molecules.stereochemistry import Violations
from heatbath.targets.molecules.terms import ForceFieldTerms
from heatbath.targets.molecules.topology import MoleculeTopology

__all__ = [
    "DEFAULT_FORCEFIELD",
    "FORCEFIELDS",
    "MOLECULES",
    "ForceFieldTerms",
    "Molecule",
    "MoleculeTopology",
    "Violations",
    "from_openmm",
    "molecule",
    "peptide",
    "terms_from_system",
]
