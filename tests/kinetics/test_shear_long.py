"""The sheared tagged particle with many particles. |z| < 4.5 has a false-alarm rate of 7e-6; other thresholds are stated."""

import jax
import numpy as np
import pytest
from scipy import stats

from heatbath.kinetics.collisions import collision_law
from heatbath.kinetics.deformations import SimpleShear
from heatbath.kinetics.shear import TaggedParticle, absorbed, evolve, log_components, start, velocities
from heatbath.kinetics.shear_theory import MaxwellMoments, log_uniform_cdf, memory

pytestmark = pytest.mark.slow


def particles(process, log_times, begin_with, seed=0):
    """At each of ``log_times``, all arrived and no bound broken."""
    here, reached = start(jax.random.key(seed), begin_with), []
    for log_time in log_times:
        here = evolve(process, here, float(log_time))
        assert np.asarray(here.finished).all()
        assert not np.asarray(here.violations).any()
        reached.append(here)
    return reached


def vectors(process, here):
    w = velocities(process, here)
    return np.asarray(w.vector) * np.exp(np.asarray(w.log_scale))[:, None]


def batch_scores(values, expected, batches=40):
    """Deviations in standard errors from the spread between batches: tails are heavy."""
    means = values[: len(values) // batches * batches].reshape(batches, -1, values.shape[1]).mean(1)
    return (means.mean(0) - expected) / (means.std(0, ddof=1) / np.sqrt(batches))


def normal(count):
    return np.random.default_rng(0).normal(size=(count, 3))


@pytest.mark.parametrize("angular", [0.0, 1.0])
@pytest.mark.parametrize(("rate", "time"), [(0.2, 40.0), (0.4, 40.0), (1.5, 2.0)])
def test_moments_of_many_maxwell_molecules(angular, rate, time, record_property):
    """gamma = 0, 2e5 particles: stationary M11, M12, M22 below the critical shear rate, a short time above it.

    t statistic of 39 degrees of freedom: |t| < 4.5 has a false-alarm rate of 6e-5.
    """
    process = TaggedParticle(SimpleShear(rate), collision_law(0.0, angular=angular))
    w = vectors(process, particles(process, [np.log(time)], normal(200_000))[0])
    theory, gradient = MaxwellMoments.of(angular), np.zeros((3, 3))
    gradient[0, 1] = rate
    exact = theory.at(time, gradient, np.eye(3))
    if rate < theory.critical_rate and rate < 1:
        np.testing.assert_allclose(exact, theory.stationary(rate), rtol=1e-3, atol=1e-5)
    values = np.stack([w[:, 0] ** 2, w[:, 0] * w[:, 1], w[:, 1] ** 2], 1)
    scores = batch_scores(values, [exact[0, 0], exact[0, 1], exact[1, 1]])
    record_property("standard errors of M11, M12, M22", np.round(scores, 1).tolist())
    assert (np.abs(scores) < 4.5).all()


@pytest.mark.parametrize(
    ("gamma", "rate", "background"), [(-0.5, 2.0, "maxwellian"), (-0.5, 2.0, "rest"), (-0.3, 8.0, "rest")]
)
def test_log_uniform_law_of_many(gamma, rate, background, record_property):
    """Thermal starts: KS distance to the log-uniform law below 0.01 at log t = 400, and below 0.006 at 1600 for a = 1/2.

    1e5 particles: a distance of 0.006 by noise alone has a probability of 1e-3. Among partners at rest those that stop are left
    out: they are lost before shear acts.
    """
    process = TaggedParticle(SimpleShear(rate), collision_law(gamma, background=background))
    times = [400.0, 1600.0] if gamma == -0.5 else [400.0]
    reached = particles(process, times, normal(100_000))
    stay, found = ~absorbed(reached[-1]), []
    for time, here in zip(times, reached, strict=True):
        logs, signs = log_components(process, here)
        y = logs[stay, 1] / time
        found.append(float(stats.kstest(log_uniform_cdf(y, gamma), "uniform").statistic))
        following = (signs[stay, 0] == -signs[stay, 1]) & (
            np.abs(logs[stay, 0] - logs[stay, 1] - np.log(rate) - time) < 1
        )
        assert following.mean() > 0.95
    record_property("KS distances", np.round(found, 4).tolist())
    record_property("share that kept moving", float(stay.mean()))
    record_property("memory", abs(memory(y, gamma)))
    assert all(distance < limit for distance, limit in zip(found, (0.01, 0.006), strict=False))


def test_collisions_end_among_maxwellian_partners_too(record_property):
    """gamma = -1.5 in the full model: the mean number of collisions converges and w1 = -K w2 t; none comes to rest."""
    process = TaggedParticle(SimpleShear(2.0), collision_law(-1.5))
    reached = particles(process, [5.0, 10.0, 20.0, 40.0, 300.0, 900.0], normal(20_000))
    means = [float(np.asarray(here.jumps).mean()) for here in reached]
    record_property("collisions", np.round(means, 3).tolist())
    assert (np.asarray(reached[-1].jumps) == np.asarray(reached[-2].jumps)).all()
    assert means[-1] - means[-3] < 0.1 * (means[-3] - means[0])
    logs, signs = log_components(process, reached[-1])
    np.testing.assert_allclose(logs[:, 0] - logs[:, 1] - np.log(2.0), 900.0, atol=1e-6)
    assert (signs[:, 0] == -signs[:, 1]).all()


def test_weak_form_where_fast_particles_collide_rarely(record_property):
    """gamma = -1/2: E phi(w_T) - phi(w_0) equals the integral of E[-L w . grad phi + C phi] (Simpson), phi = |w|, exp(-|w|^2/2).

    C phi at every particle is |w - w*|^gamma [phi(w') - phi(w)] averaged over partners from M and directions, drawn with NumPy. A
    collision rate that did not depend on speed would be found out: more than 10 standard errors.
    """
    gamma, rate, end, panels, count = -0.5, 1.5, 0.8, 8, 40_000
    process = TaggedParticle(SimpleShear(rate), collision_law(gamma))
    begin_with = np.tile([0.4, 1.5, -0.3], (count, 1))
    times = np.linspace(0, end, panels + 1)
    states = [begin_with, *(vectors(process, p) for p in particles(process, np.log(times[1:]), begin_with))]
    simpson = np.array([1, *([4, 2] * (panels // 2))[:-1], 1]) * end / panels / 3
    rng = np.random.default_rng(1)

    def gaussian(w):
        return np.exp(-(w**2).sum(-1) / 2)

    functions = {
        "speed": (lambda w: np.linalg.norm(w, axis=-1), lambda w: w[:, 0] / np.linalg.norm(w, axis=-1)),
        "gaussian": (gaussian, lambda w: -w[:, 0] * gaussian(w)),
    }
    wrong = []
    for name, (phi, slope) in functions.items():
        balance = np.stack([phi(states[-1]) - phi(states[0])] * 2)
        for w, weight in zip(states, simpson, strict=True):
            gain = np.zeros((2, count))
            for _ in range(8):
                partner, om = rng.normal(size=(2, count, 3))
                om /= np.linalg.norm(om, axis=1, keepdims=True)
                u = w - partner
                change = phi(w - (u * om).sum(1, keepdims=True) * om) - phi(w)
                gain += np.stack([np.linalg.norm(u, axis=1) ** gamma, np.ones(count)]) * change / 8
            balance -= weight * (gain - rate * w[:, 1] * slope(w))
        scores = balance.mean(1) / (balance.std(1) / np.sqrt(count))
        wrong.append(abs(scores[1]))
        record_property(f"standard errors, {name}", f"{scores[0]:.1f}; with a constant rate {scores[1]:.0f}")
        assert abs(scores[0]) < 4.5
    assert max(wrong) > 10
