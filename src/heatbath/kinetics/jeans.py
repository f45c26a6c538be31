"""The Jeans instability of a uniform Maxwellian: dispersion relation, exact linear modes, and states to start from.

    f0 = rho0 (2 pi sigma^2)^(-1/2) exp(-v^2 / 2 sigma^2),    k_J^2 = 4 pi G rho0 / sigma^2

A wave e^(ikx) grows as e^(Gamma t) where, with b = Gamma / (sqrt(2) k sigma),

    k^2 / k_J^2 = 1 - sqrt(pi) b e^(b^2) erfc(b),

which has one real root: growth below k_J, damping above (continued to b < 0). Units are those of the grid.
"""

import dataclasses
import math

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.phase_grid import PhaseGrid


@dataclasses.dataclass(frozen=True)
class Maxwellian:
    """Mean density ``rho``, velocity dispersion ``sigma`` and ``strength`` = 4 pi G."""

    sigma: float
    rho: float = 1.0
    strength: float = 1.0

    def __post_init__(self):
        for name in ("sigma", "rho"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidArgumentError(f"{name} must be positive and finite; found {getattr(self, name)}")

    @staticmethod
    def with_ratio(ratio: float, length: float = 1.0, rho: float = 1.0, strength: float = 1.0) -> "Maxwellian":
        """The Maxwellian for which the longest wave of a box has k / k_J = ``ratio``."""
        if not (math.isfinite(ratio) and ratio > 0):
            raise InvalidArgumentError(f"k / k_J must be positive and finite; found {ratio}")
        return Maxwellian(math.sqrt(strength * rho) * ratio * length / (2 * math.pi), rho, strength)

    @property
    def jeans_wave_number(self) -> float:
        """k_J, in radians per length."""
        return math.sqrt(self.strength * self.rho) / self.sigma

    def profile(self, v: np.ndarray) -> np.ndarray:
        """f0(v) / rho along one velocity."""
        return np.exp(-0.5 * (v / self.sigma) ** 2) / (math.sqrt(2 * math.pi) * self.sigma)

    def growth_rate(self, k: float) -> float:
        """Gamma of a wave with wave number ``k`` (radians per length); negative above k_J. Root of the dispersion relation."""
        from scipy.optimize import brentq
        from scipy.special import erfcx

        ratio = (k / self.jeans_wave_number) ** 2

        def excess(b: float) -> float:
            return 1.0 - math.sqrt(math.pi) * b * float(erfcx(b)) - ratio

        high = 1.0
        while excess(high) > 0:
            high *= 2.0
        root = float(brentq(excess, -20.0, high, xtol=1e-14, rtol=1e-14))  # pyright: ignore[reportArgumentType]
        return math.sqrt(2.0) * k * self.sigma * root


def perturbed(grid: PhaseGrid, gas: Maxwellian, amplitude: float, mode: int = 1) -> np.ndarray:
    """f0(v) (1 + amplitude cos kx): a product, cheap to prepare on qubits; its wave first sheds transients.

    In more dimensions every position axis carries the wave.
    """
    wave = 1.0 + amplitude * np.cos(2 * np.pi * mode * grid.x / grid.length)
    return gas.rho * grid.outer([wave] * grid.dimension + [gas.profile(grid.v)] * grid.dimension)


def eigenmode(grid: PhaseGrid, gas: Maxwellian, amplitude: float, mode: int = 1) -> np.ndarray:
    """f0 plus the growing linear mode with density amplitude ``amplitude`` rho; it grows as e^(Gamma t) from the start.

    Linearising with rho_1 = amplitude rho e^(ikx): a_1 = i 4 pi G rho_1 / k and f_1 = -a_1 f0'(v) / (Gamma + i k v).
    One dimension, k < k_J. Raises ``InvalidArgumentError`` for waves that do not grow.
    """
    k = 2 * math.pi * mode / grid.length
    rate = gas.growth_rate(k)
    if rate <= 0 or grid.dimension != 1:
        raise InvalidArgumentError(
            f"a growing mode needs one dimension and k < k_J; found k / k_J = {k / gas.jeans_wave_number:.3g}"
        )
    base = gas.rho * gas.profile(grid.v)
    pull = 1j * gas.strength * amplitude * gas.rho / k
    response = -pull * (-grid.v / gas.sigma**2 * base) / (rate + 1j * k * grid.v)
    return base[None, :] + np.real(np.exp(1j * k * grid.x)[:, None] * response[None, :])


def free_streaming(time: float | np.ndarray, k: float, sigma: float) -> np.ndarray | np.floating:
    """Density wave without gravity, over its start: e^(-(k sigma t)^2 / 2). On a grid it recurs at 2 pi / (k dv)."""
    return np.exp(-0.5 * (k * sigma * np.asarray(time)) ** 2)


def density_mode(rho: np.ndarray, mode: int = 1) -> complex:
    """rho_k / mean rho along the first axis: mean of rho e^(-ikx) over the mean of rho."""
    line = rho.reshape(len(rho), -1).mean(axis=1)
    wave = np.exp(-2j * np.pi * mode * np.arange(len(line)) / len(line))
    return complex(np.mean(line * wave) / np.mean(line))


def fitted_rate(times: np.ndarray, amplitudes: np.ndarray, window: tuple[float, float]) -> float:
    """Least-squares slope of log |amplitude| against time inside ``window``. Raises when fewer than three points lie in it."""
    inside = (times >= window[0]) & (times <= window[1])
    if inside.sum() < 3:
        raise InvalidArgumentError(f"a rate needs at least three times in {window}; found {int(inside.sum())}")
    return float(np.polyfit(times[inside], np.log(np.abs(amplitudes[inside])), 1)[0])
