"""Moves of Boltzmann machines that offer visible units from elsewhere: chains cross between modes, and coupled ones meet.

A state of the even layers is drawn from r(v, s_2, ...) = q(v) prod_i m_i(v): visible units from a distribution with a density
that can be drawn from, deeper even layers from coins with the means that mean field gives for these visible units. The odd layers
are summed over, w = sum_odd exp(-u) / r, and drawn anew afterwards. With one hidden layer only the visible one is even.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import KernelInfo
from heatbath.kernels.block_gibbs import MachineKernel, clamped_means, half_sweep, machine_of
from heatbath.kernels.metropolis import PointState, decide
from heatbath.models.base import Distribution
from heatbath.state import LogDensity
from heatbath.targets.boltzmann_machines import BoltzmannMachine


class Offers(eqx.Module):
    """Draws and densities of even layers: ``distribution`` of visible units, ``rounds`` rounds of mean field for deeper ones."""

    distribution: Distribution
    rounds: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        if self.rounds < 1:
            raise InvalidArgumentError(f"rounds must be at least 1; found {self.rounds}")

    def draw(self, key: Key[Array, ""], machine: BoltzmannMachine, beta: Scalar) -> tuple[Int[Array, " unit"], Scalar]:
        """A configuration with even layers from r, the odd ones zero, and its log w."""
        key_visible, key_deep = jax.random.split(key)
        visible = self.distribution.sample(key_visible).astype(jnp.int32)
        means = self._means(machine, visible, beta)
        layers = [visible, *(jnp.zeros(size, jnp.int32) for size in machine.sizes[1:])]
        for index in range(2, len(layers), 2):
            coins = jax.random.uniform(jax.random.fold_in(key_deep, index), means[index].shape, means[index].dtype)
            layers[index] = (coins < means[index]).astype(jnp.int32)
        return jnp.concatenate(layers), self._weight(machine, layers, means, beta)

    def log_weight(self, machine: BoltzmannMachine, x: Array, beta: Scalar) -> Scalar:
        """log w of the even layers of a configuration."""
        layers = machine.split(x)
        return self._weight(machine, layers, self._means(machine, layers[0], beta), beta)

    def _means(self, machine: BoltzmannMachine, visible: Array, beta: Scalar) -> list[Array]:
        """Coins of the layers; with one hidden layer there is nothing to be offered but visible units."""
        return clamped_means(machine, visible, beta, self.rounds) if len(machine.sizes) > 2 else [visible]

    def _weight(self, machine: BoltzmannMachine, layers: Sequence[Array], means: Sequence[Array], beta: Scalar):
        even = range(0, len(layers), 2)
        total = machine.log_half_sum(layers, even, beta)
        total = total - self.distribution.log_prob(layers[0]).astype(total.dtype)
        for index in even[1:]:
            ones = layers[index] > 0
            total = total - jnp.sum(jnp.where(ones, jnp.log(means[index]), jnp.log1p(-means[index])))
        return total


class VisibleProposal(MachineKernel):
    """Metropolis with an offered state of the even layers: accepted with min(1, w'/w); then the odd layers, given them.

    Two chains that are offered one state meet as soon as both take it, from whatever modes: the nearer q is to the machine, and
    the mean field to its hidden units, the sooner. Compose it with ``BlockGibbs``.
    """

    offers: Offers

    def __init__(self, distribution: Distribution, rounds: int = 2):
        self.offers = Offers(distribution, rounds)

    @property
    def evaluations(self) -> int:
        return 2

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        machine, beta = _machine_of(u)
        key_place, key_accept, key_odd = jax.random.split(key, 3)
        new, log_weight = self.offers.draw(key_place, machine, beta)
        change = log_weight - self.offers.log_weight(machine, state.position, beta)
        finite = jnp.isfinite(change)
        accepted, probability = decide(key_accept, change, finite, state.reduced_energy)
        x = jnp.where(accepted, new.astype(state.position.dtype), state.position)
        x = half_sweep(key_odd, machine, x, beta, 1)
        return PointState(x, u(x)), KernelInfo(probability, accepted, finite, jnp.asarray(2, jnp.int32))


class Pool(NamedTuple):
    """Offered states (state, unit), and running sums (state,) of their weights over the largest one, exp(``shift``).

    ``finite`` is False when some weight was not; such a state is never chosen.
    """

    states: Int[Array, "state unit"]
    sums: Float[Array, " state"]
    shift: Scalar
    finite: Scalar


class PooledProposal(MachineKernel):
    """One of ``count`` offered states, or the present one, each with probability w / sum of w; then the odd layers.

    The more states are offered, the nearer this is to independent draws of the machine, and the sooner coupled chains meet: both
    choose the same state unless one of them stays. Many chains can share a pool that is drawn once per step (``renewed``): each
    chain by itself keeps its law. Without a shared pool every step draws its own. Compose it with ``BlockGibbs``.
    Source: iterated sampling importance resampling, Andrieu, Lee and Vihola, Bernoulli 24, 842 (2018); arXiv 1312.6432.
    """

    offers: Offers
    count: int = eqx.field(static=True)
    pool: Pool | None

    def __init__(self, distribution: Distribution, count: int = 256, rounds: int = 2, pool: Pool | None = None):
        if count < 1:
            raise InvalidArgumentError(f"count must be at least 1; found {count}")
        self.offers, self.count, self.pool = Offers(distribution, rounds), count, pool

    @property
    def evaluations(self) -> int:
        """Weights of a pool of its own count; those of a shared one are asked for once per step, for all chains together."""
        return 2 + (self.count if self.pool is None else 0)

    def drawn(self, key: Key[Array, ""], u: LogDensity) -> Pool:
        """A fresh pool."""
        machine, beta = _machine_of(u)
        states, log_weights = jax.vmap(lambda k: self.offers.draw(k, machine, beta))(jax.random.split(key, self.count))
        finite = jnp.isfinite(log_weights)
        log_weights = jnp.where(finite, log_weights, -jnp.inf)
        shift = jnp.max(log_weights)
        return Pool(states, jnp.cumsum(jnp.exp(log_weights - shift)), shift, jnp.all(finite))

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        machine, beta = _machine_of(u)
        key_pool, key_move, key_choice, key_odd = jax.random.split(key, 4)
        pool = self.drawn(key_pool, u) if self.pool is None else self.pool
        log_weight = self.offers.log_weight(machine, state.position, beta)
        usable = jnp.isfinite(log_weight) & jnp.isfinite(pool.shift)
        probability = jax.nn.sigmoid(pool.shift + jnp.log(pool.sums[-1]) - log_weight)
        accepted = usable & (jax.random.uniform(key_move, dtype=probability.dtype) < probability)
        place = jax.random.uniform(key_choice, dtype=pool.sums.dtype) * pool.sums[-1]
        chosen = jnp.minimum(jnp.searchsorted(pool.sums, place, side="right"), self.count - 1)
        x = jnp.where(accepted, pool.states[chosen].astype(state.position.dtype), state.position)
        x = half_sweep(key_odd, machine, x, beta, 1)
        finite, evaluations = usable & pool.finite, jnp.asarray(self.evaluations, jnp.int32)
        return PointState(x, u(x)), KernelInfo(probability, accepted, finite, evaluations)


def renewed(key: Key[Array, ""], parts: Any, u: LogDensity) -> Any:
    """A kernel or coupling whose ``PooledProposal``s have fresh pools; for once per step, before chains are mapped over."""

    def pooled(part):
        return isinstance(part, PooledProposal)

    def one(part):
        return (
            eqx.tree_at(lambda p: p.pool, part, part.drawn(key, u), is_leaf=lambda p: p is None)
            if pooled(part)
            else part
        )

    return jax.tree.map(one, parts, is_leaf=pooled)


def _machine_of(u: LogDensity) -> tuple[BoltzmannMachine, Scalar]:
    machine, beta = machine_of(u)
    return machine, jnp.asarray(beta, machine.biases[0].dtype)
