"""NADE for every order at once: one network, trained over all orders, read in one of them or in an ensemble of many."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.nade.autoregressive import Autoregressive, checked_order, observed_first, random_orders
from heatbath.models.nade.convolution import Convolution, MaskedConvolution
from heatbath.models.nade.fixed_order import logits_of
from heatbath.models.nade.heads import Coin, Head
from heatbath.models.nade.masked_networks import MaskedNetwork, MaskedPerceptron, SummedNetworks


class OrderlessNADE(Autoregressive):
    """The network read in one ``order``. Another order is another, equally normalised distribution (``in_order``)."""

    network: MaskedNetwork
    head: Head
    order: Int[Array, " d"]

    def begin(self):
        return self.network.begin()

    def parameters(self, memory, site):
        return self.network.outputs_at(memory, site)

    def reveal(self, memory, site, value):
        return self.network.reveal(memory, site, value)

    def in_order(self, order) -> "OrderlessNADE":
        """The same network in another order."""
        return OrderlessNADE(network=self.network, head=self.head, order=checked_order(order, self.network.dimension))

    def missing_log_probs(self, x: Array, mask: Array) -> Float[Array, " d"]:
        """log p(x_i | x_s for all s with mask_s = 1) for every i, in one pass of the network (meaningless where mask_i = 1)."""
        parameters = self.network(x, mask)
        return jax.vmap(self.head.log_prob)(parameters, x).astype(jnp.result_type(float))

    def given(self, key: Key[Array, ""], x: Array, observed: Bool[Array, " d"]) -> "Conditional":
        """p(x_A | x_B) in a random order that begins with B, the observed coordinates: exact draws and exact density."""
        model = OrderlessNADE(network=self.network, head=self.head, order=observed_first(key, observed))
        return Conditional(model, x, observed)


class Conditional(Distribution):
    """p(x_A | x_B = x) of a model whose order begins with B, as a distribution over complete vectors that agree with x on B.

    The density of a vector that disagrees is zero.
    """

    model: Autoregressive
    x: Array
    observed: Bool[Array, " d"]

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        x, free, _ = self.model.walk(key, self.x.astype(self.model.head.dtype), self.observed)
        return x, free

    def log_prob(self, x):
        agrees = jnp.all(jnp.where(self.observed, x == self.x.astype(x.dtype), True))  # noqa: FBT003
        total = jnp.sum(jnp.where(self.observed, 0.0, self.model.conditionals(x)))
        return jnp.where(agrees, total, -jnp.inf)


class EoNADE(Distribution):
    """p(x) = mean over orders m of p_m(x), the mean of PROBABILITIES: an equal mixture, normalised as each of its members is.

    Never below the mean of the members' log densities (Jensen). The density goes through one compiled scan: ``chunk`` orders at
    a time, all data of a batch together. Source: arXiv 1605.02226, section 4.2.
    """

    network: MaskedNetwork
    head: Head
    orders: Int[Array, "order d"]
    chunk: int = eqx.field(static=True, default=16)

    def __check_init__(self):
        if self.orders.ndim != 2 or len(self.orders) < 1 or self.orders.shape[1] != self.network.dimension:
            raise InvalidArgumentError(
                f"expected at least one order of {self.network.dimension} coordinates; found shape {self.orders.shape}"
            )

    def member(self, index: int | Int[Array, ""]) -> OrderlessNADE:
        """The distribution of one order."""
        return OrderlessNADE(network=self.network, head=self.head, order=self.orders[index])

    def log_probs_by_order(self, xs: Array) -> Float[Array, "order batch"]:
        """log p_m(x) of a batch in every order."""

        def in_one(order):
            member = OrderlessNADE(network=self.network, head=self.head, order=order)
            return jax.vmap(member.log_prob)(xs)

        return jax.lax.map(in_one, self.orders, batch_size=min(self.chunk, len(self.orders)))

    def log_probs(self, xs):
        return jax.nn.logsumexp(self.log_probs_by_order(xs), axis=0) - np.log(len(self.orders))

    def log_prob(self, x):
        return self.log_probs(x[None])[0]

    def sample(self, key):
        key_order, key_draw = jax.random.split(key)
        return self.member(jax.random.randint(key_order, (), 0, len(self.orders))).sample(key_draw)

    def draw_given(self, key: Key[Array, ""], x: Array, observed: Bool[Array, " d"]) -> tuple[Array, Scalar]:
        """A draw with the observed coordinates given and its log weight, as ``Autoregressive.draw_given``, of a random member."""
        key_order, key_draw = jax.random.split(key)
        return self.member(jax.random.randint(key_order, (), 0, len(self.orders))).draw_given(key_draw, x, observed)


def deep_nade(
    key: Key[Array, ""],
    dimension: int,
    hidden: Sequence[int] = (500, 500),
    *,
    head: Head | None = None,
    marginals=None,
    dtype=jnp.float32,
) -> OrderlessNADE:
    """An untrained orderless NADE with a perceptron, in the order 0 .. d-1; ``head`` is a coin when None.

    ``marginals`` (d,), probabilities of a one, are where a coin starts. Train it with ``MissingDimensions``.
    """
    head = Coin() if head is None else head
    network = MaskedPerceptron(key, dimension, hidden, head.outputs, dtype)
    if marginals is not None:
        logits = logits_of(marginals, dimension)[:, None].astype(dtype)
        network = eqx.tree_at(lambda n: n.head_bias, network, logits)
    return OrderlessNADE(network=network, head=head, order=jnp.arange(dimension))


def convolutional_nade(
    key: Key[Array, ""],
    image: tuple[int, int],
    layers: Sequence[Convolution],
    hidden: Sequence[int] = (500, 500),
    *,
    marginals=None,
    dtype=jnp.float32,
) -> OrderlessNADE:
    """An untrained ConvNADE over binary images in row order: convolutions plus, where ``hidden`` is not empty, a perceptron.

    The perceptron's coins start at ``marginals`` (d,), probabilities of a one, where they are given.
    """
    key_image, key_flat = jax.random.split(key)
    parts: tuple[MaskedNetwork, ...] = (MaskedConvolution(key_image, image, layers, 1, dtype),)
    dimension = parts[0].dimension
    if hidden:
        perceptron = MaskedPerceptron(key_flat, dimension, hidden, 1, dtype)
        if marginals is not None:
            logits = logits_of(marginals, dimension)[:, None].astype(dtype)
            perceptron = eqx.tree_at(lambda n: n.head_bias, perceptron, logits)
        parts = (*parts, perceptron)
    return OrderlessNADE(network=SummedNetworks(parts), head=Coin(), order=jnp.arange(dimension))


def ensemble_of_orders(key: Key[Array, ""], model: OrderlessNADE, count: int, *, chunk: int = 16) -> EoNADE:
    """``model`` in ``count`` random orders, fixed by ``key``; more orders contain those of fewer."""
    if count < 1:
        raise InvalidArgumentError(f"an ensemble needs at least one order; found {count}")
    return EoNADE(model.network, model.head, random_orders(key, count, model.network.dimension), chunk)
