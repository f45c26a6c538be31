"""Small clusters of identical particles in free space: double-well pairs (DW-4) and Lennard-Jones clusters (LJ-13, LJ-55).

The energies depend on differences of positions only, so that exp(-beta U) alone has no integral over the centre of mass. Two
conventions are common. Here the centre of mass is held by a harmonic term that does not touch the internal coordinates,
and any sampler on R^(n d) can be used; with ``centre_trap=0`` the energy is the bare one, for samplers that live in the
mean-free subspace. Then log Z(free) = log Z(mean-free) + d/2 log(2 pi / (beta centre_trap)).
"""

import abc
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import Euclidean
from heatbath.targets import quadrature
from heatbath.targets.base import Observable, Target


class Cluster(Target):
    """U(x) = sum_{i<j} phi(|x_i - x_j|) + (k/2) sum_i |x_i - c|^2 + (k_c/2) n |c|^2, with c the mean of the positions.

    x (n, d). ``trap`` is k, ``centre_trap`` is k_c. For two particles ``log_z`` is known by quadrature over their distance.
    """

    trap: eqx.AbstractVar[float]
    centre_trap: eqx.AbstractVar[float]

    @property
    @abc.abstractmethod
    def spacing(self) -> float:
        """A distance between neighbours at which the pair energy is low."""

    @abc.abstractmethod
    def pair_energy(self, squared_distance: Array) -> Array:
        """phi as a function of the squared distance."""

    def energy(self, x):
        centre = jnp.mean(x, axis=0)
        pairs = jnp.sum(self.pair_energy(self._squared_distances(x)))
        inner = 0.5 * self.trap * jnp.sum((x - centre) ** 2)
        return pairs + inner + 0.5 * self.centre_trap * x.shape[0] * jnp.sum(centre**2)

    def pair_distances(self, x):
        """(n (n - 1) / 2,) distances of all pairs."""
        return jnp.sqrt(self._squared_distances(x))

    def radius_of_gyration(self, x):
        """Root mean squared distance from the centre of mass."""
        return jnp.sqrt(jnp.mean(jnp.sum((x - jnp.mean(x, axis=0)) ** 2, axis=1)))

    def initial(self, key):
        """A compact piece of a cubic lattice with a little noise: no overlapping particles."""
        count, dimension = self.space.shape
        return self.spacing * (jnp.asarray(_compact_grid(count, dimension)) + 0.03 * self.space.random(key))

    def observables(self):
        return {
            "mean distance": Observable(lambda x: jnp.mean(self.pair_distances(x)), "mean distance"),
            "radius of gyration": Observable(self.radius_of_gyration, "radius of gyration"),
            "shortest distance": Observable(lambda x: jnp.min(self.pair_distances(x)), "shortest distance"),
            "energy": Observable(self.energy, "energy"),
        }

    def knows(self, truth):
        return self.space.shape[0] == 2 and self.centre_trap > 0 if truth == "log_z" else super().knows(truth)

    def log_z(self, beta):
        """For two particles: centre of mass (orthonormal coordinate) times an integral over the distance vector."""
        count, dimension = self.space.shape
        if not self.knows("log_z"):
            raise UnknownTruthError(f"log Z is known for two trapped particles, not for {count}; ask knows('log_z')")
        sphere = 2 * math.pi ** (0.5 * dimension) / math.gamma(0.5 * dimension)

        def radial(r):
            # (k/2) sum |x_i - c|^2 = (k/4) r^2; the Jacobian r^(d-1) enters as an energy at this beta.
            own = self.pair_energy(r[0] ** 2) + 0.25 * self.trap * r[0] ** 2
            return own - (dimension - 1) * jnp.log(r[0]) / beta

        reach = self._pair_reach(float(beta))
        inner = quadrature.log_integral(radial, beta, np.zeros(1), np.array([reach])) + math.log(sphere)
        # x_1 - x_2 = sqrt(2) times an orthonormal coordinate.
        inner -= 0.5 * dimension * math.log(2.0)
        return inner + 0.5 * dimension * math.log(2 * math.pi / (float(beta) * self.centre_trap))

    def _pair_reach(self, beta: float) -> float:
        """Distance beyond which the pair and trap energy exceeds ``quadrature.EDGE`` for good."""
        r = np.geomspace(0.05, 1e4, 4000) * self.spacing
        with jax.enable_x64(True):  # noqa: FBT003
            energy = np.asarray(self.pair_energy(jnp.asarray(r**2, dtype=jnp.float64))) + 0.25 * self.trap * r**2
        near = np.flatnonzero(beta * (energy - energy.min()) < quadrature.EDGE + 10.0)
        if near[-1] == len(r) - 1:
            raise UnknownTruthError("two particles without a trap fly apart: log Z does not exist")
        return float(r[near[-1] + 1])

    def _squared_distances(self, x):
        first, second = _pairs(x.shape[0])
        return jnp.sum((x[first] - x[second]) ** 2, axis=1)


class DoubleWellCluster(Cluster):
    """phi(r) = b (r - r_0)^2 + c (r - r_0)^4 between particles in the plane (Koehler, Klein & Noe 2020, arXiv 2006.02425).

    With b = -4, c = 0.9, r_0 = 4 and four particles it is DW-4; minima of phi at r_0 +- sqrt(-b / (2 c)), 2.51 and 5.49. In the
    literature the sum runs over unordered pairs at tau = 1 and configurations are mean-free.
    """

    space: Euclidean
    quadratic: float
    quartic: float
    distance: float
    trap: float
    centre_trap: float

    def __init__(
        self,
        count: int = 4,
        dimension: int = 2,
        quadratic: float = -4.0,
        quartic: float = 0.9,
        distance: float = 4.0,
        trap: float = 0.0,
        centre_trap: float = 1.0,
    ):
        self.space = Euclidean(_cluster_shape(count, dimension))
        if not (quartic > 0 and distance > 0):
            raise InvalidArgumentError(f"quartic and distance must be positive; found {quartic} and {distance}")
        self.quadratic, self.quartic, self.distance = float(quadratic), float(quartic), float(distance)
        self.trap, self.centre_trap = _traps(trap, centre_trap)

    @property
    def spacing(self) -> float:
        return self.distance - math.sqrt(max(-self.quadratic, 0.0) / (2 * self.quartic))

    def pair_energy(self, squared_distance):
        # The square root has no gradient at zero distance; shift it there by less than rounding.
        tiny = jnp.finfo(jnp.result_type(squared_distance)).tiny
        offset = jnp.sqrt(jnp.maximum(squared_distance, tiny)) - self.distance
        return self.quadratic * offset**2 + self.quartic * offset**4


class LennardJonesCluster(Cluster):
    """phi(r) = eps [(r_m / r)^12 - 2 (r_m / r)^6], depth eps at r_m, with a harmonic trap around the centre of mass.

    LJ-13 and LJ-55 of the generative-modelling literature: eps = 1, r_m = 1, trap 1, sum over unordered pairs, kT = 1. Some
    papers sum over ordered pairs, which doubles eps.
    """

    space: Euclidean
    depth: float
    distance: float
    trap: float
    centre_trap: float

    def __init__(
        self,
        count: int = 13,
        dimension: int = 3,
        depth: float = 1.0,
        distance: float = 1.0,
        trap: float = 1.0,
        centre_trap: float = 1.0,
    ):
        self.space = Euclidean(_cluster_shape(count, dimension))
        if not (depth > 0 and distance > 0):
            raise InvalidArgumentError(f"depth and distance must be positive; found {depth} and {distance}")
        self.depth, self.distance = float(depth), float(distance)
        self.trap, self.centre_trap = _traps(trap, centre_trap)

    @property
    def spacing(self) -> float:
        return self.distance

    def pair_energy(self, squared_distance):
        sixth = (self.distance**2 / squared_distance) ** 3
        return self.depth * sixth * (sixth - 2.0)


def dw4(centre_trap: float = 1.0) -> DoubleWellCluster:
    """Four particles in the plane with double-well pair energies."""
    return DoubleWellCluster(4, 2, centre_trap=centre_trap)


def lj13(centre_trap: float = 1.0, trap: float = 1.0) -> LennardJonesCluster:
    """Thirteen Lennard-Jones particles; the ground state without trap is the icosahedron with energy -44.3268."""
    return LennardJonesCluster(13, centre_trap=centre_trap, trap=trap)


def lj55(centre_trap: float = 1.0, trap: float = 1.0) -> LennardJonesCluster:
    """Fifty-five Lennard-Jones particles; the ground state without trap is the Mackay icosahedron with energy -279.2485."""
    return LennardJonesCluster(55, centre_trap=centre_trap, trap=trap)


def _cluster_shape(count: int, dimension: int) -> tuple[int, int]:
    if count < 2 or dimension < 1:
        raise InvalidArgumentError(
            f"a cluster needs two particles or more in one dimension or more; found {count}, {dimension}"
        )
    return count, dimension


def _traps(trap: float, centre_trap: float) -> tuple[float, float]:
    if not (trap >= 0 and centre_trap >= 0):
        raise InvalidArgumentError(f"traps must not be negative; found {trap} and {centre_trap}")
    return float(trap), float(centre_trap)


def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(count, k=1)


def _compact_grid(count: int, dimension: int) -> np.ndarray:
    """The ``count`` points of the integer lattice closest to the origin, centred."""
    side = 1
    while (2 * side + 1) ** dimension < 2 * count:
        side += 1
    points = np.array(list(itertools.product(range(-side, side + 1), repeat=dimension)), dtype=np.float64)
    nearest = points[np.argsort(np.sum(points**2, axis=1), kind="stable")[:count]]
    return nearest - nearest.mean(axis=0)
