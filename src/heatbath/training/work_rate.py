"""The best velocity of a torus flow by linear least squares: where the rate of work fluctuates least.

While beta rises at the rate 1 from beta, a velocity v per unit of beta does work at the rate

    dPhi/dbeta = U + beta grad U . v - div v,

whose mean is -d ln Z / dbeta for every v and whose variance is zero for the perfect one. v is linear in the weights w of
``RadialVelocity``, so that the least variance over draws at beta is a linear least-squares problem: one energy and gradient per
draw, no iterations. This derivation is ours; the variance is that of the residual of the continuity equation.

One velocity per temperature needs many draws at each. ``fit_path`` shares them: beta times the velocity changes slowly with beta
(in a harmonic cage it does not change at all), and is taken to be linear in beta.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError
from heatbath.models.torus_flow import RadialVelocity, TorusFlow, nearest
from heatbath.targets.liquids import Liquid


class WorkRate(NamedTuple):
    """Weights (species, species, radial) of the velocity per unit of beta, and the variances of the rate of work on held-out
    draws (a fifth of them): with that velocity, and with none (the variance of U).
    """

    weights: Float[np.ndarray, "species species radial"]
    variance: float
    variance_of_energy: float


def fit_work_rate(
    liquid: Liquid, velocity: RadialVelocity, xs: Float[Array, "draw particle d"], beta: float, ridge: float = 1e-2
) -> WorkRate:
    """The velocity of least variance over draws ``xs`` at ``beta``.

    ridge: added to the correlation matrix of the features, in units of its diagonal. Raises ``InvalidArgumentError`` for fewer
    draws than ten.
    """
    if len(xs) < 10:
        raise InvalidArgumentError(f"expected ten draws or more; found {len(xs)}")
    energies, features = _rates(liquid, velocity, xs, beta)
    held = np.arange(len(xs)) % 5 == 4
    centred, response = features[~held] - features[~held].mean(0), energies[~held] - energies[~held].mean()
    solution = _least_squares(centred.T @ centred, centred.T @ response, ridge)
    return _work_rate(liquid, velocity, energies[held], features[held], solution)


def fit_path(
    liquid: Liquid,
    velocity: RadialVelocity,
    draws: Sequence[Float[Array, "draw particle d"]],
    betas: Sequence[float],
    ridge: float = 1e-2,
) -> list[WorkRate]:
    """The velocities at every one of ``betas`` from the draws at all of them: beta w(beta) = a + b (beta - the middle).

    Each temperature counts with the inverse of its variance of U. Raises ``InvalidArgumentError`` for fewer than ten draws.
    """
    if len(draws) != len(betas) or min(len(xs) for xs in draws) < 10:
        raise InvalidArgumentError(
            f"expected ten draws or more at each of {len(betas)} temperatures; found {[len(xs) for xs in draws]}"
        )
    middle = 0.5 * (min(betas) + max(betas))
    functions = 2 * len(np.triu_indices(len(liquid.counts))[0]) * velocity.weights.shape[2]
    gram, moment, kept = np.zeros((functions, functions)), np.zeros(functions), []
    for xs, beta in zip(draws, betas, strict=True):
        energies, features = _rates(liquid, velocity, xs, beta)
        held = np.arange(len(xs)) % 5 == 4
        kept.append((energies[held], features[held], beta))
        centred, response = features[~held] - features[~held].mean(0), energies[~held] - energies[~held].mean()
        both = np.concatenate([centred, (beta - middle) * centred], axis=1) / beta
        weight = 1 / (len(response) * response.var())
        gram, moment = gram + weight * both.T @ both, moment + weight * both.T @ response
    constant, slope = np.split(_least_squares(gram, moment, ridge), 2)
    return [
        _work_rate(liquid, velocity, energies, features, (constant + (beta - middle) * slope) / beta)
        for energies, features, beta in kept
    ]


def _rates(liquid: Liquid, velocity: RadialVelocity, xs: Array, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """U (draw,) and the features (draw, class of pairs x radial) in float64."""
    energies, features = _features(liquid, velocity, jnp.asarray(xs), jnp.asarray(float(beta)))
    return np.asarray(energies, np.float64), np.asarray(features, np.float64)


def _least_squares(gram: np.ndarray, moment: np.ndarray, ridge: float) -> np.ndarray:
    """Minus the solution of the normal equations, with ``ridge`` added to the diagonal of the correlation matrix."""
    scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    matrix = gram / scale / scale[:, None] + ridge * np.eye(len(scale))
    return -np.linalg.solve(matrix, moment / scale) / scale


def _work_rate(
    liquid: Liquid, velocity: RadialVelocity, energies: np.ndarray, features: np.ndarray, solution: np.ndarray
) -> WorkRate:
    """The table of weights, and the variances on the held-out energies and features."""
    species, radial = len(liquid.counts), velocity.weights.shape[2]
    table = solution.reshape(-1, radial)[_classes(species)]
    return WorkRate(table, float((energies + features @ solution).var(ddof=1)), float(energies.var(ddof=1)))


def warm_start(liquid: Liquid, flow: TorusFlow, ends: tuple[Array, Array], betas: tuple[float, float]) -> TorusFlow:
    """``flow`` with the velocities fitted to draws at both ends of [before, after], linear in time between them."""
    first, last = (fit_work_rate(liquid, flow.velocity, xs, beta) for xs, beta in zip(ends, betas, strict=True))
    return between(flow, first.weights, last.weights, betas[1] - betas[0])


def between(flow: TorusFlow, before: np.ndarray, after: np.ndarray, change: float) -> TorusFlow:
    """``flow`` with velocities per unit of beta that go from ``before`` to ``after`` while beta changes by ``change``."""
    first, last = change * before, change * after
    weights = np.zeros(flow.velocity.weights.shape)
    weights[..., 0] = first if weights.shape[-1] > 1 else 0.5 * (first + last)
    if weights.shape[-1] > 1:
        weights[..., 1] = last - first
    found = jnp.asarray(weights, flow.velocity.weights.dtype)
    return eqx.tree_at(lambda f: f.velocity.weights, flow, found)


def _classes(species: int) -> np.ndarray:
    """The class of every pair of species: (a, b) and (b, a) are one."""
    table = np.zeros((species, species), int)
    first, second = np.triu_indices(species)
    table[first, second] = table[second, first] = np.arange(len(first))
    return table


@eqx.filter_jit
def _features(liquid: Liquid, velocity: RadialVelocity, xs: Array, beta: Array):
    """U of every draw, and beta grad U . v_k - div v_k of every function of every class of pairs."""
    first, second = np.triu_indices(liquid.particles, k=1)
    kinds, species = liquid.species, len(liquid.counts)
    classes = _classes(species)[kinds[first], kinds[second]]
    member = np.eye(species * (species + 1) // 2)[classes].T

    def one(x):
        energy, gradient = jax.value_and_grad(liquid.energy)(x)
        step = nearest(x[first] - x[second], liquid.length)
        squares = jnp.sum(step**2, axis=-1)
        inside = squares < velocity.cutoff**2
        basis, slopes = velocity.basis(jnp.where(inside, squares, 1.0))
        along = beta * jnp.sum((gradient[first] - gradient[second]) * step, axis=-1, keepdims=True)
        rates = jnp.where(inside[:, None], along * basis - 2 * (liquid.dimension * basis + slopes), 0)
        return energy, (jnp.asarray(member, x.dtype) @ rates).reshape(-1)

    return jax.lax.map(one, xs, batch_size=64)
