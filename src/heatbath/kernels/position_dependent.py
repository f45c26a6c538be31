"""Langevin moves whose noise depends on position, made exact: a diffusion coefficient as the metric of MALA."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.hmc import GradientState, evaluate, state_under, usable
from heatbath.kernels.metropolis import decide
from heatbath.kernels.positions import choose, require_floating
from heatbath.kinetics.position_dependent import diffusion_matrix, divergence
from heatbath.state import LogDensity


class PositionDependentLangevin(Kernel):
    """One Euler step of dx = (-D grad u + div D) dt + sqrt(2D) dW, then Metropolis: exact at any step.

        x' = x + m(x) dt + N(0, 2 D(x) dt),   m = -D grad u + d_j D_ij,
        accepted with min(1, exp(u(x) - u(x')) q(x|x') / q(x'|x)),   q(x'|x) = N(x'; x + m dt, 2 D(x) dt),

    where q holds the square root of det D at each end. ``diffusivity`` maps an array x to a positive scalar or, for the flattened
    x, to a symmetric positive definite matrix; ``step_size`` is the time dt. As dt -> 0 moves are the diffusion itself, and at
    any dt exp(-u) stays invariant: large D where the landscape is flat and small D where it is steep. A D that is not positive
    where a move leads rejects the move and is counted as not finite.
    Source: simplified manifold MALA, Girolami & Calderhead, J. R. Stat. Soc. B 73, 123 (2011); drift as in arXiv 0707.2234.
    """

    step_size: Float[Array, ""] | float = eqx.field()
    diffusivity: Callable[[Array], Array]

    @property
    def evaluations(self) -> int:
        return 1

    @property
    def target_acceptance(self) -> float:
        return 0.6

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> GradientState:
        require_floating(x, "PositionDependentLangevin")
        if not isinstance(x, jax.Array):
            raise InvalidArgumentError("PositionDependentLangevin moves one array; use a product of kernels for trees")
        return evaluate(x, u)

    def restart(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> GradientState:
        return state_under(state, u)

    def step(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> tuple[GradientState, KernelInfo]:
        noise_key, accept_key = jax.random.split(key)
        shape, dtype = state.position.shape, state.position.dtype
        mean, root = self._proposal(state)
        noise = jax.random.normal(noise_key, (state.position.size,), dtype)
        proposed = evaluate((mean + root @ noise).reshape(shape), u)
        mean_back, root_back = self._proposal(proposed)
        behind = jax.scipy.linalg.solve_triangular(root_back, state.position.reshape(-1) - mean_back, lower=True)
        log_forward = -0.5 * jnp.sum(noise**2) - _log_det(root)
        log_backward = -0.5 * jnp.sum(behind**2) - _log_det(root_back)
        log_ratio = state.reduced_energy - proposed.reduced_energy + (log_backward - log_forward)
        finite = usable(proposed) & jnp.isfinite(log_backward)
        accepted, probability = decide(accept_key, log_ratio.astype(dtype), finite, state.reduced_energy)
        new = choose(accepted, proposed, state)
        return new, KernelInfo(probability, accepted, finite, jnp.asarray(1, jnp.int32))

    def _proposal(self, state: GradientState) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """Mean and Cholesky factor of the Gaussian step from ``state``."""
        x, shape = state.position.reshape(-1), state.position.shape
        dt = jnp.asarray(self.step_size, x.dtype)

        def coefficient(flat):
            return self.diffusivity(flat.reshape(shape)).astype(x.dtype)

        matrix = diffusion_matrix(coefficient, x)
        drift = -matrix @ state.gradient.reshape(-1) + divergence(coefficient, x)
        return x + dt * drift, jnp.linalg.cholesky(2 * dt * matrix)


def _log_det(root: Array) -> Scalar:
    return jnp.sum(jnp.log(jnp.diagonal(root)))
