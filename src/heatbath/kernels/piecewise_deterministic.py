"""Bouncy-particle and zig-zag samplers: straight flights that end in jumps, driven by the engine of ``kinetics.jump_process``."""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.positions import choose, require_floating
from heatbath.kinetics.jump_process import Flight, JumpProcess, Window, begin, run_until
from heatbath.state import LogDensity


class FlyingState(NamedTuple):
    """A position with u of it, and the velocity, which is carried from step to step."""

    position: Array
    reduced_energy: Scalar
    velocity: Array


class StraightFlights(JumpProcess):
    """Flights x + v s through the landscape of ``u``; the state is (x, v).

    The hazard is max(climb, 0) + ``constant``, and d climb / ds is at most ``steepness(v)`` along a flight. From here to a time s
    ahead max(climb + steepness s, 0) + constant is therefore a majorant.
    """

    u: LogDensity
    slope: Float[Array, ""]  # bound of the second derivative of u along a unit vector

    @property
    def constant(self) -> Scalar | float:
        """The part of the hazard that does not depend on where the flight is."""
        return 0.0

    @abc.abstractmethod
    def climb(self, x: Array, v: Array) -> Scalar:
        """What the rest of the hazard is the positive part of; negative while that has to rise to 0 first."""

    @abc.abstractmethod
    def steepness(self, v: Array) -> Scalar:
        """The bound of the hazard's slope along flights of velocity ``v``."""

    def _here(self, flight: Flight) -> tuple[Array, Array]:
        x, v = flight.state
        return x + v * jnp.exp(flight.log_elapsed), v

    def log_hazard(self, flight: Flight) -> Scalar:
        return jnp.log(jnp.maximum(self.climb(*self._here(flight)), 0.0) + self.constant)

    def window(self, flight: Flight) -> Window:
        climb, slope = self.climb(*self._here(flight)), self.steepness(flight.state[1])
        length = (jnp.maximum(-climb, 0.0) + jnp.sqrt(slope)) / slope
        bound = jnp.maximum(climb + slope * length, 0.0) + self.constant
        return Window(jnp.log(length), jnp.log(bound * (1 + 1e-9)))


class Bounces(StraightFlights):
    """Hazard (v . grad u)_+ with reflection off the gradient, plus a constant rate of fresh velocities."""

    refresh: Float[Array, ""]

    def steepness(self, v: Array) -> Scalar:
        return self.slope * jnp.sum(v**2)

    @property
    def constant(self) -> Scalar:
        return self.refresh

    def climb(self, x: Array, v: Array) -> Scalar:
        return jnp.sum(v * jax.grad(self.u)(x))

    def jump(self, key: Key[Array, ""], flight: Flight) -> tuple[PyTree, Scalar]:
        x, v = self._here(flight)
        fresh_key, choice_key = jax.random.split(key)
        gradient = jax.grad(self.u)(x)
        climb = jnp.sum(v * gradient)
        bounced = v - 2 * climb / jnp.maximum(jnp.sum(gradient**2), jnp.finfo(v.dtype).tiny) * gradient
        share = self.refresh / (jnp.maximum(climb, 0.0) + self.refresh)
        fresh = jax.random.uniform(choice_key, dtype=v.dtype) < share
        new = jnp.where(fresh, jax.random.normal(fresh_key, v.shape, v.dtype), bounced)
        return (x, new), jnp.ones((), bool)


class Turns(StraightFlights):
    """Velocities of +-1 in every coordinate; coordinate i turns round at the rate (v_i d_i u)_+."""

    def steepness(self, v: Array) -> Scalar:
        # d/ds sum_i (v_i d_i u)_+ <= sum_i |(Hv)_i| <= sqrt(d) |Hv| <= d |H|
        return self.slope * v.size

    def climb(self, x: Array, v: Array) -> Scalar:
        return jnp.sum(jnp.maximum(v * jax.grad(self.u)(x), 0.0))

    def jump(self, key: Key[Array, ""], flight: Flight) -> tuple[PyTree, Scalar]:
        x, v = self._here(flight)
        climbs = jnp.maximum((v * jax.grad(self.u)(x)).reshape(-1), 0.0)
        which = jax.random.categorical(key, jnp.log(climbs))
        turned = jnp.where(jnp.arange(v.size) == which, -v.reshape(-1), v.reshape(-1))
        return (x, turned.reshape(v.shape)), jnp.ones((), bool)


class _PiecewiseDeterministic(Kernel):
    """What both samplers share: ``duration`` of flight per step, and ``curvature``, an upper bound of d^2 U along unit vectors.

    The bound is of the target's energy U; beta multiplies it. A step during which the bound was broken is reported as not
    finite, because its law is then not exact.
    """

    curvature: Float[Array, ""] | float
    duration: Float[Array, ""] | float = 1.0

    def __check_init__(self):
        for name in ("curvature", "duration"):
            value = getattr(self, name)
            if not isinstance(value, jax.Array) and not value > 0:
                raise InvalidArgumentError(f"{name} must be positive; found {value}")

    @property
    def evaluations(self) -> int:
        return 10

    @abc.abstractmethod
    def _velocity(self, key: Key[Array, ""], x: Array) -> Array:
        """A velocity from its stationary law."""

    @abc.abstractmethod
    def _process(self, v: Array, u: LogDensity) -> StraightFlights:
        """The jump process at unit speed scale of ``v``."""

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> FlyingState:
        require_floating(x, type(self).__name__)
        if not isinstance(x, jax.Array):
            raise InvalidArgumentError(f"{type(self).__name__} moves one array; found {type(x).__name__}")
        return FlyingState(x, u(x), self._velocity(key, x))

    def step(self, key: Key[Array, ""], state: FlyingState, u: LogDensity) -> tuple[FlyingState, KernelInfo]:
        dtype = state.position.dtype
        wide = jnp.result_type(float)  # clocks are of the default precision; positions keep their own
        x, v = state.position.astype(wide), state.velocity.astype(wide)
        first = begin(key, (x, v))
        last = run_until(self._process(v, u), first, jnp.log(jnp.asarray(self.duration, wide)), most=10_000)
        (x, v), elapsed = last.flight.state, jnp.exp(last.flight.log_elapsed)
        position = (x + v * elapsed).astype(dtype)
        energy = u(position)
        finite = jnp.isfinite(energy) & last.finished & (last.violations == 0)
        usable = jnp.isfinite(energy) & jnp.isfinite(position).all() & last.finished
        turned = FlyingState(state.position, state.reduced_energy, -state.velocity)
        new = choose(usable, FlyingState(position, energy.astype(state.reduced_energy.dtype), v.astype(dtype)), turned)
        return new, KernelInfo(usable.astype(dtype), usable, finite, 2 * last.attempts + 1)


class BouncyParticle(_PiecewiseDeterministic):
    """The bouncy-particle sampler: velocities N(0, 1), reflected off grad u at the rate (v . grad u)_+, renewed at ``refresh``.

    A step is ``duration`` of flight, so draws are positions at equal times. Rejection-free and irreversible; exact when
    ``curvature`` bounds the second derivative of U from above (for a Gaussian, the largest eigenvalue of its precision).
    Source: Peters & de With, Phys. Rev. E 85, 026703 (2012); Bouchard-Cote, Vollmer & Doucet, JASA 113, 855 (2018).
    """

    refresh: Float[Array, ""] | float = 1.0

    def _velocity(self, key, x):
        return jax.random.normal(key, x.shape, x.dtype)

    def _process(self, v, u):
        return Bounces(u, jnp.asarray(self.curvature * u.beta, v.dtype), jnp.asarray(self.refresh, v.dtype))


class ZigZag(_PiecewiseDeterministic):
    """The zig-zag sampler: velocities +-1 in every coordinate, each turning round at the rate (v_i d_i u)_+.

    A step is ``duration`` of flight. Exact when ``curvature`` bounds the absolute second derivatives of U along any unit vector.
    Source: Bierkens, Fearnhead & Roberts, Ann. Stat. 47, 1288 (2019).
    """

    def _velocity(self, key, x):
        return jax.random.rademacher(key, x.shape, x.dtype)

    def _process(self, v, u):
        return Turns(u, jnp.asarray(self.curvature * u.beta, v.dtype))
