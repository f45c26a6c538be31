"""Auxiliary variables with a known density: momenta, directions, noise. They are added to a target and projected out again.

The extended density exp(-u(x)) p(y) over {"x": x, "y": y} has exp(-u) as its marginal, whatever the normalised law p of y. So
draws that are properly weighted for it are properly weighted for exp(-u) when y is forgotten, with the same weights.
"""

import dataclasses

from jaxtyping import Array, Key, PyTree, Scalar

from heatbath.ensemble import Ensemble
from heatbath.models.base import Distribution
from heatbath.models.steerable_flow import Steerable
from heatbath.samplers.proposals import Proposal
from heatbath.spaces import Euclidean, Product
from heatbath.state import LogDensity
from heatbath.targets.base import Target


class AugmentedEnergy(LogDensity):
    """u(x) - log p(y) for {"x": x, "y": y}: the extended density exp(-u(x)) p(y), whose integral over y is exp(-u(x))."""

    u: LogDensity
    auxiliary: Distribution

    def __call__(self, x: PyTree) -> Scalar:
        return self.u(x["x"]) - self.auxiliary.log_prob(x["y"])

    @property
    def beta(self):
        return self.u.beta


class Projected(Proposal):
    """A proposal over {"x", "y"} as one over x: it draws for the extended density and forgets y.

    log w = the inner log weight for u(x) - log p(y); proper for exp(-u) because p is normalised.
    """

    proposal: Proposal
    auxiliary: Distribution

    def draw(self, key: Key[Array, ""], u: LogDensity) -> tuple[PyTree, Scalar]:
        extended, log_weight = self.proposal.draw(key, AugmentedEnergy(u, self.auxiliary))
        return extended["x"], log_weight


class FromSteerable(Proposal):
    """A steerable model as a proposal at whatever temperature u has, its momenta projected out.

    log w = -u(x) + log N(y; 0, tau I) - log p^tau(x, y), with tau given by ``u.beta``. Proper for every u; the better the
    model, the more equal the weights.
    """

    distribution: Steerable

    def draw(self, key: Key[Array, ""], u: LogDensity) -> tuple[PyTree, Scalar]:
        model = self.distribution.at(u.beta)
        value, log_prob = model.sample_and_log_prob(key)
        if model.momenta is None:
            return value, -u(value) - log_prob
        return value["x"], model.momenta.log_prob(value["y"]) - u(value["x"]) - log_prob


class MomentumTarget(Target):
    """U(x) + |y|^2 / (2 beta_0) over {"x", "y"}: at every beta the momenta have the law N(0, (beta_0 / beta) I).

    Extends ``target`` by ``count`` momenta as a steerable model of reference temperature ``reference_beta`` has them.
    """

    target: Target
    count: int
    reference_beta: float

    @property
    def space(self) -> Product:  # pyright: ignore
        return Product({"x": self.target.space, "y": Euclidean((self.count,))})

    @property
    def unit(self) -> str:
        return self.target.unit

    def energy(self, x: PyTree) -> Scalar:
        return self.target.energy(x["x"]) + 0.5 * (x["y"] ** 2).sum() / self.reference_beta


def projected(ensemble: Ensemble) -> Ensemble:
    """An ensemble over {"x", "y"} with y forgotten; weights stay. ``energies`` are dropped, as they hold those of y."""
    return dataclasses.replace(ensemble, samples=ensemble.samples["x"], energies=None)
