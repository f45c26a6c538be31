"""The collisionless Boltzmann equation with self-gravity, solved classically by two methods that share no code.

    d_t f + v . d_x f + a(x, t) . d_v f = 0,    a = -grad phi,    lap phi = 4 pi G (rho - mean rho),    rho = int f dv

Positions are periodic. ``SpectralSolver`` moves rows by Fourier shifts and is what the quantum circuits compute, in another way;
``SemiLagrangianSolver`` follows characteristics back and interpolates by cubic splines. Both step by Strang splitting:
half a drift, a kick with the acceleration in the middle, half a drift.
"""

import abc
import dataclasses

import numpy as np

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.kinetics.phase_grid import PhaseGrid, wave_numbers


@dataclasses.dataclass(frozen=True)
class Gravity:
    """``strength`` is 4 pi G; only Fourier modes with every |wave number| <= ``modes`` are kept (None: all of them)."""

    strength: float = 1.0
    modes: int | None = None

    def __post_init__(self):
        if not np.isfinite(self.strength):
            raise InvalidArgumentError(f"strength (4 pi G) must be finite; found {self.strength}")
        if self.modes is not None and self.modes < 1:
            raise InvalidArgumentError(f"gravity needs at least one Fourier mode; found modes = {self.modes}")


def density(values: np.ndarray, grid: PhaseGrid) -> np.ndarray:
    """rho(x) = sum_v f dv^d, shape (positions,)*dimension."""
    return np.real(values).sum(axis=grid.velocity_axes) * grid.dv**grid.dimension


def acceleration(rho: np.ndarray, grid: PhaseGrid, gravity: Gravity) -> np.ndarray:
    """a(x) of shape (dimension, positions, ...): a_k = 4 pi G i k rho_k / |k|^2 for the modes that are kept.

    The Nyquist frequency has no sign and gives no force.
    """
    integers = wave_numbers(grid.positions)
    kept = np.abs(integers) < grid.positions // 2
    if gravity.modes is not None:
        kept &= np.abs(integers) <= gravity.modes
    axes = [np.where(kept, integers, 0.0) * (2 * np.pi / grid.length)] * grid.dimension
    waves = np.stack(np.meshgrid(*axes, indexing="ij"))
    inside = np.all(np.stack(np.meshgrid(*[kept] * grid.dimension, indexing="ij")), axis=0)
    square = np.sum(waves**2, axis=0)
    factor = np.where(inside & (square > 0), gravity.strength / np.where(square > 0, square, 1.0), 0.0)
    transformed = 1j * waves * factor * np.fft.fftn(rho)
    return np.real(np.fft.ifftn(transformed, axes=tuple(range(1, 1 + grid.dimension))))


class VlasovSolver(abc.ABC):
    """Strang splitting of the collisionless Boltzmann equation; methods act on arrays of ``grid.shape``."""

    def __init__(self, grid: PhaseGrid, gravity: Gravity):
        self.grid, self.gravity = grid, gravity

    @abc.abstractmethod
    def drift(self, values: np.ndarray, time: float) -> np.ndarray:
        """f(x - v time, v)."""

    @abc.abstractmethod
    def kick(self, values: np.ndarray, force: np.ndarray, time: float) -> np.ndarray:
        """f(x, v - a(x) time); ``force`` is the acceleration, shape (dimension, positions, ...)."""

    def rho(self, values: np.ndarray) -> np.ndarray:
        """The density of ``values``."""
        return density(values, self.grid)

    def step(self, values: np.ndarray, time: float) -> np.ndarray:
        """One Strang step. Raises ``NonFiniteError`` when it ends in numbers that are not finite."""
        values = self.drift(values, 0.5 * time)
        values = self.kick(values, acceleration(self.rho(values), self.grid, self.gravity), time)
        values = self.drift(values, 0.5 * time)
        if not np.isfinite(values).all():
            raise NonFiniteError(f"a step of {time} ended in values that are not finite; take a smaller one")
        return values


class SpectralSolver(VlasovSolver):
    """Shifts of rows as phases of their Fourier coefficients; exact for what the grid resolves. Values may be complex.

    With ``probability`` the values are amplitudes psi with f = |psi|^2 (see ``quantum.encoding``), which obey the same equation.
    """

    def __init__(self, grid: PhaseGrid, gravity: Gravity, *, probability: bool = False):
        super().__init__(grid, gravity)
        self.probability = probability

    def rho(self, values: np.ndarray) -> np.ndarray:
        return density(np.abs(values) ** 2 if self.probability else values, self.grid)

    def drift(self, values: np.ndarray, time: float) -> np.ndarray:
        grid = self.grid
        for axis in grid.position_axes:
            waves = grid.along(wave_numbers(grid.positions), axis)
            cells = grid.along(grid.v * (time / grid.dx), axis + grid.dimension)
            phases = np.exp(-2j * np.pi / grid.positions * waves * cells)
            values = np.fft.ifft(np.fft.fft(values, axis=axis) * phases, axis=axis)
        return values

    def kick(self, values: np.ndarray, force: np.ndarray, time: float) -> np.ndarray:
        grid = self.grid
        for axis in grid.velocity_axes:
            waves = grid.along(wave_numbers(grid.velocities), axis)
            cells = force[axis - grid.dimension] * (time / grid.dv)
            cells = cells.reshape(cells.shape + (1,) * grid.dimension)
            phases = np.exp(-2j * np.pi / grid.velocities * waves * cells)
            values = np.fft.ifft(np.fft.fft(values, axis=axis) * phases, axis=axis)
        return values


class SemiLagrangianSolver(VlasovSolver):
    """Characteristics and cubic splines, periodic in positions, nothing beyond the largest speed. One dimension."""

    def __init__(self, grid: PhaseGrid, gravity: Gravity):
        if grid.dimension != 1:
            raise InvalidArgumentError(f"the semi-Lagrangian solver has one dimension; found {grid.dimension}")
        super().__init__(grid, gravity)

    def drift(self, values: np.ndarray, time: float) -> np.ndarray:
        from scipy.interpolate import CubicSpline

        grid = self.grid
        nodes = np.append(grid.x, grid.length)
        spline = CubicSpline(nodes, np.concatenate([values, values[:1]]), axis=0, bc_type="periodic")
        return _columnwise(spline, (grid.x[:, None] - grid.v[None, :] * time) % grid.length, grid.dx)

    def kick(self, values: np.ndarray, force: np.ndarray, time: float) -> np.ndarray:
        from scipy.interpolate import CubicSpline

        grid = self.grid
        spline = CubicSpline(grid.v, values.T, axis=0, bc_type="natural")
        foot = grid.v[:, None] - force[0][None, :] * time
        inside = (foot >= grid.v[0]) & (foot <= grid.v[-1])
        made = _columnwise(spline, np.clip(foot, grid.v[0], grid.v[-1]), grid.dv, origin=float(grid.v[0]))
        return np.where(inside, made, 0.0).T


def _columnwise(spline, points: np.ndarray, spacing: float, origin: float = 0.0) -> np.ndarray:
    """Column m of a spline with equal knots at column m of ``points``."""
    coefficients = spline.c  # (4, knots - 1, columns), highest power first
    index = np.clip(((points - origin) / spacing).astype(int), 0, coefficients.shape[1] - 1)
    offset = points - origin - index * spacing
    column = np.arange(points.shape[1])[None, :]
    made = np.zeros_like(points)
    for power in coefficients:
        made = made * offset + power[index, column]
    return made


@dataclasses.dataclass(frozen=True)
class Invariants:
    """What the equation conserves: mass, momentum (dimension,), energy, and the norm int f^2; ``lowest`` is the least f."""

    mass: float
    momentum: np.ndarray
    energy: float
    norm: float
    lowest: float


def invariants(values: np.ndarray, grid: PhaseGrid, gravity: Gravity) -> Invariants:
    """Mass, momentum, kinetic plus gravitational energy -1/2 int a^2 / (4 pi G), norm, and the least value of f."""
    f = np.real(values)
    squares = sum(grid.along(grid.v**2, axis) for axis in grid.velocity_axes)
    kinetic = 0.5 * float(np.sum(f * squares)) * grid.cell
    momentum = np.array([np.sum(f * grid.along(grid.v, axis)) * grid.cell for axis in grid.velocity_axes])
    field = acceleration(density(f, grid), grid, gravity)
    bound = 0.0 if gravity.strength == 0 else 0.5 * float(np.sum(field**2)) * grid.dx**grid.dimension / gravity.strength
    return Invariants(
        float(f.sum()) * grid.cell, momentum, kinetic - bound, float(np.sum(f**2)) * grid.cell, float(f.min())
    )
