"""Do independent draws follow the Boltzmann distribution? A goodness-of-fit test that answers in standard deviations."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import stats

from heatbath.errors import InvalidArgumentError


@dataclasses.dataclass(frozen=True)
class Stationarity:
    """Pearson's chi^2 over ``bins`` cells of equal probability, and the same as a normal deviate.

    ``sigmas`` is the deviate of the same tail probability (Wilson & Hilferty), so a true law is within +-3 in 99.7 % of cases;
    ``distance`` is the Kolmogorov-Smirnov distance.
    """

    chi_squared: float
    bins: int
    sigmas: float
    distance: float


def stationarity(
    draws: Float[np.ndarray, " n"], cdf: Callable[[np.ndarray], np.ndarray], bins: int = 40
) -> Stationarity:
    """Compare independent one-dimensional ``draws`` with a distribution function.

    Raises ``InvalidArgumentError`` with fewer than five draws per bin, or draws that are not finite.
    """
    draws = np.asarray(draws, float).reshape(-1)
    if not np.isfinite(draws).all():
        raise InvalidArgumentError(f"{int((~np.isfinite(draws)).sum())} of {draws.size} draws are not finite")
    if bins < 2 or draws.size < 5 * bins:
        raise InvalidArgumentError(f"{bins} bins need at least {5 * bins} independent draws; found {draws.size}")
    levels = np.sort(np.asarray(cdf(draws), float))
    observed = np.histogram(levels, np.linspace(0, 1, bins + 1))[0]
    expected = draws.size / bins
    chi_squared = float(((observed - expected) ** 2).sum() / expected)
    freedom = bins - 1
    spread = 2 / (9 * freedom)
    sigmas = ((chi_squared / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread)
    distance = float(stats.kstest(levels, "uniform").statistic)
    return Stationarity(chi_squared, bins, float(sigmas), distance)


def boltzmann_cdf(
    u: Callable[[np.ndarray], np.ndarray], low: float, high: float, points: int = 20_001
) -> Callable[[np.ndarray], np.ndarray]:
    """The distribution function of exp(-u) on [low, high] by the trapezoidal rule; ``u`` acts on arrays."""
    grid = np.linspace(low, high, points)
    energies = np.asarray(u(grid), float)
    density = np.exp(energies.min() - energies)
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return lambda x: np.interp(x, grid, mass / mass[-1])
