"""The optimiser as numbers rather than closures, so that two fits with equal shapes share one compiled program."""

import equinox as eqx
import optax

from heatbath.training.schedules import Constant, Schedule


class AdamW(eqx.Module):
    """Adam with decoupled weight decay after clipping the gradient to a global norm.

    m <- b1 m + (1-b1) g, v <- b2 v + (1-b2) g^2, x <- x - rate (m^/(sqrt(v^) + 1e-8) + decay x). ``clip`` None: no clipping.
    Sources: arXiv 1412.6980, 1711.05101.
    """

    schedule: Schedule = eqx.field(default_factory=lambda: Constant(1e-3))
    first: float = 0.9
    second: float = 0.999
    decay: float = 0.0
    clip: float | None = 1.0

    def transformation(self) -> optax.GradientTransformation:
        """The optax transformation, to be built where it is used."""
        adam = optax.adamw(self.schedule, b1=self.first, b2=self.second, weight_decay=self.decay)
        return adam if self.clip is None else optax.chain(optax.clip_by_global_norm(self.clip), adam)
