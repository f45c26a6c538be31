"""CMAP: an energy correction on the torus of two torsions, bicubic between the nodes of a grid.

The derivatives at the nodes come from periodic natural cubic splines along the grid lines (the mixed one from splining
the first derivative), as in OpenMM. Each cell then is a polynomial sum_ab C[a, b] u^a v^b in its unit coordinates.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.targets.molecules.bonded import BatchLast, torsion_cos_sin
from heatbath.targets.molecules.terms import ForceFieldTerms

# Hermite basis on [0, 1]: rows are the powers 0..3 of u; columns f(0), f(1), f'(0), f'(1)
_HERMITE = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [-3, 3, -2, -1], [2, -2, 1, 1]])


def spline_slopes(values: Float[np.ndarray, "... size"]) -> Float[np.ndarray, "... size"]:
    """Derivatives (per node spacing) of the periodic cubic spline through ``values`` along the last axis.

    Continuity of the second derivative reads d_{i-1} + 4 d_i + d_{i+1} = 3 (f_{i+1} - f_{i-1}), a circulant system.
    """
    size = values.shape[-1]
    identity = np.eye(size)
    matrix = 4 * identity + np.roll(identity, 1, axis=1) + np.roll(identity, -1, axis=1)
    right = 3 * (np.roll(values, -1, axis=-1) - np.roll(values, 1, axis=-1))
    return np.linalg.solve(matrix, right[..., None])[..., 0]


def patch_coefficients(maps: Float[np.ndarray, "maps size size"]) -> Float[np.ndarray, "maps size size 4 4"]:
    """C[m, i, j, a, b] of the cell whose lower corner is node (i, j)."""
    along_phi = np.swapaxes(spline_slopes(np.swapaxes(maps, 1, 2)), 1, 2)
    along_psi = spline_slopes(maps)
    mixed = spline_slopes(along_phi)

    def corners(grid):
        right = np.roll(grid, -1, axis=1)
        return np.stack(
            [np.stack([g, np.roll(g, -1, axis=2)], axis=-1) for g in (grid, right)], axis=-2
        )  # (..., phi corner, psi corner)

    top = np.concatenate([corners(maps), corners(along_psi)], axis=-1)
    bottom = np.concatenate([corners(along_phi), corners(mixed)], axis=-1)
    table = np.concatenate([top, bottom], axis=-2)  # rows f(0), f(1), f'(0), f'(1) in phi; columns the same in psi
    return np.einsum("ar,mijrs,bs->mijab", _HERMITE, table, _HERMITE)


def cmap_energy(x: BatchLast, terms: ForceFieldTerms, coefficients: np.ndarray) -> Float[Array, "..."]:
    """Sum of the correction energies, kJ/mol. ``coefficients`` as from ``patch_coefficients``."""
    size = terms.cmap_maps.shape[1]
    count = len(terms.cmap_torsions)
    cosine, sine = torsion_cos_sin(x, np.concatenate([terms.cmap_torsions[:, :4], terms.cmap_torsions[:, 4:]]))
    angle = jnp.arctan2(sine, cosine) * (size / (2 * np.pi))
    node = jnp.floor(angle)
    fraction = angle - node
    node = node.astype(jnp.int32) % size
    maps = terms.cmap_map_index.reshape((count,) + (1,) * (x.ndim - 2))
    cells = jnp.asarray(coefficients, x.dtype)[maps, node[:count], node[count:]]
    u, v = fraction[:count], fraction[count:]
    energy = jnp.zeros_like(u)
    for a in reversed(range(4)):
        row = jnp.zeros_like(u)
        for b in reversed(range(4)):
            row = row * v + cells[..., a, b]
        energy = energy * u + row
    return energy.sum(axis=0)
