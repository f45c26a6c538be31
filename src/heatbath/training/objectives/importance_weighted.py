"""Training on the model's own weighted draws: the forward divergences without data."""

import equinox as eqx
import jax
import jax.numpy as jnp

from heatbath.errors import InvalidArgumentError
from heatbath.state import LogDensity
from heatbath.training.objectives.base import Objective
from heatbath.training.validation import efficiency


class ImportanceWeighted(Objective):
    """loss = - sum_i v_i log q(x_i), v = softmax(power log w), x_i ~ q held fixed, log w = -u - log q.

    Its gradient is that of KL(p | q) for ``power`` 1 and of log E_q[w^2], the log of the second moment, for ``power`` 2: the
    quantity whose minimum makes Kish's efficiency largest. Self-normalised weights of a batch are biased like 1/n, so
    ``draws`` should be thousands. It refines a model that covers the target; modes that q never draws stay unknown.
    Sources: arXiv 1808.03856 (the gradients), 2208.01893 (power 2, there with annealed draws).
    """

    u: LogDensity
    power: float = eqx.field(static=True, default=1.0)
    draws: int = eqx.field(static=True, default=4096)

    def __check_init__(self):
        if self.power <= 0 or self.draws < 2:
            raise InvalidArgumentError(
                f"power must be positive and draws at least 2; found power {self.power}, draws {self.draws}"
            )

    def __call__(self, key, model, batch):
        fixed = jax.lax.stop_gradient(eqx.filter(model, eqx.is_array))
        drawing = eqx.combine(fixed, eqx.filter(model, eqx.is_array, inverse=True))

        def one(key):
            x, log_prob = drawing.sample_and_log_prob(key)
            return x, -self.u(x) - log_prob

        xs, log_weights = jax.vmap(one)(jax.random.split(key, self.draws))
        xs, log_weights = jax.lax.stop_gradient((xs, log_weights))
        usable = jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)
        shares = jax.nn.softmax(self.power * usable)
        log_probs = jax.vmap(model.log_prob)(xs)
        # a draw of weight zero may have a log probability that is not finite
        loss = -jnp.sum(jnp.where(shares > 0, shares * log_probs, 0.0))
        return loss, {"efficiency": efficiency(log_weights)}

    def evaluations(self, batch_size: int) -> int:
        return self.draws
