"""Mixtures of particles with short-ranged pair energies in a periodic box: supercooled liquids.

The labels of the particles are fixed (the first so many are of the first species, and so on), so that a configuration is an
array of positions and nothing else. Exchanging the species of two particles is exchanging their positions. One-particle
moves and exchanges cost O(N): ``displacement_change`` and ``exchange_change`` are the energy differences.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Scalar

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import PeriodicBox
from heatbath.targets.base import Observable, Target
from heatbath.targets.few_particles import ExactMoments, FewParticles

#: Above this many particles the energy is summed row by row, so that memory does not grow with the number of pairs.
DENSE = 256


class LennardJonesMixture(eqx.Module):
    """V_ab(r) = 4 eps_ab [s^-12 - s^-6 + c_0 + c_2 s^2 + c_4 s^4] for s = r / sigma_ab < ``cutoff``, else 0.

    epsilon, sigma:  symmetric tables (species, species).
    smooth:          True: c_0, c_2, c_4 make V, V' and V'' vanish at the cutoff; False: cut and shifted (c_2 = c_4 = 0).

    Raises ``InvalidArgumentError`` for tables that are not square, symmetric and positive.
    """

    epsilon: Float[np.ndarray, "species species"]
    sigma: Float[np.ndarray, "species species"]
    cutoff: float = eqx.field(static=True)
    smooth: bool = eqx.field(static=True)

    def __init__(self, epsilon: Any, sigma: Any, cutoff: float = 2.5, *, smooth: bool = True):
        self.epsilon, self.sigma = np.asarray(epsilon, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
        for name, table in (("epsilon", self.epsilon), ("sigma", self.sigma)):
            if table.ndim != 2 or table.shape != self.epsilon.shape or not (table == table.T).all():
                raise InvalidArgumentError(f"{name} must be a symmetric table of species; found {table.tolist()}")
            if not (table > 0).all():
                raise InvalidArgumentError(f"{name} must be positive; found {table.tolist()}")
        self.cutoff, self.smooth = float(cutoff), bool(smooth)

    @property
    def species(self) -> int:
        """Number of species."""
        return self.epsilon.shape[0]

    @property
    def reach(self) -> float:
        """The longest distance at which two particles feel each other."""
        return self.cutoff * float(self.sigma.max())

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """c_0, c_2, c_4."""
        s = self.cutoff
        value, slope, curvature = s**-12 - s**-6, -12 * s**-13 + 6 * s**-7, 156 * s**-14 - 42 * s**-8
        if not self.smooth:
            return -value, 0.0, 0.0
        c_4 = (slope / s - curvature) / (8 * s**2)
        c_2 = -0.5 * slope / s - 2 * c_4 * s**2
        return -value - c_2 * s**2 - c_4 * s**4, c_2, c_4

    def energy(self, squared_distance: Float[Array, "*pairs"], epsilon: Any, sigma: Any) -> Float[Array, "*pairs"]:
        """V of pairs at squared distances, with the parameters of each pair; follows the type of the distances."""
        dtype = squared_distance.dtype
        square = squared_distance / jnp.asarray(sigma, dtype) ** 2
        c_0, c_2, c_4 = self.coefficients
        sixth = square**-3
        value = sixth * (sixth - 1) + c_0 + square * (c_2 + c_4 * square)
        return jnp.where(square < self.cutoff**2, 4 * jnp.asarray(epsilon, dtype) * value, 0).astype(dtype)


class Liquid(Target):
    """U(x) = sum_{i<j} V_{s_i s_j}(|x_i - x_j|) with the nearest image of every pair, in a square or cubic box.

    x (N, d) in the length unit of the tables; ``counts`` particles of each species, in this order; ``length`` is the edge of
    the box. Energies, temperatures (k_B = 1) and masses (1) are pure numbers.

    For two or three particles in the plane ``exact`` gives log Z, <U> and c_V by quadrature, and ``log_z`` and ``sample`` are
    declared. Raises ``InvalidArgumentError`` when the pair energy reaches beyond half the box, where the nearest image is not
    the only one.
    """

    space: PeriodicBox
    pair: LennardJonesMixture
    counts: tuple[int, ...] = eqx.field(static=True)
    length: float = eqx.field(static=True)

    def __init__(self, pair: LennardJonesMixture, counts: tuple[int, ...], length: float, dimension: int = 2):
        self.pair, self.counts, self.length = pair, tuple(int(count) for count in counts), float(length)
        if len(self.counts) != pair.species or min(self.counts) < 0 or sum(self.counts) < 2:
            raise InvalidArgumentError(
                f"expected {pair.species} numbers of particles, one per species and two particles at least; found {counts}"
            )
        if pair.reach > 0.5 * self.length * (1 + 1e-12):
            raise InvalidArgumentError(
                f"the pair energy reaches {pair.reach:.4g}, more than half the box of {self.length:.4g}: take more particles"
            )
        self.space = PeriodicBox(sum(self.counts), jnp.full(dimension, self.length, dtype=float))

    # Tables -----------------------------------------------------------------------------------------------------------
    @property
    def particles(self) -> int:
        """N."""
        return sum(self.counts)

    @property
    def dimension(self) -> int:
        """d."""
        return self.space.lengths.shape[0]

    @property
    def species(self) -> Int[np.ndarray, " particle"]:
        """Species of every particle."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def parameters(self) -> tuple[Float[np.ndarray, "particle particle"], Float[np.ndarray, "particle particle"]]:
        """epsilon and sigma of every pair of particles."""
        kinds = self.species
        return self.pair.epsilon[np.ix_(kinds, kinds)], self.pair.sigma[np.ix_(kinds, kinds)]

    # Energies ---------------------------------------------------------------------------------------------------------
    def energy(self, x):
        return self._dense(x) if self.particles <= DENSE else self._by_rows(x)

    def squared_distances(self, x: Float[Array, "*batch d"], y: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
        """|x - y|^2 of the nearest images, in the type of x."""
        step = y - x
        step = step - self.length * jnp.round(step / self.length)
        return jnp.sum(step**2, axis=-1)

    def _dense(self, x):
        first, second = np.triu_indices(self.particles, k=1)
        kinds = self.species
        epsilon, sigma = (table[kinds[first], kinds[second]] for table in (self.pair.epsilon, self.pair.sigma))
        return jnp.sum(self.pair.energy(self.squared_distances(x[first], x[second]), epsilon, sigma))

    def _by_rows(self, x):
        def row(i):
            return self.particle_energy(x, i, x[i])

        return 0.5 * jnp.sum(jax.lax.map(row, jnp.arange(self.particles), batch_size=64))

    def particle_energy(
        self, x: Float[Array, "particle d"], i: Int[Array, ""], place: Float[Array, " d"], without: Any = None
    ) -> Scalar:
        """The energy of particle ``i`` at ``place`` with all others where they are, except particle ``without``."""
        kinds = jnp.asarray(self.species)
        epsilon, sigma = jnp.asarray(self.pair.epsilon)[kinds[i]][kinds], jnp.asarray(self.pair.sigma)[kinds[i]][kinds]
        index = jnp.arange(self.particles)
        silent = index == i if without is None else (index == i) | (index == without)
        # A silent pair is put beyond the cutoff, so that its gradient is zero and not 0 * inf.
        far = jnp.asarray((2 * self.pair.reach) ** 2, x.dtype)
        squares = jnp.where(silent, far, self.squared_distances(x, jnp.where(silent[:, None], x + 1, place)))
        return jnp.sum(self.pair.energy(squares, epsilon, sigma))

    def displacement_change(
        self, x: Float[Array, "particle d"], i: Int[Array, ""], place: Float[Array, " d"]
    ) -> Scalar:
        """U after particle ``i`` went to ``place``, minus U before. O(N)."""
        return self.particle_energy(x, i, place) - self.particle_energy(x, i, x[i])

    def exchange_change(self, x: Float[Array, "particle d"], i: Int[Array, ""], j: Int[Array, ""]) -> Scalar:
        """U after particles ``i`` and ``j`` exchanged their places, minus U before. O(N); exactly 0 for like particles."""
        after = self.particle_energy(x, i, x[j], j) + self.particle_energy(x, j, x[i], i)
        before = self.particle_energy(x, i, x[i], j) + self.particle_energy(x, j, x[j], i)
        return jnp.where(i == j, 0, after - before)

    # What one looks at ------------------------------------------------------------------------------------------------
    def initial(self, key):
        """Particles on a random selection of the sites of a square or cubic lattice, with a little noise."""
        side = math.ceil(self.particles ** (1 / self.dimension) - 1e-9)
        sites = np.stack(np.meshgrid(*[np.arange(side)] * self.dimension, indexing="ij"), -1).reshape(
            -1, self.dimension
        )
        key_sites, key_noise = jax.random.split(key)
        chosen = jax.random.permutation(key_sites, jnp.asarray(sites, dtype=float))[: self.particles]
        noise = 0.03 * jax.random.normal(key_noise, chosen.shape)
        return self.space.wrap((chosen + 0.5 + noise) * (self.length / side))

    def observables(self):
        return {"energy per particle": Observable(lambda x: self.energy(x) / self.particles, "U / N")}

    # Exact truths of a few particles ----------------------------------------------------------------------------------
    def _few(self) -> FewParticles:
        if not self.knows("log_z"):
            raise UnknownTruthError(
                f"exact numbers are known for two or three particles in the plane; this is {self.particles} in "
                f"{self.dimension} dimensions"
            )
        kinds = self.species
        pairs = [(0, 1)] if self.particles == 2 else [(0, 1), (0, 2), (1, 2)]

        def potential(i, j):
            epsilon, sigma = self.pair.epsilon[kinds[i], kinds[j]], self.pair.sigma[kinds[i], kinds[j]]
            return lambda step: self.pair.energy(self.squared_distances(jnp.zeros_like(step), step), epsilon, sigma)

        return FewParticles(tuple(potential(i, j) for i, j in pairs), self.length)

    def knows(self, truth):
        few = self.particles <= 3 and self.dimension == 2
        return few if truth in ("log_z", "sample") else super().knows(truth)

    def exact(self, beta: float) -> ExactMoments:
        """log Z, <U> and c_V of two or three particles. Raises ``UnknownTruthError`` for more."""
        return self._few().moments(float(beta))

    def log_z(self, beta):
        return self.exact(beta).log_z

    def sample(self, key, beta):
        return self._few().draw(key, beta)


def ternary_liquid(count: int = 43) -> Liquid:
    """The two-dimensional ternary Kob-Andersen liquid at N = 43 n (20 : 11 : 12, density 1.19207...) or 44 (20, 12, 12; 1.194).

    epsilon 1, 1.5, 0.75 / 0.5, 1.5 / 0.75 and sigma 1, 0.8, 0.9 / 0.88, 0.8 / 0.94 for the pairs 11, 12, 13 / 22, 23 / 33;
    smooth cutoff at 2.5 sigma. Source: the system of arXiv 2404.09914; parameters as in the public code ParticlesMC.
    """
    if count != 44 and (count < 43 or count % 43):
        raise InvalidArgumentError(f"count must be 44 or a multiple of 43 (43, 86, 172, 1290); found {count}")
    counts = (20, 12, 12) if count == 44 else tuple(count // 43 * share for share in (20, 11, 12))
    density = 1.194 if count == 44 else 1.1920748468939728
    return Liquid(TERNARY, counts, math.sqrt(count / density))


def few_particles(count: int = 3) -> Liquid:
    """Two or three particles of the ternary liquid (species 1, 2, 3) in the box of 43: everything exact."""
    if count not in (2, 3):
        raise InvalidArgumentError(f"count must be 2 or 3; found {count}")
    counts = (1, 1, 0) if count == 2 else (1, 1, 1)
    return Liquid(TERNARY, counts, math.sqrt(43 / 1.1920748468939728))


def kob_andersen(count: int = 160) -> Liquid:
    """The three-dimensional binary Kob-Andersen mixture, 80 % A and 20 % B at density 1.2, cut and shifted at 2.5 sigma.

    epsilon 1, 1.5 / 0.5 and sigma 1, 0.8 / 0.88 for the pairs AA, AB / BB. The nearest image needs N >= 150.
    Source: Kob & Andersen, Phys. Rev. E 51, 4626 (1995).
    """
    if count % 5:
        raise InvalidArgumentError(f"count must be a multiple of 5, for 80 % A and 20 % B; found {count}")
    return Liquid(BINARY, (4 * count // 5, count // 5), (count / 1.2) ** (1 / 3), dimension=3)


TERNARY = LennardJonesMixture(
    [[1.0, 1.5, 0.75], [1.5, 0.5, 1.5], [0.75, 1.5, 0.75]],
    [[1.0, 0.8, 0.9], [0.8, 0.88, 0.8], [0.9, 0.8, 0.94]],
)
BINARY = LennardJonesMixture([[1.0, 1.5], [1.5, 0.5]], [[1.0, 0.8], [0.8, 0.88]], smooth=False)
