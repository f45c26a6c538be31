"""What a distance between ensembles would be if there were none: its floor, and its bootstrap error.

A ``metric`` is a function (first, second) -> float of two arrays whose first axis is the draw. Chains of the reference stay
whole: halves of shuffled frames share every slow fluctuation of their chains and make the floor too low.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.estimate import Estimate

Metric = Callable[[np.ndarray, np.ndarray], float]


def metric_floor(
    metric: Metric,
    reference: Any,
    groups: Any = None,
    *,
    weights: Any = None,
    size: int | None = None,
    splits: int = 4,
    seed: int = 0,
) -> Estimate:
    """The metric between two halves of ``reference`` (n, ...), over ``splits`` random halvings.

    groups:   number of the independent chain of every frame (n,); a half takes whole chains. Without it frames are taken as
              independent, which a note says.
    weights:  of the frames; each half is resampled by them.
    size:     draws of each half (default: n // 2), so that metric and floor are compared at the same number of draws.

    ``standard_error`` is the standard deviation over splits: the spread of the floor, not the error of its mean.
    Raises ``InvalidArgumentError`` for fewer than two groups.
    """
    reference = np.asarray(reference)
    count = len(reference)
    members, names = _groups(groups, count)
    size = count // 2 if size is None else size
    weights = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(splits):
        inside = np.isin(members, rng.permutation(names)[: names // 2])
        first, second = (_draws(rng, np.where(side, weights, 0.0), size) for side in (inside, ~inside))
        values.append(metric(reference[first], reference[second]))
    notes = () if groups is not None else ("frames of the reference were taken as independent",)
    error = float(np.std(values, ddof=1)) if splits > 1 else float("nan")
    return Estimate(float(np.mean(values)), error, method=f"halves of the reference, {size} draws each", notes=notes)


def metric_with_error(
    metric: Metric,
    first: Any,
    second: Any,
    *,
    first_weights: Any = None,
    second_weights: Any = None,
    first_groups: Any = None,
    second_groups: Any = None,
    size: int | None = None,
    replicates: int = 20,
    seed: int = 0,
) -> Estimate:
    """The metric between ``size`` draws of each side, and the standard deviation over bootstrap samples of their groups.

    Weighted sides are resampled by their weights (systematically), as the literature does before it compares. ``groups`` name
    the independent blocks: chains of a reference, families of an SMC population; default every draw. A distance is larger
    between bootstrap samples than between the draws themselves, so that only their spread is used.
    """
    one, other = _side(first, first_weights, first_groups), _side(second, second_weights, second_groups)
    size = min(len(one.values), len(other.values)) if size is None else size
    rng = np.random.default_rng(seed)
    value = metric(one.values[_draws(rng, one.weights, size)], other.values[_draws(rng, other.weights, size)])
    again = [metric(_bootstrap(rng, one, size), _bootstrap(rng, other, size)) for _ in range(replicates)]
    error = float(np.std(again, ddof=1)) if replicates > 1 else float("nan")
    return Estimate(float(value), error, method=f"{size} draws of each side, bootstrap over groups")


class _Side(NamedTuple):
    """Draws, their weights, the number of the group of each, and how many groups there are."""

    values: np.ndarray
    weights: np.ndarray
    members: np.ndarray
    names: int


def _side(values: Any, weights: Any, groups: Any) -> _Side:
    values = np.asarray(values)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    return _Side(values, weights, *_groups(groups, len(values), fewest=1))


def _groups(groups: Any, count: int, fewest: int = 2) -> tuple[np.ndarray, int]:
    """Number of the group of every draw, from 0, and how many there are."""
    if groups is None:
        return np.arange(count), count
    groups = np.asarray(groups)
    if groups.shape != (count,):
        raise InvalidArgumentError(f"groups must hold one number for each of {count} draws; found {groups.shape}")
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < fewest:
        raise InvalidArgumentError(f"halves of a reference need at least {fewest} groups; found {len(names)}")
    return members, len(names)


def _draws(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """``size`` indices by systematic resampling of the draws that carry weight, in random order.

    Equal weights give every draw at most once, as long as there are ``size`` of them.
    """
    order = rng.permutation(np.flatnonzero(weights > 0))
    if len(order) == 0:
        raise InvalidArgumentError("no draw carries any weight")
    cumulative = np.cumsum(weights[order])
    points = (np.arange(size) + rng.random()) / size * cumulative[-1]
    return order[np.minimum(np.searchsorted(cumulative, points), len(order) - 1)]


def _bootstrap(rng: np.random.Generator, side: _Side, size: int) -> np.ndarray:
    """As many groups as there are, drawn with replacement: a draw's weight times how often its group was drawn."""
    times = np.bincount(rng.integers(0, side.names, side.names), minlength=side.names)[side.members]
    drawn = side.weights * times
    return side.values[_draws(rng, drawn if drawn.sum() > 0 else side.weights, size)]
