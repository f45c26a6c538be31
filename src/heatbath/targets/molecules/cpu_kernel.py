"""The force field compiled for this CPU: batched energies and forces, called from inside compiled JAX programs.

Sixteen configurations (in float32, with AVX-512) sit side by side in the lanes of a vector register and go through all
terms together; blocks of them are spread over the threads of XLA. A few configurations are taken one by one, with sixteen
pairs of atoms side by side instead. The code is written for each molecule at run time
(``cpu_kernel_compiler``) and handed to XLA as a foreign function, so that it works under ``jit``, ``vmap`` and ``scan``.
What one configuration gets does not depend on its place in the batch, the size of the batch or the number of threads,
to the last bit.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from heatbath.errors import InvalidArgumentError
from heatbath.targets.molecules.terms import ForceFieldTerms

try:
    from heatbath.targets.molecules.cpu_kernel_compiler import blocks_worth_a_thread, compile_terms, widths

    HAS_CODE_GENERATOR = True
except ImportError:  # no llvmlite
    HAS_CODE_GENERATOR = False

BatchedEnergyAndForce = Callable[[Array], tuple[Array, Array]]

#: Above this size the working memory (quadratic in the number of atoms) leaves every cache, and neighbour lists pay.
MAX_ATOMS = 1000

_HALF_BLOCK = 0.67  # time of a block of half registers, in blocks of full ones (measured; latency dominates)
_SINGLE = (2.5, 75.0)  # a + b/atoms: time of one configuration alone, in full blocks divided by their width

_programs: dict[str, Any] = {}  # loaded code stays loaded: compiled XLA programs may hold its address
_lock = threading.Lock()


def unsupported(terms: ForceFieldTerms) -> str | None:
    """Why the kernel cannot evaluate these terms on this machine, or None when it can."""
    if not HAS_CODE_GENERATOR:
        return "the package 'llvmlite' (installed with numba) is missing"
    if jax.default_backend() != "cpu":
        return f"JAX computes on {jax.default_backend()}, the kernel on CPUs only"
    if terms.n_atoms > MAX_ATOMS:
        return f"the CPU kernel takes up to {MAX_ATOMS} atoms; the molecule has {terms.n_atoms}"
    return None


def available_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(terms: ForceFieldTerms, *, threads: int | None = None) -> BatchedEnergyAndForce | None:
    """The function xs (B, n, 3), nm -> (energies (B,), kJ/mol; forces (B, n, 3), kJ/mol/nm), or None.

    float32 or float64 following ``xs``; energies are summed in float64 in both. ``threads`` limits the number of threads
    (default: as many as this process may use). Returns None where the kernel cannot do it: ``unsupported(terms)`` says why.
    Code is generated at the first call of each precision (about half a second) and shared by equal tables.

    A batch that is spread over devices stays where it is under ``jax.shard_map``; under ``jit`` alone XLA gathers it first.
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

    def energies_and_forces(xs: Array) -> tuple[Array, Array]:
        if xs.ndim != 3 or xs.shape[1:] != (terms.n_atoms, 3) or xs.dtype.name not in ("float32", "float64"):
            raise InvalidArgumentError(
                f"expected positions of shape (batch, {terms.n_atoms}, 3) in float32 or float64; "
                f"found shape {xs.shape} in {xs.dtype}"
            )
        return evaluate(xs)

    return energies_and_forces


def _call(terms: ForceFieldTerms, threads: int, xs: Array) -> tuple[Array, Array]:
    batch = xs.shape[0]
    if batch == 0:
        return jnp.zeros((0,), xs.dtype), jnp.zeros_like(xs)
    width = _block_width(batch, terms.n_atoms, threads, widths(xs.dtype.name))
    outputs = (jax.ShapeDtypeStruct((batch,), xs.dtype), jax.ShapeDtypeStruct(xs.shape, xs.dtype))
    energies, forces = jax.ffi.ffi_call(_registered(terms, xs.dtype.name, width, threads), outputs)(xs)
    return energies, forces


def _block_width(batch: int, n_atoms: int, threads: int, widths: list[int]) -> int:
    """Configurations per block with which a batch is done first; the results are the same to the last bit for all."""
    cost = dict.fromkeys(widths, _HALF_BLOCK) | {widths[0]: 1.0, 1: (_SINGLE[0] + _SINGLE[1] / n_atoms) / widths[0]}

    def time(width: int) -> float:
        blocks = -(-batch // width)
        workers = max(1, min(threads, blocks // blocks_worth_a_thread(n_atoms)))
        return -(-blocks // workers) * cost[width]

    return min(widths, key=time)


def _registered(terms: ForceFieldTerms, dtype: str, width: int, threads: int) -> str:
    """The name by which XLA knows the program: compiled and registered when first needed in this process."""
    name = f"heatbath_force_field_{terms.digest[:32]}_{dtype}_{width}_{threads}"
    with _lock:
        if name not in _programs:
            program = compile_terms(terms, dtype, width, name, threads=threads)
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(ctypes.c_void_p(program.address)), platform="cpu")
            _programs[name] = program
    return name
