"""Monte Carlo of particles one at a time: displacements, and exchanges of two particles of different species.

``ParticleMoves`` is the kernel, for any device and inside any sampler. ``particle_engine`` runs the same moves as compiled
loops on a CPU, where they are several times faster.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import PointState, decide, point, point_under
from heatbath.kernels.positions import require_floating
from heatbath.state import LogDensity, ReducedEnergy


class ParticleMoves(Kernel):
    """One sweep of N moves: displacements of one particle each, then exchanges of two particles' places.

    A displacement takes a random particle by a vector uniform in [-step_size, step_size]^d; an exchange takes a random particle
    and one that is equally likely to be any particle of another species. Both proposals are symmetric, so that each is accepted
    with min(1, exp(-(u' - u))); a sweep is a fixed sequence of such moves and leaves exp(-u) invariant.

    counts:          particles of every species, in the order of the rows of x (N, d); None when all are alike.
    exchange_share:  share of the N moves that are exchanges, in [0, 1); rounded to whole moves, and at least one if positive.

    Where u is beta U of a target that offers ``displacement_change`` and ``exchange_change``, a move costs O(N); otherwise
    it costs two evaluations of u. A sweep ends with one evaluation, so that rounding does not pile up. ``info.acceptance``
    is that of displacements. Source: Metropolis et al. 1953; exchanges: Grigera & Parisi, Phys. Rev. E 63, 045102 (2001).
    """

    step_size: Float[Array, ""] | float = eqx.field()
    counts: tuple[int, ...] | None = eqx.field(static=True, default=None)
    exchange_share: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        if not 0 <= self.exchange_share < 1:
            raise InvalidArgumentError(f"exchange_share must be at least 0 and below 1; found {self.exchange_share}")
        if self.exchange_share > 0 and (self.counts is None or sum(count > 0 for count in self.counts) < 2):
            raise InvalidArgumentError(
                f"exchanges need counts of particles of two species or more; found {self.counts}"
            )

    @property
    def target_acceptance(self) -> float:
        return 0.4

    @property
    def evaluations(self) -> int:
        # In units of one energy (N (N - 1) / 2 pairs): a displacement looks at 2 (N - 1) pairs, an exchange at twice as many.
        return 1 + math.ceil(4 * (1 - self.exchange_share) + 8 * self.exchange_share)

    def moves(self, particles: int) -> tuple[int, int]:
        """Displacements and exchanges of one sweep."""
        exchanges = max(1, round(self.exchange_share * particles)) if self.exchange_share > 0 else 0
        return max(1, particles - exchanges), exchanges

    def init(self, key: Key[Array, ""], x: Float[Array, "particle d"], u: LogDensity) -> PointState:
        require_floating(x, "ParticleMoves")
        if x.ndim != 2 or (self.counts is not None and sum(self.counts) != x.shape[0]):
            raise InvalidArgumentError(
                f"ParticleMoves needs positions (particle, d) of {self.counts} particles; found shape {x.shape}"
            )
        return point(x, u)

    def restart(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> PointState:
        return point_under(state, u)

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        displacements, exchanges = self.moves(state.position.shape[0])
        key_displace, key_exchange = jax.random.split(key)
        bad = ~jnp.isfinite(state.reduced_energy)
        x, found = jax.lax.scan(
            lambda x, move: self._displace(x, move, u, bad),
            state.position,
            self._draw(key_displace, state, displacements),
        )
        finite, accepted = found[2].all(), found[0].any()
        if exchanges:
            x, swapped = jax.lax.scan(
                lambda x, key: self._exchange(x, key, u), x, jax.random.split(key_exchange, exchanges)
            )
            finite, accepted = finite & swapped[2].all(), accepted | swapped[0].any()
        evaluations = self.evaluations if _local(u) else 1 + 2 * (displacements + exchanges)
        info = KernelInfo(found[1].mean(), accepted, finite, jnp.asarray(evaluations, jnp.int32))
        return point(x, u), info

    def _draw(self, key: Key[Array, ""], state: PointState, count: int):
        """Particle, vector and key of every displacement of a sweep."""
        x = state.position
        key_particle, key_vector, key_accept = jax.random.split(key, 3)
        size = jnp.asarray(self.step_size, x.dtype)
        vectors = size * jax.random.uniform(key_vector, (count, x.shape[1]), x.dtype, -1, 1)
        return jax.random.randint(key_particle, (count,), 0, x.shape[0]), vectors, jax.random.split(key_accept, count)

    def _displace(self, x: Array, move: Any, u: LogDensity, bad: Array):
        i, vector, key = move
        place = x[i] + vector
        change = displacement_change(u, x, i, place)
        # From a start whose energy is not finite, any move to where it is may be taken.
        current = jnp.where(bad & ~jnp.isfinite(change), jnp.nan, 0.0).astype(x.dtype)
        finite = ~jnp.isnan(change) & ~jnp.isposinf(change)
        accepted, probability = decide(key, -change, finite, current)
        return jnp.where(accepted, x.at[i].set(place), x), (accepted, probability, finite)

    def _exchange(self, x: Array, key: Key[Array, ""], u: LogDensity):
        key_pair, key_accept = jax.random.split(key)
        i, j = self.unlike_pair(key_pair)
        change = exchange_change(u, x, i, j)
        finite = jnp.isfinite(change)
        accepted, probability = decide(key_accept, -change, finite, jnp.zeros((), x.dtype))
        return jnp.where(accepted, x.at[jnp.stack([i, j])].set(x[jnp.stack([j, i])]), x), (
            accepted,
            probability,
            finite,
        )

    def unlike_pair(self, key: Key[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """A particle, and one of another species; (i, j) is as likely as (j, i) after the exchange."""
        counts = np.asarray(self.counts)
        total, kinds = int(counts.sum()), np.repeat(np.arange(len(counts)), counts)
        key_first, key_second = jax.random.split(key)
        i = jax.random.randint(key_first, (), 0, total)
        own = jnp.asarray(counts)[jnp.asarray(kinds)[i]]
        begin = jnp.asarray(np.cumsum(counts) - counts)[jnp.asarray(kinds)[i]]
        j = jax.random.randint(key_second, (), 0, total - own)
        return i, jnp.where(j >= begin, j + own, j)


def _local(u: LogDensity) -> bool:
    return isinstance(u, ReducedEnergy) and u.state.bias is None and hasattr(u.target, "displacement_change")


def displacement_change(
    u: LogDensity, x: Float[Array, "particle d"], i: Int[Array, ""], place: Float[Array, " d"]
) -> Scalar:
    """u after particle i went to ``place``, minus u before."""
    if _local(u):
        change = u.target.displacement_change(x, i, place)
        return u.state.beta.astype(change.dtype) * change
    return u(x.at[i].set(place)) - u(x)


def exchange_change(u: LogDensity, x: Float[Array, "particle d"], i: Int[Array, ""], j: Int[Array, ""]) -> Scalar:
    """u after particles i and j exchanged places, minus u before."""
    if _local(u):
        change = u.target.exchange_change(x, i, j)
        return u.state.beta.astype(change.dtype) * change
    return u(x.at[jnp.stack([i, j])].set(x[jnp.stack([j, i])])) - u(x)
