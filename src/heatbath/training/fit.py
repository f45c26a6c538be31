"""One call that trains any model by any objective, without files."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.process import Chunk
from heatbath.training.objectives.base import Objective
from heatbath.training.trainer import Trainer
from heatbath.training.validation import Validation


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a training left.

    model:   with the moving average of its arrays: the one to use
    latest:  with the arrays of the last step
    history: name -> one number per chunk: ``optimiser_step``, ``loss``, what the objective and the validation measure
    skipped: steps that were not taken because loss or gradient was not finite
    seconds: wall time, compilation included
    """

    model: Any
    latest: Any
    history: Mapping[str, np.ndarray]
    skipped: int
    seconds: float


def fit(
    key: Key[Array, ""],
    model: PyTree,
    objective: Objective,
    data: Any = None,
    *,
    steps: int,
    batch_size: int = 512,
    optimiser: Any = None,
    ema: float = 0.999,
    augment: Callable[[Array, PyTree], PyTree] | None = None,
    validate: Validation | None = None,
    validate_every: int = 1000,
    steps_per_chunk: int = 100,
    watch: Callable[[Chunk], None] | None = None,
) -> Fitted:
    """Train ``model`` for ``steps`` steps; see ``Trainer`` for the arguments.

    ``data``: arrays (n, ...) that are shuffled every epoch, a ``Source``, a function ``draw(key, n)``, or None. ``watch`` is
    called with every chunk. A second call with equal shapes and an equal objective compiles nothing.
    """
    trainer = Trainer(
        model,
        objective,
        data,
        steps=steps,
        batch_size=batch_size,
        optimiser=optimiser,
        ema=ema,
        augment=augment,
        validation=validate,
        validate_every=validate_every,
        steps_per_chunk=steps_per_chunk,
    )
    started, carry, rows = time.monotonic(), trainer.begin(key), []
    while not trainer.finished(carry):
        carry, chunk = trainer.advance(carry)
        rows.append(chunk.metrics)
        if watch is not None:
            watch(chunk)
    history = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    seconds = time.monotonic() - started
    return Fitted(trainer.trained(carry), trainer.latest(carry), history, int(carry.skipped), seconds)
