"""A classifier of images learns through the one loop: where a bright pixel is, from a few dozen images."""

import jax
import jax.numpy as jnp
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.nets.image_classifier import ImageClassifier
from heatbath.training import AdamW, Constant, fit
from heatbath.training.objectives.classification import CrossEntropy


def test_a_classifier_learns_where_the_bright_half_is():
    """Labels that do not fit their images, or features of another layer, would show as chance or as a wrong width."""
    labels = jnp.arange(64) % 2
    noise = 0.2 * jax.random.uniform(jax.random.key(0), (64, 8, 8))
    images = (noise + 0.8 * (jnp.arange(8) // 4 == labels[:, None])[:, :, None]).reshape(64, 64).astype(jnp.float32)
    net = ImageClassifier(jax.random.key(1), (8, 8), 2, channels=2, width=5)
    found = fit(
        jax.random.key(2),
        net,
        CrossEntropy(),
        (images, labels),
        steps=60,
        batch_size=32,
        optimiser=AdamW(Constant(0.02)),
        ema=0.0,
        steps_per_chunk=30,
    )
    assert found.history["accuracy"][-1] > 0.95
    assert found.model.features(images[0]).shape == (5,)
    with pytest.raises(InvalidArgumentError, match="multiples of 4"):
        ImageClassifier(jax.random.key(1), (9, 8))
