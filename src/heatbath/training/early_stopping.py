"""Training that is judged by held-out data: the best model is kept, and the training ends when it stops getting better."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.process import Chunk, Process
from heatbath.training.objectives.base import Objective
from heatbath.training.trainer import Trainer, TrainerCarry, with_arrays
from heatbath.training.validation import Validation


class HeldOutLoss(Validation):
    """``validation_loss``: the objective itself over held-out data (n, ...), with the same random numbers every time.

    ``repeats`` draws of these numbers are averaged; ``chunk`` rows go through the model at once. For maximum likelihood it is the
    negative log-likelihood, for missing dimensions an unbiased estimate of its mean over all orders.
    """

    objective: Objective
    held_out: PyTree
    repeats: int = 1
    chunk: int = 512

    @property
    def names(self) -> tuple[str, ...]:
        return ("validation_loss",)

    def __call__(self, key, model):
        total, count = 0.0, len(jax.tree.leaves(self.held_out)[0])
        for repeat in range(self.repeats):
            for start in range(0, count, self.chunk):
                part = jax.tree.map(lambda leaf, start=start: leaf[start : start + self.chunk], self.held_out)
                fixed = jax.random.fold_in(jax.random.key(repeat), start)
                loss, _ = self.objective(fixed, model, part)
                total = total + loss * min(self.chunk, count - start)
        return {"validation_loss": total / (count * self.repeats)}


class StoppingCarry(NamedTuple):
    """A training and the best model so far.

    best:      averaged arrays at the validation of the lowest loss, ``best_loss``, after ``best_step`` steps
    waited:    validations since then
    history:   (validation, 3): step, loss of the training, loss of the validation; NaN where there was none yet
    looked:    how many rows of it are filled
    """

    training: TrainerCarry
    best: PyTree
    best_loss: Float[Array, ""]
    best_step: Int[Array, ""]
    waited: Int[Array, ""]
    history: Float[Array, "validation 3"]
    looked: Int[Array, ""]


class EarlyStopping(Process):
    """``trainer`` until ``patience`` validations in a row have not lowered the number called ``watched``, or until its end.

    The model of the lowest number is the result (``trained``). A validation that is not finite counts as one that is no better.
    Raises ``InvalidArgumentError`` when the trainer's validation does not give that number, or has chunks that end between
    validations.
    """

    trainer: Trainer
    patience: int = 10
    watched: str = "validation_loss"

    def __check_init__(self):
        validation = self.trainer.validation
        if validation is None or self.watched not in validation.names:
            known = () if validation is None else validation.names
            raise InvalidArgumentError(
                f"expected a trainer whose validation gives {self.watched!r}; found {list(known)}"
            )
        if self.trainer.steps_per_chunk != self.trainer.validate_every:
            raise InvalidArgumentError(
                f"every chunk must end with a validation: steps_per_chunk is {self.trainer.steps_per_chunk} and "
                f"validate_every {self.trainer.validate_every}"
            )
        if self.patience < 1:
            raise InvalidArgumentError(f"patience must be at least 1 validation; found {self.patience}")

    def begin(self, key: Key[Array, ""]) -> StoppingCarry:
        training = self.trainer.begin(key)
        rows = -(-self.trainer.steps // self.trainer.validate_every)
        zero = jnp.zeros((), jnp.int32)
        return StoppingCarry(
            training, training.average, jnp.asarray(jnp.inf, float), zero, zero, jnp.full((rows, 3), jnp.nan), zero
        )

    def advance(self, carry: StoppingCarry) -> tuple[StoppingCarry, Chunk]:
        training, chunk = self.trainer.advance(carry.training)
        value = float(chunk.metrics[self.watched])
        row = jnp.array([float(training.step), chunk.metrics["loss"], value])
        better = bool(np.isfinite(value)) and value < float(carry.best_loss)
        carry = carry._replace(
            training=training,
            waited=jnp.asarray(0 if better else int(carry.waited) + 1, jnp.int32),
            history=carry.history.at[carry.looked].set(row),
            looked=carry.looked + 1,
        )
        if better:
            carry = carry._replace(best=training.average, best_loss=jnp.asarray(value, float), best_step=training.step)
        best = {f"best_{self.watched}": float(carry.best_loss), "best_step": float(carry.best_step)}
        return carry, Chunk(chunk.phase, chunk.arrays, {**chunk.metrics, **best})

    def finished(self, carry: StoppingCarry) -> bool:
        return int(carry.waited) >= self.patience or self.trainer.finished(carry.training)

    def progress(self, carry: StoppingCarry) -> float:
        return 1.0 if self.finished(carry) else self.trainer.progress(carry.training)

    def trained(self, carry: StoppingCarry) -> Any:
        """The model at its best validation; the untrained one before the first."""
        return with_arrays(self.trainer.model, carry.best)

    def history(self, carry: StoppingCarry) -> dict[str, np.ndarray]:
        """Columns ``step``, ``train`` (mean loss of the chunk) and ``valid``, one row per validation."""
        rows = np.asarray(jax.device_get(carry.history))[: int(carry.looked)]
        return dict(zip(("step", "train", "valid"), rows.T, strict=True))
