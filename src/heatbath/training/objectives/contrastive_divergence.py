"""Learning Boltzmann machines: contrastive divergence, persistent contrastive divergence, and the unbiased gradient.

All of them estimate -grad log p(v) = E[grad U | v] - E[grad U], the first mean with the data clamped, the second free. Their loss
is sum_i w_i U(s_i) over states that are held fixed: its gradient is the estimate, its value means nothing.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.block_gibbs import clamped_means, half_sweeps, start_at_mode
from heatbath.kernels.coupled import CoupledRun, Coupling, MaximalBlockGibbs, coupled_chains
from heatbath.kernels.visible_proposal import renewed
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.boltzmann_machines import BoltzmannMachine
from heatbath.training.objectives.base import Objective
from heatbath.training.trainable import trainable


class ContrastiveDivergence(Objective):
    """CD-k: free states are ``steps`` sweeps of block Gibbs away from the clamped ones. Biased; less so for more steps.

    Clamped hidden units are drawn exactly in a machine with one hidden layer, else by ``clamped_steps`` sweeps from a draw of
    mean field.
    Source: Hinton, Neural Computation 14, 1771 (2002).
    """

    steps: int = eqx.field(static=True, default=1)
    clamped_steps: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        _check_steps(self.steps, self.clamped_steps)

    def __call__(self, key, model: BoltzmannMachine, batch: Array):
        key_clamped, key_free = jax.random.split(key)
        clamped = clamped_states(key_clamped, model, batch, self.clamped_steps)
        free = sweeps(key_free, model, clamped, self.steps)
        return difference(model, clamped, free), {}


class PersistentMachine(eqx.Module):
    """A machine and the chains that follow it while it learns; ``particles`` (chain, units) are bits kept as floats.

    The particles are moved by the optimiser, see ``persistent_optimiser``.
    """

    machine: BoltzmannMachine
    particles: Float[Array, "chain unit"]


class PersistentContrastiveDivergence(Objective):
    """PCD: free states are ``steps`` sweeps away from where they were at the last update, and are kept.

    The model is a ``PersistentMachine``, the optimiser a ``persistent_optimiser``: the gradient for the particles is old - new,
    which a rate of one turns into new. Use ``Fitted.latest``: an average of particles is none. Source: Tieleman, ICML 2008.
    """

    steps: int = eqx.field(static=True, default=1)
    clamped_steps: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        _check_steps(self.steps, self.clamped_steps)

    def __call__(self, key, model: PersistentMachine, batch: Array):
        key_clamped, key_free = jax.random.split(key)
        machine = jax.lax.stop_gradient(model.machine)
        clamped = clamped_states(key_clamped, machine, batch, self.clamped_steps)
        old = jax.lax.stop_gradient(model.particles)
        free = sweeps(key_free, machine, old.astype(jnp.int32), self.steps)
        move = jnp.sum(model.particles * (old - free.astype(old.dtype)))
        return difference(model.machine, clamped, free) + move, {}


def persistent_machine(key: Key[Array, ""], machine: BoltzmannMachine, chains: int) -> PersistentMachine:
    """``machine`` with ``chains`` particles of random bits."""
    bits = jax.random.bernoulli(key, shape=(chains, machine.units))
    return PersistentMachine(machine, bits.astype(machine.biases[0].dtype))


def persistent_optimiser(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """``inner`` for the machine; the particles go where the objective says."""

    def labels(params: PersistentMachine) -> PyTree:
        parts = (jax.tree.map(lambda leaf: "machine", params.machine), "particles")
        return eqx.tree_at(lambda m: (m.machine, m.particles), params, parts)

    return optax.multi_transform({"machine": inner, "particles": optax.sgd(1.0)}, labels)


def _check_steps(*counts: int) -> None:
    if min(counts) < 1:
        raise InvalidArgumentError(f"steps and clamped_steps must be at least 1; found {list(counts)}")


class UnbiasedContrastiveDivergence(Objective):
    """The gradient of the log likelihood without bias: both means from coupled chains, H_{k:m} of one pair per datum and phase.

    ``pairs``: how many free pairs (None: one per datum). Few long pairs have less variance than many short ones at one cost.

    With one hidden layer the clamped mean is exact and needs no chains. Clamped chains start at local modes; free ones do too,
    or, with ``start`` "data", at the datum with hidden units from a clamped mode. Any start is unbiased; one from data has far
    less variance once the machine has learned them. Pairs that have not met at ``cap`` are cut off, which biases what they give:
    their share is the metric ``truncated``, that of free pairs ``truncated_free``, ``meeting_time`` the mean time of free pairs.
    Clamped chains are followed by ``clamped_coupling`` with (k, m) = ``clamped_window`` where these are given: they meet sooner.
    Sources: arXiv 2305.19684 (modes); Qiu, Zhang and Wang, ICLR 2020 (data).
    """

    coupling: Coupling = MaximalBlockGibbs()
    k: int = eqx.field(static=True, default=1)
    m: int = eqx.field(static=True, default=1)
    cap: int = eqx.field(static=True, default=100)
    start: Literal["mode", "data"] = eqx.field(static=True, default="mode")
    pairs: int | None = eqx.field(static=True, default=None)
    clamped_coupling: Coupling | None = None
    clamped_window: tuple[int, int] | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.pairs is not None and self.pairs < 1:
            raise InvalidArgumentError(f"pairs must be at least 1; found {self.pairs}")
        if self.start not in ("mode", "data"):
            raise InvalidArgumentError(f"start must be 'mode' or 'data'; found {self.start!r}")
        for k, m in ((self.k, self.m), self.clamped_window or (self.k, self.m)):
            if not 0 <= k <= m < self.cap:
                raise InvalidArgumentError(f"expected 0 <= k <= m < cap; found k = {k}, m = {m}, cap = {self.cap}")

    def __call__(self, key, model: BoltzmannMachine, batch: Array):
        key_clamped, key_data, key_free = jax.random.split(key, 3)
        fixed = jax.lax.stop_gradient(model)
        visible, params = batch.astype(jnp.int32), eqx.filter(model, trainable(model))
        pairs, starts = len(batch) if self.pairs is None else self.pairs, None
        if self.start == "data":
            rows = visible[jnp.arange(pairs) % len(batch)]
            hidden = jax.vmap(lambda key, v: start_at_mode(key, fixed.given_visible(v)))
            starts = jnp.concatenate([rows, hidden(jax.random.split(key_data, pairs), rows)], axis=1)
        free = self.gradient(key_free, fixed, pairs, starts=starts)
        cut = cut_free = jnp.mean(~free.met)
        if len(fixed.sizes) == 2:  # the clamped mean is known
            loss = jnp.mean(jax.vmap(lambda v: -model.log_hidden_sum(v))(visible))
        else:
            clamped = self.gradient(key_clamped, fixed, len(batch), visible=visible)
            loss, cut = inner(params, clamped.total) / len(batch), 0.5 * (cut + jnp.mean(~clamped.met))
        loss = loss - inner(params, free.total) / pairs
        meeting_time = jnp.mean(free.meeting.astype(float))
        return loss, {"truncated": cut, "truncated_free": cut_free, "meeting_time": meeting_time}

    def gradient(self, key, machine, count: int, *, visible=None, starts=None) -> CoupledRun:
        """Sum over ``count`` pairs of H_{k:m} of grad U; with ``visible`` (count, n_0) these units stay, one row per pair.

        Chains start at ``starts`` (count, moved units), or at local modes.
        """
        key_start, key_init, key_run = jax.random.split(key, 3)
        rows = jnp.zeros((count, 0), jnp.int32) if visible is None else visible

        def followed(row):
            return machine if visible is None else machine.given_visible(row)

        def density(row):
            return ReducedEnergy(followed(row), ThermoState(1.0))

        def added(total, positions, weights, rows):
            def weighted(params):
                model = eqx.combine(params, machine)
                energies = jax.vmap(lambda row, x: marginal_energy(model, jnp.concatenate([row, x]), len(row) > 0))
                return jnp.sum(weights.astype(model.biases[0].dtype) * energies(rows, positions))

            return jax.tree.map(jnp.add, total, jax.grad(weighted)(eqx.filter(machine, trainable(machine))))

        if starts is None:
            starts = jax.vmap(lambda k, row: start_at_mode(k, followed(row)))(jax.random.split(key_start, count), rows)
        coupling, (k, m) = self.coupling, (self.k, self.m)
        if visible is not None:
            coupling, (k, m) = self.clamped_coupling or coupling, self.clamped_window or (k, m)
        kernel = coupling.kernel

        def shared(keys):
            """The coupling of one step, with what all free pairs share in it."""
            return coupling if visible is not None else renewed(jax.random.fold_in(keys[0], 1), coupling, density(None))

        def first_step(keys, xs, rows):
            own = shared(keys).kernel
            return jax.vmap(lambda k, x, row: own.step(k, x, density(row))[0])(keys, xs, rows)

        def both_step(keys, xs, ys, rows):
            own = shared(keys)
            return jax.vmap(lambda k, x, y, row: own.step(k, x, y, density(row)))(keys, xs, ys, rows)

        states = jax.vmap(lambda k, x, row: kernel.init(k, x, density(row)))(
            jax.random.split(key_init, count), starts, rows
        )
        return coupled_chains(
            key_run,
            first_step,
            both_step,
            states,
            states,
            added,
            jax.tree.map(jnp.zeros_like, eqx.filter(machine, trainable(machine))),
            rows=rows,
            k=k,
            m=m,
            cap=self.cap,
        )


def inner(params: PyTree, gradient: PyTree) -> Scalar:
    """sum_i p_i g_i, a number whose gradient for p is g."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True)
    return jnp.sum(jnp.stack([jnp.sum(p * g) for p, g in pairs]))


def clamped_states(key: Key[Array, ""], machine: BoltzmannMachine, visible: Array, steps: int) -> Array:
    """States (n, units): visible units of the data, hidden units by ``steps`` clamped sweeps from draws of mean field."""
    machine = jax.lax.stop_gradient(machine)
    count = 1 if len(machine.sizes) == 2 else steps

    def one(key, v):
        key_bits, key_sweeps = jax.random.split(key)
        hidden = machine.given_visible(v)
        means = jnp.concatenate(clamped_means(machine, v, jnp.ones((), machine.biases[0].dtype), 5)[1:])
        bits = jax.random.bernoulli(key_bits, means).astype(jnp.int32)
        keys = jax.random.split(key_sweeps, (count, 2))
        bits, _ = jax.lax.scan(lambda h, k: (half_sweeps([*k], hidden, h, 1.0, 0), None), bits, keys)
        return jnp.concatenate([v.astype(jnp.int32), bits])

    return jax.vmap(one)(jax.random.split(key, len(visible)), visible)


def sweeps(key: Key[Array, ""], machine: BoltzmannMachine, states: Array, steps: int) -> Array:
    """``steps`` free sweeps of every state; hidden units first, as is usual."""
    machine = jax.lax.stop_gradient(machine)

    def one(key, x):
        moved, _ = jax.lax.scan(
            lambda s, k: (half_sweeps([*k], machine, s, 1.0, 1), None), x, jax.random.split(key, (steps, 2))
        )
        return moved

    return jax.vmap(one)(jax.random.split(key, len(states)), states)


def difference(machine: BoltzmannMachine, clamped: Array, free: Array) -> Scalar:
    """Mean U over clamped states minus mean U over free ones; its gradient is minus that of the log likelihood."""
    held = jnp.mean(jax.vmap(lambda x: marginal_energy(machine, x, True))(clamped))  # noqa: FBT003
    return held - jnp.mean(jax.vmap(lambda x: marginal_energy(machine, x))(free))


def marginal_energy(machine: BoltzmannMachine, x: Array, clamped: bool = False) -> Scalar:  # noqa: FBT001, FBT002
    """An energy whose gradient has the mean of that of U, with less variance, because units are summed over given the others.

    With one hidden layer the hidden units are; with more, the mean of two sums: over the odd layers and over the even ones,
    ``clamped`` visible units apart.
    """
    layers = machine.split(x)
    if len(layers) == 2:
        return -machine.log_hidden_sum(layers[0])
    moved, rest, own = machine, layers, jnp.zeros((), machine.biases[0].dtype)
    if clamped:
        moved, rest = machine.given_visible(layers[0]), layers[1:]
        own = (layers[0].astype(own.dtype) - machine.offsets.layers[0]) @ machine.biases[0]
    halves = (range(parity, len(rest), 2) for parity in (0, 1))
    return -own - 0.5 * sum(moved.log_half_sum(rest, half) for half in halves)
