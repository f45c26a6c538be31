"""An equivariant continuous flow of particles in a periodic box: pairwise radial velocities with a divergence in closed form.

    v_i(x, t) = sum_{j != i} phi_ab(r_ij, t) (x_i - x_j),      div v = sum_i sum_{j != i} [ d phi_ab + r phi_ab' ]

with nearest images and phi = 0 beyond ``cutoff``, so that v is smooth on the torus. Particles of one species may be exchanged
and all shifted together: v does the same. The map is a fixed number of explicit Runge-Kutta steps of (x, log det) together.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.bijections import Bijection


class RadialVelocity(eqx.Module):
    """phi_ab(r, t) = sum_kl w_abkl g_k(r) t^l (1 - (r / r_c)^2)^3 for r < r_c, else 0, with Gaussians g_k.

    weights (species, species, radial, time): used in symmetric form, so that phi_ab = phi_ba. All zero: the identity map.
    """

    weights: Float[Array, "species species radial time"]
    cutoff: float = eqx.field(static=True)
    shortest: float = eqx.field(static=True, default=0.6)

    def __init__(
        self,
        species: int,
        cutoff: float,
        *,
        radial: int = 32,
        time: int = 3,
        shortest: float = 0.6,
        dtype: Any = float,
    ):
        if not 0 < shortest < cutoff or min(species, time) < 1 or radial < 2:
            raise InvalidArgumentError(
                f"expected 0 < shortest < cutoff, one species and time function or more and two radial functions or more; "
                f"found {shortest}, {cutoff}, {species}, {time}, {radial}"
            )
        self.weights = jnp.zeros((species, species, radial, time), dtype)
        self.cutoff, self.shortest = float(cutoff), float(shortest)

    def pairs(
        self, squares: Float[Array, " pair"], kinds: tuple[np.ndarray, np.ndarray], t: Scalar | float
    ) -> tuple[Float[Array, " pair"], Float[Array, " pair"]]:
        """phi and r phi' of pairs at squared distances, of the species ``kinds`` (first and second of every pair)."""
        dtype = squares.dtype
        times = self.weights.shape[-1]
        weights = 0.5 * (self.weights + jnp.swapaxes(self.weights, 0, 1)).astype(dtype)
        table = weights @ jnp.asarray(t, dtype) ** jnp.arange(times, dtype=dtype)
        inside = squares < self.cutoff**2
        basis, slopes = self.basis(jnp.where(inside, squares, 1.0))
        chosen = table[kinds]
        phi = jnp.where(inside, jnp.sum(chosen * basis, -1), 0)
        return phi, jnp.where(inside, jnp.sum(chosen * slopes, -1), 0)

    def basis(self, squares: Float[Array, " pair"]) -> tuple[Float[Array, "pair radial"], Float[Array, "pair radial"]]:
        """Every function g_k(r) (1 - (r / r_c)^2)^3 and r times its derivative, at squared distances below r_c^2."""
        dtype, radial = squares.dtype, self.weights.shape[2]
        r = jnp.sqrt(squares)[:, None]
        centres = jnp.linspace(self.shortest, self.cutoff, radial).astype(dtype)
        width = (self.cutoff - self.shortest) / (radial - 1)
        offset = (r - centres) / width
        bump = jnp.exp(-0.5 * offset**2)
        ratio = (r / self.cutoff) ** 2
        window, window_slope = (1 - ratio) ** 3, -6 * ratio * (1 - ratio) ** 2
        return bump * window, bump * (window_slope - r * offset / width * window)


class TorusFlow(Bijection):
    """x = f(z): ``steps`` RK4 steps of dx/dt = v(x, t) from t = 0 to 1, in a box of edge ``length``.

    log|det df/dz| is the integral of div v by the same steps; it differs from the determinant of the discrete map, which
    ``discrete_log_det`` has, by the error of the integrator, O(steps^-4). ``inverse`` runs the steps backwards in time, with
    an error of the same order. Positions are not wrapped.
    """

    velocity: RadialVelocity
    counts: tuple[int, ...] = eqx.field(static=True)
    length: float = eqx.field(static=True)
    steps: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        if self.velocity.cutoff > 0.5 * self.length * (1 + 1e-12):
            raise InvalidArgumentError(
                f"the velocity must end within half the box, {0.5 * self.length:.4g}; it ends at {self.velocity.cutoff:.4g}"
            )
        if self.steps < 1 or len(self.counts) != self.velocity.weights.shape[0]:
            raise InvalidArgumentError(
                f"expected one step or more and a count per species; found {self.steps} steps, counts {self.counts}"
            )

    @property
    def evaluations(self) -> int:
        """Passes over all pairs that one map takes: four per step."""
        return 4 * self.steps

    def drift(self, x: Float[Array, "particle d"], t: Scalar | float) -> tuple[Float[Array, "particle d"], Scalar]:
        """v and div v at time t."""
        first, second = np.triu_indices(x.shape[0], k=1)
        step = nearest(x[first] - x[second], self.length)
        species = np.repeat(np.arange(len(self.counts)), self.counts)
        phi, slope = self.velocity.pairs(jnp.sum(step**2, axis=-1), (species[first], species[second]), t)
        # Every pair moves its two particles apart: one product with a matrix of +1 and -1 is faster than scattering.
        ends = np.zeros((x.shape[0], len(first)), np.float32)
        ends[first, np.arange(len(first))], ends[second, np.arange(len(first))] = 1, -1
        return jnp.asarray(ends, x.dtype) @ (phi[:, None] * step), 2 * jnp.sum(x.shape[1] * phi + slope)

    def forward(self, z):
        return self._integrate(z, 0.0, 1.0 / self.steps)

    def inverse(self, x):
        return self._integrate(x, 1.0, -1.0 / self.steps)

    def _integrate(self, x, start: float, h: float):
        def step(carry, number):
            x, log_det = carry
            t = start + h * number.astype(x.dtype)
            v_1, d_1 = self.drift(x, t)
            v_2, d_2 = self.drift(x + 0.5 * h * v_1, t + 0.5 * h)
            v_3, d_3 = self.drift(x + 0.5 * h * v_2, t + 0.5 * h)
            v_4, d_4 = self.drift(x + h * v_3, t + h)
            x = x + h / 6 * (v_1 + 2 * v_2 + 2 * v_3 + v_4)
            return (x, log_det + (h / 6 * (d_1 + 2 * d_2 + 2 * d_3 + d_4)).astype(log_det.dtype)), None

        begin = (x, jnp.zeros((), jnp.result_type(float)))
        return jax.lax.scan(step, begin, jnp.arange(self.steps))[0]

    def discrete_log_det(self, z: Float[Array, "particle d"]) -> Scalar:
        """log|det| of the discrete map's Jacobian, by N d Jacobian products: what ``forward`` estimates in closed form."""
        jacobian = jax.jacfwd(lambda flat: self.forward(flat.reshape(z.shape))[0].reshape(-1))(z.reshape(-1))
        return jnp.linalg.slogdet(jacobian)[1]


def nearest(step: Float[Array, "pair d"], length: float) -> Float[Array, "pair d"]:
    """The nearest images of displacements in a box of edge ``length``."""
    return step - length * jnp.round(step / length)
