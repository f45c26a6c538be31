"""Pytrees go to files by tree path and come back exactly, random keys included."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import CheckpointError
from heatbath.io import trees


class Walkers(NamedTuple):
    position: jax.Array
    key: jax.Array
    extra: dict


def make():
    return Walkers(jnp.arange(6.0).reshape(2, 3), jax.random.key(3), {"count": jnp.asarray(4), "none": None, "n": 2})


def test_round_trip_keeps_values_types_and_keys():
    """A restored key that differs, or a float that became float32, changes every later draw."""
    tree = make()
    flat = trees.flatten(tree)
    assert set(flat) == {".position", ".key", ".extra['count']", ".extra['n']"}
    blank = Walkers(jnp.zeros((2, 3)), jax.random.key(0), {"count": jnp.asarray(0), "none": None, "n": 0})
    back = trees.restore(blank, flat)
    assert np.array_equal(back.position, tree.position)
    assert back.position.dtype == tree.position.dtype
    assert np.array_equal(jax.random.normal(back.key, (4,)), jax.random.normal(tree.key, (4,)))
    assert back.extra["n"] == 2
    assert isinstance(back.extra["n"], int)
    batch = jax.random.split(jax.random.key(1), 3)
    assert np.array_equal(jax.random.key_data(trees.restore(batch, trees.flatten(batch))), jax.random.key_data(batch))


def test_another_program_state_is_refused():
    """Restoring by order would put one array into another's place."""
    flat = trees.flatten(make())
    with pytest.raises(CheckpointError, match=r"missing \['\.position'\]"):
        trees.restore(make(), {k: v for k, v in flat.items() if k != ".position"})
    with pytest.raises(CheckpointError, match=r"unknown \['\.other'\]"):
        trees.restore(make(), {**flat, ".other": np.zeros(1)})
    with pytest.raises(CheckpointError, match=r"shape \(3, 3\)"):
        trees.restore(make(), {**flat, ".position": np.zeros((3, 3))})
    with pytest.raises(CheckpointError, match="numbers only"):
        trees.flatten({"name": "text"})
