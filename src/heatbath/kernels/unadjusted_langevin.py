"""Unadjusted Langevin with its path weight: every move is taken, and what Metropolis would have decided becomes a weight."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.hmc import GradientState, evaluate, langevin_move, state_under, usable
from heatbath.kernels.positions import choose, require_floating, scalar_dtype
from heatbath.state import LogDensity


class UnadjustedLangevin(Kernel):
    """x' = x - (e^2/2) grad u/(beta M) + e xi, xi ~ N(0, 1/(beta M)), e = step_size: MALA without its decision.

    The invariant law differs from exp(-u) by O(e^2), so ``exact`` is False and chains carry that bias. Paths do not:

        log_weight = u(x) - u(x') + log K(x|x') - log K(x'|x),   K(x'|x) = N(x'; x - (e^2/2) grad u/(beta M), e^2/(beta M)),

    is the weight on the extended space of (x, x') whose backward kernel is K itself. Then E over K of exp(log_weight) f(x'),
    averaged over x from exp(-u), is the mean of f for every step size and every u: the kernel is ``proper``, and annealing and
    SMC with it estimate Z without bias. The weights of k moves spread by about k e^6 per coordinate, so the step has to be
    smaller than MALA's: ``target_acceptance`` is that of the decision that was not made. Where u grows faster than a square, big
    steps give weights without variance: still unbiased, but the few draws that make them so are never seen.
    A move to where u or its gradient is not finite is undone and gets weight 0.

    Source: Jarzynski's equality with a discrete kernel; Nilmeier et al., PNAS 108, E1009 (2011); Thin et al., arXiv 2103.10943.
    """

    step_size: Float[Array, ""] | float = eqx.field()
    masses: PyTree = 1.0

    @property
    def exact(self) -> bool:
        return False

    @property
    def proper(self) -> bool:
        return True

    @property
    def bias(self) -> str:
        return (
            "unadjusted Langevin is not Metropolis-adjusted: averages along chains carry an error of order step size "
            "squared; as a move of annealing or SMC its path weight removes it"
        )

    @property
    def target_acceptance(self) -> float:
        return 0.95

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> GradientState:
        require_floating(x, "UnadjustedLangevin")
        return evaluate(x, u)

    def restart(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> GradientState:
        return state_under(state, u)

    def step(self, key: Key[Array, ""], state: GradientState, u: LogDensity) -> tuple[GradientState, KernelInfo]:
        proposed, log_ratio = langevin_move(key, state, self.step_size, self.masses, u)
        finite = usable(proposed)
        log_ratio = log_ratio.astype(jnp.result_type(float))
        # A start of no density has weight zero already; its ratio would be +inf and undo that.
        log_weight = jnp.where(finite & jnp.isfinite(state.reduced_energy), log_ratio, -jnp.inf)
        acceptance = jnp.exp(jnp.minimum(log_weight, 0.0)).astype(scalar_dtype(state.position))
        new = choose(finite, proposed, state)
        return new, KernelInfo(acceptance, finite, finite, jnp.asarray(1, jnp.int32), log_weight)
