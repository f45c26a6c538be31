"""The compiled CPU force field: equal to the XLA formulas and to OpenMM, blind to its neighbours, harmless when abused."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.targets.molecules import cpu_kernel
from heatbath.targets.molecules.energy import energy_function, xla_evaluators
from heatbath.targets.molecules.terms import ForceFieldTerms

if not cpu_kernel.HAS_CODE_GENERATOR:
    pytest.skip("llvmlite (numba) is not installed", allow_module_level=True)

openmm = pytest.importorskip("openmm")
pytest.importorskip("rdkit")

from heatbath.targets.molecules.forcefields import create_system  # noqa: E402
from heatbath.targets.molecules.openmm_system import terms_from_system  # noqa: E402
from heatbath.targets.molecules.sequences import build_sequence  # noqa: E402
from heatbath.targets.molecules.structures import add_hydrogens  # noqa: E402


def structure(forcefield: str, sequence: str, *, capped: bool = False):
    topology, positions = add_hydrogens(forcefield, *build_sequence(sequence, capped=capped))
    return topology, np.asarray(positions)


def jittered(positions: np.ndarray, count: int, seed: int = 0, scale: float = 0.01) -> np.ndarray:
    return positions + scale * np.random.default_rng(seed).normal(size=(count, *positions.shape))


def relative_rms(found, expected) -> float:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def reference(terms: ForceFieldTerms, xs: np.ndarray):
    return tuple(
        np.asarray(a) for a in jax.jit(xla_evaluators(terms).energies_and_forces)(jnp.asarray(xs, jnp.float64))
    )


@pytest.fixture(scope="module")
def alanine():
    """(System, terms, positions) of alanine dipeptide in OBC2."""
    topology, positions = structure("amber99sbildn-obc2", "A", capped=True)
    system = create_system("amber99sbildn-obc2", topology)
    return system, terms_from_system(system), positions


@pytest.fixture(scope="module")
def evaluate(alanine):
    """The kernel of alanine dipeptide."""
    return jax.jit(cpu_kernel.build(alanine[1]))


def variant(terms: ForceFieldTerms, name: str) -> ForceFieldTerms:
    """The table with one feature changed."""
    n = terms.n_atoms
    empty = np.zeros(0)
    no_solvent = {
        "gb_model": None,
        "gb_charges": empty,
        "gb_offset_radius": empty,
        "gb_scaled_radius": empty,
        "gb_radius": empty,
    }
    cut = {"nonbonded_method": "cutoff_non_periodic", "cutoff": 0.5}
    random = np.random.default_rng(1)
    changes = {
        "as built": {},
        "vacuum": no_solvent,
        "obc1, no surface, any torsion": {
            "gb_model": "obc1",
            "gb_alpha": 0.8,
            "gb_beta": 0.0,
            "gb_gamma": 2.909125,
            "gb_surface_constant": 0.0,
            "torsion_phase": random.uniform(-3, 3, len(terms.torsion_k)),
            "torsion_periodicity": random.integers(1, 7, len(terms.torsion_k)),
        },
        "engulfed term, any radii": {"gb_engulfed_term": True, "gb_scaled_radius": np.linspace(0.05, 0.3, n)},
        "cutoff": cut | {"gb_cutoff": 0.5, "reaction_field_dielectric": 1.0},
        "reaction field and switch": cut | no_solvent | {"switching_distance": 0.35},
        "solvent alone": {"nonbonded_method": "none", "charges": empty, "sigma": empty, "epsilon": empty},
    }
    return terms.replace(**changes[name])


VARIANTS = [
    "as built",
    "vacuum",
    "obc1, no surface, any torsion",
    "engulfed term, any radii",
    "cutoff",
    "reaction field and switch",
    "solvent alone",
]


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_xla_formulas(alanine, name):
    """A wrong formula, sign or table in any kind of term; one by one (lanes are pairs) is not the same as together."""
    terms = variant(alanine[1], name)
    xs = jittered(alanine[2], 6)
    xs[4, 3] = xs[4, 9] + 0.05  # swallowed, where there are radii
    kernel = cpu_kernel.build(terms)
    energies, forces = kernel(jnp.asarray(xs))
    for index in (0, 4):
        energy, force = kernel(jnp.asarray(xs[index : index + 1]))
        np.testing.assert_array_equal(energy[0], energies[index])
        np.testing.assert_array_equal(force[0], forces[index])
    expected, expected_forces = reference(terms, xs)
    np.testing.assert_allclose(energies, expected, rtol=1e-12)
    for force, wanted in zip(forces, expected_forces, strict=True):
        assert relative_rms(force, wanted) < 1e-12


def test_comparison_can_fail(alanine):
    """Negative control: the comparison above would not notice a constant of the solvent that is off by one percent."""
    xs = jittered(alanine[2], 6)
    _, forces = cpu_kernel.build(alanine[1].replace(gb_beta=0.81))(jnp.asarray(xs))
    _, others = reference(alanine[1], xs)
    assert relative_rms(forces, others) > 1e-6


def test_equals_openmm_reference(alanine):
    """The kernel and the XLA formulas share a misreading of the System."""
    system, terms, positions = alanine
    xs = jittered(positions, 2)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    energies, forces = cpu_kernel.build(terms)(jnp.asarray(xs))
    for x, energy, force in zip(xs, energies, forces, strict=True):
        context.setPositions(x)
        state = context.getState(getEnergy=True, getForces=True)
        assert abs(float(energy) / state.getPotentialEnergy()._value - 1) < 1e-10
        assert relative_rms(force, state.getForces(asNumpy=True)._value) < 1e-10


def test_cmap_equals_xla():
    """A wrong patch, cell or derivative of CMAP; two different maps and angles on both sides of pi."""
    topology, positions = structure("amber19-vacuum", "AG", capped=True)
    terms = terms_from_system(create_system("amber19-vacuum", topology))
    assert len(terms.cmap_torsions) == 2
    bare = np.zeros(0)
    terms = terms.replace(nonbonded_method="none", charges=bare, sigma=bare, epsilon=bare)
    xs = jittered(positions, 7, scale=0.05)
    energies, forces = cpu_kernel.build(terms)(jnp.asarray(xs))
    expected, expected_forces = reference(terms, xs)
    np.testing.assert_allclose(energies, expected, rtol=1e-11)
    assert relative_rms(forces, expected_forces) < 1e-11


def test_float32_error(alanine, evaluate):
    """Single precision is worse than what the rounding of the coordinates does to the forces anyway."""
    xs = jittered(alanine[2], 6).astype(np.float32)
    energies, forces = evaluate(jnp.asarray(xs))
    assert energies.dtype == forces.dtype == jnp.float32
    expected, expected_forces = reference(alanine[1], xs.astype(np.float64))
    assert relative_rms(forces, expected_forces) < 2e-6  # measured 5e-7
    assert (np.abs(np.asarray(energies) - expected) < 2e-3).all()  # kJ/mol, 1e-3 kT


def test_every_layout_is_chosen_for_some_batch():
    """A batch size for which nothing sensible is chosen, so that the tests above miss a layout or a thread idles."""
    widths = [16, 8, 1]
    assert cpu_kernel._block_width(1, 22, 2, widths) == 1
    assert cpu_kernel._block_width(2, 138, 2, widths) == 1
    assert cpu_kernel._block_width(16, 138, 2, widths) == 8
    assert cpu_kernel._block_width(16, 138, 1, widths) == 16
    assert cpu_kernel._block_width(16, 3, 8, widths) == 16  # too little work to wake another thread
    assert cpu_kernel._block_width(1000, 22, 2, widths) == 16


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_configurations_do_not_see_each_other(alanine, dtype):
    """A result that depends on the place in the batch, the batch size, the block width or the number of threads."""
    xs = jnp.asarray(jittered(alanine[2], 100).astype(dtype))
    single, double = (jax.jit(cpu_kernel.build(alanine[1], threads=threads)) for threads in (1, 2))
    energies, forces = (np.asarray(a) for a in single(xs))
    for part in (xs[:1], xs[3:5], xs[20:35], xs[40:56], xs[57:74], xs[::-1]):
        places = [int(np.flatnonzero((np.asarray(xs) == np.asarray(x)).all(axis=(1, 2)))[0]) for x in part]
        for kernel in (single, double):
            some_energies, some_forces = kernel(part)
            np.testing.assert_array_equal(some_energies, energies[places])
            np.testing.assert_array_equal(some_forces, forces[places])


def test_close_configuration_leaves_neighbours_alone(alanine, evaluate):
    """The formulas for swallowed spheres, taken when one lane needs them, change the other lanes."""
    xs = jittered(alanine[2], 16).astype(np.float32)
    before = evaluate(jnp.asarray(xs))
    xs[5, 3] = xs[5, 9] + 0.01
    after = evaluate(jnp.asarray(xs))
    others = np.arange(16) != 5
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(np.asarray(old)[others], np.asarray(new)[others])
        assert not np.array_equal(np.asarray(old)[5], np.asarray(new)[5])


@pytest.mark.parametrize("name", ["as built", "engulfed term, any radii", "solvent alone"])
def test_clashes(alanine, name):
    """Overlapping atoms are evaluated with formulas that hold only at usual distances."""
    terms = variant(alanine[1], name)
    xs = np.repeat(alanine[2][None], 6, axis=0)
    for x, distance in zip(xs, (0.004, 0.02, 0.04, 0.05, 0.06, 0.08), strict=True):
        x[2] = x[12] + distance * np.array([0.6, 0.0, 0.8])
        x[16] = x[5] - distance * np.array([0.0, 1.0, 0.0])
    energies, forces = cpu_kernel.build(terms)(jnp.asarray(xs))
    expected, expected_forces = reference(terms, xs)
    np.testing.assert_allclose(energies, expected, rtol=1e-11)
    for found, wanted in zip(forces, expected_forces, strict=True):
        assert relative_rms(found, wanted) < 1e-9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_input_that_is_not_finite(alanine, dtype):
    """NaN or infinity comes out as a number, reaches other configurations, or kills the process; so do equal positions."""
    xs = jittered(alanine[2], 9).astype(dtype)
    evaluate = jax.jit(cpu_kernel.build(alanine[1]))
    clean, clean_forces = (np.asarray(a) for a in evaluate(jnp.asarray(xs)))
    for row, value in ((1, np.nan), (4, np.inf), (6, -np.inf)):
        xs[row, 7, 1] = value
    xs[8] = 0.0
    energies, forces = (np.asarray(a) for a in evaluate(jnp.asarray(xs)))
    for row in (1, 4, 6):
        assert not np.isfinite(energies[row])
        assert not np.isfinite(forces[row, 7]).all()
    assert not energies[8] < 1e6  # large, infinite or NaN: never a low energy
    good = [0, 2, 3, 5, 7]
    np.testing.assert_array_equal(energies[good], clean[good])
    np.testing.assert_array_equal(forces[good], clean_forces[good])


def test_cmap_with_nan_stays_inside_its_table():
    """A NaN angle becomes an index."""
    topology, positions = structure("amber19-vacuum", "G", capped=True)
    terms = terms_from_system(create_system("amber19-vacuum", topology))
    xs = np.repeat(positions[None], 3, axis=0)
    xs[1] = np.nan
    energies, _ = cpu_kernel.build(terms)(jnp.asarray(xs))
    assert np.isfinite(energies[0])
    assert np.isnan(energies[1])
    assert energies[0] == energies[2]


def test_under_transformations(alanine):
    """jit, vmap, nested vmap, scan and grad do not go through the kernel or give something else."""
    _, terms, positions = alanine
    kernel = cpu_kernel.build(terms)
    xs = jnp.asarray(jittered(positions, 6))
    energies, forces = jax.jit(kernel)(xs)
    nested_energies, nested_forces = jax.vmap(jax.vmap(kernel))(xs.reshape(3, 2, 1, *positions.shape))
    np.testing.assert_array_equal(nested_energies.ravel(), energies)
    np.testing.assert_array_equal(nested_forces.reshape(forces.shape), forces)

    def descend(x, _):
        energy, force = kernel(x)
        return x + 1e-7 * force, energy

    _, path = jax.jit(lambda x: jax.lax.scan(descend, x, length=5))(xs)
    assert (np.diff(np.asarray(path), axis=0) < 0).all()
    np.testing.assert_array_equal(path[0], energies)

    energy = energy_function(terms, "cpu-kernel")
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(energy)))(xs)
    np.testing.assert_array_equal(value, energies)
    np.testing.assert_array_equal(gradient, -forces)


def test_force_is_minus_gradient_of_its_own_energy(alanine, evaluate):
    """Energy and force belong to different formulas; central differences of the kernel's own energy."""
    x = alanine[2]
    direction = np.random.default_rng(3).normal(size=x.shape)
    step = 3e-6
    energies, _ = evaluate(jnp.asarray(np.stack([x + step * direction, x - step * direction])))
    _, forces = evaluate(jnp.asarray(x[None]))
    slope = float(energies[0] - energies[1]) / (2 * step)
    assert abs(slope / -float((np.asarray(forces[0]) * direction).sum()) - 1) < 1e-6


def test_refusals(alanine, monkeypatch):
    """Something that the kernel cannot do is done wrongly instead of being refused."""
    terms = alanine[1]
    kernel = cpu_kernel.build(terms)
    for wrong in (jnp.zeros((2, 21, 3)), jnp.zeros((22, 3)), jnp.zeros((2, 22, 3), jnp.int32)):
        with pytest.raises(InvalidArgumentError, match="22, 3"):
            kernel(wrong)
    energies, forces = kernel(jnp.zeros((0, 22, 3)))
    assert energies.shape == (0,)
    assert forces.shape == (0, 22, 3)
    big = ForceFieldTerms(masses=np.ones(cpu_kernel.MAX_ATOMS + 1))
    assert "atoms" in cpu_kernel.unsupported(big)
    assert cpu_kernel.build(big) is None
    monkeypatch.setattr(cpu_kernel, "HAS_CODE_GENERATOR", False)
    assert "llvmlite" in cpu_kernel.unsupported(terms)
    assert cpu_kernel.build(terms) is None


def test_nothing_to_do():
    """Atoms without any term, or a single atom, divide by an empty table."""
    for n in (1, 5):
        energies, forces = cpu_kernel.build(ForceFieldTerms(masses=np.ones(n)))(jnp.ones((3, n, 3)))
        np.testing.assert_array_equal(energies, 0.0)
        np.testing.assert_array_equal(forces, 0.0)


def test_call_with_another_molecule_is_an_error(alanine):
    """A program that is called with the wrong number of atoms reads beyond its input."""
    terms, x = alanine[1], jnp.asarray(alanine[2][None], jnp.float32)
    cpu_kernel.build(terms)(x)
    name = next(name for name in cpu_kernel._programs if terms.digest[:32] in name and "float32" in name)
    shapes = (jax.ShapeDtypeStruct((1,), jnp.float32), jax.ShapeDtypeStruct((1, 21, 3), jnp.float32))
    with pytest.raises(Exception, match="another number of atoms"):
        jax.block_until_ready(jax.ffi.ffi_call(name, shapes)(x[:, :21]))


def test_two_devices(alanine, tmp_path):
    """On two host devices, called at the same time, the threads of one device touch the memory of the other."""
    np.savez(tmp_path / "case.npz", xs=jittered(alanine[2], 64).astype(np.float32))
    script = textwrap.dedent(
        """
        import pickle, sys
        import jax, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec
        from heatbath.targets.molecules import cpu_kernel
        terms = pickle.load(open(sys.argv[1] + "/terms.pickle", "rb"))
        xs = np.load(sys.argv[1] + "/case.npz")["xs"]
        assert len(jax.devices()) == 2
        kernel = cpu_kernel.build(terms, threads=2)
        alone = jax.device_get(jax.jit(kernel)(xs))
        mesh = jax.make_mesh((2,), ("chain",))
        split = jax.device_put(xs, NamedSharding(mesh, PartitionSpec("chain")))
        mapped = jax.shard_map(kernel, mesh=mesh, in_specs=PartitionSpec("chain"), out_specs=PartitionSpec("chain"))
        for _ in range(20):
            for function in (jax.jit(mapped), jax.jit(kernel)):
                for found, wanted in zip(jax.device_get(function(split)), alone):
                    np.testing.assert_array_equal(found, wanted)
        """
    )
    import pickle

    (tmp_path / "terms.pickle").write_bytes(pickle.dumps(alanine[1]))
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
