"""Sequential Monte Carlo and annealed importance sampling: unbiased Z, honest errors, schedules that arrive."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.errors import ConvergenceError, InvalidArgumentError
from heatbath.kernels import HMC, Langevin
from heatbath.models.gaussian import Normal
from heatbath.samplers.annealing import GeometricPath, Schedule, linear_schedule
from heatbath.samplers.smc import ADAPTIVE_BIAS, anneal, effective_size, find_schedule, next_level, smc
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.mixtures import unequal_mixture
from heatbath.targets.toy import DoubleWell

MIXTURE = unequal_mixture(10)
START = Normal(jnp.zeros(10), jnp.ones(10).at[0].set(2.0))
KERNEL = HMC(jnp.asarray(0.3), num_steps=5)
U = ReducedEnergy(MIXTURE, ThermoState(1.0))


@functools.cache
def schedule() -> Schedule:
    """Levels and step sizes of a pilot run, fixed for all the runs."""
    return find_schedule(jax.random.key(1), START, U, kernel=KERNEL, particles=256, share=0.95)


@functools.cache
def two_hundred_runs(resample_below: float):
    """Z-hat and the weighted share of the left mode of 200 independent runs of 64 particles."""

    fixed = schedule()

    @jax.jit
    def run(key):
        population, _ = anneal(key, START, U, KERNEL, fixed, particles=64, resample_below=resample_below)
        weights = jnp.exp(population.log_weights)
        left = population.positions[:, 0] < 0
        return weights.mean(), (weights * left).mean()

    z, left = jax.lax.map(run, jax.random.split(jax.random.key(2), 200), batch_size=50)
    return np.asarray(z), np.asarray(left)


@pytest.mark.parametrize("resample_below", [0.0, 0.5], ids=["annealed-importance", "smc"])
def test_mean_of_z_hat_is_z_on_the_ten_dimensional_mixture(resample_below):
    """E[Z-hat] = Z = 1 within 3 standard errors of 200 runs, and the unnormalised weight of the left mode is P(left) Z."""
    z, left = two_hundred_runs(resample_below)
    assert abs(z.mean() - 1) < 3 * z.std(ddof=1) / np.sqrt(200)
    assert abs(left.mean() - MIXTURE.left_probability()) < 3 * left.std(ddof=1) / np.sqrt(200)
    assert z.std() < 0.7, "so wide a spread would hide a bias"


def test_the_error_of_log_z_is_honest():
    """The standard error from families must be the spread over runs, within a factor 1.5."""

    def run(seed):
        return smc(jax.random.key(seed), START, U, 64, kernel=KERNEL, schedule=schedule()).log_z

    estimates = [run(seed) for seed in range(40)]
    spread = np.std([estimate.value for estimate in estimates], ddof=1)
    claimed = np.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
    assert 1 / 1.5 < claimed / spread < 1.5


def test_adaptive_levels_arrive_and_say_what_they_bias():
    """Levels found on the way end at exactly 1, keep the demanded effective size, and carry their sentence."""
    ensemble = smc(jax.random.key(3), START, U, 1000, kernel=KERNEL, share=0.8)
    assert ensemble.bias == ADAPTIVE_BIAS
    assert abs(ensemble.log_z.value) < 4 * ensemble.log_z.standard_error
    levels = np.asarray(schedule().levels)
    assert levels[-1] == 1.0
    assert (np.diff(levels) > 0).all()
    assert schedule().step_sizes.shape == levels.shape


def test_a_path_that_does_not_arrive_is_an_error():
    """Weights at a level below 1 belong to another density; returning them would be silent nonsense."""
    with pytest.raises(ConvergenceError, match="level"):
        smc(jax.random.key(3), START, U, 64, kernel=KERNEL, share=0.99, max_levels=3)


def test_unadjusted_kernels_are_refused():
    """A step-size bias would enter the weights without a trace."""
    with pytest.raises(InvalidArgumentError, match="exact"):
        smc(jax.random.key(0), START, U, 64, kernel=Langevin(0.1), schedule=linear_schedule(5))


def test_families_are_followed_through_resampling():
    """Without families the error of log Z would treat copies as independent draws."""
    ensemble = smc(jax.random.key(4), START, U, 200, kernel=KERNEL, schedule=schedule(), resample_below=0.9)
    families = np.asarray(ensemble.ancestors)
    assert families.min() >= 0
    assert families.max() < 200
    assert 1 < np.unique(families).size < 200
    plain = smc(jax.random.key(4), START, U, 200, kernel=KERNEL, schedule=schedule(), resample_below=0.0)
    np.testing.assert_array_equal(plain.ancestors, np.arange(200))


def test_conditional_effective_size_of_the_next_level():
    """The level found must lose exactly the demanded share: checked by computing that share directly."""
    rates = jnp.asarray(np.random.default_rng(0).normal(scale=40.0, size=500))
    log_weights = jnp.asarray(np.random.default_rng(1).normal(size=500))
    level = next_level(log_weights, rates, jnp.asarray(0.2), 0.8)
    weights = np.asarray(jax.nn.softmax(log_weights))
    step = np.exp(np.asarray((level - 0.2) * rates))
    cess = np.sum(weights * step) ** 2 / np.sum(weights * step**2)
    assert abs(cess - 0.8) < 1e-6
    assert next_level(log_weights, 1e-6 * rates, jnp.asarray(0.2), 0.8) == 1.0
    np.testing.assert_allclose(effective_size(jnp.zeros(7)), 7.0)


def test_particles_of_no_density_get_no_weight():
    """A start where the energy is infinite has weight zero; it must not poison the others with NaN."""

    class Walled(DoubleWell):
        def energy(self, x):
            return jnp.where(jnp.abs(x[0]) > 1.5, jnp.inf, super().energy(x))

    u = ReducedEnergy(Walled(barrier=2.0), ThermoState(1.0))
    start = Normal(jnp.zeros(1), 1.5)
    ensemble = smc(jax.random.key(5), start, u, 4000, kernel=KERNEL, schedule=linear_schedule(8))
    grid = np.linspace(-1.5, 1.5, 4001)
    exact = np.log(np.trapezoid(np.exp(-np.asarray(jax.vmap(DoubleWell(barrier=2.0).energy)(grid[:, None]))), grid))
    assert abs(ensemble.log_z.value - exact) < 4 * ensemble.log_z.standard_error
    assert (np.abs(np.asarray(ensemble.samples)[np.isfinite(ensemble.log_weights)]) <= 1.5).all()


def test_geometric_path_ends_where_it_should():
    """At level 0 the target, at level 1 the start must not be heard, even where they are infinite."""
    narrow = Normal(jnp.zeros(1), 1.0)
    u = ReducedEnergy(DoubleWell(), ThermoState(1.0))
    x = jnp.array([0.4])
    np.testing.assert_allclose(GeometricPath(narrow, u, 1.0)(x), u(x))
    np.testing.assert_allclose(GeometricPath(narrow, u, 0.0)(x), -narrow.log_prob(x))
    assert GeometricPath(narrow, u, 0.5).beta == u.beta


def test_an_smc_ensemble_is_an_ensemble():
    """Absolute weights, energies to reweight with, and resampling that keeps log Z."""
    ensemble = smc(jax.random.key(6), START, U, 300, kernel=KERNEL, schedule=schedule())
    assert isinstance(ensemble, Ensemble)
    assert ensemble.absolute
    assert ensemble.energies is not None
    again = ensemble.resample(jax.random.key(7))
    np.testing.assert_allclose(again.log_z.value, ensemble.log_z.value, atol=1e-9)
