"""Position-dependent diffusion with many particles. 4 sigma has a false-alarm rate of 3e-5; other thresholds are stated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.estimators.stationarity import boltzmann_cdf, stationarity
from heatbath.experiments.diffusion_stages import equilibrium, model_of
from heatbath.experiments.state_dependent_diffusion import ModelConfig
from heatbath.kinetics.diffusion_integrators import simulate
from heatbath.kinetics.kramers_moyal import kramers_moyal
from heatbath.kinetics.position_dependent import DiffusionModel
from heatbath.kinetics.solvable_diffusions import LegendreDiffusion, StudentDiffusion, WallGravity

pytestmark = pytest.mark.slow


def harmonic(x):
    return 0.5 * jnp.sum(x**2)


def wavy(x):
    return 1 + 0.6 * jnp.sin(2 * x[0])


def wavy_array(x):
    return 1 + 0.6 * np.sin(2 * x)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.75])
def test_every_convention_with_and_without_its_drift(alpha, record_property):
    """Literal alpha: Boltzmann's law with the drift; D^-(1-alpha) exp(-u) without it, more than 10 sigma from Boltzmann."""
    start = np.random.default_rng(3).normal(size=(40_000, 1))
    cdf = boltzmann_cdf(lambda x: 0.5 * x**2, -8.0, 8.0)
    wrong = boltzmann_cdf(lambda x: 0.5 * x**2 + (1 - alpha) * np.log(wavy_array(x)), -8.0, 8.0)
    ends = []
    for consistent in (True, False):
        model = DiffusionModel(harmonic, wavy, alpha, consistent=consistent)
        key = jax.random.key(int(consistent))
        path = simulate(key, model, start, 0.005, 1000, integrator="point", every=1000)
        ends.append(np.asarray(path)[:, -1, 0])
    right, of_wrong, of_right = (
        stationarity(x, law).sigmas for x, law in ((ends[0], cdf), (ends[1], wrong), (ends[1], cdf))
    )
    record_property(
        "sigmas", f"{right:.1f} with the drift; without it {of_wrong:.1f}, and {of_right:.0f} from Boltzmann"
    )
    assert right < 4
    assert of_wrong < 4
    assert of_right > 10


@pytest.mark.parametrize(
    ("model", "eigenfunction", "fold"),
    [
        (WallGravity(1.3, 0.7), lambda x: 1 - x / 0.7, jnp.abs),
        (StudentDiffusion(12.0, 0.8), lambda x: x, None),
        (
            LegendreDiffusion(0.9),
            lambda x: x,
            lambda x: jnp.where(jnp.abs(x) > 1, 2 * jnp.sign(x) - x, x),
        ),
    ],
    ids=["wall", "student", "legendre"],
)
def test_simulated_relaxation_rates(model, eigenfunction, fold, record_property):
    """E[phi(x(t)) | x(0)] = exp(-rate t) phi(x(0)) for the slowest eigenfunction: simulated rates within 2 % of the exact ones.

    The noise of the rate is sqrt(exp(2s) - 1) / (s sqrt(N)) = 0.55 % at s = rate t = 0.8 (more for the Student model, whose noise
    grows with x); the step of 0.004 / rate shifts it by 0.2 %. 2 % is 3.3 standard errors or more: false alarm 1e-3.
    """
    rate = float(model.rates(2)[1])
    probabilities = np.random.default_rng(2).uniform(size=200_000)
    grid = {
        WallGravity: np.linspace(0, 30, 400_001),
        StudentDiffusion: np.linspace(-40, 40, 400_001),
        LegendreDiffusion: np.linspace(-1, 1, 3),
    }[type(model)]
    start = np.interp(probabilities, np.asarray(model.cdf(grid)), grid)
    dt = 0.004 / rate
    diffusion = DiffusionModel(model.u, model.diffusivity)
    path = simulate(jax.random.key(4), diffusion, start[:, None], dt, 200, every=200, fold=fold)
    first, last = eigenfunction(start), eigenfunction(np.asarray(path)[:, -1, 0])
    found = -np.log((first * last).mean() / (first**2).mean()) / (200 * dt)
    record_property("rate over the exact one", round(float(found / rate), 4))
    assert abs(found / rate - 1) < 0.02


def test_a_sphere_at_a_wall(record_property):
    """Gravity, screened repulsion, hydrodynamic D(h): heights stay Boltzmann distributed and show no sign of D.

    <dh>/dt at fixed height is D' - D u' (Kramers-Moyal): root mean square of the deviations over 10 bins below 1.8 standard
    errors (false alarm 1e-4), and without the term D' it would be more than 3.
    """
    model = model_of(ModelConfig(name="wall"))
    start = equilibrium(model, jax.random.key(0), 20_000)
    diffusion = DiffusionModel(model.u, model.diffusivity, 0.5)
    options = {"integrator": "point", "fold": model.fold}
    end = simulate(jax.random.key(1), diffusion, start[:, None], 2e-4, 1000, every=1000, **options)
    law = stationarity(np.asarray(end)[:, -1, 0], model.cdf()).sigmas
    path = simulate(jax.random.key(2), diffusion, start[:10_000, None], 2e-4, 400, every=2, **options)
    levels = np.asarray(np.quantile(start, np.linspace(0.02, 0.9, 11)))
    found = kramers_moyal(np.asarray(path)[:, :, 0], 4e-4, levels)
    x, step = found.centres, 1e-5
    d = model.coefficients(x)
    slope_d = (model.coefficients(x + step) - model.coefficients(x - step)) / (2 * step)
    slope_u = (model.energies(x + step) - model.energies(x - step)) / (2 * step)
    right = float(np.sqrt((((found.drift - slope_d + d * slope_u) / found.drift_error) ** 2).mean()))
    wrong = float(np.sqrt((((found.drift + d * slope_u) / found.drift_error) ** 2).mean()))
    record_property("heights, sigmas", round(law, 2))
    record_property("drift, root mean square", f"{right:.2f}; without D' {wrong:.1f}")
    assert law < 4
    assert right < 1.8
    assert wrong > 3
    assert (np.abs(found.diffusivity / d - 1) < 4.5 * found.diffusivity_error / d + 0.02).all()


def test_the_strength_of_the_dependence_does_not_show_at_equal_times(record_property):
    """D = 1 + eps x^2 in a harmonic well: <x^2> = 1 for every eps, and C'(0+) = -<D> = -(1 + eps).

    (C(0) - C(t)) / t = <D> - t <(L x)^2> / 2 + O(t^2) with L x = -(1 + eps x^2) x + 2 eps x, whose square is averaged exactly.
    |z| < 4.5 has a false-alarm rate of 7e-6; the next order in t = 0.01 is below 0.002.
    """
    start = np.random.default_rng(6).normal(size=(100_000, 1))
    for eps in (0.0, 0.15, 0.3):
        model = DiffusionModel(harmonic, lambda x, e=eps: 1 + e * x[0] ** 2)
        short = np.asarray(simulate(jax.random.key(1), model, start, 2.5e-4, 40, every=40))[:, -1, 0]
        drop = (short - start[:, 0]) ** 2 / 0.02
        # moments of the normal law: 1, 3, 15
        linear, cubic = 1 - 2 * eps, eps
        expected = 1 + eps - 0.005 * (linear**2 + 6 * linear * cubic + 15 * cubic**2)
        error = drop.std() / np.sqrt(drop.size)
        record_property(f"-C'(0), eps = {eps:g}", f"{drop.mean() + 1 + eps - expected:.4f} ± {error:.4f}")
        assert abs(drop.mean() - expected) < 4.5 * error
        late = np.asarray(simulate(jax.random.key(2), model, start[:20_000], 0.0025, 800, every=800))[:, -1, 0] ** 2
        error = late.std() / np.sqrt(late.size)
        record_property(f"<x^2>, eps = {eps:g}", f"{late.mean():.4f} ± {error:.4f}")
        assert abs(late.mean() - 1) < 4.5 * error + 0.0025 * (1 + eps)  # the step's own error, first order
