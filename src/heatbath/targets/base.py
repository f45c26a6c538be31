"""What is sampled: the ``Target`` contract, and the observables by which people look at a target."""

import abc
import dataclasses
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import UnknownTruthError
from heatbath.spaces import Space


@dataclasses.dataclass(frozen=True)
class Observable:
    """A function of one configuration with what a figure needs to know about it.

    ``function(x) -> scalar``; ``period`` is the length of its circle (2 pi for torsions) or ``None``; ``unit`` such as
    ``"rad"``, ``"nm"`` or ``"1"``; ``label`` is what an axis says; ``range`` fixes a histogram's edges where that makes sense.
    """

    function: Callable[[PyTree], Scalar]
    label: str
    unit: str = "1"
    period: float | None = None
    range: tuple[float, float] | None = None


class Target(eqx.Module):
    """An energy function on a space. One temperature-free object: beta belongs to ``ThermoState``.

    Subclasses declare ``space`` and ``energy``; ``unit`` is the unit of the energy (``"1"`` for reduced targets,
    ``"kJ/mol"`` for molecules). Exact truths are optional methods: override ``log_z``, ``sample`` or ``mean`` where a truth
    is known, and tests of every sampler will use it. ``knows(name)`` says which are declared.
    """

    space: eqx.AbstractVar[Space]

    @property
    def unit(self) -> str:
        """Unit of ``energy``."""
        return "1"

    @abc.abstractmethod
    def energy(self, x: PyTree) -> Scalar:
        """U(x) of one configuration, in ``unit``."""

    def initial(self, key: Key[Array, ""]) -> PyTree:
        """A configuration to start a chain from."""
        return self.space.random(key)

    @property
    def masses(self) -> Array | float:
        """Masses for dynamics, broadcastable against x (atomic mass units for molecules)."""
        return 1.0

    def observables(self) -> Mapping[str, Observable]:
        """Named functions worth a histogram or a free-energy surface."""
        return {}

    def basins(self) -> Mapping[str, Callable[[PyTree], Array]]:
        """Named regions, as functions x -> bool, whose populations people ask for."""
        return {}

    # Declared truths ------------------------------------------------------------------------------------------------
    def log_z(self, beta: float) -> float:
        """log of the integral (or sum) of exp(-beta U)."""
        raise UnknownTruthError(f"{type(self).__name__} does not declare its log Z; ask target.knows('log_z') first")

    def sample(self, key: Key[Array, ""], beta: float) -> PyTree:
        """One exact draw from exp(-beta U) / Z."""
        raise UnknownTruthError(f"{type(self).__name__} has no exact sampler; ask target.knows('sample') first")

    def mean(self, observable: Callable[[PyTree], Scalar], beta: float) -> Float[Array, ""] | float:
        """The exact mean of ``observable(x)``, by quadrature or enumeration."""
        raise UnknownTruthError(f"{type(self).__name__} declares no exact means; ask target.knows('mean') first")

    def knows(self, truth: str) -> bool:
        """Whether the truth called ``"log_z"``, ``"sample"`` or ``"mean"`` is declared."""
        return getattr(type(self), truth) is not getattr(Target, truth)

    def force(self, x: PyTree) -> PyTree:
        """-grad U(x)."""
        return jax.tree.map(lambda g: -g, jax.grad(self.energy)(x))
