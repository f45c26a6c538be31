"""Configuration spaces: where x lives, how it wraps, and how two points differ."""

import abc
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree


class Space(eqx.Module):
    """The set a configuration belongs to. Methods act on one configuration."""

    @property
    @abc.abstractmethod
    def event_shape(self) -> PyTree:
        """Shape of one configuration (a mapping of shapes for a product)."""

    @abc.abstractmethod
    def random(self, key: Key[Array, ""]) -> PyTree:
        """A configuration drawn from a simple law that covers the space (uniform where the space is bounded)."""

    def wrap(self, x: PyTree) -> PyTree:
        """The representative of ``x`` in the fundamental domain."""
        return x

    def displacement(self, x: PyTree, y: PyTree) -> PyTree:
        """The shortest vector from ``x`` to ``y``."""
        return y - x


class Euclidean(Space):
    """R^n in any shape. ``random`` is a standard normal."""

    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def random(self, key):
        return jax.random.normal(key, self.shape)


class Torus(Space):
    """Angles in radians, in [-pi, pi)."""

    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def wrap(self, x):
        return wrap_angle(x)

    def displacement(self, x, y):
        return wrap_angle(y - x)

    def random(self, key):
        return jax.random.uniform(key, self.shape, minval=-jnp.pi, maxval=jnp.pi)


class PeriodicBox(Space):
    """``count`` particles in a rectangular periodic box with edges ``lengths`` (shape (d,)); positions in [0, L)."""

    count: int = eqx.field(static=True)
    lengths: Array

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.count, self.lengths.shape[0])

    def wrap(self, x):
        lengths = self.lengths.astype(jnp.result_type(x))
        return x - lengths * jnp.floor(x / lengths)

    def displacement(self, x, y):
        d = y - x
        lengths = self.lengths.astype(jnp.result_type(d))
        return d - lengths * jnp.round(d / lengths)

    def random(self, key):
        return jax.random.uniform(key, self.event_shape) * self.lengths


class Discrete(Space):
    """Integers 0..k-1 on every site of ``shape``."""

    shape: tuple[int, ...] = eqx.field(static=True)
    k: int = eqx.field(static=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def wrap(self, x):
        return x % self.k

    def random(self, key):
        return jax.random.randint(key, self.shape, 0, self.k)


class Product(Space):
    """Named factors; a configuration is a dict with one entry per factor."""

    factors: Mapping[str, Space]

    @property
    def event_shape(self) -> dict:
        return {name: space.event_shape for name, space in self.factors.items()}

    def wrap(self, x):
        return {name: space.wrap(x[name]) for name, space in self.factors.items()}

    def displacement(self, x, y):
        return {name: space.displacement(x[name], y[name]) for name, space in self.factors.items()}

    def random(self, key):
        keys = jax.random.split(key, len(self.factors))
        return {name: space.random(k) for k, (name, space) in zip(keys, sorted(self.factors.items()), strict=True)}


def wrap_angle(angle: Array) -> Array:
    """Angle in radians, brought to [-pi, pi)."""
    return angle - 2 * jnp.pi * jnp.floor(angle / (2 * jnp.pi) + 0.5)
