"""The Metropolis-Hastings decision, and the random walk, the simplest kernel that uses it."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree, Scalar

from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.positions import add_scaled, choose, require_floating, scalar_dtype, standard_normal
from heatbath.state import LogDensity


class PointState(NamedTuple):
    """A configuration and u of it, with the parts of u if it has any: all that a kernel without gradients carries."""

    position: PyTree
    reduced_energy: Scalar
    parts: PyTree = None


def point(x: PyTree, u: LogDensity) -> PointState:
    """The state at ``x``: one evaluation of u."""
    return PointState(x, *u.value_and_parts(x))


def point_under(state: PointState, u: LogDensity) -> PointState:
    """The state under another ``u``, from its parts where it has them, else by one evaluation."""
    if state.parts is None:
        return point(state.position, u)
    return state._replace(reduced_energy=u.from_parts(state.parts)[0])


def decide(
    key: Key[Array, ""], log_ratio: Float[Array, ""], finite: Bool[Array, ""], current_energy: Float[Array, ""]
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Accept with probability min(1, exp(log_ratio)); returns (accepted, probability).

    A proposal that is not ``finite`` is rejected. A chain that stands where u is not finite (a bad start) accepts any
    finite proposal, so that it can leave.
    """
    log_ratio = jnp.where(jnp.isfinite(current_energy), log_ratio, jnp.inf)
    probability = jnp.where(finite, jnp.exp(jnp.minimum(log_ratio, 0.0)), 0.0)
    accepted = jax.random.uniform(key, dtype=log_ratio.dtype) < probability
    return accepted, probability


class RandomWalk(Kernel):
    """Random-walk Metropolis: x' = x + step_size * scale * xi, xi ~ N(0, 1), accepted with min(1, exp(u(x) - u(x'))).

    ``step_size`` is in the unit of x; ``scale`` is a number or an array that broadcasts against x (relative widths of the
    coordinates). Works on a torus too, where u is periodic and x is left unwrapped.
    Source: Metropolis et al., J. Chem. Phys. 21, 1087 (1953).
    """

    step_size: Float[Array, ""] | float = eqx.field()
    scale: PyTree = 1.0

    @property
    def target_acceptance(self) -> float:
        return 0.3

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> PointState:
        require_floating(x, "RandomWalk")
        return point(x, u)

    def restart(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> PointState:
        return point_under(state, u)

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        key_noise, key_accept = jax.random.split(key)
        scale = self.scale
        if jax.tree.structure(scale) != jax.tree.structure(state.position):
            scale = jax.tree.map(lambda leaf: self.scale, state.position)
        noise = jax.tree.map(lambda xi, s: xi * s, standard_normal(key_noise, state.position), scale)
        position = add_scaled(state.position, self.step_size, noise)
        proposed = point(position, u)
        finite = jnp.isfinite(proposed.reduced_energy)
        log_ratio = (state.reduced_energy - proposed.reduced_energy).astype(scalar_dtype(state.position))
        accepted, probability = decide(key_accept, log_ratio, finite, state.reduced_energy)
        new = choose(accepted, proposed, state)
        return new, KernelInfo(probability, accepted, finite, jnp.asarray(1, jnp.int32))
