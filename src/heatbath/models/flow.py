"""A normalizing flow: a base distribution pushed through a bijection."""

import jax
from jaxtyping import Array, Key, PyTree, Scalar

from heatbath.models.base import Distribution
from heatbath.models.bijections import Bijection


class Flow(Distribution):
    """x = f(z) with z ~ base; log q(x) = log q0(f^-1(x)) + log|det df^-1/dx|.

    Source: change of variables; Rezende & Mohamed, arXiv 1505.05770.
    """

    base: Distribution
    bijection: Bijection

    def sample(self, key: Key[Array, ""]) -> PyTree:
        return self.bijection.forward(self.base.sample(key))[0]

    def log_prob(self, x: PyTree) -> Scalar:
        z, log_det = self.bijection.inverse(x)
        return self.base.log_prob(z) + log_det

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[PyTree, Scalar]:
        z = self.base.sample(key)
        x, log_det = self.bijection.forward(z)
        return x, jax.numpy.asarray(self.base.log_prob(z) - log_det)
