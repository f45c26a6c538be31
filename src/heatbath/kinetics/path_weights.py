"""The path integral of position-dependent diffusion: the probability of a small step in any convention, in one dimension."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from heatbath.kinetics.position_dependent import DiffusionModel


def log_transition(
    model: DiffusionModel, x: Float[Array, ""], after: Float[Array, ""], time_step: Scalar | float
) -> Float[Array, ""]:
    """log K_alpha(x'|x) of one step, evaluated at y = x + alpha (x' - x):

        K = (4 pi D(y) dt)^(-1/2) exp{-[x' - x - f(y) dt + alpha D'(y) dt]^2 / (4 D(y) dt) - alpha f'(y) dt}.

    For a consistent model f = -D u' + (1 - alpha) D', so that the bracket is x' - x + (D u' - (1 - 2 alpha) D') dt. Summed along
    a path it is the log of the path's weight. Every alpha gives the same process as dt -> 0; errors are of first order.
    """
    alpha = model.convention.astype(jnp.result_type(x))

    def coefficient(y):
        return model.matrix(y[None])[0, 0]

    def drift(y):
        return model.drift(y[None])[0]

    y = x + alpha * (after - x)
    d, slope = jax.value_and_grad(coefficient)(y)
    f, bend = jax.value_and_grad(drift)(y)
    bracket = after - x - f * time_step + alpha * slope * time_step
    return -0.5 * jnp.log(4 * jnp.pi * d * time_step) - bracket**2 / (4 * d * time_step) - alpha * bend * time_step


def log_path_weight(model: DiffusionModel, path: Float[Array, " times"], time_step: Scalar | float) -> Float[Array, ""]:
    """log of the product of ``log_transition`` along a path of equal steps."""
    return jnp.sum(jax.vmap(lambda x, y: log_transition(model, x, y, time_step))(path[:-1], path[1:]))
