"""The loss that trains one network for every order of the coordinates: guess what a random mask hides."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from heatbath.models.nade.orderless import OrderlessNADE
from heatbath.training.objectives.base import Objective


class MissingDimensions(Objective):
    """loss = mean over data of D/(D - d) sum over hidden i of -log p(x_i | the d coordinates that the mask shows).

    d is uniform in 0 .. D-1 (the empty mask belongs to it, the full one never) and the mask uniform among those with d ones, the
    start of a uniform order. The loss is then unbiased for the mean over all D! orders of -log p(x), at the cost of one
    pass. The d of a batch are stratified, one in each of its equal parts, which keeps the mean and lowers its variance.
    Source: arXiv 1605.02226, equation 27 (there d counts from one).
    """

    def __call__(
        self, key: Key[Array, ""], model: OrderlessNADE, batch: Array
    ) -> tuple[Scalar, dict[str, Scalar | Float[Array, ""]]]:
        masks = random_masks(key, *batch.shape)
        losses = jax.vmap(lambda x, mask: missing_dimension_loss(model, x, mask))(batch, masks)
        return jnp.mean(losses), {}


def random_masks(key: Key[Array, ""], count: int, dimension: int) -> Float[Array, "count d"]:
    """Masks of ones (seen) and zeros: the number of ones is uniform in 0 .. d-1, stratified, and their places uniform."""
    key_number, key_order, key_place = jax.random.split(key, 3)
    parts = (jax.random.permutation(key_order, count) + jax.random.uniform(key_number, (count,))) / count
    seen = jnp.minimum(jnp.floor(parts * dimension), dimension - 1)
    ranks = jnp.argsort(jnp.argsort(jax.random.uniform(key_place, (count, dimension)), axis=1), axis=1)
    return (ranks < seen[:, None]).astype(float)


def missing_dimension_loss(model: OrderlessNADE, x: Array, mask: Float[Array, " d"]) -> Scalar:
    """D/(D - d) sum over mask_i = 0 of -log p(x_i | x where mask = 1), for one datum and one mask of d < D ones."""
    dimension = mask.shape[0]
    hidden = jnp.where(mask > 0, 0.0, -model.missing_log_probs(x, mask))
    return jnp.sum(hidden) * dimension / (dimension - jnp.sum(mask))
