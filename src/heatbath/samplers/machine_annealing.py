"""Likelihoods of Boltzmann machines too large for sums: annealing between machines, forward and back.

Machines with the same layers and offsets have energies that are linear in their parameters, so that U_l = (1 - l) U_0 + l U_1 is
again such a machine, and block Gibbs moves along the whole path. The mean weight of chains that go from U_0 to U_1 is Z_1/Z_0;
its logarithm is below the truth on average. Chains that go back from the law of U_1 give the inverse, and a bound from above.
Source: Neal, Stat. Comput. 11, 125 (2001); Salakhutdinov and Murray, ICML 2008; arXiv 1412.8566 for the way back.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError
from heatbath.estimate import Estimate
from heatbath.kernels.block_gibbs import half_sweeps, machine_of
from heatbath.random import named_key
from heatbath.samplers.proposals import Proposal
from heatbath.state import LogDensity, ThermoState
from heatbath.targets.boltzmann_machines import BoltzmannMachine

#: Machines whose smaller half has at most this many units are summed, not annealed.
SUMMED_UNITS = 10


@dataclasses.dataclass(frozen=True)
class LogPartition:
    """log Z of a machine from both sides, in nats.

    lower:  by chains into the machine; below the truth on average (by half the variance of log w, and more when that is large)
    upper:  by chains out of it; above the truth on average, provided that their starts are from its law
    """

    lower: Estimate
    upper: Estimate

    @property
    def gap(self) -> float:
        """upper - lower: how little is known."""
        return float(self.upper.value) - float(self.lower.value)


def independent(machine: BoltzmannMachine, means: tuple[Array, ...] | None = None) -> BoltzmannMachine:
    """The machine of the same layers and offsets without weights; biases log(p/(1-p)) of ``means``, or the machine's own."""
    biases = machine.biases if means is None else tuple(jnp.log(p) - jnp.log1p(-p) for p in means)
    weights = tuple(jnp.zeros_like(weight) for weight in machine.weights)
    return BoltzmannMachine(weights=weights, biases=biases, offsets=machine.offsets)


def independent_log_z(machine: BoltzmannMachine) -> Scalar:
    """log Z where all weights are zero: sum of log(1 + e^b) - o b."""
    pairs = zip(machine.biases, machine.offsets.layers, strict=True)
    return sum(jnp.sum(jax.nn.softplus(b) - o * b) for b, o in pairs)  # pyright: ignore[reportReturnType]


def between(first: BoltzmannMachine, last: BoltzmannMachine, level: Scalar | float) -> BoltzmannMachine:
    """U_l = (1 - l) U_first + l U_last, for machines of the same layers and offsets."""

    def mixed(a, b):
        return (a + jnp.asarray(level, a.dtype) * (b - a)).astype(a.dtype)

    weights, biases = (tuple(map(mixed, getattr(first, part), getattr(last, part))) for part in ("weights", "biases"))
    return BoltzmannMachine(weights=weights, biases=biases, offsets=last.offsets)


def annealed(
    key: Key[Array, ""], first: BoltzmannMachine, last: BoltzmannMachine, x: Array, levels: int
) -> tuple[Array, Scalar]:
    """One chain from ``x``, a draw of ``first``, to ``last`` in equal steps.

    Returns where it ends, and log w with E[w] = Z_last/Z_first. Weights are those of the even layers, with the odd ones summed
    over, which makes them more equal than weights of all units.
    """
    even = range(0, len(last.sizes), 2)

    def level(carry, inputs):
        x, log_weight = carry
        number, key = inputs
        now, then = between(first, last, number / levels), between(first, last, (number + 1) / levels)
        layers = last.split(x)
        change = then.log_half_sum(layers, even) - now.log_half_sum(layers, even)
        # odd layers first: they are drawn given the even ones, whose weight this is
        x = half_sweeps([*jax.random.split(key)], then, x, 1.0, 1)
        return (x, log_weight + change.astype(log_weight.dtype)), None

    start = (x, jnp.zeros((), jnp.result_type(float)))
    (x, log_weight), _ = jax.lax.scan(level, start, (jnp.arange(levels), jax.random.split(key, levels)))
    return x, log_weight


def independent_draws(key: Key[Array, ""], machine: BoltzmannMachine, count: int) -> Array:
    """(count, units) exact draws of a machine without weights."""
    p = jax.nn.sigmoid(jnp.concatenate(machine.biases))
    return jax.random.bernoulli(key, p, (count, machine.units)).astype(jnp.int32)


def log_partition(
    key: Key[Array, ""],
    machine: BoltzmannMachine,
    *,
    chains: int = 200,
    levels: int = 1000,
    first: BoltzmannMachine | None = None,
    starts: Array | None = None,
    settle: int = 1000,
) -> LogPartition:
    """log Z of ``machine`` at beta = 1 from below and from above, by ``chains`` chains of ``levels`` sweeps each way.

    ``first`` is the machine without weights that the path begins at (default: the own biases). Chains back begin at ``starts``
    (chains, units), draws of the machine's law; without them, at the ends of other chains, resampled by their weights and moved
    ``settle`` sweeps more, from which an upper bound follows only if these have reached the law. Raises
    ``InvalidArgumentError`` for less than two chains or a level.
    """
    if chains < 2 or levels < 1:
        raise InvalidArgumentError(f"expected two chains and a level at least; found {chains} and {levels}")
    first = independent(machine) if first is None else first
    keys = {name: named_key(key, name) for name in ("forward", "other", "resample", "settle", "back")}
    base = float(independent_log_z(first))
    _, forward = _both_ways(keys["forward"], first, machine, None, chains, levels)
    if starts is None:
        ends, log_weights = _both_ways(keys["other"], first, machine, None, chains, levels)
        resampled = _ensemble(ends, log_weights).resample(keys["resample"]).samples
        starts = jnp.asarray(_settled(keys["settle"], machine, resampled, settle))
    _, back = _both_ways(keys["back"], machine, first, starts, len(starts), levels)
    lower, upper = _ensemble(None, forward).log_z, _ensemble(None, back).log_z
    return LogPartition(
        dataclasses.replace(lower, value=float(lower.value) + base, method="annealed importance sampling"),
        dataclasses.replace(upper, value=base - float(upper.value), method="annealed importance sampling, reversed"),
    )


def _ensemble(samples, log_weights) -> Ensemble:
    weights = np.asarray(log_weights, dtype=np.float64)
    return Ensemble(jnp.arange(len(weights)) if samples is None else samples, weights, ThermoState(1.0), absolute=True)


@eqx.filter_jit
def _both_ways(key, first, last, starts, chains: int, levels: int):
    key_start, key_moves = jax.random.split(key)
    starts = independent_draws(key_start, first, chains) if starts is None else starts
    keys = jax.random.split(key_moves, chains)
    return jax.vmap(lambda k, x: annealed(k, first, last, x, levels))(keys, starts)


@eqx.filter_jit
def _settled(key, machine, starts, sweeps):
    def move(i, x):
        keys = jax.random.split(jax.random.fold_in(key, i), (len(x), 2))
        return jax.vmap(lambda k, s: half_sweeps([*k], machine, s, 1.0, 1))(keys, x)

    return jax.lax.fori_loop(0, sweeps, move, starts)


def clamped_log_z(
    key: Key[Array, ""],
    machine: BoltzmannMachine,
    visible: Array,
    *,
    chains: int = 20,
    levels: int = 200,
    at_once: int = 50,
) -> Float[np.ndarray, " row"]:
    """log sum_h exp(-U(v, h)) of every row v of ``visible`` (row, n_0): exact where half of the hidden units is small or there is
    one hidden layer, else by annealing, which is below the truth on average.
    """
    return np.asarray(_clamped(key, machine, jnp.asarray(visible, jnp.int32), chains, levels, at_once))


@eqx.filter_jit
def _clamped(key, machine, visible, chains: int, levels: int, at_once: int):
    summed = min(sum(machine.sizes[1::2]), sum(machine.sizes[2::2])) <= SUMMED_UNITS

    def one(inputs):
        key, v = inputs
        below = v.astype(machine.biases[0].dtype) - machine.offsets.layers[0]
        hidden, own = machine.given_visible(v), below @ machine.biases[0]
        if summed:
            return (own + hidden.log_partition()).astype(float)
        first = independent(hidden)
        key_start, key_moves = jax.random.split(key)
        starts = independent_draws(key_start, first, chains)
        _, log_weights = jax.vmap(lambda k, x: annealed(k, first, hidden, x, levels))(
            jax.random.split(key_moves, chains), starts
        )
        mean = jax.nn.logsumexp(log_weights) - jnp.log(chains)
        return (own + independent_log_z(first) + mean).astype(float)

    keys = jax.random.split(key, len(visible))
    return jax.lax.map(one, (keys, visible), batch_size=at_once)


def annealed_loss(
    key: Key[Array, ""], machine: BoltzmannMachine, visible: Array, *, chains: int = 100, levels: int = 200
) -> Scalar:
    """- mean log p of rows (row, n_0) by short annealing, for a look while a machine learns; can be compiled.

    log Z is by ``chains`` of ``levels``, sums of rows by a twentieth of the chains (2 at least) and a quarter of the levels.
    """
    key_free, key_rows = jax.random.split(key)
    first = independent(machine)
    _, log_weights = _both_ways(key_free, first, machine, None, chains, levels)
    log_z = independent_log_z(first) + jax.nn.logsumexp(log_weights) - jnp.log(chains)
    few = max(2, chains // 20), max(1, levels // 4)
    return log_z - jnp.mean(_clamped(key_rows, machine, jnp.asarray(visible, jnp.int32), *few, 50))


class AnnealedMachine(Proposal):
    """Draws of a Boltzmann machine with honest weights: annealed importance sampling from its units without weights.

    u is that of a ``BoltzmannMachine`` at any beta; log w is absolute, E[w] = Z(beta). More ``levels`` make weights more equal.
    """

    levels: int = eqx.field(static=True, default=500)

    def __check_init__(self):
        if self.levels < 1:
            raise InvalidArgumentError(f"levels must be at least 1; found {self.levels}")

    def draw(self, key: Key[Array, ""], u: LogDensity) -> tuple[Array, Scalar]:
        machine, beta = machine_of(u)
        last = between(scaled(machine, 0.0), machine, beta)
        first = independent(last)
        key_start, key_moves = jax.random.split(key)
        x, log_weight = annealed(key_moves, first, last, independent_draws(key_start, first, 1)[0], self.levels)
        return x, log_weight + independent_log_z(first).astype(log_weight.dtype)


def scaled(machine: BoltzmannMachine, factor: float) -> BoltzmannMachine:
    """The machine of the energy ``factor`` U."""
    weights, biases = (tuple(factor * a for a in part) for part in (machine.weights, machine.biases))
    return BoltzmannMachine(weights=weights, biases=biases, offsets=machine.offsets)
