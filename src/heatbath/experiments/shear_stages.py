"""The stages of the experiment rayleigh-boltzmann-shear: particles in a flow, advanced from view to view."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.kinetics.collisions import collision_law
from heatbath.kinetics.deformations import Homoenergetic, SimpleShear
from heatbath.kinetics.jump_process import Trajectory
from heatbath.kinetics.shear import TaggedParticle, evolve, log_components, start
from heatbath.process import Chunk, Process

#: Width of the lognormal start, and the velocity of the point-like one.
LOGNORMAL_WIDTH, POINT = 2.0, (0.0, 1.0, 1.0)
#: log time at which the gas without flow has forgotten its start.
EQUILIBRIUM = 4.0


class Views(NamedTuple):
    """What was seen: (view, particle, 3) logs and signs of the velocities, (view, particle) counts and whether it had arrived."""

    logs: Any
    signs: Any
    jumps: Any
    arrived: Any


class ShearCarry(NamedTuple):
    """The particles, what was seen so far, and how many views that is."""

    particles: Trajectory
    views: Views
    step: Any


class ShearRun(Process):
    """``count`` particles of one process, seen at ``log_times``."""

    process: TaggedParticle
    log_times: tuple[float, ...] = eqx.field(static=True)
    count: int = eqx.field(static=True)
    law: str = eqx.field(static=True)
    speed: float = eqx.field(static=True)
    attempts: int = eqx.field(static=True)

    def begin(self, key: Any) -> ShearCarry:
        velocities = self.speed * starting(self.law, jax.random.fold_in(key, 0), self.count)
        size = (len(self.log_times), self.count)
        views = Views(
            np.zeros((*size, 3)), np.zeros((*size, 3), np.int8), np.zeros(size, np.int32), np.zeros(size, bool)
        )
        return ShearCarry(start(jax.random.fold_in(key, 1), velocities), views, np.int32(0))

    def advance(self, carry: ShearCarry) -> tuple[ShearCarry, Chunk]:
        step = int(carry.step)
        before = int(np.asarray(carry.particles.attempts).sum())
        particles = evolve(self.process, carry.particles, self.log_times[step], most=self.attempts)
        views = Views(*(np.array(array) for array in carry.views))
        views.logs[step], views.signs[step] = log_components(self.process, particles)
        views.jumps[step], views.arrived[step] = particles.jumps, particles.finished
        attempts = int(np.asarray(particles.attempts).sum()) - before
        metrics = {
            "evaluations": 0.0,
            "candidates": float(attempts),
            "log time": self.log_times[step],
            "collisions": float(views.jumps[step].mean()),
        }
        return ShearCarry(particles, views, np.int32(step + 1)), Chunk("particles", {}, metrics)

    def finished(self, carry: ShearCarry) -> bool:
        return int(carry.step) >= len(self.log_times)

    def progress(self, carry: ShearCarry) -> float:
        return int(carry.step) / len(self.log_times)


def starting(law: str, key: Any, count: int) -> np.ndarray:
    """Velocities at time 0."""
    normal = np.asarray(jax.random.normal(key, (count, 3)))
    if law == "lognormal":
        return np.exp(LOGNORMAL_WIDTH * normal)
    return np.tile(np.array(POINT), (count, 1)) if law == "point" else normal


def runs(config: Any) -> dict[str, ShearRun]:
    """The three stages by name."""
    flow, collisions, particles = config.flow, config.collisions, config.particles
    law = collision_law(
        collisions.gamma, strength=collisions.strength, angular=collisions.angular, background=collisions.background
    )
    deformation = (
        Homoenergetic(jnp.array(flow.gradient).reshape(3, 3)) if flow.gradient else SimpleShear(flow.shear_rate)
    )
    made = {
        "flow": ShearRun(
            TaggedParticle(deformation, law, particles.interval),
            particles.log_times,
            particles.count,
            particles.start,
            particles.speed,
            particles.attempts,
        ),
        "interval": ShearRun(
            TaggedParticle(deformation, law, particles.other_interval),
            particles.log_times[: 1 + len(particles.log_times) // 2],
            particles.control,
            particles.start,
            particles.speed,
            particles.attempts,
        ),
    }
    if collisions.background == "maxwellian":
        still = TaggedParticle(SimpleShear(0.0), law, particles.interval)
        made["equilibrium"] = ShearRun(still, (EQUILIBRIUM,), particles.control, "thermal", 1.0, particles.attempts)
    return made
