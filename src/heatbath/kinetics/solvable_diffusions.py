"""Position-dependent diffusions that are solved exactly: stationary laws, relaxation rates, and a transition density.

Each has a reduced energy u(x), a coefficient D(x) and the rates at which it relaxes. ``u`` and ``diffusivity`` act on one
configuration of shape (1,), as ``DiffusionModel`` asks.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar
from scipy import stats

from heatbath.errors import InvalidArgumentError


class SolvableDiffusion(eqx.Module):
    """A pair (u, D) in one dimension with known relaxation."""

    @property
    @abc.abstractmethod
    def domain(self) -> tuple[float, float]:
        """Where the process lives."""

    @abc.abstractmethod
    def u(self, x: Float[Array, "1"]) -> Scalar:
        """Reduced energy."""

    @abc.abstractmethod
    def diffusivity(self, x: Float[Array, "1"]) -> Scalar:
        """D(x)."""

    @abc.abstractmethod
    def rates(self, count: int) -> np.ndarray:
        """The ``count`` smallest relaxation rates, beginning with 0."""

    @abc.abstractmethod
    def cdf(self, x: Float[np.ndarray, "..."]) -> np.ndarray:
        """The stationary distribution function."""

    @abc.abstractmethod
    def mean_diffusivity(self) -> float:
        """<D>: minus the initial slope of <x(t) x(0)>, for any D."""


class WallGravity(SolvableDiffusion):
    """D = a z above a wall, u = z / l: a sphere close to contact that sinks under gravity. The Cox-Ingersoll-Ross process.

    Ito drift a (1 - z/l); stationary exp(-z/l) / l; rates n a / l; z(t) is c times a noncentral chi^2 with 2 degrees of freedom.
    """

    slope: float = 1.0
    length: float = 1.0

    def __check_init__(self):
        if not (self.slope > 0 and self.length > 0):
            raise InvalidArgumentError(f"slope and length are positive; found {self.slope} and {self.length}")

    @property
    def domain(self) -> tuple[float, float]:
        return 0.0, np.inf

    def u(self, x: Float[Array, "1"]) -> Scalar:
        return x[0] / self.length

    def diffusivity(self, x: Float[Array, "1"]) -> Scalar:
        return self.slope * x[0]

    def rates(self, count: int) -> np.ndarray:
        return np.arange(count) * self.slope / self.length

    def cdf(self, x: Float[np.ndarray, "..."]) -> np.ndarray:
        return -np.expm1(-np.maximum(x, 0.0) / self.length)

    def mean_diffusivity(self) -> float:
        return self.slope * self.length

    def transition_cdf(self, x: Float[np.ndarray, "..."], start: float, time: float) -> np.ndarray:
        """P(z(time) <= x | z(0) = start)."""
        decay = np.exp(-self.slope * time / self.length)
        scale = 0.5 * self.length * (1 - decay)
        return stats.ncx2.cdf(np.asarray(x) / scale, 2, start * decay / scale)


class StudentDiffusion(SolvableDiffusion):
    """D = D0 (1 + x^2), u = ((nu + 1)/2) ln(1 + x^2): a Student-like law whose noise grows with the distance.

    Ito drift -D0 (nu - 1) x, so <x(t) x(0)> decays as exp(-D0 (nu - 1) t) exactly; the other rates are
    D0 n (nu - n) for n < nu/2, below a continuum.
    """

    degrees: float = 5.0
    scale: float = 1.0

    def __check_init__(self):
        if not (self.degrees > 2 and self.scale > 0):
            raise InvalidArgumentError(f"degrees exceed 2 and scale 0; found {self.degrees} and {self.scale}")

    @property
    def domain(self) -> tuple[float, float]:
        return -np.inf, np.inf

    def u(self, x: Float[Array, "1"]) -> Scalar:
        return 0.5 * (self.degrees + 1) * jnp.log1p(x[0] ** 2)

    def diffusivity(self, x: Float[Array, "1"]) -> Scalar:
        return self.scale * (1 + x[0] ** 2)

    def rates(self, count: int) -> np.ndarray:
        n = np.arange(count)
        if 2 * (count - 1) >= self.degrees:
            raise InvalidArgumentError(f"only rates with n < {self.degrees / 2:.3g} are discrete; asked for {count}")
        return self.scale * n * (self.degrees - n)

    def cdf(self, x: Float[np.ndarray, "..."]) -> np.ndarray:
        return stats.t.cdf(np.asarray(x) * np.sqrt(self.degrees), self.degrees)

    def mean_diffusivity(self) -> float:
        return self.scale * (self.degrees - 1) / (self.degrees - 2)


class LegendreDiffusion(SolvableDiffusion):
    """D = D0 (1 - x^2) on (-1, 1) without a force: the height of a point that diffuses on a sphere. Rates D0 l (l + 1)."""

    scale: float = 1.0

    def __check_init__(self):
        if not self.scale > 0:
            raise InvalidArgumentError(f"scale is positive; found {self.scale}")

    @property
    def domain(self) -> tuple[float, float]:
        return -1.0, 1.0

    def u(self, x: Float[Array, "1"]) -> Scalar:
        return 0.0 * x[0]

    def diffusivity(self, x: Float[Array, "1"]) -> Scalar:
        return self.scale * (1 - x[0] ** 2)

    def rates(self, count: int) -> np.ndarray:
        n = np.arange(count)
        return self.scale * n * (n + 1.0)

    def cdf(self, x: Float[np.ndarray, "..."]) -> np.ndarray:
        return np.clip(0.5 * (1 + np.asarray(x)), 0.0, 1.0)

    def mean_diffusivity(self) -> float:
        return self.scale * 2 / 3
