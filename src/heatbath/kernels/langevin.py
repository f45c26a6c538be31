"""Langevin dynamics: the BAOAB splitting, which samples exp(-u) up to an error of the step size squared."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.hmc import evaluate
from heatbath.kernels.positions import (
    add_scaled,
    all_finite,
    choose,
    divide,
    reduced_masses,
    require_floating,
    scalar_dtype,
    thermal_velocities,
)
from heatbath.state import LogDensity


class PhaseState(NamedTuple):
    """A point of phase space with u and grad u of its position."""

    position: PyTree
    reduced_energy: Scalar
    gradient: PyTree
    velocity: PyTree


class Langevin(Kernel):
    """Underdamped Langevin dynamics by BAOAB: kick, drift, heat bath, drift, kick.

        B  v -= (dt/2) grad u/(beta M)      A  x += (dt/2) v      O  v = c v + sqrt(1 - c^2) eta,  c = exp(-friction dt)

    with eta ~ N(0, 1/(beta M)). ``step_size`` dt in ps, ``friction`` in 1/ps, ``masses`` in u (for reduced targets all three
    are pure numbers). One gradient per step. The invariant law differs from exp(-u) by O(dt^2), so ``exact`` is False.
    A step that lands where u is not finite is undone, with its velocities reversed, and counted.
    Source: Leimkuhler & Matthews, Appl. Math. Res. eXpress 2013, 34 (arXiv:1203.5428).
    """

    step_size: Float[Array, ""] | float = eqx.field()
    friction: Float[Array, ""] | float = 1.0
    masses: PyTree = 1.0

    @property
    def exact(self) -> bool:
        return False

    @property
    def bias(self) -> str:
        return (
            "Langevin dynamics (BAOAB) is not Metropolis-adjusted: averages carry an error of order step size squared; "
            "halve the step to see its size"
        )

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> PhaseState:
        require_floating(x, "Langevin")
        velocity = thermal_velocities(key, x, reduced_masses(self.masses, u.beta, x))
        here = evaluate(x, u)
        return PhaseState(here.position, here.reduced_energy, here.gradient, velocity)

    def step(self, key: Key[Array, ""], state: PhaseState, u: LogDensity) -> tuple[PhaseState, KernelInfo]:
        dtype = scalar_dtype(state.position)
        time_step = jnp.asarray(self.step_size, dtype)
        masses = reduced_masses(self.masses, u.beta, state.position)
        velocity = add_scaled(state.velocity, -0.5 * time_step, divide(state.gradient, masses))
        middle = add_scaled(state.position, 0.5 * time_step, velocity)
        keep = jnp.exp(-jnp.asarray(self.friction, dtype) * time_step)
        noise = thermal_velocities(key, state.position, masses)
        velocity = jax.tree.map(lambda v, eta: keep * v + jnp.sqrt(1 - keep**2) * eta, velocity, noise)
        point = evaluate(add_scaled(middle, 0.5 * time_step, velocity), u)
        velocity = add_scaled(velocity, -0.5 * time_step, divide(point.gradient, masses))
        proposed = PhaseState(point.position, point.reduced_energy, point.gradient, velocity)
        finite = all_finite(proposed)
        reversed_state = state._replace(velocity=jax.tree.map(jnp.negative, state.velocity))
        new = choose(finite, proposed, reversed_state)
        return new, KernelInfo(finite.astype(dtype), finite, finite, jnp.asarray(1, jnp.int32))
