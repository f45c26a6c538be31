"""Where walkers start."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.random import walker_keys
from heatbath.targets.base import Target


def starts(target: Target, key: Key[Array, ""], initial: PyTree, shape: tuple[int, ...], dtype: str) -> PyTree:
    """Start configurations with the leading axes ``shape``.

    ``initial`` is one configuration for all, or one for each, or None for ``target.initial`` with a key per walker (for a
    target that can ``minimise``, a minimum of its energy near the reference).
    Floating configurations get the type ``dtype``; integers stay what they are.
    Raises ``InvalidArgumentError`` when ``initial`` does not have the shape of a configuration.
    """
    events = target.space.event_shape
    if initial is None and hasattr(target, "minimise"):
        initial = target.minimise()
    if initial is None:
        initial = jax.vmap(target.initial)(walker_keys(key, int(np.prod(shape))))
        initial = jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), initial)

    def prepare(leaf: Any, event: tuple[int, ...]) -> Array:
        leaf = jnp.asarray(leaf)
        if leaf.shape not in (event, (*shape, *event)):
            raise InvalidArgumentError(
                f"initial must have the shape {event} of one configuration, or {(*shape, *event)}; found {leaf.shape}"
            )
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            leaf = leaf.astype(dtype)
        return jnp.broadcast_to(leaf, (*shape, *event))

    if isinstance(events, tuple):
        return prepare(initial, events)
    return {name: prepare(initial[name], events[name]) for name in events}


def start_energies(target: Target, positions: PyTree, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """U of every start. Raises ``NonFiniteError`` when one is not finite."""
    energies = energies_of(target, positions, len(shape))
    bad = int((~np.isfinite(np.asarray(energies))).sum())
    if bad:
        raise NonFiniteError(
            f"{bad} of {energies.size} start configurations have an energy that is not finite; "
            "minimise the structure or give another start with `initial`"
        )
    return energies


@eqx.filter_jit
def energies_of(target: Target, positions: PyTree, axes: int = 1) -> Float[Array, "..."]:
    """U of every configuration, over ``axes`` leading axes."""
    energy = target.energy
    for _ in range(axes):
        energy = jax.vmap(energy)
    return energy(positions)
