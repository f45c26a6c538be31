"""Training a map between two temperatures by the work it leaves over."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.bijections import Bijection
from heatbath.targets.base import Target
from heatbath.training.objectives.base import Objective
from heatbath.training.objectives.reverse_kl import compressed
from heatbath.training.validation import efficiency


class GeneralisedWork(Objective):
    """loss = E_before[Phi(z)] + ``forward`` E_after[Phi'(x)] for a bijection f that carries exp(-before U) to exp(-after U):

        Phi(z)  = after U(f(z)) - before U(z) - log|det df/dz|            >= -ln Z_after / Z_before in the mean
        Phi'(x) = before U(f^-1(x)) - after U(x) - log|det df^-1/dx|

    The first term is the reverse Kullback-Leibler divergence up to a constant, the second the forward one; each is least for a
    perfect map. A batch is {"before": configurations at ``before``} and, with ``forward`` > 0, {"after": ...}. Energies enter
    the loss compressed above ``high`` (see ``reverse_kl.compressed``); weights must not use that. ``efficiency`` is Kish's, by
    the true Phi. Source: Jarzynski, Phys. Rev. E 65, 046122 (2002); both terms: Wirnsberger et al., J. Chem. Phys. 153, 144112
    (2020).
    """

    target: Target
    before: float
    after: float
    forward: float = 0.0
    high: float = 1000.0

    def __check_init__(self):
        if not (self.before > 0 and self.after > 0) or self.forward < 0:
            raise InvalidArgumentError(
                f"expected positive betas and a weight of 0 or more; found {self.before}, {self.after}, {self.forward}"
            )

    def __call__(self, key, model: Bijection, batch: Any):
        loss, works = self._term(model.forward, batch["before"], self.before, self.after)
        metrics: dict[str, Array] = {"efficiency": efficiency(jax.lax.stop_gradient(-works))}
        if self.forward > 0:
            reverse, _ = self._term(model.inverse, batch["after"], self.after, self.before)
            loss, metrics = loss + self.forward * reverse, {**metrics, "forward_work": reverse}
        return loss, metrics

    def _term(self, function, xs: Array, start: float, end: float) -> tuple[Scalar, Array]:
        """Mean compressed work of carrying ``xs``, and the true works."""
        images, log_dets = jax.vmap(function)(xs)
        ours, theirs = jax.vmap(self.target.energy)(xs), jax.vmap(self.target.energy)(images)
        works = end * theirs - start * ours - log_dets
        return jnp.mean(compressed(end * theirs, self.high) - start * ours - log_dets), works

    def evaluations(self, batch_size: int) -> int:
        return batch_size * (2 if self.forward == 0 else 4)
