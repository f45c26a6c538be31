"""Bonds, angles and torsions in JAX, with the batch as trailing axes: positions are (n_atoms, 3, ...) in nm.

Difference vectors are products with a matrix of +1 and -1. A product with a constant matrix is exact here, its derivative
is the product with the transpose (no scatter, so the order of summation is fixed on every device), and it compiles
several times faster than gathers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.targets.molecules.terms import ForceFieldTerms

BatchLast = Float[Array, "atoms 3 ..."]


def bonded_components(terms: ForceFieldTerms) -> dict[str, Callable[[Array], Array]]:
    """One energy function per kind of bonded term that occurs: x (n, 3, ...) -> energy (...), kJ/mol."""
    found = {}
    if len(terms.bond_atoms):
        found["bonds"] = lambda x: bond_energy(x, terms)
    if len(terms.angle_atoms):
        found["angles"] = lambda x: angle_energy(x, terms)
    if len(terms.torsion_atoms):
        torsions = torsion_series(terms)
        found["torsions"] = lambda x: torsion_energy(x, *torsions)
    return found


def differences(x: BatchLast, first: np.ndarray, second: np.ndarray) -> Float[Array, "terms 3 ..."]:
    """x[second] - x[first]."""
    matrix = np.zeros((len(first), x.shape[0]))
    rows = np.arange(len(first))
    matrix[rows, second] += 1.0
    matrix[rows, first] -= 1.0
    flat = x.reshape((x.shape[0], -1))  # a plain matrix product: twice as fast as a contraction over three axes
    product = jnp.matmul(jnp.asarray(matrix, x.dtype), flat, precision=jax.lax.Precision.HIGHEST)
    return product.reshape((len(first), *x.shape[1:]))


def column(values: np.ndarray, like: Array) -> Array:
    """Parameters as an array that broadcasts against ``like``: same leading axes, one for each batch axis."""
    array = jnp.asarray(values, like.dtype)
    return array.reshape(array.shape + (1,) * (like.ndim - array.ndim))


def dot(a: Float[Array, "terms 3 ..."], b: Float[Array, "terms 3 ..."]) -> Float[Array, "terms ..."]:
    """Scalar products over the second axis."""
    return (a * b).sum(axis=1)


def cross(a: Float[Array, "terms 3 ..."], b: Float[Array, "terms 3 ..."]) -> Float[Array, "terms 3 ..."]:
    """Vector products over the second axis."""
    return jnp.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=1,
    )


def _square_root(squared: Array) -> Array:
    """sqrt with a zero derivative (instead of NaN) where atoms coincide."""
    return jnp.sqrt(jnp.maximum(squared, jnp.finfo(squared.dtype).tiny))


def bond_energy(x: BatchLast, terms: ForceFieldTerms) -> Float[Array, "..."]:
    """sum k/2 (r - r0)^2."""
    d = differences(x, terms.bond_atoms[:, 0], terms.bond_atoms[:, 1])
    stretch = _square_root(dot(d, d))
    stretch = stretch - column(terms.bond_length, stretch)
    return (0.5 * column(terms.bond_k, stretch) * stretch**2).sum(axis=0)


def angle_energy(x: BatchLast, terms: ForceFieldTerms) -> Float[Array, "..."]:
    """sum k/2 (theta - theta0)^2 with theta = atan2(|a x b|, a . b), exact also near 0 and pi."""
    i, j, k = terms.angle_atoms.T
    legs = differences(x, np.concatenate([j, j]), np.concatenate([i, k]))
    a, b = legs[: len(i)], legs[len(i) :]
    normal = cross(a, b)
    # at a straight angle the direction of the force is undefined; the floor (1e-6 nm^2) is OpenMM's
    bend = jnp.arctan2(jnp.sqrt(jnp.maximum(dot(normal, normal), 1e-12)), dot(a, b))
    bend = bend - column(terms.angle_value, bend)
    return (0.5 * column(terms.angle_k, bend) * bend**2).sum(axis=0)


def torsion_series(terms: ForceFieldTerms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Torsions merged by their four atoms: sum over n of c_n cos(n phi) + s_n sin(n phi).

    Returns the atoms (t, 4), the cosine coefficients (n_max + 1, t; row 0 is the constant) and the sine coefficients
    (n_max + 1, t).
    """
    atoms, owner = np.unique(terms.torsion_atoms, axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    highest = int(terms.torsion_periodicity.max())
    cosine, sine = np.zeros((highest + 1, len(atoms))), np.zeros((highest + 1, len(atoms)))
    np.add.at(cosine, (terms.torsion_periodicity, owner), terms.torsion_k * np.cos(terms.torsion_phase))
    np.add.at(sine, (terms.torsion_periodicity, owner), terms.torsion_k * np.sin(terms.torsion_phase))
    np.add.at(cosine[0], owner, terms.torsion_k)
    return atoms, cosine, sine


def torsion_cos_sin(x: BatchLast, atoms: np.ndarray) -> tuple[Float[Array, "terms ..."], Float[Array, "terms ..."]]:
    """Cosine and sine of the dihedral angles of ``atoms`` (t, 4), IUPAC sign: trans is 180 degrees."""
    i, j, k, end = atoms.T
    count = len(atoms)
    legs = differences(x, np.concatenate([i, j, k]), np.concatenate([j, k, end]))
    first, axis, last = legs[:count], legs[count : 2 * count], legs[2 * count :]
    m, n = cross(first, axis), cross(axis, last)
    scale = jax.lax.rsqrt(jnp.maximum(dot(m, m) * dot(n, n), jnp.finfo(x.dtype).tiny))
    return dot(m, n) * scale, _square_root(dot(axis, axis)) * dot(first, n) * scale


def torsion_energy(x: BatchLast, atoms: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> Float[Array, "..."]:
    """sum k (1 + cos(n phi - phase)) by the recurrence of cos(n phi) and sin(n phi): no trigonometric function."""
    c, s = torsion_cos_sin(x, atoms)
    cos_n, sin_n = jnp.ones_like(c), jnp.zeros_like(s)
    energy = column(cosine[0], c) * cos_n
    for order in range(1, len(cosine)):
        cos_n, sin_n = cos_n * c - sin_n * s, sin_n * c + cos_n * s
        if cosine[order].any():
            energy = energy + column(cosine[order], c) * cos_n
        if sine[order].any():
            energy = energy + column(sine[order], s) * sin_n
    return energy.sum(axis=0)
