"""Independent chains of one kernel at one state, all in one compiled program."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel
from heatbath.process import Chunk
from heatbath.random import named_key, step_key
from heatbath.samplers import warmup
from heatbath.samplers.base import Cost, Sampled, Sampler
from heatbath.samplers.records import Representative, dimension, from_arrays, sample_axes, to_arrays
from heatbath.samplers.starts import start_energies, starts
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target


class Chain(NamedTuple):
    """What one chain carries: the kernel's state, step sizes in use and their average late in warm-up, and counts."""

    state: PyTree
    log_step: Array
    mean_log_step: Array
    acceptance: Array
    non_finite: Array
    evaluations: Array


class ChainsCarry(NamedTuple):
    """The state of a run: key data, number of steps done, and the chains (leading axis)."""

    key: Array
    step: Array
    chains: Chain


class ChainsSampler(Sampler):
    """``chains`` independent chains of ``kernel``: equally weighted draws in time order, axes (chain, draw).

    target, state:    what is sampled.
    kernel:           its step size is the start of the adaptation, when it has one and asks for it.
    draws:            recorded times per chain, ``thin`` kernel steps apart.
    warmup_steps:     kernel steps of warm-up (rounded up to whole chunks), 0 to take the kernel as it is.
    draws_per_chunk:  recorded times per ``advance``.
    initial:          start configuration, or one per chain, or None for ``target.initial``.
    dtype:            floating type of the walkers.
    canonical:        x -> x of the same u, applied to every chain at each record (wrapping, centring).
    method:           what the diagnostics call this.

    Production arrays: ``samples`` (draw, chain, ...) and ``energies`` (draw, chain).
    """

    target: Target
    state: ThermoState
    kernel: Kernel
    chains: int = eqx.field(static=True)
    draws: int = eqx.field(static=True)
    thin: int = eqx.field(static=True, default=1)
    warmup_steps: int = eqx.field(static=True, default=0)
    draws_per_chunk: int = eqx.field(static=True, default=100)
    initial: PyTree | None = None
    dtype: str = eqx.field(static=True, default="float32")
    canonical: Representative | None = eqx.field(static=True, default=None)
    method: str = eqx.field(static=True, default="chains")

    #: Warm-up is cut into this many chunks, for progress and checkpoints.
    WARMUP_CHUNKS = 10

    def __check_init__(self):
        for name in ("chains", "draws", "thin", "draws_per_chunk"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} must be at least 1; found {getattr(self, name)}")
        if self.warmup_steps < 0:
            raise InvalidArgumentError(f"warmup_steps must not be negative; found {self.warmup_steps}")

    @property
    def _u(self) -> ReducedEnergy:
        return ReducedEnergy(self.target, self.state)

    @property
    def _warmup_chunk(self) -> int:
        return -(-self.warmup_steps // self.WARMUP_CHUNKS)

    @property
    def _warmup_total(self) -> int:
        return self._warmup_chunk * self.WARMUP_CHUNKS

    @property
    def _recorded(self) -> int:
        return -(-self.draws // self.draws_per_chunk) * self.draws_per_chunk

    @property
    def _steps_total(self) -> int:
        return self._warmup_total + self._recorded * self.thin

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        leading = ("draw", "chain")
        return {**sample_axes(self.target.space, leading), "energies": leading}

    def cost(self) -> Cost:
        steps = self._steps_total * self.kernel.evaluations + self._recorded
        size = self._recorded * self.chains
        width = np.dtype(self.dtype).itemsize
        disk = size * width * (dimension(self.target.space) + 1)
        return Cost(self.chains * steps, 3 * disk + 8 * size, disk)

    # Driving ----------------------------------------------------------------------------------------------------------
    def begin(self, key: Key[Array, ""]) -> ChainsCarry:
        """Chains at their start. Raises ``NonFiniteError`` when a start has no finite energy."""
        shape = (self.chains,)
        positions = starts(self.target, named_key(key, "start"), self.initial, shape, self.dtype)
        start_energies(self.target, positions, shape)
        keys = jax.random.split(named_key(key, "kernel"), self.chains)
        states = eqx.filter_jit(_init_all)(self, keys, positions)
        scalar = states.reduced_energy.dtype
        step = 1.0 if self.kernel.step_size is None else self.kernel.step_size
        log_step = jnp.broadcast_to(jnp.log(jnp.asarray(step, scalar)), shape)
        chains = Chain(
            states,
            log_step,
            log_step,
            jnp.zeros(shape, scalar),
            jnp.zeros(shape, jnp.int32),
            jnp.full(shape, 2, jnp.int32),
        )
        return ChainsCarry(jax.random.key_data(named_key(key, "chains")), jnp.zeros((), jnp.int32), chains)

    def advance(self, carry: ChainsCarry) -> tuple[ChainsCarry, Chunk]:
        before = carry
        if int(carry.step) < self._warmup_total:
            carry, phase, arrays = _warmup_chunk(self, before), "warm-up", {}
        else:
            carry, (samples, energies) = _production_chunk(self, before)
            arrays, phase = {**to_arrays(samples), "energies": np.asarray(energies)}, "production"
        return carry, Chunk(phase, arrays, self._metrics(before, carry))

    def _metrics(self, before: ChainsCarry, after: ChainsCarry) -> dict[str, float]:
        old, new = (np.asarray(carry.chains.evaluations).sum(dtype=np.int64) for carry in (before, after))
        reduced = np.asarray(after.chains.state.reduced_energy, dtype=np.float64)
        with np.errstate(over="ignore"):  # dynamics that run away are reported as inf, not as a warning
            mean = float(reduced.mean())
        return {
            "evaluations": float(new - old),
            "mean_reduced_energy": mean,
            "acceptance": float(np.asarray(after.chains.acceptance).mean()),
            "non_finite": float(np.asarray(after.chains.non_finite).sum()),
        }

    def finished(self, carry: ChainsCarry) -> bool:
        return int(carry.step) >= self._steps_total

    def progress(self, carry: ChainsCarry) -> float:
        return min(1.0, int(carry.step) / self._steps_total)

    def collect(self, arrays: Mapping[str, np.ndarray], carry: ChainsCarry) -> Sampled:
        samples = jax.tree.map(lambda leaf: jnp.asarray(np.moveaxis(leaf, 1, 0)), from_arrays(arrays))
        energies = np.moveaxis(arrays["energies"], 1, 0).astype(np.float64)
        ensemble = Ensemble(
            samples, np.zeros(energies.shape), self.state, energies, axes=("chain", "draw"), bias=self.kernel.bias
        )
        return Sampled(ensemble, self._diagnostics(carry.chains))

    def _diagnostics(self, chains: Chain) -> dict[str, Any]:
        beta = float(self.state.beta)
        steps = {} if self.kernel.step_size is None else {"step_sizes": np.exp(np.asarray(chains.mean_log_step))}
        return {
            "method": self.method,
            "betas": np.array([beta]),
            "temperatures": np.array([self.state.temperature(self.target.unit)]),
            "chains": self.chains,
            "thin": self.thin,
            **steps,
            "acceptance": np.asarray(chains.acceptance),
            "non_finite": int(np.asarray(chains.non_finite).sum()),
            "evaluations": int(np.asarray(chains.evaluations).sum(dtype=np.int64)),
        }

    # One chain --------------------------------------------------------------------------------------------------------
    def _step(self, key: Array, chain: Chain) -> tuple[Chain, Array]:
        """One kernel step: the chain and its acceptance probability."""
        kernel = self.kernel.with_step_size(jnp.exp(chain.log_step))
        state, info = kernel.step(key, chain.state, self._u)
        chain = chain._replace(
            state=state,
            non_finite=chain.non_finite + (~info.finite).astype(jnp.int32),
            evaluations=chain.evaluations + info.evaluations.astype(jnp.int32),
        )
        return chain, info.acceptance

    def _warm(self, key: Array, start: Array, chain: Chain, index: Array) -> Chain:
        """The steps of a warm-up chunk; the acceptance is that of this chunk."""
        total, target = self._warmup_total, self.kernel.target_acceptance

        def one(chain, number):
            chain, acceptance = self._step(jax.random.fold_in(step_key(key, number), index), chain)
            if target is not None:
                log_step = warmup.adapted_log_step(chain.log_step, acceptance, target, number)
                mean = warmup.averaged(chain.mean_log_step, log_step, number, total // 2)
                chain = chain._replace(log_step=log_step, mean_log_step=mean)
            return chain, acceptance

        chain, acceptance = jax.lax.scan(one, chain, start + jnp.arange(self._warmup_chunk))
        return chain._replace(acceptance=acceptance.mean())

    def _produce(self, key: Array, start: Array, chain: Chain, index: Array):
        """The draws of a production chunk: the chain and (positions, energies), draw first."""

        def one(chain, number):
            return self._step(jax.random.fold_in(step_key(key, number), index), chain)

        def draw(chain, numbers):
            chain, acceptance = jax.lax.scan(one, chain, numbers)
            if self.canonical is not None:
                position = self.canonical(chain.state.position)
                chain = chain._replace(state=eqx.tree_at(lambda s: s.position, chain.state, position))
            energy = self.target.energy(chain.state.position)
            chain = chain._replace(evaluations=chain.evaluations + 1)
            return chain, (acceptance.mean(), chain.state.position, energy)

        numbers = start + jnp.arange(self.draws_per_chunk * self.thin).reshape(self.draws_per_chunk, self.thin)
        chain, (acceptance, positions, energies) = jax.lax.scan(draw, chain, numbers)
        done, new = start - self._warmup_total, numbers.size
        change = (acceptance.mean() - chain.acceptance) * (new / (done + new)).astype(chain.acceptance.dtype)
        return chain._replace(acceptance=chain.acceptance + change), (positions, energies)


def _init_all(sampler: ChainsSampler, keys: Array, positions: PyTree) -> PyTree:
    return jax.vmap(lambda key, x: sampler.kernel.init(key, x, sampler._u))(keys, positions)


@eqx.filter_jit
def _warmup_chunk(sampler: ChainsSampler, carry: ChainsCarry) -> ChainsCarry:
    key = jax.random.wrap_key_data(carry.key)
    batched = jax.vmap(sampler._warm, in_axes=(None, None, 0, 0))
    chains = batched(key, carry.step, carry.chains, jnp.arange(sampler.chains))
    end = carry.step + sampler._warmup_chunk
    fresh = chains._replace(
        log_step=chains.mean_log_step,
        acceptance=jnp.zeros_like(chains.acceptance),
        non_finite=jnp.zeros_like(chains.non_finite),
    )
    chains = jax.tree.map(lambda a, b: jnp.where(end >= sampler._warmup_total, a, b), fresh, chains)
    return ChainsCarry(carry.key, end, chains)


@eqx.filter_jit
def _production_chunk(sampler: ChainsSampler, carry: ChainsCarry):
    key = jax.random.wrap_key_data(carry.key)
    batched = jax.vmap(sampler._produce, in_axes=(None, None, 0, 0))
    chains, records = batched(key, carry.step, carry.chains, jnp.arange(sampler.chains))
    records = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), records)
    return ChainsCarry(carry.key, carry.step + sampler.draws_per_chunk * sampler.thin, chains), records
