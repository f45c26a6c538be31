"""Sampling with a trained generator: from a model directory to a sampler whose draws carry honest weights.

``GeneratorSampler`` drives importance sampling or SMC in the space where the model is normalised (centre held by a harmonic
term), and hands out draws as everybody else's are: centres forgotten, the state without a bias. Draws that are another molecule
(a mirrored stereocentre has the energy of the right one, so no energy forbids it) are outside the target's support: their
weight is zero, and they are counted.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.errors import ConvergenceError, UsageError
from heatbath.experiments.generator_results import generator_section
from heatbath.experiments.references import matching
from heatbath.io.models import ModelCard
from heatbath.models.base import Distribution
from heatbath.models.steerable_flow import Steerable
from heatbath.process import Chunk
from heatbath.samplers.augmented import FromSteerable
from heatbath.samplers.base import Cost, Sampled, Sampler
from heatbath.samplers.centre import forget_centre, held_at_centre
from heatbath.samplers.importance import ImportanceSampler
from heatbath.samplers.plan import default_kernel, plan_for
from heatbath.samplers.proposals import FromDistribution, Proposal
from heatbath.samplers.smc import SMCSampler
from heatbath.state import ThermoState
from heatbath.targets.base import Target
from heatbath.training.trainable import parameter_count

#: Draws made at once by importance sampling.
DRAWS_AT_ONCE = 500
#: Draws of each side in the optimal transport of a run's report, and replicates of the bootstrap: seconds, not minutes.
TRANSPORT, REPLICATES = 1000, 10


class GeneratorSampler(Sampler):
    """``inner`` (importance sampling or SMC from a model), whose ensemble is put back into the target's own terms.

    ``method`` is the word for reports. ``collect`` forgets the centre that the model placed, and gives weight zero to draws
    whose coordinates are not finite or whose stereocentres are not those of the target's reference structure; diagnostics count
    them as ``not_finite_positions`` and ``inverted``, and ``inverted_share`` is the share of the weight that the latter had.
    It raises ``ConvergenceError`` when no draw has any weight.
    """

    target: Target
    inner: Sampler
    method: str = eqx.field(static=True)

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        return self.inner.axes

    @property
    def draws_per_chunk(self) -> int:
        """Draws between two looks at the clock."""
        return int(getattr(self.inner, "draws_per_chunk", getattr(self.inner, "particles", 0)))

    def cost(self) -> Cost | None:
        return self.inner.cost()

    def begin(self, key: Any) -> Any:
        return self.inner.begin(key)

    def advance(self, carry: Any) -> tuple[Any, Chunk]:
        return self.inner.advance(carry)

    def finished(self, carry: Any) -> bool:
        return self.inner.finished(carry)

    def progress(self, carry: Any) -> float:
        return self.inner.progress(carry)

    def collect(self, arrays: Mapping[str, np.ndarray], carry: Any) -> Sampled:
        sampled = self.inner.collect(arrays, carry)
        ensemble, found = within_support(self.target, sampled.ensemble)
        if not np.isfinite(np.asarray(ensemble.log_weights)).any():
            raise ConvergenceError(
                f"none of the {ensemble.size} draws of the model has any weight: their energies are not finite or they are "
                "mirror images, so there is no answer. Train the model longer, or sample by replica exchange."
            )
        return Sampled(ensemble, {**sampled.diagnostics, **found, "method": self.method})


def generator_sampler(
    target: Target,
    state: ThermoState,
    model: Distribution,
    *,
    centre_scale: float | None,
    samples: int,
    method: str = "flow",
    draws_at_once: int = DRAWS_AT_ONCE,
    particles: int = 1000,
    kernel: Any = None,
    steps: int = 2,
) -> GeneratorSampler:
    """The sampler of ``samples`` weighted draws of ``model`` for ``target`` at ``state``.

    method:        "flow" (importance sampling) or "flow-smc" (SMC along the geometric path from the model)
    centre_scale:  standard deviation of the centre of the model's draws in nm, None where it has no such law
    particles:     of one population of SMC; ``steps`` moves per level by ``kernel`` (MALA when None)
    """
    held = state if centre_scale is None else held_at_centre(state, centre_scale)
    if method == "flow":
        inner: Sampler = ImportanceSampler(target, held, proposal_of(model), samples, min(draws_at_once, samples))
    elif isinstance(model, Steerable):
        raise UsageError(
            "method 'flow-smc' anneals from a density over positions; a steerable flow has momenta: use 'flow'"
        )
    else:
        moves = default_kernel("mala", target, state, plan_for(target), None) if kernel is None else kernel
        size = min(particles, max(2, samples))
        inner = SMCSampler(target, held, model, moves, samples, size, steps, particles_at_once=min(draws_at_once, size))
    return GeneratorSampler(target, inner, method)


def within_support(target: Any, ensemble: Ensemble) -> tuple[Ensemble, dict[str, Any]]:
    """Draws of a generator as draws of the target: see ``GeneratorSampler``; and the counts of what has no weight."""
    samples = ensemble.samples
    if not isinstance(samples, (jax.Array, np.ndarray)):
        return ensemble, {}
    rows = np.asarray(samples)
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    log_weights = np.asarray(ensemble.log_weights, dtype=np.float64)
    energies = None if ensemble.energies is None else np.asarray(ensemble.energies, dtype=np.float64)
    bad = ~finite | np.isnan(log_weights) | (~np.isfinite(energies) if energies is not None else False)
    if not finite.all():
        rows = np.where(finite.reshape(-1, *(1,) * (rows.ndim - 1)), rows, rows[np.argmax(finite)])
    log_weights = np.where(bad, -np.inf, log_weights)
    found: dict[str, Any] = {"not_finite_positions": int((~finite).sum()), "inverted": 0, "inverted_share": 0.0}
    inverted = _inverted(target, rows)
    if inverted.any():
        before = np.exp(log_weights - log_weights.max()) if np.isfinite(log_weights).any() else np.zeros(len(rows))
        found["inverted"] = int(inverted.sum())
        found["inverted_share"] = float(before[inverted].sum() / max(before.sum(), np.finfo(float).tiny))
        log_weights = np.where(inverted, -np.inf, log_weights)
    ensemble = dataclasses.replace(ensemble, samples=jnp.asarray(rows), log_weights=log_weights)
    return (ensemble if ensemble.state.bias is None else forget_centre(ensemble)), found


def _inverted(target: Any, rows: np.ndarray) -> np.ndarray:
    """Whether any stereocentre of each draw has the other hand than in the target's reference structure."""
    if getattr(target, "positions", None) is None or not hasattr(target, "chirality"):
        return np.zeros(len(rows), dtype=bool)
    own = np.asarray(target.chirality(jnp.asarray(target.positions)))
    if not own.size:
        return np.zeros(len(rows), dtype=bool)
    hands = jax.jit(lambda xs: jax.lax.map(target.chirality, xs, batch_size=1024))(jnp.asarray(rows))
    return (np.asarray(hands) != own).any(axis=1)


def proposal_of(model: Distribution) -> Proposal:
    """The model as a proposal at whatever temperature is asked; momenta of a steerable one are projected out."""
    return FromSteerable(model) if isinstance(model, Steerable) else FromDistribution(model)


# Results --------------------------------------------------------------------------------------------------------------
def described(
    target: Target, state: ThermoState, sampled: Sampled, model: Distribution, card: ModelCard, *, seed: int = 0
) -> dict[str, Any]:
    """The ``generator`` section of a run that sampled with ``model``, beside the reference of its system where there is one."""
    reference = matching(target, state.temperature(target.unit)) if target.unit != "1" else None
    steerable = isinstance(model, Steerable)
    weighted = str(sampled.diagnostics["method"]) == "flow"
    section = generator_section(
        target,
        sampled.ensemble,
        reference=reference,
        proposal=None if steerable or not weighted else model,
        centre_scale=card.centre_scale,
        model=model_facts(model, card),
        training=card.training.get("curve"),
        transport=TRANSPORT,
        replicates=REPLICATES,
        seed=seed,
    )
    section.setdefault("stereochemistry", {})
    share = sampled.diagnostics.get("inverted_share")
    if section["stereochemistry"] and share is not None:
        section["stereochemistry"]["weight_inverted"] = share
    return section


def model_facts(model: Distribution, card: ModelCard) -> dict[str, Any]:
    """What a reader wants to know of the model: kind, size, how it was trained."""
    training = card.training
    facts = {"kind": card.kind, "parameters": parameter_count(model), "temperature": card.temperature}
    names = {"steps": "training_steps", "seconds": "training_seconds", "seed": "seed", "command": "command"}
    return facts | {name: training[key] for key, name in names.items() if key in training}
