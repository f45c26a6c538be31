"""Distances between a generator's draws and a reference, each with a bootstrap error and beside its own floor.

Every metric compares equally many draws of both sides; its floor is the same metric between two halves of the reference that
share no ladder, at the same number of frames. A reweighted ensemble is resampled by its weights, as the literature does, so
that one number of draws means the same for all. Torsions and TICA belong to molecules; other targets have energies alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.errors import MissingExtraError
from heatbath.estimate import Estimate
from heatbath.estimators import (
    Tica,
    energy_wasserstein,
    fit_tica,
    metric_floor,
    metric_with_error,
    ramachandran_jsd,
    tica_wasserstein,
    torus_wasserstein,
)
from heatbath.experiments.coordinates import torsion_pairs
from heatbath.io.datasets import Reference
from heatbath.targets.base import Target

#: Most draws of a side for the metrics that cost no transport.
MOST_DRAWS = 20_000
#: Pairs of halves of the reference over which a floor is averaged.
FLOOR_SPLITS = 4
#: Components that TICA keeps, and its lag in frames of the reference.
TICA_DIMENSIONS, TICA_LAG = 2, 1


@dataclasses.dataclass(frozen=True)
class Features:
    """What the metrics look at, of every draw.

    energies: reduced, (n,); torsions: (n, k) radians, phi and psi of every residue that has both; descriptors: (n, d) of TICA;
    groups: (n,) number of the independent block (ladder, family) of each draw; weights: (n,), zero where an energy is not
    finite; chains: number of ladders, 0 for exchangeable draws.
    """

    energies: np.ndarray
    torsions: np.ndarray
    descriptors: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    chains: int

    @property
    def equal(self) -> np.ndarray:
        """Equal weights of the draws that have a finite energy: what the model makes of itself."""
        return np.isfinite(self.energies).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class MetricKind:
    """A metric: the function, the feature it is of, its unit, and the most draws of a side that it is meant for."""

    name: str
    unit: str
    feature: str
    function: Callable[[np.ndarray, np.ndarray], float]
    most: int


def metric_rows(
    target: Target,
    ensemble: Ensemble,
    reference: Reference,
    *,
    smc: Ensemble | None = None,
    most: int = MOST_DRAWS,
    transport: int = 2000,
    replicates: int = 20,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows ``{"name", "unit", "draws", "unweighted", "reweighted", "smc", "floor"}``: ``{"value", "standard_error"}`` or None.

    ``most`` bounds the draws of a side, ``transport`` those of optimal transport. Errors are the standard deviation over
    ``replicates`` bootstrap samples of the ladders of the reference and of the draws (the families, after SMC); that of a
    floor is its spread over halvings. A metric whose package is missing has no values and says so in ``note``.
    """
    truth, own = features(target, reference.ensemble()), features(target, ensemble)
    sides = {"unweighted": (own, own.equal), "reweighted": (own, own.weights)}
    if smc is not None:
        after = features(target, smc)
        sides["smc"] = (after, after.weights)
    rows = []
    for kind in metric_kinds(truth, transport):
        size = min(kind.most, most, len(truth.energies) // 2, *(len(draws.energies) for draws, _ in sides.values()))
        row: dict[str, Any] = {"name": kind.name, "unit": kind.unit, "draws": size}
        frames = getattr(truth, kind.feature)
        try:
            found = {
                side: metric_with_error(
                    kind.function,
                    getattr(draws, kind.feature),
                    frames,
                    first_weights=weights,
                    first_groups=draws.groups,
                    second_groups=truth.groups,
                    size=size,
                    replicates=replicates,
                    seed=seed,
                )
                for side, (draws, weights) in sides.items()
            }
            found["floor"] = metric_floor(
                kind.function, frames, truth.groups, size=size, splits=FLOOR_SPLITS, seed=seed
            )
        except MissingExtraError as error:
            found, row["note"] = {}, str(error)
        shown = {side: _plain(found.get(side)) for side in ("unweighted", "reweighted", "smc", "floor")}
        rows.append(row | shown)
    return rows


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    return {"value": float(estimate.value), "standard_error": float(estimate.standard_error)}


def metric_kinds(truth: Features, transport: int = 2000) -> list[MetricKind]:
    """The metrics that the reference's features allow. TICA is fitted to its ladders in time order.

    Replica exchange has hardly any memory from frame to frame, so the components are those of rare events, such as a cis
    peptide bond: TICA W2 tells first of all whether these have the same share on both sides.
    """
    kinds = [MetricKind("energy W2", "kT", "energies", energy_wasserstein, MOST_DRAWS)]
    if truth.torsions.shape[1]:
        kinds += [
            MetricKind("torus W2", "rad", "torsions", torus_wasserstein, transport),
            MetricKind("Ramachandran JSD", "nats", "torsions", _mean_jsd, MOST_DRAWS),
        ]
    projection = _projection(truth)
    if projection is not None:
        kinds.append(
            MetricKind("TICA W2", "1", "descriptors", lambda a, b: tica_wasserstein(projection, a, b), transport)
        )
    return kinds


def _mean_jsd(first: np.ndarray, second: np.ndarray) -> float:
    """The Ramachandran divergence, averaged over residues."""
    pairs = [slice(2 * i, 2 * i + 2) for i in range(first.shape[1] // 2)]
    return float(np.mean([ramachandran_jsd(first[:, pair], second[:, pair]) for pair in pairs]))


def _projection(truth: Features) -> Tica | None:
    if not truth.descriptors.shape[1] or len(truth.energies) < max(2, truth.chains) * (TICA_LAG + 2):
        return None
    return fit_tica(
        truth.descriptors.reshape(max(truth.chains, 1), -1, truth.descriptors.shape[1]),
        TICA_LAG,
        dimensions=TICA_DIMENSIONS,
    )


# Features -------------------------------------------------------------------------------------------------------------
def features(target: Any, ensemble: Ensemble) -> Features:
    """Energies, torsions and TICA's descriptors of every draw."""
    flat = ensemble.flat()
    assert flat.energies is not None
    chains = np.shape(ensemble.log_weights)[0] if ensemble.axes == ("chain", "draw") else 0
    if chains:
        groups = np.repeat(np.arange(chains), ensemble.size // chains)
    else:
        groups = np.arange(flat.size) if flat.ancestors is None else np.asarray(flat.ancestors)
    energies = float(flat.state.beta) * np.asarray(flat.energies, dtype=np.float64)
    weights = np.where(np.isfinite(energies), flat.weights(), 0.0)
    torsions = _torsions(target, flat)
    return Features(energies, torsions, _descriptors(target, flat, torsions), groups, weights, chains)


def _torsions(target: Any, flat: Ensemble) -> np.ndarray:
    observables = target.observables()
    functions = [observables[name].function for pair in torsion_pairs(list(observables)) for name in pair]
    if not functions:
        return np.zeros((flat.size, 0))
    return np.asarray(flat.evaluate(lambda x: jnp.stack([function(x) for function in functions])), np.float64)


def _descriptors(target: Any, flat: Ensemble, torsions: np.ndarray) -> np.ndarray:
    """Distances between all C, N and S atoms, sine and cosine of phi, psi and omega (Tan et al., arXiv 2502.18462)."""
    if not torsions.shape[1]:
        return np.zeros((flat.size, 0))
    heavy = np.array([i for i, element in enumerate(target.topology.elements) if element in ("C", "N", "S")])
    first, second = heavy[np.stack(np.triu_indices(len(heavy), k=1))]

    def describe(x: jax.Array) -> jax.Array:
        omega = target.peptide_bonds(x)
        distances = jnp.linalg.norm(x[first] - x[second], axis=-1)
        return jnp.concatenate([distances, jnp.sin(omega), jnp.cos(omega)])

    own = np.asarray(flat.evaluate(describe), dtype=np.float64)
    return np.concatenate([own, np.sin(torsions), np.cos(torsions)], axis=1)
