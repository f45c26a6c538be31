import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heatbath
from heatbath.errors import InvalidArgumentError, StructureError
from heatbath.targets.molecules import Molecule, MoleculeTopology
from heatbath.targets.molecules.observables import Distance, RadiusOfGyration, Torsion


def test_alanine_dipeptide(dipeptide):
    """If it failed, the molecule of the main job would be another one."""
    assert dipeptide.n_atoms == 22
    assert dipeptide.unit == "kJ/mol"
    assert dipeptide.space.event_shape == (22, 3)
    assert dipeptide.masses.shape == (22, 1)
    assert float(dipeptide.masses.sum()) == pytest.approx(144.17, abs=0.02)
    assert [residue.name for residue in dipeptide.topology.residues] == ["ACE", "ALA", "NME"]
    np.testing.assert_allclose(dipeptide.positions.mean(axis=0), 0.0, atol=1e-6)


def test_components_add_up(dipeptide):
    """If it failed, a kind of force would be missing from the total or counted twice."""
    parts = jax.jit(dipeptide.energy_components)(dipeptide.positions)
    assert set(parts) == {"bonds", "angles", "torsions", "nonbonded", "solvent"}
    total = jax.jit(dipeptide.energy)(dipeptide.positions)
    np.testing.assert_allclose(sum(float(part) for part in parts.values()), total, rtol=1e-12)


def test_start_is_a_minimum_and_minimise_keeps_it(dipeptide):
    """If it failed, chains would start on a slope and heat up."""
    start = dipeptide.initial(jax.random.key(0))
    assert np.abs(np.asarray(jax.jit(dipeptide.force)(start))).max() < 11.0  # kJ/mol/nm
    pushed = start + 0.02 * np.random.default_rng(0).normal(size=start.shape)
    energy = jax.jit(dipeptide.energy)
    assert float(energy(pushed)) > float(energy(start)) + 100.0
    assert float(energy(dipeptide.minimise(pushed))) < float(energy(start)) + 30.0
    assert dipeptide.minimise(pushed.astype(jnp.float32)).dtype == jnp.float32


def test_observables_and_basins(dipeptide):
    """If it failed, the Ramachandran surface and Delta F would be of other angles, or of the wrong sign."""
    observables = dipeptide.observables()
    assert list(observables) == ["phi", "psi"]
    assert observables["phi"].label == "phi (Ala 2)"
    assert observables["phi"].period == pytest.approx(2 * np.pi)
    assert dipeptide.ramachandran == (("phi", "psi"),)
    x = dipeptide.positions
    assert float(observables["phi"].function(x)) < 0
    basins = dipeptide.basins()
    assert bool(basins["phi < 0"](x))
    assert not bool(basins["phi > 0"](x))
    mirrored = x * jnp.array([-1.0, 1.0, 1.0])
    assert bool(basins["phi > 0"](mirrored))
    assert not bool(basins["phi < 0"](mirrored))
    assert dipeptide.basins() == basins  # equal callables: programs compiled with them are found again


def test_torsions_are_those_of_mdtraj(dipeptide):
    """If it failed, phi and psi would have another sign or zero than everywhere else."""
    mdtraj = pytest.importorskip("mdtraj", reason="an oracle of the extra 'test'")
    noise = 0.02 * np.random.default_rng(1).normal(size=(5, 22, 3))
    xs = np.asarray(dipeptide.positions) + noise
    trajectory = mdtraj.Trajectory(xs, mdtraj.Topology.from_openmm(dipeptide.to_openmm_topology()))
    for name, compute in (("phi", mdtraj.compute_phi), ("psi", mdtraj.compute_psi)):
        own = jax.vmap(dipeptide.observables()[name].function)(jnp.asarray(xs))
        np.testing.assert_allclose(own, compute(trajectory)[1][:, 0], atol=1e-4)  # mdtraj keeps float32


def test_simple_geometry():
    """If it failed, distances, sizes and angles in every figure would be wrong."""
    square = jnp.array([[1.0, 0, 0], [0, 0, 0], [0, 1.0, 0], [0, 1.0, 1.0]])
    assert float(Torsion((0, 1, 2, 3))(square)) == pytest.approx(-np.pi / 2)
    assert float(Distance(0, 2)(square)) == pytest.approx(np.sqrt(2))
    assert float(RadiusOfGyration((1.0, 1.0))(square[:2])) == pytest.approx(0.5)
    assert float(RadiusOfGyration((3.0, 1.0))(square[:2])) == pytest.approx(np.sqrt(3) / 4)


def test_longer_chains_name_their_residues(prepared):
    """If it failed, a report on a peptide would mix its residues, or offer Delta F of an angle that does not exist."""
    topology = MoleculeTopology.from_openmm(prepared("AAAAA")[0])
    names = heatbath.targets.molecules.observables.molecule_observables(topology, (1.0,) * topology.n_atoms)
    assert [name for name in names if name.startswith("phi")] == ["phi_2", "phi_3", "phi_4", "phi_5"]
    assert [name for name in names if name.startswith("psi")] == ["psi_1", "psi_2", "psi_3", "psi_4"]
    assert {"end-to-end distance", "radius of gyration"} <= set(names)
    pairs = heatbath.targets.molecules.observables.ramachandran_names(topology)
    assert pairs == (("phi_2", "psi_2"), ("phi_3", "psi_3"), ("phi_4", "psi_4"))


def test_topology_survives_openmm(dipeptide):
    """If it failed, exported files would name or bond atoms differently."""
    assert MoleculeTopology.from_openmm(dipeptide.to_openmm_topology()) == dipeptide.topology
    assert hash(dipeptide.topology) == hash(MoleculeTopology.from_openmm(dipeptide.to_openmm_topology()))


def test_molecule_without_reference(dipeptide):
    """If it failed, chains would start from an invented structure."""
    bare = Molecule(dipeptide.terms, dipeptide.topology, backend="xla")
    assert bare.positions is None
    with pytest.raises(StructureError, match="positions="):
        bare.initial(jax.random.key(0))
    with pytest.raises(StructureError, match="positions="):
        bare.stereochemistry_violations(dipeptide.positions)


def test_positions_are_checked(dipeptide):
    """If it failed, NaN or the atoms of another molecule would become the reference."""
    with pytest.raises(StructureError, match="atom 4"):
        Molecule(dipeptide.terms, dipeptide.topology, np.asarray(dipeptide.positions.at[4, 1].set(jnp.nan)))
    with pytest.raises(InvalidArgumentError, match=r"\(22, 3\)"):
        Molecule(dipeptide.terms, dipeptide.topology, np.zeros((21, 3)))
    smaller = MoleculeTopology(dipeptide.topology.atoms[:3], dipeptide.topology.residues, ())
    with pytest.raises(InvalidArgumentError, match="3 atoms"):
        Molecule(dipeptide.terms, smaller)


def test_molecule_passes_through_jit(dipeptide):
    """If it failed, samplers could not take the target as an argument of a compiled program."""
    value = jax.jit(lambda target, x: target.energy(x))(dipeptide, dipeptide.positions)
    assert np.isfinite(float(value))
