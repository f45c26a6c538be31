"""Acceptance of the force field: per kind of force and in total, against OpenMM's Reference platform in float64."""

import random

import numpy as np
import openmm
import pytest

from heatbath.targets.molecules import terms_from_system
from heatbath.targets.molecules.openmm_comparison import (
    compare_with_openmm,
    differences,
    evaluated_energies,
    own_energies,
    reference_energies,
    with_gbsa_obc_force,
)

ENERGY_TOLERANCE, FORCE_TOLERANCE = 1e-6, 1e-5  # relative; what is measured is below 1e-12

FAST = [
    ("A", True, "amber99sbildn-obc2", None, False),
    ("A", True, "amber14-obc2", "0.5 nm", True),
    ("KAP", False, "amber19-obc1", "0.6 nm", False),
]
_LETTERS = random.Random(20)
TETRAPEPTIDES = ["".join(_LETTERS.choices("ACDEFGHIKLMNPQRSTVWY", k=4)) for _ in range(20)]


def assert_close(found):
    for kind, difference in found.items():
        assert difference.relative_energy < ENERGY_TOLERANCE, (kind, difference)
        assert difference.relative_force < FORCE_TOLERANCE, (kind, difference)


@pytest.mark.parametrize(("sequence", "capped", "forcefield", "cutoff", "gbsa"), FAST)
def test_energies_and_forces_are_those_of_openmm(make_system, make_frames, sequence, capped, forcefield, cutoff, gbsa):
    """If it failed, the distribution would not be that of the force field: CustomGB, GBSAOBC, cutoffs, CMAP."""
    system, _ = make_system(sequence, capped=capped, forcefield=forcefield, cutoff=cutoff)
    system = with_gbsa_obc_force(system) if gbsa else system
    found = compare_with_openmm(system, make_frames(sequence, capped=capped))
    assert {"bonds", "angles", "torsions", "nonbonded", "solvent", "total"} <= set(found)
    assert ("cmap" in found) == forcefield.startswith("amber19")
    assert_close(found)


def test_reaction_field_and_switching_function(make_system, make_frames):
    """If it failed, truncated interactions in a vacuum would be shifted, screened or switched differently."""
    system, _ = make_system("A", capped=True, forcefield="amber14-vacuum", cutoff="0.5 nm")
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.35)
    terms = terms_from_system(system)
    assert terms.reaction_field_dielectric == pytest.approx(78.3)
    assert terms.switching_distance == pytest.approx(0.35)
    assert_close(compare_with_openmm(system, make_frames("A", capped=True)))


@pytest.fixture(scope="module")
def controls(make_system, make_frames):
    system, _ = make_system("A", capped=True)
    frames = make_frames("A", capped=True)[:3]
    return terms_from_system(system), frames, reference_energies(system, frames)


def without_an_exception(terms):
    return terms.replace(
        exception_atoms=terms.exception_atoms[1:],
        exception_chargeprod=terms.exception_chargeprod[1:],
        exception_sigma=terms.exception_sigma[1:],
        exception_epsilon=terms.exception_epsilon[1:],
    )


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (without_an_exception, "nonbonded"),
        (lambda terms: terms.replace(gb_alpha=0.8, gb_beta=0.0, gb_gamma=2.909125), "solvent"),
        (lambda terms: terms.replace(gb_coulomb_constant=terms.gb_coulomb_constant * (1 + 1e-5)), "solvent"),
    ],
)
def test_wrong_tables_fail_the_comparison(controls, spoil, kind):
    """If it failed, the comparison above would accept a dropped exception or the constants of another model."""
    terms, frames, reference = controls
    found = differences(own_energies(spoil(terms), frames, np.float64), reference)
    assert found[kind].relative_energy > ENERGY_TOLERANCE or found[kind].relative_force > FORCE_TOLERANCE
    assert found["bonds"].relative_energy < ENERGY_TOLERANCE


@pytest.mark.parametrize("backend", ["auto", "xla"])
def test_batches_through_the_evaluators(controls, backend):
    """If it failed, samplers would see other energies and forces than the formulas that the tests above compare."""
    terms, frames, reference = controls
    assert_close(differences(evaluated_energies(terms, frames, np.float64, backend), reference))


@pytest.mark.parametrize("backend", ["auto", "xla"])
def test_single_precision(controls, backend):
    """If it failed, float32 sampling would be noisier than the rounding of its coordinates (about 1e-5 of the force)."""
    terms, frames, reference = controls
    found = differences(evaluated_energies(terms, frames, np.float32, backend), reference)["total"]
    assert found.energy < 5e-3  # kJ/mol; 0.002 kT
    assert found.relative_force < 5e-5


@pytest.mark.slow
@pytest.mark.parametrize("forcefield", ["amber99sbildn-obc1", "amber99sbildn-obc2", "amber14-obc1", "amber14-obc2"])
@pytest.mark.parametrize(
    ("sequence", "capped"),
    [("A", True), ("AAA", False), ("AAAAAA", False), ("GYDPETGTWG", False), *((name, False) for name in TETRAPEPTIDES)],
)
def test_all_molecules_and_force_fields(make_system, make_frames, sequence, capped, forcefield):
    """If it failed, one residue or one force field would be read wrongly."""
    system, _ = make_system(sequence, capped=capped, forcefield=forcefield)
    frames = make_frames(sequence, capped=capped)
    assert_close(compare_with_openmm(system, frames))
    if forcefield.endswith("obc2"):
        assert_close(compare_with_openmm(with_gbsa_obc_force(system), frames))
