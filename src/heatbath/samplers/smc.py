"""Sequential Monte Carlo: a population annealed together, resampled when its weights have become uneven.

``anneal`` is the algorithm as one pure function (it may be vmapped over keys); ``smc`` wraps its result in an Ensemble;
``SMCSampler`` runs independent populations in chunks. Levels are fixed beforehand, or found on the way so that the
conditional effective sample size of every step is the same. Finding them from the particles that are then weighted makes Z-hat
consistent but no longer unbiased (error of order 1/particles); a schedule found in a pilot run and then fixed has no such
error.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, Scalar

from heatbath.ensemble import Ensemble, systematic_resample
from heatbath.errors import ConvergenceError, InvalidArgumentError
from heatbath.kernels.base import Kernel
from heatbath.models.base import Distribution
from heatbath.process import Chunk
from heatbath.random import named_key, step_key, walker_keys
from heatbath.samplers.annealing import (
    GeometricPath,
    MoveInfo,
    Schedule,
    Walker,
    begin_walker,
    checked_schedule,
    log_weight_change,
    move,
    require_proper,
)
from heatbath.samplers.base import Cost, Sampled, Sampler
from heatbath.samplers.records import dimension, from_arrays, sample_axes, to_arrays
from heatbath.samplers.starts import energies_of
from heatbath.state import LogDensity, ReducedEnergy, ThermoState
from heatbath.targets.base import Target

ADAPTIVE_BIAS = (
    "the temperatures were chosen by the particles that they weight: log Z and averages carry an error of order "
    "1/particles; fix the schedule (find_schedule) to remove it"
)


class Population(NamedTuple):
    """Particles on their way: walkers, log weights (their mean weight estimates Z of the level over that of q), families."""

    walkers: Walker
    log_weights: Float[Array, " particle"]
    families: Int[Array, " particle"]

    @property
    def positions(self) -> PyTree:
        """Where the particles stand."""
        return self.walkers.state.position


class LevelInfo(NamedTuple):
    """What happened at one level: its place, the step size, effective sample size before resampling, and the moves."""

    level: Array
    step_size: Array
    ess: Array
    resampled: Array
    moves: MoveInfo


def begin_population(
    key: Key[Array, ""], start: Distribution, u: LogDensity, kernel: Kernel, particles: int, chunk: int | None = None
) -> Population:
    """Draws of ``start``, each with weight one and a family of its own."""

    def begin(keys):
        key_draw, key_init = keys
        return begin_walker(key_init, start.sample(key_draw), start, u, kernel)

    keys = (walker_keys(key, particles), walker_keys(named_key(key, "init"), particles))
    walkers = _over_particles(begin, keys, chunk)
    return Population(walkers, jnp.zeros(particles), jnp.arange(particles, dtype=jnp.int32))


def _over_particles(function, arguments: PyTree, chunk: int | None) -> PyTree:
    """``function`` of every particle, all at once or ``chunk`` at a time."""
    count = jax.tree.leaves(arguments)[0].shape[0]
    if chunk is None or chunk >= count:
        return jax.vmap(function)(arguments)
    return jax.lax.map(function, arguments, batch_size=chunk)


def effective_size(log_weights: Float[Array, " particle"]) -> Scalar:
    """Kish's (sum w)^2 / sum w^2."""
    return jnp.exp(2 * jax.nn.logsumexp(log_weights) - jax.nn.logsumexp(2 * log_weights))


def resampled_below(key: Key[Array, ""], population: Population, threshold: float) -> tuple[Population, Array, Array]:
    """``population`` resampled if its effective size is below ``threshold`` times its size; also that size and whether.

    Afterwards every log weight is the log of the mean weight, so that the mean weight is unchanged.
    """
    log_weights = population.log_weights
    count = log_weights.shape[0]
    size = effective_size(log_weights)
    needed = size < threshold * count
    index = systematic_resample(key, jax.nn.softmax(log_weights), count)
    index = jnp.where(needed, index, jnp.arange(count))
    mean = jax.nn.logsumexp(log_weights) - jnp.log(count)
    new = Population(
        jax.tree.map(lambda leaf: leaf[index], population.walkers),
        jnp.where(needed, mean, log_weights),
        population.families[index],
    )
    return new, size, needed


def advance_level(
    key: Key[Array, ""],
    population: Population,
    changes: Float[Array, " particle"],
    path: GeometricPath,
    kernel: Kernel,
    steps: int,
    resample_below: float,
    chunk: int | None = None,
) -> tuple[Population, LevelInfo]:
    """One level: weigh by ``changes``, resample if needed, move every particle and weigh the moves."""
    key_resample, key_move = jax.random.split(key)
    population = population._replace(log_weights=population.log_weights + changes)
    population, size, needed = resampled_below(key_resample, population, resample_below)

    def move_one(particle):
        key, walker = particle
        return move(key, walker, path, kernel, steps)

    particles = (walker_keys(key_move, changes.shape[0]), population.walkers)
    walkers, moved, moves = _over_particles(move_one, particles, chunk)
    population = population._replace(walkers=walkers, log_weights=population.log_weights + moved)
    totals = MoveInfo(moves.acceptance.mean(), moves.non_finite.sum(), moves.evaluations.sum())
    step = jnp.asarray(jnp.nan if kernel.step_size is None else kernel.step_size, changes.dtype)
    return population, LevelInfo(jnp.asarray(path.level), step, size, needed, totals)


def anneal(
    key: Key[Array, ""],
    start: Distribution,
    u: LogDensity,
    kernel: Kernel,
    schedule: Schedule,
    *,
    particles: int,
    steps: int = 1,
    resample_below: float = 0.5,
    chunk: int | None = None,
) -> tuple[Population, LevelInfo]:
    """A population along a fixed schedule. Pure: ``jax.vmap`` over keys gives independent runs.

    ``resample_below`` = 0 never resamples (annealed importance sampling); ``chunk`` particles are moved at once (all, when
    None), which bounds the memory that the gradient of a network takes. Returns the population at the target, whose weights
    satisfy E[mean w] = Z exactly, and the info of all levels (leading axis).
    """
    key_start, key_levels = jax.random.split(key)

    def level(carry, inputs):
        population, before = carry
        key, now, size = inputs
        changes = log_weight_change(population.walkers.ends, now - before)
        here = kernel if size is None else kernel.with_step_size(size)
        path = GeometricPath(start, u, now)
        population, info = advance_level(key, population, changes, path, here, steps, resample_below, chunk)
        return (population, now), info

    levels = jnp.asarray(schedule.levels)
    population = begin_population(key_start, start, u, kernel, particles, chunk)
    begin = (population, jnp.zeros((), levels.dtype))
    keys = jax.random.split(key_levels, levels.shape[0])
    (population, _), infos = jax.lax.scan(level, begin, (keys, levels, schedule.step_sizes))
    return population, infos


def next_level(
    log_weights: Float[Array, " particle"], rates: Float[Array, " particle"], before: Scalar, share: float
) -> Scalar:
    """The level l at which the conditional effective sample size of the step from ``before`` has fallen to ``share``.

    Step weights are exp((l - before) rate), and CESS = (sum W w)^2 / sum W w^2 with the normalised weights W so far, which is 1
    for l = before. Found by bisection; exactly 1 when the whole way is within reach.
    Source: Zhou, Johansen & Aston, J. Comput. Graph. Stat. 25, 701 (2016).
    """
    weights = jax.nn.log_softmax(log_weights)

    def enough(level):
        step = jnp.where(jnp.isneginf(rates), -jnp.inf, (level - before) * rates)
        log_cess = 2 * jax.nn.logsumexp(weights + step) - jax.nn.logsumexp(weights + 2 * step)
        return log_cess >= jnp.log(share)

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        good = enough(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    one = jnp.ones((), log_weights.dtype)
    low, high = jax.lax.fori_loop(0, 50, halve, (before.astype(one.dtype), one))
    # The upper bound lies above `before` even where bisection has run out of digits, so that the path always goes on.
    return jnp.where(enough(one), one, jnp.maximum(low, jnp.nextafter(before, high)))


def anneal_adaptively(
    key: Key[Array, ""],
    start: Distribution,
    u: LogDensity,
    kernel: Kernel,
    *,
    particles: int,
    steps: int = 1,
    resample_below: float = 0.5,
    share: float = 0.9,
    max_levels: int = 500,
    chunk: int | None = None,
) -> tuple[Population, LevelInfo, Int[Array, ""]]:
    """A population whose levels are found on the way (``next_level``), and whose step size follows its acceptance.

    Returns the population, the info of ``max_levels`` levels (those that were not needed are at level 0) and how many were used.
    When the last of them is below 1, ``max_levels`` did not suffice.
    """
    key_start, key_levels = jax.random.split(key)
    population = begin_population(key_start, start, u, kernel, particles, chunk)
    target = kernel.target_acceptance

    def one_level(number, population, before, log_step):
        rates = log_weight_change(population.walkers.ends, 1.0)
        now = next_level(population.log_weights, rates, before, share)
        changes = jnp.where(jnp.isneginf(rates), -jnp.inf, (now - before) * rates)
        here = kernel if target is None else kernel.with_step_size(jnp.exp(log_step))
        path = GeometricPath(start, u, now)
        population, info = advance_level(
            step_key(key_levels, number), population, changes, path, here, steps, resample_below, chunk
        )
        if target is not None:
            log_step = log_step + (info.moves.acceptance - target).astype(log_step.dtype)
        return population, now, log_step, info

    first = jnp.log(jnp.asarray(1.0 if kernel.step_size is None else kernel.step_size, dtype=float))
    zero = jnp.zeros((), population.log_weights.dtype)
    shapes = eqx.filter_eval_shape(lambda: one_level(0, population, zero, first)[3])
    record = jax.tree.map(lambda leaf: jnp.zeros((max_levels, *leaf.shape), leaf.dtype), shapes)

    def unfinished(carry):
        return (carry[2] < 1) & (carry[0] < max_levels)

    def body(carry):
        number, population, before, log_step, record = carry
        population, now, log_step, info = one_level(number, population, before, log_step)
        record = jax.tree.map(lambda rows, row: rows.at[number].set(row), record, info)
        return number + 1, population, now, log_step, record

    begin = (jnp.zeros((), jnp.int32), population, zero, first, record)
    count, population, _, _, record = jax.lax.while_loop(unfinished, body, begin)
    return population, record, count


def find_schedule(
    key: Key[Array, ""],
    start: Distribution,
    u: LogDensity,
    *,
    kernel: Kernel,
    particles: int = 512,
    steps: int = 1,
    share: float = 0.9,
    max_levels: int = 500,
    chunk: int | None = None,
) -> Schedule:
    """Levels and step sizes from an adaptive pilot run, to be used as a fixed schedule.

    Raises ``ConvergenceError`` when ``max_levels`` levels do not reach the target.
    """
    require_proper(kernel)
    _, infos, count = _adaptive(
        key, start, u, kernel, particles=particles, steps=steps, share=share, max_levels=max_levels, chunk=chunk
    )
    levels = _used(infos, count)
    sizes = None if kernel.target_acceptance is None else jnp.asarray(np.asarray(infos.step_size)[: int(count)])
    return Schedule(jnp.asarray(levels), sizes)


def _used(infos: LevelInfo, count: Array) -> np.ndarray:
    levels = np.asarray(infos.level)[: int(count)]
    if levels.size == 0 or levels[-1] != 1.0:
        reached = 0.0 if levels.size == 0 else float(levels[-1])
        raise ConvergenceError(
            f"annealing stopped at level {reached:.3g} of 1 after {levels.size} levels: start closer to the target, "
            "allow more levels, or lower `share`"
        )
    return levels


_adaptive = eqx.filter_jit(anneal_adaptively)
_fixed = eqx.filter_jit(anneal)


def smc(
    key: Key[Array, ""],
    start: Distribution,
    u: LogDensity,
    particles: int,
    *,
    kernel: Kernel,
    schedule: Any = None,
    steps: int = 1,
    resample_below: float = 0.5,
    share: float = 0.9,
    max_levels: int = 500,
    chunk: int | None = None,
) -> Ensemble:
    """Sequential Monte Carlo from ``start`` to exp(-u): an ensemble with absolute weights, whose mean weight is Z-hat.

    schedule:        levels (or a ``Schedule``) from above 0 to exactly 1, or None to find them on the way.
    steps:           kernel steps per level.
    resample_below:  resample when the effective size falls below this share of the particles; 0 is annealed importance sampling.
    share:           conditional effective sample size kept by every step of an adaptive schedule.
    chunk:           particles moved at once (None: all); the numbers do not depend on it.

    ``ancestors`` are families (which first particle each descends from): ``log_z`` takes its error from the spread over them
    (Lee & Whiteley, Biometrika 105, 609 (2018)). Raises ``InvalidArgumentError`` for a kernel that is not proper, and
    ``ConvergenceError`` when an adaptive path does not reach the target.
    """
    require_proper(kernel)
    if particles < 2:
        raise InvalidArgumentError(f"particles must be at least 2; found {particles}")
    options = {"particles": particles, "steps": steps, "resample_below": resample_below, "chunk": chunk}
    if schedule is None:
        population, infos, count = _adaptive(key, start, u, kernel, share=share, max_levels=max_levels, **options)
        _used(infos, count)
        bias = ADAPTIVE_BIAS
    else:
        population, _ = _fixed(key, start, u, kernel, checked_schedule(schedule), **options)
        bias = None
    state = u.state if isinstance(u, ReducedEnergy) else ThermoState(jnp.asarray(u.beta, dtype=float))
    energies = None
    if isinstance(u, ReducedEnergy):
        energies = np.asarray(energies_of(u.target, population.positions))
    return Ensemble(
        population.positions,
        np.asarray(population.log_weights, dtype=np.float64),
        state,
        energies,
        population.families,
        absolute=True,
        bias=bias,
    )


class SMCCarry(NamedTuple):
    """Key data, runs done, the schedule found by the pilot run, and energy evaluations per run summed up."""

    key: Array
    done: Array
    schedule: Schedule
    evaluations: Array
    non_finite: Array


class SMCSampler(Sampler):
    """Independent populations along a schedule that a pilot run found, one population per chunk.

    ``draws`` particles in all, ``particles`` per population. Production arrays: ``samples``, ``energies``, ``log_weights`` and
    ``family`` (number of the population times ``particles`` plus the family within it), all with the axis (draw).
    ``particles_at_once`` bounds memory where log q is a network; numbers do not depend on it.
    """

    target: Target
    state: ThermoState
    start: Distribution
    kernel: Kernel
    draws: int = eqx.field(static=True)
    particles: int = eqx.field(static=True, default=1000)
    steps: int = eqx.field(static=True, default=2)
    resample_below: float = eqx.field(static=True, default=0.5)
    particles_at_once: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        require_proper(self.kernel)
        if self.draws < 1 or self.particles < 2:
            raise InvalidArgumentError(
                f"draws must be at least 1 and particles at least 2; found {self.draws} and {self.particles}"
            )

    @property
    def _runs(self) -> int:
        return -(-self.draws // self.particles)

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        rest = dict.fromkeys(("energies", "log_weights", "family"), ("draw",))
        return {**sample_axes(self.target.space, ("draw",)), **rest}

    def cost(self) -> Cost | None:
        """Memory and disk; evaluations are those of 100 levels, the number that the pilot run finds is not known before."""
        recorded = self._runs * self.particles
        disk = recorded * 8 * (dimension(self.target.space) + 3)
        return Cost(recorded * (1 + 100 * self.steps * self.kernel.evaluations), 3 * disk, disk)

    def density(self) -> LogDensity:
        """u of the end of the path, a function of the particles' positions."""
        return ReducedEnergy(self.target, self.state)

    def configurations(self, positions: PyTree) -> PyTree:
        """Configurations of the target that belong to the particles' positions: the positions themselves."""
        return positions

    def begin(self, key: Key[Array, ""]) -> SMCCarry:
        """Runs the pilot. Raises ``ConvergenceError`` when it does not reach the target."""
        u = self.density()
        schedule = find_schedule(
            named_key(key, "pilot"),
            self.start,
            u,
            kernel=self.kernel,
            particles=self.particles,
            steps=self.steps,
            chunk=self.particles_at_once,
        )
        zero = jnp.zeros((), jnp.int32)
        return SMCCarry(jax.random.key_data(named_key(key, "smc")), zero, schedule, zero, zero)

    def advance(self, carry: SMCCarry) -> tuple[SMCCarry, Chunk]:
        u = self.density()
        key = step_key(jax.random.wrap_key_data(carry.key), carry.done)
        options = {
            "particles": self.particles,
            "steps": self.steps,
            "resample_below": self.resample_below,
            "chunk": self.particles_at_once,
        }
        population, infos = _fixed(key, self.start, u, self.kernel, carry.schedule, **options)
        configurations = self.configurations(population.positions)
        energies = energies_of(self.target, configurations)
        log_weights = np.asarray(population.log_weights, dtype=np.float64)
        arrays = {
            **to_arrays(configurations),
            "energies": np.asarray(energies),
            "log_weights": log_weights,
            "family": np.asarray(population.families) + int(carry.done) * self.particles,
        }
        spent = infos.moves.evaluations.sum() + self.particles
        metrics = {
            "evaluations": float(spent),
            "levels": float(np.size(carry.schedule.levels)),
            "families": float(np.unique(np.asarray(population.families)).size),
            "log_z": float(jax.nn.logsumexp(log_weights) - np.log(log_weights.size)),
            "acceptance": float(infos.moves.acceptance.mean()),
        }
        carry = carry._replace(
            done=carry.done + 1,
            evaluations=carry.evaluations + spent.astype(jnp.int32),
            non_finite=carry.non_finite + infos.moves.non_finite.sum().astype(jnp.int32),
        )
        return carry, Chunk("production", arrays, metrics)

    def finished(self, carry: SMCCarry) -> bool:
        return int(carry.done) >= self._runs

    def progress(self, carry: SMCCarry) -> float:
        return min(1.0, int(carry.done) / self._runs)

    def collect(self, arrays: Mapping[str, np.ndarray], carry: SMCCarry) -> Sampled:
        ensemble = Ensemble(
            jax.tree.map(jnp.asarray, from_arrays(arrays)),
            np.asarray(arrays["log_weights"], dtype=np.float64),
            self.state,
            np.asarray(arrays["energies"]),
            np.asarray(arrays["family"]),
            absolute=True,
        )
        diagnostics = {
            "method": "smc",
            "betas": np.array([float(self.state.beta)]),
            "temperatures": np.array([self.state.temperature(self.target.unit)]),
            "levels": np.asarray(carry.schedule.levels),
            "families": int(np.unique(arrays["family"]).size),
            "evaluations": int(carry.evaluations),
            "non_finite": int(carry.non_finite),
        }
        return Sampled(ensemble, diagnostics)
