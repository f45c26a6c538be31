"""Spaces: wrapping, shortest displacements, random points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.spaces import Discrete, Euclidean, PeriodicBox, Product, Torus

SPACES = {
    "euclidean": Euclidean((3, 2)),
    "torus": Torus((4,)),
    "box": PeriodicBox(5, jnp.array([1.0, 2.0, 3.0])),
    "discrete": Discrete((3, 3), 4),
    "product": Product({"angles": Torus((2,)), "spins": Discrete((4,), 2)}),
}


@pytest.mark.parametrize("name", SPACES)
def test_random_points_have_the_event_shape_and_are_already_wrapped(name, key):
    """A sampler started outside the domain would carry a wrong image of itself."""
    space = SPACES[name]
    x = space.random(key)
    assert jax.tree.map(jnp.shape, x) == space.event_shape
    for a, b in zip(jax.tree.leaves(space.wrap(x)), jax.tree.leaves(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(("name", "length"), [("torus", 2 * np.pi), ("box", np.array([1.0, 2.0, 3.0]))])
def test_displacements_are_the_shortest_image(name, length, key):
    """Adding whole periods changes neither the wrapped point nor any displacement."""
    space = SPACES[name]
    x, y = space.random(key), space.random(jax.random.fold_in(key, 1))
    shifted = y + 3 * length
    np.testing.assert_allclose(space.wrap(shifted), y, atol=1e-9)
    d = np.asarray(space.displacement(x, shifted))
    assert (np.abs(d) <= np.asarray(length) / 2 + 1e-9).all()
    np.testing.assert_allclose(space.wrap(x + d), y, atol=1e-9)


def test_angles_just_below_pi_stay_and_pi_becomes_minus_pi():
    """Half-open intervals: a histogram must not count pi twice."""
    space = Torus((2,))
    np.testing.assert_allclose(space.wrap(jnp.array([np.pi, -np.pi])), [-np.pi, -np.pi])
