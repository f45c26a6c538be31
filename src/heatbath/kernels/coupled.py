"""Couplings: two chains moved together so that each alone follows its kernel, and both stay together once they have met.

With a lag of one they turn any kernel into unbiased estimators (``coupled_chains``, ``samplers.unbiased``).
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, PyTree

from heatbath.kernels.base import Kernel
from heatbath.kernels.block_gibbs import BlockGibbs, in_half, machine_of, probabilities
from heatbath.kernels.metropolis import PointState
from heatbath.state import LogDensity

#: Pairs of chains run on without those that have met once one in so many is still apart.
SHRINK = 5


class Coupling(eqx.Module):
    """``step(key, first, second, u) -> (first, second)``: each is a step of ``kernel``; equal states stay equal."""

    kernel: eqx.AbstractVar[Kernel]

    @abc.abstractmethod
    def step(self, key: Key[Array, ""], first: PyTree, second: PyTree, u: LogDensity) -> tuple[PyTree, PyTree]: ...


class CommonRandomNumbers(Coupling):
    """Both chains of any kernel use one key.

    For ``UniformMetropolis`` these are one proposal and one uniform, the published coupling; for ``BlockGibbs`` every unit is
    coupled maximally. Kernels whose moves stay apart for ever under equal numbers (a random walk) never meet: the truncation
    rate says so.
    """

    kernel: Kernel

    def step(self, key, first, second, u):
        return self.kernel.step(key, first, u)[0], self.kernel.step(key, second, u)[0]


class MaximalBlockGibbs(Coupling):
    """Block Gibbs with each half of the layers coupled maximally as a whole: the halves agree as often as is possible.

    The half of the first chain is drawn from p; it serves the second with probability min(1, q/p), else the second draws from q
    until a draw is not one that they could have shared. Source: Thorisson 2000; arXiv 1708.03625.
    """

    kernel: BlockGibbs = BlockGibbs()

    def step(self, key, first, second, u):
        machine, beta = machine_of(u)
        key_order, *keys = jax.random.split(key, 3)
        start = self.kernel.first(key_order)
        x, y = first.position, second.position
        for key_half, half in zip(keys, (start, 1 - start), strict=True):
            chosen = in_half(machine, half)
            p, q = (probabilities(machine, z, beta) for z in (x, y))
            new_x, new_y = maximal_bits(key_half, p, q, chosen)
            x, y = (jnp.where(chosen, new, old).astype(old.dtype) for new, old in ((new_x, x), (new_y, y)))
        return PointState(x, u(x)), PointState(y, u(y))


def maximal_bits(key: Key[Array, ""], p: Array, q: Array, chosen: Bool[Array, " n"]) -> tuple[Array, Array]:
    """Bits (n,) from the products of coins p and q, equal on ``chosen`` with the largest probability, 1 - total variation."""
    tiny = jnp.finfo(p.dtype).tiny

    def log_ratio(bits, top, bottom):
        """log of top(bits)/bottom(bits) over the chosen units."""
        ones, zeros = (
            jnp.log(jnp.maximum(a, tiny)) - jnp.log(jnp.maximum(b, tiny))
            for a, b in ((top, bottom), (1 - top, 1 - bottom))
        )
        return jnp.sum(jnp.where(chosen, jnp.where(bits, ones, zeros), 0.0))

    def draw(key, probability):
        return jax.random.uniform(key, p.shape, p.dtype) < probability

    key_x, key_share, key_rest = jax.random.split(key, 3)
    x = draw(key_x, p)
    shared = jnp.log(jax.random.uniform(key_share, dtype=p.dtype)) <= log_ratio(x, q, p)

    def again(carry):
        key, _, _ = carry
        key, key_y, key_test = jax.random.split(key, 3)
        y = draw(key_y, q)
        return key, y, jnp.log(jax.random.uniform(key_test, dtype=p.dtype)) > log_ratio(y, p, q)

    _, y, _ = jax.lax.while_loop(lambda carry: ~carry[2], again, (key_rest, x, shared))
    return x, y


class CoupledRun(NamedTuple):
    """What coupled chains left: the accumulated ``total``, when each pair met (first t with x_t = y_{t-1}), and whether it did.

    The pairs that had not met at the cap are cut off there: their estimate is biased, and ``met`` says so.
    """

    total: Any
    meeting: Int[Array, " chain"]
    met: Bool[Array, " chain"]


def coupled_chains(
    key: Key[Array, ""],
    first_step: Callable[[Array, PyTree, PyTree], PyTree],
    both_step: Callable[[Array, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]],
    xs: PyTree,
    ys: PyTree,
    accumulate: Callable[[Any, PyTree, Array, PyTree], Any],
    total: Any,
    *,
    rows: PyTree = (),
    k: int,
    m: int,
    cap: int,
) -> CoupledRun:
    """Run pairs with lag one from states (x_0, y_0) of one law and add up f with the weights of H_{k:m}.

    H_{k:m} = 1/(m-k+1) sum_{l=k}^m f(x_l) + sum_{t=k+1}^{tau-1} min(1, (t-k)/(m-k+1)) (f(x_t) - f(y_{t-1})), whose mean is
    that of f in equilibrium; H_k is m = k. The steps act on batches, ``first_step(keys, xs, rows)`` and ``both_step(keys, xs,
    ys, rows)`` with ``rows`` what belongs to each pair; ``accumulate(total, positions, weights, rows)`` adds weights (chain,)
    times f. The loop ends when all pairs have met and t >= m, or at t = ``cap``; once few pairs are apart it runs on with these
    alone. Source: arXiv 1708.03625, section 2.
    """
    count = jax.tree.leaves(xs)[0].shape[0]
    width = m - k + 1
    wide = jnp.result_type(float)

    def same(xs, ys):
        pairs = zip(jax.tree.leaves(xs.position), jax.tree.leaves(ys.position), strict=True)
        return jnp.stack([jnp.all((a == b).reshape((a.shape[0], -1)), axis=1) for a, b in pairs]).all(axis=0)

    def record(t, xs, ys, rows, met, total):
        """Terms of time t >= 1, where pairs (x_t, y_{t-1}) have met or not."""
        own = jnp.where((t >= k) & (t <= m), 1.0 / width, 0.0)
        apart = jnp.where(~met & (t > k), jnp.minimum(1.0, (t - k) / width), 0.0)
        for positions, weights in ((xs.position, own + apart), (ys.position, -apart)):
            weights = weights.astype(wide)
            # a sum without weights is not made: pairs that have met have none beyond m
            total = jax.lax.cond(
                jnp.any(weights != 0), lambda t, p=positions, w=weights: accumulate(t, p, w, rows), lambda t: t, total
            )
        return total

    def run(carry, rows, few):
        """Until at most ``few`` pairs are apart."""

        def body(carry):
            t, xs, ys, met, meeting, total = carry
            keys = jax.random.split(jax.random.fold_in(key, t), len(met))
            xs, ys = both_step(keys, xs, ys, rows)
            t = t + 1
            met = met | same(xs, ys)
            return t, xs, ys, met, jnp.where(met, meeting, t + 1), record(t, xs, ys, rows, met, total)

        return jax.lax.while_loop(lambda c: ((c[0] < m) | (jnp.sum(~c[3]) > few)) & (c[0] < cap), body, carry)

    if k == 0:
        total = accumulate(total, xs.position, jnp.full(count, 1.0 / width, wide), rows)
    xs = first_step(jax.random.split(jax.random.fold_in(key, 0), count), xs, rows)
    one = jnp.ones((), jnp.int32)
    met = same(xs, ys)
    meeting = jnp.where(met, 1, 2).astype(jnp.int32)
    few = count // SHRINK
    t, xs, ys, met, meeting, total = run((one, xs, ys, met, meeting, record(one, xs, ys, rows, met, total)), rows, few)
    if few:  # the first ``few`` in the order "apart, met"; all that are apart, unless the cap has been reached
        last = jnp.argsort(met)[:few]
        xs, ys, rows = (jax.tree.map(lambda leaf: leaf[last], part) for part in (xs, ys, rows))
        _, _, _, late, times, total = run((t, xs, ys, met[last], meeting[last], total), rows, 0)
        met, meeting = met.at[last].set(late), meeting.at[last].set(times)
    return CoupledRun(total, jnp.where(met, meeting, cap).astype(jnp.int32), met)
