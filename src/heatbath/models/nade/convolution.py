"""ConvNADE's network: convolutions over an image with holes and the map of its holes."""

import functools
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
        h = jnp.stack([x.astype(self.dtype) * mask, mask], axis=-1).reshape((1, *self.image, 2))
        for index, (kernel, bias, pad) in enumerate(zip(self.kernels, self.biases, self.paddings, strict=True)):
            h = h if index == 0 else jax.nn.relu(h)
            h = jnp.asarray(correlated(h, jnp.transpose(kernel, (2, 3, 1, 0)), pad)) + bias
        return h[0].reshape((-1, h.shape[3]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def correlated(
    h: Float[Array, "n y x c"], kernel: Float[Array, "w w c o"], pad: int
) -> Float[Array, "n height width o"]:
    """out[n, y, x, o] = sum over i, j, c of h[n, y + i - pad, x + j - pad, c] kernel[i, j, c, o], zeros beyond the edges.

    Channels come last and the derivative has a rule of its own because XLA on CPUs has fast code for this layout alone inside of
    loops, and none for the gradient of a kernel: a step of training takes a fourth (8 channels) to a tenth (16) of the time.
    """
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(h, kernel, (1, 1), [(pad, pad)] * 2, dimension_numbers=layout)


def _correlated_backward(pad, kept, cotangent):
    """The image's gradient is a correlation with the turned kernel; the kernel's is one matrix product per shift."""
    h, kernel = kept
    width = kernel.shape[0]
    turned = jnp.flip(jnp.swapaxes(kernel, 2, 3), (0, 1))
    padded = jnp.pad(h, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = cotangent.shape[1:3]

    def shifted(i: int, j: int):
        return jnp.einsum("nyxc,nyxo->co", padded[:, i : i + rows, j : j + columns], cotangent)

    kernel_bar = jnp.stack([jnp.stack([shifted(i, j) for j in range(width)]) for i in range(width)])
    return correlated(cotangent, turned, width - 1 - pad), kernel_bar


correlated.defvjp(lambda h, kernel, pad: (correlated(h, kernel, pad), (h, kernel)), _correlated_backward)
