"""What training minimises: the ``Objective`` contract and weighted sums of objectives."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError


class Objective(eqx.Module):
    """A loss of a model over a batch.

    ``objective(key, model, batch) -> (loss, metrics)``: ``batch`` is a pytree whose leaves have a leading batch axis, or None
    for an objective that needs no data; ``metrics`` are scalars worth watching. The loss is a mean over the batch, so that
    learning rates do not depend on its size.
    """

    @abc.abstractmethod
    def __call__(
        self, key: Key[Array, ""], model: PyTree, batch: PyTree
    ) -> tuple[Scalar, dict[str, Scalar | Float[Array, ""]]]: ...

    def evaluations(self, batch_size: int) -> int:
        """Energy evaluations of one step, gradients counted as one."""
        return 0


class WeightedSum(Objective):
    """sum_i weights_i loss_i, every part on the same batch. The parts' own losses are metrics ``loss_0``, ``loss_1``, ...

    Raises ``InvalidArgumentError`` unless there is one weight per part.
    """

    parts: tuple[Objective, ...]
    weights: tuple[float, ...]

    def __check_init__(self):
        if not self.parts or len(self.parts) != len(self.weights):
            raise InvalidArgumentError(
                f"expected one weight per objective and at least one; found {len(self.parts)} objectives and "
                f"{len(self.weights)} weights"
            )

    def __call__(self, key, model, batch):
        total, metrics = jnp.zeros(()), {}
        for index, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            loss, found = part(jax.random.fold_in(key, index), model, batch)
            total = total + weight * loss
            metrics |= {f"loss_{index}": loss, **found}
        return total, metrics

    def evaluations(self, batch_size: int) -> int:
        return sum(part.evaluations(batch_size) for part in self.parts)
