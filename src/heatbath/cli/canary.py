"""Canaries: small computations that some releases of JAX get wrong without saying so.

``squared_lengths`` is the shape of every batched energy (jax-ml/jax#39103: releases 0.10.2 and 0.11.0 give wrong numbers on
the CPU); a machine on which it fails must not be used. ``finiteness`` is the test that heatbath uses instead of a maximum,
because ``jnp.max`` loses NaN on the CPU in some releases (``maximum`` tells whether this one does).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Canary:
    """What one canary found. ``fatal`` ones must be right; others are circumvented and only worth knowing."""

    name: str
    right: bool
    sentence: str
    fatal: bool = True


def squared_lengths(dtype: str, rows: int) -> np.ndarray:
    """|M x|^2 of ``rows`` points x = (i, 0, 0) with M the identity, by a jitted vmap: must be i^2."""
    points = jnp.zeros((rows, 3), dtype).at[:, 0].set(jnp.arange(rows, dtype=dtype))
    matrix = jnp.eye(3, dtype=dtype)
    return np.asarray(jax.jit(jax.vmap(lambda point: jnp.sum((matrix @ point) ** 2)))(points))


def maximum_keeps_nan(size: int = 10_000) -> bool:
    """Whether the maximum of an array with one NaN is NaN, eagerly and jitted."""
    values = jnp.asarray(np.where(np.arange(size) == size // 2, np.nan, 1.0))
    return bool(np.isnan(np.asarray(jnp.max(values))) and np.isnan(np.asarray(jax.jit(jnp.max)(values))))


def finiteness_sees_nan(size: int = 10_000) -> bool:
    """Whether ``isfinite().all()`` is False for an array with one NaN, jitted."""
    values = jnp.asarray(np.where(np.arange(size) == size // 2, np.nan, 1.0))
    return not bool(jax.jit(lambda x: jnp.isfinite(x).all())(values))


def sing() -> list[Canary]:
    """Run all canaries. Wants 64-bit arithmetic switched on."""
    found = []
    for dtype, rows in (("float64", 16_385), ("float32", 32_769)):
        expected = np.arange(rows, dtype=dtype) ** 2
        right = bool(np.array_equal(squared_lengths(dtype, rows), expected))
        words = "right" if right else f"WRONG in JAX {jax.__version__} (jax-ml/jax#39103): install another release"
        found.append(Canary(f"batched products, {dtype}", right, words))
    seen = finiteness_sees_nan()
    found.append(Canary("detection of NaN", seen, "right" if seen else "WRONG: trouble would go unnoticed"))
    kept = maximum_keeps_nan()
    words = "right" if kept else f"loses NaN in JAX {jax.__version__}; heatbath never relies on it"
    found.append(Canary("maximum with NaN", kept, words, fatal=False))
    return found
