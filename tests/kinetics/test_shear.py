"""The sheared tagged particle against exact laws. |z| < 4.5 has a false-alarm rate of 7e-6, KS thresholds of 1e-3 or less."""

import jax
import numpy as np
import pytest
from scipy import stats

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.collisions import collision_law
from heatbath.kinetics.deformations import Homoenergetic, SimpleShear
from heatbath.kinetics.shear import TaggedParticle, absorbed, evolve, log_components, start, velocities
from heatbath.kinetics.shear_theory import MaxwellMoments, frozen_hazard, log_uniform_cdf, memory

COUNT = 2048
NORMAL = np.random.default_rng(0).normal(size=(COUNT, 3))


def run(process, log_times, begin_with=NORMAL, seed=0):
    """Particles at each of ``log_times``."""
    particles = start(jax.random.key(seed), begin_with)
    reached = []
    for log_time in np.atleast_1d(log_times):
        particles = evolve(process, particles, float(log_time), slots=1024)
        assert np.asarray(particles.finished).all()
        assert not np.asarray(particles.violations).any(), "a hazard exceeded its majorant"
        reached.append(particles)
    return reached if np.ndim(log_times) else reached[0]


def ordinary(process, particles):
    w = velocities(process, particles)
    return np.asarray(w.vector) * np.exp(np.asarray(w.log_scale))[:, None]


def sheared(gamma, rate, interval=1.0, **law):
    return TaggedParticle(SimpleShear(rate), collision_law(gamma, **law), interval)


def z_scores(values, expected):
    return (values.mean(0) - expected) / (values.std(0, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("gamma", [-1.5, -0.5, 0.0, 0.5, 1.0])
def test_without_flow_the_maxwellian_stays_and_is_reached(gamma):
    """Mean 0, covariance I, E|w|^4 = 15; partners from M instead of the tilted law heat or cool.

    For gamma < 0 particles begin in equilibrium, because fast ones forget a wrong temperature only in hundreds of collisions.
    """
    process = sheared(gamma, 0.0)
    w = ordinary(process, run(process, np.log(8.0 if gamma < 0 else 25.0), NORMAL if gamma < 0 else 1.7 * NORMAL))
    squares = w[:, :, None] * w[:, None, :]
    assert (np.abs(z_scores(w, 0.0)) < 4.5).all()
    assert (np.abs(z_scores(squares.reshape(-1, 9), np.eye(3).reshape(-1))) < 4.5).all()
    assert abs(z_scores((w**2).sum(1) ** 2, 15.0)) < 4.5


@pytest.mark.parametrize("angular", [0.0, 1.0])
def test_second_moments_of_maxwell_molecules(angular):
    """gamma = 0 has a closed moment equation at every time: M11, M12, M22, M33 at two times."""
    process = sheared(0.0, 0.4, angular=angular)
    gradient = np.zeros((3, 3))
    gradient[0, 1] = 0.4
    for particles, time in zip(run(process, np.log([1.0, 30.0])), (1.0, 30.0), strict=True):
        w = ordinary(process, particles)
        values = np.stack([w[:, 0] ** 2, w[:, 0] * w[:, 1], w[:, 1] ** 2, w[:, 2] ** 2], 1)
        exact = MaxwellMoments.of(angular).at(time, gradient, np.eye(3))
        assert (np.abs(z_scores(values, [exact[0, 0], exact[0, 1], exact[1, 1], exact[2, 2]])) < 4.5).all()


def test_any_flow_agrees_with_simple_shear_and_with_moments():
    """The general flow map on the gradient of shear gives the law of shear; dilatation cools as its moment equation says."""
    gradient = np.zeros((3, 3))
    gradient[0, 1] = 0.7
    law = collision_law(0.5)
    general, simple = TaggedParticle(Homoenergetic(gradient), law), TaggedParticle(SimpleShear(0.7), law)
    first = ordinary(general, run(general, np.log(4.0)))
    second = ordinary(simple, run(simple, np.log(4.0), seed=1))
    for f in (lambda w: w[:, 0], lambda w: w[:, 0] * w[:, 1], lambda w: np.linalg.norm(w, axis=1)):
        assert stats.ks_2samp(f(first), f(second)).pvalue > 1e-3


def test_flow_maps():
    """(I + tL0)^-1 (I + sL0) from s to t for a gradient of full rank, and the time at which a negative one implodes."""
    matrix = np.array([[0.3, 1.0, 0.2], [0.0, 0.4, -0.4], [-0.1, 0.0, 0.2]])
    process = TaggedParticle(Homoenergetic(matrix), collision_law(0.5, strength=1e-12))
    particles = run(process, np.log([2.0, 7.0]), NORMAL[:8])
    exact = np.linalg.solve(np.eye(3) + 7.0 * matrix, NORMAL[:8].T).T
    np.testing.assert_allclose(ordinary(process, particles[1]), exact, rtol=1e-10)
    with pytest.raises(InvalidArgumentError, match="log time"):
        evolve(TaggedParticle(Homoenergetic(-0.5 * np.eye(3)), collision_law(0.5)), particles[0], np.log(2.1))


def spread_start(gamma, first):
    """Velocities across the flow whose first collisions are log-uniform in log t on one period: a start without memory.

    From w = (0, l, l) a flight lasts (log) a/(1-a) log l + O(1), so log l is (1/a - 1) times a log-uniform number of a period.
    """
    share = (np.arange(COUNT) + 0.5) / COUNT
    log_speed = first * (-1 / gamma - 1) * (1 + gamma) ** -share
    return np.exp(log_speed)[:, None] * [0.0, 1.0, 1.0]


@pytest.mark.parametrize("background", ["rest", "maxwellian"])
def test_log_uniform_law_at_an_enormous_time(background):
    """-1 < gamma < 0: log|w2| / log t is log-uniform on [1/a - 1, 1/a]; w1 = -K w2 t there. No number overflows at e^1000.

    KS distance for 2048 draws plus the edges of width O(1)/log t: 1.95 / 45 + 0.005 has a false-alarm rate of 1e-3. A start of
    one speed would keep a memory for ever; a thermal one among Maxwellian partners has none of this size, and among partners at
    rest, where thermal particles stop, ``spread_start`` has none.
    """
    process = sheared(-0.5, 2.0, background=background)
    particles = run(process, 1000.0, spread_start(-0.5, 40.0) if background == "rest" else NORMAL)
    assert not absorbed(particles).any()
    logs, signs = log_components(process, particles)
    assert np.isfinite(logs).all()
    y = np.sort(logs[:, 1]) / 1000.0
    cumulative = log_uniform_cdf(y, -0.5)
    distance = max((np.arange(1, COUNT + 1) / COUNT - cumulative).max(), (cumulative - np.arange(COUNT) / COUNT).max())
    assert distance < 1.95 / COUNT**0.5 + 0.005
    following = (signs[:, 0] == -signs[:, 1]) & (np.abs(logs[:, 0] - logs[:, 1] - np.log(2.0) - 1000.0) < 1.0)
    assert following.mean() > 0.98


@pytest.mark.parametrize("gamma", [-0.5, -0.8])
def test_collisions_at_different_times_are_related(gamma):
    """J(tau) = (1-a) J((1-a) tau): as many collisions in (tau1, tau2) as in ((1-a) tau1, (1-a) tau2), from any start.

    Windows are halves of a period, in which a particle collides once or not at all. From one collision to the next tau grows by
    the factor 1/(1-a) up to a shift of order 10; windows that begin at tau so differ by 10 J(tau) < 30 / tau, here below 1e-3
    with a standard error of 7e-4 or less. A single start keeps its memory: |c1| > 0.3 for a = 0.8.
    """
    halves = np.array([2.0, 1.5, 1.0, 0.5, 0.0])
    ends = 1e6 * (1 + gamma) ** halves
    process = sheared(gamma, 2.0, background="rest")
    for begin_with in (1e4 * NORMAL, np.tile([0.0, 1e4, 1e4], (COUNT, 1)), 1e4 * np.exp(2 * NORMAL)):
        reached = run(process, ends, begin_with)
        stay = ~absorbed(reached[-1])
        counts = np.diff([np.asarray(p.jumps)[stay] for p in reached], axis=0)
        np.testing.assert_allclose(counts[:2].sum(0).mean(), 1.0, atol=2e-3)
        for early, late in ((counts[0], counts[2]), (counts[1], counts[3])):
            error = np.sqrt((np.var(late - early) + 1 / COUNT) / COUNT)  # the second term for none that differ
            assert abs((late - early).mean()) < 4.5 * error, (gamma, early.mean(), late.mean())
        if gamma == -0.8 and (begin_with == begin_with[0]).all():
            assert abs(memory(log_components(process, reached[-1])[0][stay, 1] / ends[-1], gamma)) > 0.3


def test_one_map_in_logarithms_gives_the_same_law():
    """The simplified model without the engine: flights begun across the flow last s with exp(-(K l)^-a s^(1-a) / (1-a)).

    From w = (0, l, 0) at X = log l = 40 the map X -> [X + log K + log((1-a) E)] / (1-a) + log|om1 om2| is iterated in NumPy until
    log t = 1000; what the engine leaves out or adds would bend log|w2| (KS of two samples, 1e-3).
    """
    a, rate, end = 0.5, 2.0, 1000.0
    process = sheared(-a, rate, background="rest")
    reached = run(process, end, np.tile([0.0, np.exp(40.0), 0.0], (COUNT, 1)))
    rng = np.random.default_rng(4)
    x, clock = np.full(20_000, 40.0), np.full(20_000, -np.inf)
    for _ in range(10):
        log_flight = (np.log((1 - a) * rng.exponential(size=x.size)) + a * (x + np.log(rate))) / (1 - a)
        arrival = np.logaddexp(clock, log_flight)
        om = rng.normal(size=(3, x.size))
        om /= np.linalg.norm(om, axis=0)
        collided = np.log(rate) + x + log_flight + np.log(np.abs(om[0] * om[1]))
        x, clock = np.where(arrival < end, collided, x), np.maximum(clock, np.where(arrival < end, arrival, end))
    assert (clock >= end).all()
    engine = log_components(process, reached)[0][:, 1]
    assert stats.ks_2samp(engine, x).pvalue > 1e-3
    assert stats.ks_2samp(engine, 1.02 * x).pvalue < 1e-6


def test_laws_do_not_depend_on_the_interval_of_the_thinning():
    """There is no time step; a window that mattered would show between factors of 16."""
    for gamma, log_time in ((-0.5, 3.0), (0.5, 1.5)):
        samples = []
        for seed, interval in enumerate((0.25, 4.0)):
            process = sheared(gamma, 2.0, interval)
            logs, signs = log_components(process, run(process, log_time, seed=seed))
            samples.append((logs, signs, np.asarray(run(process, log_time, seed=seed).jumps)))
        for pick in (lambda s: s[0][:, 0], lambda s: s[0][:, 1], lambda s: s[1][:, 0] * s[1][:, 1] * s[0][:, 2]):
            assert stats.ks_2samp(pick(samples[0]), pick(samples[1])).pvalue > 1e-3
        jumps = [s[2] for s in samples]
        error = np.sqrt(sum(j.var() for j in jumps) / COUNT)
        assert abs(jumps[0].mean() - jumps[1].mean()) < 4.5 * error


def test_fast_particles_do_not_feel_the_background():
    """At |w| > 1e3 the Maxwellian and the resting background give one law over the next collisions."""
    samples = []
    for seed, background in enumerate(("maxwellian", "rest")):
        process = sheared(-0.5, 2.0, background=background)
        logs, _ = log_components(process, run(process, np.log(1e5), NORMAL * 1e4, seed=seed))
        samples.append(logs)
    for component in range(3):
        assert stats.ks_2samp(samples[0][:, component], samples[1][:, component]).pvalue > 1e-2


def test_collisions_freeze_for_strong_decay():
    """gamma = -1.5: of particles at w1 = 0 the fraction exp(-H) never collides again, and then w1 = -K w2 t."""
    begin_with = NORMAL * [0.0, 3.0, 3.0]
    process = sheared(-1.5, 2.0, background="rest")
    early, late = run(process, [300.0, 900.0], begin_with)
    survival = np.exp(-frozen_hazard(begin_with[:, 1], begin_with[:, 2], 2.0, -1.5))
    assert abs(z_scores((np.asarray(late.jumps) == 0) - survival, 0.0)) < 4.5
    assert (np.asarray(late.jumps) == np.asarray(early.jumps)).all(), "collisions go on"
    moving = ~absorbed(late)
    assert 0.8 < moving.mean() < 1, "slow particles among partners at rest stop"
    logs = log_components(process, late)[0][moving]
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(logs[:, 0] - logs[:, 1] - np.log(2.0), 900.0, atol=1e-6)


def test_weak_form():
    """E phi(w_T) - phi(w_0) equals the integral of E[-L w . grad phi + C phi] (Simpson, error of 1e-5), phi = |w|, exp(-|w|^2/2).

    C phi is averaged over one partner and one direction per particle, drawn here with NumPy: nothing of the engine is in it.
    """
    gamma, rate, end, panels = 0.5, 1.5, 0.8, 8
    process = sheared(gamma, rate)
    begin_with = np.tile([0.4, 1.5, -0.3], (COUNT, 1))
    times = np.linspace(0, end, panels + 1)
    states = [begin_with, *(ordinary(process, p) for p in run(process, np.log(times[1:]), begin_with))]
    simpson = np.array([1, *([4, 2] * (panels // 2))[:-1], 1]) * end / panels / 3
    rng = np.random.default_rng(1)
    functions = {
        "speed": (lambda w: np.linalg.norm(w, axis=1), lambda w: w / np.linalg.norm(w, axis=1, keepdims=True)),
        "gaussian": (
            lambda w: np.exp(-(w**2).sum(1) / 2),
            lambda w: -w * np.exp(-(w**2).sum(1, keepdims=True) / 2),
        ),
    }
    for phi, gradient in functions.values():
        balance = phi(states[-1]) - phi(states[0])
        for w, weight in zip(states, simpson, strict=True):
            drift = -rate * w[:, 1] * gradient(w)[:, 0]
            gain = np.zeros(COUNT)
            for _ in range(4):
                partner, om = rng.normal(size=(COUNT, 3)), rng.normal(size=(COUNT, 3))
                om /= np.linalg.norm(om, axis=1, keepdims=True)
                u = w - partner
                after = w - (u * om).sum(1, keepdims=True) * om
                gain += np.linalg.norm(u, axis=1) ** gamma * (phi(after) - phi(w)) / 4
            balance = balance - weight * (drift + gain)
        assert abs(z_scores(balance, 0.0)) < 4.5


def test_bad_starts_are_refused():
    """A particle at rest has no direction, and NaN would never arrive."""
    with pytest.raises(InvalidArgumentError, match="at rest"):
        start(jax.random.key(0), np.zeros((2, 3)))
    with pytest.raises(InvalidArgumentError, match="finite"):
        start(jax.random.key(0), np.full((2, 3), np.nan))
    with pytest.raises(InvalidArgumentError, match="shear rate"):
        SimpleShear(-1.0)
    with pytest.raises(InvalidArgumentError, match="3 x 3"):
        Homoenergetic(np.eye(2))
