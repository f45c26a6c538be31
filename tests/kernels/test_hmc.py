"""Hamiltonian Monte Carlo from the inside: the integrator, masses and time, lengths of trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels import HMC, MALA
from heatbath.kernels.hmc import evaluate, leapfrog
from heatbath.kernels.positions import reduced_masses, thermal_velocities
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell, HarmonicOscillators

WELL = DoubleWell(dimension=3)
U = ReducedEnergy(WELL, ThermoState(0.8))
X, V = jnp.array([0.3, -0.5, 0.2]), jnp.array([0.4, 1.0, -0.3])
MASSES = jnp.array([1.0, 2.0, 0.5])


def flow(x, v, step, count):
    state, velocity = leapfrog(evaluate(x, U), v, jnp.asarray(step), count, MASSES, U)
    return state.position, velocity


def test_leapfrog_is_reversible():
    """Running back with the velocities reversed must lead home; otherwise the acceptance would be wrong."""
    x, v = flow(X, V, 0.05, 20)
    back, velocity = flow(x, -v, 0.05, 20)
    np.testing.assert_allclose(back, X, atol=1e-12)
    np.testing.assert_allclose(velocity, -V, atol=1e-12)


def test_leapfrog_keeps_volume():
    """The determinant of the map is one: HMC has no Jacobian to forget."""

    def both(z):
        x, v = flow(z[:3], z[3:], 0.1, 5)
        return jnp.concatenate([x, v])

    jacobian = jax.jacfwd(both)(jnp.concatenate([X, V]))
    np.testing.assert_allclose(abs(np.linalg.det(jacobian)), 1.0, rtol=1e-10)


def test_energy_error_is_of_second_order():
    """Halving the step must divide the energy error by four: a missing half kick would make it first order."""

    def error(step):
        x, v = flow(X, V, step, round(1 / step))
        return float(U(x) + 0.5 * jnp.sum(MASSES * v**2) - U(X) - 0.5 * jnp.sum(MASSES * V**2))

    assert 3.5 < error(0.02) / error(0.01) < 4.5


def test_time_is_physical():
    """Half a period pi sqrt(m/k) turns an oscillator around at any beta: step sizes are times, not lengths."""
    target = HarmonicOscillators((4.0,), (9.0,))
    for beta in (0.3, 1.0, 5.0):
        u = ReducedEnergy(target, ThermoState(beta))
        masses = reduced_masses(target.masses, u.beta, jnp.array([1.0]))
        count = 2000
        step = jnp.asarray(np.pi * np.sqrt(9.0 / 4.0) / count)
        state, velocity = leapfrog(evaluate(jnp.array([1.0]), u), jnp.zeros(1), step, count, masses, u)
        np.testing.assert_allclose(state.position, -1.0, atol=1e-5)
        np.testing.assert_allclose(velocity, 0.0, atol=1e-2)


def test_velocities_are_thermal():
    """Equipartition: beta m <v^2> = 1 for every mass, within 4.5 standard errors."""
    masses = reduced_masses(MASSES, 0.8, X)
    draws = jax.vmap(lambda key: thermal_velocities(key, X, masses))(jax.random.split(jax.random.key(0), 20_000))
    ratio = np.asarray(0.8 * MASSES * draws**2).mean(axis=0)
    assert (np.abs(ratio - 1) < 4.5 * np.sqrt(2 / 20_000)).all()


def test_masses_may_be_trees():
    """Product spaces carry one mass array per factor, or one number for all."""
    x = {"a": jnp.zeros(2), "b": jnp.zeros((3, 1), jnp.float32)}
    each = reduced_masses({"a": jnp.ones(2), "b": 5.0}, 2.0, x)
    assert each["b"] == 10.0
    assert each["b"].dtype == jnp.float32
    assert reduced_masses(3.0, 2.0, x)["a"] == 6.0


def test_lengths_are_drawn_from_their_range():
    """With fewest_steps the numbers of steps cover the range, and each is counted as evaluations."""
    kernel = HMC(0.01, num_steps=6, fewest_steps=2)
    state = kernel.init(jax.random.key(0), X, U)
    counts = jax.vmap(lambda key: kernel.step(key, state, U)[1].evaluations)(jax.random.split(jax.random.key(1), 200))
    assert set(np.asarray(counts).tolist()) == {2, 3, 4, 5, 6}


def test_mala_is_one_step_of_hmc():
    """The two proposals are the same map: acceptances agree at equal step when nothing is jittered."""
    keys = jax.random.split(jax.random.key(3), 4000)
    mean = [
        float(jax.vmap(lambda key, k=kernel: k.step(key, k.init(key, X, U), U)[1].acceptance)(keys).mean())
        for kernel in (MALA(0.4), HMC(0.4, num_steps=1, jitter=0.0))
    ]
    assert abs(mean[0] - mean[1]) < 0.02


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"jitter": 1.0}, "jitter"),
        ({"num_steps": 3, "fewest_steps": 4}, "fewest_steps"),
    ],
)
def test_impossible_options(options, words):
    """Each says its range."""
    with pytest.raises(InvalidArgumentError, match=words):
        HMC(0.1, **options)
