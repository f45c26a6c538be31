"""The tagged particle of the Rayleigh-Boltzmann equation in a homoenergetic flow, as a jump process.

    d_t f - (L w).grad_w f = int dw* int_S2 B(n.om, |w - w*|) [M(w*') f(w') - M(w*) f(w)] d om

(arXiv 2506.15449). Between collisions w follows the flow's ``Deformation``; collisions come at the rate lam(w) of a
``CollisionLaw`` and draw their partner from M(w*) |w - w*|^gamma. That the equation is this Markov process is the paper's;
rates, bounds and samplers are derived here.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.collisions import CollisionLaw, Velocity, rescaled
from heatbath.kinetics.deformations import Deformation, SimpleShear
from heatbath.kinetics.jump_process import Flight, JumpProcess, Trajectory, Window, advance, begin

#: log speed below which a particle among partners at rest counts as absorbed.
LOG_REST = -500.0
#: A particle among partners at rest is lost to them when it collides more often than so many times per shear time 1 / K: that a
#: flight lasts long enough for its speed to double then has a probability below exp(-700). When also slow it is put to rest.
LOST, LOG_SLOW = 1000.0, -20.0


class TaggedParticle(JumpProcess):
    """Flights of ``deformation`` between collisions of ``law``.

    ``interval`` is the expected number of candidates per window of the thinning. It sets the speed; laws do not depend on it.
    """

    deformation: Deformation
    law: CollisionLaw
    interval: Float[Array, ""] | float = eqx.field(
        default=1.0, converter=lambda v: jnp.asarray(v, jnp.result_type(float))
    )

    def _absorbed(self, flight: Flight) -> Scalar:
        """Whether a particle has come to rest among partners at rest, where it collides infinitely often in a finite time."""
        if self.law.background == "maxwellian":
            return jnp.zeros((), bool)
        return flight.state.log_scale < LOG_REST

    def window(self, flight: Flight) -> Window:
        log_rate = self.law.log_rate(self.deformation.carried(flight).log_speed)
        log_factor = jnp.log(self.interval)
        log_least = jnp.full_like(
            log_rate, jnp.inf
        )  # where the rate falls on the way to the slowest point, nothing is shortened
        if (
            self.law.sign < 0
        ):  # on the way to the slowest point the rate may rise; its value there bounds how short is useful
            slowest = jnp.maximum(self.deformation.slowest_ahead(flight), -600.0)
            log_least = log_factor - self.law.log_rate(slowest)
        log_length, slow, fast = self.deformation.look_ahead(flight, log_factor - log_rate, log_least)
        log_bound = self.law.log_rate(slow if self.law.sign < 0 else fast)
        ended = self._absorbed(flight)
        return Window(jnp.where(ended, jnp.inf, log_length), jnp.where(ended, -jnp.inf, log_bound + 1e-9))

    def log_hazard(self, flight: Flight) -> Scalar:
        log_rate = self.law.log_rate(self.deformation.carried(flight).log_speed)
        return jnp.where(self._absorbed(flight), -jnp.inf, log_rate)

    def jump(self, key: Key[Array, ""], flight: Flight) -> tuple[Velocity, Bool[Array, ""]]:
        partner_key, angle_key = jax.random.split(key)
        floor = 0.0 if self.law.background == "maxwellian" else None
        w = rescaled(self.deformation.carried(flight), floor)
        partner, found = self.law.partner(partner_key, w)
        after = self.law.collide(angle_key, w, partner)
        if self.law.background == "rest" and isinstance(self.deformation, SimpleShear):
            # log of how many collisions come in a shear time; the endless rest of them changes nothing but w -> 0
            crowded = self.law.log_rate(after.log_speed) - jnp.log(self.deformation.rate) > jnp.log(LOST)
            lost = crowded & (after.log_speed < LOG_SLOW)
            after = after._replace(log_scale=jnp.where(lost, LOG_REST - 1.0, after.log_scale))
        return after, found


def start(key: Key[Array, ""], velocities: Any) -> Trajectory:
    """Particles at time 0 with ``velocities`` (particle, 3). Raises ``InvalidArgumentError`` unless all are finite and move."""
    velocities = np.asarray(velocities, float)
    if velocities.ndim != 2 or velocities.shape[1] != 3 or not np.isfinite(velocities).all():
        raise InvalidArgumentError(f"velocities are finite and of shape (particles, 3); found shape {velocities.shape}")
    if not (np.abs(velocities).sum(axis=1) > 0).all():
        raise InvalidArgumentError("a particle at rest has no direction; start it with a small velocity")
    vectors = jnp.asarray(velocities, jnp.result_type(float))
    keys = jax.random.split(key, len(velocities))
    return jax.vmap(begin)(keys, Velocity(vectors, jnp.zeros(len(velocities), vectors.dtype)))


def evolve(process: TaggedParticle, particles: Trajectory, log_time: float, **options: Any) -> Trajectory:
    """``particles`` at the time exp(``log_time``); ``options`` are those of ``jump_process.advance``.

    Raises ``InvalidArgumentError`` beyond the flow's last time.
    """
    last = process.deformation.last_log_time
    if log_time >= last:
        raise InvalidArgumentError(f"this flow can be followed to log time {last:.6g}; found {log_time:.6g}")
    return advance(process, particles, log_time, **options)


def absorbed(particles: Trajectory) -> np.ndarray:
    """Which particles have come to rest; none with a Maxwellian background."""
    return np.asarray(particles.flight.state.log_scale) < LOG_REST


@eqx.filter_jit
def velocities(process: TaggedParticle, particles: Trajectory) -> Velocity:
    """Where the particles are in velocity space now."""
    return jax.vmap(process.deformation.carried)(particles.flight)


def log_components(process: TaggedParticle, particles: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """(log |w_i|, sign of w_i) of every particle and component, without overflow or underflow in the transverse ones."""
    w = velocities(process, particles)
    start = particles.flight.state
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(np.asarray(w.vector))) + np.asarray(w.log_scale)[:, None]
        first = np.log(np.abs(np.asarray(start.vector))) + np.asarray(start.log_scale)[:, None]
    signs = np.sign(np.asarray(w.vector))
    if process.deformation.last_log_time == np.inf:  # simple shear keeps w2 and w3, which may be 1e-300 of w1
        logs[:, 1:], signs[:, 1:] = first[:, 1:], np.sign(np.asarray(start.vector))[:, 1:]
    return logs, signs
