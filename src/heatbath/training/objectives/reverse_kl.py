"""Training by energies alone: the reverse Kullback-Leibler divergence, at one or several temperatures."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target
from heatbath.training.objectives.base import Objective
from heatbath.training.validation import efficiency


class ReverseKL(Objective):
    """loss = mean_k E_{x ~ q_k}[log q_k(x) + u~_k(x)], the expectation over ``draws`` reparametrised draws per state.

    For one state it is KL(q | p) - log Z with u~ = u = beta U + bias. With several states q_k is ``model.at(beta_k)``, so the
    model must be steerable; its momenta, where it has some, are part of u.

    u~ = u up to ``high`` and high + log(1 + u - high) above: **for the loss only**, so that overlapping atoms pull the model
    without throwing it. Draws whose energy is not finite count ``high`` and have no gradient in u. No weight may use u~.
    It seeks modes: what the model never draws it never learns of. ``efficiency`` is Kish's, of the batch, by the true u.
    Raises ``InvalidArgumentError`` without a state.
    """

    target: Target
    states: tuple[ThermoState, ...]
    draws: int = 512
    high: float = 1000.0

    def __check_init__(self):
        if not self.states or self.draws < 1:
            raise InvalidArgumentError(
                f"expected at least one state and one draw; found {len(self.states)} states, {self.draws} draws"
            )

    def __call__(self, key, model, batch):
        steerable = hasattr(model, "at")
        if len(self.states) > 1 and not steerable:
            raise InvalidArgumentError(
                f"{len(self.states)} states need a model with at(beta); {type(model).__name__} knows one temperature only"
            )
        losses, efficiencies = [], []
        for index, state in enumerate(self.states):
            member = model.at(state.beta) if steerable else model
            loss, efficient = self._of_state(jax.random.fold_in(key, index), member, state)
            losses.append(loss)
            efficiencies.append(efficient)
        return jnp.mean(jnp.stack(losses)), {"efficiency": jnp.mean(jnp.stack(efficiencies))}

    def _of_state(self, key: Key[Array, ""], model: PyTree, state: ThermoState):
        def one(key):
            x, log_prob = model.sample_and_log_prob(key)
            return log_prob, extended(ReducedEnergy(self.target, state), model, x)

        log_probs, us = jax.vmap(one)(jax.random.split(key, self.draws))
        loss = jnp.mean(log_probs + compressed(us, self.high))
        return loss, efficiency(jax.lax.stop_gradient(-us - log_probs))

    def evaluations(self, batch_size: int) -> int:
        return self.draws * len(self.states)


def extended(u: ReducedEnergy, model: PyTree, x: PyTree) -> Scalar:
    """u of a draw of ``model``; of {"x", "y"} with momenta y it is u(x) - log N(y; 0, tau I)."""
    momenta = getattr(model, "momenta", None)
    return u(x) if momenta is None else u(x["x"]) - momenta.log_prob(x["y"])


def compressed(u: Float[Array, "*batch"], high: float) -> Float[Array, "*batch"]:
    """u where u <= high, high + log(1 + u - high) above, high where u is not finite. Once differentiable. For losses only."""
    finite = jnp.isfinite(u)
    usable = jnp.where(finite, u, high)
    above = jnp.maximum(usable - high, 0.0)
    return jnp.where(finite, jnp.minimum(usable, high) + jnp.log1p(above), high)
