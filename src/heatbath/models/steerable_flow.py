"""Temperature-steerable distributions: one model, trained at one temperature, whose density is known at every other.

Boltzmann densities mu^tau ~ exp(-U / tau) obey mu^tau' ~ (mu^tau)^(tau / tau'). A model is temperature steerable when its own
densities do: p^tau'(x) ~ [p^tau(x)]^(tau / tau') up to a constant. Any base exp(-E / tau) / Z(tau) with a known Z has this
property, and a map whose Jacobian determinant is the same everywhere keeps it.
Source: Dibak, Klein, Kraemer & Noe, arXiv 2108.01590, equations 5-8.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import TemperatureError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Bijection
from heatbath.models.gaussian import Normal


class Thermostat(eqx.Module):
    """The inverse temperature a model is set to, and the one it was trained at; tau = reference_beta / beta is 1 there."""

    frozen: ClassVar[bool] = True

    reference_beta: Float[Array, ""]
    beta: Float[Array, ""]

    def __init__(self, reference_beta, beta=None):
        reference = jnp.asarray(reference_beta, dtype=float)
        beta = reference if beta is None else jnp.asarray(beta, dtype=float)
        for value in (reference, beta):
            if not isinstance(value, jax.core.Tracer) and not (
                np.isfinite(value).all() and (np.asarray(value) > 0).all()
            ):
                raise TemperatureError(f"a steerable model needs 0 < beta < infinity; found {value}")
        self.reference_beta, self.beta = reference, beta

    @property
    def tau(self) -> Scalar:
        """T / T_0: the temperature in units of the one of the training."""
        return jax.lax.stop_gradient(self.reference_beta / self.beta)

    def at(self, beta) -> "Thermostat":
        """The same clock at another inverse temperature. Raises ``TemperatureError`` unless 0 < beta < infinity."""
        return Thermostat(self.reference_beta, beta)


class Steerable(Distribution):
    """A family of distributions over temperature.

    ``at(beta)`` sets the inverse temperature (in the unit of ``reference_beta``, that of the training). ``auxiliaries`` counts
    the momenta y that were added to a configuration x: then draws are {"x": x, "y": y} and ``momenta`` is the law
    N(0, tau I) that y has under the extended target exp(-beta U(x)) N(y; 0, tau I). Where p^tau' is not exactly a power of
    p^tau, ``exact`` is False and ``bias`` says why; weights are proper all the same.
    """

    thermostat: eqx.AbstractVar[Thermostat]

    @abc.abstractmethod
    def at(self, beta) -> "Steerable":
        """The family member at inverse temperature ``beta``. Raises ``TemperatureError`` unless 0 < beta < infinity."""

    @abc.abstractmethod
    def carried(self, x: PyTree, beta) -> PyTree:
        """x moved from the temperature it is set to over to ``beta``.

        One factor of volume for every x: for a map between {"x", "y"} of D reals it is (tau' / tau)^(D/2).
        """

    @property
    def exact(self) -> bool:
        """Whether p^tau' is exactly proportional to a power of p^tau."""
        return True

    @property
    def bias(self) -> str | None:
        """For families that are not exactly steerable, one sentence on what breaks the law."""
        return None

    @property
    def tau(self) -> Scalar:
        """T / T_0."""
        return self.thermostat.tau

    @property
    def beta(self) -> Scalar:
        """The inverse temperature it is set to."""
        return self.thermostat.beta

    @property
    def auxiliaries(self) -> int:
        """Number of momenta; 0 when draws are configurations alone."""
        return 0

    @property
    def momenta(self) -> Distribution | None:
        """The law N(0, tau I) of the auxiliaries under the extended target; None without auxiliaries."""
        count = self.auxiliaries
        return None if count == 0 else Normal(jnp.zeros(count), jnp.sqrt(self.tau))  # pyright: ignore[reportArgumentType]

    def augment(self, key: Key[Array, ""], x: PyTree) -> PyTree:
        """A configuration with fresh momenta, as ``log_prob`` takes it; ``x`` itself without auxiliaries."""
        if self.momenta is None:
            return x
        y = self.momenta.sample(key)
        return {"x": x, "y": y.astype(jnp.result_type(*jax.tree.leaves(x)))}


class SteerableBase(Steerable):
    """Where steerable flows start: exp(-E(v) / tau) / Z(tau) on flat vectors v, ``linear`` reals followed by angles."""

    linear: eqx.AbstractVar[int]

    def carried(self, x: Float[Array, " d"], beta) -> Float[Array, " d"]:
        """x with its reals times sqrt(tau' / tau); angles stay."""
        factor = jnp.sqrt(self.thermostat.at(beta).tau / self.tau).astype(x.dtype)
        return jnp.concatenate([x[: self.linear] * factor, x[self.linear :]])

    def at(self, beta) -> "SteerableBase":
        return dataclasses.replace(self, thermostat=self.thermostat.at(beta))


class ThermalBase(SteerableBase):
    """N(0, tau) for ``linear`` reals and uniform angles on [-pi, pi) for ``circular`` ones; E(v) = |v_linear|^2 / 2."""

    frozen: ClassVar[bool] = True

    thermostat: Thermostat  # pyright: ignore
    linear: int = eqx.field(static=True)
    circular: int = eqx.field(static=True, default=0)

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        key_linear, key_circular = jax.random.split(key)
        reals = jnp.sqrt(self.tau) * jax.random.normal(key_linear, (self.linear,))
        angles = jax.random.uniform(key_circular, (self.circular,), minval=-jnp.pi, maxval=jnp.pi)
        return jnp.concatenate([reals, angles])

    def log_prob(self, v: Float[Array, " d"]) -> Scalar:
        return normal_log_prob(v[: self.linear], self.tau) - self.circular * math.log(2 * math.pi)


class SteerableFlow(Steerable):
    """x = f(v), v ~ base at tau, with a bijection f whose log|det df/dv| is one constant: exactly steerable.

    log p^tau(x) = -E(f^-1(x)) / tau - log Z(tau) - log|det df/dv|. ``bijection`` maps flat vectors to configurations, or to
    {"x", "y"} when there are ``momenta_count`` auxiliaries. A bijection with another Jacobian still gives a normalised density at
    every temperature, but not a steerable one: say so with ``broken``, a sentence.
    """

    base: SteerableBase
    bijection: Bijection
    momenta_count: int = eqx.field(static=True, default=0)
    broken: str | None = eqx.field(static=True, default=None)

    @property
    def thermostat(self) -> Thermostat:  # pyright: ignore
        return self.base.thermostat

    @property
    def exact(self) -> bool:
        return self.broken is None and self.base.exact

    @property
    def bias(self) -> str | None:
        return self.broken or self.base.bias

    @property
    def auxiliaries(self) -> int:
        return self.momenta_count

    def at(self, beta) -> "SteerableFlow":
        return eqx.tree_at(lambda model: model.base, self, self.base.at(beta))

    def sample(self, key: Key[Array, ""]) -> PyTree:
        return self.bijection.forward(self.base.sample(key))[0]

    def log_prob(self, x: PyTree) -> Scalar:
        v, log_det = self.bijection.inverse(x)
        return self.base.log_prob(v) + log_det

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[PyTree, Scalar]:
        v = self.base.sample(key)
        x, log_det = self.bijection.forward(v)
        return x, self.base.log_prob(v) - log_det

    def carried(self, x: PyTree, beta) -> PyTree:
        """f(sqrt(tau' / tau) f^-1(x)): a draw of this temperature becomes one of ``beta``, by a map of constant Jacobian."""
        v, _ = self.bijection.inverse(x)
        return self.bijection.forward(self.base.carried(v, beta))[0]


def normal_log_prob(z: Float[Array, " n"], tau: Scalar) -> Scalar:
    """log N(z; 0, tau I) for one vector, summed in the default precision."""
    tau = jnp.asarray(tau, dtype=float)
    square = jnp.sum(z.astype(jnp.result_type(float)) ** 2)
    return -square / (2 * tau) - 0.5 * z.shape[0] * jnp.log(2 * jnp.pi * tau)
