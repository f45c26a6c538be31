"""Pytrees as flat dictionaries of NumPy arrays, keyed by tree path, and back.

Keyed by path and not by order, so that a file says what it holds and a changed program is noticed. Typed random keys
are stored as their data.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree

from heatbath.errors import CheckpointError


def flatten(tree: PyTree) -> dict[str, np.ndarray]:
    """Every leaf of ``tree`` on the host, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): _to_host(leaf) for path, leaf in leaves}


def restore(template: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The tree of ``template``'s structure, types and device placement with the values of ``arrays``.

    Raises ``CheckpointError`` when a leaf is missing, is new, or has another shape or type.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [_name(path) for path, _ in leaves]
    missing, extra = sorted(set(names) - set(arrays)), sorted(set(arrays) - set(names))
    if missing or extra:
        raise CheckpointError(
            f"the checkpoint was written by another program state: missing {missing or 'nothing'}, unknown "
            f"{extra or 'nothing'}. Continue it with the version of heatbath named in provenance.json."
        )
    values = [_from_host(name, leaf, arrays[name]) for name, (_, leaf) in zip(names, leaves, strict=True)]
    return jax.tree_util.tree_unflatten(structure, values)


def _name(path) -> str:
    return jax.tree_util.keystr(path) or "root"


def _is_key(leaf) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf) -> np.ndarray:
    value = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if value.dtype.kind not in "biufc":
        raise CheckpointError(f"a checkpoint holds numbers only; found a leaf of type {value.dtype}")
    return value


def _from_host(name: str, leaf, value: np.ndarray):
    expected = _to_host(leaf)
    if value.shape != expected.shape or value.dtype != expected.dtype:
        raise CheckpointError(
            f"the checkpoint's {name} has shape {value.shape} and type {value.dtype}; this configuration needs "
            f"{expected.shape} and {expected.dtype}. Resume with the run's own resolved.toml."
        )
    if _is_key(leaf):
        data = jax.device_put(value)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array):
        return jax.device_put(value, leaf.sharding)
    return value if isinstance(leaf, np.ndarray) else type(leaf)(value.item())
