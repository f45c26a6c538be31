"""Where arrays live: on one device, or with their ladder axis spread over the devices of a mesh, in one process or several.

A mesh has one axis named "ladder". Make it with ``ladder_mesh``; with several processes, call ``jax.distributed.initialize``
first and run the same program in each.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

LADDER_AXIS = "ladder"


def ladder_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """All devices (of all processes), or the given ones, in a row along the ladder axis."""
    devices = jax.devices() if devices is None else list(devices)
    # Explicit axes, the default, refuse operations along the sharded axis.
    return jax.make_mesh((len(devices),), (LADDER_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def placed(tree: PyTree, specs: PyTree, mesh: Mesh | None) -> PyTree:
    """``tree`` with every leaf laid out as its entry of ``specs`` (a prefix of the tree) says; itself without a mesh.

    Every process must hold the same values. Leaves that are in place already are not touched.
    """
    if mesh is None:
        return tree

    def place(spec, subtree):
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(functools.partial(_place, sharding=sharding), subtree)

    return jax.tree.map(place, specs, tree, is_leaf=lambda node: isinstance(node, PartitionSpec))


def _place(leaf, sharding: NamedSharding):
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def gathered(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """``tree`` in full on the host, in every process."""
    if mesh is not None:
        tree = _replicator(mesh)(tree)
    return jax.tree.map(np.asarray, tree)


@functools.cache
def _replicator(mesh: Mesh):
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))
