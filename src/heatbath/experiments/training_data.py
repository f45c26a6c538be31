"""Data of a training: equally weighted configurations from the draws of a run, split into what is learnt and what is held out."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.experiments.resampling import in_proportion
from heatbath.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """``train`` and ``held_out`` (n, ...): equally weighted draws of independent chains where the data have several.

    ``source`` says where they come from; ``checksum`` is the SHA-256 of both.
    """

    train: np.ndarray
    held_out: np.ndarray
    source: str

    @property
    def checksum(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.train).tobytes())
        digest.update(np.ascontiguousarray(self.held_out).tobytes())
        return digest.hexdigest()


def from_ensemble(
    ensemble: Ensemble,
    frames: int,
    *,
    held_out: float,
    molecule: bool,
    seed: int,
    source: str,
    emphasis: Float[np.ndarray, "..."] | None = None,
) -> TrainingData:
    """``frames`` draws, resampled chain by chain in proportion to their weights (systematic, so in order of time).

    The ``held_out`` share of the chains, one at least, is kept apart; of exchangeable draws or a single chain its last part.
    ``emphasis``, of the shape of the log weights, multiplies the weights of what is learnt, all its chains together. What
    is kept apart stays as it was drawn.
    Molecules are centred and stored in float32. Raises ``InvalidArgumentError`` when nothing would be left to learn.
    """
    if not isinstance(ensemble.samples, np.ndarray) and not hasattr(ensemble.samples, "shape"):
        raise InvalidArgumentError("generators draw arrays; targets on product spaces have none yet")
    weights = ensemble.weights()
    samples = np.asarray(ensemble.samples)
    if ensemble.axes != ("chain", "draw"):
        weights, samples = weights.reshape(1, -1), samples.reshape(1, weights.size, *samples.shape[weights.ndim :])
    each = frames // len(weights)
    if each < 2:
        raise InvalidArgumentError(f"expected at least {2 * len(weights)} frames, two per chain; found {frames}")
    rng = np.random.default_rng(seed)
    chosen = np.stack([in_proportion(weight, each, rng) for weight in weights]) + _starts(weights)
    train, kept = _split(chosen, held_out)
    if emphasis is not None:
        train = train[in_proportion(emphasis.reshape(-1)[train], len(train), rng)]
    samples = samples.reshape(-1, *samples.shape[2:])
    learnt, apart = samples[train], samples[kept]
    if molecule:
        learnt, apart = _centred(learnt), _centred(apart)
    return TrainingData(learnt, apart, source)


def _starts(weights: np.ndarray) -> np.ndarray:
    """(chain, 1): the number of each chain's first draw when all draws are in one row."""
    return np.arange(len(weights))[:, None] * weights.shape[1]


def _centred(positions: np.ndarray) -> np.ndarray:
    return (positions - positions.mean(axis=-2, keepdims=True)).astype(np.float32)


def equal_basins(target: Any, ensemble: Ensemble) -> Float[np.ndarray, "..."]:
    """1 / P(basin) of the basin each draw is in, zero outside of all: as ``emphasis``, every basin is learnt from equally much.

    A rare basin is then learnt as well as the others; the weights of the model's draws put its share right.
    Raises ``UsageError`` when the target names no basins.
    """
    basins = target.basins() if hasattr(target, "basins") else {}
    if not basins:
        raise UsageError(
            'training.emphasis = "basins" needs a target that names its basins; this one does not. Take "none".'
        )
    weights, factor = ensemble.weights(), np.zeros(np.shape(ensemble.log_weights))
    for basin in basins.values():
        inside = np.asarray(ensemble.evaluate(basin)).astype(bool)
        share = float(weights[inside.reshape(weights.shape)].sum() / weights.sum())
        if share > 0:
            factor[inside] = 1.0 / share
    return factor


def from_run(path: Path, config: Any, target: Any, *, frames: int | None) -> TrainingData:
    """The draws of a finished ``heatbath sample`` of the same target at the same temperature.

    Raises ``UsageError`` when the run is of another target or temperature, and what ``launch.draws`` raises.
    """
    from heatbath.experiments import launch
    from heatbath.experiments.generators import describe_target

    run = RunDirectory.open(path)
    theirs = launch.load(run)
    found, ensemble = launch.draws(run)
    if describe_target(found)["fingerprint"] != describe_target(target)["fingerprint"]:
        raise UsageError(
            f"the data in '{path}' are of another target, {describe_target(found)['name']}, than the one to train for, "
            f"{describe_target(target)['name']}. Give a run of `heatbath sample` of this target."
        )
    own, other = target_beta(config, target), float(ensemble.state.beta)
    if abs(own - other) > 1e-6 * own:
        raise UsageError(
            f"the data in '{path}' are at {theirs.temperature}, the model is to be trained at {config.temperature}. "
            "Give both the same --temperature."
        )
    count = theirs.sampler.samples if frames is None else frames
    return from_ensemble(
        ensemble,
        count,
        held_out=config.training.held_out,
        molecule=hasattr(target, "n_atoms"),
        seed=config.seed,
        source=path.name,
        emphasis=emphasis(config, target, ensemble),
    )


def emphasis(config: Any, target: Any, ensemble: Ensemble) -> np.ndarray | None:
    """What ``training.emphasis`` asks for, as ``from_ensemble`` takes it."""
    return equal_basins(target, ensemble) if config.training.emphasis == "basins" else None


def target_beta(config: Any, target: Any) -> float:
    """Inverse temperature of the configuration, in the inverse unit of the target."""
    from heatbath.units import beta_from_temperature

    return beta_from_temperature(config.temperature, target.unit)


def facts(data: TrainingData) -> Mapping[str, Any]:
    """What the model card says about the data."""
    return {
        "data": data.source,
        "data_sha256": data.checksum,
        "configurations": len(data.train),
        "held_out": len(data.held_out),
    }


def _split(rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(chain, frame, ...) into flat training and held-out rows, by whole chains where there are several."""
    if len(rows) > 1:
        kept = min(max(1, round(share * len(rows))), len(rows) - 1)
        train, held_out = rows[:-kept], rows[-kept:]
    else:
        kept = min(max(1, round(share * rows.shape[1])), rows.shape[1] - 1)
        train, held_out = rows[:, :-kept], rows[:, -kept:]
    return train.reshape(-1, *rows.shape[2:]), held_out.reshape(-1, *rows.shape[2:])
