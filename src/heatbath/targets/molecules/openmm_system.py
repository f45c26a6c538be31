"""From an OpenMM ``System`` to the table of force-field terms. What is not understood is refused by name."""

from typing import TYPE_CHECKING, Any

import numpy as np

from heatbath.errors import MissingExtraError, UnsupportedForceError
from heatbath.targets.molecules.openmm_implicit_solvent import read_custom_gb, read_gbsa_obc
from heatbath.targets.molecules.terms import ForceFieldTerms

if TYPE_CHECKING:
    import openmm

_REMEDY = "Remove it from the System if it does not matter for the distribution, or simulate with OpenMM itself."


def import_openmm() -> Any:
    """The module ``openmm``; raises ``MissingExtraError`` where it is not installed."""
    try:
        import openmm.app  # also binds openmm.unit
    except ImportError as error:
        raise MissingExtraError("openmm", "molecules", "Reading an OpenMM System") from error
    return openmm


def terms_from_system(system: "openmm.System") -> ForceFieldTerms:
    """Every energy term of ``system``, in nm, kJ/mol and elementary charges.

    Understands HarmonicBondForce, HarmonicAngleForce, PeriodicTorsionForce, CMAPTorsionForce, NonbondedForce (NoCutoff,
    CutoffNonPeriodic with reaction field and switching), GBSAOBCForce, and the CustomGBForce of OpenMM's
    ``implicit/obc1.xml`` and ``implicit/obc2.xml``. CMMotionRemover has no energy and is passed over. Forces of one
    kind may occur several times, except nonbonded and solvent forces.

    Raises ``UnsupportedForceError`` for everything else: other forces, constraints, virtual sites, atoms without mass,
    periodic interactions, parameter offsets.
    """
    _refuse_rigid(system)
    readers = {
        "HarmonicBondForce": _read_bonds,
        "HarmonicAngleForce": _read_angles,
        "PeriodicTorsionForce": _read_torsions,
        "CMAPTorsionForce": _read_cmap,
        "NonbondedForce": _read_nonbonded,
        "GBSAOBCForce": read_gbsa_obc,
        "CustomGBForce": read_custom_gb,
        "CMMotionRemover": None,
    }
    masses = [_number(system.getParticleMass(i)) for i in range(system.getNumParticles())]
    merged: dict[str, Any] = {"masses": np.asarray(masses, dtype=np.float64)}
    for force in system.getForces():
        kind = type(force).__name__
        # the classes of OpenMM's Python-side solvent models are CustomGBForces with another name
        reader = next((readers[base.__name__] for base in type(force).__mro__ if base.__name__ in readers), "unknown")
        if reader is None:
            continue
        if isinstance(reader, str):
            raise UnsupportedForceError(f"the System holds a {kind}, which heatbath does not evaluate. {_REMEDY}")
        if kind != "NonbondedForce" and force.usesPeriodicBoundaryConditions():
            raise UnsupportedForceError(
                f"the {kind} uses periodic boundary conditions; heatbath evaluates molecules without a box. Build the "
                "System with nonbondedMethod=NoCutoff or CutoffNonPeriodic."
            )
        _merge(merged, reader(force), kind)
    return ForceFieldTerms(**merged)


def _refuse_rigid(system: "openmm.System") -> None:
    if system.getNumConstraints():
        raise UnsupportedForceError(
            f"the System has {system.getNumConstraints()} constraints; heatbath samples flexible molecules. Build it with "
            "createSystem(constraints=None, rigidWater=False)."
        )
    for index in range(system.getNumParticles()):
        if system.isVirtualSite(index):
            kind = type(system.getVirtualSite(index)).__name__
            raise UnsupportedForceError(
                f"particle {index} is a virtual site ({kind}), which heatbath does not evaluate. Use a force field "
                "without virtual sites."
            )
        if not _number(system.getParticleMass(index)) > 0:
            raise UnsupportedForceError(
                f"particle {index} has no mass, which OpenMM takes for a fixed atom; heatbath moves every atom. Give it "
                "a mass."
            )


def _merge(merged: dict[str, Any], found: dict[str, Any], kind: str) -> None:
    """Append per-term arrays; a second nonbonded or solvent force would overwrite scalars and is refused."""
    for name, value in found.items():
        if name not in merged:
            merged[name] = value
        elif kind in ("HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce"):
            merged[name] = np.concatenate([merged[name], value])
        else:
            raise UnsupportedForceError(
                f"the System holds two forces that set {name}; the second is a {kind}. {_REMEDY}"
            )


def _columns(rows: list, n_atoms: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Split rows (atom, ..., atom, parameter, ...) into the atom table and the parameter columns."""
    if not rows:
        return np.zeros((0, n_atoms), dtype=np.int32), []
    atoms = np.array([row[:n_atoms] for row in rows], dtype=np.int32)
    parameters = [np.array([_number(row[k]) for row in rows]) for k in range(n_atoms, len(rows[0]))]
    return atoms, parameters


def _number(quantity: Any) -> float:
    """The value in OpenMM's internal units (nm, kJ/mol, rad, e): what ``_value`` of a getter's result is."""
    return float(getattr(quantity, "_value", quantity))


def _read_bonds(force: Any) -> dict[str, Any]:
    rows = [force.getBondParameters(k) for k in range(force.getNumBonds())]
    atoms, parameters = _columns(rows, 2)
    return {"bond_atoms": atoms, **dict(zip(("bond_length", "bond_k"), parameters, strict=False))}


def _read_angles(force: Any) -> dict[str, Any]:
    rows = [force.getAngleParameters(k) for k in range(force.getNumAngles())]
    atoms, parameters = _columns(rows, 3)
    return {"angle_atoms": atoms, **dict(zip(("angle_value", "angle_k"), parameters, strict=False))}


def _read_torsions(force: Any) -> dict[str, Any]:
    rows = [force.getTorsionParameters(k) for k in range(force.getNumTorsions())]
    rows = [row for row in rows if _number(row[6]) != 0.0]
    atoms, parameters = _columns(rows, 4)
    names = ("torsion_periodicity", "torsion_phase", "torsion_k")
    return {"torsion_atoms": atoms, **dict(zip(names, parameters, strict=False))}


def _read_cmap(force: Any) -> dict[str, Any]:
    maps = []
    for index in range(force.getNumMaps()):
        size, energies = force.getMapParameters(index)
        values = np.array([_number(energy) for energy in energies])
        maps.append(values.reshape(size, size).T)  # OpenMM stores phi fastest: energy[i + size j]
    if len({m.shape for m in maps}) > 1:
        sizes = sorted({len(m) for m in maps})
        raise UnsupportedForceError(f"the CMAPTorsionForce has maps of several sizes, {sizes}; one size is supported.")
    rows = [force.getTorsionParameters(k) for k in range(force.getNumTorsions())]
    if not rows:
        return {}
    return {
        "cmap_maps": np.stack(maps),
        "cmap_map_index": np.array([row[0] for row in rows], dtype=np.int32),
        "cmap_torsions": np.array([row[1:9] for row in rows], dtype=np.int32),
    }


def _read_nonbonded(force: Any) -> dict[str, Any]:
    openmm = import_openmm()
    methods = {
        openmm.NonbondedForce.NoCutoff: "no_cutoff",
        openmm.NonbondedForce.CutoffNonPeriodic: "cutoff_non_periodic",
    }
    method = methods.get(force.getNonbondedMethod())
    if method is None:
        named = ("NoCutoff", "CutoffNonPeriodic", "CutoffPeriodic", "Ewald", "PME", "LJPME")
        raise UnsupportedForceError(
            f"the NonbondedForce uses {named[force.getNonbondedMethod()]}; heatbath evaluates NoCutoff and "
            "CutoffNonPeriodic. Build the System with one of these."
        )
    offsets = force.getNumParticleParameterOffsets() + force.getNumExceptionParameterOffsets()
    if offsets or force.getNumGlobalParameters():
        raise UnsupportedForceError(
            f"the NonbondedForce has {force.getNumGlobalParameters()} global parameters and {offsets} parameter offsets, "
            "which heatbath does not evaluate. Write the values that you mean into the particles and exceptions."
        )
    particles = [force.getParticleParameters(i) for i in range(force.getNumParticles())]
    charges, sigma, epsilon = (np.array([_number(p[k]) for p in particles]) for k in range(3))
    exceptions = [force.getExceptionParameters(k) for k in range(force.getNumExceptions())]
    atoms, parameters = _columns(exceptions, 2)
    names = ("exception_chargeprod", "exception_sigma", "exception_epsilon")
    found = {
        "nonbonded_method": method,
        "charges": charges,
        "sigma": sigma,
        "epsilon": epsilon,
        "exception_atoms": atoms,
        **dict(zip(names, parameters, strict=False)),
    }
    if method == "cutoff_non_periodic":
        found["cutoff"] = _number(force.getCutoffDistance())
        found["reaction_field_dielectric"] = float(force.getReactionFieldDielectric())
        if force.getUseSwitchingFunction():
            found["switching_distance"] = _number(force.getSwitchingDistance())
    return found
