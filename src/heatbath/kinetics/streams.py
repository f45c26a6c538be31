"""A halo as a superposition of streams: any distribution of velocities is a list of weights, and every rate is linear in it.

For detectors that see no direction only speeds matter (``Streams``); for modulation over the year velocities in the Galactic
frame do (``GalacticStreams``).
"""

import csv
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heatbath.errors import InvalidArgumentError, MissingDataError
from heatbath.kinetics.halo import StandardHalo, earth_velocity


@dataclasses.dataclass(frozen=True)
class Streams:
    """``speeds`` (km/s, rising) in the detector and their ``weights``, positive and normalised; ``density`` in GeV/cm^3."""

    speeds: np.ndarray
    weights: np.ndarray
    density: float = 0.3

    def __post_init__(self):
        speeds, weights = np.asarray(self.speeds, dtype=float), np.asarray(self.weights, dtype=float)
        if speeds.ndim != 1 or speeds.shape != weights.shape or speeds.size < 2:
            raise InvalidArgumentError(
                f"streams are two lists of one length, at least 2; found {speeds.shape} and {weights.shape}"
            )
        if not np.isfinite(speeds).all() or (speeds <= 0).any() or (np.diff(speeds) <= 0).any():
            raise InvalidArgumentError("speeds of streams must be finite, positive and rising")
        if not np.isfinite(weights).all() or (weights <= 0).any():
            raise InvalidArgumentError(
                f"{int((~(weights > 0)).sum())} of {weights.size} streams have a weight that is not positive; leave them out"
            )
        if not (math.isfinite(self.density) and self.density > 0):
            raise InvalidArgumentError(f"density must be positive and finite; found {self.density}")
        object.__setattr__(self, "speeds", speeds)
        object.__setattr__(self, "weights", weights / weights.sum())

    def __len__(self) -> int:
        return len(self.speeds)

    @staticmethod
    def of_halo(halo: StandardHalo, count: int = 1000) -> "Streams":
        """Cells of equal width up to the largest speed: their mass, and their mean speed. Errors fall as 1 / count^2."""
        if count < 2:
            raise InvalidArgumentError(f"a halo needs at least 2 streams; found {count}")
        # speeds at which the density has a kink are edges of cells
        kink, top = halo.v_esc - halo.earth_speed, halo.largest_speed
        below = min(max(1, round(count * kink / top)), count - 1)
        edges = np.concatenate([np.linspace(0.0, kink, below + 1), np.linspace(kink, top, count - below + 1)[1:]])
        return _cells(halo.speed_density, edges, halo.density)

    @staticmethod
    def from_file(path: str | Path, density: float = 0.3) -> "Streams":
        """A halo of the user: a CSV with the columns speed (km/s) and weight; a first line of names is skipped."""
        try:
            rows = list(csv.reader(Path(path).read_text(encoding="utf-8").splitlines()))
        except OSError as error:
            raise MissingDataError(f"the halo '{path}' cannot be read: {error}") from error
        try:
            numbers = np.array([[float(cell) for cell in row[:2]] for row in rows[_is_header(rows) :] if row])
            speeds, weights = numbers[:, 0], numbers[:, 1]
        except (ValueError, IndexError) as error:
            raise InvalidArgumentError(
                f"'{path}' must hold two columns of numbers, speed and weight: {error}"
            ) from error
        return Streams(speeds, weights, density)


def _cells(density: Callable[[np.ndarray], np.ndarray], edges: np.ndarray, local: float) -> Streams:
    nodes, shares = np.polynomial.legendre.leggauss(6)
    middle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    points = middle[:, None] + half[:, None] * nodes
    mass = density(points) * shares * half[:, None]
    weights = mass.sum(axis=1)
    held = weights > 0  # the last cell may underflow
    speeds = (mass * points).sum(axis=1)[held] / weights[held]
    return Streams(speeds, weights[held], local)


def _is_header(rows: list[list[str]]) -> bool:
    try:
        float(rows[0][0])
    except (ValueError, IndexError):
        return True
    return False


@dataclasses.dataclass(frozen=True)
class GalacticStreams:
    """``velocities`` (n, 3) in the Galactic frame, km/s, with ``weights``; the speed in the detector depends on the day."""

    velocities: np.ndarray
    weights: np.ndarray
    density: float = 0.3

    def __post_init__(self):
        velocities, weights = np.asarray(self.velocities, dtype=float), np.asarray(self.weights, dtype=float)
        if velocities.ndim != 2 or velocities.shape[1] != 3 or weights.shape != velocities.shape[:1]:
            raise InvalidArgumentError(
                f"expected velocities (n, 3) and n weights; found {velocities.shape} and {weights.shape}"
            )
        if not np.isfinite(velocities).all() or not np.isfinite(weights).all() or (weights <= 0).any():
            raise InvalidArgumentError("velocities must be finite and weights positive")
        object.__setattr__(self, "velocities", velocities)
        object.__setattr__(self, "weights", weights / weights.sum())

    @staticmethod
    def of_halo(halo: StandardHalo, count: int, seed: int = 0) -> "GalacticStreams":
        """Equal streams drawn from the halo."""
        drawn = halo.sample_galactic(np.random.default_rng(seed), count)
        return GalacticStreams(drawn, np.full(count, 1.0 / count), halo.density)

    def speeds(self, day: float, v0: float = 238.0) -> np.ndarray:
        """Speed of every stream in the detector on a day of the year."""
        return np.linalg.norm(self.velocities - earth_velocity(day, v0), axis=1)

    def modulation(self, rate: Callable[[np.ndarray], np.ndarray], day: float = 152.0, v0: float = 238.0) -> np.ndarray:
        """(rate on ``day`` - rate half a year later) / 2 of every stream: linear in the weights like any rate."""
        return 0.5 * (rate(self.speeds(day, v0)) - rate(self.speeds(day + 182.625, v0)))
