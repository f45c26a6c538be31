"""Annealing: particles carried from a distribution to exp(-u) along a geometric path, with their path weights.

    u_l(x) = -(1 - l) log q(x) + l u(x),      l from 0 to 1

At every level a particle is first weighted by exp(u_old(x) - u_new(x)), then moved by a kernel that leaves the new density
invariant. For exact kernels the weights are proper however few moves are made (Neal, Stat. Comput. 11, 125 (2001)). Kernels with
a step-size bias are refused: their moves would bias the weights silently.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel
from heatbath.models.base import Distribution
from heatbath.samplers.proposals import Proposal
from heatbath.state import LogDensity


class GeometricPath(LogDensity):
    """u_l(x) = -(1 - l) log q(x) + l u(x), with l = ``level``. Factors of zero silence what is infinite."""

    start: Distribution
    end: LogDensity
    level: Float[Array, ""] | float

    def __call__(self, x: PyTree) -> Scalar:
        here, there = self.start.log_prob(x), self.end(x)
        level = jnp.asarray(self.level, there.dtype)
        begin = jnp.where(level == 1, 0.0, -(1 - level) * here)
        return begin + jnp.where(level == 0, 0.0, level * there)

    @property
    def beta(self) -> Array | float:
        return self.end.beta


class Schedule(NamedTuple):
    """Levels of a path, from above 0 to exactly 1, and the kernel's step size at each (None to keep the kernel's own)."""

    levels: Float[Array, " level"]
    step_sizes: Float[Array, " level"] | None = None


def linear_schedule(count: int) -> Schedule:
    """``count`` equal steps from 0 to 1."""
    return checked_schedule(np.linspace(0.0, 1.0, count + 1)[1:])


def checked_schedule(schedule: Any) -> Schedule:
    """A ``Schedule``, or levels, made sure to rise from 0 to exactly 1. Raises ``InvalidArgumentError`` otherwise."""
    found = schedule if isinstance(schedule, Schedule) else Schedule(jnp.asarray(schedule, dtype=float))
    levels = np.asarray(found.levels)
    if levels.ndim != 1 or levels.size == 0 or levels[0] <= 0 or not (np.diff(levels) > 0).all() or levels[-1] != 1.0:
        raise InvalidArgumentError(f"levels must rise from above 0 and end at exactly 1; found {levels.tolist()}")
    if found.step_sizes is not None and np.shape(found.step_sizes) != levels.shape:
        raise InvalidArgumentError(
            f"expected one step size per level ({levels.size}); found shape {np.shape(found.step_sizes)}"
        )
    return found


def require_exact(kernel: Kernel) -> None:
    """Refuse kernels that do not leave the density of a level invariant."""
    if not kernel.exact:
        raise InvalidArgumentError(
            f"annealing needs a kernel that is exact, because the weights assume it; {type(kernel).__name__} is not "
            f"({kernel.bias}). Use HMC or MALA."
        )


def log_weight_change(start: Distribution, u: LogDensity, x: PyTree, step: Scalar) -> Scalar:
    """-(step)(u(x) + log q(x)), the log of the weight between two levels ``step`` apart.

    A configuration whose energy is NaN or +inf has no density in the target: weight zero.
    """
    energy = u(x)
    change = -step * (energy + start.log_prob(x)).astype(jnp.result_type(float))
    return jnp.where(jnp.isnan(energy) | jnp.isposinf(energy), -jnp.inf, change)


class MoveInfo(NamedTuple):
    """Of the moves at one level: mean acceptance, moves that met a non-finite energy, energy evaluations."""

    acceptance: Array
    non_finite: Array
    evaluations: Array


def move(key: Key[Array, ""], x: PyTree, path: GeometricPath, kernel: Kernel, steps: int) -> tuple[PyTree, MoveInfo]:
    """``steps`` kernel moves of one particle at one level."""
    key_init, key_steps = jax.random.split(key)

    def step(state, key):
        return kernel.step(key, state, path)

    state, infos = jax.lax.scan(step, kernel.init(key_init, x, path), jax.random.split(key_steps, steps))
    failures = jnp.sum(~infos.finite, dtype=jnp.int32)
    return state.position, MoveInfo(infos.acceptance.mean(), failures, infos.evaluations.sum(dtype=jnp.int32) + 1)


class AnnealedImportance(Proposal):
    """Annealed importance sampling as a proposal: one draw of ``start`` taken along ``schedule``, with its path weight.

    log w = sum over levels of u_old(x) - u_new(x), each taken before the particle moves at the new level. E[w] = Z exactly, for
    any schedule and any number of ``steps`` of an exact kernel. Source: Neal 2001.
    """

    start: Distribution
    kernel: Kernel
    schedule: Schedule
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require_exact(self.kernel)

    def draw(self, key: Key[Array, ""], u: LogDensity) -> tuple[PyTree, Scalar]:
        key_start, key_moves = jax.random.split(key)
        levels = jnp.asarray(self.schedule.levels)
        sizes = self.schedule.step_sizes

        def level(carry, inputs):
            x, log_weight, before = carry
            key, now, size = inputs
            log_weight = log_weight + log_weight_change(self.start, u, x, now - before)
            kernel = self.kernel if size is None else self.kernel.with_step_size(size)
            x, _ = move(key, x, GeometricPath(self.start, u, now), kernel, self.steps)
            return (x, log_weight, now), None

        x = self.start.sample(key_start)
        begin = (x, jnp.zeros((), jnp.result_type(float)), jnp.zeros((), levels.dtype))
        keys = jax.random.split(key_moves, levels.shape[0])
        (x, log_weight, _), _ = jax.lax.scan(level, begin, (keys, levels, sizes))
        return x, log_weight
