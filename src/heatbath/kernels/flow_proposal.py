"""Independence Metropolis: a learned distribution proposes, the target decides.

Such moves jump between modes that local moves cannot connect, and local moves mend what the model gets wrong: compose them
with ``Compose`` or ``MixtureKernel``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import decide
from heatbath.kernels.positions import choose, require_floating
from heatbath.models.base import Distribution
from heatbath.models.steerable_flow import Steerable
from heatbath.state import LogDensity


class FlowState(NamedTuple):
    """A configuration, u of it, and log q(x), or log q(x, y) - log p(y) at auxiliaries y drawn for it."""

    position: PyTree
    reduced_energy: Scalar
    log_prob: Scalar


class FlowProposal(Kernel):
    """x' ~ q, accepted with min(1, w(x') / w(x)), log w = -u(x) - log q(x): reversible for exp(-u), whatever q is.

    distribution:  q, normalised over configurations, or over {"x", "y"} with ``auxiliary`` the law p of y. A ``Steerable`` one is
                   set to the temperature ``u.beta`` and brings the law of its own momenta.
    auxiliary:     the law of y, else None. y is drawn anew at every step (a Gibbs move on exp(-u(x)) p(y)), so that a chain of x
                   alone is reversible; it costs one more evaluation of q, none of the energy.

    A proposal whose energy or density is not finite is rejected and counted. Where q(x) vanishes, x is never left by this move:
    give it company.
    Source: Hastings, Biometrika 57, 97 (1970); flows: Noe et al., arXiv 1812.01729; Gabrie et al., arXiv 2105.12603.
    """

    distribution: Distribution
    auxiliary: Distribution | None = None

    def __check_init__(self):
        if self.auxiliary is not None and isinstance(self.distribution, Steerable):
            raise InvalidArgumentError("a steerable distribution brings the law of its momenta; leave auxiliary out")

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> FlowState:
        require_floating(x, "FlowProposal")
        model, auxiliary = self._at(u)
        return FlowState(x, u(x), _log_prob(key, model, auxiliary, x))

    def step(self, key: Key[Array, ""], state: FlowState, u: LogDensity) -> tuple[FlowState, KernelInfo]:
        key_refresh, key_draw, key_accept = jax.random.split(key, 3)
        model, auxiliary = self._at(u)
        if auxiliary is not None:
            state = state._replace(log_prob=_log_prob(key_refresh, model, auxiliary, state.position))
        drawn, log_prob = model.sample_and_log_prob(key_draw)
        if auxiliary is not None:
            log_prob = log_prob - auxiliary.log_prob(drawn["y"])
            drawn = drawn["x"]
        position = jax.tree.map(lambda new, old: new.astype(old.dtype), drawn, state.position)
        proposed = FlowState(position, u(position), jnp.asarray(log_prob, state.log_prob.dtype))
        finite = jnp.isfinite(proposed.reduced_energy) & jnp.isfinite(proposed.log_prob)
        log_ratio = state.reduced_energy - proposed.reduced_energy + state.log_prob - proposed.log_prob
        log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)
        accepted, probability = decide(key_accept, log_ratio, finite, state.reduced_energy)
        return choose(accepted, proposed, state), KernelInfo(probability, accepted, finite, jnp.asarray(1, jnp.int32))

    def _at(self, u: LogDensity) -> tuple[Distribution, Distribution | None]:
        if isinstance(self.distribution, Steerable):
            model = self.distribution.at(u.beta)
            return model, model.momenta
        return self.distribution, self.auxiliary


def _log_prob(key: Array, model: Distribution, auxiliary: Distribution | None, x: PyTree) -> Scalar:
    if auxiliary is None:
        return jnp.asarray(model.log_prob(x), dtype=float)
    y = auxiliary.sample(key)
    return jnp.asarray(model.log_prob({"x": x, "y": y}) - auxiliary.log_prob(y), dtype=float)
