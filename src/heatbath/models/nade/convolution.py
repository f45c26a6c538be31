"""ConvNADE's network: convolutions over an image with holes and the map of its holes."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from heatbath.errors import InvalidArgumentError
from heatbath.models.nade.masked_networks import MaskedNetwork


class Convolution(NamedTuple):
    """One layer: ``channels`` out, a square kernel of ``width``, and what happens at the edges.

    ``valid`` shrinks the image by width - 1, ``full`` makes it larger by as much.
    """

    channels: int
    width: int
    edges: Literal["valid", "full"]


#: The layers of the published model for 28 x 28 digits; the last layer, 8 x 8 full, is added by the network.
PUBLISHED = (
    Convolution(64, 8, "valid"),
    Convolution(64, 4, "valid"),
    Convolution(64, 6, "valid"),
    Convolution(64, 7, "valid"),
    Convolution(64, 7, "full"),
    Convolution(64, 6, "full"),
    Convolution(64, 4, "full"),
)


class MaskedConvolution(MaskedNetwork):
    """Rectified convolutions over the channels (x m, m); the last layer is linear and has one map per output.

    The last layer's kernel is what brings the image back to its size: the ``valid`` layers must take away more than the ``full``
    ones give. Source: arXiv 1605.02226, section 5. Raises ``InvalidArgumentError`` when an image does not come out.
    """

    kernels: tuple[Float[Array, "_ _ _ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    paddings: tuple[int, ...] = eqx.field(static=True)
    image: tuple[int, int] = eqx.field(static=True)

    def __init__(
        self,
        key: Key[Array, ""],
        image: tuple[int, int],
        layers: Sequence[Convolution],
        outputs: int,
        dtype=jnp.float32,
    ):
        lost = sum((1 if layer.edges == "valid" else -1) * (layer.width - 1) for layer in layers)
        smallest, size = min(image), min(image)
        for layer in layers:
            size += (layer.width - 1) * (-1 if layer.edges == "valid" else 1)
            smallest = min(smallest, size)
        if lost < 0 or smallest < 1:
            raise InvalidArgumentError(
                f"the layers must shrink an image {image}, leave at least one pixel, and not make it larger in the end; "
                f"found a smallest size of {smallest} and {-lost} pixels more than before"
            )
        layers = (*layers, Convolution(outputs, lost + 1, "full"))
        self.paddings = tuple(0 if layer.edges == "valid" else layer.width - 1 for layer in layers)
        before = (2, *(layer.channels for layer in layers[:-1]))
        keys = jax.random.split(key, len(layers))
        gains = (*(math.sqrt(2),) * (len(layers) - 1), 0.1)
        self.kernels = tuple(
            gain
            / math.sqrt(inside * layer.width**2)
            * jax.random.normal(k, (layer.channels, inside, layer.width, layer.width), dtype)
            for k, layer, inside, gain in zip(keys, layers, before, gains, strict=True)
        )
        self.biases = tuple(jnp.zeros(layer.channels, dtype) for layer in layers)
        self.image = (int(image[0]), int(image[1]))

    @property
    def dimension(self) -> int:
        return self.image[0] * self.image[1]

    @property
    def dtype(self):
        return self.kernels[0].dtype

    def __call__(self, x, mask):
        mask = mask.astype(self.dtype)
        h = jnp.stack([x.astype(self.dtype) * mask, mask]).reshape((1, 2, *self.image))
        for index, (kernel, bias, pad) in enumerate(zip(self.kernels, self.biases, self.paddings, strict=True)):
            h = h if index == 0 else jax.nn.relu(h)
            h = jax.lax.conv_general_dilated(h, kernel, (1, 1), [(pad, pad)] * 2) + bias[:, None, None]
        return h[0].reshape((h.shape[1], -1)).T
