"""The optimiser as numbers rather than closures, so that two fits with equal shapes share one compiled program."""

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree

from heatbath.training.schedules import Constant, Schedule


class AdamW(eqx.Module):
    """Adam with decoupled weight decay after clipping the gradient to a global norm.

    m <- b1 m + (1-b1) g, v <- b2 v + (1-b2) g^2, x <- x - rate (m^/(sqrt(v^) + 1e-8) + decay x). ``clip`` None: no clipping.
    Arrays whose attribute is called one of ``spared`` (biases, say) are not pulled to zero. Sources: arXiv 1412.6980, 1711.05101.
    """

    schedule: Schedule = eqx.field(default_factory=lambda: Constant(1e-3))
    first: float = 0.9
    second: float = 0.999
    decay: float = 0.0
    clip: float | None = 1.0
    spared: tuple[str, ...] = eqx.field(static=True, default=())

    def transformation(self) -> optax.GradientTransformation:
        """The optax transformation, to be built where it is used."""
        adam = optax.adamw(
            self.schedule, b1=self.first, b2=self.second, weight_decay=self.decay, mask=lambda tree: self._pulled(tree)
        )
        return adam if self.clip is None else optax.chain(optax.clip_by_global_norm(self.clip), adam)

    def _pulled(self, params: PyTree) -> PyTree:
        """Which arrays decay: those none of whose names is spared."""

        def pulled(path, leaf):
            return not any(getattr(entry, "name", None) in self.spared for entry in path)

        return jax.tree_util.tree_map_with_path(pulled, params)
