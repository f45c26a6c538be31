"""log|det Dg| of a continuous flow's map g from data to noise: exact, or estimated at the price of a few Jacobian products.

What matters is the WEIGHT, which needs 1/|det Dg|. An unbiased estimate of log|det Dg| gives a biased weight once it is
exponentiated (Hutchinson); flow perturbation estimates 1/|det Dg| itself. For n uniform on the sphere of a D-dimensional space

    E |A n|^-D = 1/|det A|        (the angular central Gaussian law is normalised),

so that log_det = D log|Dg n| has E exp(-log_det) = 1/|det Dg|. One direction over the whole map is the single shot; one
independent direction per step of the discrete map has the variance of its logarithm divided by the number of steps. All
derivatives are Jacobian-vector products, never finite differences.
Sources: arXiv 2407.10666 (flow perturbation), arXiv 2601.21177 (several steps), arXiv 1810.01367 (Hutchinson).
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar, UInt32

from heatbath.errors import InvalidArgumentError
from heatbath.models.continuous_flow import ContinuousFlow

#: What a LogJacobian's randomness is made of: key data, one row per independent block. Directions are drawn from it again
#: whenever they are needed, so that K directions of D numbers need not be kept.
Seeds = UInt32[Array, "block word"]


class LogJacobian(eqx.Module):
    """A way to get log|det Dg(x)|.

    ``blocks(flow)`` is the number of independent random blocks it uses, ``evaluate(seeds, flow, x) -> (z, log_det)`` the value at
    given randomness, ``estimate(key, flow, x)`` the same with fresh randomness. z = g(x), and log_det includes the flow's outer
    bijection, so that log q(x) = log q0(z) + log_det. ``unbiased_weight`` says whether E exp(-log_det) = 1/|det Dg|;
    where it is not, ``bias`` says in a sentence what is biased.
    """

    @property
    def unbiased_weight(self) -> bool:
        """Whether weights made with it are proper."""
        return True

    @property
    def bias(self) -> str | None:
        """One sentence when weights are biased, else None."""
        return None

    @abc.abstractmethod
    def blocks(self, flow: ContinuousFlow) -> int: ...

    @abc.abstractmethod
    def products(self, flow: ContinuousFlow) -> int:
        """Jacobian-vector products through every step of the flow: what a weight costs beyond the draw."""

    @abc.abstractmethod
    def evaluate(
        self, seeds: Seeds, flow: ContinuousFlow, x: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], Scalar]: ...

    def seeds(self, key: Key[Array, ""], flow: ContinuousFlow) -> Seeds:
        """Fresh randomness: independent key data for every block."""
        return jax.random.key_data(jax.random.split(key, self.blocks(flow)))

    def estimate(
        self, key: Key[Array, ""], flow: ContinuousFlow, x: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], Scalar]:
        """z = g(x) and log|det Dg(x)| or its estimate."""
        return self.evaluate(self.seeds(key, flow), flow, x)


class ExactJacobian(LogJacobian):
    """D Jacobian products through all steps and one determinant."""

    def blocks(self, flow):
        return 1

    def products(self, flow):
        return flow.subspace.dimension

    def evaluate(self, seeds, flow, x):
        return flow.to_base_with_log_det(x)


class FlowPerturbation(LogJacobian):
    """One direction through the whole map: log_det = D log|Dg n|, Var ~ 2 D s^2 for log singular values of spread s.

    With several ``probes`` the mean of |Dg n|^-D over independent directions takes its place.
    Raises ``InvalidArgumentError`` for directions that are not isotropic: the identity does not hold for them.
    """

    probes: int = eqx.field(static=True, default=1)
    directions: str = eqx.field(static=True, default="sphere")

    def __check_init__(self):
        _require_isotropic(self.directions)
        _require_probes(self.probes)

    def blocks(self, flow):
        return 1

    def products(self, flow):
        return self.probes

    def evaluate(self, seeds, flow, x):
        y, outer = flow.outer.inverse(x)
        z, log_det = _stretch(seeds[0], flow, flow.inner_inverse, y, self.probes, self.dimension(flow))
        return z, log_det + outer

    def dimension(self, flow: ContinuousFlow) -> int:
        """The exponent D: the dimension of the subspace in which the flow moves."""
        return flow.subspace.dimension


class MultiStepFlowPerturbation(FlowPerturbation):
    """One direction per step of the discrete map: log_det = sum_k D log|Dg_k n_k|, Var ~ 2 D s^2 / (K probes).

    Unbiased because the n_k are independent of each other and of the path, which is deterministic given x.
    """

    def blocks(self, flow):
        return flow.steps

    def evaluate(self, seeds, flow, x):
        y, outer = flow.outer.inverse(x)

        def one(y, inputs):
            seed, t, h = inputs
            return _stretch(seed, flow, lambda y: flow.step(y, t, h), y, self.probes, self.dimension(flow))

        z, log_dets = jax.lax.scan(one, y, (seeds, *flow.inverse_steps(y.dtype)))
        return z, jnp.sum(log_dets) + outer


class Hutchinson(LogJacobian):
    """Unbiased for log|det Dg|, so biased for the weight, by about exp(Var/2).

    Every step is g_k = identity + M_k up to second order and beyond: log|det(I + M)| = tr(M - M^2/2 + M^3/3 - ...), each trace
    estimated as eps.(M - ...) eps with ``probes`` vectors of independent +-1 ("rademacher") or normal components, and the
    series cut after ``order`` terms (the rest is of order |M|^(order + 1), M being as small as the step).
    """

    probes: int = eqx.field(static=True, default=1)
    distribution: str = eqx.field(static=True, default="rademacher")
    order: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        if self.distribution not in ("rademacher", "normal"):
            raise InvalidArgumentError(f"distribution must be 'rademacher' or 'normal'; found {self.distribution!r}")
        _require_probes(self.probes)
        if self.order < 1:
            raise InvalidArgumentError(f"order must be at least 1; found {self.order}")

    @property
    def unbiased_weight(self):
        return False

    @property
    def bias(self):
        return (
            f"log densities are Hutchinson estimates with {self.probes} {self.distribution} probe(s): unbiased for the log "
            "density, so that weights are too large on average by about exp(variance/2), more where the flow is steeper"
        )

    def blocks(self, flow):
        return flow.steps

    def products(self, flow):
        return self.probes * self.order

    def evaluate(self, seeds, flow, x):
        y, outer = flow.outer.inverse(x)

        def one(y, inputs):
            seed, t, h = inputs
            return self._trace(seed, flow, lambda y: flow.step(y, t, h), y)

        z, log_dets = jax.lax.scan(one, y, (seeds, *flow.inverse_steps(y.dtype)))
        return z, jnp.sum(log_dets) + outer

    def _trace(self, seed, flow, step, y):
        z, push = jax.linearize(step, y)

        def probe(key):
            draw = jax.random.rademacher if self.distribution == "rademacher" else jax.random.normal
            noise = flow.subspace.project(draw(key, y.shape, y.dtype))
            power, total = noise, jnp.zeros((), jnp.result_type(float))
            for term in range(1, self.order + 1):
                power = push(power) - power
                total = total - (-1) ** term / term * jnp.sum((noise * power).astype(total.dtype))
            return total

        keys = jax.random.split(jax.random.wrap_key_data(seed), self.probes)
        return z, jnp.mean(jax.vmap(probe)(keys))


def _stretch(seed, flow, function, y, probes, dimension):
    """function(y) and -log of the mean over directions n of |D function n|^-dimension."""

    def log_stretch(key):
        z, moved = jax.jvp(function, (y,), (flow.subspace.direction(key, y.dtype),))
        return z, 0.5 * dimension * jnp.log(jnp.sum(moved.astype(jnp.result_type(float)) ** 2))

    key = jax.random.wrap_key_data(seed)
    if probes == 1:  # without the extra hash of a split, which is seen where the field is cheap
        return log_stretch(key)
    keys = jax.random.split(key, probes)
    # the value does not depend on the direction: it is computed once for all of them
    z, values = jax.vmap(log_stretch, out_axes=(None, 0))(keys)
    return z, jnp.log(probes) - jax.nn.logsumexp(-values)


def _require_isotropic(directions: str) -> None:
    if directions not in ("sphere", "normal"):
        raise InvalidArgumentError(
            f"flow perturbation needs isotropic directions, 'sphere' (or 'normal', which is the same once normalised); found "
            f"{directions!r}. E|A n|^-D = 1/|det A| fails for others, so that weights would be biased"
        )


def _require_probes(probes: int) -> None:
    if probes < 1:
        raise InvalidArgumentError(f"probes must be at least 1; found {probes}")


def seeds_where(choice: PyTree, new: Seeds, old: Seeds) -> Seeds:
    """Blocks of ``new`` where ``choice`` (block,) is true, else of ``old``."""
    return jnp.where(choice[:, None], new, old)
