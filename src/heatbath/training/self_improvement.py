"""Rounds of self-improvement: draw from the model, weigh by the energy, resample, train on what was resampled."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from heatbath.errors import NonFiniteError
from heatbath.random import named_key, step_key
from heatbath.state import LogDensity
from heatbath.training.fit import fit
from heatbath.training.objectives.self_improvement import SelfImprovement
from heatbath.training.sources import Weighted
from heatbath.training.validation import efficiency


@dataclasses.dataclass(frozen=True)
class Improved:
    """The model after the last round; Kish's efficiency of the draws of each round's teacher, and of the final model's."""

    model: Any
    efficiencies: np.ndarray


def self_improve(
    key: Key[Array, ""],
    model: PyTree,
    u: LogDensity,
    *,
    rounds: int = 4,
    draws: int = 50_000,
    steps: int = 1000,
    batch_size: int = 512,
    optimiser: Any = None,
    strength: float = 0.5,
    power: float = 1.0,
    augment: Callable[[Array, PyTree], PyTree] | None = None,
    ema: float = 0.99,
    chunk: int = 2048,
) -> Improved:
    """``rounds`` times: ``draws`` draws x ~ q with log w = -u - log q; then ``steps`` steps on draws resampled by w^``power``.

    The loss is ``SelfImprovement`` with the round's own start as the teacher. ``power`` 2 favours what the model draws too
    rarely, as the chi-square divergence does. Raises ``NonFiniteError`` when no draw has a finite weight.
    """
    efficiencies = []
    for index in range(rounds):
        at = step_key(named_key(key, "round"), index)
        xs, log_weights = draw_weighted(named_key(at, "draws"), model, u, draws, chunk=chunk)
        efficiencies.append(float(efficiency(log_weights)))
        if not np.isfinite(np.asarray(log_weights)).any():
            raise NonFiniteError(
                f"none of {draws} draws of the model has a finite weight, so nothing can be learnt. Train it on data first."
            )
        source = Weighted(xs, power * np.asarray(log_weights, np.float64))
        objective = SelfImprovement(model, strength)
        options = {"batch_size": batch_size, "optimiser": optimiser, "augment": augment, "ema": ema}
        model = fit(named_key(at, "fit"), model, objective, source, steps=steps, **options).model
    _, log_weights = draw_weighted(named_key(key, "last"), model, u, draws, chunk=chunk)
    return Improved(model, np.array([*efficiencies, float(efficiency(log_weights))]))


@eqx.filter_jit
def draw_weighted(
    key: Key[Array, ""], model: PyTree, u: LogDensity, draws: int, *, chunk: int = 2048
) -> tuple[PyTree, Float[Array, " n"]]:
    """Draws of ``model`` and log w = -u - log q, ``chunk`` at once."""

    def one(key):
        x, log_prob = model.sample_and_log_prob(key)
        return x, -u(x) - log_prob

    return jax.lax.map(one, jax.random.split(key, draws), batch_size=chunk)
