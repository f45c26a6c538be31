"""Exchanges between neighbouring rungs of a ladder, and the count of round trips.

What two rungs would hold after an exchange is an ``Exchange``'s to say: each the configuration of the other
(``PlainExchange``), or an image of it under a map between their temperatures (``flow_exchange.FlowSwap``).
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from heatbath.state import ThermoState
from heatbath.targets.base import Target


class Offer(NamedTuple):
    """What the exchanges of one round would leave in one ladder, were all pairs of one parity accepted.

    positions, energies:  configuration and U of it per rung; a rung without a partner keeps its own.
    log_ratios:           log of the ratio of acceptance per pair; only those of the parity in hand mean anything.
    evaluations:          energy evaluations used, per rung; non_finite how many of them were not finite.
    """

    positions: PyTree
    energies: Float[Array, " rung"]
    log_ratios: Float[Array, " pair"]
    evaluations: Int[Array, " rung"]
    non_finite: Int[Array, " rung"]


class Exchange(eqx.Module):
    """How neighbouring rungs trade configurations: the identity map, or any measure-preserving one with its inverse.

    ``evaluations`` is the number of energy evaluations per rung and round, for estimates of cost.
    """

    @property
    def evaluations(self) -> int:
        return 0

    @abc.abstractmethod
    def offer(
        self,
        key: Key[Array, ""],
        target: Target,
        ladder: ThermoState,
        positions: PyTree,
        energies: Float[Array, " rung"],
        parity: Int[Array, ""],
    ) -> Offer:
        """What the pairs (i, i + 1) with i of the given parity would leave. ``energies`` are U(x) in the target's unit."""


class PlainExchange(Exchange):
    """Each rung takes the configuration of the other; see ``exchange_log_ratios``. Costs no energy."""

    def offer(self, key, target, ladder, positions, energies, parity):
        other = partners(energies.shape[0], parity)
        none = jnp.zeros(energies.shape, jnp.int32)
        ratios = exchange_log_ratios(ladder, positions, energies)
        return Offer(jax.tree.map(lambda leaf: leaf[other], positions), energies[other], ratios, none, none)


def partners(rungs: int, parity: Int[Array, ""]) -> Int[Array, " rung"]:
    """The rung with which each rung would trade: (i, i + 1) with i of the given parity; at an end, possibly itself."""
    here = jnp.arange(rungs)
    other = jnp.where(here % 2 == parity, here + 1, here - 1)
    return jnp.where((other >= 0) & (other < rungs), other, here)


class Swap(NamedTuple):
    """What one round of exchanges did in one ladder.

    source:       the rung from which each rung takes its configuration.
    probability:  acceptance probability of every pair (0 where not attempted).
    attempted:    which pairs were tried.
    """

    source: Int[Array, " rung"]
    probability: Float[Array, " pair"]
    attempted: Bool[Array, " pair"]


def exchange_log_ratios(
    ladder: ThermoState, positions: PyTree, energies: Float[Array, " rung"]
) -> Float[Array, " pair"]:
    """log of the ratio by which exchanging neighbours i, i + 1 changes the joint density of one ladder.

        u_i(x_i) + u_j(x_j) - u_i(x_j) - u_j(x_i)  =  (beta_i - beta_j)(U_i - U_j) + the same of the biases

    ``energies`` are U(x) in the target's unit; biases are evaluated at both configurations of a pair.
    """
    betas = ladder.beta.astype(energies.dtype)
    ratios = (betas[:-1] - betas[1:]) * (energies[:-1] - energies[1:])
    if ladder.bias is None:
        return ratios
    low, high = _slice(ladder, slice(None, -1)), _slice(ladder, slice(1, None))
    x_low = jax.tree.map(lambda leaf: leaf[:-1], positions)
    x_high = jax.tree.map(lambda leaf: leaf[1:], positions)
    bias = eqx.filter_vmap(lambda state, x: state.bias(x))
    return ratios + bias(low, x_low) + bias(high, x_high) - bias(low, x_high) - bias(high, x_low)


def _slice(ladder: ThermoState, part: slice) -> ThermoState:
    return jax.tree.map(lambda leaf: leaf[part] if eqx.is_array(leaf) else leaf, ladder)


def swap(key: Key[Array, ""], log_ratios: Float[Array, " pair"], parity: Int[Array, ""]) -> Swap:
    """Try the pairs (i, i + 1) with i of the given parity, each with probability min(1, exp(log_ratio)).

    Pairs of one parity are disjoint, so that they may be tried together. Alternating the parity carries walkers through
    the ladder faster than drawing pairs at random. A ratio that is not a number is a rejection.
    """
    pairs = jnp.arange(log_ratios.shape[0])
    attempted = pairs % 2 == parity
    probability = jnp.where(jnp.isnan(log_ratios), 0.0, jnp.exp(jnp.minimum(log_ratios, 0.0)))
    probability = jnp.where(attempted, probability, 0.0)
    accepted = attempted & (jax.random.uniform(key, log_ratios.shape, log_ratios.dtype) < probability)
    up = jnp.concatenate([accepted, jnp.zeros(1, bool)])
    down = jnp.concatenate([jnp.zeros(1, bool), accepted])
    source = jnp.arange(len(up)) + up.astype(jnp.int32) - down.astype(jnp.int32)
    return Swap(source.astype(jnp.int32), probability, attempted)


class Trips(NamedTuple):
    """Progress of every walker of one ladder between the two ends.

    heading:    per walker, -1 since it was at the cold end, 1 since it came from there to the hot end, 2 when it was at the
                hot end before it ever was cold, 0 before either.
    completed:  per walker, number of times it came back to the cold end from the hot one, having started cold.
    """

    heading: Int[Array, " walker"]
    completed: Int[Array, " walker"]


def no_trips(rungs: int) -> Trips:
    """The count at its beginning."""
    return Trips(jnp.zeros(rungs, jnp.int32), jnp.zeros(rungs, jnp.int32))


def travelled(trips: Trips, walkers: Int[Array, " rung"]) -> Trips:
    """``trips`` after the walkers sit as given (``walkers[r]`` is the one at rung r).

    A walker counts a round trip cold -> hot -> cold.
    """
    cold, hot = walkers[0], walkers[-1]
    heading, completed = trips
    completed = completed.at[cold].add((heading[cold] == 1).astype(jnp.int32))
    heading = heading.at[cold].set(-1)
    new = jnp.where(heading[hot] == 0, 2, jnp.where(heading[hot] == -1, 1, heading[hot]))
    if walkers.shape[0] > 1:
        heading = heading.at[hot].set(new)
    return Trips(heading, completed)
