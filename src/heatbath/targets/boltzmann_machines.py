"""Boltzmann machines in layers: restricted (one hidden layer) and deep ones, with exact sums while they are small.

A configuration is one vector of bits, layer after layer, visible units first. Units of one layer do not interact, so that all
even layers are independent given the odd ones and the other way round: block Gibbs moves and sums over half of the units.
"""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.spaces import Discrete
from heatbath.targets.base import Observable, Target

#: Most units that are summed over one by one (the smaller half of a machine), and whose configurations are drawn by their list.
SUMMED_UNITS, LISTED_UNITS = 20, 14


class Offsets(eqx.Module):
    """Centres of the units, one array per layer; constants of a machine that training leaves alone."""

    frozen: ClassVar[bool] = True

    layers: tuple[Float[Array, " _"], ...]


class BoltzmannMachine(Target):
    """U(s) = -sum_i b_i.(s_i - o_i) - sum_i (s_i - o_i)^T W_i (s_{i+1} - o_{i+1}) over layers s_0 (visible), ..., bits 0 or 1.

    ``weights`` W_i (n_i, n_{i+1}), ``biases`` b_i (n_i,), ``offsets`` o_i (n_i,): zero, or the means of the units (centring,
    which changes how the machine learns, not what it can say). The law is exp(-U) at beta = 1. Truths: ``log_z`` where the
    smaller half of the layers (even or odd) has at most 20 units, ``mean`` up to 20 units in all, ``sample`` up to 14.
    Source: arXiv 2305.19684, equation 1; centring: 1203.3783.
    """

    space: Discrete
    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    offsets: Offsets

    def __init__(self, weights: Sequence[Array], biases: Sequence[Array], offsets: Offsets):
        self.weights, self.biases, self.offsets = tuple(weights), tuple(biases), offsets
        self.space = Discrete((sum(bias.shape[0] for bias in self.biases),), 2)

    def __check_init__(self):
        sizes = self.sizes
        fits = all(w.shape == pair for w, pair in zip(self.weights, itertools.pairwise(sizes), strict=False))
        if not sizes or len(self.weights) != len(sizes) - 1 or not fits:
            raise InvalidArgumentError(
                f"expected biases per layer and a matrix between layers; found layers {sizes} and matrices "
                f"{[w.shape for w in self.weights]}"
            )
        if tuple(o.shape[0] for o in self.offsets.layers) != sizes:
            raise InvalidArgumentError(f"expected one offset per unit of the layers {sizes}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each layer."""
        return tuple(bias.shape[0] for bias in self.biases)

    @property
    def units(self) -> int:
        """Number of all units."""
        return sum(self.sizes)

    def split(self, x: Array) -> tuple[Array, ...]:
        """The layers of a configuration (any axes may come before the last)."""
        return tuple(jnp.split(x, np.cumsum(self.sizes)[:-1].tolist(), axis=-1))

    def energy(self, x):
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else self.biases[0].dtype
        layers = [s.astype(dtype) - o.astype(dtype) for s, o in zip(self.split(x), self.offsets.layers, strict=True)]
        own = (s @ b.astype(dtype) for s, b in zip(layers, self.biases, strict=True))
        total = sum(own, start=jnp.zeros((), dtype))
        for below, above, weight in zip(layers[:-1], layers[1:], self.weights, strict=True):
            total = total + (below @ weight.astype(dtype)) @ above
        return -total

    def field(self, layers: Sequence[Array], index: int) -> Float[Array, " n"]:
        """-dU/ds of the units of one layer given its neighbours: p(s = 1 | the rest) = 1/(1 + exp(-beta field))."""
        dtype, field = self.biases[index].dtype, self.biases[index]
        if index > 0:
            below = layers[index - 1].astype(dtype) - self.offsets.layers[index - 1]
            field = field + below @ self.weights[index - 1]
        if index + 1 < len(self.sizes):
            above = layers[index + 1].astype(dtype) - self.offsets.layers[index + 1]
            field = field + self.weights[index] @ above
        return field

    def conditional_energies(self, x, site):
        """(2,) the energy with unit ``site`` off and on, up to one constant: for single-site Gibbs moves."""
        layers = self.split(x)
        field = jnp.concatenate([self.field(layers, index) for index in range(len(layers))])[site]
        return jnp.stack([jnp.zeros_like(field), -field])

    def given_visible(self, visible: Array) -> "BoltzmannMachine":
        """The machine of the hidden layers with the visible one clamped: U(visible, h) up to a constant."""
        below = visible.astype(self.biases[0].dtype) - self.offsets.layers[0]
        first = self.biases[1] + below @ self.weights[0]
        biases, offsets = (first, *self.biases[2:]), Offsets(self.offsets.layers[1:])
        return BoltzmannMachine(weights=self.weights[1:], biases=biases, offsets=offsets)

    def log_hidden_sum(self, visible: Array, beta: float | Scalar = 1.0) -> Scalar:
        """log sum_h exp(-beta U(visible, h)): a formula for one hidden layer, a sum over the smaller half for more."""
        below = visible.astype(self.biases[0].dtype) - self.offsets.layers[0]
        return beta * (below @ self.biases[0]) + self.given_visible(visible).log_partition(beta)

    def observables(self):
        return {
            "activity": Observable(lambda x: jnp.mean(x.astype(float)), "share of units that are on", range=(0.0, 1.0))
        }

    # Truths -----------------------------------------------------------------------------------------------------------
    def knows(self, truth):
        if truth == "log_z":
            return self._summed() <= SUMMED_UNITS
        if truth in ("mean", "sample"):
            return self.units <= (SUMMED_UNITS if truth == "mean" else LISTED_UNITS)
        return super().knows(truth)

    def log_partition(self, beta: float | Scalar = 1.0) -> Scalar:
        """log sum_s exp(-beta U(s)), differentiable: the smaller half of layers is listed, the other half is summed."""
        self._require(self._summed(), SUMMED_UNITS)
        half = self._half()
        own = [index for index in range(len(self.sizes)) if index % 2 == half]
        if not own:  # a single layer: no unit depends on another
            return self.log_half_sum([], own, beta)
        widths = [self.sizes[index] for index in own]
        total = sum(widths)

        def of_one(number):
            bits = (number >> np.arange(total - 1, -1, -1)) & 1
            # layers that are summed over are never looked at
            layers = [jnp.zeros(size, bits.dtype) for size in self.sizes]
            for index, part in zip(own, jnp.split(bits, np.cumsum(widths)[:-1].tolist()), strict=True):
                layers[index] = part
            return self.log_half_sum(layers, own, beta)

        # chunks bound the memory; a remainder would compile the body twice
        chunk = min(2**total, 2**12)
        values = jax.lax.map(jax.vmap(of_one), jnp.arange(2**total).reshape((-1, chunk)))
        return jax.nn.logsumexp(values)

    def log_likelihood(self, visible: Array) -> Scalar:
        """log p(visible), exact and differentiable, for machines that are small enough (hidden ones too)."""
        return self.log_hidden_sum(visible) - self.log_partition()

    def log_z(self, beta):
        return float(_log_partition(self, float(beta)))

    def mean(self, observable, beta):
        self._require(self.units, SUMMED_UNITS)
        with jax.enable_x64(True):  # noqa: FBT003
            numbers = jnp.arange(2**self.units)
            found = jax.lax.map(
                lambda n: (self.energy(self.configuration(n)), observable(self.configuration(n))),
                numbers,
                batch_size=2**12,
            )
        energies, values = (np.asarray(part, dtype=np.float64) for part in found)
        weights = np.exp(-float(beta) * (energies - energies.min()))
        return float(np.sum(weights * values) / weights.sum())

    def sample(self, key: Key[Array, ""], beta):
        self._require(self.units, LISTED_UNITS)
        energies = jax.vmap(lambda n: self.energy(self.configuration(n)))(jnp.arange(2**self.units))
        return self.configuration(jax.random.categorical(key, -beta * energies))

    def configuration(self, number):
        """The configuration with a number in 0 .. 2^units - 1; the last unit changes fastest."""
        return (number >> np.arange(self.units - 1, -1, -1)) & 1

    def log_half_sum(self, layers: Sequence[Array], own: Sequence[int], beta: float | Scalar = 1.0) -> Scalar:
        """log of exp(-beta U) with the layers ``own`` (all even ones, or all odd ones) fixed and all others summed over."""
        total = jnp.zeros((), self.biases[0].dtype)
        for index in range(len(self.sizes)):
            offset = self.offsets.layers[index]
            if index in own:
                total = total + beta * (layers[index] - offset) @ self.biases[index]
            else:
                field = self.field(layers, index)
                total = total + jnp.sum(jax.nn.softplus(beta * field) - beta * offset * field)
        return total

    def _half(self) -> int:
        """0 when the even layers hold fewer units than the odd ones, else 1."""
        return 0 if sum(self.sizes[::2]) < sum(self.sizes[1::2]) else 1

    def _summed(self) -> int:
        return min(sum(self.sizes[::2]), sum(self.sizes[1::2]))

    def _require(self, units: int, limit: int) -> None:
        if units > limit:
            raise UnknownTruthError(
                f"a sum over 2^{units} configurations is too long (limit 2^{limit}); ask target.knows first"
            )


@eqx.filter_jit
def _log_partition(machine: BoltzmannMachine, beta: float) -> Scalar:
    return machine.log_partition(beta)


def boltzmann_machine(
    sizes: Sequence[int] = (6, 4, 3), *, scale: float = 0.7, seed: int = 0, visible_means=None, dtype=float
) -> BoltzmannMachine:
    """A machine with layers of ``sizes``, visible first, weights N(0, scale^2) and biases N(0, (scale/2)^2).

    With ``visible_means`` (n_0,) in (0, 1), e.g. of data, it starts for learning: biases zero except log(p/(1-p)) of the visible
    units, and centred at the means of its units. Raises ``InvalidArgumentError`` for impossible sizes or means.
    """
    sizes = tuple(int(size) for size in sizes)
    if len(sizes) < 2 or min(sizes) < 1:
        raise InvalidArgumentError(f"a machine has a visible and a hidden layer at least, none empty; found {sizes}")
    rng = np.random.default_rng(seed)
    weights = tuple(jnp.asarray(scale * rng.normal(size=pair), dtype) for pair in itertools.pairwise(sizes))
    if visible_means is None:
        biases = tuple(jnp.asarray(0.5 * scale * rng.normal(size=size), dtype) for size in sizes)
        offsets = Offsets(tuple(jnp.zeros(size, dtype) for size in sizes))
        return BoltzmannMachine(weights=weights, biases=biases, offsets=offsets)
    means = np.asarray(visible_means, dtype=np.float64)
    if means.shape != sizes[:1] or not ((means > 0) & (means < 1)).all():
        raise InvalidArgumentError(f"visible_means must be {sizes[0]} numbers in (0, 1); found shape {means.shape}")
    biases = (jnp.asarray(np.log(means / (1 - means)), dtype), *(jnp.zeros(size, dtype) for size in sizes[1:]))
    centres = (jnp.asarray(means, dtype), *(jnp.full(size, 0.5, dtype) for size in sizes[1:]))
    return BoltzmannMachine(weights=weights, biases=biases, offsets=Offsets(centres))


def orthogonal_weights(machine: BoltzmannMachine, *, gain: float = 1.0, seed: int = 0) -> BoltzmannMachine:
    """The machine with weights of orthonormal rows or columns, times ``gain`` (the published start of learning)."""
    rng = np.random.default_rng(seed)

    def one(weight):
        tall = rng.normal(size=(max(weight.shape), min(weight.shape)))
        q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diag(r))
        return jnp.asarray(gain * (q if weight.shape[0] >= weight.shape[1] else q.T), weight.dtype)

    return eqx.tree_at(lambda m: m.weights, machine, tuple(one(weight) for weight in machine.weights))


def bits_per_dimension(nats: float, dimension: int) -> float:
    """A negative log likelihood in nats as bits per coordinate."""
    return nats / (dimension * math.log(2))
