"""Diffusion with a coefficient D(x) that depends on position: which drift keeps the Boltzmann distribution, in any convention.

A stochastic integral with noise of position-dependent strength means nothing until the point x + alpha dx at which the noise is
evaluated is named: alpha = 0 (Ito), 1/2 (Stratonovich), 1 (anti-Ito). The physics fixes the answer: exp(-u) is stationary, and
that demands an extra drift, different in every convention. Leaving it out samples D^-(1 - alpha) exp(-u) instead.
Subject: arXiv 0707.2234; the formulas are derived here.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from heatbath.errors import InvalidArgumentError


class DiffusionModel(eqx.Module):
    """dx = f dt + g(x + alpha dx) dW with g g^T = 2 D, for x of shape (d,).

    u:            the reduced energy beta H(x)
    diffusivity:  D(x) in length^2 / time, a scalar, or a symmetric positive definite (d, d) matrix (g is then its Cholesky root)
    convention:   alpha in [0, 1]
    consistent:   whether f holds the drift that makes exp(-u) stationary:

        f_i = -D_ij d_j u + d_j D_ij - alpha g_jk d_j g_ik          (scalar D in one dimension: -D u' + (1 - alpha) D')

    and f = -D grad u without it. ``check_diffusivity`` tests D at points of your choice.
    """

    u: Callable[[Array], Scalar]
    diffusivity: Callable[[Array], Array]
    convention: Float[Array, ""]
    consistent: bool = eqx.field(static=True)

    def __init__(self, u: Any, diffusivity: Any, convention: float = 0.0, *, consistent: bool = True):
        if not isinstance(convention, jax.Array) and not 0 <= convention <= 1:
            raise InvalidArgumentError(
                f"alpha is between 0 (Ito) and 1 (anti-Ito), 1/2 is Stratonovich; found {convention}"
            )
        self.u, self.diffusivity, self.consistent = u, diffusivity, consistent
        self.convention = jnp.asarray(convention, jnp.result_type(float))

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """D(x) as a matrix."""
        return diffusion_matrix(self.diffusivity, x)

    def noise(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """g(x): sqrt(2 D) for a scalar, the Cholesky factor of 2 D for a matrix."""
        value = self.diffusivity(x)
        if jnp.ndim(value) == 0:
            return jnp.sqrt(2 * value) * jnp.eye(x.size, dtype=x.dtype)
        return jnp.linalg.cholesky(2 * value)

    def force_drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """-D grad u: what most people write down."""
        return -self.matrix(x) @ jax.grad(self.u)(x)

    def noise_drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """g_jk d_j g_ik: the drift between Ito and anti-Ito, D' for a scalar D in one dimension."""
        slope = jax.jacfwd(self.noise)(x)  # [i, k, j]
        return jnp.einsum("jk,ikj->i", self.noise(x), slope)

    def drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """f(x) of this convention."""
        force = self.force_drift(x)
        if not self.consistent:
            return force
        return force + divergence(self.diffusivity, x) - self.convention * self.noise_drift(x)

    def ito_drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The drift of the same process written in Ito's convention: lim <dx> / dt."""
        return self.drift(x) + self.convention * self.noise_drift(x)

    def stationary_energy(self, x: Float[Array, " d"]) -> Scalar:
        """-log of the stationary density up to a constant: u, or u + (1 - alpha) log D where the drift is left out.

        The second holds in one dimension (with more, the process without its drift has no such closed law).
        """
        if self.consistent:
            return self.u(x)
        return self.u(x) + (1 - self.convention) * jnp.log(jnp.squeeze(self.matrix(x)))


def diffusion_matrix(diffusivity: Callable[[Array], Array], x: Float[Array, " d"]) -> Float[Array, "d d"]:
    """D(x) as a matrix, whether it was given as one or as a scalar."""
    value = diffusivity(x)
    return value * jnp.eye(x.size, dtype=x.dtype) if jnp.ndim(value) == 0 else value


def divergence(diffusivity: Callable[[Array], Array], x: Float[Array, " d"]) -> Float[Array, " d"]:
    """d_j D_ij, the drift that Brownian motion shows without any force."""
    value = jax.eval_shape(diffusivity, x)
    if value.shape == ():
        return jax.grad(diffusivity)(x)
    return jnp.einsum("ijj->i", jax.jacfwd(diffusivity)(x))


def check_diffusivity(diffusivity: Callable[[Array], Array], points: Float[Array | np.ndarray, "n d"]) -> None:
    """Refuse a D that is not finite, symmetric and positive definite at ``points``.

    Raises ``InvalidArgumentError`` with the first bad point.
    """
    points = jnp.asarray(points, jnp.result_type(float))
    values = np.asarray(jax.vmap(lambda x: diffusion_matrix(diffusivity, x))(points))
    for x, value in zip(np.asarray(points), values, strict=True):
        if not np.isfinite(value).all():
            raise InvalidArgumentError(f"D(x) must be finite; found {value.tolist()} at x = {x.tolist()}")
        if not np.allclose(value, value.T, rtol=1e-10, atol=0):
            raise InvalidArgumentError(f"D(x) must be symmetric; found {value.tolist()} at x = {x.tolist()}")
        lowest = float(np.linalg.eigvalsh(value)[0])
        if lowest <= 0:
            raise InvalidArgumentError(
                f"D(x) must be positive definite; its smallest eigenvalue is {lowest:.3g} at x = {x.tolist()}"
            )
