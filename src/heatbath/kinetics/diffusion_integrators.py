"""Time steps for position-dependent diffusion, each consistent with the convention that it is used in.

Every scheme takes a ``DiffusionModel``; what it converges to is the model's process. They converge weakly with the first power of
the step and are biased at any finite one; ``kernels.PositionDependentLangevin`` is not.
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.position_dependent import DiffusionModel

Integrator = Literal["euler", "point", "heun", "milstein", "drift-free"]
INTEGRATORS = ("euler", "point", "heun", "milstein", "drift-free")


def step(
    model: DiffusionModel, x: Float[Array, " d"], noise: Float[Array, " d"], time_step: Any, integrator: Integrator
) -> Float[Array, " d"]:
    """x after one step; ``noise`` is standard normal, dW = sqrt(dt) noise.

    euler:      x + f_I dt + g dW with the drift f_I of Ito's form of the process
    point:      f and g at x + alpha (f dt + g dW), the convention taken literally
    heun:       the mean of f and g at both ends, for alpha = 1/2
    milstein:   euler + (1/2) g g' (dW^2 - dt), one dimension
    drift-free: -D grad u and g made consistent by (1 + D(y) D(x)^-1) g / 2 at a predicted y: no derivative of D is ever taken
                (Huetter & Oettinger, J. Chem. Soc., Faraday Trans. 94, 1403 (1998)); the model must be consistent
    """
    increment = jnp.sqrt(time_step) * noise
    if integrator == "euler":
        return x + time_step * model.ito_drift(x) + model.noise(x) @ increment
    if integrator == "milstein":
        correction = 0.5 * model.noise_drift(x) * (increment**2 - time_step)
        return x + time_step * model.ito_drift(x) + model.noise(x) @ increment + correction
    if integrator == "drift-free":
        kick = model.noise(x) @ increment
        ahead = x + time_step * model.force_drift(x) + kick
        ratio = jnp.linalg.solve(model.matrix(x), kick)
        force = 0.5 * (model.force_drift(x) + model.force_drift(ahead))
        return x + time_step * force + 0.5 * (kick + model.matrix(ahead) @ ratio)
    predicted = time_step * model.drift(x) + model.noise(x) @ increment
    if integrator == "heun":
        ahead = x + predicted
        return x + 0.5 * (predicted + time_step * model.drift(ahead) + model.noise(ahead) @ increment)
    between = x + model.convention * predicted
    return x + time_step * model.drift(between) + model.noise(between) @ increment


def check_integrator(model: DiffusionModel, integrator: str, dimension: int) -> None:
    """Refuse a scheme that would converge to something else. Raises ``InvalidArgumentError``."""
    if integrator not in INTEGRATORS:
        raise InvalidArgumentError(f"integrator is one of {', '.join(INTEGRATORS)}; found {integrator!r}")
    if integrator == "heun" and float(model.convention) != 0.5:
        raise InvalidArgumentError(
            f"'heun' converges to the convention alpha = 1/2; found {float(model.convention)}. Use 'point'."
        )
    if integrator == "milstein" and dimension != 1:
        raise InvalidArgumentError(f"'milstein' is written for one dimension; found {dimension}. Use 'euler'.")
    if integrator == "drift-free" and not model.consistent:
        raise InvalidArgumentError("'drift-free' makes exp(-u) stationary by itself; use it with consistent=True")


@eqx.filter_jit
def _simulate(model, key, x, time_step, integrator, steps, every, fold):
    keys = jax.random.split(key, x.shape[0])

    def particle(key, x):
        def block(x, index):
            noise = jax.random.normal(jax.random.fold_in(key, index), (every, x.size), x.dtype)

            def one(x, n):
                return fold(step(model, x, n, time_step, integrator)), None

            x, _ = jax.lax.scan(one, x, noise)
            return x, x

        return jax.lax.scan(block, x, jnp.arange(steps // every))[1]

    return jax.vmap(particle)(keys, x)


def simulate(
    key: Key[Array, ""],
    model: DiffusionModel,
    start: Float[Array | np.ndarray, "n d"],
    time_step: float,
    steps: int,
    *,
    integrator: Integrator = "euler",
    every: int = 1,
    fold: Callable[[Array], Array] | None = None,
) -> Float[Array, "n times d"]:
    """Independent particles from ``start``, recorded after every ``every`` of ``steps`` steps (the start is not included).

    ``fold`` maps a point back into the domain (reflection at a wall, periodic images). Raises ``InvalidArgumentError`` for
    a scheme that does not fit the model, a step that is not positive, or ``steps`` that ``every`` does not divide.
    """
    start = jnp.asarray(start, jnp.result_type(float))
    if start.ndim != 2:
        raise InvalidArgumentError(f"start is of shape (particles, dimension); found {start.shape}")
    check_integrator(model, integrator, start.shape[1])
    if not (np.isfinite(time_step) and time_step > 0):
        raise InvalidArgumentError(f"the time step must be positive; found {time_step}")
    if steps < 1 or every < 1 or steps % every:
        raise InvalidArgumentError(f"steps must be a multiple of every; found {steps} and {every}")
    return _simulate(
        model, key, start, jnp.asarray(time_step, start.dtype), integrator, steps, every, fold or (lambda x: x)
    )
