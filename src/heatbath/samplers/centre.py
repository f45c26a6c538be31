"""Where a molecule sits in space: the normalised harmonic term that holds its centre, and forgetting it afterwards.

An energy that depends on differences of positions only has no integral over R^(3n). Generators of molecules are normalised
there all the same, because they place the centre C (the unweighted mean of the atoms) by a normal law. The target gets the
matching term as a bias, so that weights, bridges and log Z are proper and the generator's density is used as it is.
Dividing that density by the chi law of |C| instead (arXiv 2502.18462, Proposition 1) is valid, but costs 40 % of the effective
sample size.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError
from heatbath.samplers.records import centred
from heatbath.state import ThermoState


class HarmonicCentre(eqx.Module):
    """The reduced energy |C|^2 / (2 sigma^2) + (d/2) log(2 pi sigma^2) of the centre C = mean of x, for x (n, d).

    It is minus the log density of N(0, sigma^2 I_d), in the unit of x to the power -d. For a translation-invariant u the
    extended partition function Z_ext = integral of exp(-u) N(C; 0, sigma^2) dx does not depend on sigma: it is Z per unit volume
    of the centre. Raises ``InvalidArgumentError`` for a sigma that is not positive.
    """

    sigma: Float[Array, "..."] | float

    def __check_init__(self):
        if isinstance(self.sigma, jax.core.Tracer):
            return
        if not (np.isfinite(np.asarray(self.sigma)).all() and (np.asarray(self.sigma) > 0).all()):
            raise InvalidArgumentError(f"sigma of the centre must be positive and finite; found {self.sigma}")

    def __call__(self, x: Float[Array, "n d"]) -> Scalar:
        sigma = jnp.asarray(self.sigma, x.dtype)
        centre = jnp.mean(x, axis=0)
        normalisation = x.shape[1] * (jnp.log(sigma) + 0.5 * math.log(2 * math.pi))
        return 0.5 * jnp.sum((centre / sigma) ** 2) + normalisation


def held_at_centre(state: ThermoState, sigma: float) -> ThermoState:
    """``state`` with its centre held by ``HarmonicCentre(sigma)``. Raises ``InvalidArgumentError`` when it has a bias already."""
    if state.bias is not None:
        raise InvalidArgumentError(
            f"the state already has the bias {type(state.bias).__name__}; give one without a bias"
        )
    return ThermoState(state.beta, HarmonicCentre(sigma))


def forget_centre(ensemble: Ensemble) -> Ensemble:
    """The same draws with their centres at the origin, and without the bias that held them there.

    Exact when u is translation invariant: then centre and shape are independent, and dropping the one leaves the law of the
    other. Weights are unchanged; absolute ones still mean Z per unit volume of the centre.
    Raises ``InvalidArgumentError`` when the state's bias is not a ``HarmonicCentre``.
    """
    if not isinstance(ensemble.state.bias, HarmonicCentre):
        raise InvalidArgumentError(
            "only a HarmonicCentre can be forgotten; found the bias "
            f"{type(ensemble.state.bias).__name__}. Use reweight to leave another one"
        )
    positions = ensemble.samples
    place = centred
    for _ in ensemble.axes:
        place = jax.vmap(place)
    return dataclasses.replace(ensemble, samples=place(jnp.asarray(positions)), state=ThermoState(ensemble.state.beta))
