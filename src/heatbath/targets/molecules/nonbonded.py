"""Lennard-Jones and Coulomb interactions in JAX: all pairs, batch as trailing axes.

Without a cutoff an exception is a pair like any other with its own parameters, so it is written into the dense tables;
with a cutoff the exceptions, which are never cut, are a list of their own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError
from heatbath.targets.molecules.bonded import BatchLast, column, differences, dot
from heatbath.targets.molecules.terms import ForceFieldTerms

#: Pairs of atoms that are closer than this (nm) are given the energy at this distance: r^-14 has to stay a number.
CLOSEST = {"float32": 2e-3, "float64": 1e-20}


class PairTables(NamedTuple):
    """Dense tables (n, n) with c6 = 4 eps s^6, c12 = 4 eps s^12 and coulomb q q; zero diagonal."""

    charge: np.ndarray
    c6: np.ndarray
    c12: np.ndarray


def lennard_jones(sigma: np.ndarray, epsilon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(c6, c12) of 4 eps ((s/r)^12 - (s/r)^6) = c12/r^12 - c6/r^6."""
    return 4.0 * epsilon * sigma**6, 4.0 * epsilon * sigma**12


def pair_tables(terms: ForceFieldTerms) -> PairTables:
    """Parameters of every ordered pair; exceptions are written in without a cutoff and left out with one."""
    sigma = 0.5 * (terms.sigma[:, None] + terms.sigma)
    epsilon = np.sqrt(terms.epsilon[:, None] * terms.epsilon)
    charge = terms.coulomb_constant * terms.charges[:, None] * terms.charges
    c6, c12 = lennard_jones(sigma, epsilon)
    own = PairTables(*exception_parameters(terms))
    i, j = terms.exception_atoms.T
    for table, values in zip((charge, c6, c12), own, strict=True):
        np.fill_diagonal(table, 0.0)
        table[i, j] = table[j, i] = values if terms.nonbonded_method == "no_cutoff" else 0.0
    return PairTables(charge, c6, c12)


def exception_parameters(terms: ForceFieldTerms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coulomb q q, c6, c12) of every exception."""
    c6, c12 = lennard_jones(terms.exception_sigma, terms.exception_epsilon)
    return terms.coulomb_constant * terms.exception_chargeprod, c6, c12


def squared_distances(x: BatchLast) -> Float[Array, "atoms atoms ..."]:
    """r^2 of every ordered pair; the diagonal is 1 nm^2, so that its reciprocal and root have finite derivatives."""
    n = x.shape[0]
    r2 = jnp.eye(n, dtype=x.dtype).reshape((n, n) + (1,) * (x.ndim - 2))
    for axis in range(3):
        d = x[:, None, axis] - x[None, :, axis]
        r2 = r2 + d * d
    return r2


def nonbonded_energy(x: BatchLast, r2: Array, terms: ForceFieldTerms, tables: PairTables) -> Float[Array, "..."]:
    """Lennard-Jones plus Coulomb, kJ/mol. ``r2`` is ``squared_distances(x)``."""
    r2 = jnp.maximum(r2, CLOSEST[r2.dtype.name] ** 2)
    charge, c6, c12 = (column(table, r2) for table in tables)
    if terms.nonbonded_method == "no_cutoff":
        return 0.5 * _plain(r2, charge, c6, c12).sum(axis=(0, 1))
    if terms.cutoff is None:
        raise InvalidArgumentError("the nonbonded method cutoff_non_periodic needs a cutoff")
    return 0.5 * _cut(r2, charge, c6, c12, terms, terms.cutoff).sum(axis=(0, 1)) + _exceptions(x, terms)


def _plain(r2: Array, charge: Array, c6: Array, c12: Array) -> Array:
    inverse = jax.lax.rsqrt(r2)
    inverse6 = (inverse * inverse) ** 3
    return (c12 * inverse6 - c6) * inverse6 + charge * inverse


def _cut(r2: Array, charge: Array, c6: Array, c12: Array, terms: ForceFieldTerms, cutoff: float) -> Array:
    """With reaction field, switching function and truncation (``ForceFieldTerms`` has the formulas)."""
    dielectric = terms.reaction_field_dielectric
    k_rf = (dielectric - 1.0) / (2.0 * dielectric + 1.0) / cutoff**3
    c_rf = 3.0 * dielectric / (2.0 * dielectric + 1.0) / cutoff
    inverse = jax.lax.rsqrt(r2)
    inverse6 = (inverse * inverse) ** 3
    dispersion = (c12 * inverse6 - c6) * inverse6
    if terms.switching_distance is not None:
        width = cutoff - terms.switching_distance
        t = jnp.clip((r2 * inverse - terms.switching_distance) / width, 0.0, 1.0)
        dispersion = dispersion * (1.0 - t**3 * (10.0 - t * (15.0 - 6.0 * t)))
    energy = dispersion + charge * (inverse + k_rf * r2 - c_rf)
    return jnp.where(r2 < cutoff**2, energy, 0.0)


def _exceptions(x: BatchLast, terms: ForceFieldTerms) -> Float[Array, "..."]:
    charge, c6, c12 = exception_parameters(terms)
    acting = (charge != 0) | (c6 != 0) | (c12 != 0)
    atoms = terms.exception_atoms[acting]
    d = differences(x, atoms[:, 0], atoms[:, 1])
    r2 = jnp.maximum(dot(d, d), CLOSEST[x.dtype.name] ** 2)
    return _plain(r2, *(column(values[acting], r2) for values in (charge, c6, c12))).sum(axis=0)
