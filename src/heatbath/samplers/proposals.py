"""Proposals: one call gives a draw and a log weight that is proper for exp(-u)."""

import abc

import equinox as eqx
from jaxtyping import Array, Key, PyTree, Scalar

from heatbath.models.base import Distribution
from heatbath.state import LogDensity


class Proposal(eqx.Module):
    """The contract of every learned or path-based sampler: E[w f(x)] = integral of exp(-u(x)) f(x) dx for every f.

    Where that holds only approximately, ``bias`` says so in a sentence, which every ensemble made with the proposal carries.
    """

    @property
    def bias(self) -> str | None:
        """None for properly weighted draws; else one sentence on what is biased and how the bias shrinks."""
        return None

    @abc.abstractmethod
    def draw(self, key: Key[Array, ""], u: LogDensity) -> tuple[PyTree, Scalar]:
        """One configuration and its log weight."""


class FromDistribution(Proposal):
    """A distribution with a tractable density as a proposal: log w = -u(x) - log q(x)."""

    distribution: Distribution

    def draw(self, key, u):
        x, log_prob = self.distribution.sample_and_log_prob(key)
        return x, -u(x) - log_prob
