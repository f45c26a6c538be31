"""Unbiased estimates from short chains: pairs of coupled chains whose mean is exact however early they are stopped."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.estimate import Estimate
from heatbath.kernels.coupled import Coupling, coupled_chains
from heatbath.state import LogDensity


@dataclasses.dataclass(frozen=True)
class UnbiasedEstimates:
    """One independent estimate per pair of chains.

    values:         (pair, ...) H_{k:m} of each pair
    meeting_times:  (pair,) first t with x_t = y_{t-1}; the cap where the pair had not met by then
    met:            (pair,) False for pairs that were cut off; their values are biased
    """

    values: np.ndarray
    meeting_times: np.ndarray
    met: np.ndarray

    @property
    def truncation_rate(self) -> float:
        """Share of pairs that were cut off before they met. Only 0 leaves the mean unbiased."""
        return float(np.mean(~self.met))

    @property
    def estimate(self) -> Estimate:
        """Mean over pairs with its standard error; not converged when a pair was cut off."""
        count = len(self.values)
        value, spread = self.values.mean(axis=0), self.values.std(axis=0, ddof=1) / np.sqrt(count)
        notes = ()
        if self.truncation_rate:
            notes = (
                f"{self.truncation_rate:.2g} of the pairs had not met at the cap, so the mean is biased; raise the cap",
            )
        return Estimate(value, spread, float(count), "coupled chains", not notes, notes)


def unbiased_estimates(
    key: Key[Array, ""],
    coupling: Coupling,
    u: LogDensity,
    start: Callable[[Array], PyTree],
    function: Callable[[PyTree], Any],
    *,
    pairs: int,
    k: int = 0,
    m: int | None = None,
    cap: int = 10_000,
    shared_start: bool = True,
    chunk: int = 5000,
) -> UnbiasedEstimates:
    """H_{k:m} of ``function(x)`` (an array) in exp(-u), one per pair of chains from ``start(key)``; m = k when None.

    With ``shared_start`` y_0 = x_0, else two independent draws of the start; the law of one chain is what matters. Pairs run
    ``chunk`` at a time in one compiled loop, which stops when all have met. Raises ``InvalidArgumentError`` unless
    0 <= k <= m < cap and there are two pairs. Source: arXiv 1708.03625.
    """
    m = k if m is None else m
    if not 0 <= k <= m < cap or pairs < 2 or chunk < 1:
        raise InvalidArgumentError(
            f"expected 0 <= k <= m < cap, and at least two pairs; found k = {k}, m = {m}, cap = {cap}, pairs = {pairs}"
        )
    size = min(chunk, pairs)
    parts = []
    for index in range(-(-pairs // size)):
        part_key = jax.random.fold_in(key, index)
        parts.append(_pairs(part_key, coupling, u, start, function, size, k, m, cap, shared_start))
    values, meeting, met = (np.concatenate([np.asarray(p[i]) for p in parts])[:pairs] for i in range(3))
    return UnbiasedEstimates(values.astype(np.float64), meeting, met)


@eqx.filter_jit
def _pairs(key, coupling, u, start, function, size, k, m, cap, shared):
    key_x, key_y, key_init, key_run = jax.random.split(key, 4)
    xs = jax.vmap(start)(jax.random.split(key_x, size))
    ys = xs if shared else jax.vmap(start)(jax.random.split(key_y, size))
    states, others = (
        jax.vmap(lambda key, x: coupling.kernel.init(key, x, u))(jax.random.split(key_init, size), zs)
        for zs in (xs, ys)
    )

    def accumulate(total, positions, weights, rows):
        values = jax.vmap(function)(positions).astype(total.dtype)
        return total.at[rows].add(weights.reshape(weights.shape + (1,) * (values.ndim - 1)) * values)

    shape = jax.eval_shape(lambda x: jax.vmap(function)(x), xs).shape
    run = coupled_chains(
        key_run,
        jax.vmap(lambda key, state, row: coupling.kernel.step(key, state, u)[0]),
        jax.vmap(lambda key, a, b, row: coupling.step(key, a, b, u)),
        states,
        others,
        accumulate,
        jnp.zeros(shape, jnp.result_type(float)),
        rows=jnp.arange(size),
        k=k,
        m=m,
        cap=cap,
    )
    return run.total, run.meeting, run.met
