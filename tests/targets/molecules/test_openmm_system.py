import copy

import numpy as np
import openmm
import pytest
from openmm import unit

from heatbath.errors import UnsupportedForceError
from heatbath.targets.molecules import terms_from_system


@pytest.fixture
def system(make_system):
    """A copy that a test may spoil."""
    return copy.deepcopy(make_system("A", capped=True)[0])


def first(system, kind):
    return next(force for force in system.getForces() if isinstance(force, kind))


def test_counts_of_terms(system):
    """If it failed, terms would be lost or doubled when a System is read."""
    terms = terms_from_system(system)
    assert len(terms.bond_atoms) == first(system, openmm.HarmonicBondForce).getNumBonds() == 21
    assert len(terms.angle_atoms) == first(system, openmm.HarmonicAngleForce).getNumAngles() == 36
    nonbonded = first(system, openmm.NonbondedForce)
    assert len(terms.exception_atoms) == nonbonded.getNumExceptions()
    torsions = first(system, openmm.PeriodicTorsionForce)
    strong = [k for k in range(torsions.getNumTorsions()) if torsions.getTorsionParameters(k)[6]._value != 0]
    assert len(terms.torsion_atoms) == len(strong)
    assert (terms.torsion_k != 0).all()
    assert terms.gb_model == "obc2"
    assert terms.gb_coulomb_constant == 138.935485
    assert terms.coulomb_constant == 138.93545764438198


def test_forces_of_one_kind_are_added(system):
    """If it failed, a restraint written as a second bond force would vanish."""
    extra = openmm.HarmonicBondForce()
    extra.addBond(0, 5, 0.3, 100.0)
    system.addForce(extra)
    terms = terms_from_system(system)
    assert terms.bond_atoms[-1].tolist() == [0, 5]
    assert terms.bond_k[-1] == 100.0
    assert len(terms.bond_atoms) == 22


def test_remover_of_centre_of_mass_motion_is_no_energy(system):
    """If it failed, Systems made by createSystem with default options would be refused."""
    expected = terms_from_system(system)
    system.addForce(openmm.CMMotionRemover())
    assert terms_from_system(system) == expected


def unknown_force(system):
    system.addForce(openmm.CustomExternalForce("x^2"))


def constraint(system):
    system.addConstraint(0, 1, 0.1)


def virtual_site(system):
    index = system.addParticle(0.0)
    system.setVirtualSite(index, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))


def fixed_atom(system):
    system.setParticleMass(3, 0.0)


def ewald(system):
    first(system, openmm.NonbondedForce).setNonbondedMethod(openmm.NonbondedForce.PME)


def periodic_torsions(system):
    first(system, openmm.PeriodicTorsionForce).setUsesPeriodicBoundaryConditions(True)


def parameter_offset(system):
    force = first(system, openmm.NonbondedForce)
    force.addGlobalParameter("lambda", 1.0)
    force.addParticleParameterOffset("lambda", 0, 0.1, 0.0, 0.0)


def second_nonbonded(system):
    system.addForce(copy.deepcopy(first(system, openmm.NonbondedForce)))


def second_solvent(system):
    system.addForce(copy.deepcopy(first(system, openmm.CustomGBForce)))


def barostat(system):
    system.addForce(openmm.MonteCarloBarostat(1.0, 300.0))


def other_surface_term(system):
    force = first(system, openmm.CustomGBForce)
    for k in range(force.getNumEnergyTerms()):
        expression, kind = force.getEnergyTermParameters(k)
        force.setEnergyTermParameters(k, expression.replace("^6", "^4"), kind)


def other_born_radius(system):
    force = first(system, openmm.CustomGBForce)
    name, expression, kind = force.getComputedValueParameters(1)
    force.setComputedValueParameters(1, name, expression.replace("4.85", "4.80"), kind)


def global_parameter_of_solvent(system):
    first(system, openmm.CustomGBForce).addGlobalParameter("scale", 1.0)


def shift_of_another_cutoff(system):
    force = first(system, openmm.CustomGBForce)
    force.setNonbondedMethod(openmm.CustomGBForce.CutoffNonPeriodic)
    force.setCutoffDistance(1.0 * unit.nanometer)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (unknown_force, "CustomExternalForce"),
        (constraint, "constraints=None"),
        (virtual_site, "virtual site"),
        (fixed_atom, "particle 3 has no mass"),
        (ewald, "PME"),
        (periodic_torsions, "PeriodicTorsionForce uses periodic"),
        (parameter_offset, "offsets"),
        (second_nonbonded, "two forces"),
        (second_solvent, "two forces"),
        (barostat, "MonteCarloBarostat"),
        (other_surface_term, "radius/B"),
        (other_born_radius, "4.80"),
        (global_parameter_of_solvent, "global parameters"),
        (shift_of_another_cutoff, "shift"),
    ],
)
def test_what_is_not_evaluated_is_refused_by_name(system, spoil, named):
    """If it failed, a force or an option would be dropped and the distribution silently be another one."""
    spoil(system)
    with pytest.raises(UnsupportedForceError, match=named):
        terms_from_system(system)


@pytest.mark.parametrize("solvent", ["gbn", "gbn2", "hct"])
def test_other_solvent_models_are_refused(prepared, solvent):
    """If it failed, another generalised Born model would be evaluated as if it were OBC."""
    topology, _ = prepared("A", capped=True)
    system = openmm.app.ForceField("amber14/protein.ff14SB.xml", f"implicit/{solvent}.xml").createSystem(topology)
    with pytest.raises(UnsupportedForceError, match="OBC1 and OBC2"):
        terms_from_system(system)


def test_salt_is_refused_and_no_surface_term_is_read(prepared):
    """If it failed, the screening of salt would be dropped, or a surface term be invented."""
    topology, _ = prepared("A", capped=True)
    parameters = openmm.app.ForceField("amber99sbildn.xml", "implicit/obc1.xml")
    salty = parameters.createSystem(topology, implicitSolventKappa=0.7 / unit.nanometer)
    with pytest.raises(UnsupportedForceError, match="kappa"):
        terms_from_system(salty)
    plain = terms_from_system(parameters.createSystem(topology, sasaMethod=None))
    assert plain.gb_surface_constant == 0.0
    assert plain.gb_model == "obc1"


@pytest.mark.slow
def test_force_fields_with_other_forms_are_refused_by_name(prepared):
    """If it failed, CHARMM's impropers or its special pair table would be dropped."""
    topology, positions = prepared("AAA")
    modeller = openmm.app.Modeller(topology, positions * unit.nanometer)
    system = openmm.app.ForceField("charmm36.xml").createSystem(modeller.topology)
    with pytest.raises(UnsupportedForceError, match="Custom"):
        terms_from_system(system)


def test_radii_of_the_built_in_solvent(make_system):
    """If it failed, the dielectric offset of 0.009 nm would be left out or taken off twice."""
    force = openmm.GBSAOBCForce()
    system = openmm.System()
    system.addParticle(12.0)
    force.addParticle(0.5, 0.17, 0.72)
    system.addForce(force)
    terms = terms_from_system(system)
    np.testing.assert_allclose(terms.gb_offset_radius, 0.161)
    np.testing.assert_allclose(terms.gb_scaled_radius, 0.72 * 0.161)
    np.testing.assert_allclose(terms.gb_surface_constant, 4 * np.pi * 2.25936)
    assert terms.gb_engulfed_term
