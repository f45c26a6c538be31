import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.targets.molecules import energy as energy_module
from heatbath.targets.molecules.energy import chunk_size, energy_function, total_energy, xla_evaluators
from heatbath.targets.molecules.terms import ForceFieldTerms


@pytest.fixture(scope="module")
def terms():
    """Four charged atoms with one term of every kind that compiles quickly."""
    return ForceFieldTerms(
        masses=np.ones(4),
        bond_atoms=np.array([[0, 1], [1, 2], [2, 3]]),
        bond_length=np.array([0.10, 0.15, 0.12]),
        bond_k=np.array([1e4, 2e4, 1e4]),
        angle_atoms=np.array([[0, 1, 2], [1, 2, 3]]),
        angle_value=np.array([1.9, 2.0]),
        angle_k=np.array([300.0, 400.0]),
        torsion_atoms=np.array([[0, 1, 2, 3], [0, 1, 2, 3]]),
        torsion_periodicity=np.array([1, 3]),
        torsion_phase=np.array([0.3, np.pi]),
        torsion_k=np.array([5.0, 7.0]),
        nonbonded_method="no_cutoff",
        charges=np.array([0.4, -0.4, 0.3, -0.3]),
        sigma=np.full(4, 0.2),
        epsilon=np.full(4, 0.5),
        exception_atoms=np.array([[0, 1], [1, 2], [2, 3], [0, 2], [1, 3]]),
        exception_chargeprod=np.zeros(5),
        exception_sigma=np.ones(5),
        exception_epsilon=np.zeros(5),
        gb_model="obc2",
        gb_alpha=1.0,
        gb_beta=0.8,
        gb_gamma=4.85,
        gb_charges=np.array([0.4, -0.4, 0.3, -0.3]),
        gb_offset_radius=np.array([0.11, 0.16, 0.14, 0.11]),
        gb_scaled_radius=np.array([0.09, 0.12, 0.11, 0.09]),
        gb_radius=np.array([0.12, 0.17, 0.15, 0.12]),
        gb_surface_constant=28.39,
        gb_engulfed_term=True,
    )


@pytest.fixture(scope="module")
def positions():
    chain = np.array([[0.0, 0.0, 0.0], [0.1, 0.02, 0.0], [0.15, 0.16, 0.01], [0.26, 0.19, 0.05]])
    noise = np.random.default_rng(5).normal(size=(6, 4, 3))
    return jnp.asarray(chain + 0.01 * noise)


@pytest.fixture(scope="module")
def plain(terms):
    """The formulas, one configuration at a time, with JAX's own derivatives."""
    return jax.jit(jax.value_and_grad(total_energy(terms)))


def reference(plain, positions):
    pairs = [plain(x) for x in positions]
    return np.array([float(e) for e, _ in pairs]), np.array([np.asarray(g) for _, g in pairs])


def test_single_batched_and_nested_agree(terms, positions, plain):
    """If it failed, a batch would give other energies or forces than its members, or mix their order."""
    energies, gradients = reference(plain, positions)
    function = energy_function(terms, "xla")
    np.testing.assert_allclose(jax.jit(function)(positions[1]), energies[1], rtol=1e-12)
    batched = jax.jit(jax.vmap(jax.value_and_grad(function)))(positions)
    np.testing.assert_allclose(batched[0], energies, rtol=1e-12)
    np.testing.assert_allclose(batched[1], gradients, rtol=1e-9, atol=1e-8)
    nested = jax.jit(jax.vmap(jax.vmap(jax.grad(function))))(positions.reshape(2, 3, 4, 3))
    np.testing.assert_allclose(nested.reshape(6, 4, 3), gradients, rtol=1e-9, atol=1e-8)
    swapped = jax.jit(jax.vmap(function, in_axes=2))(jnp.moveaxis(positions, 0, 2))
    np.testing.assert_allclose(swapped, energies, rtol=1e-12)


def test_gradient_of_a_batch_sum(terms, positions, plain):
    """If it failed, losses over batches (gradient outside, vmap inside) would train on wrong forces."""
    _, gradients = reference(plain, positions)
    found = jax.jit(jax.grad(lambda xs: jax.vmap(energy_function(terms, "xla"))(xs).sum()))(positions)
    np.testing.assert_allclose(found, gradients, rtol=1e-9, atol=1e-8)


def test_batches_run_batched_code(terms, positions, monkeypatch):
    """If it failed, vmap would fall back to n x n arrays per configuration: right, but several times slower."""
    shapes = []

    def spy(spied, backend):
        made = xla_evaluators(spied)
        return made._replace(energies_and_forces=lambda xs: shapes.append(xs.shape) or made.energies_and_forces(xs))

    monkeypatch.setattr(energy_module, "evaluators", spy)
    function = energy_function.__wrapped__(terms, "xla")
    jax.eval_shape(jax.vmap(jax.vmap(jax.grad(function))), positions.reshape(2, 3, 4, 3))
    jax.eval_shape(lambda xs: jax.lax.scan(lambda c, _: (c, jax.vmap(jax.grad(function))(c)), xs, None, 2), positions)
    assert shapes[0] == (6, 4, 3) or (6, 4, 3) in shapes
    assert shapes[-1] == (6, 4, 3)


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_chunks_and_their_padding_change_nothing(terms, positions, plain, count):
    """If it failed, the last chunk would leak its padding, or configurations change their places."""
    energies, gradients = reference(plain, positions)
    found = jax.jit(xla_evaluators(terms, chunk=2).energies_and_forces)(positions[:count])
    np.testing.assert_allclose(found[0], energies[:count], rtol=1e-12)
    np.testing.assert_allclose(-found[1], gradients[:count], rtol=1e-9, atol=1e-8)


def test_gradient_is_the_derivative(terms, positions):
    """If it failed, no sampler with gradients would keep the Boltzmann distribution."""
    function = jax.jit(jax.value_and_grad(energy_function(terms, "xla")))
    direction = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    step = 1e-5
    slope = (function(positions[0] + step * direction)[0] - function(positions[0] - step * direction)[0]) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(function(positions[0])[1], direction), slope, rtol=1e-7)


def test_second_derivatives(terms, positions, plain):
    """If it failed, normal modes and score losses would see a Hessian of zero, or none at all."""
    function = energy_function(terms, "xla")
    hessian = jax.jit(jax.hessian(function))(positions[0]).reshape(12, 12)
    step = 1e-5
    rows = []
    for k in range(12):
        shift = jnp.zeros(12).at[k].set(step).reshape(4, 3)
        difference = plain(positions[0] + shift)[1] - plain(positions[0] - shift)[1]
        rows.append(np.asarray(difference).ravel() / (2 * step))
    np.testing.assert_allclose(hessian, rows, rtol=1e-6, atol=1e-3 * np.abs(hessian).max() * 1e-3)
    product = jax.jit(jax.vmap(lambda x: jax.jvp(jax.grad(function), (x,), (jnp.ones((4, 3)),))[1]))
    np.testing.assert_allclose(product(positions[:2])[0].ravel(), hessian.sum(axis=1), rtol=1e-9, atol=1e-6)


def test_precision_follows_the_positions(terms, positions):
    """If it failed, float32 dynamics would silently run in float64, or float64 checks in float32."""
    function = energy_function(terms, "xla")
    for dtype in (jnp.float32, jnp.float64):
        value, gradient = jax.eval_shape(jax.value_and_grad(function), positions[0].astype(dtype))
        assert value.dtype == gradient.dtype == dtype


def test_clashes_have_finite_derivatives(terms, positions):
    """If it failed, one overlap in a proposal would turn the whole chain into NaN."""
    gradient = jax.jit(jax.vmap(jax.value_and_grad(energy_function(terms, "xla"))))
    for distance in (1e-1, 1e-3, 1e-5, 1e-7):
        for dtype in (jnp.float32, jnp.float64):
            x = positions[:2].at[0, 3].set(positions[0, 0] + jnp.array([distance, 0.0, 0.0])).astype(dtype)
            if (np.asarray(x[0, 3]) == np.asarray(x[0, 0])).all():
                continue
            energies, gradients = gradient(x)
            assert not np.isnan(np.asarray(energies)).any(), (distance, dtype)
            assert np.isfinite(np.asarray(gradients)).all(), (distance, dtype)
            assert energies[0] > energies[1]


def test_nan_stays_where_it_is(terms, positions):
    """If it failed, a lost configuration would look healthy, or spoil its neighbours in the batch."""
    broken = positions.at[2, 1, 0].set(jnp.nan)
    energies, gradients = jax.jit(jax.vmap(jax.value_and_grad(energy_function(terms, "xla"))))(broken)
    assert np.isnan(np.asarray(energies)).tolist() == [False, False, True, False, False, False]
    assert np.isfinite(np.asarray(gradients)[[0, 1, 3, 4, 5]]).all()
    assert np.isnan(np.asarray(gradients)[2]).any()


def test_translation_and_rotation_change_nothing(terms, positions):
    """If it failed, the energy would depend on the place in space."""
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    function = jax.jit(energy_function(terms, "xla"))
    np.testing.assert_allclose(function(positions[0] @ turn + 3.0), function(positions[0]), rtol=1e-10)


def test_equal_terms_share_one_function(terms):
    """If it failed, every rebuilt molecule would compile its programs again."""
    assert energy_function(terms.replace(), "xla") is energy_function(terms, "xla")


def test_wrong_shapes_and_backends_are_refused(terms, positions):
    """If it failed, positions of another molecule would give an energy."""
    with pytest.raises(InvalidArgumentError, match=r"\(4, 3\)"):
        energy_function(terms, "xla")(jnp.zeros((5, 3)))
    with pytest.raises(UsageError, match="cpu-kernel"):
        energy_module.evaluators(terms, "gpu")


def test_chunks_shrink_with_the_molecule():
    """If it failed, big molecules would fall out of the cache (or out of memory)."""
    assert chunk_size(22, "cpu") == 256
    assert chunk_size(138, "cpu") == 32
    assert chunk_size(3000, "cpu") >= 8
    assert chunk_size(3000, "gpu") >= 16
