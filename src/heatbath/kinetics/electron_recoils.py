"""Electron recoils: rates from tables of atomic ionisation, and from the loss function of a crystal.

Atoms:     dR/dlnE = N_T (rho/m) sigma_e / (8 mu^2) int q dq |f(k, q)|^2 |F_DM|^2 eta(v_min),   v_min = (E + E_b)/q + q/(2m)
Crystals:  dR/dw   = (rho/m) sigma_e / (8 pi^2 alpha mu^2 rho_T) int k^3 dk Im(-1/eps(k, w)) |F_DM|^2 eta(w/k + k/(2m))

The second is the golden rule with |V|^2 = pi sigma_e / mu^2 and the structure factor k^2 Im(-1/eps) / (2 pi alpha)
of the electrons
(derived here; the f-sum rule is the test). F_DM is 1 for a heavy and (alpha m_e / q)^2 for a light mediator.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.recoil_units import (
    ELECTRON_GEV,
    FINE_STRUCTURE,
    GEV_PER_ATOMIC_UNIT,
    GEV_PER_KG,
    LIGHT_CM_S,
    LIGHT_KM_S,
    RYDBERG_EV,
    SECONDS_PER_DAY,
    reduced_mass,
)

Mediator = Literal["heavy", "light"]


def mediator_squared(q: np.ndarray, mediator: Mediator) -> np.ndarray:
    """|F_DM|^2 at momentum transfer ``q`` in GeV."""
    if mediator == "heavy":
        return np.ones_like(q)
    if mediator == "light":
        return (FINE_STRUCTURE * ELECTRON_GEV / q) ** 4
    raise InvalidArgumentError(f"mediator must be 'heavy' or 'light'; found {mediator!r}")


class ElectronRecoils(abc.ABC):
    """A target: events as a list of (smallest speed, contribution), so that every stream sums what it can reach."""

    @abc.abstractmethod
    def contributions(self, mass: float) -> tuple[np.ndarray, np.ndarray]:
        """(v_min in km/s, counts per kg, day and cm^2 times speed in km/s) of every cell of the integrals, any shape."""

    def of_streams(self, speeds: np.ndarray, mass: float, density: float = 0.3) -> np.ndarray:
        """Counts per kg, day and cm^2 if all dark matter moved at each of ``speeds`` (km/s)."""
        lowest, parts = (array.reshape(-1) for array in self.contributions(_positive(mass)))
        order = np.argsort(lowest)
        reached = np.concatenate([[0.0], np.cumsum(parts[order])])
        found = np.searchsorted(lowest[order], np.asarray(speeds), side="right")
        return density / mass * reached[found] / np.asarray(speeds)

    def total(self, mass: float, inverse_speed, density: float = 0.3) -> float:
        """Counts per kg, day and cm^2 for an eta(v_min) in s/km."""
        lowest, parts = self.contributions(_positive(mass))
        return float(density / mass * np.sum(parts * inverse_speed(lowest)))


@dataclasses.dataclass(frozen=True)
class Shell:
    """|f|^2 on a grid of ln k and ln q (both in units of alpha m_e), and the binding energy in eV."""

    binding: float
    log_k: np.ndarray
    log_q: np.ndarray
    squared: np.ndarray


@dataclasses.dataclass(frozen=True)
class AtomicRecoils(ElectronRecoils):
    """Ionisation of an atom of ``mass_number``, recoil energies in ``window`` (eV). Nothing beyond the
    table, linear in its logs.
    """

    shells: Mapping[str, Shell]
    mass_number: float
    window: tuple[float, float]
    mediator: Mediator = "heavy"
    points: int = 400

    def contributions(self, mass: float) -> tuple[np.ndarray, np.ndarray]:
        lowest, parts = zip(*(self._shell(shell, mass) for shell in self.shells.values()), strict=True)
        return np.concatenate(lowest), np.concatenate(parts)

    def differential(self, energies: np.ndarray, mass: float, inverse_speed, density: float = 0.3) -> np.ndarray:
        """dR/dE per kg, day, eV and cm^2, of all shells."""
        total = np.zeros(len(energies))
        for shell in self.shells.values():
            lowest, parts = self._at(shell, np.asarray(energies, dtype=float), mass)
            total = total + density / mass * np.sum(parts * inverse_speed(lowest), axis=1) / energies
        return total

    def _shell(self, shell: Shell, mass: float) -> tuple[np.ndarray, np.ndarray]:
        nodes, shares = np.polynomial.legendre.leggauss(self.points // 4)
        low, high = np.log(self.window[0]), np.log(self.window[1])
        log_energy = 0.5 * (high + low) + 0.5 * (high - low) * nodes
        lowest, parts = self._at(shell, np.exp(log_energy), mass)
        weights = 0.5 * (high - low) * shares
        return lowest.reshape(-1), (parts * weights[:, None]).reshape(-1)

    def _at(self, shell: Shell, energies: np.ndarray, mass: float) -> tuple[np.ndarray, np.ndarray]:
        """(energy, q) arrays: v_min, and the integrand of dR/dlnE in the sum over q."""
        from scipy.interpolate import RegularGridInterpolator

        log_q = np.linspace(shell.log_q[0], shell.log_q[-1], self.points)
        step = np.full(self.points, log_q[1] - log_q[0])
        step[[0, -1]] *= 0.5
        look = RegularGridInterpolator(
            (shell.log_k, shell.log_q), np.log(shell.squared), bounds_error=False, fill_value=-np.inf
        )
        log_k = 0.5 * np.log(energies / RYDBERG_EV)
        squared = np.exp(look(np.stack(np.meshgrid(log_k, log_q, indexing="ij"), axis=-1)))
        q = np.exp(log_q) * FINE_STRUCTURE * ELECTRON_GEV
        lowest = ((energies[:, None] + shell.binding) * 1e-9 / q + q / (2 * mass)) * LIGHT_KM_S
        prefactor = 1 / (8 * reduced_mass(mass, ELECTRON_GEV) ** 2 * self.mass_number * GEV_PER_ATOMIC_UNIT)
        prefactor *= GEV_PER_KG * SECONDS_PER_DAY * LIGHT_CM_S * LIGHT_KM_S
        return lowest, prefactor * squared * mediator_squared(q, self.mediator) * q**2 * step


@dataclasses.dataclass(frozen=True)
class ElectronGas:
    """Lindhard's dielectric function of a degenerate electron gas: a model of a crystal's valence electrons, without a gap.

    ``plasmon`` energy and ``width`` in eV; ``mass_density`` in g/cm^3.
    """

    plasmon: float
    mass_density: float
    width: float = 1.0

    def loss(self, k: np.ndarray, energy: np.ndarray) -> np.ndarray:
        """Im(-1/eps(k, w)) with k in GeV and w in eV, both broadcast."""
        mass = ELECTRON_GEV * 1e9
        number = self.plasmon**2 * mass / (4 * np.pi * FINE_STRUCTURE)
        fermi = (3 * np.pi**2 * number) ** (1 / 3)
        speed = fermi / mass
        momentum = np.asarray(k) * 1e9
        frequency = np.asarray(energy) + 1j * self.width
        bracket = 0.5 + 0j
        for sign in (-1, 1):
            q = momentum / (2 * fermi) + sign * frequency / (momentum * speed)
            bracket = bracket + fermi / (4 * momentum) * (1 - q**2) * (np.log((q + 1) / (q - 1)))
        epsilon = 1 + 3 * self.plasmon**2 / (momentum * speed) ** 2 * bracket
        return np.maximum(np.imag(-1 / epsilon), 0.0)


@dataclasses.dataclass(frozen=True)
class CrystalRecoils(ElectronRecoils):
    """Excitations of a crystal with energies in ``window`` (eV), by the loss function of ``electrons``."""

    electrons: ElectronGas
    window: tuple[float, float]
    mediator: Mediator = "heavy"
    points: int = 300

    def contributions(self, mass: float) -> tuple[np.ndarray, np.ndarray]:
        energy, shares, k, step = _crystal_grid(self.window, self.points)
        per_mass = self.electrons.mass_density * 1e-3 * GEV_PER_KG * (1.973269804e-14) ** 3  # GeV^4
        prefactor = 1 / (8 * np.pi**2 * FINE_STRUCTURE * reduced_mass(mass, ELECTRON_GEV) ** 2 * per_mass)
        prefactor *= GEV_PER_KG * SECONDS_PER_DAY * LIGHT_CM_S * LIGHT_KM_S
        parts = k**4 * step * _loss(self.electrons, self.window, self.points) * mediator_squared(k, self.mediator)
        weights = shares * 1e-9
        lowest = (energy * 1e-9 / k + k / (2 * mass)) * LIGHT_KM_S
        return lowest, prefactor * parts * weights


@functools.lru_cache(maxsize=8)
def _crystal_grid(window: tuple[float, float], points: int):
    """Energies (eV, a column) with their weights, and momenta (GeV, a row, 0.1 to 100 keV) with the step of their logarithm."""
    nodes, shares = np.polynomial.legendre.leggauss(points)
    low, high = window
    energy = (0.5 * (high + low) + 0.5 * (high - low) * nodes)[:, None]
    log_k = np.linspace(np.log(1e-7), np.log(1e-4), points)
    return energy, 0.5 * (high - low) * shares[:, None], np.exp(log_k)[None, :], log_k[1] - log_k[0]


@functools.lru_cache(maxsize=8)
def _loss(electrons: ElectronGas, window: tuple[float, float], points: int) -> np.ndarray:
    """The loss function on the grid: the same for all masses."""
    energy, _, k, _ = _crystal_grid(window, points)
    return electrons.loss(k, energy)


def pairs_window(pairs: Sequence[int], gap: float, per_pair: float) -> tuple[float, float]:
    """Deposited energies (eV) that make between ``pairs[0]`` and ``pairs[-1]`` electron-hole pairs: 1 +
    floor((w - gap) / per_pair).
    """
    if min(pairs) < 1:
        raise InvalidArgumentError(f"pairs are counted from one; found {pairs}")
    return gap + (min(pairs) - 1) * per_pair, gap + max(pairs) * per_pair


def _positive(mass: float) -> float:
    if not (np.isfinite(mass) and mass > 0):
        raise InvalidArgumentError(f"the mass of dark matter must be positive and finite, in GeV; found {mass}")
    return float(mass)
