"""Training of generative flow networks as a process: trajectories that are drawn, paid, remembered and learned from.

Every round draws trajectories of the current policy, asks for their energies (the only calls there are), remembers both, and
takes gradient steps on fresh and remembered trajectories alike. Potentials are trained more often than flows, since what they
learn from costs nothing (Jang et al., arXiv 2310.03301, algorithm 1). Flows may also learn from trajectories that are imagined:
drawn, and judged by the potentials alone.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets.network import GFlowNet, log_even_back
from heatbath.models.gflownets.noted import Layers, can_be_noted
from heatbath.models.gflownets.rollout import Trajectory, forward, forward_many, forward_noted
from heatbath.process import Chunk, Process
from heatbath.random import named_key, step_key
from heatbath.training.flat import Flat, factors, flattened, unflattened
from heatbath.training.gflownet_packing import at_states, program, sizes
from heatbath.training.gflownet_watch import Watch
from heatbath.training.objectives.gflownet import FlowBalance, labels
from heatbath.training.optimiser import AdamW
from heatbath.training.schedules import Cosine
from heatbath.training.trainable import trainable
from heatbath.training.trainer import average

#: Trajectories are not cut to fewer steps than about this many.
SHORTEST_CUT = 8


class Memory(NamedTuple):
    """The last trajectories (n of them), their energies (n, T+1), and the environment each belongs to. A batch to learn from has
    the same form; trajectories that are not paid for come last in it.
    """

    paths: Trajectory
    energies: Float[Array, "n t1"]
    context: Int[Array, " n"]


class FlowCarry(NamedTuple):
    """Everything the future of a training depends on.

    ``params`` and ``average`` are those of the flows and those of the potentials, both flat; ``calls`` counts energies that were
    asked for; ``seen`` and ``history`` belong to the watch: what was found so far, and one row of numbers per chunk.
    """

    params: tuple[Flat, Flat]
    average: tuple[Flat, Flat]
    optimiser: PyTree
    round: Int[Array, ""]
    calls: Int[Array, ""]
    skipped: Int[Array, ""]
    key: Array
    memory: Memory
    seen: PyTree
    history: Float[Array, "chunks columns"]


class FlowTraining(Process):
    """Trains a network by a ``FlowBalance``, whose ``draws`` trajectories per round are the only ones that cost energies.

    rounds:        in all, rounded up to whole chunks of ``rounds_per_chunk``
    replay:        remembered trajectories in every gradient step, beside the fresh ones
    remembered:    trajectories that are kept, the oldest go first
    updates:       gradient steps of the flows per round
    potential_updates: further steps of the potentials alone, from memory (learned decompositions)
    imagined:      trajectories of the current policy in every gradient step that are not paid for: what the learned potentials
                   say of them stands for their energy (learned decompositions; compare Dyna, Sutton 1991). Flows learn from them
                   what the potentials have generalised, right or wrong; weights of draws stay honest.
    rate:          of policy and flows, falling by a cosine to ``last`` times itself; ``potential_rate`` alike; that of log Z
                   is ``log_z_factor`` times ``rate``
    environments:  many environments of one shape, stacked: every trajectory is built in one drawn at random. The network's
                   ``environment`` is then one of them.
    watch:         what is measured after every chunk, of the averaged network

    A gradient that is not finite changes nothing but the counter ``skipped``.
    """

    model: PyTree
    objective: FlowBalance
    rounds: int = eqx.field(static=True)
    replay: int = eqx.field(static=True, default=32)
    remembered: int = eqx.field(static=True, default=4096)
    updates: int = eqx.field(static=True, default=4)
    potential_updates: int = eqx.field(static=True, default=4)
    imagined: int = eqx.field(static=True, default=0)
    rate: float = eqx.field(static=True, default=1e-3)
    potential_rate: float = eqx.field(static=True, default=3e-3)
    last: float = eqx.field(static=True, default=0.05)
    log_z_factor: float = eqx.field(static=True, default=30.0)
    ema: float = eqx.field(static=True, default=0.99)
    rounds_per_chunk: int = eqx.field(static=True, default=50)
    environments: Any = None
    watch: Watch = eqx.field(default_factory=Watch)

    def __check_init__(self):
        for name in ("rounds", "remembered", "updates", "rounds_per_chunk"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} must be at least 1; found {getattr(self, name)}")
        if min(self.replay, self.potential_updates, self.imagined) < 0:
            raise InvalidArgumentError("replay, potential_updates and imagined must not be negative")
        if self.imagined and self.objective.decomposition != "learned":
            raise InvalidArgumentError(
                "imagined trajectories take learned potentials for their energies; use decomposition 'learned', or imagined 0"
            )
        if self.remembered < self.objective.draws:
            raise InvalidArgumentError(
                f"remembered ({self.remembered}) must be at least the trajectories of one round ({self.objective.draws})"
            )

    # Process ----------------------------------------------------------------------------------------------------------
    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.rounds // self.rounds_per_chunk)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of ``history``."""
        return ("calls", "trajectories", "loss", *self.watch.names)

    def begin(self, key: Key[Array, ""]) -> FlowCarry:
        first, second = _parts(self)
        params, optimisers = (flattened(first), flattened(second)), self._optimisers()
        return FlowCarry(
            params=params,
            average=params,
            optimiser=tuple(optimiser.init(part) for optimiser, part in zip(optimisers, params, strict=True)),
            round=jnp.zeros((), jnp.int32),
            calls=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            key=jax.random.key_data(named_key(key, "flow training")),
            memory=self._empty(),
            seen=self.watch.begin(),
            history=jnp.full((self.chunks, len(self.columns)), jnp.nan, float),
        )

    def advance(self, carry: FlowCarry) -> tuple[FlowCarry, Chunk]:
        before, place = int(carry.calls), int(carry.round) // self.rounds_per_chunk
        lean = eqx.tree_at(lambda t: t.watch, self, Watch())
        carry, (states, energies, metrics) = _rounds(lean, carry)
        states, energies = np.asarray(states), np.asarray(energies)
        seen = self.watch.note(carry.seen, states.reshape(-1, states.shape[-1]), energies.reshape(-1))
        found = self.watch.measure(self.trained(carry), seen)
        taken = {name: float(np.nanmean(np.asarray(leaf))) for name, leaf in metrics.items()}
        trajectories = int(carry.round) * self.objective.draws
        row = [int(carry.calls), trajectories, taken["loss"], *(found[name] for name in self.watch.names)]
        carry = carry._replace(seen=seen, history=carry.history.at[place].set(jnp.asarray(row, float)))
        metrics = {
            "evaluations": float(int(carry.calls) - before),
            "trajectories": float(trajectories),
            **taken,
            **found,
        }
        return carry, Chunk("training", {}, metrics)

    def finished(self, carry: FlowCarry) -> bool:
        return int(carry.round) >= self.chunks * self.rounds_per_chunk

    def progress(self, carry: FlowCarry) -> float:
        return min(1.0, int(carry.round) / (self.chunks * self.rounds_per_chunk))

    # Results ----------------------------------------------------------------------------------------------------------
    def trained(self, carry: FlowCarry) -> PyTree:
        """The network with its averaged arrays."""
        return _model(self, carry.average)

    # Parts ------------------------------------------------------------------------------------------------------------
    def _optimisers(self):
        steps = self.chunks * self.rounds_per_chunk * self.updates
        more = self.chunks * self.rounds_per_chunk * (self.updates + self.potential_updates)
        flows = AdamW(Cosine(self.rate, steps, last=self.last), clip=10.0)
        potentials = AdamW(Cosine(self.potential_rate, more, last=self.last), clip=10.0)
        return flows.transformation(), potentials.transformation()

    def _empty(self) -> Memory:
        env = self.model.environment
        path = jax.eval_shape(lambda k: forward(k, self.model), jax.random.key(0))
        energies = jax.eval_shape(lambda p: self.objective.energies(env, p), path)
        many = lambda leaf: jnp.zeros((self.remembered, *leaf.shape), leaf.dtype)  # noqa: E731
        return Memory(jax.tree.map(many, path), many(energies), jnp.zeros(self.remembered, jnp.int32))

    def _at(self, model: PyTree, context: Int[Array, ""] | None) -> PyTree:
        """The network in the environment number ``context``."""
        if self.environments is None or context is None:
            return model
        chosen = jax.tree.map(lambda leaf: leaf[context], self.environments)
        return eqx.tree_at(lambda m: m.environment, model, chosen)

    def _contexts(self, key: Key[Array, ""], count: int) -> Int[Array, " n"]:
        if self.environments is None:
            return jnp.zeros(count, jnp.int32)
        kinds = jax.tree.leaves(self.environments)[0].shape[0]
        return jax.random.randint(key, (count,), 0, kinds, jnp.int32)

    def loss(
        self,
        key: Key[Array, ""],
        model: PyTree,
        batch: Memory,
        size: int | None = None,
        imagined: int = 0,
        noted: Layers | None = None,
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
        """Mean loss of the flows and of the potentials over remembered trajectories, and what else is worth watching; the last
        ``imagined`` of them are not paid for.

        With a ``size`` the network is asked about that many states, which must be no fewer than the batch has. What comes after
        the last end of the batch is left out of sums over all parts of a path: steps are cut to the next of a few lengths, each
        half the following one, so that nothing is compiled more than a few times. ``noted``: the layers of the network's body at
        all states but the last, as ``forward_noted`` gives them.
        """
        paths = batch.paths
        of_state = lambda c, *values: self.objective.of_state(self._at(model, c), *values)  # noqa: E731
        lengths = jnp.sum(paths.valid, axis=1)
        contexts = None if self.environments is None else batch.context
        held = (paths.states, *labels(paths))
        if self._ends_are_known(model):
            early = [leaf[:, :-1] for leaf in held]
            if noted is not None:
                flat = lambda leaf: leaf.reshape(-1, leaf.shape[-1])  # noqa: E731
                states = jnp.moveaxis(early[0], 0, 1)
                said = model.said(flat(states), jax.tree.map(flat, noted)).reshape(*states.shape[:2], -1)
                early.append(jnp.moveaxis(said, 0, 1))
            early = at_states(of_state, lengths - 1, None, contexts, *early)
            last = jax.vmap(partial(log_even_back, model.environment))(paths.states[:, -1], held[2][:, -1])
            said = jnp.concatenate(
                [early, jnp.zeros_like(early[:, :1]).at[:, 0, 1].set(last.astype(early.dtype))], axis=1
            )
        else:
            said = at_states(of_state, lengths, size, contexts, *held)
        cuts = self._lengths()
        if len(cuts) == 1:
            return self._loss(key, model.log_z, said, batch, imagined)
        ways = [lambda n=n: self._loss(key, model.log_z, said[:, : n + 1], _cut(batch, n), imagined) for n in cuts]
        return jax.lax.switch(jnp.searchsorted(jnp.asarray(cuts), jnp.max(lengths)), ways)

    def slope(self, loss_of: Any, parts: PyTree, batch: Memory) -> Any:
        """``jax.grad(loss_of, has_aux=True)(parts, size)``, with the smallest size of a few that holds all states."""
        env, lengths = self.model.environment, jnp.sum(batch.paths.valid, axis=1)
        programs = sizes(len(lengths), env.shortest, env.longest)
        if len(programs) == 1:
            return jax.grad(loss_of, has_aux=True)(parts, None)
        ways = [lambda size=size: jax.grad(loss_of, has_aux=True)(parts, size) for size in programs]
        return jax.lax.switch(program(lengths, programs), ways)

    def _ends_are_known(self, model: PyTree) -> bool:
        """Whether losses know all of finished objects without the network: one place for them all, and an even policy back."""
        env = self.model.environment
        return self.environments is None and env.shortest == env.longest and not getattr(model, "learned_back", True)

    @property
    def _learns_once(self) -> bool:
        """Whether gradient steps are on fresh trajectories alone, with the parameters that drew them: layers are known then."""
        alone = self.updates == 1 and self.replay == 0 and self.imagined == 0
        noted = isinstance(self.model, GFlowNet) and can_be_noted(self.model.body)
        return alone and noted and self._ends_are_known(self.model)

    def _lengths(self) -> list[int]:
        """Numbers of steps for which the loss is compiled, in rising order; the last is the longest there is."""
        env = self.model.environment
        lengths = [env.longest]
        while lengths[0] >= 2 * max(SHORTEST_CUT, env.shortest):
            lengths.insert(0, -(-lengths[0] // 2))
        return lengths if env.shortest < env.longest and self.objective.balance == "subtb" else lengths[-1:]

    def _loss(self, key, log_z, said, batch, imagined):
        count = len(batch.context)
        keys, paid = jax.random.split(key, count), jnp.arange(count) < count - imagined
        of_one = lambda k, *values: self.objective.of_numbers(k, log_z, *values)  # noqa: E731
        flow, potential, metrics = jax.vmap(of_one)(keys, said, batch.paths, batch.energies, paid)
        potential, metrics = jax.tree.map(lambda leaf: leaf[: count - imagined], (potential, metrics))
        steps = jnp.mean(jnp.sum(batch.paths.valid, axis=1).astype(flow.dtype))
        flow = jnp.mean(flow) / (steps if self.objective.balance == "db" else 1.0)
        return flow, jnp.mean(potential), jax.tree.map(jnp.mean, metrics)


# One chunk, compiled --------------------------------------------------------------------------------------------------
@eqx.filter_jit
def _rounds(training: FlowTraining, carry: FlowCarry):
    base = jax.random.wrap_key_data(carry.key)

    def one(carry, _):
        key = step_key(base, carry.round)
        carry, fresh, noted = _draw(training, carry, named_key(key, "draws"))
        keys = jax.random.split(named_key(key, "flows"), training.updates)
        carry, metrics = jax.lax.scan(lambda c, k: _learn(training, c, k, fresh, noted), carry, keys)
        if training.objective.decomposition == "learned" and training.potential_updates:
            keys = jax.random.split(named_key(key, "potentials"), training.potential_updates)
            carry, _ = jax.lax.scan(lambda c, k: (_learn_potentials(training, c, k), None), carry, keys)
        carry = carry._replace(round=carry.round + 1)
        return carry, (fresh.paths.states[:, -1], fresh.energies[:, -1], metrics)

    return jax.lax.scan(one, carry, None, length=training.rounds_per_chunk)


def _parts(training: FlowTraining) -> tuple[PyTree, PyTree]:
    """The arrays of the flows and of the potentials as the network has them."""
    return _split(eqx.filter(training.model, trainable(training.model)))


def _placed(training: FlowTraining, params: tuple[Flat, Flat]) -> tuple[PyTree, PyTree]:
    """Flat parameters as the network has them, still apart."""
    first, second = (unflattened(flat, part) for flat, part in zip(params, _parts(training), strict=True))
    return first, second


def _combined(training: FlowTraining, parts: tuple[PyTree, PyTree]) -> PyTree:
    """The network with these parts."""
    return eqx.combine(*parts, eqx.filter(training.model, trainable(training.model), inverse=True))


def _model(training: FlowTraining, params: tuple[Flat, Flat]) -> PyTree:
    """The network with flat parameters."""
    return _combined(training, _placed(training, params))


def _trajectories(training: FlowTraining, model: PyTree, key: Array, count: int) -> tuple[Trajectory, Array]:
    """Trajectories of the current policy, exploring, and the environment of each."""
    contexts = training._contexts(named_key(key, "contexts"), count)
    keys = jax.random.split(key, count)
    paths = forward_many(keys, lambda number: training._at(model, contexts[number]), training.objective.exploration)
    return paths, contexts


def _draw(training: FlowTraining, carry: FlowCarry, key: Array) -> tuple[FlowCarry, Memory, Layers | None]:
    """Fresh trajectories with their energies; they are paid and remembered. Where they are learned from once, with the layers of
    the network at their states.
    """
    objective, model = training.objective, _model(training, carry.params)
    if training._learns_once:
        contexts = jnp.zeros(objective.draws, jnp.int32)
        paths, noted = forward_noted(jax.random.split(key, objective.draws), model, objective.exploration)
    else:
        (paths, contexts), noted = _trajectories(training, model, key, objective.draws), None
    paid = lambda path, context: objective.energies(training._at(model, context).environment, path)  # noqa: E731
    energies = jax.vmap(paid)(paths, contexts)
    fresh = Memory(paths, energies, contexts)
    looks_ahead = objective.decomposition == "forward-looking"
    paid = jnp.sum(paths.valid, dtype=jnp.int32) if looks_ahead else jnp.asarray(objective.draws, jnp.int32)
    memory = jax.tree.map(lambda old, new: _remembered(training, carry.round, old, new), carry.memory, fresh)
    return carry._replace(memory=memory, calls=carry.calls + paid), fresh, noted


def _remembered(training: FlowTraining, number: Array, old: Array, new: Array) -> Array:
    """An array of the memory with the newest trajectories in place of the oldest; in one piece where rounds fit evenly."""
    first = number * training.objective.draws % training.remembered
    if training.remembered % training.objective.draws == 0:
        return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), first, axis=0)
    return old.at[(first + jnp.arange(len(new))) % training.remembered].set(new.astype(old.dtype))


def _cut(batch: Memory, steps: int) -> Memory:
    """Trajectories of at most ``steps`` steps in arrays of that length. States repeat the last one after the end, and of the
    energies the last is that of the object.
    """
    paths = Trajectory(batch.paths.states[:, : steps + 1], *(leaf[:, :steps] for leaf in batch.paths[1:]))
    energies = jnp.concatenate([batch.energies[:, :steps], batch.energies[:, -1:]], axis=1)
    return Memory(paths, energies, batch.context)


def _recalled(training: FlowTraining, carry: FlowCarry, key: Array, count: int) -> Memory:
    held = jnp.minimum((carry.round + 1) * training.objective.draws, training.remembered)
    chosen = jax.random.randint(key, (count,), 0, held)
    return jax.tree.map(lambda leaf: leaf[chosen], carry.memory)


def _imagined(training: FlowTraining, carry: FlowCarry, key: Array) -> Memory:
    """Trajectories that nobody pays for; in place of their energies there is nothing but zeros."""
    paths, contexts = _trajectories(training, _model(training, carry.params), key, training.imagined)
    return Memory(paths, jnp.zeros(paths.states.shape[:2], carry.memory.energies.dtype), contexts)


def _joined(one: Memory, other: Memory) -> Memory:
    """Trajectories of both."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), one, other)


def _learn(
    training: FlowTraining, carry: FlowCarry, key: Array, fresh: Memory, noted: Layers | None
) -> tuple[FlowCarry, dict[str, Array]]:
    """One step of flows and potentials on fresh, remembered and imagined trajectories."""
    batch = fresh
    if training.replay:
        recalled = _recalled(training, carry, named_key(key, "replay"), training.replay)
        batch = _joined(batch, recalled)
    if training.imagined:
        batch = _joined(batch, _imagined(training, carry, named_key(key, "imagined")))

    def loss_of(parts, size):
        flow, potential, metrics = training.loss(key, _combined(training, parts), batch, size, training.imagined, noted)
        return flow + potential, {"loss": flow, **metrics}

    gradient, metrics = training.slope(loss_of, _placed(training, carry.params), batch)
    return _stepped(training, carry, gradient, flows=True), metrics


def _learn_potentials(training: FlowTraining, carry: FlowCarry, key: Array) -> FlowCarry:
    """One step of the potentials alone, on remembered trajectories."""
    count = training.objective.draws + training.replay
    batch = _recalled(training, carry, named_key(key, "replay"), count)
    loss_of = lambda parts, size: (training.loss(key, _combined(training, parts), batch, size)[1], ())  # noqa: E731
    return _stepped(training, carry, training.slope(loss_of, _placed(training, carry.params), batch)[0], flows=False)


def _stepped(training: FlowTraining, carry: FlowCarry, gradient: PyTree, *, flows: bool) -> FlowCarry:
    """Parameters after one step of the optimisers; unchanged when the gradient is not finite."""
    likes, slopes = _parts(training), [flattened(part) for part in gradient]
    params, states = list(carry.params), list(carry.optimiser)
    good = jnp.asarray(True)  # noqa: FBT003
    for place, taken in enumerate((flows, training.objective.decomposition == "learned")):
        if not taken:
            continue
        for leaf in jax.tree.leaves(slopes[place]):
            good = good & jnp.all(jnp.isfinite(leaf))
        update, states[place] = training._optimisers()[place].update(slopes[place], states[place], params[place])
        scale = jnp.asarray(factors(likes[place], "log_z", training.log_z_factor))
        update = update._replace(vector=update.vector * scale)
        params[place] = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params[place], update)
    averaged = average(carry.average, tuple(params), carry.round, training.ema) if flows else carry.average
    new, old = (tuple(params), averaged, tuple(states)), (carry.params, carry.average, carry.optimiser)
    params, averaged, optimiser = jax.tree.map(lambda a, b: a if a is b else jnp.where(good, a, b), new, old)
    skipped = carry.skipped + jnp.where(good, 0, 1).astype(jnp.int32)
    return carry._replace(params=params, average=averaged, optimiser=optimiser, skipped=skipped)


_OF_POTENTIALS = ("potentials", "potential_memory")


def _split(params: PyTree) -> tuple[PyTree, PyTree]:
    """What belongs to policy and flows, and what to the potentials (``potentials`` and ``potential_memory`` of the network)."""
    mask = jax.tree_util.tree_map_with_path(lambda path, _: _top(path) not in _OF_POTENTIALS, params)
    return eqx.partition(params, mask)


def _top(path: tuple) -> str:
    return getattr(path[0], "name", "")
