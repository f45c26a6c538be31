"""Learning classes: cross-entropy of scores with labels."""

import jax
import jax.numpy as jnp

from heatbath.training.objectives.base import Objective


class CrossEntropy(Objective):
    """- mean log softmax(model(x))[label] over a batch ``(xs, labels)``; the metric ``accuracy`` is the share that is right."""

    def __call__(self, key, model, batch):
        xs, labels = batch
        scores = jax.vmap(model)(xs)
        right = jnp.mean((jnp.argmax(scores, axis=1) == labels).astype(float))
        picked = jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=1)
        return -jnp.mean(picked), {"accuracy": right}
