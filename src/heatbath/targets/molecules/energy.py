"""The energy of a molecule as a JAX function of one configuration that evaluates batches as batches.

``energy_function(terms)(x)`` takes x (n, 3) in nm and gives kJ/mol. Under ``jax.vmap``, also nested and also of its
gradient, all batch axes are collapsed into one and handed to a batched evaluator: the compiled CPU kernel, or dense pair
arithmetic in XLA with the batch as last axis, in chunks that stay in the cache. One evaluation serves the value and the
first derivative. Second derivatives are those of the same formulas without these rules.

This is the one place where the evaluator is chosen.
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from heatbath.errors import InvalidArgumentError, UsageError
from heatbath.targets.molecules import cpu_kernel
from heatbath.targets.molecules.bonded import bonded_components
from heatbath.targets.molecules.cmap import cmap_energy, patch_coefficients
from heatbath.targets.molecules.implicit_solvent import solvent_energy
from heatbath.targets.molecules.nonbonded import nonbonded_energy, pair_tables, squared_distances
from heatbath.targets.molecules.terms import ForceFieldTerms

Backend = Literal["auto", "xla", "cpu-kernel"]
EnergyAndForce = tuple[Scalar, Float[Array, "atoms 3"]]


class Evaluators(NamedTuple):
    """Batched evaluators: positions (B, n, 3) to energies (B,), and to energies with forces (B, n, 3)."""

    energies: Callable[[Array], Array]
    energies_and_forces: Callable[[Array], tuple[Array, Array]]


# Formulas -------------------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=64)
def components_function(terms: ForceFieldTerms) -> Callable[[Float[Array, "atoms 3 ..."]], dict[str, Array]]:
    """The energy per kind of term (bonds, angles, torsions, cmap, nonbonded, solvent), for x (n, 3, ...).

    Plain differentiable code: the definition that everything else has to reproduce.
    """
    bonded = bonded_components(terms)
    coefficients = patch_coefficients(terms.cmap_maps) if len(terms.cmap_torsions) else None
    tables = pair_tables(terms) if terms.nonbonded_method != "none" else None

    def components(x: Float[Array, "atoms 3 ..."]) -> dict[str, Array]:
        found = {name: energy(x) for name, energy in bonded.items()}
        if coefficients is not None:
            found["cmap"] = cmap_energy(x, terms, coefficients)
        if tables is not None or terms.gb_model is not None:
            r2 = squared_distances(x)
            if tables is not None:
                found["nonbonded"] = nonbonded_energy(x, r2, terms, tables)
            if terms.gb_model is not None:
                found["solvent"] = solvent_energy(r2, terms)
        return found

    return components


def total_energy(terms: ForceFieldTerms) -> Callable[[Float[Array, "atoms 3 ..."]], Array]:
    """Sum of ``components_function``."""
    components = components_function(terms)

    def total(x: Float[Array, "atoms 3 ..."]) -> Array:
        return sum(components(x).values(), start=jnp.zeros(x.shape[2:], x.dtype))

    return total


# Evaluators -----------------------------------------------------------------------------------------------------------
def chunk_size(n_atoms: int, platform: str) -> int:
    """Configurations per chunk of the XLA evaluator.

    On a CPU the n x n x chunk arrays should stay in the cache: 256 near 22 atoms and 32 near 140 were measured to be two
    to three times faster than no chunks. Elsewhere the chunk only bounds the memory (about 1 GB).
    """
    if platform == "cpu":
        return int(2 ** np.clip(np.round(np.log2(256 * (22 / n_atoms) ** 1.15)), 3, 10))
    return int(max(16, 2 ** np.floor(np.log2(1e9 / (80 * n_atoms**2)))))


def xla_evaluators(terms: ForceFieldTerms, chunk: int | None = None) -> Evaluators:
    """Dense pairs, batch as last axis, at most ``chunk`` configurations at a time (default: ``chunk_size``)."""
    total = total_energy(terms)

    def value(xs: Array) -> Array:
        return total(jnp.moveaxis(xs, 0, -1))

    def value_and_force(xs: Array) -> tuple[Array, Array]:
        energies, pull = jax.vjp(total, jnp.moveaxis(xs, 0, -1))
        (gradient,) = pull(jnp.ones_like(energies))
        return energies, -jnp.moveaxis(gradient, -1, 0)

    def in_chunks(function: Callable) -> Callable:
        def evaluate(xs: Array):
            size = chunk or chunk_size(terms.n_atoms, jax.default_backend())
            count = xs.shape[0]
            if count <= size:
                return function(xs)
            padded = jnp.pad(xs, ((0, -count % size), (0, 0), (0, 0)), mode="edge")
            results = jax.lax.map(function, padded.reshape((-1, size, *xs.shape[1:])))
            return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:]))[:count], results)

        return evaluate

    return Evaluators(in_chunks(value), in_chunks(value_and_force))


def evaluators(terms: ForceFieldTerms, backend: str) -> Evaluators:
    """The evaluators that ``backend`` names: ``"auto"`` is the compiled kernel on a CPU that can have it, else XLA.

    Raises ``UsageError`` when ``"cpu-kernel"`` is asked for and cannot be had.
    """
    if backend not in ("auto", "xla", "cpu-kernel"):
        raise UsageError(f"expected the backend 'auto', 'xla' or 'cpu-kernel'; found {backend!r}")
    if backend == "xla" or (backend == "auto" and jax.default_backend() != "cpu"):
        return xla_evaluators(terms)
    reason = cpu_kernel.unsupported(terms)
    if reason is None:
        kernel = cpu_kernel.build(terms)
        if kernel is not None:
            return Evaluators(lambda xs: kernel(xs)[0], kernel)
    if backend == "cpu-kernel":
        raise UsageError(f"the backend 'cpu-kernel' cannot be had: {reason}; use backend='auto' to fall back to XLA")
    return xla_evaluators(terms)


# One configuration, with the rules that make batches -----------------------------------------------------------------
@functools.lru_cache(maxsize=64)
def energy_function(terms: ForceFieldTerms, backend: Backend = "auto") -> Callable[[Float[Array, "atoms 3"]], Scalar]:
    """x (n, 3) in nm -> energy in kJ/mol, in the precision of x; see the head of this file for batches and derivatives.

    Energies of clashing atoms may overflow to infinity; derivatives are finite for any distance above zero. Equal terms
    give the same function object, so compiled programs are reused. Raises ``InvalidArgumentError`` for another shape.
    """
    batched = evaluators(terms, backend)
    total = total_energy(terms)
    plain_value_and_gradient = jax.value_and_grad(total)
    energy_only = _batching(batched.energies)
    fast_energy_and_force = _batching(batched.energies_and_forces)

    @jax.custom_jvp
    def energy_and_force(x: Array) -> EnergyAndForce:
        return fast_energy_and_force(x)

    @energy_and_force.defjvp
    def _(primals, tangents):
        def plain(x):
            value, gradient = plain_value_and_gradient(x)
            return value, -gradient

        return jax.jvp(plain, primals, tangents)

    @jax.custom_jvp
    def checked_energy(x: Array) -> Array:
        return energy_only(x)

    @checked_energy.defjvp
    def _(primals, tangents):
        value, force = energy_and_force(*primals)
        return value, -jnp.sum(force * tangents[0])

    def energy(x: Float[Array | np.ndarray, "atoms 3"]) -> Scalar:
        if jnp.shape(x) != (terms.n_atoms, 3):
            raise InvalidArgumentError(
                f"expected positions of shape ({terms.n_atoms}, 3) in nm for one configuration, found {jnp.shape(x)}; "
                "use jax.vmap for several"
            )
        return checked_energy(jnp.asarray(x, dtype=jnp.promote_types(jnp.result_type(x), jnp.float32)))

    return energy


def _batching(evaluate: Callable) -> Callable:
    """A function of one configuration whose batches, however nested, become one call of ``evaluate``."""

    @jax.custom_batching.custom_vmap
    def many(xs: Array):
        return evaluate(xs)

    @many.def_vmap
    def _(axis_size, in_batched, xs):
        collapsed = many(xs.reshape((-1, *xs.shape[2:])))
        results = jax.tree.map(lambda leaf: leaf.reshape((axis_size, -1, *leaf.shape[1:])), collapsed)
        return results, jax.tree.map(lambda _: True, results)

    @jax.custom_batching.custom_vmap
    def one(x: Array):
        return jax.tree.map(lambda leaf: leaf[0], many(x[None]))

    @one.def_vmap
    def _(axis_size, in_batched, xs):
        results = many(xs)
        return results, jax.tree.map(lambda _: True, results)

    return one
