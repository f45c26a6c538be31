"""Is the model any good? Efficiency of its weights on fresh draws, and its likelihood of data it has not seen."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.state import LogDensity


class Validation(eqx.Module):
    """``validation(key, model) -> {name: scalar}``, computed now and then of the averaged weights, compiled once.

    ``names`` are the numbers it gives; ``evaluations`` the energy evaluations it costs.
    """

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]: ...

    @property
    def evaluations(self) -> int:
        return 0

    @abc.abstractmethod
    def __call__(self, key: Key[Array, ""], model: PyTree) -> dict[str, Scalar]: ...


class WeightsAndLikelihood(Validation):
    """Of draws of the model and of held-out data, with log w = -u(x) - log q(x):

    ``validation_ess``          (sum w)^2 / (n sum w^2) over ``draws`` draws x ~ q, the share of draws that count
    ``validation_loss``         - mean log q over held-out data
    ``validation_forward_ess``  1 / (E_p[w] E_p[1/w]) over held-out data: small when the model misses what the data hold

    Without ``u`` there is no efficiency, without ``held_out`` (n, ...) no likelihood. Draws whose weight is NaN or whose energy
    is not finite count as weight zero. ``chunk`` draws are made at once.
    """

    u: LogDensity | None = None
    held_out: PyTree = None
    draws: int = 1000
    chunk: int = 500

    @property
    def names(self) -> tuple[str, ...]:
        reverse = ("validation_ess",) if self.u is not None else ()
        likelihood = ("validation_loss",) if self.held_out is not None else ()
        forward = ("validation_forward_ess",) if self.u is not None and self.held_out is not None else ()
        return reverse + likelihood + forward

    @property
    def evaluations(self) -> int:
        if self.u is None:
            return 0
        held_out = 0 if self.held_out is None else len(jax.tree.leaves(self.held_out)[0])
        return self.draws + held_out

    def __call__(self, key, model):
        found = {}
        if self.u is not None:
            u = self.u

            def one(key):
                x, log_prob = model.sample_and_log_prob(key)
                return -u(x) - log_prob

            keys = jax.random.split(key, self.draws)
            found["validation_ess"] = efficiency(jax.lax.map(one, keys, batch_size=self.chunk))
        if self.held_out is not None:
            log_probs = jax.lax.map(model.log_prob, self.held_out, batch_size=self.chunk)
            found["validation_loss"] = -jnp.mean(log_probs)
            if self.u is not None:
                log_weights = -jax.lax.map(self.u, self.held_out, batch_size=self.chunk) - log_probs
                found["validation_forward_ess"] = forward_efficiency(log_weights)
        return found


def efficiency(log_weights: Float[Array, " n"]) -> Scalar:
    """Kish's (sum w)^2 / (n sum w^2) in (0, 1]; weights that are not finite count as zero."""
    usable = jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)
    both = 2 * jax.nn.logsumexp(usable) - jax.nn.logsumexp(2 * usable)
    return jnp.where(jnp.isfinite(usable).any(), jnp.exp(both) / log_weights.size, 0.0)


def forward_efficiency(log_weights: Float[Array, " n"]) -> Scalar:
    """1 / (E_p[w] E_p[1/w]) with w of draws of the target: the efficiency that also sees modes which the model lacks."""
    count = jnp.log(log_weights.size)
    return jnp.exp(2 * count - jax.nn.logsumexp(log_weights) - jax.nn.logsumexp(-log_weights))
