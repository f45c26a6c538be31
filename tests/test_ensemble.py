"""Ensembles: weights, expectations and their errors, resampling, reweighting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble, systematic_resample
from heatbath.errors import HeatbathError, InvalidArgumentError, NonFiniteError
from heatbath.state import ThermoState


def weighted_normal(key, *, size=4000, beta=2.0):
    """Draws of N(0, 1) weighted for exp(-beta x^2 / 2): Z = sqrt(2 pi / beta), <x^2> = 1 / beta."""
    x = jax.random.normal(key, (size, 1))
    u = beta * x[:, 0] ** 2 / 2
    log_q = -(x[:, 0] ** 2) / 2 - 0.5 * jnp.log(2 * jnp.pi)
    return Ensemble(x, -u - log_q, ThermoState(beta), energies=x[:, 0] ** 2 / 2, absolute=True)


def test_importance_weights_give_z_and_means_with_calibrated_errors(key):
    """A wrong error formula shows as z-scores that do not have unit variance (400 repeats; limits at 5 sigma)."""
    z_mean, z_log = [], []
    for index in range(400):
        ensemble = weighted_normal(jax.random.fold_in(key, index), size=400)
        second = ensemble.expect(np.asarray(ensemble.samples)[:, 0] ** 2)
        log_z = ensemble.log_z
        z_mean.append((second.value - 0.5) / second.standard_error)
        z_log.append((log_z.value - 0.5 * np.log(np.pi)) / log_z.standard_error)
    for scores in (z_mean, z_log):
        assert abs(np.mean(scores)) < 5 / np.sqrt(400) + 0.1
        assert 0.82 < np.std(scores) < 1.18


def test_constant_weights_have_full_ess_and_shifted_weights_the_same(key):
    """Kish's ESS is n for equal weights and does not depend on the scale of the weights."""
    ensemble = weighted_normal(key)
    shifted = Ensemble(ensemble.samples, ensemble.log_weights + 700.0, ensemble.state)
    assert shifted.ess() == pytest.approx(ensemble.ess(), rel=1e-9)
    assert Ensemble(ensemble.samples, jnp.zeros(4000), ensemble.state).ess() == pytest.approx(4000)


def test_chains_give_errors_from_their_spread(key):
    """Chains with different means must show a large error although each one looks precise."""
    offsets = jnp.array([-1.0, 0.0, 1.0, 2.0])[:, None, None]
    samples = offsets + 0.01 * jax.random.normal(key, (4, 500, 1))
    ensemble = Ensemble(samples, jnp.zeros((4, 500)), ThermoState(1.0), axes=("chain", "draw"))
    estimate = ensemble.expect(lambda x: x[0])
    assert estimate.value == pytest.approx(0.5, abs=0.01)
    assert estimate.standard_error == pytest.approx(np.std([-1, 0, 1, 2], ddof=1) / 2, rel=0.02)
    assert estimate.converged


def test_a_single_chain_is_never_called_converged(key):
    """One chain cannot see what it missed."""
    samples = jax.random.normal(key, (1, 500, 1))
    ensemble = Ensemble(samples, jnp.zeros((1, 500)), ThermoState(1.0), axes=("chain", "draw"))
    estimate = ensemble.expect(lambda x: x[0])
    assert not estimate.converged
    assert estimate.standard_error == pytest.approx(1 / np.sqrt(500), rel=0.5)


def test_resampling_keeps_means_and_log_z(key):
    """Equal weights afterwards, the same expectation within its error, the same mean weight exactly."""
    ensemble = weighted_normal(key)
    resampled = ensemble.resample(key)
    assert resampled.log_z.value == pytest.approx(ensemble.log_z.value, abs=1e-12)
    before, after = (e.expect(lambda x: x[0] ** 2) for e in (ensemble, resampled))
    assert after.value == pytest.approx(before.value, abs=4 * after.standard_error)
    assert after.standard_error >= before.standard_error * 0.8
    np.testing.assert_array_equal(resampled.samples, ensemble.samples[resampled.ancestors])


def test_systematic_resampling_counts_and_never_runs_over_the_end(key):
    """Counts differ from n w by less than one, and the index n never appears."""
    weights = jax.random.uniform(key, (50,)) ** 3
    index = np.asarray(systematic_resample(key, weights, 1000))
    counts = np.bincount(index, minlength=50)
    assert (np.abs(counts - 1000 * np.asarray(weights / weights.sum())) < 1).all()
    assert index.max() < 50


def test_reweighting_to_another_temperature(key):
    """log w changes by u_old - u_new; a wrong sign would give <x^2> = 1 instead of 1/3."""
    ensemble = weighted_normal(key, beta=2.0).reweight(ThermoState(3.0))
    estimate = ensemble.expect(lambda x: x[0] ** 2)
    assert estimate.value == pytest.approx(1 / 3, abs=4 * estimate.standard_error)
    assert ensemble.log_z.value == pytest.approx(0.5 * np.log(2 * np.pi / 3), abs=4 * ensemble.log_z.standard_error)


def test_reweighting_removes_a_bias_potential(key):
    """Draws from exp(-x^2/2 - x) reweighted to exp(-x^2/2) have mean zero; the biased mean is -1."""
    x = jax.random.normal(key, (4000, 1)) - 1.0
    biased = Ensemble(x, jnp.zeros(4000), ThermoState(1.0, bias=lambda y: y[0]), energies=x[:, 0] ** 2 / 2)
    estimate = biased.reweight(ThermoState(1.0)).expect(lambda y: y[0])
    assert biased.expect(lambda y: y[0]).value == pytest.approx(-1.0, abs=0.1)
    assert estimate.value == pytest.approx(0.0, abs=4 * estimate.standard_error)


def test_relative_weights_hold_no_log_z(key):
    """MCMC draws know no normalisation; a number here would be made up."""
    ensemble = Ensemble(jnp.zeros((3, 1)), jnp.zeros(3), ThermoState(1.0))
    with pytest.raises(HeatbathError, match="up to a constant"):
        _ = ensemble.log_z


def test_broken_weights_are_refused():
    """NaN or all-zero weights must not turn into a number."""
    state = ThermoState(1.0)
    with pytest.raises(NonFiniteError, match="1 of 3"):
        Ensemble(jnp.zeros((3, 1)), jnp.array([0.0, jnp.nan, 0.0]), state).ess()
    with pytest.raises(NonFiniteError, match="every weight is zero"):
        Ensemble(jnp.zeros((2, 1)), jnp.full(2, -jnp.inf), state).ess()
    one_dead = Ensemble(jnp.arange(3.0)[:, None], jnp.array([0.0, -jnp.inf, 0.0]), state)
    assert one_dead.ess() == pytest.approx(2.0)
    assert one_dead.expect(lambda x: x[0]).value == pytest.approx(1.0)


def test_axes_must_fit():
    """A chain axis that is not declared would silently be averaged as independent draws."""
    with pytest.raises(InvalidArgumentError, match="axes"):
        Ensemble(jnp.zeros((2, 3, 1)), jnp.zeros((2, 3)), ThermoState(1.0))
    with pytest.raises(InvalidArgumentError, match="axes"):
        Ensemble(jnp.zeros((2, 1)), jnp.zeros(2), ThermoState(1.0), axes=("walker",))
