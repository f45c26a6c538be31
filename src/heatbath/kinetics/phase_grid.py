"""The grid on phase space that classical solvers and quantum registers share."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from heatbath.errors import InvalidArgumentError


@dataclasses.dataclass(frozen=True)
class PhaseGrid:
    """``dimension`` periodic positions x in [0, length) and as many velocities v in [-speed_limit, speed_limit).

    Arrays have the shape (positions,)*dimension + (velocities,)*dimension. Points are x_j = j dx and v_k = -speed_limit + k dv,
    so that v = 0 is a point and every velocity is a multiple of dv. Raises ``InvalidArgumentError`` for sizes that are not even
    and positive, and lengths that are not positive.
    """

    positions: int
    velocities: int
    length: float = 1.0
    speed_limit: float = 1.0
    dimension: int = 1

    def __post_init__(self):
        for name in ("positions", "velocities"):
            value = getattr(self, name)
            if value < 2 or value % 2:
                raise InvalidArgumentError(f"{name} must be even and at least 2; found {value}")
        for name in ("length", "speed_limit"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidArgumentError(f"{name} must be positive and finite; found {getattr(self, name)}")
        if self.dimension not in (1, 2, 3):
            raise InvalidArgumentError(f"dimension must be 1, 2 or 3; found {self.dimension}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array of values."""
        return (self.positions,) * self.dimension + (self.velocities,) * self.dimension

    @property
    def position_axes(self) -> tuple[int, ...]:
        """Axes of the positions."""
        return tuple(range(self.dimension))

    @property
    def velocity_axes(self) -> tuple[int, ...]:
        """Axes of the velocities."""
        return tuple(range(self.dimension, 2 * self.dimension))

    @property
    def dx(self) -> float:
        """Spacing of positions."""
        return self.length / self.positions

    @property
    def dv(self) -> float:
        """Spacing of velocities."""
        return 2 * self.speed_limit / self.velocities

    @property
    def x(self) -> np.ndarray:
        """Positions along one axis."""
        return np.arange(self.positions) * self.dx

    @property
    def v(self) -> np.ndarray:
        """Velocities along one axis."""
        return -self.speed_limit + np.arange(self.velocities) * self.dv

    @property
    def cell(self) -> float:
        """Volume of a cell of phase space."""
        return (self.dx * self.dv) ** self.dimension

    @property
    def qubits(self) -> tuple[int, int]:
        """Qubits of one position register and of one velocity register. Raises when a size is not a power of two."""
        for name in ("positions", "velocities"):
            value = getattr(self, name)
            if value & (value - 1):
                raise InvalidArgumentError(
                    f"{name} must be a power of two to be held by qubits; found {value}. The nearest are "
                    f"{2 ** (value.bit_length() - 1)} and {2 ** value.bit_length()}"
                )
        return self.positions.bit_length() - 1, self.velocities.bit_length() - 1

    def along(self, values: np.ndarray, axis: int) -> np.ndarray:
        """A one-dimensional array as a factor that varies along ``axis`` of the grid."""
        shape = [1] * (2 * self.dimension)
        shape[axis] = len(values)
        return np.asarray(values).reshape(shape)

    def outer(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        """The product of one factor per axis, on the whole grid."""
        made = np.ones(self.shape)
        for axis, values in enumerate(factors):
            made = made * self.along(values, axis)
        return made


def wave_numbers(count: int) -> np.ndarray:
    """Integer frequencies of a discrete Fourier transform, the Nyquist frequency taken as -count/2."""
    return np.fft.fftfreq(count, 1.0 / count)
