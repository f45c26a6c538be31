"""Uniform rotations and the augmentation of Cartesian models."""

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.models.rigid import RigidAugmentation, random_rotation


def test_rotations_are_proper_and_uniform(key):
    """A matrix that reflects would mix enantiomers; a law that is not uniform would be learned as a preferred direction.

    For Haar measure the mean of R is zero, that of R_ij^2 is 1/3 and that of trace(R)^2 is 1 (z-tests at 5 standard errors).
    """
    rotations = np.asarray(jax.vmap(random_rotation)(jax.random.split(key, 20_000)))
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-12)
    traces = np.trace(rotations, axis1=1, axis2=2)
    columns = np.column_stack([rotations.reshape(-1, 9), rotations.reshape(-1, 9) ** 2, traces**2])
    expected = np.concatenate([np.zeros(9), np.full(9, 1 / 3), [1.0]])
    z = (columns.mean(0) - expected) / (columns.std(0) / np.sqrt(len(columns)))
    assert (np.abs(z) < 5).all()


def test_augmentation_keeps_the_shape_and_draws_the_centre(key):
    """Distances and handedness must survive; the centre must be N(0, sigma^2), wherever the configuration was."""
    x = jax.random.normal(key, (5, 3)) + 7.0
    augment = RigidAugmentation(jnp.asarray(0.3))
    new = np.asarray(jax.vmap(lambda k: augment(k, x))(jax.random.split(key, 4000)))
    before, after = np.asarray(x) - np.asarray(x).mean(0), new - new.mean(1, keepdims=True)
    np.testing.assert_allclose(
        after @ after.transpose(0, 2, 1), np.broadcast_to(before @ before.T, (4000, 5, 5)), atol=1e-10
    )
    volume = np.linalg.det(before[:3])
    np.testing.assert_allclose(np.linalg.det(after[:, :3]), volume, atol=1e-10)
    centres = new.mean(1)
    z = (centres.var(0) / 0.09 - 1) / np.sqrt(2 / 4000)
    assert (np.abs(z) < 5).all()
    assert (np.abs(centres.mean(0)) < 5 * 0.3 / np.sqrt(4000)).all()
