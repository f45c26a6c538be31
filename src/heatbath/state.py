"""Thermodynamic states: what a run holds fixed, and the reduced energy u = beta U + bias that follows from it."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Scalar

from heatbath.errors import InvalidArgumentError, TemperatureError
from heatbath.units import beta_from_temperature, temperature_from_beta


class ThermoState(eqx.Module):
    """Inverse temperature, and optionally a bias.

    ``beta`` is in the inverse unit of the target's energy; ``bias(x)`` is a reduced (dimensionless) bias energy added to
    beta U(x). A ladder is a state whose arrays carry a leading axis (``ThermoState.stack``). Raises ``TemperatureError``
    when beta is negative or not finite.
    """

    beta: Float[Array, "..."]
    bias: Callable[[PyTree], Scalar] | None = None

    def __init__(self, beta: Any, bias: Callable[[PyTree], Scalar] | None = None):
        if not isinstance(beta, jax.Array):
            values = np.asarray(beta, dtype=float)
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise TemperatureError(f"beta must be finite and not negative; found {beta!r}")
        self.beta = jnp.asarray(beta, dtype=float)
        self.bias = bias

    @staticmethod
    def stack(states: Sequence["ThermoState"]) -> "ThermoState":
        """The ladder made of ``states``, which must carry the same kind of bias."""
        return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *states)

    def __getitem__(self, index) -> "ThermoState":
        """Rung ``index`` of a ladder."""
        return jax.tree.map(lambda leaf: leaf[index], self)

    def temperature(self, unit: str) -> float:
        """Kelvin when ``unit`` is an energy unit, kT when it is ``"1"``."""
        return temperature_from_beta(float(self.beta), unit)


def at_temperature(target, temperature: str | int | float) -> ThermoState:
    """The state of ``target`` at a temperature: ``"300 K"`` for molecules, kT as a number for reduced targets."""
    return ThermoState(beta_from_temperature(temperature, target.unit))


class LogDensity(eqx.Module):
    """What kernels and proposals see: a function u with the unnormalised density exp(-u).

    ``beta`` relates the reduced energy to physical time and is used by dynamics only (1 for reduced targets).
    """

    @abc.abstractmethod
    def __call__(self, x: PyTree) -> Scalar:
        """u(x) of one configuration."""

    @property
    @abc.abstractmethod
    def beta(self) -> Array | float:
        """Inverse temperature that turns masses into reduced masses."""

    # Parts: what a sibling density (the same path at another level) can be put together from without evaluating again ---
    def value_and_parts(self, x: PyTree) -> tuple[Scalar, PyTree]:
        """u(x) and its parts; None where there are none."""
        return self(x), None

    def gradient_and_parts(self, x: PyTree) -> tuple[Scalar, PyTree, PyTree]:
        """u(x), grad u(x) and the parts of both; None where there are none."""
        value, gradient = jax.value_and_grad(self)(x)
        return value, gradient, None

    def from_parts(self, parts: PyTree) -> tuple[Scalar, PyTree]:
        """u and grad u (None where the parts hold no gradients) from the parts that a sibling found at the same x."""
        raise InvalidArgumentError(f"{type(self).__name__} is not put together from parts; evaluate it again")


class ReducedEnergy(LogDensity):
    """u(x) = beta U(x) + bias(x): the ``u`` of every contract."""

    target: Any
    state: ThermoState

    def __call__(self, x):
        energy = self.target.energy(x)
        u = self.state.beta.astype(energy.dtype) * energy
        return u if self.state.bias is None else u + self.state.bias(x)

    @property
    def beta(self):
        return self.state.beta


def reduced_energies(target, samples: PyTree, ladder: ThermoState) -> Float[Array, "state sample"]:
    """The matrix u_kn of every configuration (leading axis n) in every state (leading axis k) of a ladder."""

    def of_one(x):
        energy = target.energy(x)
        if ladder.bias is None:
            return ladder.beta * energy
        return jax.vmap(lambda state: state.beta * energy + state.bias(x))(ladder)

    return jax.lax.map(of_one, samples, batch_size=256).T
