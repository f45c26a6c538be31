"""Replica exchange: independent ladders of temperatures, all in one compiled program.

L ladders of R rungs; a walker at every rung. A round moves every walker with its rung's kernel and then offers exchanges
to neighbouring rungs of the same ladder, even and odd pairs in turn. Ladders never meet, so the L ladders are independent chains,
errors come from their spread, and the ladder axis may be laid over several devices or machines without any communication.
Warm-up (``warmup.py``) finds step sizes and the spacing of the ladder; production has both frozen.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel
from heatbath.kernels.positions import choose
from heatbath.process import Chunk
from heatbath.random import named_key, step_key
from heatbath.samplers import warmup
from heatbath.samplers.base import Cost, Sampled, Sampler
from heatbath.samplers.exchange import Exchange, PlainExchange, Trips, no_trips, swap, travelled
from heatbath.samplers.placement import LADDER_AXIS, gathered, placed
from heatbath.samplers.records import Representative, dimension, from_arrays, sample_axes, to_arrays
from heatbath.samplers.starts import start_energies, starts
from heatbath.samplers.weighting import ladder_ensemble, unstacked
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target


class Ladder(NamedTuple):
    """Everything that one ladder carries; in the sampler's carry every array has a leading ladder axis.

    positions, energies:   configurations and U of them, per rung.
    walkers:               which walker sits at each rung.
    log_steps:             logarithms of the step sizes in use, per rung; mean_log_steps their average late in warm-up.
    acceptance:            mean acceptance per rung, over the rounds of production so far.
    swap_acceptance:       mean exchange probability per pair, over swap_attempts.
    non_finite:            moves that met an energy that is not finite; evaluations counts energy evaluations, per rung.
    trips:                 round trips, per walker.
    """

    positions: PyTree
    energies: Array
    walkers: Array
    log_steps: Array
    mean_log_steps: Array
    acceptance: Array
    swap_acceptance: Array
    swap_attempts: Array
    non_finite: Array
    evaluations: Array
    trips: Trips


class ReplicaCarry(NamedTuple):
    """The state of a run: key data, number of rounds done, inverse temperatures (rung,), and the ladders."""

    key: Array
    round: Array
    betas: Array
    ladders: Ladder


class Moved(NamedTuple):
    """What the moves of one round did at one rung."""

    position: PyTree
    energy: Array
    acceptance: Array
    non_finite: Array
    evaluations: Array


class ReplicaExchangeSampler(Sampler):
    """Replica exchange over temperatures with any kernel.

    target, state:     what is sampled; rung 0 is the asked state.
    kernel:            moves of every rung; its step size is the start of the adaptation.
    betas:             (rungs,) inverse temperatures, positive and never rising; the first is ``state.beta``.
    biases:            bias of every rung, a module whose arrays have a leading rung axis; None to have the bias of
                       ``state`` on every rung. With unequal biases the exchange is Hamiltonian replica exchange.
    ladders:           independent ladders L.
    draws:             recorded times per ladder; every rung is recorded each time.
    thin:              rounds between two recorded times; ``steps_per_round`` kernel steps make one round.
    warmup_rounds:     rounds of warm-up (rounded up to whole chunks of warm-up), 0 to take kernel and ladder as they are.
    adapt_ladder:      move the inner rungs towards equal exchange rates during warm-up.
    draws_per_chunk:   recorded times per ``advance``.
    initial:           start configuration, or one per (ladder, rung), or None for ``target.initial``.
    dtype:             floating type of the walkers.
    exchange:          how neighbours trade configurations: as they are, or by a map (``flow_exchange.FlowSwap``).
    canonical:         x -> x of the same u, applied to every walker once a round (wrapping, centring).
    mesh:              devices over which ladders are spread (one axis named "ladder"), or None.

    Production arrays: ``samples`` (draw, ladder, rung, ...), ``energies`` and ``walker`` (draw, ladder, rung).
    Source: Swendsen & Wang, PRL 57, 2607 (1986); Hukushima & Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996).
    """

    target: Target
    state: ThermoState
    kernel: Kernel
    betas: Float[Array, " rung"] = eqx.field(converter=lambda betas: jnp.asarray(betas, dtype=float))
    ladders: int = eqx.field(static=True)
    draws: int = eqx.field(static=True)
    thin: int = eqx.field(static=True, default=1)
    steps_per_round: int = eqx.field(static=True, default=1)
    warmup_rounds: int = eqx.field(static=True, default=0)
    adapt_ladder: bool = eqx.field(static=True, default=True)
    draws_per_chunk: int = eqx.field(static=True, default=50)
    initial: PyTree | None = None
    biases: PyTree | None = None
    exchange: Exchange = PlainExchange()
    dtype: str = eqx.field(static=True, default="float32")
    canonical: Representative | None = eqx.field(static=True, default=None)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    #: Warm-up is cut into this many chunks; the ladder can move once in each.
    WARMUP_CHUNKS = 20

    def __check_init__(self):
        betas = np.asarray(self.betas)
        if not (betas > 0).all() or not (np.diff(betas) <= 0).all():
            raise InvalidArgumentError(
                f"betas must be positive and must not rise from rung to rung; found {betas.tolist()}"
            )
        if not np.isclose(betas[0], float(self.state.beta)):
            raise InvalidArgumentError(
                f"the first of betas must be that of the state, {self.state.beta}; found {betas[0]}"
            )
        for name in ("ladders", "draws", "thin", "steps_per_round", "draws_per_chunk"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} must be at least 1; found {getattr(self, name)}")
        if self.warmup_rounds < 0:
            raise InvalidArgumentError(f"warmup_rounds must not be negative; found {self.warmup_rounds}")
        if self.mesh is not None and self.ladders % self.mesh.size:
            raise InvalidArgumentError(
                f"{self.ladders} ladders cannot be spread evenly over {self.mesh.size} devices; ask for a multiple of it"
            )

    # Sizes ------------------------------------------------------------------------------------------------------------
    @property
    def rungs(self) -> int:
        """Temperatures of a ladder."""
        return self.betas.shape[0]

    @property
    def _warmup_chunk(self) -> int:
        return -(-self.warmup_rounds // self.WARMUP_CHUNKS)

    @property
    def _warmup_total(self) -> int:
        # Whole chunks of rounds, so that one compiled program serves all of them.
        return self._warmup_chunk * self.WARMUP_CHUNKS

    @property
    def _rounds_total(self) -> int:
        chunks = -(-self.draws // self.draws_per_chunk)
        return self._warmup_total + chunks * self.draws_per_chunk * self.thin

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        leading = ("draw", "ladder", "rung")
        return {**sample_axes(self.target.space, leading), "energies": leading, "walker": leading}

    def cost(self) -> Cost:
        per_rung = 1 + self.steps_per_round * self.kernel.evaluations + self.exchange.evaluations
        per_round = self.ladders * self.rungs * per_rung
        recorded = -(-self.draws // self.draws_per_chunk) * self.draws_per_chunk * self.ladders * self.rungs
        width = np.dtype(self.dtype).itemsize
        disk = recorded * (width * (dimension(self.target.space) + 1) + 4)
        # Draws while they are put together (twice), and the matrix of reduced energies with its temporaries.
        memory = 3 * disk + recorded * 8 * (2 * self.rungs + 6)
        return Cost(per_round * self._rounds_total, memory, disk)

    # Driving ----------------------------------------------------------------------------------------------------------
    def begin(self, key: Key[Array, ""]) -> ReplicaCarry:
        """Walkers at their start. Raises ``NonFiniteError`` when a start has no finite energy."""
        positions = starts(self.target, named_key(key, "start"), self.initial, (self.ladders, self.rungs), self.dtype)
        energies = start_energies(self.target, positions, (self.ladders, self.rungs))
        shape, pairs = (self.ladders, self.rungs), (self.ladders, self.rungs - 1)
        step = 1.0 if self.kernel.step_size is None else self.kernel.step_size
        log_steps = jnp.broadcast_to(jnp.log(jnp.asarray(step, energies.dtype)), shape)
        ladders = Ladder(
            positions=positions,
            energies=energies,
            walkers=jnp.broadcast_to(jnp.arange(self.rungs, dtype=jnp.int32), shape),
            log_steps=log_steps,
            mean_log_steps=log_steps,
            acceptance=jnp.zeros(shape, energies.dtype),
            swap_acceptance=jnp.zeros(pairs, energies.dtype),
            swap_attempts=jnp.zeros(pairs, jnp.int32),
            non_finite=jnp.zeros(shape, jnp.int32),
            evaluations=jnp.ones(shape, jnp.int32),
            trips=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape), no_trips(self.rungs)),
        )
        key_data = jax.random.key_data(named_key(key, "replica exchange"))
        carry = ReplicaCarry(key_data, jnp.zeros((), jnp.int32), self.betas, ladders)
        return placed(carry, _SPECS, self.mesh)

    def advance(self, carry: ReplicaCarry) -> tuple[ReplicaCarry, Chunk]:
        before = placed(carry, _SPECS, self.mesh)
        if int(before.round) < self._warmup_total:
            carry, phase, arrays = _warmup_chunk(self, before), "warm-up", {}
        else:
            carry, records = _production_chunk(self, before)
            samples, energies, walkers = gathered(records, self.mesh)
            arrays, phase = {**to_arrays(samples), "energies": energies, "walker": walkers}, "production"
        return carry, Chunk(phase, arrays, self._metrics(before, carry))

    def _metrics(self, before: ReplicaCarry, after: ReplicaCarry) -> dict[str, float]:
        old, new = gathered((before.ladders.evaluations, after.ladders), self.mesh)
        return {
            "evaluations": float(new.evaluations.sum(dtype=np.int64) - old.sum(dtype=np.int64)),
            "mean_energy": float(new.energies[:, 0].mean(dtype=np.float64)),
            "acceptance": float(new.acceptance.mean()),
            "lowest_swap_acceptance": float(new.swap_acceptance.mean(axis=0).min()) if self.rungs > 1 else 1.0,
            "round_trips": float(new.trips.completed.sum()),
            "non_finite": float(new.non_finite.sum()),
        }

    def finished(self, carry: ReplicaCarry) -> bool:
        return int(carry.round) >= self._rounds_total

    def progress(self, carry: ReplicaCarry) -> float:
        return min(1.0, int(carry.round) / self._rounds_total)

    def collect(self, arrays: Mapping[str, np.ndarray], carry: ReplicaCarry) -> Sampled:
        """The draws of all rungs with MBAR weights for the asked state; see ``weighting.ladder_ensemble``."""
        betas, ladders = gathered((carry.betas, carry.ladders), self.mesh)
        states = unstacked(self._states(jnp.asarray(betas)))
        samples = from_arrays(arrays)
        ensemble, found = ladder_ensemble(samples, arrays["energies"], self.state, states, bias=self.kernel.bias)
        return Sampled(ensemble, {**self._diagnostics(betas, ladders), **found, "energies": arrays["energies"]})

    def _diagnostics(self, betas: np.ndarray, ladders: Ladder) -> dict[str, Any]:
        trips = ladders.trips.completed.sum(axis=1)
        return {
            "method": "replica-exchange",
            "betas": betas,
            "temperatures": np.array([ThermoState(float(beta)).temperature(self.target.unit) for beta in betas]),
            "ladders": self.ladders,
            "rungs": self.rungs,
            "thin": self.thin,
            "step_sizes": np.exp(ladders.mean_log_steps.mean(axis=0)),
            "acceptance": ladders.acceptance.mean(axis=0),
            "swap_acceptance": ladders.swap_acceptance.mean(axis=0),
            "round_trips": int(trips.sum()),
            "round_trips_per_ladder": trips,
            "non_finite": int(ladders.non_finite.sum()),
            "non_finite_per_rung": ladders.non_finite.sum(axis=0),
            "evaluations": int(ladders.evaluations.sum(dtype=np.int64)),
        }

    # One ladder -------------------------------------------------------------------------------------------------------
    def _states(self, betas: Array) -> ThermoState:
        """The rungs as one stacked state."""
        biases = self.biases
        if biases is None and self.state.bias is not None:
            biases = jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (self.rungs, *leaf.shape)) if eqx.is_array(leaf) else leaf,
                self.state.bias,
            )
        return ThermoState(betas, biases)

    def _move(self, key: Array, x: PyTree, log_step: Array, state: ThermoState) -> Moved:
        """The kernel steps of one round at one rung."""
        u = ReducedEnergy(self.target, state)
        kernel = self.kernel.with_step_size(jnp.exp(log_step))
        key_init, key_steps = jax.random.split(key)

        def step(current, key):
            return kernel.step(key, current, u)

        start = kernel.init(key_init, x, u)
        end, infos = jax.lax.scan(step, start, jax.random.split(key_steps, self.steps_per_round))
        # U comes back from u, which the kernel knows, without another evaluation.
        energy = end.reduced_energy if state.bias is None else end.reduced_energy - state.bias(end.position)
        return Moved(
            position=end.position if self.canonical is None else self.canonical(end.position),
            energy=energy / state.beta.astype(energy.dtype),
            acceptance=infos.acceptance.mean(),
            non_finite=jnp.sum(~infos.finite, dtype=jnp.int32),
            evaluations=infos.evaluations.sum(dtype=jnp.int32) + 1,
        )

    def _round(self, shared: "Shared", index: Array, ladder: Ladder, betas: Array, number: Array):
        """Moves and exchanges of ladder ``index`` in round ``number``: the new ladder, what moved, what was swapped."""
        key = jax.random.fold_in(step_key(jax.random.wrap_key_data(shared.key), number), index)
        key_move, key_swap = jax.random.split(key)
        states = self._states(betas)
        moved = eqx.filter_vmap(self._move)(
            jax.random.split(key_move, self.rungs), ladder.positions, ladder.log_steps, states
        )
        offer = self.exchange.offer(
            jax.random.fold_in(key_swap, 1), self.target, states, moved.position, moved.energy, number % 2
        )
        outcome = swap(key_swap, offer.log_ratios, number % 2)
        traded = outcome.source != jnp.arange(self.rungs)
        walkers = ladder.walkers[outcome.source]
        ladder = ladder._replace(
            positions=jax.vmap(choose)(traded, offer.positions, moved.position),
            energies=jnp.where(traded, offer.energies, moved.energy),
            walkers=walkers,
            non_finite=ladder.non_finite + moved.non_finite + offer.non_finite,
            evaluations=ladder.evaluations + moved.evaluations + offer.evaluations,
            trips=travelled(ladder.trips, walkers),
        )
        return ladder, moved, outcome

    def _warm(self, shared: "Shared", ladder: Ladder, index: Array) -> Ladder:
        """The rounds of a warm-up chunk. Acceptances are those of this chunk."""
        total, target = self._warmup_total, self.kernel.target_acceptance
        cooled, settled = int(warmup.COOLED * total), int(warmup.SETTLED * total)

        def one(ladder, number):
            betas = warmup.heated_betas(shared.betas, number / total)
            ladder, moved, outcome = self._round(shared, index, ladder, betas, number)
            if target is not None:
                count = number - jnp.where(number >= cooled, cooled, 0)
                log_steps = warmup.adapted_log_step(ladder.log_steps, moved.acceptance, target, count)
                mean = warmup.averaged(ladder.mean_log_steps, log_steps, number, settled)
                ladder = ladder._replace(log_steps=log_steps, mean_log_steps=mean)
            return ladder, (moved.acceptance, outcome.probability, outcome.attempted)

        numbers = shared.round + jnp.arange(self._warmup_chunk)
        ladder, (acceptance, probability, attempted) = jax.lax.scan(one, ladder, numbers)
        attempts = attempted.sum(axis=0)
        return ladder._replace(
            acceptance=acceptance.mean(axis=0),
            swap_acceptance=probability.sum(axis=0) / jnp.maximum(attempts, 1).astype(probability.dtype),
            swap_attempts=attempts.astype(jnp.int32),
        )

    def _produce(self, shared: "Shared", ladder: Ladder, index: Array):
        """The draws of a production chunk: the new ladder and (positions, energies, walkers), draw first."""

        def one(ladder, number):
            ladder, moved, outcome = self._round(shared, index, ladder, shared.betas, number)
            return ladder, (moved.acceptance, outcome.probability, outcome.attempted)

        def draw(ladder, numbers):
            ladder, found = jax.lax.scan(one, ladder, numbers)
            sums = jax.tree.map(lambda leaf: leaf.sum(axis=0), found)
            return ladder, (sums, (ladder.positions, ladder.energies, ladder.walkers))

        numbers = shared.round + jnp.arange(self.draws_per_chunk * self.thin).reshape(self.draws_per_chunk, self.thin)
        ladder, (sums, records) = jax.lax.scan(draw, ladder, numbers)
        acceptance, probability, attempts = jax.tree.map(lambda leaf: leaf.sum(axis=0), sums)
        # Means over chunks, not one long sum, keep their precision in float32.
        done, new = shared.round - self._warmup_total, numbers.size
        mean = acceptance / new
        attempts_now = ladder.swap_attempts + attempts.astype(jnp.int32)
        change = probability - attempts.astype(probability.dtype) * ladder.swap_acceptance
        ladder = ladder._replace(
            acceptance=ladder.acceptance + (mean - ladder.acceptance) * (new / (done + new)).astype(mean.dtype),
            swap_acceptance=ladder.swap_acceptance + change / jnp.maximum(attempts_now, 1).astype(change.dtype),
            swap_attempts=attempts_now,
        )
        return ladder, records

    def _spread(self, function: Callable) -> Callable:
        """``function(shared, ladder, index)`` for all ladders at once, on the devices where they live."""
        batched = jax.vmap(function, in_axes=(None, 0, 0))
        if self.mesh is None:
            return batched
        here, everywhere = PartitionSpec(LADDER_AXIS), PartitionSpec()
        return jax.shard_map(
            batched, mesh=self.mesh, in_specs=(everywhere, here, here), out_specs=here, check_vma=False
        )


class Shared(NamedTuple):
    """What all ladders share in a chunk: key data, number of the first round, inverse temperatures."""

    key: Array
    round: Array
    betas: Array


_SPECS = ReplicaCarry(PartitionSpec(), PartitionSpec(), PartitionSpec(), PartitionSpec(LADDER_AXIS))  # pyright: ignore


@eqx.filter_jit
def _warmup_chunk(sampler: ReplicaExchangeSampler, carry: ReplicaCarry) -> ReplicaCarry:
    shared = Shared(carry.key, carry.round, carry.betas)
    ladders = sampler._spread(sampler._warm)(shared, carry.ladders, jnp.arange(sampler.ladders))
    end, total = carry.round + sampler._warmup_chunk, sampler._warmup_total
    betas = carry.betas
    if sampler.adapt_ladder and sampler.rungs > 2:
        movable = (carry.round >= warmup.COOLED * total) & (end <= warmup.SPACED * total)
        betas = jnp.where(movable, warmup.respaced(betas, mean_over_ladders(ladders.swap_acceptance)), betas)
    fresh = ladders._replace(
        log_steps=ladders.mean_log_steps,
        acceptance=jnp.zeros_like(ladders.acceptance),
        swap_acceptance=jnp.zeros_like(ladders.swap_acceptance),
        swap_attempts=jnp.zeros_like(ladders.swap_attempts),
        non_finite=jnp.zeros_like(ladders.non_finite),
        trips=Trips(ladders.trips.heading, jnp.zeros_like(ladders.trips.completed)),
    )
    ladders = jax.tree.map(lambda a, b: jnp.where(end >= total, a, b), fresh, ladders)
    return ReplicaCarry(carry.key, end, betas, ladders)


@eqx.filter_jit
def _production_chunk(sampler: ReplicaExchangeSampler, carry: ReplicaCarry):
    shared = Shared(carry.key, carry.round, carry.betas)
    ladders, records = sampler._spread(sampler._produce)(shared, carry.ladders, jnp.arange(sampler.ladders))
    records = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), records)
    end = carry.round + sampler.draws_per_chunk * sampler.thin
    return ReplicaCarry(carry.key, end, carry.betas, ladders), records


def mean_over_ladders(values: Float[Array, "ladder *rest"]) -> Float[Array, "*rest"]:
    """The mean of numbers in [0, 1], the same to the last bit however the ladders are spread over devices.

    Sums of integers do not depend on their order; sums of floating-point numbers do.
    """
    steps = jnp.round(values * 2**16).astype(jnp.int32)
    return steps.sum(axis=0).astype(values.dtype) / (2**16 * values.shape[0])
