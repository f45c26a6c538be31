"""Maximum likelihood: the forward Kullback-Leibler divergence up to the entropy of the data."""

import jax.numpy as jnp

from heatbath.training.objectives.base import Objective


class MaximumLikelihood(Objective):
    """loss = - mean_i log q(x_i) over the batch: KL(p | q) + H(p) when the data are draws of p."""

    def __call__(self, key, model, batch):
        loss = -jnp.mean(model.log_probs(batch))
        return loss, {}
