"""The engine of jump processes alone, on clocks whose law is known. KS thresholds have a false-alarm rate of 1e-3 each."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.jump_process import Flight, JumpProcess, Window, advance, begin, log_difference, run_until

COUNT = 4000


class GrowingClock(JumpProcess):
    """hazard = 2 s, so that P(s > t) = exp(-t^2); a jump counts. Every other jump attempt fails, as a rejection would."""

    length: jax.Array
    shrink: jax.Array = eqx.field(default=1.0, converter=jnp.asarray)

    def window(self, flight):
        end = jnp.logaddexp(flight.log_elapsed, jnp.log(self.length))
        return Window(jnp.log(self.length), jnp.log(2 * self.shrink) + end)

    def log_hazard(self, flight):
        return jnp.log(2.0) + flight.log_elapsed

    def jump(self, key, flight):
        return flight.state + 1.0, jax.random.bernoulli(key)


def clocks(seed=0, count=COUNT):
    return jax.vmap(begin)(jax.random.split(jax.random.key(seed), count), jnp.zeros(count))


@pytest.mark.parametrize("length", [0.1, 3.0])
def test_survival_follows_the_hazard_whatever_the_window(length):
    """A wrong thinning rule or a law that depends on the window would bend the distribution of the age at a late time."""
    end = advance(GrowingClock(jnp.asarray(length)), clocks(), np.log(0.7), slots=512)
    survived = np.asarray(end.jumps) == 0
    expected = np.exp(-0.49)
    assert abs(survived.mean() - expected) < 3.3 * np.sqrt(expected * (1 - expected) / COUNT)
    first = np.exp(np.asarray(end.flight.log_start))[np.asarray(end.jumps) == 1]
    # given one renewal before T the density of its time is ~ 2 s exp(-s^2) exp(-(T - s)^2)
    grid = np.linspace(0, 0.7, 2001)
    mass = np.cumsum(2 * grid * np.exp(-(grid**2) - (0.7 - grid) ** 2))
    assert stats.kstest(first, lambda s: np.interp(s, grid, mass / mass[-1])).pvalue > 1e-3
    assert not np.asarray(end.violations).any()
    assert np.asarray(end.finished).all()


def test_a_majorant_that_is_none_is_counted():
    """Negative control: with half the bound the law is wrong, and the count of violations must say so."""
    end = advance(GrowingClock(jnp.asarray(3.0), 0.05), clocks(), np.log(0.7), slots=512)
    assert np.asarray(end.violations).sum() > 100


def test_cut_flights_go_on():
    """Stopping on the way must not change the law; if ages were forgotten the hazard would start again from zero."""
    process = GrowingClock(jnp.asarray(0.5))
    halfway = advance(process, clocks(1), np.log(0.35), slots=512)
    assert np.allclose(np.exp(halfway.flight.log_start) + np.exp(halfway.flight.log_elapsed), 0.35), (
        "a trajectory stopped elsewhere"
    )
    end = advance(process, halfway, np.log(0.7), slots=512)
    expected = np.exp(-0.49)
    assert abs((np.asarray(end.jumps) == 0).mean() - expected) < 3.3 * np.sqrt(expected * (1 - expected) / COUNT)


def test_results_do_not_depend_on_how_many_go_side_by_side():
    """Every trajectory has its own key; refilled slots must not mix them up, and one alone gives the same."""
    process = GrowingClock(jnp.asarray(0.5))
    many = advance(process, clocks(2, 700), np.log(2.0), slots=512)
    few = advance(process, clocks(2, 700), np.log(2.0), slots=64)
    np.testing.assert_array_equal(many.flight.log_start, few.flight.log_start)
    alone = run_until(process, jax.tree.map(lambda leaf: leaf[3], clocks(2, 700)), jnp.log(2.0))
    np.testing.assert_allclose(alone.flight.log_start, many.flight.log_start[3], rtol=1e-12)


def test_a_trajectory_that_cannot_arrive_is_handed_back():
    """A hang would be worse than an unfinished trajectory."""
    end = advance(GrowingClock(jnp.asarray(0.5)), clocks(0, 64), np.log(1e3), most=100, slots=64)
    assert not np.asarray(end.finished).any()
    assert (np.asarray(end.attempts) >= 100).all()


def test_bad_arguments_are_refused():
    """NaN would loop for ever."""
    with pytest.raises(InvalidArgumentError, match="log time"):
        advance(GrowingClock(jnp.asarray(0.5)), clocks(0, 4), float("nan"))


def test_log_difference():
    """Clocks are subtracted in logarithms: exact at both ends of the range, -inf where nothing is left."""
    assert log_difference(jnp.asarray(1000.0), jnp.asarray(-jnp.inf)) == 1000.0
    assert jnp.isneginf(log_difference(jnp.asarray(2.0), jnp.asarray(2.0)))
    assert jnp.isneginf(log_difference(jnp.asarray(-jnp.inf), jnp.asarray(-jnp.inf)))
    np.testing.assert_allclose(log_difference(jnp.log(5.0), jnp.log(2.0)), np.log(3.0), rtol=1e-14)
    assert isinstance(Flight(0, 0, 0), tuple)
