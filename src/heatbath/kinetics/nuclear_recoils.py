"""Nuclear recoils: expected counts of every stream in a detector with a window, an efficiency and several isotopes.

    dR/dE = rho sigma_p / (2 m mu_p^2) * C F^2(E) * eta(v_min(E)),    v_min = sqrt(m_N E / (2 mu_N^2))

per mass of target; C = A^2 for spin-independent scattering with equal couplings, and (4/3) (J + 1)/J (a_p S_p + a_n
S_n)^2 for spins.
A single stream replaces eta by Theta(v - v_min) / v.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy.interpolate import CubicSpline

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.form_factors import helm_squared, thin_shell_squared
from heatbath.kinetics.recoil_units import (
    GEV_PER_ATOMIC_UNIT,
    GEV_PER_KG,
    LIGHT_CM_S,
    LIGHT_KM_S,
    PROTON_GEV,
    SECONDS_PER_DAY,
    reduced_mass,
)

Interaction = Literal["spin-independent", "spin-dependent-proton", "spin-dependent-neutron"]
FormFactor = Callable[[np.ndarray, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Isotope:
    """``share`` of the target's mass with ``mass_number`` nucleons; spin J and the expectation values of its nucleons' spins."""

    mass_number: int
    share: float
    spin: float = 0.0
    proton_spin: float = 0.0
    neutron_spin: float = 0.0

    @property
    def mass(self) -> float:
        """Mass of the nucleus in GeV (mass number times the atomic mass unit)."""
        return self.mass_number * GEV_PER_ATOMIC_UNIT

    def enhancement(self, interaction: Interaction) -> float:
        """C of the module's formula."""
        if interaction == "spin-independent":
            return float(self.mass_number) ** 2
        if self.spin == 0:
            return 0.0
        value = self.proton_spin if interaction == "spin-dependent-proton" else self.neutron_spin
        return 4 / 3 * (self.spin + 1) / self.spin * value**2


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """plateau / (1 + e^(-(E - threshold) / width)), a smooth threshold in keV; or a ``table`` (energies, efficiencies)."""

    plateau: float = 1.0
    threshold: float = 0.0
    width: float = 0.0
    table: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, energy: np.ndarray) -> np.ndarray:
        if self.table is not None:
            return np.interp(energy, self.table[0], self.table[1], left=0.0, right=float(self.table[1][-1]))
        if self.width == 0:
            return np.where(energy >= self.threshold, self.plateau, 0.0)
        return self.plateau / (1 + np.exp(-np.clip((energy - self.threshold) / self.width, -500, 500)))


@dataclasses.dataclass(frozen=True)
class NuclearRecoils:
    """Rates in a target: isotopes, window (keV) and efficiency. Form factors: Helm, thin shell for spins, or the user's own."""

    isotopes: Sequence[Isotope]
    window: tuple[float, float]
    interaction: Interaction = "spin-independent"
    efficiency: Efficiency = dataclasses.field(default_factory=Efficiency)
    form_factor: FormFactor | None = None
    points: int = 2000

    def __post_init__(self):
        if not self.isotopes or not 0 <= self.window[0] < self.window[1]:
            raise InvalidArgumentError(f"expected isotopes and a window 0 <= low < high in keV; found {self.window}")

    def spectrum(
        self, energy: np.ndarray, mass: float, inverse_speed: Callable[[np.ndarray], np.ndarray], density: float = 0.3
    ) -> np.ndarray:
        """dR/dE per kg, day, keV and cm^2 of cross-section; ``inverse_speed(v_min)`` is eta in s/km. No efficiency."""
        energy = np.asarray(energy, dtype=float)
        total = np.zeros_like(energy)
        for isotope in self.isotopes:
            lowest = smallest_speed(energy, mass, isotope.mass)
            total = total + isotope.share * self._shape(energy, isotope) * inverse_speed(np.asarray(lowest))
        return self._scale(mass, density) * total

    def total(self, mass: float, inverse_speed: Callable[[np.ndarray], np.ndarray], density: float = 0.3) -> float:
        """Counts per kg, day and cm^2 in the window, by quadrature over the spectrum."""
        nodes, shares = np.polynomial.legendre.leggauss(10)
        edges = np.linspace(*self.window, self.points // 10 + 1)
        half = 0.5 * np.diff(edges)[:, None]
        energy = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * nodes
        spectrum = self.spectrum(energy, mass, inverse_speed, density)
        return float(np.sum(half * shares * spectrum * self.efficiency(energy)))

    def of_streams(self, speeds: np.ndarray, mass: float, density: float = 0.3) -> np.ndarray:
        """Counts per kg, day and cm^2 in the window if all dark matter moved at each of ``speeds`` (km/s)."""
        speeds = np.asarray(speeds, dtype=float)
        low, high = self.window
        grid = np.linspace(low, high, self.points)
        total = np.zeros_like(speeds)
        for isotope in self.isotopes:
            below = CubicSpline(grid, self._shape(grid, isotope) * self.efficiency(grid)).antiderivative()
            largest = largest_energy(speeds, mass, isotope.mass)
            total = total + isotope.share * np.where(largest > low, below(np.clip(largest, low, high)), 0.0)
        return self._scale(mass, density) * np.maximum(total, 0.0) / speeds

    def _shape(self, energy: np.ndarray, isotope: Isotope) -> np.ndarray:
        default = helm_squared if self.interaction == "spin-independent" else thin_shell_squared
        form = self.form_factor or default
        return isotope.enhancement(self.interaction) * form(energy, isotope.mass_number)

    def _scale(self, mass: float, density: float) -> float:
        """rho c^2 / (2 m mu_p^2) in the units above, with eta in s/km: 1 GeV is 1e6 keV, 1 km is 1e5 cm."""
        if not (np.isfinite(mass) and mass > 0):
            raise InvalidArgumentError(f"the mass of dark matter must be positive and finite, in GeV; found {mass}")
        squared = 2 * mass * reduced_mass(mass, PROTON_GEV) ** 2
        return density / squared * LIGHT_CM_S**2 * 1e-5 * SECONDS_PER_DAY * GEV_PER_KG * 1e-6


def smallest_speed(energy: np.ndarray | np.floating | float, mass: float, nucleus: float) -> np.ndarray | np.floating:
    """v_min in km/s of a recoil in keV."""
    return LIGHT_KM_S * np.sqrt(nucleus * np.asarray(energy) * 1e-6 / 2) / reduced_mass(mass, nucleus)


def largest_energy(speed: np.ndarray | np.floating | float, mass: float, nucleus: float) -> np.ndarray | np.floating:
    """2 mu^2 v^2 / m_N in keV."""
    return 2e6 * (reduced_mass(mass, nucleus) * np.asarray(speed) / LIGHT_KM_S) ** 2 / nucleus
