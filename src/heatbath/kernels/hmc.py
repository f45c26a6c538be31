"""Hamiltonian Monte Carlo and its one-step relative, the Metropolis-adjusted Langevin algorithm.

Both see only u and beta: with u = beta U, physical masses M enter as reduced masses beta M, so that ``step_size`` is a time
(picoseconds for molecules in nm, u and kJ/mol) at every temperature.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import decide
from heatbath.kernels.positions import (
    add_scaled,
    all_finite,
    choose,
    divide,
    reduced_masses,
    require_floating,
    scalar_dtype,
    thermal_velocities,
    weighted_square,
)
from heatbath.state import LogDensity


class GradientState(NamedTuple):
    """A configuration with u and grad u of it, and the parts of both if u has any."""

    position: PyTree
    reduced_energy: Scalar
    gradient: PyTree
    parts: PyTree = None


def evaluate(x: PyTree, u: LogDensity) -> GradientState:
    """The state at ``x``: one evaluation of energy and gradient together."""
    return GradientState(x, *u.gradient_and_parts(x))


def state_under(state: GradientState, u: LogDensity) -> GradientState:
    """The state under another ``u``, from its parts where it has them, else by one evaluation."""
    if state.parts is None:
        return evaluate(state.position, u)
    energy, gradient = u.from_parts(state.parts)
    return state._replace(reduced_energy=energy, gradient=gradient)


def usable(state: GradientState) -> Scalar:
    """Whether position, u and its gradient are finite. The parts may be infinite where u does not hear them."""
    return all_finite(state._replace(parts=None))


class HMC(Kernel):
    """Hamiltonian Monte Carlo with the leapfrog integrator.

    Velocities v ~ N(0, 1/(beta M)); ``num_steps`` times: kick v -= (dt/2) grad u/(beta M), drift x += dt v, kick again;
    accepted with min(1, exp(-(H' - H))), H = u + beta M v^2 / 2.

    step_size:     dt, a time (ps with masses in u, lengths in nm and energies in kJ/mol).
    num_steps:     leapfrog steps of a trajectory.
    masses:        number, array that broadcasts against x, or a tree like x. Any positive masses leave p(x) unchanged.
    jitter:        dt is drawn uniformly from dt (1 -+ jitter) for every trajectory, against closed orbits.
    fewest_steps:  when given, the number of steps is drawn uniformly from fewest_steps..num_steps. Chains that are
                   batched together wait for the longest trajectory among them.

    Source: Duane et al., Phys. Lett. B 195, 216 (1987); Neal, arXiv:1206.1901.
    """

    step_size: Float[Array, ""] | float = eqx.field()
    num_steps: int = eqx.field(static=True, default=16)
    masses: PyTree = 1.0
    jitter: float = eqx.field(static=True, default=0.2)
    fewest_steps: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.num_steps < 1:
            raise InvalidArgumentError(f"num_steps must be at least 1; found {self.num_steps}")
        if not 0 <= self.jitter < 1:
            raise InvalidArgumentError(f"jitter must be in [0, 1); found {self.jitter}")
        if self.fewest_steps is not None and not 1 <= self.fewest_steps <= self.num_steps:
            raise InvalidArgumentError(f"fewest_steps must be in 1..{self.num_steps}; found {self.fewest_steps}")

    @property
    def evaluations(self) -> int:
        return self.num_steps

    @property
    def target_acceptance(self) -> float:
        return 0.8

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> GradientState:
        require_floating(x, "HMC")
        return evaluate(x, u)

    def restart(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> GradientState:
        return state_under(state, u)

    def step(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> tuple[GradientState, KernelInfo]:
        key_velocity, key_jitter, key_count, key_accept = jax.random.split(key, 4)
        dtype = scalar_dtype(state.position)
        masses = reduced_masses(self.masses, u.beta, state.position)
        velocity = thermal_velocities(key_velocity, state.position, masses)
        stretch = jax.random.uniform(key_jitter, dtype=dtype, minval=-self.jitter, maxval=self.jitter)
        time_step = jnp.asarray(self.step_size, dtype) * (1 + stretch)
        count = self.num_steps
        if self.fewest_steps is not None:
            count = jax.random.randint(key_count, (), self.fewest_steps, self.num_steps + 1)
        proposed, end_velocity = leapfrog(state, velocity, time_step, count, masses, u)
        kinetic = 0.5 * weighted_square(velocity, masses)
        end_kinetic = 0.5 * weighted_square(end_velocity, masses)
        log_ratio = state.reduced_energy - proposed.reduced_energy + (kinetic - end_kinetic).astype(dtype)
        finite = usable(proposed) & all_finite(end_kinetic)
        accepted, probability = decide(key_accept, log_ratio.astype(dtype), finite, state.reduced_energy)
        new = choose(accepted, proposed, state)
        return new, KernelInfo(probability, accepted, finite, jnp.asarray(count, jnp.int32))


def leapfrog(
    start: GradientState,
    velocity: PyTree,
    time_step: Float[Array, ""],
    count: int | Array,
    masses: PyTree,
    u: LogDensity,
) -> tuple[GradientState, PyTree]:
    """``count`` leapfrog steps of reduced masses ``masses``; one gradient each. Returns the end state and velocities."""
    velocity = add_scaled(velocity, -0.5 * time_step, divide(start.gradient, masses))

    def advance(_, carry):
        state, velocity = carry
        state = evaluate(add_scaled(state.position, time_step, velocity), u)
        return state, add_scaled(velocity, -time_step, divide(state.gradient, masses))

    state, velocity = jax.lax.fori_loop(0, count, advance, (start, velocity))
    return state, add_scaled(velocity, 0.5 * time_step, divide(state.gradient, masses))


class MALA(Kernel):
    """Metropolis-adjusted Langevin: x' ~ N(x - (e^2/2) grad u/(beta M), e^2/(beta M)), e = step_size.

    The same proposal as one leapfrog step of HMC, so that ``step_size`` is the same time; accepted with
    min(1, exp(u(x) - u(x')) q(x|x')/q(x'|x)). Source: Roberts & Tweedie, Bernoulli 2, 341 (1996).
    """

    step_size: Float[Array, ""] | float = eqx.field()
    masses: PyTree = 1.0

    @property
    def target_acceptance(self) -> float:
        return 0.57

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> GradientState:
        require_floating(x, "MALA")
        return evaluate(x, u)

    def restart(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> GradientState:
        return state_under(state, u)

    def step(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> tuple[GradientState, KernelInfo]:
        key_noise, key_accept = jax.random.split(key)
        proposed, log_ratio = langevin_move(key_noise, state, self.step_size, self.masses, u)
        finite = usable(proposed)
        log_ratio = log_ratio.astype(scalar_dtype(state.position))
        accepted, probability = decide(key_accept, log_ratio, finite, state.reduced_energy)
        new = choose(accepted, proposed, state)
        return new, KernelInfo(probability, accepted, finite, jnp.asarray(1, jnp.int32))


def langevin_move(
    key: Key[Array, ""], state: GradientState, step_size: Array | float, masses: PyTree, u: LogDensity
) -> tuple[GradientState, Scalar]:
    """x' ~ q(x'|x) = N(x - (e^2/2) grad u/(beta M), e^2/(beta M)), and log[exp(u(x) - u(x')) q(x|x')/q(x'|x)].

    The Metropolis ratio of MALA, and the path weight of the same move without Metropolis.
    """
    dtype = scalar_dtype(state.position)
    width = jnp.asarray(step_size, dtype)
    masses = reduced_masses(masses, u.beta, state.position)

    def mean(at: GradientState) -> PyTree:
        return add_scaled(at.position, -0.5 * width**2, divide(at.gradient, masses))

    def log_density(to: PyTree, at: GradientState) -> Scalar:
        difference = jax.tree.map(lambda a, b: a - b, to, mean(at))
        return -0.5 * weighted_square(difference, masses) / width**2

    noise = thermal_velocities(key, state.position, masses)
    proposed = evaluate(add_scaled(mean(state), width, noise), u)
    back, forth = log_density(state.position, proposed), log_density(proposed.position, state)
    return proposed, state.reduced_energy - proposed.reduced_energy + (back - forth)
