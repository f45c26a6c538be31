"""Block Gibbs sampling of layered Boltzmann machines, its zero-temperature limit, and the starts that are made from modes."""

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import PointState, decide
from heatbath.state import LogDensity, ReducedEnergy
from heatbath.targets.boltzmann_machines import BoltzmannMachine


class MachineKernel(Kernel):
    """A kernel of Boltzmann machines: its state is a configuration with its energy."""

    def init(self, key: Key[Array, ""], x: Array, u: LogDensity) -> PointState:
        machine_of(u)
        return PointState(x, u(x))


class BlockGibbs(MachineKernel):
    """One sweep: all units of the even layers anew given the odd ones, then the odd ones given the even ones.

    scan: ``"random"`` lets a coin say which half comes first (reversible), ``"sequential"`` always takes the odd layers first, so
    that hidden units follow the visible ones (invariant, not reversible).
    """

    scan: Literal["random", "sequential"] = eqx.field(static=True, default="random")

    def __check_init__(self):
        if self.scan not in ("random", "sequential"):
            raise InvalidArgumentError(f"scan must be 'random' or 'sequential'; found {self.scan!r}")

    @property
    def evaluations(self) -> int:
        return 2

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        machine, beta = machine_of(u)
        key_order, *keys = jax.random.split(key, 3)
        x = half_sweeps(keys, machine, state.position, beta, self.first(key_order))
        energy = u(x)
        finite = jnp.isfinite(energy)
        info = KernelInfo(jnp.ones((), energy.dtype), jnp.ones((), bool), finite, jnp.asarray(2, jnp.int32))
        return PointState(x, energy), info

    def first(self, key: Key[Array, ""]) -> Int[Array, ""] | int:
        """Which half is drawn first: 0 for the even layers. A plain number where it is known, which halves the work."""
        return jax.random.randint(key, (), 0, 2) if self.scan == "random" else 1


class UniformMetropolis(Kernel):
    """Metropolis with a configuration drawn uniformly from integers 0..k-1: x' accepted with min(1, exp(u(x) - u(x'))).

    The move of the published unbiased estimator. Its acceptance falls exponentially with the number of sites: for tiny systems.
    Source: arXiv 2305.19684, section 4.
    """

    k: int = eqx.field(static=True, default=2)

    def init(self, key: Key[Array, ""], x: Array, u: LogDensity) -> PointState:
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise InvalidArgumentError(f"UniformMetropolis moves integers 0..{self.k - 1}; found the type {x.dtype}")
        return PointState(x, u(x))

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        key_place, key_accept = jax.random.split(key)
        x = jax.random.randint(key_place, state.position.shape, 0, self.k, state.position.dtype)
        energy = u(x)
        finite = jnp.isfinite(energy)
        accepted, probability = decide(key_accept, state.reduced_energy - energy, finite, state.reduced_energy)
        new = PointState(jnp.where(accepted, x, state.position), jnp.where(accepted, energy, state.reduced_energy))
        return new, KernelInfo(probability, accepted, finite, jnp.asarray(1, jnp.int32))


def clamped_means(machine: BoltzmannMachine, visible: Array, beta: Scalar, rounds: int) -> list[Array]:
    """Mean-field means of the layers with ``visible`` clamped, odd layers before even ones, ``rounds`` times from one half.

    They stay a millionth away from 0 and 1, so that coins with them can show either side.
    """
    dtype, hidden = machine.biases[0].dtype, machine.given_visible(visible)
    layers = [jnp.full(size, 0.5, dtype) for size in hidden.sizes]
    for _ in range(rounds):
        for index in (*range(0, len(layers), 2), *range(1, len(layers), 2)):
            layers[index] = jnp.clip(jax.nn.sigmoid(beta * hidden.field(layers, index)), 1e-6, 1 - 1e-6)
    return [visible.astype(dtype), *layers]


def local_mode(key: Key[Array, ""], machine: BoltzmannMachine, x: Array) -> tuple[Array, Int[Array, ""]]:
    """The mode reached from ``x`` at zero temperature and the sweeps it took: s <- 1 where its field is >= 0, half by half.

    The energy never rises. A field of zero turns a unit on and never off, so that ties cannot circle and the search ends.
    A coin says once which half comes first. Source: arXiv 2305.19684, algorithm 1.
    """
    first = jax.random.randint(key, (), 0, 2)

    def sweep(carry):
        x, _, count = carry
        new = x
        for half in (first, 1 - first):
            new = jnp.where(in_half(machine, half), fields(machine, new) >= 0, new).astype(x.dtype)
        return new, jnp.any(new != x), count + 1

    x, _, count = jax.lax.while_loop(lambda carry: carry[1], sweep, (x, jnp.ones((), bool), jnp.zeros((), jnp.int32)))
    return x, count


def start_at_mode(key: Key[Array, ""], machine: BoltzmannMachine) -> Array:
    """A start for short chains: random bits, down to their local mode, then one sweep of block Gibbs at beta = 1."""
    key_bits, key_mode, key_sweep = jax.random.split(key, 3)
    bits = jax.random.bernoulli(key_bits, shape=(machine.units,)).astype(jnp.int32)
    mode, _ = local_mode(key_mode, machine, bits)
    return sweep_once(key_sweep, machine, mode)


def sweep_once(key: Key[Array, ""], machine: BoltzmannMachine, x: Array) -> Array:
    """One reversible sweep of block Gibbs at beta = 1."""
    key_order, *keys = jax.random.split(key, 3)
    return half_sweeps(keys, machine, x, 1.0, jax.random.randint(key_order, (), 0, 2))


def half_sweeps(
    keys: Sequence[Key[Array, ""]],
    machine: BoltzmannMachine,
    x: Array,
    beta: Scalar | float,
    first: Int[Array, ""] | int,
) -> Array:
    """Both halves of the layers anew, ``first`` (0: even, 1: odd) before the other."""
    for key, half in zip(keys, (first, 1 - first), strict=True):
        x = half_sweep(key, machine, x, beta, half)
    return x


def half_sweep(
    key: Key[Array, ""], machine: BoltzmannMachine, x: Array, beta: Scalar | float, half: Int[Array, ""] | int
) -> Array:
    """The even (0) or odd (1) layers anew, given the others. Where ``half`` is a plain number, nothing else is computed."""
    if not isinstance(half, int):
        uniforms = jax.random.uniform(key, x.shape, machine.biases[0].dtype)
        return jnp.where(in_half(machine, half), uniforms < probabilities(machine, x, beta), x).astype(x.dtype)
    layers, beta = list(machine.split(x)), jnp.asarray(beta, machine.biases[0].dtype)
    for index in range(half, len(layers), 2):
        p = jax.nn.sigmoid(beta * machine.field(layers, index))
        layers[index] = (jax.random.uniform(jax.random.fold_in(key, index), p.shape, p.dtype) < p).astype(x.dtype)
    return jnp.concatenate(layers)


def machine_of(u: LogDensity) -> tuple[BoltzmannMachine, Scalar]:
    """The machine and beta of u. Raises ``InvalidArgumentError`` for anything else, whose halves are not independent."""
    if not (isinstance(u, ReducedEnergy) and isinstance(u.target, BoltzmannMachine) and u.state.bias is None):
        raise InvalidArgumentError(
            "block Gibbs moves need u = beta U of a BoltzmannMachine without a bias; use Gibbs elsewhere"
        )
    return u.target, u.state.beta


def in_half(machine: BoltzmannMachine, half: Int[Array, ""] | int) -> Array:
    """(units,) whether a unit lies in the even (0) or odd (1) layers."""
    return jnp.concatenate([jnp.full(size, index % 2) for index, size in enumerate(machine.sizes)]) == half


def fields(machine: BoltzmannMachine, x: Array) -> Array:
    """(units,) the field on every unit."""
    layers = machine.split(x)
    return jnp.concatenate([machine.field(layers, index) for index in range(len(layers))])


def probabilities(machine: BoltzmannMachine, x: Array, beta: Scalar | float) -> Array:
    """(units,) the probability of a one for every unit given its neighbours."""
    return jax.nn.sigmoid(jnp.asarray(beta, machine.biases[0].dtype) * fields(machine, x))
