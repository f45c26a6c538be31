"""Exact numbers for targets in one or two dimensions: integrals on a midpoint grid, and exact draws under a grid envelope.

The midpoint rule converges faster than any power of the step for smooth densities that vanish at the edge of the box, so
that a few points per length scale give float64 accuracy. It also puts a cell edge, not a point, at the middle of the box.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from heatbath.errors import InvalidArgumentError

#: A box is wide enough when beta (U - U_min) is at least this on its edge: exp(-45) = 3e-20.
EDGE = 45.0

CELLS = {1: 8192, 2: 640}


def midpoints(lower: np.ndarray, upper: np.ndarray, cells: int | None = None) -> tuple[np.ndarray, float]:
    """Cell centres (n, d) of a regular grid on a box and the volume of one cell, for d = 1 or 2."""
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    dimension = len(lower)
    if dimension not in CELLS:
        raise InvalidArgumentError(f"quadrature works in 1 or 2 dimensions; found {dimension}")
    count = CELLS[dimension] if cells is None else cells
    step = (upper - lower) / count
    axes = [low + width * (np.arange(count) + 0.5) for low, width in zip(lower, step, strict=True)]
    points = np.stack([mesh.reshape(-1) for mesh in np.meshgrid(*axes, indexing="ij")], axis=-1)
    return points, float(np.prod(step))


def evaluate(function: Callable, points: np.ndarray) -> np.ndarray:
    """``function`` at every row of ``points``, in float64 whatever the global precision."""
    with jax.enable_x64(True):  # noqa: FBT003
        return np.asarray(_map_rows(function, jnp.asarray(points, dtype=jnp.float64)), dtype=np.float64)


@eqx.filter_jit
def _map_rows(function, points):
    return jax.lax.map(function, points, batch_size=2**14)


def log_integral(
    energy: Callable, beta: float, lower: np.ndarray, upper: np.ndarray, cells: int | None = None
) -> float:
    """log of the integral of exp(-beta U) over the box."""
    points, volume = midpoints(lower, upper, cells)
    exponents = -float(beta) * evaluate(energy, points)
    top = exponents.max()
    return float(top + np.log(np.exp(exponents - top).sum() * volume))


def mean(
    energy: Callable,
    observable: Callable,
    beta: float,
    lower: np.ndarray,
    upper: np.ndarray,
    cells: int | None = None,
) -> float:
    """The mean of ``observable(x)`` under exp(-beta U) on the box."""
    points, _ = midpoints(lower, upper, cells)
    exponents = -float(beta) * evaluate(energy, points)
    weights = np.exp(exponents - exponents.max())
    return float(np.sum(weights * evaluate(observable, points)) / weights.sum())


class GridEnvelope(eqx.Module):
    """Exact draws from a smooth density in one or two dimensions by rejection under a piecewise constant envelope.

    Each cell's bound is the largest density at its corners and centre, raised by a margin for what lies between them.
    Rejection removes the grid from the result; the margin is 5 % plus a quarter of the change of log p across the cell.
    """

    lower: Float[Array, " d"]
    step: Float[Array, " d"]
    log_bound: Float[Array, "rows columns"]
    row_cumulative: Float[Array, " rows"]
    cumulative: Float[Array, "rows columns"]
    log_density: Callable

    def __init__(self, log_density: Callable, lower, upper, cells: int):
        self.lower = jnp.asarray(lower, dtype=float)
        self.step = (jnp.asarray(upper, dtype=float) - self.lower) / cells
        self.log_density = log_density
        dimension = self.lower.shape[0]
        edges = _values_on_grid(log_density, self.lower, self.step, jnp.arange(cells + 1.0))
        centres = _values_on_grid(log_density, self.lower, self.step, jnp.arange(cells) + 0.5)
        top = jnp.max(jnp.where(jnp.isfinite(edges), edges, -jnp.inf))
        edges = jnp.clip(jnp.where(jnp.isfinite(edges), edges - top, -jnp.inf), -200.0, None)
        high = low = jnp.clip(jnp.where(jnp.isfinite(centres), centres - top, -jnp.inf), -200.0, None)
        for corner in _corners(edges, dimension):
            high, low = jnp.maximum(high, corner), jnp.minimum(low, corner)
        bound = high + 0.05 + 0.25 * (high - low)
        self.log_bound = (bound + top).reshape((-1, cells))
        mass = jnp.exp(bound - bound.max()).reshape((-1, cells))
        self.row_cumulative = jnp.cumsum(mass.sum(axis=1))
        self.cumulative = jnp.cumsum(mass, axis=1)

    def draw(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """One exact draw."""

        def propose(carry):
            key, _, _ = carry
            key, cell_key, place_key, accept_key = jax.random.split(key, 4)
            row, column = draw_cell(cell_key, self.row_cumulative, self.cumulative)
            cell = jnp.stack([row, column])[-self.lower.shape[0] :]
            x = self.lower + self.step * (cell + jax.random.uniform(place_key, self.lower.shape, self.lower.dtype))
            log_ratio = self.log_density(x) - self.log_bound[row, column]
            accepted = jnp.log(jax.random.uniform(accept_key, dtype=self.lower.dtype)) < log_ratio
            return key, x, accepted

        return jax.lax.while_loop(lambda carry: ~carry[2], propose, (key, self.lower, jnp.asarray(False)))[1]  # noqa: FBT003


def draw_cell(
    key: Key[Array, ""], row_cumulative: Float[Array, " rows"], cumulative: Float[Array, "rows columns"]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """A cell of a table with probability proportional to its mass, from cumulative sums over rows and within rows.

    Two short searches instead of one long one keep single-precision tables accurate and draws free of large temporaries.
    """
    row_u, column_u = jax.random.uniform(key, (2,), dtype=cumulative.dtype)
    row = _search(lambda i: row_cumulative[i], row_cumulative.shape[0], row_u)
    return row, _search(lambda i: cumulative[row, i], cumulative.shape[1], column_u)


def _values_on_grid(function, lower, step, positions):
    axes = [low + width * positions for low, width in zip(lower, step, strict=True)]
    points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
    values = jax.lax.map(function, points.reshape((-1, len(axes))), batch_size=2**14)
    return values.reshape(points.shape[:-1])


def _corners(edges, dimension):
    if dimension == 1:
        return [edges[:-1], edges[1:]]
    return [edges[:-1, :-1], edges[1:, :-1], edges[:-1, 1:], edges[1:, 1:]]


def _search(cumulative_at, count: int, uniform):
    """First index whose cumulative mass exceeds ``uniform`` times the total, without gathering a row per draw."""
    goal = uniform * cumulative_at(count - 1)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        below = cumulative_at(middle) <= goal
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    steps = max(1, int(np.ceil(np.log2(count))) + 1)
    low, _ = jax.lax.fori_loop(0, steps, halve, (jnp.asarray(0), jnp.asarray(count - 1)))
    return low
