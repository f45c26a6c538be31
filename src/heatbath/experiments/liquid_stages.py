"""The processes of the experiment supercooled-liquid: chains at all temperatures, populations that are cooled, fits of flows."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.experiments.stages import Stage, total_cost
from heatbath.experiments.supercooled_liquid import CHAIN_METHODS
from heatbath.models.torus_flow import RadialVelocity, TorusFlow
from heatbath.process import Chunk, Process
from heatbath.random import named_key
from heatbath.samplers.base import Cost
from heatbath.samplers.particle_chains import ParticleSampler
from heatbath.samplers.population_annealing import Level, Population, advance_population, beginning
from heatbath.samplers.population_moves import STEP_SIZE, DynamicsSteps, ParticleSweeps, PopulationMoves
from heatbath.state import ThermoState
from heatbath.targets.liquids import Liquid
from heatbath.training import fit
from heatbath.training.objectives.generalised_work import GeneralisedWork
from heatbath.training.optimiser import AdamW
from heatbath.training.schedules import Constant
from heatbath.training.work_rate import between, fit_path


class PopulationCarry(NamedTuple):
    """Key, index of the population and of the level to come, the members, and ``Level`` fields (population, level, field)."""

    key: Any
    population: Any
    level: Any
    positions: Any
    energies: Any
    families: Any
    found: Any


#: Where the chains of a beginning population are cooled from: a quarter of its beta, in this many steps.
START_SHARE, START_STEPS = 0.25, 10
#: U is recorded so many times at every level.
RECORDS = 10
#: Energies of a sweep of one-particle moves.
SWEEP_COST = 4


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a member moves at a level: ``sweeps`` per factor of e in T at beta = 1, beta^``slowing`` times as many elsewhere.

    What relaxes slowly (which species sits next to which) takes the longer the colder the liquid, and where a population cools
    too fast for it, weights alone must mend it, at an exponential price. With a ``time_step`` steps of dynamics take the place of
    sweeps, as many as cost the same energies.
    """

    sweeps: int
    slowing: float
    time_step: float | None = None

    def between(self, before: float, after: float) -> float:
        """Sweeps from beta ``before`` to ``after``."""
        return self.sweeps * (after**self.slowing - before**self.slowing) / self.slowing

    def moves(self, target: Liquid, ends: tuple[float, float]) -> PopulationMoves:
        """The moves at a level, in whole records."""
        own = max(1, round(self.between(*ends)))
        if self.time_step is not None:
            return DynamicsSteps(target, SWEEP_COST * own, time_step=self.time_step, records=min(RECORDS, own))
        return ParticleSweeps(target, own, records=min(RECORDS, own))


class Cooling(Process):
    """Independent populations cooled from ``betas[0]`` to the last, with or without flows; one level at a time.

    schedule: how long every member moves at a level.
    weights:  (levels - 1, species, species, radial, time) of the flows, or None.
    """

    target: Liquid
    betas: tuple[float, ...] = eqx.field(static=True)
    populations: int = eqx.field(static=True)
    members: int = eqx.field(static=True)
    schedule: Schedule = eqx.field(static=True)
    start_sweeps: int = eqx.field(static=True)
    flow: TorusFlow | None = None
    weights: Any = None

    def begin(self, key: Any) -> PopulationCarry:
        shape = (self.members, *self.target.space.event_shape)
        return PopulationCarry(
            np.asarray(jax.random.key_data(named_key(key, "populations"))),
            np.int32(0),
            np.int32(0),
            np.zeros(shape),
            np.zeros(self.members),
            np.arange(self.members, dtype=np.int32),
            np.full((self.populations, len(self.betas), len(Level._fields)), np.nan),
        )

    def advance(self, carry: PopulationCarry) -> tuple[PopulationCarry, Chunk]:
        index, level = int(carry.population), int(carry.level)
        key = jax.random.wrap_key_data(jnp.asarray(carry.key))
        key = jax.random.fold_in(jax.random.fold_in(key, index), level)
        if level == 0:
            population, found = start_population(key, self.target, self.members, self.betas[0], self.start_sweeps)
        else:
            now = Population(jnp.asarray(carry.positions), jnp.asarray(carry.energies), jnp.asarray(carry.families))
            ends = (self.betas[level - 1], self.betas[level])
            moves = self.schedule.moves(self.target, ends)
            population, found = advance_population(key, self.target, now, ends, moves, self.map_to(level))
        table = np.array(carry.found)
        table[index, level] = [float(value) for value in found]
        last = level + 1 == len(self.betas)
        new = PopulationCarry(
            carry.key,
            np.int32(index + last),
            np.int32(0 if last else level + 1),
            np.asarray(population.positions),
            np.asarray(population.energies),
            np.asarray(population.families),
            table,
        )
        metrics = {"evaluations": float(found.evaluations), "mean_energy": found.mean_energy / self.target.particles}
        return new, Chunk("cooling", {}, metrics)

    def map_to(self, level: int) -> TorusFlow | None:
        """The flow that leads to ``level``."""
        if self.flow is None:
            return None
        weights = jnp.asarray(self.weights[level - 1], self.flow.velocity.weights.dtype)
        return eqx.tree_at(lambda f: f.velocity.weights, self.flow, weights)

    def finished(self, carry: PopulationCarry) -> bool:
        return int(carry.population) >= self.populations

    def progress(self, carry: PopulationCarry) -> float:
        levels = len(self.betas)
        return (int(carry.population) * levels + int(carry.level)) / (self.populations * levels)


def start_population(key: Any, target: Liquid, members: int, beta: float, sweeps: int) -> tuple[Population, Level]:
    """A chain per member, cooled to ``beta`` in half of ``sweeps`` and kept there for the other half."""
    key_start, key_chains = jax.random.split(key)
    engine = ParticleSweeps(target).engine
    starts = jax.vmap(target.initial)(jax.random.split(key_start, members))
    chains = engine.begin(np.asarray(starts), int(jax.random.bits(key_chains, dtype=jnp.uint32)))
    stages = [*np.geomspace(START_SHARE * beta, beta, START_STEPS), beta]
    lengths = [max(1, sweeps // (2 * START_STEPS))] * START_STEPS + [max(1, sweeps // 2)]
    evaluations = 0.0
    for at, length in zip(stages, lengths, strict=True):
        chains, moved = engine.run(chains, at, STEP_SIZE / np.sqrt(at), sweeps=length)
        evaluations += moved.evaluations
    positions = jnp.asarray(chains.configurations)
    population = beginning(target, Ensemble(positions, np.zeros(members), ThermoState(beta)))
    energies = np.asarray(population.energies, float)
    level = Level(
        beta, 0.0, 1.0, 1.0, float(np.log(members)), float(energies.mean()), float(energies.var(ddof=1)),
        moved.acceptance, evaluations,
    )  # fmt: skip
    return population, level


class FlowCarry(NamedTuple):
    """Key, the level to come, the pilot's members at all levels (level, member, particle, d), U of the present ones, weights of
    every flow, held-out variances of the rate of work (level, 2: with the velocity, without), and energies used.
    """

    key: Any
    level: Any
    positions: Any
    energies: Any
    weights: Any
    variances: Any
    evaluations: Any


class FlowFits(Process):
    """A pilot population is cooled, one level at a time, and then the flows between all temperatures are fitted to it."""

    target: Liquid
    betas: tuple[float, ...] = eqx.field(static=True)
    members: int = eqx.field(static=True)
    schedule: Schedule = eqx.field(static=True)
    start_sweeps: int = eqx.field(static=True)
    flow: TorusFlow
    refine: int = eqx.field(static=True, default=0)
    rate: float = eqx.field(static=True, default=1e-4)

    def begin(self, key: Any) -> FlowCarry:
        levels = len(self.betas)
        return FlowCarry(
            np.asarray(jax.random.key_data(named_key(key, "flows"))),
            np.int32(0),
            np.zeros((levels, self.members, *self.target.space.event_shape)),
            np.zeros(self.members),
            np.zeros((levels - 1, *self.flow.velocity.weights.shape)),
            np.full((levels, 2), np.nan),
            np.float64(0),
        )

    def advance(self, carry: FlowCarry) -> tuple[FlowCarry, Chunk]:
        level = int(carry.level)
        key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(carry.key)), level)
        if level == 0:
            population, found = start_population(key, self.target, self.members, self.betas[0], self.start_sweeps)
        else:
            ends, old = (self.betas[level - 1], self.betas[level]), jnp.asarray(carry.positions[level - 1])
            now = Population(old, jnp.asarray(carry.energies), jnp.arange(self.members, dtype=jnp.int32))
            population, found = advance_population(key, self.target, now, ends, self.schedule.moves(self.target, ends))
        positions, used = np.array(carry.positions), found.evaluations
        positions[level] = population.positions
        weights, variances = carry.weights, carry.variances
        if level + 1 == len(self.betas):
            weights, variances, trained = self._fitted(key, positions)
            used += trained
        new = FlowCarry(
            carry.key,
            np.int32(level + 1),
            positions,
            np.asarray(population.energies),
            weights,
            variances,
            np.float64(carry.evaluations + used),
        )
        metrics = {"evaluations": float(used), "mean_energy": found.mean_energy / self.target.particles}
        return new, Chunk("training", {}, metrics)

    def _fitted(self, key: Any, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Weights of all flows, held-out variances, and the energies that fits and training took."""
        rates = fit_path(self.target, self.flow.velocity, list(jnp.asarray(positions)), self.betas)
        # The fit takes an energy with its gradient and a pass over the pairs for the functions of every draw.
        used, weights = 3.0 * self.members * len(self.betas), []
        for level, (before, after) in enumerate(itertools.pairwise(rates)):
            ends = (self.betas[level], self.betas[level + 1])
            flow = between(self.flow, before.weights, after.weights, ends[1] - ends[0])
            flow, trained = self._refined(jax.random.fold_in(key, level), flow, jnp.asarray(positions[level]), ends)
            weights.append(np.asarray(flow.velocity.weights))
            used += trained
        variances = np.array([(rate.variance, rate.variance_of_energy) for rate in rates])
        return np.stack(weights), variances, used

    def _refined(self, key: Any, flow: TorusFlow, xs: Any, ends: tuple[float, float]) -> tuple[TorusFlow, float]:
        """The flow after training by the work, and the energies that took."""
        if not self.refine:
            return flow, 0.0
        objective, batch = GeneralisedWork(self.target, *ends), min(128, self.members)
        optimiser = AdamW(Constant(self.rate))
        fitted = fit(key, flow, objective, {"before": xs}, steps=self.refine, batch_size=batch, optimiser=optimiser)
        return fitted.model, float(self.refine * objective.evaluations(batch))

    def finished(self, carry: FlowCarry) -> bool:
        return int(carry.level) >= len(self.betas)

    def progress(self, carry: FlowCarry) -> float:
        return int(carry.level) / len(self.betas)


# Wiring ---------------------------------------------------------------------------------------------------------------
def chains(prepared: Any, method: str) -> ParticleSampler:
    """The sampler of one of the methods that move chains."""
    config, settings = prepared.config, prepared.config.chains
    longer = settings.ladder_factor if method == "tempering" else 1
    return ParticleSampler(
        prepared.target,
        1 / np.asarray(config.temperatures),
        ladders=settings.chains,
        draws=longer * settings.draws,
        sweeps=settings.sweeps,
        warmup=longer * settings.warmup,
        moves="dynamics" if method == "dynamics" else "metropolis",
        exchange_share=settings.exchange_share if method == "swap" else 0.0,
        exchange=method == "tempering",
        time_step=settings.time_step,
    )


def cooling_betas(config: Any, ratio: float) -> tuple[float, ...]:
    """From the hottest to the coldest by factors of ``ratio`` at most, through all temperatures of the configuration."""
    marks = [config.population.hottest, *(t for t in reversed(config.temperatures) if t < config.population.hottest)]
    betas = [1 / marks[0]]
    for hot, cold in itertools.pairwise(marks):
        count = max(1, math.ceil(math.log(hot / cold) / math.log(ratio) - 1e-9))
        betas += [(1 / hot) * (hot / cold) ** (step / count) for step in range(1, count)] + [1 / cold]
    return tuple(betas)


def level_of(config: Any, ratio: float) -> list[int]:
    """The level of ``cooling_betas`` at which every temperature of the configuration is reached."""
    betas = cooling_betas(config, ratio)
    return [betas.index(1 / t) for t in config.temperatures]


def empty_flow(prepared: Any) -> TorusFlow:
    """The identity: a flow whose velocity ends at half the box, or at 3 where the box is larger."""
    settings, liquid = prepared.config.flow, prepared.target
    cutoff = min(3.0, 0.4999 * liquid.length)
    velocity = RadialVelocity(len(liquid.counts), cutoff, radial=settings.radial, time=2)
    return TorusFlow(velocity, liquid.counts, liquid.length, settings.steps)


def cooling(prepared: Any, done: Mapping[str, Any] | None = None) -> Cooling:
    """Population annealing; with the stages ``done``, carried by the flows that were fitted."""
    config, settings = prepared.config, prepared.config.population
    flow = None if done is None else empty_flow(prepared)
    weights = None if done is None else np.asarray(done["flows"].carry.weights)
    return Cooling(
        prepared.target,
        cooling_betas(config, settings.ratio if done is None else config.flow.ratio),
        settings.populations,
        settings.members,
        schedule(config, settings.sweeps),
        settings.start_sweeps,
        flow,
        weights,
    )


def schedule(config: Any, sweeps: int) -> Schedule:
    """With the moves of the configuration's populations."""
    time_step = config.chains.time_step if config.population.moves == "dynamics" else None
    return Schedule(sweeps, config.population.slowing, time_step)


def fits(prepared: Any) -> FlowFits:
    """The fits of all flows."""
    config, settings = prepared.config, prepared.config.flow
    return FlowFits(
        prepared.target,
        cooling_betas(config, settings.ratio),
        settings.members,
        schedule(config, settings.sweeps),
        config.population.start_sweeps,
        empty_flow(prepared),
        settings.refine,
        settings.rate,
    )


def stages(prepared: Any) -> tuple[Stage, ...]:
    """Chains, populations, flows, populations carried by flows."""
    made = [
        Stage(name, lambda done, name=name: chains(prepared, name), share=float(chains(prepared, name).cost().evaluations))
        for name in CHAIN_METHODS
    ]  # fmt: skip
    annealing, pilot = _population_cost(prepared, flows=False), _pilot_cost(prepared)
    made.append(Stage("annealing", lambda done: cooling(prepared), share=float(annealing)))
    made.append(Stage("flows", lambda done: fits(prepared), share=1.2 * pilot))
    made.append(Stage("flow-annealing", lambda done: cooling(prepared, done), share=1.1 * annealing))
    return tuple(made)


def _population_cost(prepared: Any, *, flows: bool) -> int:
    config, settings = prepared.config, prepared.config.population
    betas = cooling_betas(config, config.flow.ratio if flows else settings.ratio)
    maps = (1 + 4 * config.flow.steps) * (len(betas) - 1) if flows else 0
    sweeps = settings.start_sweeps + schedule(config, settings.sweeps).between(betas[0], betas[-1])
    per_member = SWEEP_COST * sweeps + RECORDS * len(betas) + maps
    return round(settings.populations * settings.members * per_member)


def _pilot_cost(prepared: Any) -> int:
    config, settings = prepared.config, prepared.config.flow
    betas = cooling_betas(config, settings.ratio)
    sweeps = config.population.start_sweeps + schedule(config, settings.sweeps).between(betas[0], betas[-1])
    refined = (len(betas) - 1) * settings.refine * 256
    return round(settings.members * (SWEEP_COST * sweeps + (RECORDS + 3) * len(betas))) + refined


def cost(prepared: Any) -> dict[str, int | None]:
    """Energies of all stages; memory and disk of what is recorded."""
    made = [chains(prepared, name).cost() for name in CHAIN_METHODS]
    config = prepared.config
    levels = len(cooling_betas(config, config.flow.ratio))
    kept = 16 * prepared.target.particles * (config.population.members + levels * config.flow.members)
    both = _population_cost(prepared, flows=False) + _population_cost(prepared, flows=True) + _pilot_cost(prepared)
    return total_cost([*made, Cost(both, 2**28, 4 * kept)])
