"""Binned autoregressive models: a causal transformer that gives every coordinate a histogram, given the coordinates before it.

The cheapest exact likelihood there is: one pass of one transformer, and shapes of any kind per coordinate (shells, several
modes) where an affine flow needs many blocks. The bins are an exact partition of the line, so that the density has no gaps.
Source: arXiv 2606.27361 (there with bins whose noise is narrower than their spacing, which leaves gaps).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.cartesian import CartesianGenerator, cartesian_generator
from heatbath.models.molecular_frame import FramedGenerator, framed_generator
from heatbath.models.nets.transformer import CausalTransformer

#: Decay length of the density beyond the bins, in units of the scale of the coordinates.
TAIL = 0.25


class Partition(eqx.Module):
    """The line cut into ``bins`` equal cells of [-reach, reach) and two tails; each with a density of its own inside.

    Cell 0 is the left tail, cells 1 to ``bins`` are uniform with width 2 reach/bins, cell bins + 1 is the right tail. Beyond the
    reach the density falls as exp(-(|y| - reach)/TAIL)/TAIL.
    """

    frozen: ClassVar[bool] = True

    reach: float = eqx.field(static=True)
    bins: int = eqx.field(static=True)

    def __check_init__(self):
        if not self.reach > 0 or self.bins < 1:
            raise InvalidArgumentError(
                f"reach must be positive, with at least one bin; found {self.reach} and {self.bins}"
            )

    @property
    def width(self) -> float:
        """Width of a uniform cell."""
        return 2 * self.reach / self.bins

    def cell(self, y: Float[Array, "..."]) -> Int[Array, "..."]:
        """Which cell y falls into."""
        return jnp.clip(jnp.floor((y + self.reach) / self.width) + 1, 0, self.bins + 1).astype(jnp.int32)

    def log_density(self, y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log density of y given its cell."""
        beyond = jnp.abs(y) - self.reach
        inside = (y >= -self.reach) & (y < self.reach)
        return jnp.where(inside, -np.log(self.width), -np.log(TAIL) - beyond / TAIL)

    def place(self, key: Key[Array, ""], cell: Int[Array, ""], dtype: Any = float) -> Scalar:
        """A draw inside ``cell``."""
        uniform = jax.random.uniform(key, dtype=dtype)
        inside = -self.reach + (cell - 1 + uniform) * self.width
        beyond = self.reach - TAIL * jnp.log1p(-uniform)
        return jnp.where(cell == 0, -beyond, jnp.where(cell > self.bins, beyond, inside)).astype(dtype)

    def normal_logits(self) -> np.ndarray:
        """Log probabilities of all cells under N(0, 1): where training starts."""
        edges = np.concatenate([[-np.inf], np.linspace(-self.reach, self.reach, self.bins + 1), [np.inf]])
        # Survival to the right of zero: differences of numbers near one would be zero in the tail.
        left = np.where(edges[:-1] < 0, np.diff(scipy.stats.norm.cdf(edges)), -np.diff(scipy.stats.norm.sf(edges)))
        return np.log(np.maximum(left, 1e-12))


class BinnedAutoregressive(Distribution):
    """q(y) = prod_k p(cell(y_k) | y_<k) density(y_k | cell) over vectors y (d,) of scale one; support is all of R^d.

    ``first`` are the logits of y_0; the network sees y_k and sines and cosines of pi 2^j y_k / reach, j < ``waves``, which
    resolve a coordinate to about reach/2^waves. log q is constant within a cell as a function of the last coordinate, so its
    gradient is not that of a smooth density: use it in weights and Metropolis tests, not alone in dynamics.
    """

    network: CausalTransformer
    first: Float[Array, " cell"]
    partition: Partition
    waves: int = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        return self.sample_and_log_prob(key)[0]

    def log_prob(self, x: Float[Array, " d"]) -> Scalar:
        return self.log_probs(x[None])[0]

    def log_probs(self, xs: Float[Array, "batch d"]) -> Float[Array, " batch"]:
        wide = jnp.result_type(float)
        later = self.network(self.features(xs[:, :-1]))
        logits = jnp.concatenate([jnp.broadcast_to(self.first, (xs.shape[0], 1, self.first.size)), later], axis=1)
        cells = self.partition.cell(xs.astype(wide))
        chosen = jnp.take_along_axis(logits, cells[..., None], axis=-1)[..., 0]
        log_cells = (chosen - jax.nn.logsumexp(logits, axis=-1)).astype(wide)
        return jnp.sum(log_cells + self.partition.log_density(xs.astype(wide)), axis=1)

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Float[Array, " d"], Scalar]:
        def draw(key, logits):
            key_cell, key_place = jax.random.split(key)
            y = self.partition.place(key_place, jax.random.categorical(key_cell, logits), jnp.result_type(float))
            # Of the cell that the rounded number falls into, so that it is the density of what is returned.
            log_cell = jax.nn.log_softmax(logits)[self.partition.cell(y)]
            return y, log_cell.astype(y.dtype) + self.partition.log_density(y)

        def next_one(carry, inputs):
            memory, y, total = carry
            key, place = inputs
            memory, logits = self.network.step(memory, self.features(y), place)
            y, log_prob = draw(key, logits)
            return (memory, y, total + log_prob), y

        count = self.network.positions.shape[0]
        keys = jax.random.split(key, count + 1)
        y, log_prob = draw(keys[0], self.first)
        (_, _, total), rest = jax.lax.scan(next_one, (self.network.begin(), y, log_prob), (keys[1:], jnp.arange(count)))
        return jnp.concatenate([y[None], rest]), total

    def features(self, y: Float[Array, "..."]) -> Float[Array, "... feature"]:
        """y and its waves, in the network's type."""
        y = y.astype(self.first.dtype)[..., None]
        angles = y * (np.pi / self.partition.reach * 2.0 ** np.arange(self.waves)).astype(y.dtype)
        return jnp.concatenate([y, jnp.sin(angles), jnp.cos(angles)], axis=-1)


@dataclasses.dataclass(frozen=True)
class BinnedSize:
    """What sets the form and size of a binned autoregressive model.

    reach: of the bins, in units of the coordinates' standard deviation
    frame: coordinates in the molecule's own frame (``molecular_frame``) instead of in space
    """

    channels: int = 128
    layers: int = 4
    head_dim: int = 64
    bins: int = 512
    reach: float = 4.0
    waves: int = 7
    frame: bool = False


#: ``two-cores`` has about a million parameters, in the molecule's own frame; the others follow arXiv 2606.27361.
SIZES = {
    "two-cores": BinnedSize(frame=True),
    "paper": BinnedSize(channels=256, layers=8, bins=4096),
    "chignolin": BinnedSize(channels=256, layers=8, bins=8192),
}


def binned_autoregressive(
    key: Key[Array, ""],
    *,
    n_atoms: int,
    data: Float[Array, "*draw atom 3"] | Float[np.ndarray, "*draw atom 3"] | None = None,
    size: BinnedSize = SIZES["two-cores"],
    order: Sequence[int] | None = None,
    dtype=jnp.float32,
) -> CartesianGenerator | FramedGenerator:
    """An untrained model of ``n_atoms`` atoms, coordinate by coordinate; it starts as a normal, rounded to bins.

    ``data`` and ``order``: see ``cartesian_generator`` and ``framed_generator``. Raises ``InvalidArgumentError`` when sizes,
    order or data do not fit.
    """
    make, numbers = (framed_generator, 3 * n_atoms - 6) if size.frame else (cartesian_generator, 3 * n_atoms)
    vector = binned_vector(key, numbers, size=size, dtype=dtype)
    return make(vector, n_atoms=n_atoms, data=data, order=order)


def binned_vector(key: Key[Array, ""], dimension: int, *, size: BinnedSize, dtype=jnp.float32) -> BinnedAutoregressive:
    """An untrained model over vectors (d,) of scale one; lay a ``Flow`` over it for other coordinates."""
    if dimension < 2:
        raise InvalidArgumentError(f"an autoregressive model needs at least two coordinates; found {dimension}")
    partition = Partition(size.reach, size.bins)
    start = jnp.asarray(partition.normal_logits(), dtype)
    network = CausalTransformer(
        key,
        tokens=dimension - 1,
        inputs=1 + 2 * size.waves,
        outputs=size.bins + 2,
        channels=size.channels,
        layers=size.layers,
        head_dim=size.head_dim,
        dtype=dtype,
    )
    network = eqx.tree_at(lambda n: n.output_bias, network, start)
    return BinnedAutoregressive(network, start, partition, size.waves)
