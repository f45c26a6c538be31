"""Runs transport block by block: what a whole circuit does, computed directly on the state vector.

A Fourier transform of a register is a fast Fourier transform of an axis; a run of controlled phases is one multiplication. The
result is that of the gates to rounding (a test compares them), without their number. Emulation in the sense of Haner et al.
(arXiv 1604.06460): no approximation and no short cut through f, but nothing a quantum computer would be faster at either.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from heatbath.kinetics.phase_grid import PhaseGrid


class Emulator:
    """Drift, kick and shifts by whole cells of states of ``grid``, compiled once per grid; precision follows the state."""

    def __init__(self, grid: PhaseGrid):
        grid.qubits  # noqa: B018  refuses sizes that registers cannot hold
        self.grid = grid

    def drift(self, state: Complex[Array | np.ndarray, "..."], time: float) -> Complex[Array, "..."]:
        """As ``transport.drift`` along every axis."""
        return _drift(jnp.asarray(state), time, self.grid)

    def kick(
        self, state: Complex[Array | np.ndarray, "..."], force: Float[Array | np.ndarray, "dimension ..."], time: float
    ) -> Complex[Array, "..."]:
        """As ``transport.kick`` along every axis; ``force`` has the shape (dimension, positions, ...)."""
        return _kick(jnp.asarray(state), jnp.asarray(force), time, self.grid)

    def strang(
        self, state: Complex[Array | np.ndarray, "..."], force: Float[Array | np.ndarray, "dimension ..."], time: float
    ) -> Complex[Array, "..."]:
        """As ``transport.strang``."""
        return _strang(jnp.asarray(state), jnp.asarray(force), time, self.grid)

    def stream(
        self, state: Complex[Array | np.ndarray, "..."], cells: Int[np.ndarray, " velocities"]
    ) -> Complex[Array, "..."]:
        """As ``counters.streaming``."""
        return _rolled(jnp.asarray(state), jnp.asarray(cells), axis=0)

    def push(
        self, state: Complex[Array | np.ndarray, "..."], cells: Int[np.ndarray, " positions"]
    ) -> Complex[Array, "..."]:
        """As ``counters.kicking``."""
        return _rolled(jnp.asarray(state), jnp.asarray(cells), axis=1)


def _powers(turn: jax.Array, bits: int) -> jax.Array:
    """e^(i turn kappa) for the signed frequencies kappa of a register, on a new last axis: one factor per bit."""
    table = jnp.ones((*turn.shape, 1), dtype=(1j * turn).dtype)
    for bit in range(bits - 1):
        table = jnp.concatenate([table, table * jnp.exp(1j * turn * 2**bit)[..., None]], axis=-1)
    return jnp.concatenate([table, table * jnp.exp(-1j * turn * 2 ** (bits - 1))[..., None]], axis=-1)


@functools.partial(jax.jit, static_argnames="grid")
def _drift(state, time, grid):
    bits, _ = grid.qubits
    real = jnp.real(state).dtype
    turn = jnp.asarray(grid.v, real) * jnp.asarray(-2 * np.pi / grid.length * time, real)
    table = _powers(turn, bits).T  # (frequency, velocity)
    for axis in grid.position_axes:
        shape = [1] * state.ndim
        shape[axis], shape[axis + grid.dimension] = table.shape
        state = jnp.fft.ifft(jnp.fft.fft(state, axis=axis) * table.reshape(shape), axis=axis)
    return state


@functools.partial(jax.jit, static_argnames="grid")
def _kick(state, force, time, grid):
    _, bits = grid.qubits
    real = jnp.real(state).dtype
    for axis in grid.velocity_axes:
        scale = jnp.asarray(-2 * np.pi / (grid.velocities * grid.dv) * time, real)
        table = _powers(force[axis - grid.dimension].astype(real) * scale, bits)
        shape = [*table.shape[:-1], *[1] * grid.dimension]
        shape[axis] = table.shape[-1]
        state = jnp.fft.ifft(jnp.fft.fft(state, axis=axis) * table.reshape(shape), axis=axis)
    return state


@functools.partial(jax.jit, static_argnames="grid")
def _strang(state, force, time, grid):
    state = _drift(state, 0.5 * time, grid)
    state = _kick(state, force, time, grid)
    return _drift(state, 0.5 * time, grid)


@functools.partial(jax.jit, static_argnames="axis")
def _rolled(state, cells, axis):
    """Row r of the other axis moved by cells[r] along ``axis``."""
    places = jnp.arange(state.shape[axis])
    if axis == 0:
        return jnp.take_along_axis(state, (places[:, None] - cells[None, :]) % state.shape[0], axis=0)
    return jnp.take_along_axis(state, (places[None, :] - cells[:, None]) % state.shape[1], axis=1)
