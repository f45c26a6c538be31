"""The coordinates by which people look at a target, evaluated once on every draw: surfaces, basins, representatives."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from heatbath.ensemble import Ensemble
from heatbath.estimators import free_energy_surface
from heatbath.targets.base import Observable, Target

#: Bins per axis of one- and two-dimensional surfaces.
BINS_1D, BINS_2D = 72, 48
#: Surfaces of long chains are many; results.json keeps this many of each dimension.
MOST_SURFACES = 12
#: Draws among which the representative of a basin is looked for.
CANDIDATES = 4000


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """Observables and basins with their values on every draw (arrays with the axes of the ensemble)."""

    observables: Mapping[str, Observable]
    values: Mapping[str, np.ndarray]
    basins: Mapping[str, np.ndarray]

    def features(self, name: str) -> list[np.ndarray]:
        """Values for distances and moments: a circle is taken to the plane (cos, sin), so that -pi and pi are neighbours."""
        observable, values = self.observables[name], self.values[name]
        if observable.period is None:
            return [values]
        angle = values * (2 * math.pi / observable.period)
        return [np.cos(angle), np.sin(angle)]


def coordinates_of(target: Target, ensemble: Ensemble) -> Coordinates:
    """All observables and basins of ``target`` on every draw, in one compiled pass."""
    observables, basins = dict(target.observables()), dict(target.basins())
    functions = [observable.function for observable in observables.values()] + list(basins.values())
    if not functions:
        return Coordinates({}, {}, {})

    def evaluate(x):
        return jnp.stack([jnp.asarray(function(x), dtype=float) for function in functions])

    values = np.moveaxis(ensemble.evaluate(evaluate), -1, 0)
    split = len(observables)
    return Coordinates(
        observables,
        dict(zip(observables, values[:split], strict=True)),
        {name: row > 0.5 for name, row in zip(basins, values[split:], strict=True)},
    )


# Surfaces ------------------------------------------------------------------------------------------------------------


def surfaces(ensemble: Ensemble, coordinates: Coordinates) -> dict[str, dict]:
    """Free-energy surfaces in kT: one per observable, and one per (phi, psi) pair or for the first two observables."""
    names = list(coordinates.observables)
    pairs = torsion_pairs(names) or ([(names[0], names[1])] if len(names) >= 2 else [])
    found = {name: _surface(ensemble, coordinates, (name,)) for name in names[:MOST_SURFACES]}
    found |= {f"{a}, {b}": _surface(ensemble, coordinates, (a, b)) for a, b in pairs[:MOST_SURFACES]}
    return found


def torsion_pairs(names: list[str]) -> list[tuple[str, str]]:
    """The (phi, psi) of each residue: names that differ only in that word, as in ``phi (Ala 2)``, ``psi (Ala 2)``."""
    return [(name, psi) for name in names if "phi" in name and (psi := name.replace("phi", "psi", 1)) in names]


def _surface(ensemble: Ensemble, coordinates: Coordinates, names: tuple[str, ...]) -> dict:
    observables = [coordinates.observables[name] for name in names]
    columns = [_on_one_turn(coordinates.values[name], coordinates.observables[name].period) for name in names]
    ranges = [(-o.period / 2, o.period / 2) if o.period is not None else o.range for o in observables]
    bins = [_edges_of_steps(column, BINS_1D if len(names) == 1 else BINS_2D) for column in columns]
    surface = free_energy_surface(ensemble, columns, bins=bins, ranges=ranges)
    return {
        "coordinates": list(names),
        "labels": [observable.label for observable in observables],
        "units": [observable.unit for observable in observables],
        "period": [observable.period for observable in observables],
        "edges": surface.edges,
        "free_energy": surface.free_energy,
        "standard_error": surface.standard_error,
        "energy_unit": "kT",
        "outside": surface.outside,
        "converged": surface.converged,
        "notes": list(surface.notes),
    }


def _edges_of_steps(values: np.ndarray, bins: int) -> np.ndarray | int:
    """Bin edges half way between the values of a discrete quantity (a magnetisation), else the number of bins.

    Even bins would leave some without a value and give others two, a comb that is not in the distribution.
    """
    found = np.unique(values.reshape(-1)[:: max(1, values.size // 10_000)])
    if not 2 <= found.size <= bins:
        return bins
    found = np.unique(values)
    if found.size > bins:
        return bins
    middle = (found[1:] + found[:-1]) / 2
    return np.concatenate([[2 * found[0] - middle[0]], middle, [2 * found[-1] - middle[-1]]])


def _on_one_turn(values: np.ndarray, period: float | None) -> np.ndarray:
    """Values of a circular coordinate in [-period/2, period/2)."""
    return values if period is None else values - period * np.floor(values / period + 0.5)


# Basins --------------------------------------------------------------------------------------------------------------


def representatives(ensemble: Ensemble, coordinates: Coordinates, seed: int) -> dict[str, int | None]:
    """For each basin the flat index of the draw in its densest place, or None when no draw lies in it.

    Equally weighted candidates are resampled from the ensemble; the densest one has the smallest distance to its k-th
    neighbour in the space of the observables (k the square root of their number). A typical structure, not the
    one of lowest energy.
    """
    weights = ensemble.weights().reshape(-1)
    index = _resampled(weights, min(ensemble.size, CANDIDATES), seed)
    space = [column.reshape(-1) for name in coordinates.observables for column in coordinates.features(name)]
    points = np.stack(space, axis=-1) if space else np.zeros((ensemble.size, 1))
    points = points / np.maximum(points[index].std(axis=0), 1e-12)
    chosen: dict[str, int | None] = {}
    for name, inside in coordinates.basins.items():
        members = np.unique(index[inside.reshape(-1)[index]])
        if members.size == 0:
            every = np.flatnonzero(inside.reshape(-1))
            chosen[name] = int(every[np.argmax(weights[every])]) if every.size else None
            continue
        neighbours = min(max(2, math.isqrt(members.size) + 1), members.size)
        distance = np.asarray(cKDTree(points[members]).query(points[members], k=[neighbours])[0])[:, 0]
        chosen[name] = int(members[np.argmin(distance)])
    return chosen


def _resampled(weights: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Indices in proportion to ``weights``: evenly spaced in their cumulative sum, after a random first step."""
    cumulative = np.cumsum(weights)
    places = (np.arange(size) + np.random.default_rng(seed).random()) / size * cumulative[-1]
    return np.clip(np.searchsorted(cumulative, places, side="right"), 0, weights.size - 1)
