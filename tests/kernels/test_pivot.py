"""Pivot moves: rigid rotations, the right torsion law, the right bonds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.pivot import Pivot, pivots_of, turned
from heatbath.spaces import Euclidean
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target

CHAIN = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.3, 0.4, 0.9]])


def torsion(x):
    a, b, c = x[1] - x[0], x[2] - x[1], x[3] - x[2]
    n1, n2 = jnp.cross(a, b), jnp.cross(b, c)
    return jnp.arctan2(jnp.dot(jnp.cross(n1, n2), b) / jnp.sqrt(jnp.dot(b, b)), jnp.dot(n1, n2))


class Rotor(Target):
    """Four atoms whose energy depends on their torsion only, with two unequal wells."""

    space: Euclidean = Euclidean((4, 3))

    def energy(self, x):
        phi = torsion(x)
        return 1.5 * jnp.cos(2 * phi) + 0.8 * jnp.sin(phi)


class OneSided(Pivot):
    """Negative control: angles that are not even, without the correction this would need."""

    def draw_angle(self, key, dtype):
        return jax.random.uniform(key, dtype=dtype, minval=0.2, maxval=1.2)


def torsion_histogram(kernel, beta, key):
    u = ReducedEnergy(Rotor(), ThermoState(beta))

    @jax.jit
    def run(keys):
        def chain(key):
            def step(state, key):
                state, _ = kernel.step(key, state, u)
                return state, torsion(state.position)

            return jax.lax.scan(step, kernel.init(key, CHAIN, u), jax.random.split(key, 600))[1][200:]

        return jax.vmap(chain)(keys)

    phis = np.asarray(run(jax.random.split(key, 256)))
    edges = np.linspace(-np.pi, np.pi, 13)
    fine = np.linspace(-np.pi, np.pi, 12 * 200 + 1)[:-1] + np.pi / 2400
    density = np.exp(-beta * (1.5 * np.cos(2 * fine) + 0.8 * np.sin(fine)))
    exact = density.reshape(12, 200).sum(1) / density.sum()
    per_chain = np.stack([np.histogram(row, bins=edges)[0] / len(row) for row in phis])
    return (per_chain.mean(0) - exact) / (per_chain.std(0, ddof=1) / np.sqrt(len(per_chain)))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_pivots_sample_the_torsion_exactly(beta, key):
    """Asymmetric wells at three temperatures against quadrature; twelve bins, 4.5 sigma each."""
    kernel = Pivot([(1, 2)], [[False, False, False, True]])
    assert (np.abs(torsion_histogram(kernel, beta, key)) < 4.5).all()


def test_one_sided_angles_are_caught(key):
    """Negative control: without an even law of angles the same test must fail."""
    kernel = OneSided([(1, 2)], [[False, False, False, True]])
    assert (np.abs(torsion_histogram(kernel, 2.0, key)) > 4.5).any()


def test_turning_is_rigid_and_reversible():
    """Bond lengths and angles stay; turning back gives the start; the torsion changes by the angle."""
    moving = jnp.array([False, False, False, True])
    there = turned(CHAIN, jnp.asarray(1), jnp.asarray(2), moving, jnp.asarray(0.7))
    back = turned(there, jnp.asarray(1), jnp.asarray(2), moving, jnp.asarray(-0.7))
    np.testing.assert_allclose(back, CHAIN, atol=1e-12)
    np.testing.assert_allclose(there[:3], CHAIN[:3])
    np.testing.assert_allclose(np.linalg.norm(there[3] - there[2]), np.linalg.norm(CHAIN[3] - CHAIN[2]))
    np.testing.assert_allclose(np.linalg.norm(there[3] - there[1]), np.linalg.norm(CHAIN[3] - CHAIN[1]))
    change = float(torsion(there) - torsion(CHAIN))
    assert np.angle(np.exp(1j * (change - 0.7))) == pytest.approx(0.0, abs=1e-9)


def test_bonds_that_can_turn():
    """Butane with one hydrogen left out of a ring: C-C bonds turn, C-H bonds and rings do not, frozen bonds do not."""
    butane = ((1,), (0, 2), (1, 3), (2, 4), (3,))  # H C C C H, a chain
    found = pivots_of(butane)
    assert {frozenset(map(int, bond)) for bond in found.bonds} == {frozenset((1, 2)), frozenset((2, 3))}
    assert (np.asarray(found.moving).sum(1) <= 2).all()
    assert pivots_of(butane, frozenset({frozenset((1, 2)), frozenset((2, 3))})) is None
    ring = ((1, 2), (0, 2), (0, 1, 3), (2, 4), (3,))
    assert [sorted(map(int, bond)) for bond in pivots_of(ring).bonds] == [[2, 3]]


def test_impossible_pivots_are_refused():
    """A bond without its row of atoms would turn the wrong ones."""
    with pytest.raises(InvalidArgumentError, match="at least one bond"):
        Pivot(np.zeros((0, 2)), np.zeros((0, 4)))
