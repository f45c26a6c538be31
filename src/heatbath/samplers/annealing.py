"""Annealing: particles carried from a distribution to exp(-u) along a geometric path, with their path weights.

    u_l(x) = -(1 - l) log q(x) + l u(x),      l from 0 to 1

At every level a particle is first weighted by exp(u_old(x) - u_new(x)), then moved by a kernel that leaves the new density
invariant, or by one whose moves carry a weight of their own (``Kernel.proper``). Then the weights are proper however few moves
are made (Neal, Stat. Comput. 11, 125 (2001)). Other kernels are refused: their moves would bias the weights silently.

Cost. log q of a learned start and its gradient are usually far dearer than the energy. Both are evaluated together, kept apart
(``Endpoints``) and put together anew at each level, so that a particle needs 1 + levels * steps * (evaluations of a kernel step)
of them in all: no evaluation is spent on weights or on a change of level. Kernels that carry no parts (combinators, Gibbs)
need two more per level.
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
from heatbath.random import named_key
from heatbath.samplers.proposals import Proposal
from heatbath.state import LogDensity


class Endpoints(NamedTuple):
    """log q(x) and u(x) at both ends of a path, and their gradients where somebody asked for them."""

    log_prob: Scalar
    energy: Scalar
    log_prob_gradient: PyTree = None
    energy_gradient: PyTree = None


class GeometricPath(LogDensity):
    """u_l(x) = -(1 - l) log q(x) + l u(x), with l = ``level``. Factors of zero silence what is infinite."""

    start: Distribution
    end: LogDensity
    level: Float[Array, ""] | float

    def __call__(self, x: PyTree) -> Scalar:
        return self._mixed(self.start.log_prob(x), self.end(x))

    @property
    def beta(self) -> Array | float:
        return self.end.beta

    def value_and_parts(self, x: PyTree) -> tuple[Scalar, Endpoints]:
        ends = Endpoints(self.start.log_prob(x), self.end(x))
        return self._mixed(ends.log_prob, ends.energy), ends

    def gradient_and_parts(self, x: PyTree) -> tuple[Scalar, PyTree, Endpoints]:
        log_prob, log_prob_gradient = jax.value_and_grad(self.start.log_prob)(x)
        energy, energy_gradient = jax.value_and_grad(self.end)(x)
        ends = Endpoints(log_prob, energy, log_prob_gradient, energy_gradient)
        return *self.from_parts(ends), ends

    def from_parts(self, parts: Endpoints) -> tuple[Scalar, PyTree]:
        value = self._mixed(parts.log_prob, parts.energy)
        if parts.energy_gradient is None:
            return value, None
        return value, jax.tree.map(self._mixed, parts.log_prob_gradient, parts.energy_gradient)

    def _mixed(self, here: Array, there: Array) -> Array:
        level = jnp.asarray(self.level, there.dtype)
        begin = jnp.where(level == 1, 0.0, -(1 - level) * here)
        return begin + jnp.where(level == 0, 0.0, level * there)


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


def require_proper(kernel: Kernel) -> None:
    """Refuse kernels that neither leave the density of a level invariant nor weigh their moves."""
    if not kernel.proper:
        raise InvalidArgumentError(
            "annealing needs a kernel that is exact or weighs its own moves, because its weights assume it; "
            f"{type(kernel).__name__} does neither ({kernel.bias}). Use MALA, HMC or UnadjustedLangevin."
        )


def log_weight_change(ends: Endpoints, step: Array | float) -> Array:
    """-(step)(u(x) + log q(x)), the log of the weight between two levels ``step`` apart.

    A configuration whose energy is NaN or +inf has no density in the target: weight zero.
    """
    change = -step * (ends.energy + ends.log_prob).astype(jnp.result_type(float))
    return jnp.where(jnp.isnan(ends.energy) | jnp.isposinf(ends.energy), -jnp.inf, change)


class Walker(NamedTuple):
    """One particle on its way: the state of its kernel, log q and u where it stands."""

    state: PyTree
    ends: Endpoints


class MoveInfo(NamedTuple):
    """Of the moves at one level: mean acceptance, moves that met a non-finite energy, evaluations of u and log q."""

    acceptance: Array
    non_finite: Array
    evaluations: Array


def begin_walker(key: Key[Array, ""], x: PyTree, start: Distribution, u: LogDensity, kernel: Kernel) -> Walker:
    """A draw ``x`` of ``start`` as a particle; ``key`` is for what the kernel carries besides."""
    path = GeometricPath(start, u, jnp.zeros(()))
    state = kernel.init(key, x, path)
    return Walker(state, _ends(state, path))


def move(
    key: Key[Array, ""], walker: Walker, path: GeometricPath, kernel: Kernel, steps: int
) -> tuple[Walker, Scalar, MoveInfo]:
    """``steps`` kernel moves of one particle at one level, and the log weight that they carry (0 for exact kernels)."""
    key_init, key_steps = jax.random.split(key)

    def step(state, key):
        return kernel.step(key, state, path)

    state, infos = jax.lax.scan(step, kernel.restart(key_init, walker.state, path), jax.random.split(key_steps, steps))
    failures = jnp.sum(~infos.finite, dtype=jnp.int32)
    extra = 0 if _parts(state) is not None else 2
    info = MoveInfo(infos.acceptance.mean(), failures, infos.evaluations.sum(dtype=jnp.int32) + extra)
    log_weight = infos.log_weight.sum().astype(jnp.result_type(float))
    return Walker(state, _ends(state, path)), log_weight, info


def _parts(state: PyTree) -> Endpoints | None:
    parts = getattr(state, "parts", None)
    return parts if isinstance(parts, Endpoints) else None


def _ends(state: PyTree, path: GeometricPath) -> Endpoints:
    """log q and u at a state: from its parts, or evaluated."""
    parts = _parts(state)
    if parts is None:
        parts = path.value_and_parts(state.position)[1]
    return Endpoints(parts.log_prob, parts.energy)


class AnnealedImportance(Proposal):
    """Annealed importance sampling as a proposal: one draw of ``start`` taken along ``schedule``, with its path weight.

    log w = sum over levels of u_old(x) - u_new(x), each taken before the particle moves at the new level, plus what the moves
    themselves weigh. E[w] = Z exactly, for any schedule and any number of ``steps`` of a proper kernel. Source: Neal 2001.
    """

    start: Distribution
    kernel: Kernel
    schedule: Schedule
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require_proper(self.kernel)

    def draw(self, key: Key[Array, ""], u: LogDensity) -> tuple[PyTree, Scalar]:
        key_start, key_moves = jax.random.split(key)
        levels = jnp.asarray(self.schedule.levels)
        sizes = self.schedule.step_sizes

        def level(carry, inputs):
            walker, log_weight, before = carry
            key, now, size = inputs
            kernel = self.kernel if size is None else self.kernel.with_step_size(size)
            change = log_weight_change(walker.ends, now - before)
            walker, moved, _ = move(key, walker, GeometricPath(self.start, u, now), kernel, self.steps)
            return (walker, log_weight + change + moved, now), None

        walker = begin_walker(named_key(key, "init"), self.start.sample(key_start), self.start, u, self.kernel)
        begin = (walker, jnp.zeros((), jnp.result_type(float)), jnp.zeros((), levels.dtype))
        keys = jax.random.split(key_moves, levels.shape[0])
        (walker, log_weight, _), _ = jax.lax.scan(level, begin, (keys, levels, sizes))
        return walker.state.position, log_weight
