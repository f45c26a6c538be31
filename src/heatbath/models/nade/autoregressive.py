"""Distributions that reveal one coordinate after another: exact density, exact draws, and draws with some coordinates given."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.nade.heads import Head


class Autoregressive(Distribution):
    """p(x) = prod_t p(x_{o_t} | x_{o_1}, ..., x_{o_{t-1}}) over vectors (d,) in the order o.

    Subclasses say what they remember of the coordinates seen so far (``begin``, ``reveal``) and which parameters of the
    ``head`` they give for the next one (``parameters``). Log densities are sums over many coordinates and are kept in the
    default floating type whatever the type of the weights.
    """

    head: eqx.AbstractVar[Head]
    order: eqx.AbstractVar[Array]

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return self.order.shape[-1]

    @abc.abstractmethod
    def begin(self) -> PyTree:
        """The memory before any coordinate is seen."""

    @abc.abstractmethod
    def parameters(self, memory: PyTree, site: Int[Array, ""]) -> Float[Array, " output"]:
        """Parameters of the law of coordinate ``site`` given what was seen."""

    @abc.abstractmethod
    def reveal(self, memory: PyTree, site: Int[Array, ""], value: Scalar) -> PyTree:
        """The memory after x_site = ``value`` was seen."""

    def conditionals(self, x: Array) -> Float[Array, " d"]:
        """log p(x_s | the coordinates before s in the order), at the place s of each coordinate."""

        def look(memory, site):
            log_prob = self.head.log_prob(self.parameters(memory, site), x[site])
            return self.reveal(memory, site, x[site]), log_prob.astype(jnp.result_type(float))

        _, log_probs = jax.lax.scan(look, self.begin(), self.order)
        return jnp.zeros_like(log_probs).at[self.order].set(log_probs)

    def log_prob(self, x):
        return jnp.sum(self.conditionals(x))

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        nothing = jnp.zeros(self.dimension, bool)
        x, free, _ = self.walk(key, jnp.zeros(self.dimension, self.head.dtype), nothing)
        return x, free

    def draw_given(self, key: Key[Array, ""], x: Array, observed: Bool[Array, " d"]) -> tuple[Array, Scalar]:
        """A draw with x_B given (``observed`` True) and its log weight: properly weighted for p(x_A, x_B) as a function of x_A.

        E[w f(x_A)] = sum_A p(x_A, x_B) f(x_A), so that weighted means are those of p(x_A | x_B) and E[w] = p(x_B), the likelihood
        of data with missing coordinates. Where B comes first in the order, the weight is constant and the draw exact.
        """
        x, _, given = self.walk(key, x, observed)
        return x, given

    def walk(self, key: Key[Array, ""], x: Array, observed: Bool[Array, " d"]) -> tuple[Array, Scalar, Scalar]:
        """Keep what is observed, draw the rest in the order; returns (x, log p of what was drawn, log p of what was kept)."""
        wide = jnp.result_type(float)

        def go(carry, inputs):
            memory, x, free, given = carry
            key, site = inputs
            parameters = self.parameters(memory, site)
            value = jnp.where(observed[site], x[site], self.head.sample(key, parameters).astype(x.dtype))
            log_prob = self.head.log_prob(parameters, value).astype(wide)
            free = free + jnp.where(observed[site], 0.0, log_prob)
            given = given + jnp.where(observed[site], log_prob, 0.0)
            return (self.reveal(memory, site, value), x.at[site].set(value), free, given), None

        zero = jnp.zeros((), wide)
        keys = jax.random.split(key, self.dimension)
        (_, x, free, given), _ = jax.lax.scan(go, (self.begin(), x, zero, zero), (keys, self.order))
        return x, free, given


def checked_order(order, dimension: int) -> Int[Array, " d"]:
    """``order`` as an array; 0 .. d-1 when None. Raises ``InvalidArgumentError`` unless it is a permutation of these."""
    if order is None:
        return jnp.arange(dimension)
    numbers = np.asarray(order)
    if numbers.shape != (dimension,) or not np.array_equal(np.sort(numbers), np.arange(dimension)):
        raise InvalidArgumentError(
            f"an order must hold each of 0 .. {dimension - 1} once; found shape {numbers.shape}: {numbers.tolist()[:8]}"
        )
    return jnp.asarray(numbers, int)


def random_orders(key: Key[Array, ""], count: int, dimension: int) -> Int[Array, "order d"]:
    """``count`` independent uniform orders; the first ones are the same however many are asked for."""
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(count))
    return jax.vmap(lambda key: jax.random.permutation(key, dimension))(keys)


def observed_first(key: Key[Array, ""], observed: Bool[Array, " d"]) -> Int[Array, " d"]:
    """A random order in which all observed coordinates come before all missing ones."""
    return jnp.argsort(jnp.where(observed, 0.0, 1.0) + jax.random.uniform(key, observed.shape))
