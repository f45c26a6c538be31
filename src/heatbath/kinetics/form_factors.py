"""Form factors of nuclei: how a finite size damps coherent scattering at a momentum transfer q."""

import math
from pathlib import Path

import numpy as np

from heatbath.errors import InvalidArgumentError, MissingDataError
from heatbath.kinetics.recoil_units import GEV_PER_ATOMIC_UNIT, HBAR_C


def momentum_transfer(energy_kev: np.ndarray, mass_number: int) -> np.ndarray:
    """q in 1/fm of a recoil of ``energy_kev``: sqrt(2 m_N E) / hbar c."""
    return np.sqrt(2 * mass_number * GEV_PER_ATOMIC_UNIT * np.asarray(energy_kev) * 1e-6) / HBAR_C


def helm_squared(energy_kev: np.ndarray, mass_number: int) -> np.ndarray:
    """Helm: [3 j1(q r_n) / (q r_n)]^2 e^(-q^2 s^2), r_n^2 = c^2 + 7/3 pi^2 a^2 - 5 s^2, c = 1.23
    A^(1/3) - 0.6, a = 0.52, s = 0.9 fm.
    """
    if mass_number < 2:
        return np.ones_like(np.asarray(energy_kev, dtype=float))
    s = 0.9
    radius = math.sqrt((1.23 * mass_number ** (1 / 3) - 0.6) ** 2 + 7 / 3 * math.pi**2 * 0.52**2 - 5 * s**2)
    q = momentum_transfer(energy_kev, mass_number)
    x = q * radius
    small = x < 1e-2
    y = np.where(small, 1.0, x)
    bessel = np.where(small, 1 - x**2 / 10 + x**4 / 280, 3 * (np.sin(y) - y * np.cos(y)) / y**3)
    return bessel**2 * np.exp(-((q * s) ** 2))


def thin_shell_squared(energy_kev: np.ndarray, mass_number: int) -> np.ndarray:
    """A model for spins: sin(q r) / (q r) squared with r = A^(1/3) fm, for light nuclei at small q; use tables for others."""
    x = momentum_transfer(energy_kev, mass_number) * mass_number ** (1 / 3)
    return np.sinc(x / np.pi) ** 2


def tabulated_squared(path: str | Path):
    """A form factor of the user: CSV of recoil energy (keV, rising) and F^2; linear between, F^2 of the ends beyond."""
    try:
        table = np.loadtxt(path, delimiter=",", ndmin=2, comments="#")
    except OSError as error:
        raise MissingDataError(f"the form factor '{path}' cannot be read: {error}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"'{path}' must hold two columns of numbers, keV and F^2: {error}") from error
    if table.shape[1] < 2 or len(table) < 2 or (np.diff(table[:, 0]) <= 0).any() or (table[:, 1] < 0).any():
        raise InvalidArgumentError(f"'{path}' must hold rising energies in keV and F^2 that are not negative")
    return lambda energy_kev, mass_number: np.interp(energy_kev, table[:, 0], table[:, 1])
