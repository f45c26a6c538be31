"""Free-energy surfaces, populations of basins and their differences, from weighted draws, with errors from independent chains."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class Surface:
    """F = -log p over the bins of one or two observables, zero at its minimum.

    free_energy, standard_error, probability: one entry per bin (shape ``(n,)`` or ``(n, m)``). Empty bins have free energy
    +inf and error NaN. ``standard_error`` is the error of -log p of the bin. ``probability`` is the mass in each bin;
    what lies outside the edges is ``outside``. ``edges`` one array per observable; ``periods`` their period or None.
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    periods: tuple[float | None, ...]
    edges: tuple[np.ndarray, ...]
    free_energy: np.ndarray
    standard_error: np.ndarray
    probability: np.ndarray
    energy_unit: str
    method: str
    outside: float
    converged: bool
    notes: tuple[str, ...]

    @property
    def centres(self) -> tuple[np.ndarray, ...]:
        """Middles of the bins, one array per observable."""
        return tuple(0.5 * (edge[1:] + edge[:-1]) for edge in self.edges)

    def to_dict(self) -> dict:
        """Plain lists for JSON; empty bins are None."""
        fields = dataclasses.asdict(self)
        fields["edges"] = [edge.tolist() for edge in self.edges]
        for name in ("free_energy", "standard_error", "probability"):
            fields[name] = _finite_or_none(fields[name].tolist())
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def free_energy_surface(
    ensemble: Ensemble,
    observables: Any,
    *,
    bins: Any = None,
    ranges: Sequence[tuple[float, float] | None] | None = None,
    energy_unit: str = "kT",
) -> Surface:
    """-log of the weighted histogram of one or two observables.

    observables: an ``Observable`` of a target, a function of one configuration, or an array of values with the axes of the
        ensemble; or a sequence of one or two of these.
    bins: number of bins, or array of edges, one for all or one per observable. Default 72 in one dimension, 48 x 48 in two.
    ranges: (low, high) per observable. Default: the full circle of a periodic one; else the observable's own range; else where
        99.9 % of the weight is, and a margin.
    energy_unit: ``"kT"``, or the unit of the target's energy (then divided by the ensemble's beta).

    Errors: jackknife over independent chains; delta method for exchangeable draws; batches for a single chain (then not
    converged). Raises ``InvalidArgumentError`` for more than two observables and ``NonFiniteError`` for values that are NaN.
    """
    columns = _columns(ensemble, observables)
    weights = ensemble.weights()
    edges = [
        _edges(column, weights, axis_bins, limits)
        for column, axis_bins, limits in zip(
            columns, _per_axis(bins, len(columns)), ranges or (None,) * len(columns), strict=True
        )
    ]
    index, shape = _bin_index(columns, edges)
    inside = int(np.prod(shape))
    probability, variance, method, converged, notes = _bin_masses(ensemble, weights, index, inside)
    probability, variance = probability.reshape(shape), variance.reshape(shape)
    scale = 1.0 if energy_unit == "kT" else 1.0 / float(ensemble.state.beta)
    with np.errstate(divide="ignore", invalid="ignore"):
        free_energy = -np.log(probability)
        free_energy = (free_energy - free_energy.min()) * scale
        error = np.where(probability > 0, np.sqrt(variance) / probability, np.nan) * scale
    outside = max(0.0, 1.0 - float(probability.sum()))
    if outside > 0.01:
        notes += (f"{100 * outside:.1f} % of the weight lies outside the edges; widen ranges",)
    return Surface(
        tuple(column.label for column in columns),
        tuple(column.unit for column in columns),
        tuple(column.period for column in columns),
        tuple(edges),
        free_energy,
        error,
        probability,
        energy_unit,
        method,
        outside,
        converged,
        notes,
    )


def populations(ensemble: Ensemble, basins: Mapping[str, Callable | np.ndarray]) -> dict[str, Estimate]:
    """Probability of each basin, a function x -> bool or an array of booleans with the axes of the ensemble.

    Not converged when a basin was never visited or when only one chain visited it: then the error cannot be known.
    """
    result = {}
    for name, basin in basins.items():
        inside = _indicator(ensemble, basin)
        estimate = ensemble.expect(inside)
        notes = _visit_notes(ensemble, inside, name)
        result[name] = dataclasses.replace(
            estimate, converged=estimate.converged and not notes, notes=estimate.notes + notes
        )
    return result


def free_energy_difference(
    ensemble: Ensemble,
    basin_a: Callable | np.ndarray,
    basin_b: Callable | np.ndarray,
    *,
    names: tuple[str, str] = ("a", "b"),
) -> Estimate:
    """F_b - F_a = -log(p_b / p_a) in kT.

    Errors: jackknife of the logarithm over independent chains, delta method for exchangeable draws, batches for a single
    chain (not converged). Not converged, and infinite when need be, if a basin was never visited.
    """
    inside = [_indicator(ensemble, basin) for basin in (basin_a, basin_b)]
    weights = ensemble.weights()
    mass_a, mass_b = (float(np.sum(weights * x)) for x in inside)
    notes = sum((_visit_notes(ensemble, x, name) for x, name in zip(inside, names, strict=True)), ())
    if mass_a == 0 or mass_b == 0:
        if mass_a == mass_b:
            return Estimate(math.nan, math.inf, 0.0, "none", converged=False, notes=notes, unit="kT")
        value = math.inf if mass_b == 0 else -math.inf
        return Estimate(value, math.inf, 0.0, "none", converged=False, notes=notes, unit="kT")
    influence = weights * (inside[0] / mass_a - inside[1] / mass_b)
    groups, method, converged, more = _independent_groups(ensemble)
    variance = _grouped_variance(influence, groups)
    if method.startswith("jackknife"):
        per_chain = np.stack([np.sum(weights * x, axis=1) for x in inside])
        left_out = np.array([mass_a, mass_b])[:, None] - per_chain
        if (left_out > 0).all():
            replicates = np.log(left_out[0] / left_out[1])
            count = len(replicates)
            variance = (count - 1) / count * float(np.sum((replicates - replicates.mean()) ** 2))
    notes += more
    n_eff = (1 / mass_a + 1 / mass_b) / variance if variance > 0 else math.nan
    value = -math.log(mass_b / mass_a)
    return Estimate(value, math.sqrt(variance), n_eff, method, converged and not notes, notes, "kT")


# Values and bins ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Column:
    values: np.ndarray
    label: str
    unit: str
    period: float | None
    range: tuple[float, float] | None


def _columns(ensemble: Ensemble, observables: Any) -> list[_Column]:
    if isinstance(observables, Mapping):
        observables = list(observables.values())
    if isinstance(observables, np.ndarray) or callable(observables) or hasattr(observables, "function"):
        observables = [observables]
    if not 1 <= len(observables) <= 2:
        raise InvalidArgumentError(f"a surface has one or two observables; found {len(observables)}")
    columns = [_column(ensemble, item, f"observable {i + 1}") for i, item in enumerate(observables)]
    for column in columns:
        if column.values.shape != np.shape(ensemble.log_weights):
            raise InvalidArgumentError(
                f"{column.label} must have the shape of the ensemble {np.shape(ensemble.log_weights)}; "
                f"found {column.values.shape}"
            )
        if not np.isfinite(column.values).all():
            raise NonFiniteError(f"{int((~np.isfinite(column.values)).sum())} values of {column.label} are not finite")
    return columns


def _column(ensemble: Ensemble, item: Any, label: str) -> _Column:
    # A target's Observable is known by what it offers, not by its class: estimators do not import targets.
    if hasattr(item, "function"):
        values = ensemble.evaluate(item.function).astype(np.float64)
        return _Column(values, item.label, item.unit, item.period, item.range)
    values = np.asarray(ensemble.evaluate(item) if callable(item) else item, dtype=np.float64)
    return _Column(values, label, "1", None, None)


def _per_axis(bins: Any, count: int) -> list[Any]:
    if bins is None:
        bins = 72 if count == 1 else 48
    if isinstance(bins, int) or (isinstance(bins, np.ndarray) and bins.ndim == 1):
        return [bins] * count
    if len(bins) != count:
        raise InvalidArgumentError(f"bins must be one number or array, or one per observable; found {len(bins)}")
    return list(bins)


def _edges(column: _Column, weights: np.ndarray, bins: Any, limits: tuple[float, float] | None) -> np.ndarray:
    if not isinstance(bins, int | np.integer):
        edges = np.asarray(bins, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise InvalidArgumentError("edges must be an increasing array with at least two entries")
        return edges
    if bins < 1:
        raise InvalidArgumentError(f"the number of bins must be positive; found {bins}")
    if limits is None and column.period is not None:
        limits = (-0.5 * column.period, 0.5 * column.period)
    limits = limits or column.range or _weighted_range(column.values, weights)
    return np.linspace(*limits, int(bins) + 1)


def _weighted_range(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Where all but 0.1 % of the weight is, widened by a tenth on both sides."""
    order = np.argsort(values, axis=None)
    sorted_values, cumulative = values.reshape(-1)[order], np.cumsum(weights.reshape(-1)[order])
    low, high = np.interp([0.0005, 0.9995], cumulative, sorted_values)
    margin = 0.1 * (high - low) if high > low else 0.5
    return float(low - margin), float(high + margin)


def _bin_index(columns: list[_Column], edges: list[np.ndarray]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat bin number of every draw; the number of bins for draws outside."""
    shape = tuple(len(edge) - 1 for edge in edges)
    flat = np.zeros(columns[0].values.shape, dtype=np.int64)
    outside = np.zeros(flat.shape, dtype=bool)
    for column, edge, size in zip(columns, edges, shape, strict=True):
        values = column.values
        if column.period is not None:
            values = edge[0] + np.mod(values - edge[0], column.period)
        index = np.searchsorted(edge, values, side="right") - 1
        index = np.where(values == edge[-1], size - 1, index)
        outside |= (index < 0) | (index >= size)
        flat = flat * size + np.clip(index, 0, size - 1)
    return np.where(outside, int(np.prod(shape)), flat), shape


# Errors -------------------------------------------------------------------------------------------------------------


def _independent_groups(ensemble: Ensemble) -> tuple[np.ndarray | None, str, bool, tuple[str, ...]]:
    """Number of the independent group of every draw (None: each draw its own), the method's name, verdict and notes."""
    notes = () if ensemble.bias is None else (ensemble.bias,)
    shape = np.shape(ensemble.log_weights)
    if ensemble.axes == ("draw",):
        if ensemble.ancestors is None:
            return None, "self-normalised weights, delta method", True, notes
        families = np.unique(np.asarray(ensemble.ancestors).reshape(-1), return_inverse=True)[1]
        return families.reshape(shape), "self-normalised weights, variance over families", True, notes
    if shape[0] > 1:
        return np.repeat(np.arange(shape[0])[:, None], shape[1], axis=1), "jackknife over chains", True, notes
    blocks = max(2, int(math.sqrt(shape[1])))
    groups = (np.arange(shape[1]) * blocks // shape[1])[None, :]
    notes += ("one chain cannot show that it is converged; run at least four",)
    return groups, "batch means of one chain", False, notes


def _grouped_variance(influence: np.ndarray, groups: np.ndarray | None) -> float:
    """Variance of a sum whose terms are independent between groups: sum of squared group totals, n/(n-1) corrected."""
    totals = influence.reshape(-1) if groups is None else np.bincount(groups.reshape(-1), influence.reshape(-1))
    return float(np.sum(totals**2) * len(totals) / max(len(totals) - 1, 1))


def _bin_masses(ensemble: Ensemble, weights: np.ndarray, index: np.ndarray, count: int):
    """Mass of every bin and its variance between independent groups.

    With h_gb the weight of group g in bin b, W_g its whole weight and p_b = sum_g h_gb, the variance of p_b is
    sum_g (h_gb - p_b W_g)^2 n / (n - 1); chains use the jackknife of the ratio, which agrees to first order.
    """
    groups, method, converged, notes = _independent_groups(ensemble)
    flat_w, flat_bin = weights.reshape(-1), index.reshape(-1)
    mass = np.bincount(flat_bin, flat_w, minlength=count + 1)
    if groups is None:
        squares = np.bincount(flat_bin, flat_w**2, minlength=count + 1)
        variance = squares * (1 - 2 * mass) + mass**2 * squares.sum()
        variance *= len(flat_w) / max(len(flat_w) - 1, 1)
    else:
        flat_group = groups.reshape(-1)
        size = int(flat_group.max()) + 1
        group_mass = np.bincount(flat_group, flat_w, minlength=size)
        pairs, member = np.unique(flat_group * (count + 1) + flat_bin, return_inverse=True)
        joint = np.bincount(member.reshape(-1), flat_w)
        pair_group, pair_bin = pairs // (count + 1), pairs % (count + 1)
        squares = np.bincount(pair_bin, joint**2, minlength=count + 1)
        cross = np.bincount(pair_bin, joint * group_mass[pair_group], minlength=count + 1)
        variance = squares - 2 * mass * cross + mass**2 * np.sum(group_mass**2)
        variance *= size / max(size - 1, 1)
    return mass[:count], np.maximum(variance[:count], 0.0), method, converged, notes


def _indicator(ensemble: Ensemble, basin: Callable | np.ndarray) -> np.ndarray:
    inside = np.asarray(ensemble.evaluate(basin) if callable(basin) else basin)
    if inside.shape != np.shape(ensemble.log_weights):
        raise InvalidArgumentError(
            f"a basin must give one boolean per draw, shape {np.shape(ensemble.log_weights)}; found {inside.shape}"
        )
    return inside.astype(bool).astype(np.float64)


def _visit_notes(ensemble: Ensemble, inside: np.ndarray, name: str) -> tuple[str, ...]:
    if not inside.any():
        return (f"basin {name!r} was never visited: sample longer or hotter",)
    if ensemble.axes == ("chain", "draw") and len(inside) > 1 and int((inside.sum(axis=1) > 0).sum()) == 1:
        return (f"basin {name!r} was visited by one chain only, so its error is not known",)
    return ()


def _finite_or_none(values: Any) -> Any:
    if isinstance(values, list):
        return [_finite_or_none(value) for value in values]
    return values if math.isfinite(values) else None
