"""Jump processes: deterministic flights that end in random jumps, simulated event by event without a time step.

One engine for particles that collide, for bouncy-particle and zig-zag samplers, and for anything else with a flight map, a
hazard and a jump. All clocks are logarithms, so that time may run from 0 to e^1000 and beyond.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError

#: Trajectories that are advanced together, whatever their number: one compiled shape, refilled as trajectories end.
SLOTS = 8192
#: Attempts between two looks at which slots have become free.
ATTEMPTS = 16
#: How far (in log) a hazard may exceed its majorant by rounding before it counts as a violation.
TOLERANCE = 1e-7


class Flight(NamedTuple):
    """A flight under way: the state at its start, the log of the time of its start, and the log of the time since."""

    state: PyTree
    log_start: Scalar
    log_elapsed: Scalar


class Window(NamedTuple):
    """A majorant: for all times from now to exp(log_length) later, the log hazard is at most ``log_rate``."""

    log_length: Scalar
    log_rate: Scalar


class JumpProcess(eqx.Module):
    """Flights, a hazard, and jumps. Methods act on one flight.

    The probability that a flight begun in x survives a time s is exp(-∫_0^s hazard(x, s') ds'). It is sampled by thinning:
    candidates come at the constant rate of a window's majorant and are accepted with probability hazard / majorant, which
    needs no integral and has no time-step error (Lewis & Shedler, Nav. Res. Logist. Q. 26, 403 (1979)).
    """

    @abc.abstractmethod
    def window(self, flight: Flight) -> Window:
        """A majorant of the hazard from where the flight is now. Its length decides the speed, never the law."""

    @abc.abstractmethod
    def log_hazard(self, flight: Flight) -> Scalar:
        """log of the rate at which the flight would end now."""

    @abc.abstractmethod
    def jump(self, key: Key[Array, ""], flight: Flight) -> tuple[PyTree, Bool[Array, ""]]:
        """The state after a jump that happens now, and whether this attempt found it.

        A jump that is drawn by rejection makes one attempt and is asked again, in the same place, until it succeeds.
        """


class Trajectory(NamedTuple):
    """A flight with its history. ``jumps``, ``attempts`` and ``violations`` (of the majorant; must stay 0) are counts."""

    flight: Flight
    key: Array
    pending: Scalar
    finished: Scalar
    jumps: Scalar
    attempts: Scalar
    violations: Scalar


def begin(key: Key[Array, ""], state: PyTree, log_time: Any = -jnp.inf) -> Trajectory:
    """A trajectory that starts in ``state`` at the time exp(``log_time``); vmap over keys and states for many."""
    real = jnp.result_type(float)
    flight = Flight(state, jnp.asarray(log_time, real), jnp.asarray(-jnp.inf, real))
    no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    return Trajectory(flight, key, no, no, zero, zero, zero)


def log_difference(a: Scalar, b: Scalar) -> Scalar:
    """log(e^a - e^b) for a >= b; -inf where a <= b or both are -inf."""
    gap = jnp.where(a > b, jnp.where(jnp.isneginf(b), -jnp.inf, b - jnp.where(jnp.isneginf(a), 0.0, a)), -1.0)
    return jnp.where(a > b, a + jnp.log1p(-jnp.exp(gap)), -jnp.inf)


def attempt(process: JumpProcess, trajectory: Trajectory, log_end: Scalar) -> Trajectory:
    """One candidate of the thinning, or one try of a jump that is pending. Nothing once exp(``log_end``) is reached."""
    key, wait_key, jump_key = jax.random.split(trajectory.key, 3)
    start, elapsed = trajectory.flight.log_start, trajectory.flight.log_elapsed
    uniform = jax.random.uniform(wait_key, (2,), jnp.result_type(float), minval=jnp.finfo(jnp.result_type(float)).tiny)
    window = process.window(trajectory.flight)
    log_wait = jnp.log(-jnp.log(uniform[0])) - window.log_rate
    log_left = log_difference(log_end, start)
    reached = jnp.logaddexp(elapsed, jnp.minimum(log_wait, window.log_length))
    arrives = ~trajectory.pending & ~(reached < log_left)
    moved = jnp.where(trajectory.pending, elapsed, jnp.where(arrives, log_left, reached))
    here = trajectory.flight._replace(log_elapsed=moved)
    excess = process.log_hazard(here) - window.log_rate
    candidate = ~trajectory.pending & ~arrives & (log_wait < window.log_length)
    hit = trajectory.pending | (candidate & (jnp.log(uniform[1]) < excess))
    jumped, found = process.jump(jump_key, here)
    lands = hit & found
    fresh = Flight(jumped, jnp.logaddexp(start, moved), jnp.full_like(moved, -jnp.inf))
    new = Trajectory(
        _choose(lands, fresh, here),
        key,
        hit & ~found,
        arrives,
        trajectory.jumps + lands,
        trajectory.attempts + 1,
        trajectory.violations + (candidate & ~(excess <= TOLERANCE)),
    )
    return _choose(trajectory.finished, trajectory, new)


def run_until(process: JumpProcess, trajectory: Trajectory, log_end: Scalar, most: int = 100_000) -> Trajectory:
    """One trajectory to the time exp(``log_end``), inside jit; after ``most`` further attempts it stays unfinished."""
    last = trajectory.attempts + most
    return jax.lax.while_loop(
        lambda now: ~now.finished & (now.attempts < last),
        lambda now: attempt(process, now, log_end),
        trajectory._replace(finished=jnp.zeros((), bool)),
    )


def advance(
    process: JumpProcess, trajectories: Trajectory, log_end: float, *, most: int = 20_000, slots: int = SLOTS
) -> Trajectory:
    """Many trajectories (leading axis) to the time exp(``log_end``), from the host.

    A flight that is cut by ``log_end`` goes on when the result is advanced to a later time. Every trajectory has its own key,
    so results do not depend on how many go side by side. A trajectory that has not arrived after ``most`` further attempts
    is handed back with ``finished`` False. Raises ``InvalidArgumentError`` for a time that is NaN or a batch of none.
    """
    count = int(trajectories.finished.shape[0])
    if np.isnan(log_end) or count == 0:
        raise InvalidArgumentError(f"expected a log time and at least one trajectory; found {log_end} and {count}")
    implementation = jax.random.key_impl(trajectories.key)
    unfinished = trajectories._replace(key=jax.random.key_data(trajectories.key), finished=jnp.zeros(count, bool))
    pool = jax.tree.map(np.array, unfinished)
    limit = pool.attempts + most
    end = jnp.asarray(log_end, jnp.result_type(float))
    waiting = np.arange(count)
    size = min(slots, count)
    while waiting.size:
        if size >= 2048 and waiting.size <= size // 16:  # the last few go on in a small block
            size //= 16
        rows = waiting[:size]
        inside = np.resize(rows, size)  # spare slots repeat the work of others
        block = jax.tree.map(lambda leaf, inside=inside: jnp.asarray(leaf[inside]), pool)
        block = _attempts(process, block, end, implementation)
        for kept, leaf in zip(jax.tree.leaves(pool), jax.tree.leaves(block), strict=True):
            kept[inside] = np.asarray(leaf)
        over = pool.finished[rows] | (pool.attempts[rows] >= limit[rows])
        waiting = np.concatenate([rows[~over], waiting[size:]])
    key = jax.random.wrap_key_data(jnp.asarray(pool.key), impl=implementation)
    return jax.tree.map(jnp.asarray, pool._replace(key=jnp.zeros(0)))._replace(key=key)


@eqx.filter_jit
def _attempts(process: JumpProcess, block: Trajectory, log_end: Array, implementation: Any) -> Trajectory:
    """``ATTEMPTS`` attempts of every trajectory of a block, whose keys come and go as plain arrays."""

    def once(_, block):
        return jax.vmap(lambda t: attempt(process, t, log_end))(block)

    typed = block._replace(key=jax.random.wrap_key_data(block.key, impl=implementation))
    new = jax.lax.fori_loop(0, ATTEMPTS, once, typed)
    return new._replace(key=jax.random.key_data(new.key))


def _choose(condition: Scalar, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)
