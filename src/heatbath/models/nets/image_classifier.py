"""A small convolutional classifier of images, whose last layer but one gives features for comparing sets of images."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from heatbath.errors import InvalidArgumentError


class ImageClassifier(eqx.Module):
    """Two 3 x 3 convolutions with ReLU, each before a 2 x 2 mean, then ``width`` features by a ReLU layer, then class scores.

    ``features(x)`` and ``x -> scores`` take one image (rows * columns,) of numbers in [0, 1].
    """

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    dense: eqx.nn.Linear
    scores: eqx.nn.Linear
    image: tuple[int, int] = eqx.field(static=True)

    def __init__(
        self,
        key: Key[Array, ""],
        image: tuple[int, int],
        classes: int = 10,
        *,
        channels: int = 16,
        width: int = 64,
    ):
        rows, columns = image
        if rows % 4 or columns % 4:
            raise InvalidArgumentError(f"rows and columns of images must be multiples of 4; found {rows} x {columns}")
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.Conv2d(1, channels, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(channels, 2 * channels, 3, padding=1, key=keys[1])
        self.dense = eqx.nn.Linear(2 * channels * (rows // 4) * (columns // 4), width, key=keys[2])
        self.scores = eqx.nn.Linear(width, classes, key=keys[3])
        self.image = (rows, columns)

    def features(self, x: Float[Array, " pixel"]) -> Float[Array, " feature"]:
        """What Frechet and kernel distances are taken of."""
        y = x.reshape((1, *self.image)).astype(self.dense.weight.dtype)
        for convolution in (self.first, self.second):
            y = _halved(jax.nn.relu(convolution(y)))
        return jax.nn.relu(self.dense(y.reshape(-1)))

    def __call__(self, x: Float[Array, " pixel"]) -> Float[Array, " class"]:
        return self.scores(self.features(x))


def _halved(y: Array) -> Array:
    """Means over squares of 2 x 2."""
    channels, rows, columns = y.shape
    return jnp.mean(y.reshape((channels, rows // 2, 2, columns // 2, 2)), axis=(2, 4))
