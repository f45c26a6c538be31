"""Markov moves that leave exp(-u) invariant: the ``Kernel`` contract."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, Key, PyTree, Scalar

from heatbath.state import LogDensity


class KernelInfo(NamedTuple):
    """What one step did; may be dropped. All scalars.

    acceptance:   probability with which the move was (or would have been) accepted, in [0, 1].
    accepted:     whether it was.
    finite:       False when the proposed energy was not finite (such a move is rejected and counted).
    evaluations:  energy (and gradient) evaluations used; ``init`` uses one more.
    log_weight:   log of the weight that the move has to carry to be proper; 0 for exact kernels (see ``Kernel.proper``).
    """

    acceptance: Scalar
    accepted: Scalar
    finite: Scalar
    evaluations: Scalar
    log_weight: Scalar | float = 0.0


class Kernel(eqx.Module):
    """A transition that leaves exp(-u) invariant.

    ``init(key, x, u) -> state`` prepares what must be carried (position, cached energy and gradient, momenta);
    ``step(key, state, u) -> (state, info)`` moves once. Every state has the fields ``position`` and ``reduced_energy``.
    Where the target law is met only up to a step-size error, ``exact`` is False and ``bias`` says why.
    After an exchange of temperatures, call ``init`` again with the new u.

    ``step_size`` is the parameter that warm-up adapts; kernels that have one declare it as a field
    (``step_size: ... = eqx.field()``, so that it does not inherit the None), the others leave it None.
    """

    step_size: ClassVar[Any] = None

    @property
    def exact(self) -> bool:
        """Whether exp(-u) is exactly invariant."""
        return True

    @property
    def proper(self) -> bool:
        """Whether moves that carry ``info.log_weight`` are properly weighted for exp(-u).

        For x from exp(-u), E[exp(log_weight) f(x')] is then proportional to the integral of exp(-u) f, which is all that path
        samplers (annealing, SMC) need. Exact kernels are proper with log_weight 0.
        """
        return self.exact

    @property
    def bias(self) -> str | None:
        """For inexact kernels, one sentence on what is biased and how the bias shrinks."""
        return None

    @property
    def evaluations(self) -> int:
        """Energy evaluations of one step, for estimates of cost (the most, where it varies)."""
        return 1

    @property
    def target_acceptance(self) -> float | None:
        """The mean acceptance to which warm-up brings ``step_size``; None when the step is not to be adapted."""
        return None

    def with_step_size(self, step_size: Array | float) -> "Kernel":
        """The same kernel with another step size (itself, when it has none)."""
        return self if self.step_size is None else dataclasses.replace(self, step_size=step_size)

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> PyTree:
        """The state of a chain at ``x``."""

    def restart(self, key: Key[Array, ""], state: PyTree, u: LogDensity) -> PyTree:
        """The state at the same position under another ``u``; cheaper than ``init`` where the state holds the parts of u."""
        return self.init(key, state.position, u)

    @abc.abstractmethod
    def step(self, key: Key[Array, ""], state: PyTree, u: LogDensity) -> tuple[PyTree, KernelInfo]:
        """One move."""
