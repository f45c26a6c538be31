"""Warm-up: where its phases lie, that steps adapt the right way, and that ladders even out."""

import jax.numpy as jnp
import numpy as np
from scipy.special import erfc

from heatbath.samplers.warmup import adapted_log_step, averaged, geometric_ladder, heated_betas, respaced


def test_heating_begins_hot_and_ends_at_the_ladder():
    """Walkers that never got hot would remember their common start; a ladder that never cooled would be the wrong one."""
    betas = jnp.array([2.0, 1.0, 0.5])
    np.testing.assert_allclose(heated_betas(betas, jnp.asarray(0.0)), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(heated_betas(betas, jnp.asarray(0.9)), betas)
    middle = heated_betas(betas, jnp.asarray(0.275))
    assert 0.5 < middle[0] < 2.0
    assert middle[-1] == 0.5


def test_steps_move_towards_the_asked_acceptance():
    """acceptance(e) = exp(-e) has the value 0.6 at e = 0.51: found from far above and far below, NaN or not."""
    rng = np.random.default_rng(0)
    for start in (-6.0, 3.0):
        log_step, mean = jnp.asarray(start), jnp.asarray(start)
        for n in range(3000):
            noisy = float(np.clip(np.exp(-np.exp(log_step)) + 0.2 * rng.normal(), 0, 1)) if n != 50 else np.nan
            log_step = adapted_log_step(log_step, jnp.asarray(noisy), 0.6, jnp.asarray(n))
            mean = averaged(mean, log_step, jnp.asarray(n), 1500)
        assert abs(float(jnp.exp(-jnp.exp(mean))) - 0.6) < 0.05


def test_running_mean():
    """The average must be that of the values after the start, and the newest value before."""
    values = jnp.array([5.0, 7.0, 1.0, 2.0, 6.0])
    mean = jnp.asarray(0.0)
    for index, value in enumerate(values):
        mean = averaged(mean, value, jnp.asarray(index), 2)
        if index < 2:
            assert mean == value
    np.testing.assert_allclose(mean, 3.0)


def test_respacing_evens_out_exchange_rates():
    """With a heat capacity that peaks inside the ladder, geometric spacing is uneven; iterating must make it even."""

    def acceptance(betas):
        # Gaussian energy laws: erfc(distance / 2) with distance = integral of sqrt(C) d log beta; C has a peak.
        fine = np.linspace(np.log(betas[-1]), np.log(betas[0]), 4001)
        density = 1.5 + 6 * np.exp(-(((fine - np.log(0.6)) / 0.15) ** 2))
        total = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine))])
        return erfc(np.diff(np.interp(-np.log(betas), -fine[::-1], total[-1] - total[::-1])) / 2)

    betas = np.array(geometric_ladder(1.0, 0.3, 7))
    before = acceptance(betas)
    for _ in range(12):
        betas = np.asarray(respaced(jnp.asarray(betas), jnp.asarray(acceptance(betas))))
    after = acceptance(betas)
    assert np.ptp(before) > 0.4
    assert np.ptp(after) < 0.05
    assert betas[0] == 1.0
    assert np.isclose(betas[-1], 0.3)
    assert (np.diff(betas) < 0).all()


def test_geometric_ladder():
    """Equal ratios between the ends; one rung is the asked temperature alone."""
    betas = np.array(geometric_ladder(1.0, 0.25, 3))
    np.testing.assert_allclose(betas, [1.0, 0.5, 0.25])
    assert geometric_ladder(0.7, 0.1, 1) == [0.7]
