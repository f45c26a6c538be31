"""The force field compiled for this CPU: batched energies and forces, called from inside compiled JAX programs.

Sixteen configurations (in float32, with AVX-512) sit side by side in the lanes of a vector register and go through all
terms together; blocks of them are spread over the threads of XLA. The code is written for each molecule at run time
(``cpu_kernel_compiler``) and handed to XLA as a foreign function, so that it works under ``jit``, ``vmap`` and ``scan``.
What one configuration gets does not depend on its place in the batch, the size of the batch or the number of threads,
to the last bit.
"""

import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError
from heatbath.targets.molecules.terms import ForceFieldTerms

#: Pairs of atoms times blocks that are worth waking another thread for.
_WORTH_A_THREAD = 400

_programs: dict[tuple[str, str], object] = {}  # loaded code stays loaded: compiled XLA programs may hold its address

BatchedEnergyAndForce = Callable[[Array], tuple[Array, Array]]


def unsupported(terms: ForceFieldTerms) -> str | None:
    """Why the kernel cannot evaluate these terms on this machine, or None when it can."""
    try:
        import llvmlite.binding  # noqa: F401
    except ImportError:
        return "the package 'llvmlite' (installed with numba) is missing"
    if jax.default_backend() != "cpu":
        return f"JAX computes on {jax.default_backend()}, the kernel on CPUs only"
    if len(terms.cmap_torsions):
        return "CMAP terms are not in the CPU kernel"
    return None


def available_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(terms: ForceFieldTerms, *, threads: int | None = None) -> BatchedEnergyAndForce | None:
    """The function xs (B, n, 3), nm -> (energies (B,), kJ/mol; forces (B, n, 3), kJ/mol/nm), or None.

    float32 or float64 following ``xs``; energies are summed in float64 in both. ``threads`` limits the number of threads
    (default: as many as this process may use). Returns None where the kernel cannot do it: ``unsupported(terms)`` says why.
    Code is generated at the first call of each precision (about half a second) and shared by equal tables.

    A configuration with coinciding or overlapping atoms gives large or infinite energies, one with NaN gives NaN; no other
    configuration of the batch is touched. Raises ``InvalidArgumentError`` for other shapes and dtypes.
    """
    if unsupported(terms) is not None:
        return None
    return _evaluator(terms, threads or available_threads())


@functools.lru_cache(maxsize=256)
def _evaluator(terms: ForceFieldTerms, threads: int) -> BatchedEnergyAndForce:
    @jax.custom_batching.custom_vmap
    def evaluate(xs):
        return _call(terms, threads, xs)

    @evaluate.def_vmap
    def _collapse(axis_size, in_batched, xs):
        energies, forces = evaluate(xs.reshape(-1, *xs.shape[2:]))
        leading = xs.shape[:2]
        return (energies.reshape(leading), forces.reshape(*leading, *xs.shape[2:])), (True, True)

    def energies_and_forces(xs: Float[Array, "batch atoms 3"]) -> tuple[Array, Array]:
        if xs.ndim != 3 or xs.shape[1:] != (terms.n_atoms, 3) or xs.dtype.name not in ("float32", "float64"):
            raise InvalidArgumentError(
                f"expected positions of shape (batch, {terms.n_atoms}, 3) in float32 or float64; "
                f"found shape {xs.shape} in {xs.dtype}"
            )
        return evaluate(xs)

    return energies_and_forces


def _call(terms: ForceFieldTerms, threads: int, xs: Array) -> tuple[Array, Array]:
    if xs.shape[0] == 0:
        return jnp.zeros((0,), xs.dtype), jnp.zeros_like(xs)
    name, program = _program(terms, xs.dtype.name)
    blocks = -(-xs.shape[0] // program.width)
    work = blocks * terms.n_atoms * (terms.n_atoms - 1) // 2
    workers = max(1, min(threads, blocks, work // _WORTH_A_THREAD))
    only_narrow = xs.shape[0] <= program.narrow_width
    size = program.narrow_workspace_bytes if only_narrow else program.workspace_bytes
    outputs = (
        jax.ShapeDtypeStruct(xs.shape[:1], xs.dtype),
        jax.ShapeDtypeStruct(xs.shape, xs.dtype),
        jax.ShapeDtypeStruct((workers, size), jnp.uint8),
    )
    energies, forces, _ = jax.ffi.ffi_call(name, outputs)(xs)
    return energies, forces


def _program(terms: ForceFieldTerms, dtype: str):
    """(name, program): compiled and registered with XLA at the first call, in this process."""
    from heatbath.targets.molecules.cpu_kernel_compiler import compile_terms

    key = (terms.digest, dtype)
    name = f"heatbath_force_field_{terms.digest[:24]}_{dtype}"
    if key not in _programs:
        program = compile_terms(terms, dtype, name)
        jax.ffi.register_ffi_target(name, _capsule(program.address), platform="cpu")
        _programs[key] = program
    return name, _programs[key]


def _capsule(address: int):
    import ctypes

    return jax.ffi.pycapsule(ctypes.c_void_p(address))
