"""Where the convention comes from: a particle with mass, whose friction depends on position, has no ambiguity at all.

    m dv = -gamma(x) v dt - T grad u dt + sqrt(2 T gamma(x)) dW,   dx = v dt,   gamma = T / D

Its velocity is smooth on the scale of the noise, so that no convention is needed; as m -> 0 it becomes overdamped diffusion with
the full drift D' (the anti-Ito form without correction). With T = 1 here, D = 1 / gamma.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError


def inertial_step(
    u: Callable[[Array], Scalar],
    diffusivity: Callable[[Array], Scalar],
    phase: tuple[Array, Array],
    noise: Float[Array, " d"],
    time_step: Any,
    mass: Any,
) -> tuple[Array, Array]:
    """One step of the splitting kick, drift, friction and noise, drift, kick; the middle part is exact at fixed x.

    ``phase`` is (x, v); D is a scalar here.
    """
    x, v = phase
    v = v - 0.5 * time_step * jax.grad(u)(x) / mass
    x = x + 0.5 * time_step * v
    log_keep = -time_step / (mass * diffusivity(x))
    v = jnp.exp(log_keep) * v + jnp.sqrt(-jnp.expm1(2 * log_keep) / mass) * noise
    x = x + 0.5 * time_step * v
    v = v - 0.5 * time_step * jax.grad(u)(x) / mass
    return x, v


@eqx.filter_jit
def simulate_inertial(
    key: Key[Array, ""],
    u: Callable[[Array], Scalar],
    diffusivity: Callable[[Array], Scalar],
    start: Float[Array, "n d"],
    time_step: float,
    steps: int,
    mass: float,
) -> Float[Array, "n d"]:
    """Positions after ``steps`` steps of particles that start with thermal velocities."""
    keys = jax.random.split(key, start.shape[0])

    def particle(key, x):
        v = jax.random.normal(jax.random.fold_in(key, 0), x.shape, x.dtype) / jnp.sqrt(mass)

        def one(phase, index):
            noise = jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)
            return inertial_step(u, diffusivity, phase, noise, time_step, mass), None

        return jax.lax.scan(one, (x, v), jnp.arange(1, steps + 1))[0][0]

    return jax.vmap(particle)(keys, start)


def resolved_step(mass: float, most_diffusivity: float, fraction: float = 0.5) -> float:
    """A time step that resolves the relaxation time m D of the fastest velocities."""
    if not (np.isfinite(mass) and mass > 0 and most_diffusivity > 0):
        raise InvalidArgumentError(f"mass and diffusivity are positive; found {mass} and {most_diffusivity}")
    return fraction * mass * most_diffusivity
