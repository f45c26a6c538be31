"""The Fokker-Planck equation dP/dt = d/dx [D e^-u d/dx (e^u P)] on a line, by finite volumes: the truth to compare with.

The scheme is Scharfetter and Gummel's (Chang and Cooper's): rates between neighbouring cells obey detailed balance exactly, so
that the discrete Boltzmann distribution is stationary to rounding on any grid. Walls reflect.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

from heatbath.errors import InvalidArgumentError


@dataclasses.dataclass(frozen=True)
class FokkerPlanck:
    """Cells with ``edges`` (n + 1,) and centres (n,), reduced energies at the centres, D at the inner edges (n - 1,).

    ``up`` and ``down`` are the rates i -> i + 1 and i + 1 -> i: D / (width_i distance) B(u_{i+1} - u_i), B(x) = x / (e^x - 1).
    """

    edges: Float[np.ndarray, " edges"]
    centres: Float[np.ndarray, " cells"]
    energies: Float[np.ndarray, " cells"]
    up: Float[np.ndarray, " inner"]
    down: Float[np.ndarray, " inner"]

    @property
    def widths(self) -> np.ndarray:
        """Of the cells."""
        return np.diff(self.edges)

    @property
    def boltzmann(self) -> np.ndarray:
        """Stationary probability of every cell."""
        log_mass = np.log(self.widths) - self.energies
        mass = np.exp(log_mass - log_mass.max())
        return mass / mass.sum()

    def apply(self, probability: Float[np.ndarray, " cells"]) -> np.ndarray:
        """dP/dt of the cells' probabilities."""
        flux = self.up * probability[:-1] - self.down * probability[1:]
        return np.append(0.0, flux) - np.append(flux, 0.0)

    def eigenvalues(self, count: int) -> np.ndarray:
        """The ``count`` smallest relaxation rates, the first of which is zero."""
        leaving = np.append(self.up, 0.0) + np.append(0.0, self.down)
        beside = -np.sqrt(self.up * self.down)
        return scipy.linalg.eigh_tridiagonal(
            leaving, beside, eigvals_only=True, select="i", select_range=(0, count - 1)
        )

    def evolve(self, probability: Float[np.ndarray, " cells"], time: float, steps: int = 400) -> np.ndarray:
        """P(time) by ``steps`` implicit steps: four of Euler, then Crank and Nicolson."""
        n, dt = len(self.centres), time / steps
        p = np.asarray(probability, float)
        for index in range(steps):
            theta = 1.0 if index < 4 else 0.5  # implicit Euler damps what a rough start holds
            banded = np.zeros((3, n))
            banded[0, 1:] = -theta * dt * self.down
            banded[2, :-1] = -theta * dt * self.up
            banded[1] = 1 + theta * dt * (np.append(self.up, 0.0) + np.append(0.0, self.down))
            p = scipy.linalg.solve_banded((1, 1), banded, p + (1 - theta) * dt * self.apply(p))
        return p


def fokker_planck(
    u: Callable[[np.ndarray], np.ndarray], diffusivity: Callable[[np.ndarray], np.ndarray], edges: np.ndarray
) -> FokkerPlanck:
    """The equation on the cells between ``edges``; ``u`` and ``diffusivity`` act on arrays of positions.

    Raises ``InvalidArgumentError`` when the edges do not rise or D is not positive inside.
    """
    edges = np.asarray(edges, float)
    if edges.ndim != 1 or len(edges) < 3 or not (np.diff(edges) > 0).all():
        raise InvalidArgumentError("edges must rise and make at least two cells")
    centres = 0.5 * (edges[1:] + edges[:-1])
    inner = np.asarray(diffusivity(edges[1:-1]), float) * np.ones(len(edges) - 2)
    energies = np.asarray(u(centres), float)
    if not ((inner > 0).all() and np.isfinite(inner).all() and np.isfinite(energies).all()):
        raise InvalidArgumentError("D must be positive and finite between the edges, and u finite in every cell")
    conductance = inner / np.diff(centres)
    difference = np.diff(energies)
    widths = np.diff(edges)
    up = conductance * _bernoulli(difference) / widths[:-1]
    down = conductance * _bernoulli(-difference) / widths[1:]
    return FokkerPlanck(edges, centres, energies, up, down)


def mean_first_passage(
    u: Callable[[np.ndarray], np.ndarray],
    diffusivity: Callable[[np.ndarray], np.ndarray],
    wall: float,
    start: float,
    end: float,
    points: int = 20_001,
) -> float:
    """Mean time from ``start`` to ``end`` > start with a reflecting ``wall`` below: int_start^end dy e^u / D int_wall^y e^-u.

    Raises ``InvalidArgumentError`` unless wall <= start < end.
    """
    if not wall <= start < end:
        raise InvalidArgumentError(f"expected wall <= start < end; found {wall}, {start}, {end}")
    y = np.linspace(wall, end, points)
    energies = np.asarray(u(y), float)
    lowest = energies.min()
    density = np.exp(lowest - energies)
    below = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(y))])
    integrand = np.exp(energies - lowest) / np.asarray(diffusivity(y), float) * below
    total = np.concatenate([[0.0], np.cumsum(0.5 * (integrand[1:] + integrand[:-1]) * np.diff(y))])
    return float(total[-1] - np.interp(start, y, total))


def _bernoulli(x: np.ndarray) -> np.ndarray:
    """x / (e^x - 1)."""
    small = np.abs(x) < 1e-5
    safe = np.where(small, 1.0, x)
    return np.where(small, 1 - x / 2 + x**2 / 12, safe / np.expm1(safe))
