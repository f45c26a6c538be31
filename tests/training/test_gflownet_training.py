"""Training of flow networks as a process: calls are counted, memory is what was drawn, chunks continue bitwise."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets.enumeration import enumerate_states
from heatbath.models.gflownets.environments import Bag, Hypergrid
from heatbath.models.gflownets.network import GFlowNet
from heatbath.models.gflownets.rollout import forward_many, forward_noted
from heatbath.targets.sets import BagReward, GridReward
from heatbath.training.flat import factors, flattened, unflattened
from heatbath.training.gflownet_packing import program, sizes
from heatbath.training.gflownet_training import FlowTraining, Memory, _cut, _split
from heatbath.training.gflownet_watch import Best, ExactLaw, jensen_shannon
from heatbath.training.objectives.gflownet import FlowBalance
from heatbath.training.trainable import trainable


@functools.cache
def listed(letters, size, needed):
    env, target = Bag(letters, size), BagReward(letters, size, needed)
    found = enumerate_states(env)
    energies = jax.jit(jax.vmap(target.energy))(jnp.asarray(found.configurations))
    return env, target, found, -np.asarray(energies, dtype=np.float64)


def training(size=(2, 3, 3), *, rounds=4, balance="db", decomposition="learned", width=8, depth=1, **options):
    env, target, found, log_rewards = listed(*size)
    ahead = decomposition == "forward-looking"
    objective = FlowBalance(
        target.energy,
        draws=options.pop("draws", 4),
        balance=balance,
        decomposition=decomposition,
        partial_u=target.partial if ahead else None,
        exploration=0.05,
        dropout=0.2,
    )
    net = GFlowNet.create(jax.random.key(0), env, width=width, depth=depth)
    watch = ExactLaw(found, log_rewards, log_rewards > 3.0, balance)
    settings = {"replay": 3, "remembered": 10, "updates": 2, "potential_updates": 1, "rounds_per_chunk": 2} | options
    return FlowTraining(net, objective, rounds=rounds, watch=watch, **settings)


def driven(process, key):
    carry, chunks = process.begin(key), []
    while not process.finished(carry):
        carry, chunk = process.advance(carry)
        chunks.append(chunk)
    return carry, chunks


@pytest.fixture(scope="module")
def short():
    process = training()
    return process, *driven(process, jax.random.key(1))


def test_calls_and_memory(short):
    """One energy per trajectory; the memory holds full trajectories with the energies of the bags that they end in."""
    process, carry, chunks = short
    assert int(carry.calls) == 16
    assert sum(chunk.metrics["evaluations"] for chunk in chunks) == 16
    assert int(carry.skipped) == 0
    ends = np.asarray(carry.memory.paths.states[:, -1])
    assert (ends.sum(axis=1) == 3).all()
    target = listed(2, 3, 3)[1]
    expected = jax.vmap(target.energy)(jnp.asarray(ends))
    np.testing.assert_allclose(carry.memory.energies[:, -1], expected, rtol=1e-6)
    assert (np.asarray(carry.memory.energies[:, :-1]) == 0).all()  # nothing on the way was asked for
    assert np.isfinite(np.asarray(carry.history)[:, :-1]).all()  # no bag of so few is a mode
    assert process.progress(carry) == 1.0


def test_it_continues_bitwise(short):
    """A second drive from the same key, its carry put through arrays between chunks, ends in the same numbers."""
    process, carry, _ = short
    again = process.begin(jax.random.key(1))
    while not process.finished(again):
        again = jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), process.advance(again)[0])
    for one, other in zip(jax.tree.leaves(carry), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))  # NaN equals NaN


def test_impossible_settings():
    """A memory smaller than a round would overwrite what it has just drawn."""
    for options in ({"remembered": 2}, {"updates": 0}, {"replay": -1}, {"rounds": 0}, {"imagined": -1}):
        with pytest.raises(InvalidArgumentError):
            training(**options)
    with pytest.raises(InvalidArgumentError, match="learned potentials"):
        training(decomposition="none", imagined=2)


@pytest.mark.parametrize("balance", ["db", "subtb"])
def test_imagined_trajectories_are_judged_by_the_potentials(balance):
    """The flows learn from them as if the potentials were right, the potentials not at all, and nothing is paid or remembered."""
    process = training(balance=balance, imagined=2, rounds=2)
    carry, _ = driven(process, jax.random.key(1))
    assert int(carry.calls) == 8
    assert np.asarray(carry.memory.paths.states)[8:].sum() == 0  # of ten places
    net = jax.tree.map(lambda leaf: leaf + 0.1 if eqx.is_inexact_array(leaf) else leaf, process.model)
    paths = forward_many(jax.random.split(jax.random.key(2), 5), lambda number: net, 0.2)
    energies = jax.vmap(lambda path: process.objective.energies(net.environment, path))(paths)
    batch, key = Memory(paths, energies, jnp.zeros(5, jnp.int32)), jax.random.key(3)

    def slope(part, rows, *, imagined=0, process=process):
        params, rest = eqx.partition(net, trainable(net))
        some = jax.tree.map(lambda leaf: leaf[rows], batch)
        loss = lambda p: process.loss(key, eqx.combine(p, rest), some, None, imagined)[part]  # noqa: E731
        return jax.flatten_util.ravel_pytree(jax.grad(loss)(params))[0]

    known, rest = slice(0, 3), slice(3, 5)
    plain = eqx.tree_at(lambda p: p.objective, process, dataclasses.replace(process.objective, correct=False))
    expected = (3 * slope(0, known) + 2 * slope(0, rest, process=plain)) / 5
    found = slope(0, slice(0, 5), imagined=2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, slope(0, slice(0, 5)), rtol=1e-2)
    wrong = eqx.tree_at(lambda b: b.energies, batch, batch.energies.at[3:].set(99.0))
    loss = process.loss(key, net, batch, None, 2)
    np.testing.assert_array_equal(loss[1], process.loss(key, net, wrong, None, 2)[1])
    assert loss[1] != process.loss(key, net, wrong)[1]


def test_what_the_best_remembers():
    """Two alike count once; the mean is over the best; the threshold counts what is below it."""
    watch = Best(2, threshold=-0.5, exponent=2.0, count=2, room=3)
    states = np.array([[1, 2], [1, 2], [3, 4], [5, 6], [7, 8]])
    seen = watch.note(watch.begin(), states, np.array([-2.0, -2.0, -1.0, 0.0, 1.0]))
    found = watch.measure(None, watch.note(seen, states[:1], np.array([-2.0])))
    assert found["modes"] == 2
    assert found["top_mean"] == pytest.approx((np.e + np.exp(0.5)) / 2)


def test_the_divergence_between_laws():
    """Zero for equal laws, ln 2 for laws that share nothing."""
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, q) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("balance", "decomposition"), [("subtb", "none"), ("subtb", "forward-looking"), ("tb", "none"), ("db", "learned")]
)
def test_losses_of_trajectories_of_different_lengths(balance, decomposition):
    """Asking the network only about states that are there, and leaving out what comes after the last end, changes neither loss
    nor gradient, whatever the program that holds them; one step too few would.
    """
    env, target = Hypergrid(2, 9), GridReward(2, 9)
    ahead = (lambda state: target.energy(state[:-1])) if decomposition == "forward-looking" else None
    options = {"balance": balance, "decomposition": decomposition, "partial_u": ahead}
    objective = FlowBalance(target.energy, draws=16, **options)
    net = GFlowNet.create(jax.random.key(0), env, width=4, depth=1)
    process = FlowTraining(net, objective, rounds=1, remembered=16, rounds_per_chunk=1)
    assert process._lengths() == ([9, 17] if balance == "subtb" else [17])
    assert sizes(16, env.shortest, env.longest) == [72, 144, 288]
    paths = forward_many(jax.random.split(jax.random.key(3), 64), lambda number: net)
    order = np.argsort(np.asarray(paths.valid.sum(axis=1)))

    def plain(net, batch):
        keys = jax.random.split(jax.random.key(1), 16)
        flow, potential, _ = jax.vmap(lambda k, path, u: objective.of_path(k, net, path, u))(keys, *batch[:2])
        steps = jnp.mean(jnp.sum(batch.paths.valid, axis=1)) if balance == "db" else 1.0
        return jnp.mean(flow) / steps + jnp.mean(potential)

    def packed(net, batch):
        def loss_of(net, size):
            flow, potential, _ = process.loss(jax.random.key(1), net, batch, size)
            return flow + potential, flow + potential

        arrays, rest = eqx.partition(net, eqx.is_inexact_array)
        slope, loss = process.slope(lambda a, size: loss_of(eqx.combine(a, rest), size), arrays, batch)
        return loss, slope

    used = set()
    for rows in (order[:16], order[24:40], order[48:]):
        chosen = jax.tree.map(lambda leaf, rows=rows: leaf[rows], paths)
        batch = Memory(chosen, jax.vmap(lambda p: objective.energies(env, p))(chosen), jnp.zeros(16, int))
        used.add(int(program(jnp.sum(chosen.valid, axis=1), [72, 144, 288])))
        one = eqx.filter_jit(eqx.filter_value_and_grad(plain))(net, batch)
        other = eqx.filter_jit(packed)(net, batch)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert len(used) > 1
    short = jax.vmap(lambda p, u: objective.of_path(jax.random.key(1), net, p, u)[0])(*_cut(batch, 4)[:2])
    assert not np.allclose(jnp.mean(short), one[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("balance", "decomposition"), [("tb", "none"), ("db", "learned"), ("subtb", "forward-looking")]
)
@pytest.mark.parametrize("rows", [0, 16])
def test_what_was_computed_while_drawing_is_not_computed_again(balance, decomposition, rows):
    """The same trajectories, loss and gradient with the layers that were noted as without; other layers have others."""
    process = training((2, 3, 2), balance=balance, decomposition=decomposition, replay=0, updates=1, depth=2)
    if rows:
        net = GFlowNet.create(jax.random.key(1), process.model.environment, width=8, depth=2, memory_rows=rows)
        sizes = net.body.in_size, net.body.out_size, 8, 2
        body = eqx.nn.MLP(*sizes, jnp.tanh, jnp.tanh, dtype=jnp.float32, key=jax.random.key(4))
        process = eqx.tree_at(lambda p: p.model, process, eqx.tree_at(lambda n: n.body, net, body))
    assert process._learns_once
    bare = eqx.nn.MLP(8, 8, 8, 1, use_bias=False, key=jax.random.key(0))
    assert not eqx.tree_at(lambda p: p.model.body, process, bare)._learns_once
    for other in (
        {"replay": 1},
        {"updates": 2},
        {"replay": 0, "updates": 1, "imagined": 1, "decomposition": "learned"},
    ):
        assert not training((2, 3, 2), **other)._learns_once
    net, keys = process.model, jax.random.split(jax.random.key(2), 5)
    paths, noted = forward_noted(keys, net, 0.2)
    for one, other in zip(paths, forward_many(keys, lambda number: net, 0.2), strict=True):
        np.testing.assert_array_equal(one, other)
    energies = jax.vmap(lambda path: process.objective.energies(net.environment, path))(paths)
    batch = Memory(paths, energies, jnp.zeros(5, jnp.int32))
    params, rest = eqx.partition(net, trainable(net))

    def slope(noted):
        def loss(params):
            flow, potential, _ = process.loss(jax.random.key(3), eqx.combine(params, rest), batch, noted=noted)
            return flow + potential

        return jax.value_and_grad(loss)(params)

    expected = jax.tree.leaves(slope(None))
    for one, other in zip(jax.tree.leaves(slope(noted)), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    stale = jax.tree.leaves(slope(jax.tree.map(lambda leaf: leaf + 0.1, noted)))
    assert not all(np.allclose(one, other, rtol=1e-2, atol=1e-3) for one, other in zip(stale, expected, strict=True))


@pytest.mark.parametrize("balance", ["db", "tb", "subtb"])
@pytest.mark.parametrize("decomposition", ["none", "learned", "forward-looking"])
@pytest.mark.parametrize("seed", [0, 3])
def test_finished_bags_need_no_network(balance, decomposition, seed):
    """Losses and gradients of paths of one length are those of every path by itself, which asks the network about its end too."""
    process = training((2, 3, 2), balance=balance, decomposition=decomposition, replay=0)
    net = jax.tree.map(lambda leaf: leaf + 0.1 if eqx.is_inexact_array(leaf) else leaf, process.model)
    assert process._ends_are_known(net)
    keys = jax.random.split(jax.random.key(seed), 5)
    paths = forward_many(keys, lambda number: net, 0.2)
    energies = jax.vmap(lambda path: process.objective.energies(net.environment, path))(paths)
    batch, key = Memory(paths, energies, jnp.zeros(5, jnp.int32)), jax.random.key(seed + 1)
    params, rest = eqx.partition(net, trainable(net))

    def together(params):
        flow, potential, _ = process.loss(key, eqx.combine(params, rest), batch)
        return flow + potential

    def one_by_one(params):
        model, steps = eqx.combine(params, rest), jnp.mean(jnp.sum(paths.valid, axis=1))
        each = jax.vmap(lambda k, path, u: process.objective.of_path(k, model, path, u)[:2])
        flow, potential = each(jax.random.split(key, 5), paths, energies)
        return jnp.mean(flow) / (steps if balance == "db" else 1.0) + jnp.mean(potential)

    found, expected = jax.value_and_grad(together)(params), jax.value_and_grad(one_by_one)(params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_what_belongs_to_the_potentials_is_trained_with_them():
    """The memory of potentials would otherwise stand still in their own steps, and flows would pull at it."""
    net = GFlowNet.create(jax.random.key(0), Bag(2, 3), width=4, depth=1, memory_rows=16)
    flows, potentials = _split(eqx.filter(net, trainable(net)))
    assert flows.potential_memory.table is None
    assert flows.potentials.layers[0].weight is None
    assert flows.memory.table.shape == (16, 5)
    assert potentials.memory.table is None
    assert potentials.body.layers[0].weight is None
    assert potentials.potential_memory.table.shape == (16, 2)


@pytest.mark.slow
@pytest.mark.parametrize("decomposition", ["learned", "none"])
def test_a_small_bag_is_learned(decomposition):
    """Bags of six items of four kinds: total variation < 0.01, log Z within 0.02, exactly; above 0.5 untrained."""
    env, target, found, log_rewards = listed(4, 6, 4)
    options = {"dropout": 0.0, "exploration": 0.05}
    objective = FlowBalance(target.energy, draws=16, balance="db", decomposition=decomposition, **options)
    net = GFlowNet.create(jax.random.key(0), env, width=32, memory_rows=4096)
    rates = {"rate": 5e-3, "potential_rate": 1e-2}
    settings = {"replay": 48, "remembered": 8192, "updates": 1, "potential_updates": 1, "rounds_per_chunk": 1000}
    process = FlowTraining(
        net, objective, rounds=4000, watch=ExactLaw(found, log_rewards, log_rewards > 3.0), **rates, **settings
    )
    carry, chunks = driven(process, jax.random.key(0))
    assert process.watch.measure(net, carry.seen)["total_variation"] > 0.5
    assert chunks[-1].metrics["total_variation"] < 0.01
    assert abs(chunks[-1].metrics["log_z_error"]) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balance", "decomposition"), [("db", "learned"), ("subtb", "learned"), ("db", "forward-looking"), ("tb", "none")]
)
def test_calls_of_every_loss(balance, decomposition):
    """A call per trajectory, or one per step when looking ahead; every loss runs."""
    carry, _ = driven(training(balance=balance, decomposition=decomposition), jax.random.key(1))
    assert int(carry.calls) == (48 if decomposition == "forward-looking" else 16)


def test_parameters_as_one_vector():
    """There and back again; large arrays and other types stay as they are, and the named one has its factor."""
    net = GFlowNet.create(jax.random.key(0), Bag(2, 3), width=4, depth=1, memory_rows=2**15)
    flows, _ = _split(eqx.filter(net, trainable(net)))
    flat = flattened(flows)
    assert len(flat.others) == 1  # the memory: 5 * 2^15 numbers
    assert flat.vector.size + flat.others[0].size == sum(leaf.size for leaf in jax.tree.leaves(flows))
    for one, other in zip(jax.tree.leaves(flows), jax.tree.leaves(unflattened(flat, flows)), strict=True):
        assert one is other or np.array_equal(one, other)
    scale = factors(flows, "log_z", 7.0)
    assert (scale == 7.0).sum() == 1
    marked = unflattened(flat._replace(vector=jnp.asarray(scale)), flows)
    assert float(marked.log_z) == 7.0
