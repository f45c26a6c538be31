"""Training as a process: chunks of compiled steps that can be watched, checkpointed, stopped and continued bitwise.

The trajectory depends on the key and the step number alone, not on how the steps are cut into chunks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.process import Chunk, Process
from heatbath.random import named_key, step_key
from heatbath.training.objectives.base import Objective
from heatbath.training.optimiser import AdamW
from heatbath.training.sources import Source, source_of
from heatbath.training.trainable import trainable
from heatbath.training.validation import Validation


class TrainerCarry(NamedTuple):
    """Everything the future of a training depends on.

    ``params`` and ``average`` (the exponential moving average) are the trainable arrays; ``skipped`` counts steps that were
    not taken because loss or gradient was not finite; ``validation`` are the last validation's numbers (NaN before the
    first) and ``validated`` the step they belong to.
    """

    params: PyTree
    average: PyTree
    optimiser: PyTree
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    key: Array
    validation: dict[str, Array]
    validated: Int[Array, ""]


class Trainer(Process):
    """Minimises an objective over the trainable arrays of a model.

    model:          where training starts; arrays under classes declared ``frozen`` stay as they are
    objective:      the loss
    source:         where batches come from (``source_of`` makes one of arrays or of a function)
    steps:          optimiser steps in all
    batch_size:     configurations per step; all of them when there are fewer
    optimiser:      an ``AdamW``, or any optax transformation (a new one of those compiles anew)
    ema:            decay of the average: a <- d a + (1 - d) params, d = min(ema, (1 + t)/(10 + t)) at step t = 0, 1, ..., so that
                    the untrained start does not linger; 0 means no average
    augment:        ``augment(key, x) -> x`` on one configuration, applied to every batch
    validation:     measures the averaged model after every ``validate_every`` steps and at the end
    steps_per_chunk: steps between two looks at the clock

    A step whose loss or gradient holds anything that is not finite changes nothing but the counter ``skipped``.
    """

    model: PyTree
    objective: Objective
    source: Source
    optimiser: Any
    steps: int
    batch_size: int = eqx.field(static=True)
    ema: float = 0.999
    augment: Callable[[Array, PyTree], PyTree] | None = None
    validation: Validation | None = None
    validate_every: int = 1000
    steps_per_chunk: int = 100

    def __init__(
        self,
        model: PyTree,
        objective: Objective,
        data: Any = None,
        *,
        steps: int,
        batch_size: int = 512,
        optimiser: Any = None,
        ema: float = 0.999,
        augment: Callable[[Array, PyTree], PyTree] | None = None,
        validation: Validation | None = None,
        validate_every: int = 1000,
        steps_per_chunk: int = 100,
    ):
        counts = {"steps": steps, "batch_size": batch_size, "validate_every": validate_every}
        for name, value in {**counts, "steps_per_chunk": steps_per_chunk}.items():
            if value < 1:
                raise InvalidArgumentError(f"{name} must be at least 1; found {value}")
        if not 0 <= ema < 1:
            raise InvalidArgumentError(f"ema must be at least 0 and below 1; found {ema}")
        self.model, self.objective, self.source = model, objective, source_of(data)
        if not jax.tree.leaves(eqx.filter(model, trainable(model))):
            raise InvalidArgumentError("the model has nothing to train: all of its arrays are frozen or integers")
        self.optimiser = AdamW() if optimiser is None else optimiser
        self.steps, self.ema, self.augment = steps, ema, augment
        self.batch_size = min(batch_size, self.source.available or batch_size)
        self.validation, self.validate_every, self.steps_per_chunk = validation, validate_every, steps_per_chunk

    # Process ----------------------------------------------------------------------------------------------------------
    def begin(self, key: Key[Array, ""]) -> TrainerCarry:
        params = eqx.filter(self.model, trainable(self.model))
        names = () if self.validation is None else self.validation.names
        return TrainerCarry(
            params=params,
            average=params,
            optimiser=_transformation(self.optimiser).init(params),
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            key=jax.random.key_data(named_key(key, "training")),
            validation={name: jnp.asarray(jnp.nan, float) for name in names},
            validated=jnp.asarray(-1, jnp.int32),
        )

    def advance(self, carry: TrainerCarry) -> tuple[TrainerCarry, Chunk]:
        first = int(carry.step)
        last = min(first + self.steps_per_chunk, self.steps)
        carry, means = _train(_lean(self), carry, jnp.asarray(last, jnp.int32))
        evaluations = (last - first) * self.objective.evaluations(self.batch_size)
        if self.validation is not None and (
            last // self.validate_every > first // self.validate_every or last == self.steps
        ):
            carry = carry._replace(validation=_validate(self, carry), validated=carry.step)
            evaluations += self.validation.evaluations
        metrics = {"evaluations": evaluations, "optimiser_step": last, **means, **carry.validation}
        metrics |= {"skipped": carry.skipped, "validation_step": carry.validated}
        return carry, Chunk("training", {}, {name: float(value) for name, value in metrics.items()})

    def finished(self, carry: TrainerCarry) -> bool:
        return int(carry.step) >= self.steps

    def progress(self, carry: TrainerCarry) -> float:
        return min(1.0, int(carry.step) / self.steps)

    # Results ----------------------------------------------------------------------------------------------------------
    def trained(self, carry: TrainerCarry) -> PyTree:
        """The model with its averaged arrays: the one to use."""
        return with_arrays(self.model, carry.average)

    def latest(self, carry: TrainerCarry) -> PyTree:
        """The model with the arrays of the last step."""
        return with_arrays(self.model, carry.params)


def average(old: PyTree, new: PyTree, step: Int[Array, ""], ema: float) -> PyTree:
    """d old + (1 - d) new with d = min(ema, (1 + step)/(10 + step)); ``new`` itself when ema is 0."""
    decay = jnp.minimum(ema, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, b: a + ((1 - decay) * (b - a)).astype(a.dtype), old, new)


def _lean(trainer: Trainer) -> Trainer:
    """The trainer without what the steps do not use, so that it is neither traced nor compared."""
    return eqx.tree_at(
        lambda t: (t.steps, t.validation, t.validate_every, t.steps_per_chunk),
        trainer,
        (None, None, None, None),
        is_leaf=lambda leaf: leaf is None,
    )


@eqx.filter_jit
def _train(trainer: Trainer, carry: TrainerCarry, last: Int[Array, ""]) -> tuple[TrainerCarry, dict[str, Scalar]]:
    """Steps ``carry.step`` to ``last`` - 1, and the means of loss and metrics over the steps that were taken."""
    base = jax.random.wrap_key_data(carry.key)
    key_source, key_augment, key_objective = (named_key(base, name) for name in ("source", "augment", "objective"))
    transformation = _transformation(trainer.optimiser)
    first, spec = carry.step, trainable(trainer.model)
    fixed = eqx.filter(trainer.model, spec, inverse=True)

    def loss_of(params, key, batch):
        loss, metrics = trainer.objective(key, eqx.combine(params, fixed), batch)
        return loss, {"loss": loss, **metrics}

    def batch_of(memory, step):
        memory, batch = trainer.source.batch(key_source, memory, step, trainer.batch_size)
        if trainer.augment is not None and batch is not None:
            keys = jax.random.split(step_key(key_augment, step), trainer.batch_size)
            batch = jax.vmap(trainer.augment)(keys, batch)
        return memory, batch

    def step(_, state):
        carry, memory, sums, taken = state
        memory, batch = batch_of(memory, carry.step)
        gradient, metrics = jax.grad(loss_of, has_aux=True)(carry.params, step_key(key_objective, carry.step), batch)
        metrics["gradient_norm"] = _norm(gradient)
        good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
        updates, optimiser = transformation.update(gradient, carry.optimiser, carry.params)
        params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), carry.params, updates)
        averaged = average(carry.average, params, carry.step, trainer.ema)
        params, averaged, optimiser = _select(
            good, (params, averaged, optimiser), (carry.params, carry.average, carry.optimiser)
        )
        sums = jax.tree.map(lambda s, m: s + jnp.where(good, m, 0.0), sums, metrics)
        carry = carry._replace(
            params=params,
            average=averaged,
            optimiser=optimiser,
            step=carry.step + 1,
            skipped=carry.skipped + jnp.where(good, 0, 1).astype(jnp.int32),
        )
        return carry, memory, sums, taken + jnp.where(good, 1, 0)

    memory = trainer.source.remember(key_source, first, trainer.batch_size)
    shapes = jax.eval_shape(lambda: loss_of(carry.params, base, batch_of(memory, first)[1])[1])
    zeros = {name: jnp.zeros((), jnp.result_type(float)) for name in (*shapes, "gradient_norm")}
    state = (carry, memory, zeros, jnp.zeros((), jnp.int32))
    # a bound that is traced: the shorter last chunk is the same program
    carry, _, sums, taken = jax.lax.fori_loop(0, last - first, step, state)
    return carry, jax.tree.map(lambda total: total / taken, sums)  # NaN when no step was taken


@eqx.filter_jit
def validated(model: PyTree, validation: Validation, key: Key[Array, ""]) -> dict[str, Float[Array, ""]]:
    """What ``validation`` says of ``model``; compiled once per kind of both."""
    return {name: jnp.asarray(value, float) for name, value in validation(key, model).items()}


def _validate(trainer: Trainer, carry: TrainerCarry) -> dict[str, Float[Array, ""]]:
    key = step_key(named_key(jax.random.wrap_key_data(carry.key), "validation"), carry.step)
    assert trainer.validation is not None
    return validated(trainer.trained(carry), trainer.validation, key)


def _transformation(optimiser: Any):
    return optimiser.transformation() if isinstance(optimiser, AdamW) else optimiser


def with_arrays(model: PyTree, arrays: PyTree) -> PyTree:
    """``model`` with other trainable arrays."""
    return eqx.combine(arrays, eqx.filter(model, trainable(model), inverse=True))


def _norm(gradient: PyTree) -> Scalar:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(float))) for leaf in jax.tree.leaves(gradient)))


def _select(good, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)
