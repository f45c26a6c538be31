"""Rigid motions: uniform rotations, and the augmentation by which a Cartesian model learns that orientation does not matter."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def random_rotation(key: Key[Array, ""], dtype: Any = float) -> Float[Array, "3 3"]:
    """A rotation matrix, uniform on SO(3): that of a uniform unit quaternion (a normalised normal 4-vector)."""
    q = jax.random.normal(key, (4,), dtype)
    w, x, y, z = q / jnp.linalg.norm(q)
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


class RigidAugmentation(eqx.Module):
    """x -> R (x - centre(x)) + c: a uniform rotation R and a new centre c ~ N(0, centre_scale^2 I).

    The centre is the unweighted mean of the atoms; ``centre_scale`` in nm. Draws of exp(-u), for u without preferred place or
    direction, become draws of the normalised density with a harmonic centre, on all of R^(3N).
    Source: arXiv 2502.18462, section 4.
    """

    frozen: ClassVar[bool] = True

    centre_scale: Float[Array, ""]

    def __call__(self, key: Key[Array, ""], x: Float[Array, "atom 3"]) -> Float[Array, "atom 3"]:
        key_rotation, key_centre = jax.random.split(key)
        centred = x - jnp.mean(x, axis=0)
        centre = self.centre_scale.astype(x.dtype) * jax.random.normal(key_centre, (3,), x.dtype)
        return centred @ random_rotation(key_rotation, x.dtype).T + centre
