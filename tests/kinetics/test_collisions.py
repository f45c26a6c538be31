"""The collision rate, the tilted law of partners, and what a collision does, each alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.collisions import Velocity, collision_law, collision_rate, velocity

GAMMAS = (-2.5, -1.5, -0.5, 0.5, 1.0)
SPEEDS = np.array([0.0, 0.1, 1.0, 5.0, 9.0, 19.99, 20.01, 50.0, 1e4])
TRIES = 20_000


NODES, WEIGHTS = np.polynomial.legendre.leggauss(600)


def radial_density(r, w, gamma):
    """Density of |w - w*| under M(w*) |w - w*|^gamma, up to sqrt(2/pi)."""
    near = np.sinh(np.minimum(r * w, 1.0)) / np.maximum(r * w, 1e-300) * np.exp(-(r**2 + w**2) / 2)
    far = (np.exp(-((r - w) ** 2) / 2) - np.exp(-((r + w) ** 2) / 2)) / (2 * np.maximum(r * w, 1e-300))
    return r ** (gamma + 2) * np.where(r * w > 1, far, np.where(r * w > 1e-8, near, np.exp(-(r**2 + w**2) / 2)))


def radial_integral(w, gamma, upper=np.inf):
    low, top = max(0.0, w - 14), min(upper, w + 14)
    if top <= low:
        return 0.0
    power = np.ceil(4 * (3 + gamma)) / (3 + gamma) if low == 0 else 1.0  # r = x^power leaves nothing singular at 0
    a, b = low ** (1 / power), top ** (1 / power)
    x = 0.5 * (b - a) * NODES + 0.5 * (a + b)
    return 0.5 * (b - a) * np.sum(WEIGHTS * radial_density(x**power, w, gamma) * power * x ** (power - 1))


@pytest.mark.parametrize("gamma", [-2.9, *GAMMAS])
def test_rates_agree_with_the_defining_integral(gamma):
    """A wrong prefactor, table or asymptotic series would show at one of the speeds; both sides of the seam are here."""
    law = collision_law(gamma)
    with np.errstate(divide="ignore"):
        tabulated = np.exp(np.asarray(jax.vmap(law.log_rate)(jnp.log(jnp.asarray(SPEEDS)))))
    # |w - w*| has the density sqrt(2/pi) r^2 exp(-(r^2+w^2)/2) sinh(rw)/(rw)
    integral = np.array([np.sqrt(2 / np.pi) * radial_integral(w, gamma) for w in SPEEDS[:-1]])
    np.testing.assert_allclose(collision_rate(SPEEDS[:-1], gamma), integral, rtol=1e-9)
    np.testing.assert_allclose(tabulated, collision_rate(SPEEDS, gamma), rtol=1e-10)


@pytest.fixture(scope="module")
def partners():
    """Attempts by (gamma, speed): u = |w - w*| and whether accepted."""

    @jax.jit
    def tries(law, key, speed):
        w = jnp.maximum(speed, 1.0)
        here = Velocity(jnp.stack([speed / w, 0.0 * w, 0.0 * w]), jnp.log(w))
        found, accepted = jax.vmap(lambda k: law.partner(k, here))(jax.random.split(key, TRIES))
        return found, accepted

    return lambda gamma, speed: jax.tree.map(
        np.asarray, tries(collision_law(gamma), jax.random.key(int(10 * speed) + 1), jnp.asarray(float(speed)))
    )


@pytest.mark.parametrize("gamma", GAMMAS)
def test_partners_follow_the_tilted_law(partners, gamma):
    """Partners from M alone, a lost part of the mixture or a wrong envelope would bend |w - w*| (KS, false alarm 1e-4 each)."""
    for speed in (0.0, 1.0, 5.0, 9.0, 50.0):
        found, accepted = partners(gamma, speed)
        assert accepted.mean() > 0.05, f"{accepted.mean():.3f} accepted at speed {speed}"
        u = np.linalg.norm(np.array([speed, 0, 0]) - found[accepted], axis=1)
        grid = np.linspace(max(0, speed - 10), speed + 10, 101)
        total = radial_integral(speed, gamma)
        cumulative = np.array([radial_integral(speed, gamma, r) for r in grid]) / total
        # compare at the grid's points, where the integral is known
        empirical = np.searchsorted(np.sort(u), grid, side="right") / u.size
        assert np.abs(empirical - cumulative).max() < 2.3 / np.sqrt(u.size), f"gamma {gamma}, speed {speed}"


def test_fast_particles_meet_ordinary_partners(partners):
    """Far out the tilt is flat; cancellation of huge numbers would show as partners that are fast too."""
    for gamma in (-1.5, 0.5):
        for speed in (1e4, 1e12):
            found, accepted = partners(gamma, speed)
            assert accepted.mean() > 0.5
            p = [stats.kstest(found[accepted][:, i], "norm").pvalue for i in range(3)]
            assert min(p) > 1e-4


def test_partners_from_the_maxwellian_alone_would_be_noticed(partners):
    """Negative control: for gamma = -1.5 the untilted law fails the test above by far."""
    normal = np.random.default_rng(0).normal(size=(5000, 3))
    u = np.linalg.norm(np.array([1.0, 0, 0]) - normal, axis=1)
    found, accepted = partners(-1.5, 1.0)
    tilted = np.linalg.norm(np.array([1.0, 0, 0]) - found[accepted], axis=1)
    assert stats.ks_2samp(u, tilted).pvalue < 1e-20


@pytest.mark.parametrize(("angular", "moments"), [(0.0, (1 / 3, 1 / 5)), (1.0, (1 / 2, 1 / 3))])
def test_collisions_conserve_and_scatter(angular, moments):
    """w' = w - (u.om) om conserves w.w* sums by construction; E (n.om)^2, (n.om)^4 decide every moment equation."""
    law = collision_law(0.0, angular=angular)
    w, partner = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 0.1, -0.7])
    after = jax.vmap(lambda k: law.collide(k, velocity(w), partner))(jax.random.split(jax.random.key(0), 20_000))
    after = np.asarray(after.vector * jnp.exp(after.log_scale)[:, None])
    u = np.asarray(w - partner)
    lost = np.asarray(w) - after  # (u.om) om
    np.testing.assert_allclose((lost**2).sum(1), lost @ u, atol=1e-12)
    squares = (lost**2).sum(1) / (u @ u)  # (n.om)^2
    for power, expected in zip((1, 2), moments, strict=True):
        values = squares**power
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(values.size)
    across = np.cross(u, [0.0, 0.0, 1.0])
    assert abs((lost @ across).mean()) < 4 * (lost @ across).std() / np.sqrt(len(lost)), "scattering has a handedness"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gamma": -3.0}, "above -3"),
        ({"gamma": 1.5}, "at most 1"),
        ({"gamma": float("nan")}, "above -3"),
        ({"gamma": 0.5, "strength": 0.0}, "positive"),
        ({"gamma": 0.5, "angular": -0.1}, "angular"),
        ({"gamma": 0.5, "background": "rest"}, "Maxwellian"),
    ],
)
def test_parameters_without_meaning_are_refused(arguments, words):
    """A rate that diverges would hang the simulation."""
    with pytest.raises(InvalidArgumentError, match=words):
        collision_law(arguments.pop("gamma"), **arguments)
