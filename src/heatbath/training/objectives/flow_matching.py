"""Flow matching and v-prediction: regression of a velocity net on paths between noise and data. No simulation, no Jacobian."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from heatbath.models.continuous_flow import ContinuousFlow
from heatbath.training.objectives.base import Objective


class FlowMatching(Objective):
    """loss = mean over (x, z, t) of |v(y_t, t) - target|^2 / D, with (y_t, target) as the flow's interpolant says.

    z ~ q0, t uniform in [0, 1], y = outer^-1(x); for particles everything is projected into the mean-free subspace. The
    interpolant ``Straight`` makes this conditional flow matching (arXiv 2210.02747, equation 9), ``Diffusion`` the denoising
    objective of v-prediction (arXiv 2202.00512). The times of a batch are stratified, one in each of its equal parts of
    [0, 1], which keeps the mean and lowers its variance.
    """

    def __call__(
        self, key: Key[Array, ""], model: ContinuousFlow, batch: Float[Array, "batch *shape"]
    ) -> tuple[Scalar, dict[str, Scalar]]:
        count = batch.shape[0]
        key_noise, key_time, key_order = jax.random.split(key, 3)
        offsets = jax.random.uniform(key_time, (count,), jnp.float32)
        times = (jax.random.permutation(key_order, count) + offsets) / count
        losses = jax.vmap(lambda key, t, x: regression_error(key, model, t, x))(
            jax.random.split(key_noise, count), times, batch
        )
        return jnp.mean(losses), {}


def regression_error(
    key: Key[Array, ""], model: ContinuousFlow, t: Scalar, x: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """|v(y_t, t) - target|^2 / D for one configuration with fresh noise."""
    subspace = model.subspace
    y = subspace.project(model.outer.inverse(x)[0].astype(model.base.dtype))
    z = subspace.project(model.base.sample(key))
    place, target = model.interpolant.pair(z, y, t.astype(y.dtype))
    error = subspace.project(model.velocity(place, t.astype(y.dtype)) - target)
    return jnp.sum(error.astype(jnp.float32) ** 2) / subspace.dimension
