"""Two or three particles on a periodic square, exactly: integrals by Fourier convolution, draws by rejection.

With the first particle held at the origin (a factor L^2), three particles have the places r and r' of the others:

    Z / L^2 = int dr dr' e_12(r) e_13(r') e_23(r' - r),      e_ab = exp(-beta V_ab),

a convolution of periodic functions. The trapezoid sum on a periodic grid converges as fast as the functions are smooth, and
means of V and products of two of them are the same sum with V e or V^2 e in place of e.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from heatbath.targets import quadrature

PairEnergy = Callable[[Float[Array, "2"]], Array]


class ExactMoments(NamedTuple):
    """log Z (of all positions), <U>, and the configurational heat capacity beta^2 (<U^2> - <U>^2) / N per particle."""

    log_z: float
    mean_energy: float
    heat_capacity: float


class FewParticles(eqx.Module):
    """Particles on a square of edge ``length``: one pair energy of a displacement, or those of the pairs 12, 13 and 23."""

    pairs: tuple[PairEnergy, ...]
    length: float

    @property
    def count(self) -> int:
        """2 or 3."""
        return 2 if len(self.pairs) == 1 else 3

    def tables(self, cells: int) -> list[Float[np.ndarray, "cell cell"]]:
        """V of every pair on a grid of displacements, in float64.

        The grids of r and r' - r lie half a cell off that of r', so that they fit together under a convolution.
        """
        step = self.length / cells
        offsets = (0.5, 0.0, 0.5) if len(self.pairs) == 3 else (0.5,)
        found = []
        for pair, offset in zip(self.pairs, offsets, strict=True):
            axis = step * (np.arange(cells) + offset)
            points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
            found.append(quadrature.evaluate(pair, points).reshape(cells, cells))
        return found

    def moments(self, beta: float, cells: int = 384) -> ExactMoments:
        """By sums over a periodic grid of ``cells`` x ``cells`` displacements."""
        tables = self.tables(cells)
        # Per pair: e, V e, V^2 e. Inside the core e is zero and V e is meant to be.
        levels = []
        for table in tables:
            factor = np.exp(-beta * table)
            table = np.where(factor > 0, table, 0.0)
            levels.append([factor, table * factor, table**2 * factor])
        cell = (self.length / cells) ** 2
        if self.count == 2:
            sums = [float(level.sum()) * cell for level in levels[0]]
            return _moments(beta, self.count, self.length**2 * sums[0], sums[1] / sums[0], sums[2] / sums[0])
        spectra = [[np.fft.rfft2(level) for level in three] for three in levels]

        def total(a: int, b: int, c: int) -> float:
            # sum over r, r' of A(r) B(r') C(r - r') by three spectra; V_23 is even.
            product = np.fft.irfft2(spectra[1][b] * spectra[2][c], s=(cells, cells))
            return float(np.sum(levels[0][a] * product)) * cell**2

        z = total(0, 0, 0)
        mean = (total(1, 0, 0) + total(0, 1, 0) + total(0, 0, 1)) / z
        square = total(2, 0, 0) + total(0, 2, 0) + total(0, 0, 2)
        square += 2 * (total(1, 1, 0) + total(1, 0, 1) + total(0, 1, 1))
        return _moments(beta, self.count, self.length**2 * z, mean, square / z)

    def draw(self, key: Key[Array, ""], beta: Array | float) -> Float[Array, "particle 2"]:
        """One exact draw of the positions, in [0, L)."""
        half = 0.5 * self.length
        corner = np.array([half, half])
        envelopes = [
            quadrature.GridEnvelope(lambda step, pair=pair: -beta * pair(step), -corner, corner, cells=512)
            for pair in self.pairs[:2]
        ]
        lowest = self._lowest()

        def propose(carry):
            key, _, _ = carry
            key, first, second, accept = jax.random.split(key, 4)
            steps = jnp.stack([envelope.draw(k) for envelope, k in zip(envelopes, (first, second), strict=False)])
            if self.count == 2:
                return key, steps, jnp.asarray(True)  # noqa: FBT003
            log_ratio = -beta * (self.pairs[2](steps[1] - steps[0]) - lowest)
            return key, steps, jnp.log(jax.random.uniform(accept)) < log_ratio

        key_origin, key_steps = jax.random.split(key)
        begin = (key_steps, jnp.zeros((self.count - 1, 2)), jnp.asarray(False))  # noqa: FBT003
        steps = jax.lax.while_loop(lambda carry: ~carry[2], propose, begin)[1]
        origin = jax.random.uniform(key_origin, (1, 2)) * self.length
        x = jnp.concatenate([origin, origin + steps])
        return x - self.length * jnp.floor(x / self.length)

    def _lowest(self) -> Array:
        """A bound below the energy of the last pair: its least value on a fine grid, with a margin for what lies between."""
        axis = self.length / 512 * (np.arange(512) + 0.5)
        points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        return jnp.min(jax.vmap(self.pairs[-1])(jnp.asarray(points, dtype=float))) - 0.02


def _moments(beta: float, count: int, z: float, mean: float, square: float) -> ExactMoments:
    return ExactMoments(float(np.log(z)), mean, beta**2 * (square - mean**2) / count)
