"""The standard halo model: Maxwellian velocities cut at the escape speed, seen from the moving Earth.

    f_gal(u) ~ exp(-u^2 / v0^2) for |u| < v_esc,    N = erf z - 2 z e^(-z^2) / sqrt(pi),   z = v_esc / v0

Speeds in km/s, densities in GeV/cm^3. Recommended values of arXiv 2105.00599 are the defaults.
"""

import dataclasses
import math

import numpy as np
from scipy.special import erf

from heatbath.errors import InvalidArgumentError

#: Peculiar velocity of the Sun in Galactic coordinates, km/s (arXiv 2105.00599).
SOLAR_PECULIAR = np.array([11.1, 12.2, 7.3])
_ORBIT_SPEED = 29.8
_ORBIT_DIRECTIONS = np.array([[0.9931, 0.1170, -0.01032], [-0.0670, 0.4927, -0.8676]])
_EQUINOX = 79.0  # days from 1 January to 21 March


def earth_velocity(day: float | np.ndarray, v0: float = 238.0) -> np.ndarray:
    """Velocity of the Earth in the Galactic frame, shape (..., 3), on a ``day`` of the year (1 January is 0).

    Rotation of the local standard of rest (v0 along y), the Sun's peculiar velocity, and a circular orbit (arXiv 1209.3339).
    """
    phase = 2 * np.pi * (np.asarray(day, dtype=float) - _EQUINOX) / 365.25
    turning = np.stack([np.cos(phase), np.sin(phase)], axis=-1) @ _ORBIT_DIRECTIONS
    return np.array([0.0, v0, 0.0]) + SOLAR_PECULIAR + _ORBIT_SPEED * turning


@dataclasses.dataclass(frozen=True)
class StandardHalo:
    """``v0`` most probable speed, ``v_esc`` escape speed, ``earth_speed`` (252.1 is the mean of ``earth_velocity``
    over a year), all km/s; ``density`` in GeV/cm^3.

    Raises ``InvalidArgumentError`` unless all are positive and the Earth is slower than the escape speed.
    """

    v0: float = 238.0
    v_esc: float = 544.0
    earth_speed: float = 252.1
    density: float = 0.3

    def __post_init__(self):
        for name in ("v0", "v_esc", "earth_speed", "density"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidArgumentError(f"{name} must be positive and finite; found {getattr(self, name)}")
        if self.earth_speed >= self.v_esc:
            raise InvalidArgumentError(
                f"the Earth must be slower than the escape speed; found {self.earth_speed} and {self.v_esc} km/s"
            )

    @property
    def largest_speed(self) -> float:
        """v_esc + earth_speed: nothing in the halo is faster in the detector."""
        return self.v_esc + self.earth_speed

    @property
    def normalisation(self) -> float:
        """N: the share of the Maxwellian below the escape speed."""
        z = self.v_esc / self.v0
        return float(erf(z)) - 2 * z * math.exp(-(z**2)) / math.sqrt(math.pi)

    def speed_density(self, v: np.ndarray | np.floating | float) -> np.ndarray:
        """f(v) of speeds in the detector, per km/s; integrates to one."""
        v, ve, v0 = np.asarray(v, dtype=float), self.earth_speed, self.v0
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = np.clip((self.v_esc**2 - v**2 - ve**2) / (2 * v * ve), -1.0, 1.0)
        cosine = np.where(v > 0, cosine, 1.0)
        spread = np.exp(-(((v - ve) / v0) ** 2)) - np.exp(-((v**2 + ve**2 + 2 * v * ve * cosine) / v0**2))
        inside = (v >= 0) & (v < self.largest_speed)
        return np.where(inside, v / (math.sqrt(math.pi) * v0 * ve * self.normalisation) * spread, 0.0)

    def inverse_speed(self, smallest: np.ndarray | np.floating | float) -> np.ndarray | np.floating:
        """eta(v_min) = int_{v > v_min} f(v) / v dv in s/km, in closed form."""
        x, y, z = np.asarray(smallest, dtype=float) / self.v0, self.earth_speed / self.v0, self.v_esc / self.v0
        tail = 2 * math.exp(-(z**2)) / math.sqrt(math.pi)
        near = erf(x + y) - erf(x - y) - 2 * y * tail
        far = erf(z) - erf(x - y) - (y + z - x) * tail
        value = np.where(x < z - y, near, np.where(x < z + y, far, 0.0))
        return np.maximum(value, 0.0) / (2 * y * self.v0 * self.normalisation)

    def sample_galactic(self, random: np.random.Generator, count: int) -> np.ndarray:
        """(count, 3) velocities in the Galactic frame, by rejection at the escape speed."""
        found = np.empty((0, 3))
        while len(found) < count:
            drawn = random.normal(scale=self.v0 / math.sqrt(2), size=(int(1.2 * count) + 16, 3))
            found = np.concatenate([found, drawn[np.sum(drawn**2, axis=1) < self.v_esc**2]])
        return found[:count]
