"""Continuous flows as what they are on a computer: a finite number of explicit integrator steps of a velocity net.

The model is defined by its INVERSE, the explicit map from data to noise

    z = g(x) = g_1 o ... o g_K (y),   y = outer^-1(x),   g_k(y) = y + (t_{k-1} - t_k) Phi(y, t_k, t_{k-1}),   t_K = 1, t_0 = 0,

where Phi is the increment of an explicit Runge-Kutta step (Euler, Heun, RK4) of dy/dt = v(y, t). Its density
q(x) = q0(g(x)) |det Dg(x)| is exact for the discrete map: no error of an integrator remains, however few steps there are. A
draw solves g_k(y) = y_{k-1} step by step, y <- y_{k-1} - (t_{k-1} - t_k) Phi(y), a contraction when the step is short
against 1/|Dv|; the first guess extrapolates the increments of the steps before, and sweeps go on until the residual
|g_k(y) - y_{k-1}| is below a stated tolerance. (The other way round, an explicit map from noise to data, draws with one
pass, but its weight needs the inverse of every step's Jacobian applied to a direction: five or more products, not one.)
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Bijection
from heatbath.models.interpolants import Interpolant, Straight
from heatbath.models.nets.velocity import Velocity
from heatbath.models.standardisation import standardisation
from heatbath.models.subspaces import FullSpace, MeanFree, Subspace, SubspaceNormal

#: Velocity evaluations of one step.
STAGES = {"euler": 1, "heun": 2, "rk4": 4}


class TimeGrid(eqx.Module):
    """Times 0 = t_0 < ... < t_K = 1 from noise to data. Training leaves them alone."""

    frozen: ClassVar[bool] = True

    nodes: Float[Array, " node"]

    def __init__(self, nodes):
        self.nodes = jnp.asarray(nodes, dtype=float)
        if isinstance(self.nodes, jax.core.Tracer):
            return
        values = np.asarray(self.nodes)
        if values.ndim != 1 or values.size < 2 or values[0] != 0 or values[-1] != 1 or not (np.diff(values) > 0).all():
            raise InvalidArgumentError(f"times must rise from exactly 0 to exactly 1; found {values.tolist()}")

    @staticmethod
    def uniform(steps: int) -> "TimeGrid":
        """Equal steps."""
        return TimeGrid(np.linspace(0.0, 1.0, steps + 1))

    @staticmethod
    def towards_data(steps: int, power: float = 2.0) -> "TimeGrid":
        """t_k = 1 - (1 - k/K)^power: short steps near the data, where narrow modes make the velocity steep."""
        return TimeGrid(1.0 - (1.0 - np.linspace(0.0, 1.0, steps + 1)) ** power)

    @property
    def steps(self) -> int:
        """K."""
        return self.nodes.shape[0] - 1


class Inversion(NamedTuple):
    """How well a draw solves g(x) = z: the largest residual of any step, and the sweeps of all steps together."""

    residual: Float[Array, ""]
    sweeps: Int[Array, ""]


class ContinuousFlow(Distribution):
    """The discrete flow described in this file's opening paragraph.

    base:       q0 and the subspace in which the flow moves
    velocity:   the net; its prediction means a drift as ``interpolant`` says, and is projected into the subspace
    outer:      a bijection with exact log det between the flow and the data (standardisation)
    times:      the grid; ``integrator`` one of "euler", "heun", "rk4"
    tolerance:  sweeps stop when the residual is below tolerance * max(1, max|y|) (never below rounding); ``max_sweeps`` per step

    ``log_prob`` is exact and costs D Jacobian products per step; ``models.log_jacobian`` estimates it for less.
    Sources: arXiv 1806.07366, 2210.02747; the explicit inverse as the model is our own choice.
    """

    base: SubspaceNormal
    velocity: Velocity
    outer: Bijection
    times: TimeGrid
    interpolant: Interpolant = Straight()
    integrator: str = eqx.field(static=True, default="heun")
    tolerance: float = eqx.field(static=True, default=1e-5)
    max_sweeps: int = eqx.field(static=True, default=50)

    def __check_init__(self):
        if self.integrator not in STAGES:
            raise InvalidArgumentError(f"integrator must be one of {sorted(STAGES)}; found {self.integrator!r}")

    @property
    def subspace(self) -> Subspace:
        """Where the flow moves."""
        return self.base.subspace

    @property
    def steps(self) -> int:
        """K."""
        return self.times.steps

    # The map ----------------------------------------------------------------------------------------------------------
    def drift(self, y: Float[Array, "*shape"], t: Scalar) -> Float[Array, "*shape"]:
        """v(y, t), in the subspace and in the type of y."""
        prediction = self.velocity(self.subspace.project(y), jnp.asarray(t, y.dtype))
        return self.subspace.project(self.interpolant.drift(prediction.astype(y.dtype)))

    def step(self, y: Float[Array, "*shape"], t: Scalar, h: Scalar) -> Float[Array, "*shape"]:
        """One explicit step of the integrator from time t to t + h; g_k has h < 0."""
        return y + h * self.increment(y, t, h)

    def increment(self, y: Float[Array, "*shape"], t: Scalar, h: Scalar) -> Float[Array, "*shape"]:
        """Phi(y, t, h), the mean slope of the step."""
        first = self.drift(y, t)
        if self.integrator == "euler":
            return first
        if self.integrator == "heun":
            return 0.5 * (first + self.drift(y + h * first, t + h))
        second = self.drift(y + 0.5 * h * first, t + 0.5 * h)
        third = self.drift(y + 0.5 * h * second, t + 0.5 * h)
        fourth = self.drift(y + h * third, t + h)
        return (first + 2 * second + 2 * third + fourth) / 6

    def inverse_steps(self, dtype) -> tuple[Array, Array]:
        """(t_k, h_k) of g_K, ..., g_1 in the order in which they are applied to data."""
        nodes = jax.lax.stop_gradient(self.times.nodes)[::-1]
        return nodes[:-1].astype(dtype), jnp.diff(nodes).astype(dtype)

    def inner_inverse(self, y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """g_1 o ... o g_K, without the outer bijection."""
        return jax.lax.scan(lambda y, at: (self.step(y, *at), None), y, self.inverse_steps(y.dtype))[0]

    def to_base(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """z = g(x), explicit."""
        y, _ = self.outer.inverse(x)
        return self.inner_inverse(y)

    def from_base(self, z: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Inversion]:
        """x with g(x) = z, and how well it solves that."""
        times, steps = (part[::-1] for part in self.inverse_steps(z.dtype))

        def solve(carry, at):
            y, recent, older, residual, sweeps = carry
            # increments vary smoothly along the path: the next one is guessed on the line through the last two
            t, h = at
            y, slope, found = self._invert_step(y, t, h, 2 * recent - older)
            return (y, slope, recent, jnp.maximum(residual, found.residual), sweeps + found.sweeps), None

        slope = self.drift(z, times[0])
        begin = (z, slope, slope, jnp.zeros((), z.dtype), jnp.zeros((), jnp.int32))
        (y, _, _, residual, sweeps), _ = jax.lax.scan(solve, begin, (times, steps))
        return self.outer.forward(y)[0], Inversion(residual, sweeps)

    def _invert_step(self, target, t, h, slope):
        """y with step(y, t, h) = target, by sweeps y <- target - h Phi(y) that begin with the increment ``slope``."""
        rounding = 8 * float(jnp.finfo(target.dtype).eps)
        tolerance = max(self.tolerance, rounding) * jnp.maximum(1.0, jnp.max(jnp.abs(target)))

        def unfinished(carry):
            _, _, residual, sweeps = carry
            # written so that a residual that is not a number ends the sweeps
            return (residual > tolerance) & (sweeps < self.max_sweeps)

        def sweep(carry):
            y, _, _, sweeps = carry
            slope = self.increment(y, t, h)
            new = target - h * slope
            return new, slope, jnp.max(jnp.abs(new - y)).astype(y.dtype), sweeps + 1

        begin = (target - h * slope, slope, jnp.full((), jnp.inf, target.dtype), jnp.zeros((), jnp.int32))
        y, slope, residual, sweeps = jax.lax.while_loop(unfinished, sweep, begin)
        return y, slope, Inversion(residual, sweeps)

    def converged(self, inversion: Inversion) -> Scalar:
        """Whether a draw's residual is small enough to be called a draw: 100 times the tolerance, at most."""
        rounding = 8 * float(jnp.finfo(inversion.residual.dtype).eps)
        return inversion.residual <= 100 * max(self.tolerance, rounding)

    # The density ------------------------------------------------------------------------------------------------------
    def sample(self, key: Key[Array, ""]) -> Float[Array, "*shape"]:
        return self.from_base(self.base.sample(key))[0]

    def log_prob(self, x: Float[Array, "*shape"]) -> Scalar:
        z, log_det = self.to_base_with_log_det(x)
        return self.base.log_prob(z) + log_det

    def to_base_with_log_det(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Scalar]:
        """z = g(x) and the exact log|det Dg(x)|: D Jacobian products through all steps, and one determinant."""
        y, outer = self.outer.inverse(x)
        basis = jnp.asarray(self.subspace.basis(), y.dtype)
        z, moved = jax.vmap(lambda n: jax.jvp(self.inner_inverse, (y,), (n,)), out_axes=(None, 0))(basis)
        axes, wide = tuple(range(1, moved.ndim)), jnp.result_type(float)
        matrix = jnp.tensordot(moved.astype(wide), basis.astype(wide), (axes, axes))
        return z, jnp.linalg.slogdet(matrix)[1] + outer


def equalised_times(key: Key[Array, ""], flow: ContinuousFlow, draws: int = 16, probes: int = 8) -> TimeGrid:
    """As many steps as ``flow`` has, placed so that each contributes equally to the variance of flow perturbation.

    A step of length h at time t adds about h^2 c(t)^2, with c(t)^2 the variance over isotropic directions n of D n.(Dv n),
    which is 2 tr(S^2) for the traceless symmetric part S of Dv. The sum over K steps is least when every step covers the same
    part of the integral of c. c is estimated on draws of the flow, at the nodes it has.
    """
    keys = jax.random.split(key, draws)
    rate = np.asarray(_spread(keys, flow, probes))
    nodes = np.asarray(flow.times.nodes)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(nodes))])
    grid = np.interp(np.linspace(0.0, cumulative[-1], flow.steps + 1), cumulative, nodes)
    grid[0], grid[-1] = 0.0, 1.0
    return TimeGrid(grid)


@eqx.filter_jit
def _spread(keys, flow: ContinuousFlow, probes: int):
    """c at every node, from independent directions at the places of several paths."""
    dimension, subspace = flow.subspace.dimension, flow.subspace

    def at_place(key, y, t):
        def quadratic(key):
            n = subspace.direction(key, y.dtype)
            return dimension * jnp.sum(n * jax.jvp(lambda y: flow.drift(y, t), (y,), (n,))[1])

        return jnp.var(jax.vmap(quadratic)(jax.random.split(key, probes)), ddof=1)

    def along_path(key):
        key_base, key_probes = jax.random.split(key)
        z = flow.base.sample(key_base)
        y = flow.outer.inverse(flow.from_base(z)[0])[0]
        times, steps = flow.inverse_steps(y.dtype)
        last, path = jax.lax.scan(lambda y, at: (flow.step(y, *at), y), y, (times, steps))
        places = jnp.concatenate([path, last[None]])[::-1]
        nodes = flow.times.nodes.astype(y.dtype)
        return jax.vmap(at_place)(jax.random.split(key_probes, len(nodes)), places, nodes)

    return jnp.sqrt(jnp.mean(jax.vmap(along_path)(keys), axis=0))


def continuous_flow(
    velocity: Velocity,
    shape: tuple[int, ...],
    *,
    data: Any = None,
    steps: int = 40,
    integrator: str = "heun",
    interpolant: Interpolant | None = None,
    centre_scale: float | None = None,
    whiten: bool = False,
    times: TimeGrid | None = None,
    dtype: str = "float32",
    tolerance: float = 1e-5,
) -> ContinuousFlow:
    """A flow for vectors of ``shape`` (d,), or for particles (n, 3) when ``centre_scale`` (nm) is given.

    ``data`` (m, *shape), equally weighted, standardises: particles by one scale, vectors coordinate by coordinate or, with
    ``whiten``, by their covariance. Without data the standardisation is the identity, in arrays of the same shapes (to be
    restored from a file).
    """
    particles = centre_scale is not None
    subspace = MeanFree(tuple(shape)) if particles else FullSpace(tuple(shape))
    base = SubspaceNormal(subspace, centre_scale, dtype)
    outer = standardisation(shape, data, particles=particles, whiten=whiten)
    times = TimeGrid.uniform(steps) if times is None else times
    return ContinuousFlow(
        base, velocity, outer, times, interpolant or Straight(), integrator=integrator, tolerance=tolerance
    )
