"""Configurations on their way to the host: named arrays, names of axes, and the representative that is recorded."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from heatbath.spaces import Discrete, Euclidean, PeriodicBox, Product, Space
from heatbath.state import ReducedEnergy

#: A map from a configuration to an equivalent one: the same u, another representative.
Representative = Callable[[PyTree], PyTree]


def to_arrays(samples: PyTree) -> dict[str, np.ndarray]:
    """``samples`` for a plain array, ``samples.<factor>`` for the factors of a product space."""
    if isinstance(samples, Mapping):
        return {f"samples.{name}": np.asarray(leaf) for name, leaf in samples.items()}
    return {"samples": np.asarray(samples)}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Inverse of ``to_arrays``; other arrays are ignored."""
    if "samples" in arrays:
        return arrays["samples"]
    return {name.partition(".")[2]: leaf for name, leaf in arrays.items() if name.startswith("samples.")}


def sample_axes(space: Space, leading: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Names of the axes of every array of ``to_arrays``."""
    if isinstance(space, Product):
        return {f"samples.{name}": leading + _event_axes(factor) for name, factor in space.factors.items()}
    return {"samples": leading + _event_axes(space)}


def _event_axes(space: Space) -> tuple[str, ...]:
    shape = space.event_shape
    if isinstance(space, PeriodicBox) or (isinstance(space, Euclidean) and len(shape) == 2 and shape[1] == 3):
        return ("atom", "xyz")
    if isinstance(space, Discrete):
        return ("row", "column")[: len(shape)] if len(shape) <= 2 else tuple(f"axis_{i}" for i in range(len(shape)))
    return ("dimension",) if len(shape) == 1 else tuple(f"axis_{i}" for i in range(len(shape)))


def centred(x: Array) -> Array:
    """Particles (n, d) with their mean at the origin."""
    return x - jnp.mean(x, axis=0, keepdims=True)


def representative(u: ReducedEnergy, x: PyTree) -> Representative:
    """The map that brings a configuration to the form that is recorded, without changing u.

    Bounded spaces wrap into their fundamental domain. Particles in free space whose energy does not notice a common
    shift (tried on ``x``) are centred: their centre of mass has no equilibrium, it diffuses away and takes the precision
    of float32 coordinates with it.
    """
    space = u.target.space
    if not (isinstance(space, Euclidean) and len(space.shape) == 2):
        return space.wrap
    shift = jnp.asarray(np.linspace(0.37, -0.61, space.shape[1]), x.dtype)
    here, there = (float(value) for value in (u(x), u(x + shift)))
    invariant = abs(here - there) <= 1e-3 + 1e-4 * abs(here)
    return centred if invariant else space.wrap


def dimension(space: Space) -> int:
    """Number of coordinates of a configuration."""
    shapes = jax.tree.leaves(space.event_shape, is_leaf=lambda node: isinstance(node, tuple))
    return sum(int(np.prod(shape)) for shape in shapes)
