"""Environments, trajectories and exact laws: labels that match, paths that end, flows that conserve."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets import enumeration, rollout
from heatbath.models.gflownets.environments import Bag, Hypergrid, IndependentSet, Sequence
from heatbath.models.gflownets.listed import ListedGraph
from heatbath.models.gflownets.network import GFlowNet, StateMemory

PATH = np.eye(5, k=1, dtype=bool) | np.eye(5, k=-1, dtype=bool)
#: Environment, and how many states and finished objects it must have.
CASES = {
    "hypergrid": (lambda: Hypergrid(2, 4), 32, 16),
    "bag": (lambda: Bag(3, 4), math.comb(7, 3), math.comb(6, 2)),
    "sequence": (lambda: Sequence(2, 3), 15, 8),
    "appended": (lambda: Sequence(2, 3, both_ends=False), 15, 8),
    "independent-set": (lambda: IndependentSet(PATH), 13, 4),
    "listed": (lambda: ListedGraph(np.array([0, 0, 1, 1, 2]), np.array([1, 2, 2, 3, 3]), np.eye(4) > 0), 4, 1),
}


@functools.cache
def prepared(name):
    env = CASES[name][0]()
    return (
        env,
        enumeration.enumerate_states(env),
        GFlowNet.create(jax.random.key(0), env, width=8, depth=1, learned_back=True),
    )


@pytest.mark.parametrize("name", CASES)
def test_states_and_labels(name):
    """Numbers of states and objects by hand; every edge's two labels lead forth and back between the same states."""
    env, found, _ = prepared(name)
    assert len(found.states) == CASES[name][1]
    assert found.terminal.sum() == CASES[name][2]
    parents, children = jnp.asarray(found.states[found.parent]), jnp.asarray(found.states[found.child])

    objects = found.configurations

    @jax.jit
    def labels():
        forth = jax.vmap(env.step)(parents, jnp.asarray(found.action))
        back = jax.vmap(env.step_back)(children, jnp.asarray(found.way))
        actions = jax.vmap(env.action_of)(children, jnp.asarray(found.way))
        ways = jax.vmap(env.allowed_back)(jnp.asarray(found.states))
        again = jax.vmap(env.state_of)(jnp.asarray(objects))
        return forth, back, actions, ways, again

    forth, back, actions, ways, again = labels()
    assert np.array_equal(forth, children)
    assert np.array_equal(back, parents)
    assert np.array_equal(actions, found.action)
    assert np.array_equal(np.asarray(ways).sum(axis=1), np.bincount(found.child, minlength=len(found.states)))
    assert np.array_equal(again, found.states[found.terminal])


@pytest.mark.parametrize("name", CASES)
def test_every_state_has_a_place_of_its_own(name):
    """Two states in one row of a memory would keep each other from the exact law; a number beyond ``places`` would be clipped."""
    env, found, _ = prepared(name)
    places = np.asarray(jax.jit(jax.vmap(env.place))(jnp.asarray(found.states)))
    assert len(np.unique(places)) == len(found.states)
    assert places.min() >= 0
    assert places.max() < env.places
    rows = 1 << (env.places - 1).bit_length()
    assert StateMemory.create(rows, 1, env).factors == ()
    assert len(StateMemory.create(rows // 2, 1, env).factors) == found.states.shape[1]  # too few rows: by hashing


@pytest.mark.parametrize("name", CASES)
def test_exact_laws(name):
    """The policy's law is normalised; the exact flows of random rewards send exactly those rewards to the objects."""
    _, found, net = prepared(name)
    log_forward, log_back = enumeration.edge_log_policies(net, found)
    assert abs(enumeration.terminal_distribution(found, log_forward).sum() - 1) < 1e-6
    log_back -= np.log(np.bincount(found.child, weights=np.exp(log_back))[found.child])
    rewards = np.random.default_rng(0).normal(size=found.terminal.sum())
    flows, exact = enumeration.exact_flows(found, rewards, log_back)
    assert abs(flows[0] - np.log(np.exp(rewards).sum())) < 1e-12
    assert enumeration.total_variation(enumeration.terminal_distribution(found, exact), rewards) < 1e-12


@pytest.mark.parametrize("name", ["sequence", "independent-set"])
def test_trajectories_forward_and_back(name):
    """Drawn objects follow the exact law of the policy (4.5 sigma per object of 3000 paths); paths back reach the start, and
    both kinds are edges of the graph.
    """
    env, found, net = prepared(name)
    paths = jax.jit(jax.vmap(lambda key: rollout.forward(key, net)))(jax.random.split(jax.random.key(1), 3000))
    ends = env.numbers(np.asarray(paths.states[:, -1]))
    p = enumeration.terminal_distribution(found, enumeration.edge_log_policies(net, found)[0])
    counts = np.array([(ends == number).sum() for number in env.numbers(found.states[found.terminal])])
    assert counts.sum() == 3000
    assert (np.abs(counts - 3000 * p) < 4.5 * np.sqrt(3000 * p * (1 - p)) + 1).all()
    keys = jax.random.split(jax.random.key(2), 3000)
    back = jax.jit(jax.vmap(lambda key, state: rollout.backward(key, net, state)))(keys, paths.states[:, -1])
    assert np.array_equal(back.states[:, -1], paths.states[:, -1])
    for path in (paths, back):
        assert (np.asarray(path.states[:, 0]) == np.asarray(env.initial())).all()
        valid = np.asarray(path.valid)
        here, there = np.asarray(path.states[:, :-1])[valid], np.asarray(path.states[:, 1:])[valid]
        steps = jax.jit(jax.vmap(lambda state, action: (env.step(state, action), env.way_of(state, action))))
        reached, ways = steps(jnp.asarray(here), path.actions[valid])
        assert np.array_equal(reached, there)
        assert np.array_equal(ways, path.ways[valid])
        assert (~valid[:, :-1] <= ~valid[:, 1:]).all()  # steps that are not there come last


@pytest.mark.parametrize("name", ["hypergrid", "independent-set", "bag", "listed"])
def test_many_trajectories_are_those_of_one_by_one(name):
    """The batch that halves as trajectories end, and ends with the last one, draws, key by key, what a single one draws."""
    _, _, net = prepared(name)
    keys = jax.random.split(jax.random.key(5), 40)
    many = jax.jit(lambda keys: rollout.forward_many(keys, lambda number: net, 0.2))(keys)
    single = jax.jit(jax.vmap(lambda key: rollout.forward(key, net, 0.2)))(keys)
    assert np.array_equal(many.states, single.states)
    assert np.array_equal(many.valid, single.valid)
    for one, other in ((many.actions, single.actions), (many.ways, single.ways)):
        assert np.array_equal(np.asarray(one)[np.asarray(many.valid)], np.asarray(other)[np.asarray(single.valid)])


def test_impossible_environments():
    """Sizes of zero end in a sentence and not in an empty graph."""
    for make in (lambda: Bag(0, 3), lambda: Hypergrid(1, 0), lambda: Sequence(4, 0)):
        with pytest.raises(InvalidArgumentError, match="at least 1"):
            make()
