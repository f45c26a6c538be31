"""Likelihood of a model's own reweighted draws, held near the model that drew them."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.training.objectives.base import Objective


class SelfImprovement(Objective):
    """loss = mean_i [-log q(x_i) + strength (log q(x_i) - log q_teacher(x_i))^2] over resampled draws of the teacher.

    The second term keeps a small buffer from being learnt by heart. Source: arXiv 2508.18175 (self-improvement).
    """

    teacher: PyTree
    strength: float = 0.5

    def __check_init__(self):
        if self.strength < 0:
            raise InvalidArgumentError(f"strength must not be negative; found {self.strength}")

    def __call__(self, key, model, batch):
        log_probs = model.log_probs(batch)
        before = jax.lax.stop_gradient(jax.vmap(self.teacher.log_prob)(batch))
        likelihood, distance = -jnp.mean(log_probs), jnp.mean((log_probs - before) ** 2)
        return likelihood + self.strength * distance, {"likelihood": -likelihood, "distance": distance}
