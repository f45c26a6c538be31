"""A learned density as a target: whatever has a normalised log density has an energy, and an exact log Z."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import Discrete, Euclidean, Space
from heatbath.targets.base import Target


class LearnedDensity(Target):
    """U(x) = -log p(x) of a model over vectors with ``log_prob(x)`` and ``sample(key)``; its mean at beta 1 is the entropy.

    ``discrete``: over zeros and ones instead of numbers. Exact truths are known at beta = 1 alone. Raises
    ``InvalidArgumentError`` unless a draw of the model is a vector.
    """

    model: PyTree
    space: Space
    name: str = eqx.field(static=True)

    def __init__(self, model: PyTree, *, discrete: bool, name: str = "learned density"):
        shape = jax.eval_shape(model.sample, jax.random.key(0)).shape
        if len(shape) != 1:
            raise InvalidArgumentError(f"a learned density is over vectors; a draw of this model has the shape {shape}")
        self.model, self.name = model, name
        self.space = Discrete(shape, 2) if discrete else Euclidean(shape)

    def energy(self, x: Array) -> Scalar:
        return -self.model.log_prob(x)

    def initial(self, key: Key[Array, ""]) -> Array:
        return self.model.sample(key)

    def log_z(self, beta: float) -> float:
        self._require_one(beta)
        return 0.0

    def sample(self, key: Key[Array, ""], beta: float) -> Array:
        self._require_one(beta)
        return self.model.sample(key)

    @staticmethod
    def _require_one(beta: float) -> None:
        if not bool(jnp.isclose(beta, 1.0)):
            raise UnknownTruthError(
                f"log Z and draws of a learned density are known at beta = 1; asked for {float(beta):g}"
            )
