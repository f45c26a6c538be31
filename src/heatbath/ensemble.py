"""The common currency: a set of draws that is properly weighted for a thermodynamic state.

Samplers return nothing else and estimators take nothing else. Weights stay with the draws until someone resamples on
purpose. Statistics are done on the host in float64, whatever the precision of the draws.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from heatbath.errors import HeatbathError, InvalidArgumentError, NonFiniteError
from heatbath.estimate import Estimate
from heatbath.state import ThermoState


class Ensemble(eqx.Module):
    """Draws (x, log w) with E[w f(x)] proportional to the integral of exp(-u) f.

    samples:      configurations; every array leaf begins with the axes named in ``axes``.
    log_weights:  shape of those axes. ``absolute`` weights satisfy E[w] = Z, so that their mean estimates Z; relative ones
                  (Markov chains, MBAR) are known up to a constant.
    state:        the ThermoState the draws are weighted for.
    energies:     U(x) in the target's unit, same shape as ``log_weights`` (needed by ``reweight``), or None.
    axes:         ``("draw",)`` for exchangeable draws, ``("chain", "draw")`` for independent chains in time order.
    ancestors:    for resampled ensembles, the index each draw came from (or the family of an SMC particle).
    bias:         a sentence if the sampler has a bias that weights do not remove (step size), else None.
    """

    samples: PyTree
    log_weights: Float[Array | np.ndarray, "..."]
    state: ThermoState
    energies: Float[Array | np.ndarray, "..."] | None = None
    ancestors: Int[Array | np.ndarray, "..."] | None = None
    axes: tuple[str, ...] = eqx.field(static=True, default=("draw",))
    absolute: bool = eqx.field(static=True, default=False)
    bias: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.axes not in (("draw",), ("chain", "draw")):
            raise InvalidArgumentError(f"axes must be ('draw',) or ('chain', 'draw'); found {self.axes}")
        if np.ndim(self.log_weights) != len(self.axes):
            raise InvalidArgumentError(
                f"log_weights must have the axes {self.axes}; found shape {np.shape(self.log_weights)}"
            )

    # Size and weights -------------------------------------------------------------------------------------------------
    @property
    def size(self) -> int:
        """Number of draws."""
        return int(np.size(self.log_weights))

    def flat(self) -> "Ensemble":
        """The same draws with one axis."""
        if self.axes == ("draw",):
            return self

        def merge(leaf):
            return leaf.reshape((-1, *leaf.shape[len(self.axes) :]))

        samples, weights, energies, ancestors = jax.tree.map(
            merge, (self.samples, self.log_weights, self.energies, self.ancestors)
        )
        return Ensemble(samples, weights, self.state, energies, ancestors, ("draw",), self.absolute, self.bias)

    def weights(self) -> np.ndarray:
        """Normalised weights in float64, shape of ``log_weights``. Raises ``NonFiniteError`` when a weight is NaN or +inf."""
        log_weights = np.asarray(self.log_weights, dtype=np.float64)
        if np.isnan(log_weights).any() or np.isposinf(log_weights).any():
            bad = int(np.isnan(log_weights).sum() + np.isposinf(log_weights).sum())
            raise NonFiniteError(
                f"{bad} of {self.size} weights are NaN or infinite; the energies of those draws overflowed"
            )
        top = log_weights.max()
        if np.isneginf(top):
            raise NonFiniteError("every weight is zero: no draw has a finite energy in this state")
        weights = np.exp(log_weights - top)
        return weights / weights.sum()

    def ess(self) -> float:
        """Kish's effective sample size of the weights, (sum w)^2 / sum w^2, in draws. Autocorrelation is not in it."""
        return float(1.0 / np.sum(self.weights() ** 2))

    @property
    def log_z(self) -> Estimate:
        """log of the mean weight with its delta-method error. Raises when the weights are known up to a constant only.

        Errors treat draws as independent, or families as such when ``ancestors`` is set.
        """
        if not self.absolute:
            raise HeatbathError(
                "these weights are known up to a constant, so they hold no log Z. "
                "Use importance sampling or SMC for log Z, or estimators.mbar for differences of free energies."
            )
        log_weights = np.asarray(self.log_weights, dtype=np.float64).reshape(-1)
        weights = self.weights().reshape(-1)
        top = log_weights.max()
        value = top + np.log(np.mean(np.exp(log_weights - top)))
        # Relative variance of the mean weight: families are independent, draws of one family are not.
        families = np.arange(self.size) if self.ancestors is None else np.asarray(self.ancestors).reshape(-1)
        count = max(self.size, int(families.max()) + 1)
        totals = np.bincount(families, weights=weights, minlength=count)
        error = np.sqrt(np.sum((totals - 1.0 / count) ** 2) * count / max(count - 1, 1))
        return Estimate(float(value), float(error), self.ess(), "mean weight", bool(self.ess() > 10))

    # Expectations -----------------------------------------------------------------------------------------------------
    def evaluate(self, function: Callable[[PyTree], Any], chunk: int = 1024) -> np.ndarray:
        """``function`` of every draw, in chunks, as a NumPy array with the axes of the ensemble in front."""
        flat = self.flat().samples
        values = np.asarray(_map_chunks(function, flat, chunk))
        return values.reshape(np.shape(self.log_weights) + values.shape[1:])

    def expect(self, function: Callable[[PyTree], Any] | np.ndarray, unit: str = "1") -> Estimate:
        """The weighted mean of ``function(x)`` (scalar or array valued) with its standard error.

        An array that begins with the axes of the ensemble may stand for the function. Errors: from the spread over
        independent chains when there are at least two (jackknife of the ratio), from the delta method for exchangeable
        draws, from batch means for a single chain (then ``converged`` is False: one chain cannot vouch for itself).
        """
        values = function if isinstance(function, np.ndarray) else self.evaluate(function)
        values = np.asarray(values, dtype=np.float64)
        weights = self.weights().reshape(np.shape(self.log_weights) + (1,) * (values.ndim - len(self.axes)))
        over = tuple(range(len(self.axes)))
        values = np.where(weights > 0, values, 0.0)  # a draw of weight zero may have no finite value
        value = np.sum(weights * values, axis=over)
        notes = () if self.bias is None else (self.bias,)
        converged = True
        if self.axes == ("draw",):
            if self.ancestors is None:
                variance = np.sum(weights**2 * (values - value) ** 2, axis=0)
                method = "self-normalised weights, delta method"
            else:
                variance = _family_variance(weights, values, self.ancestors, centre=value)
                method = "self-normalised weights, variance over families"
        else:
            blocks_w, blocks_v, method = weights, values, "jackknife over chains"
            if values.shape[0] < 2:
                blocks = max(2, int(np.sqrt(values.shape[1])))
                keep = values.shape[1] // blocks * blocks
                blocks_w = weights[0, :keep].reshape((blocks, -1, *weights.shape[2:]))
                blocks_v = values[0, :keep].reshape((blocks, -1, *values.shape[2:]))
                method, converged = "batch means of one chain", False
                notes += ("one chain cannot show that it is converged; run at least four",)
            variance = _jackknife_variance(blocks_w, blocks_v)
        error = np.sqrt(variance)
        spread = np.sum(weights * (values - value) ** 2, axis=over)
        with np.errstate(divide="ignore", invalid="ignore"):
            n_eff = np.min(np.where(variance > 0, spread / variance, np.inf))
        n_eff = float(n_eff) if np.isfinite(n_eff) else self.ess()
        scalar = np.ndim(value) == 0
        return Estimate(
            float(value) if scalar else value, float(error) if scalar else error, n_eff, method, converged, notes, unit
        )

    # New ensembles from old -------------------------------------------------------------------------------------------
    def resample(self, key: Key[Array, ""], size: int | None = None) -> "Ensemble":
        """Equally weighted draws by systematic resampling; ``ancestors`` holds where each came from.

        The log weight of every draw becomes the log of the mean weight, so that absolute weights keep their log Z.
        """
        flat = self.flat()
        size = flat.size if size is None else size
        index = systematic_resample(key, jnp.asarray(flat.weights()), size)
        log_weights = np.asarray(flat.log_weights, dtype=np.float64)
        top = log_weights.max()
        mean = top + np.log(np.mean(np.exp(log_weights - top)))
        samples, energies = jax.tree.map(lambda leaf: leaf[index], (flat.samples, flat.energies))
        ancestors = index if flat.ancestors is None else flat.ancestors[index]
        return Ensemble(
            samples, jnp.full((size,), mean), flat.state, energies, ancestors, ("draw",), flat.absolute, flat.bias
        )

    def reweight(self, state: ThermoState) -> "Ensemble":
        """The same draws, weighted for another state: log w += u_old(x) - u_new(x). Needs ``energies``."""
        if self.energies is None:
            raise HeatbathError("reweighting needs the energies of the draws, and this ensemble was made without them")
        energies = np.asarray(self.energies, dtype=np.float64)
        change = (float(self.state.beta) - float(state.beta)) * energies
        for bias, sign in ((self.state.bias, 1.0), (state.bias, -1.0)):
            if bias is not None:
                change = change + sign * self.evaluate(bias)
        log_weights = jnp.asarray(np.asarray(self.log_weights, dtype=np.float64) + change)
        return Ensemble(
            self.samples, log_weights, state, self.energies, self.ancestors, self.axes, self.absolute, self.bias
        )


def systematic_resample(key: Key[Array, ""], weights: Float[Array, " n"], size: int) -> Int[Array, " size"]:
    """Indices with expected counts ``size * weights`` from one uniform number (Carpenter, Clifford & Fearnhead 1999).

    Counts differ from their expectation by less than one. Indices are clipped, so that rounding can never give n.
    """
    cumulative = jnp.cumsum(weights)
    points = (jnp.arange(size) + jax.random.uniform(key, dtype=weights.dtype)) / size * cumulative[-1]
    return jnp.clip(jnp.searchsorted(cumulative, points, side="right"), 0, weights.shape[0] - 1)


def _map_chunks(function, samples, chunk):
    return eqx.filter_jit(lambda xs: jax.lax.map(function, xs, batch_size=chunk))(samples)


def _jackknife_variance(weights: np.ndarray, values: np.ndarray):
    """Variance of sum(w v)/sum(w) by leaving out one block (axis 0) at a time."""
    numerator = np.sum(weights * values, axis=1)
    denominator = np.broadcast_to(np.sum(weights, axis=1), numerator.shape)
    count = numerator.shape[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = (numerator.sum(0) - numerator) / (denominator.sum(0) - denominator)
    return (count - 1) / count * np.sum((left_out - left_out.mean(0)) ** 2, axis=0)


def _family_variance(weights: np.ndarray, values: np.ndarray, families, centre):
    """Variance of a weighted mean whose draws are independent between families only (Chan & Lai 2013; Lee & Whiteley 2018)."""
    families = np.asarray(families).reshape(-1)
    members = weights * (values - centre)
    totals = np.zeros((int(families.max()) + 1, *members.shape[1:]))
    np.add.at(totals, families, members)
    return np.sum(totals**2, axis=0)
