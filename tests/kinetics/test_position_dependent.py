"""Position-dependent diffusion against exact laws. |z| < 4.5 has a false-alarm rate of 7e-6, other thresholds are stated."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.stationarity import boltzmann_cdf, stationarity
from heatbath.kinetics.diffusion_integrators import check_integrator, simulate
from heatbath.kinetics.fokker_planck import fokker_planck, mean_first_passage
from heatbath.kinetics.hydrodynamics import parallel_mobility, perpendicular_mobility, perpendicular_mobility_fit
from heatbath.kinetics.inertial import resolved_step, simulate_inertial
from heatbath.kinetics.kramers_moyal import kramers_moyal
from heatbath.kinetics.path_weights import log_path_weight, log_transition
from heatbath.kinetics.position_dependent import DiffusionModel, check_diffusivity, divergence
from heatbath.kinetics.solvable_diffusions import LegendreDiffusion, StudentDiffusion, WallGravity

COUNT = 6000


def harmonic(x):
    return 0.5 * jnp.sum(x**2)


def wavy(x):
    return 1 + 0.6 * jnp.sin(2 * x[0])


def wavy_array(x):
    return 1 + 0.6 * np.sin(2 * x)


CDF = boltzmann_cdf(lambda x: 0.5 * x**2, -8.0, 8.0)
START = np.random.default_rng(3).normal(size=(COUNT, 1))


def z_score(values, expected):
    return (np.mean(values) - expected) / (np.std(values, ddof=1) / np.sqrt(len(values)))


# Drifts ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_drifts_in_one_dimension(alpha):
    """f = -D u' + (1 - alpha) D', and one and the same process in Ito's form for every alpha."""
    x = jnp.array([0.7])
    d, slope = float(wavy(x)), float(1.2 * np.cos(1.4))
    model = DiffusionModel(harmonic, wavy, alpha)
    np.testing.assert_allclose(model.drift(x)[0], -d * 0.7 + (1 - alpha) * slope, rtol=1e-12)
    np.testing.assert_allclose(model.ito_drift(x)[0], -d * 0.7 + slope, rtol=1e-12)
    naive = DiffusionModel(harmonic, wavy, alpha, consistent=False)
    np.testing.assert_allclose(naive.ito_drift(x)[0], -d * 0.7 + alpha * slope, rtol=1e-12)


def test_drift_of_a_matrix():
    """In two dimensions Ito's drift is -D grad u + d_j D_ij, and the general one subtracts alpha g_jk d_j g_ik."""

    def matrix(x):
        return jnp.array([[1 + x[0] ** 2, 0.3 * x[1]], [0.3 * x[1], 2 + jnp.sin(x[0])]])

    x = jnp.array([0.4, -0.3])
    np.testing.assert_allclose(divergence(matrix, x), [2 * 0.4 + 0.3, 0.0], atol=1e-12)
    model = DiffusionModel(harmonic, matrix, 0.5)
    np.testing.assert_allclose(model.ito_drift(x), -matrix(x) @ x + divergence(matrix, x), rtol=1e-12)
    step = 1e-6
    slope = np.stack([(model.noise(x + step * e) - model.noise(x - step * e)) / (2 * step) for e in jnp.eye(2)])
    by_hand = np.einsum("jk,jik->i", np.asarray(model.noise(x)), slope)
    np.testing.assert_allclose(model.noise_drift(x), by_hand, rtol=1e-7)


def test_bad_models_are_refused():
    """alpha outside [0, 1], D that is not positive definite, and schemes that converge to something else."""
    with pytest.raises(InvalidArgumentError, match="alpha"):
        DiffusionModel(harmonic, wavy, 1.2)
    with pytest.raises(InvalidArgumentError, match="positive definite"):
        check_diffusivity(lambda x: jnp.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros((1, 2)))
    with pytest.raises(InvalidArgumentError, match="symmetric"):
        check_diffusivity(lambda x: jnp.array([[1.0, 0.5], [0.0, 1.0]]), np.zeros((1, 2)))
    with pytest.raises(InvalidArgumentError, match="positive definite"):
        check_diffusivity(lambda x: jnp.sin(x[0]), np.array([[1.0], [4.0]]))
    model = DiffusionModel(harmonic, wavy, 0.0)
    for options, words in (
        ({"integrator": "heun"}, "1/2"),
        ({"every": 3}, "multiple"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            simulate(jax.random.key(0), model, START[:4], 0.1, 4, **options)
    with pytest.raises(InvalidArgumentError, match="one of"):
        check_integrator(model, "leapfrog", 1)
    with pytest.raises(InvalidArgumentError, match="time step"):
        simulate(jax.random.key(0), model, START[:4], -0.1, 4)


# Simulation -----------------------------------------------------------------------------------------------------------
CASES = [
    ("euler", 0.0),
    ("euler", 0.75),
    ("point", 0.25),
    ("point", 0.5),
    ("point", 1.0),
    ("heun", 0.5),
    ("milstein", 0.0),
    ("drift-free", 1.0),
]


@pytest.mark.parametrize(("integrator", "alpha"), CASES)
def test_every_scheme_keeps_the_boltzmann_distribution(integrator, alpha):
    """With the drift, particles stay Boltzmann distributed in every convention; a wrong drift is 10 sigma away (next test).

    4 sigmas: false alarm 3e-5; the time step's own bias is about 0.3 % of the density.
    """
    end = simulate(
        jax.random.key(1), DiffusionModel(harmonic, wavy, alpha), START, 0.01, 150, integrator=integrator, every=150
    )
    assert stationarity(np.asarray(end)[:, -1, 0], CDF).sigmas < 4


@pytest.mark.parametrize(("integrator", "alpha"), [("euler", 0.0), ("point", 0.5)])
def test_without_the_drift_another_law_is_sampled(integrator, alpha):
    """D^-(1-alpha) exp(-u) is found, and Boltzmann's law is rejected at more than 10 sigma."""
    model = DiffusionModel(harmonic, wavy, alpha, consistent=False)
    end = simulate(jax.random.key(2), model, START, 0.01, 500, integrator=integrator, every=500)[:, -1, 0]
    wrong = boltzmann_cdf(lambda x: 0.5 * x**2 + (1 - alpha) * np.log(wavy_array(x)), -8.0, 8.0)
    assert stationarity(np.asarray(end), wrong).sigmas < 4
    assert stationarity(np.asarray(end), CDF).sigmas > 10
    x = jnp.array([0.3])
    np.testing.assert_allclose(model.stationary_energy(x), 0.045 + (1 - alpha) * np.log(float(wavy(x))), rtol=1e-12)


def test_friction_that_depends_on_position_has_no_dilemma():
    """m -> 0 of the inertial equation leads to the drift D': Boltzmann's law is kept at any mass, from its own integrator."""
    mass = 0.05
    dt = resolved_step(mass, 1.6)
    end = simulate_inertial(jax.random.key(5), harmonic, wavy, jnp.asarray(START), dt, 100, mass)
    assert stationarity(np.asarray(end)[:, 0], CDF).sigmas < 4
    # from a point, <x> over a short time shows the Ito drift -D u' + D', up to O(m) and O(t)
    begin, time = 0.3, 0.1
    many = jnp.full((20_000, 1), begin)
    shifts = []
    for small in (0.02, 0.01):
        dt = resolved_step(small, 1.6)
        x = simulate_inertial(jax.random.key(6), harmonic, wavy, many, dt, round(time / dt), small)
        shifts.append(np.asarray(x)[:, 0] - begin)
    grid = np.linspace(-6, 6, 1201)
    solver = fokker_planck(lambda x: 0.5 * x**2, wavy_array, grid)
    point = np.zeros(1200)
    point[np.abs(solver.centres - begin).argmin()] = 1.0
    expected = solver.evolve(point, time) @ solver.centres - solver.centres[np.abs(solver.centres - begin).argmin()]
    bias = [shift.mean() - expected for shift in shifts]
    error = shifts[0].std() / np.sqrt(20_000)
    assert abs(2 * bias[1] - bias[0]) < 4.5 * np.sqrt(5) * error  # extrapolated to zero mass


def drift_of_the_model(x):
    return -wavy_array(x) * x + 1.2 * np.cos(2 * x)


def test_coefficients_are_recovered_from_trajectories():
    """D(x) and the drift from data agree with the model, bin by bin; a naive drift is told from a consistent one.

    Root mean square over 12 bins: 1.7 has a false-alarm rate of 5e-4.
    """
    estimates = {}
    for consistent in (True, False):
        model = DiffusionModel(harmonic, wavy, 0.0, consistent=consistent)
        paths = simulate(jax.random.key(7), model, START[:1000], 0.001, 400, every=4)[:, :, 0]
        estimates[consistent] = kramers_moyal(np.asarray(paths), 0.004, np.linspace(-1.5, 1.5, 13))
    for consistent, found in estimates.items():
        x = found.centres
        assert (np.abs(found.diffusivity - wavy_array(x)) < 4.5 * found.diffusivity_error + 0.01).all()
        drift = -wavy_array(x) * x + (1.2 * np.cos(2 * x) if consistent else 0.0)
        assert (np.abs(found.drift - drift) < 4.5 * found.drift_error + 0.02).all()
    x = estimates[False].centres
    z = (estimates[False].drift - drift_of_the_model(x)) / estimates[False].drift_error
    assert np.sqrt((z**2).mean()) > 2.2
    right = (estimates[True].drift - drift_of_the_model(estimates[True].centres)) / estimates[True].drift_error
    assert np.sqrt((right**2).mean()) < 1.7
    with pytest.raises(InvalidArgumentError, match="trajectories"):
        kramers_moyal(np.zeros((2, 10)), 0.1, np.linspace(0, 1, 3))


# Grids and path weights ------------------------------------------------------------------------------------------------
#: L1 distance from Boltzmann after t = 2 in steps of 0.01 and 0.005, from an independent program.
KNOWN_DISTANCES = {0.0: (0.0069, 0.0035), 0.5: (0.00125, 0.00062), 1.0: (0.0028, 0.0014)}


@pytest.mark.parametrize("alpha", KNOWN_DISTANCES)
def test_path_integral_keeps_the_boltzmann_density(alpha):
    """One-step weights on a grid, chained to t = 2: the distances that are known (two digits), which halve with the step.

    A wrong sign of alpha D' or of alpha f' would leave a distance of tenths. The total weight is 1 for alpha = 0, and for the
    others, whose steps are normalised up to dt^2, leaves 1 with the first power of the step.
    """
    grid = jnp.linspace(-6, 6, 601)
    boltzmann = np.exp(-0.5 * np.asarray(grid) ** 2)
    boltzmann /= boltzmann.sum()

    @eqx.filter_jit
    def kernel(dt, model):
        return jnp.exp(jax.vmap(lambda x: jax.vmap(lambda y: log_transition(model, x, y, dt))(grid))(grid))

    def chained(dt, time, consistent=True):
        model = DiffusionModel(harmonic, wavy, alpha, consistent=consistent)
        matrix = np.asarray(kernel(dt, model)) * 0.02
        return np.linalg.matrix_power(matrix.T, round(time / dt)) @ boltzmann

    def found(density):
        return np.abs(density / density.sum() - boltzmann).sum(), density.sum() - 1

    (coarse, extra), (fine, extra_fine) = (found(chained(dt, 2)) for dt in (0.01, 0.005))
    np.testing.assert_allclose([coarse, fine], KNOWN_DISTANCES[alpha], rtol=0.02)  # known to two digits
    if alpha == 0:
        assert abs(extra) < 1e-6
        without = chained(0.005, 8, consistent=False)
        wrong = boltzmann / wavy_array(np.asarray(grid))
        wrong /= wrong.sum()
        assert np.abs(without - wrong).sum() < 0.0035  # of the first order in dt, as with the drift
        np.testing.assert_allclose(found(without)[0], np.abs(wrong - boltzmann).sum(), atol=0.0035)
        assert np.abs(wrong - boltzmann).sum() > 0.43
    else:
        assert extra < 0.01
        assert 1.9 < extra / extra_fine < 2.1


def test_forward_and_backward_paths_differ_by_the_energy():
    """log K(x'|x) / K(x|x') = u(x) - u(x') for alpha = 1/2: exactly for a square, else up to the third power of the step."""
    model, rng = DiffusionModel(harmonic, wavy, 0.5), np.random.default_rng(0)

    @eqx.filter_jit
    def error(model, x, y, dt):
        ratio = jax.vmap(lambda a, b: log_transition(model, a, b, dt) - log_transition(model, b, a, dt))(x, y)
        energy = jax.vmap(lambda a, b: model.u(a[None]) - model.u(b[None]))(x, y)
        return jnp.mean(jnp.abs(ratio - energy))

    quartic = DiffusionModel(lambda x: jnp.sum(x**4), wavy, 0.5)
    errors = []
    for dt in (0.01, 0.0025):
        x = rng.normal(size=400)
        y = x + np.sqrt(2 * wavy_array(x) * dt) * rng.normal(size=400)
        assert float(error(model, x, y, dt)) < 1e-12
        errors.append(float(error(quartic, x, y, dt)))
    assert 5 < errors[0] / errors[1] < 13
    path = jnp.array([0.1, 0.2, 0.15])
    two = log_transition(model, path[0], path[1], 0.01) + log_transition(model, path[1], path[2], 0.01)
    np.testing.assert_allclose(log_path_weight(model, path, 0.01), two, rtol=1e-12)


def grid_rates(model, edges, count=3):
    """Relaxation rates by finite volumes, extrapolated from two grids."""

    def solve(edges):
        return fokker_planck(
            lambda x: np.asarray(jax.vmap(lambda y: model.u(y[None]))(jnp.asarray(x))),
            lambda x: np.asarray(jax.vmap(lambda y: model.diffusivity(y[None]))(jnp.asarray(x))),
            edges,
        )

    fine, coarse = solve(edges), solve(edges[::2])
    np.testing.assert_allclose(fine.apply(fine.boltzmann), 0.0, atol=1e-12 * (fine.up.max() + 1))
    return (4 * fine.eigenvalues(count) - coarse.eigenvalues(count)) / 3


@pytest.mark.parametrize(
    ("model", "edges"),
    [
        (WallGravity(1.3, 0.7), 30 * 0.7 * np.linspace(0, 1, 4001) ** 2),
        (StudentDiffusion(6.0, 0.8), np.sinh(np.linspace(-9, 9, 4001))),
        (LegendreDiffusion(0.9), np.sin(np.linspace(-np.pi / 2, np.pi / 2, 4001))),
    ],
    ids=["wall", "student", "legendre"],
)
def test_solvable_models_relax_at_their_rates(model, edges):
    """Eigenvalues of the Fokker-Planck operator to 1e-6: a wrong D or drift would move them by tens of per cent."""
    rates = grid_rates(model, edges)
    np.testing.assert_allclose(rates[1:], model.rates(3)[1:], rtol=2e-6)
    assert abs(rates[0]) < 1e-7


def test_correlations_of_the_student_model_decay_as_they_should():
    """C(t) = C(0) exp(-D0 (nu - 1) t) from simulation, and -C'(0) = <D>."""
    model = StudentDiffusion(8.0)
    u = np.random.default_rng(5).standard_t(8.0, size=(20_000, 1)) / np.sqrt(8.0)
    dt = 0.001
    paths = np.asarray(simulate(jax.random.key(8), DiffusionModel(model.u, model.diffusivity), u, dt, 150, every=10))
    # E[x(t) | x(0)] = x(0) exp(-rate t); the noise of a step grows as 1 + x^2
    weight, end = 1 / (1 + u[:, 0] ** 2), paths[:, -1, 0]
    slope = (weight * u[:, 0] * end).sum() / (weight * u[:, 0] ** 2).sum()
    error = np.sqrt(((weight * u[:, 0] * (end - slope * u[:, 0])) ** 2).sum()) / (weight * u[:, 0] ** 2).sum()
    assert error < 0.02
    assert abs(slope - np.exp(-7.0 * 0.15)) < 4.5 * error
    np.testing.assert_allclose(model.mean_diffusivity(), 1 + 1 / 6, rtol=1e-12)
    drop = ((paths[:, 0, 0] - u[:, 0]) ** 2) / (2 * 10 * dt)
    # <dx^2>/2t = (C(0) - C(t))/t = <D> (1 - exp(-7t))/(7t)
    assert abs(z_score(drop, model.mean_diffusivity() * -np.expm1(-0.07) / 0.07)) < 4.5


def test_wall_and_gravity_have_a_known_transition_law():
    """Particles from one height, reflected at the wall: noncentral chi^2 at a later time (KS, 4 sigma-like threshold 1e-4)."""
    from scipy import stats

    model = WallGravity(1.0, 1.0)
    end = simulate(
        jax.random.key(9),
        DiffusionModel(model.u, model.diffusivity),
        np.full((4000, 1), 0.8),
        0.001,
        500,
        every=500,
        fold=jnp.abs,
    )
    assert stats.kstest(np.asarray(end)[:, -1, 0], lambda x: model.transition_cdf(x, 0.8, 0.5)).pvalue > 1e-4
    np.testing.assert_allclose(model.cdf(np.array([0.7])), -np.expm1(-0.7))


@pytest.mark.slow
def test_first_passage_does_not_depend_on_the_convention():
    """alpha = 0 and alpha = 1, each with its own drift, reach x = 1 from x = -1 in the time that quadrature gives (2 %).

    Steps see a boundary late by 0.58 sqrt(2 D dt) (Siegmund), which is subtracted from where the boundary is put.
    """
    exact = mean_first_passage(lambda x: 0.5 * x**2, wavy_array, -6.0, -1.0, 1.0)
    dt, times = 0.002, []
    nearer = 1.0 - 0.5826 * np.sqrt(2 * wavy_array(1.0) * dt)
    for seed, alpha in enumerate((0.0, 1.0)):
        model = DiffusionModel(harmonic, wavy, alpha)
        paths = simulate(jax.random.key(10 + seed), model, np.full((1500, 1), -1.0), dt, 7500, integrator="point")
        crossed = np.asarray(paths)[:, :, 0] >= nearer
        assert crossed.any(axis=1).mean() > 0.95
        # the few that have not arrived by T are continued at the exponential rate of the late arrivals
        first = np.where(crossed.any(axis=1), (crossed.argmax(axis=1) + 1) * dt, 15.0)
        rate = ((first < 15.0) & (first > 7.0)).sum() / (np.minimum(first, 15.0) - 7.0)[first > 7.0].sum()
        times.append(first.mean() + (first >= 15.0).mean() / rate)
        error = first.std() / np.sqrt(1500)
        assert abs(times[-1] - exact) < 0.02 * exact + 3 * error
    with pytest.raises(InvalidArgumentError, match="wall"):
        mean_first_passage(lambda x: x, wavy_array, 0.0, 2.0, 1.0)


def test_grid_solver_refuses_what_it_cannot_solve():
    """D that touches zero inside makes two systems out of one."""
    with pytest.raises(InvalidArgumentError, match="positive"):
        fokker_planck(lambda x: x**2, lambda x: x**2, np.linspace(-1, 1, 101))
    with pytest.raises(InvalidArgumentError, match="rise"):
        fokker_planck(lambda x: x**2, lambda x: 1.0 + x**2, np.zeros(5))


# Near a wall -----------------------------------------------------------------------------------------------------------
def test_mobility_near_a_wall():
    """Brenner's series against independent values, its limits at contact and far away, and the fits within their errors."""
    z = np.array([1.01, 1.1, 1.5, 2.0, 5.0, 10.0])
    known = [0.00981391, 0.08726645, 0.31197449, 0.47046966, 0.77815770, 0.88794673]
    np.testing.assert_allclose(perpendicular_mobility(z), known, rtol=0, atol=6e-9)
    xi = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    resistances = [9.2517649, 3.0360644, 1.8374748, 1.4128741, 1.2219884, 1.1252464]
    np.testing.assert_allclose(1 / perpendicular_mobility(np.cosh(xi)), resistances, rtol=0, atol=6e-8)
    np.testing.assert_allclose(perpendicular_mobility(1 + 1e-5), 1e-5, rtol=1e-3)
    np.testing.assert_allclose(perpendicular_mobility(1e3), 1 - 9 / 8e3, rtol=1e-8)
    assert (np.abs(perpendicular_mobility_fit(z) / perpendicular_mobility(z) - 1) < 0.007).all()
    np.testing.assert_allclose(parallel_mobility(1e3), 1 - 9 / 16e3, rtol=1e-8)
    with pytest.raises(InvalidArgumentError, match="radius"):
        perpendicular_mobility(np.array([2.0, 1.0]))


def test_stationarity_is_calibrated_and_sharp():
    """True draws stay within 4 sigma, a shift of a tenth is far away, and too few draws are refused."""
    rng = np.random.default_rng(0)
    assert max(abs(stationarity(rng.normal(size=4000), CDF).sigmas) for _ in range(20)) < 4
    assert stationarity(rng.normal(size=20_000) + 0.1, CDF).sigmas > 8
    with pytest.raises(InvalidArgumentError, match="independent draws"):
        stationarity(rng.normal(size=20), CDF)
    with pytest.raises(InvalidArgumentError, match="not finite"):
        stationarity(np.array([np.nan] * 400), CDF)
