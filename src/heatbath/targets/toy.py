"""Small continuous targets whose exact answers are known: what every sampler is tested on.

Normal ones (``Gaussian``, ``HarmonicOscillators``), multimodal ones (``DoubleWell``, ``ManyWell``, ``MuellerBrown``, and the
mixtures of ``mixtures.py``) and one with strongly varying scales (``Funnel``). Energies are in reduced units.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import Euclidean
from heatbath.targets import quadrature
from heatbath.targets.base import Observable, Target
from heatbath.targets.coordinates import Coordinate, first_axes
from heatbath.targets.mixtures import GaussianMixture, unequal_mixture

__all__ = [
    "DoubleWell",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "HarmonicOscillators",
    "ManyWell",
    "MuellerBrown",
    "mean_energy",
    "unequal_mixture",
]


def mean_energy(target: Target, beta: float) -> float:
    """<U> = -d log Z / d beta of a target that knows its log Z, by a five-point difference (relative error about 1e-9)."""
    h = 2e-3 * float(beta)
    near = target.log_z(beta + h) - target.log_z(beta - h)
    far = target.log_z(beta + 2 * h) - target.log_z(beta - 2 * h)
    return -(8 * near - far) / (12 * h)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgumentError(f"{name} must be positive and finite; found {value}")
    return float(value)


# One mode -----------------------------------------------------------------------------------------------------------


class Gaussian(Target):
    """U(x) = (x - m)^T C^-1 (x - m) / 2, so that at beta the covariance is C / beta.

    mean (d,), covariance (d, d) or (d,) for a diagonal one. Truths: ``log_z`` and ``sample`` at every beta > 0; ``mean`` by
    quadrature for d <= 2. Raises ``InvalidArgumentError`` when C is not positive definite.
    """

    space: Euclidean
    centre: Float[Array, " d"]
    cholesky: Float[Array, "d d"]
    whitening: Float[Array, "d d"]

    def __init__(self, mean, covariance):
        mean, covariance = np.atleast_1d(np.asarray(mean, dtype=np.float64)), np.asarray(covariance, dtype=np.float64)
        covariance = np.diag(covariance) if covariance.ndim == 1 else np.atleast_2d(covariance)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise InvalidArgumentError(
                f"a Gaussian takes a mean (d,) and a covariance (d, d); found {mean.shape} and {covariance.shape}"
            )
        try:
            cholesky = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError as error:
            raise InvalidArgumentError("the covariance of a Gaussian must be positive definite") from error
        self.space = Euclidean(mean.shape)
        self.centre = jnp.asarray(mean, dtype=float)
        self.cholesky = jnp.asarray(cholesky, dtype=float)
        self.whitening = jnp.asarray(np.linalg.inv(cholesky), dtype=float)

    def energy(self, x):
        return 0.5 * jnp.sum((self.whitening.astype(x.dtype) @ (x - self.centre.astype(x.dtype))) ** 2)

    def observables(self):
        return first_axes(self.centre.shape[0])

    def log_z(self, beta):
        log_det = 2.0 * np.sum(np.log(np.diag(np.asarray(self.cholesky, dtype=np.float64))))
        return float(0.5 * self.centre.shape[0] * math.log(2 * math.pi / beta) + 0.5 * log_det)

    def sample(self, key, beta):
        return self._from_normal(jax.random.normal(key, self.space.shape, dtype=self.centre.dtype), beta)

    def mean(self, observable, beta):
        return _normal_mean(lambda z: observable(self._from_normal(z, beta)), self.space.shape[0])

    def knows(self, truth):
        return self.space.shape[0] <= 2 if truth == "mean" else super().knows(truth)

    def _from_normal(self, z, beta):
        return self.centre + self.cholesky @ z / jnp.sqrt(beta)


class HarmonicOscillators(Target):
    """Independent oscillators, U(x) = sum_i k_i x_i^2 / 2, with masses: the fixed point of tests of dynamics.

    stiffness (d,), masses (d,) or a number. At beta, <U> = d / (2 beta) and <x_i^2> = 1 / (beta k_i); the angular frequencies
    are sqrt(k_i / m_i). Truths: ``log_z`` and ``sample`` at every beta > 0; ``mean`` by quadrature for d <= 2.
    """

    space: Euclidean
    stiffness: Float[Array, " d"]
    _masses: Float[Array, " d"]

    def __init__(self, stiffness=(1.0, 4.0, 25.0), masses=1.0):
        stiffness = np.atleast_1d(np.asarray(stiffness, dtype=np.float64))
        masses = np.broadcast_to(np.asarray(masses, dtype=np.float64), stiffness.shape)
        if stiffness.ndim != 1 or not ((stiffness > 0).all() and (masses > 0).all()):
            raise InvalidArgumentError(
                f"oscillators take positive stiffness (d,) and masses; found {stiffness.tolist()} and {masses.tolist()}"
            )
        self.space = Euclidean(stiffness.shape)
        self.stiffness = jnp.asarray(stiffness, dtype=float)
        self._masses = jnp.asarray(masses, dtype=float)

    @property
    def masses(self):
        return self._masses

    def energy(self, x):
        return 0.5 * jnp.sum(self.stiffness.astype(x.dtype) * x**2)

    def observables(self):
        return first_axes(self.stiffness.shape[0])

    def log_z(self, beta):
        return float(0.5 * np.sum(np.log(2 * np.pi / (beta * np.asarray(self.stiffness, dtype=np.float64)))))

    def sample(self, key, beta):
        return self._from_normal(jax.random.normal(key, self.space.shape, dtype=self.stiffness.dtype), beta)

    def mean(self, observable, beta):
        return _normal_mean(lambda z: observable(self._from_normal(z, beta)), self.space.shape[0])

    def knows(self, truth):
        return self.space.shape[0] <= 2 if truth == "mean" else super().knows(truth)

    def _from_normal(self, z, beta):
        return z / jnp.sqrt(beta * self.stiffness)


class Funnel(Target):
    """Neal's funnel, whose width varies by orders of magnitude: v ~ N(0, s^2), x_i ~ N(0, e^v).

    U(v, x) = v^2 / (2 s^2) + (d - 1) v / 2 + e^-v sum_i x_i^2 / 2 with v the first coordinate and s = 3 (Neal 2003,
    Ann. Stat. 31, 705). At beta, v is normal with mean s^2 (d - 1)(1 - beta) / (2 beta) and variance s^2 / beta, and
    x_i ~ N(0, e^v / beta): ``log_z`` and ``sample`` are exact at every beta > 0; ``mean`` by quadrature for d = 2.
    """

    space: Euclidean
    scale: float

    def __init__(self, dimension: int = 10, scale: float = 3.0):
        if dimension < 2:
            raise InvalidArgumentError(f"a funnel needs at least two dimensions; found {dimension}")
        self.space = Euclidean((dimension,))
        self.scale = _positive("the scale of a funnel", scale)

    def energy(self, x):
        v, rest = x[0], x[1:]
        return v**2 / (2 * self.scale**2) + 0.5 * rest.shape[0] * v + 0.5 * jnp.exp(-v) * jnp.sum(rest**2)

    def observables(self):
        return {"v": Observable(Coordinate(0), "v"), "x": Observable(Coordinate(1), "x")}

    def basins(self):
        return {"neck": lambda x: x[0] < 0, "mouth": lambda x: x[0] >= 0}

    def log_z(self, beta):
        others, variance = self.space.shape[0] - 1, self.scale**2 / beta
        slope = 0.5 * others * (1.0 - beta)
        return float(
            0.5 * others * math.log(2 * math.pi / beta)
            + 0.5 * math.log(2 * math.pi * variance)
            + 0.5 * variance * slope**2
        )

    def sample(self, key, beta):
        return self._from_normal(jax.random.normal(key, self.space.shape), beta)

    def mean(self, observable, beta):
        return _normal_mean(lambda z: observable(self._from_normal(z, beta)), self.space.shape[0])

    def knows(self, truth):
        return self.space.shape[0] == 2 if truth == "mean" else super().knows(truth)

    def _from_normal(self, z, beta):
        others, variance = self.space.shape[0] - 1, self.scale**2 / beta
        v = 0.5 * variance * others * (1.0 - beta) + jnp.sqrt(variance) * z[0]
        return jnp.concatenate([v[None], z[1:] * jnp.exp(0.5 * v) / jnp.sqrt(beta)])


def _normal_mean(function, dimension: int) -> float:
    """Mean of a function of standard normals, by quadrature in one or two dimensions."""
    if dimension > 2:
        raise UnknownTruthError(f"means are known by quadrature in one and two dimensions; this target has {dimension}")
    edge = np.full(dimension, math.sqrt(2 * quadrature.EDGE))
    return quadrature.mean(_half_square, function, 1.0, -edge, edge)


def _half_square(z):
    return 0.5 * jnp.sum(z**2)


# Several modes ------------------------------------------------------------------------------------------------------


def _quartic(x, barrier, tilt, half_distance):
    return barrier * ((x / half_distance) ** 2 - 1.0) ** 2 + tilt * x


def _quartic_reach(beta, barrier, tilt, half_distance):
    """|x| beyond which beta (U - U_min) exceeds ``quadrature.EDGE``."""
    quartic = barrier / half_distance**4
    return half_distance + (quadrature.EDGE / (beta * quartic)) ** 0.25 + (abs(tilt) / quartic) ** (1 / 3)


class DoubleWell(Target):
    """U(x) = b ((x_1 / s)^2 - 1)^2 + t x_1 + (k / 2) sum_{i > 1} x_i^2: two wells near -s and s, the left one deeper for t > 0.

    barrier b, tilt t, half_distance s, stiffness k of the other coordinates, ``dimension`` of them all. Truths: ``log_z`` (1-D
    quadrature) and ``sample`` (rejection, exact) at every beta > 0; ``mean`` by quadrature up to two dimensions and
    ``marginal_mean`` of functions of x_1 in any.
    """

    space: Euclidean
    barrier: float
    tilt: float
    half_distance: float
    stiffness: float

    def __init__(
        self,
        barrier: float = 5.0,
        tilt: float = 0.5,
        dimension: int = 1,
        half_distance: float = 1.0,
        stiffness: float = 1.0,
    ):
        if dimension < 1:
            raise InvalidArgumentError(f"a double well needs at least one dimension; found {dimension}")
        self.space = Euclidean((dimension,))
        self.barrier = _positive("barrier", barrier)
        self.tilt = float(tilt)
        self.half_distance = _positive("half_distance", half_distance)
        self.stiffness = _positive("stiffness", stiffness)

    def energy(self, x):
        well = _quartic(x[0], self.barrier, self.tilt, self.half_distance)
        return well + 0.5 * self.stiffness * jnp.sum(x[1:] ** 2)

    def initial(self, key):
        """Near one of the two minima, by the toss of a coin."""
        side_key, place_key = jax.random.split(key)
        side = jax.random.rademacher(side_key, (), dtype=float)
        return (0.1 * self.space.random(place_key)).at[0].add(side * self.half_distance)

    def observables(self):
        edge = 2.0 * self.half_distance
        return first_axes(self.space.shape[0], ((-edge, edge), None))

    def basins(self):
        return {"left": _left, "right": _right}

    def log_z(self, beta):
        others = self.space.shape[0] - 1
        return self._well_log_z(beta) + 0.5 * others * math.log(2 * math.pi / (beta * self.stiffness))

    def sample(self, key, beta):
        well_key, rest_key = jax.random.split(key)
        rest = jax.random.normal(rest_key, (self.space.shape[0] - 1,)) / jnp.sqrt(beta * self.stiffness)
        return jnp.concatenate([self._envelope(beta).draw(well_key), rest])

    def mean(self, observable, beta):
        if self.space.shape[0] > 2:
            raise UnknownTruthError("means are known in one and two dimensions; use marginal_mean for functions of x_1")
        reach = np.full(self.space.shape, self._reach(beta))
        reach[1:] = math.sqrt(2 * quadrature.EDGE / (beta * self.stiffness))
        return quadrature.mean(self.energy, observable, beta, -reach, reach)

    def marginal_mean(self, function, beta) -> float:
        """The exact mean of ``function(x_1)``."""
        reach = np.array([self._reach(beta)])
        return quadrature.mean(self._well, lambda x: function(x[0]), beta, -reach, reach)

    def knows(self, truth):
        return self.space.shape[0] <= 2 if truth == "mean" else super().knows(truth)

    def _well(self, x):
        return _quartic(x[0], self.barrier, self.tilt, self.half_distance)

    def _reach(self, beta):
        return _quartic_reach(beta, self.barrier, self.tilt, self.half_distance)

    def _well_log_z(self, beta) -> float:
        reach = np.array([self._reach(beta)])
        return quadrature.log_integral(self._well, beta, -reach, reach)

    def _envelope(self, beta):
        reach = jnp.atleast_1d(jnp.asarray(self._reach(beta), dtype=float))
        return quadrature.GridEnvelope(lambda x: -beta * self._well(x), -reach, reach, cells=2048)


class ManyWell(Target):
    """A product of asymmetric double wells and harmonic coordinates: 2^wells modes with exact answers at every temperature.

    U(x) = sum_{i <= wells} [b ((x_i / s)^2 - 1)^2 + t x_i] + sum_{i > wells} x_i^2 / 2. The defaults give x^4 - 6 x^2 - x / 2 + 9
    per well, a common benchmark of learned samplers in 32 dimensions. Truths: ``log_z`` and ``sample`` at every beta > 0 in
    any dimension, ``marginal_mean`` of functions of one well's coordinate, ``mean`` by quadrature in one or two dimensions.
    """

    space: Euclidean
    wells: int
    barrier: float
    tilt: float
    half_distance: float

    def __init__(
        self,
        wells: int = 16,
        gaussians: int = 16,
        barrier: float = 9.0,
        tilt: float = -0.5,
        half_distance: float = math.sqrt(3.0),
    ):
        if wells < 1 or gaussians < 0:
            raise InvalidArgumentError(f"expected wells >= 1 and gaussians >= 0; found {wells} and {gaussians}")
        self.space = Euclidean((wells + gaussians,))
        self.wells = wells
        self.barrier = _positive("barrier", barrier)
        self.tilt = float(tilt)
        self.half_distance = _positive("half_distance", half_distance)

    def energy(self, x):
        wells = _quartic(x[: self.wells], self.barrier, self.tilt, self.half_distance)
        return jnp.sum(wells) + 0.5 * jnp.sum(x[self.wells :] ** 2)

    def observables(self):
        edge = 2.0 * self.half_distance
        return first_axes(self.space.shape[0], ((-edge, edge), (-edge, edge) if self.wells > 1 else None))

    def basins(self):
        return {"left": _left, "right": _right}

    def log_z(self, beta):
        gaussians = self.space.shape[0] - self.wells
        return self.wells * self._one_well()._well_log_z(beta) + 0.5 * gaussians * math.log(2 * math.pi / beta)

    def sample(self, key, beta):
        well_key, rest_key = jax.random.split(key)
        envelope = self._one_well()._envelope(beta)
        wells = jax.vmap(envelope.draw)(jax.random.split(well_key, self.wells))[:, 0]
        rest = jax.random.normal(rest_key, (self.space.shape[0] - self.wells,)) / jnp.sqrt(beta)
        return jnp.concatenate([wells, rest])

    def mean(self, observable, beta):
        if self.space.shape[0] > 2:
            raise UnknownTruthError("means are known in one and two dimensions; use marginal_mean for functions of x_1")
        reach = np.full(self.space.shape, self._one_well()._reach(beta))
        reach[self.wells :] = math.sqrt(2 * quadrature.EDGE / beta)
        return quadrature.mean(self.energy, observable, beta, -reach, reach)

    def marginal_mean(self, function, beta) -> float:
        """The exact mean of ``function(x_i)`` for any one well."""
        return self._one_well().marginal_mean(function, beta)

    def knows(self, truth):
        return self.space.shape[0] <= 2 if truth == "mean" else super().knows(truth)

    def _one_well(self) -> DoubleWell:
        return DoubleWell(self.barrier, self.tilt, 1, self.half_distance)


def _left(x):
    return x[0] < 0


def _right(x):
    return x[0] >= 0


class MuellerBrown(Target):
    """The Mueller-Brown surface: three minima joined by a bent valley (Mueller & Brown 1979, Theor. Chim. Acta 53, 75).

    U(x, y) = scale * sum_i A_i exp[a_i (x - x_i)^2 + b_i (x - x_i)(y - y_i) + c_i (y - y_i)^2] with the published parameters.
    Minima -146.7, -108.2 and -80.8 at (-0.558, 1.442), (0.623, 0.028), (-0.050, 0.467); saddles -40.7 and -72.2. At kT = 15 the
    barrier out of the deepest minimum is 7 kT. Truths at every beta > 0: ``log_z`` and ``mean`` by 2-D quadrature, ``sample``
    exactly by rejection.
    """

    space: Euclidean
    scale: float

    def __init__(self, scale: float = 1.0):
        self.space = Euclidean((2,))
        self.scale = _positive("scale", scale)

    def energy(self, x):
        dx, dy = x[0] - _MB_X.astype(x.dtype), x[1] - _MB_Y.astype(x.dtype)
        exponents = _MB_QUADRATIC[0].astype(x.dtype) * dx**2
        exponents += _MB_QUADRATIC[1].astype(x.dtype) * dx * dy + _MB_QUADRATIC[2].astype(x.dtype) * dy**2
        return self.scale * jnp.sum(_MB_AMPLITUDE.astype(x.dtype) * jnp.exp(exponents))

    def initial(self, key):
        """Near the middle of the valley, within reach of all minima."""
        return jnp.asarray([-0.05, 0.467]) + 0.05 * jax.random.normal(key, (2,))

    def observables(self):
        return first_axes(2, ((-1.6, 1.2), (-0.4, 2.0)))

    def basins(self):
        """Split by y - x at its value on the two saddles."""
        return {"upper": _upper_minimum, "middle": _middle_minimum, "lower": _lower_minimum}

    def log_z(self, beta):
        return quadrature.log_integral(self.energy, beta, *self._box(beta))

    def mean(self, observable, beta):
        return quadrature.mean(self.energy, observable, beta, *self._box(beta))

    def sample(self, key, beta):
        centre, reach = self._centre(), self._reach(beta)
        envelope = quadrature.GridEnvelope(lambda x: -beta * self.energy(x), centre - reach, centre + reach, cells=512)
        return envelope.draw(key)

    def _box(self, beta):
        centre, reach = self._centre(), float(self._reach(float(beta)))
        return centre - reach, centre + reach

    @staticmethod
    def _centre():
        return np.array([_MB_X[3], _MB_Y[3]])

    def _reach(self, beta):
        """Radius around the centre of the confining term beyond which beta (U - U_min) exceeds ``quadrature.EDGE``.

        The confining term is at least 15 exp(0.4 r^2); the other three lower the energy by no more than 470.
        """
        return jnp.sqrt(2.5 * jnp.log((quadrature.EDGE / (beta * self.scale) + 470.0) / 15.0))


_MB_AMPLITUDE = np.array([-200.0, -100.0, -170.0, 15.0])
_MB_QUADRATIC = np.array([[-1.0, -1.0, -6.5, 0.7], [0.0, 0.0, 11.0, 0.6], [-10.0, -10.0, -6.5, 0.7]])
_MB_X = np.array([1.0, 0.0, -0.5, -1.0])
_MB_Y = np.array([0.0, 0.5, 1.5, 1.0])
#: y - x at the saddles (-0.822001, 0.624312) and (0.212486, 0.292988)
_MB_UPPER, _MB_LOWER = 1.446314, 0.080502


def _upper_minimum(x):
    return x[1] - x[0] >= _MB_UPPER


def _middle_minimum(x):
    return (x[1] - x[0] < _MB_UPPER) & (x[1] - x[0] >= _MB_LOWER)


def _lower_minimum(x):
    return x[1] - x[0] < _MB_LOWER
