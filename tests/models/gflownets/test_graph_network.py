"""One network for many graphs: sets that it draws are independent and maximal, absent vertices stay out, labels do not matter."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.models.gflownets import enumeration, rollout
from heatbath.models.gflownets.graph_network import GraphGFlowNet, padded
from heatbath.random import named_key
from heatbath.targets.graphs import is_maximal_independent
from heatbath.training.gflownet_training import FlowTraining
from heatbath.training.objectives.gflownet import FlowBalance


def graph(size, seed, density=0.35):
    upper = np.triu(np.random.default_rng(seed).random((size, size)) < density, 1)
    return upper | upper.T


GRAPHS = [graph(9, 0), graph(7, 1), graph(8, 2)]


def network(most=9):
    environments = padded(GRAPHS).environments(most)
    one = jax.tree.map(lambda leaf: leaf[0], environments)
    return environments, GraphGFlowNet.create(jax.random.key(0), one, width=8, depth=2)


def placed(net, environments, number):
    return eqx.tree_at(lambda n: n.environment, net, jax.tree.map(lambda leaf: leaf[number], environments))


def test_every_set_is_independent_and_maximal():
    """An untrained network on graphs of three sizes; padding never takes part."""
    environments, net = network()

    @eqx.filter_jit
    def ends(net, keys):
        return jax.vmap(lambda key: rollout.forward(key, net).states[-1])(keys)

    for number, adjacency in enumerate(GRAPHS):
        states = np.asarray(ends(placed(net, environments, number), jax.random.split(jax.random.key(1), 50)))
        assert (states[:, len(adjacency) :] == 2).all()
        assert all(is_maximal_independent(adjacency, state[: len(adjacency)] == 1) for state in states)


def test_names_of_vertices_do_not_matter():
    """Renumbering the vertices renumbers the policy and leaves the flow."""
    environments, net = network()
    order = np.random.default_rng(3).permutation(9)
    adjacency = GRAPHS[0][np.ix_(order, order)]
    other = eqx.tree_at(lambda n: n.environment.adjacency, placed(net, environments, 0), jnp.asarray(adjacency))
    here = placed(net, environments, 0).heads(placed(net, environments, 0).environment.initial())
    there = other.heads(other.environment.initial())
    np.testing.assert_allclose(there.log_forward, here.log_forward[order], atol=1e-5)
    np.testing.assert_allclose(there.log_flow, here.log_flow, rtol=1e-4)


def test_the_scale_multiplies_what_is_learned():
    """Logits and flow of a network with scale 3 are three times those of the same weights with scale 1."""
    environments, net = network()
    placed_net = placed(net, environments, 0)
    scaled = dataclasses.replace(placed_net, scale=3.0)
    state = net.environment.initial()
    here, there = placed_net.heads(state), scaled.heads(state)
    differences = [heads.log_forward - heads.log_forward[0] for heads in (here, there)]
    np.testing.assert_allclose(differences[1], 3 * differences[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.log_flow, 3 * here.log_flow, rtol=1e-5)


@pytest.mark.slow
def test_one_network_learns_the_laws_of_three_graphs():
    """exp(2 |S|) over maximal sets of every graph, exactly compared: total variation below 0.05; above 0.05 untrained."""
    environments, _ = network()
    one = jax.tree.map(lambda leaf: leaf[0], environments)
    net = GraphGFlowNet.create(jax.random.key(0), one, width=32, depth=3)
    objective = FlowBalance(
        lambda x: -2.0 * jnp.sum(x).astype(jnp.float32), draws=16, decomposition="learned", exploration=0.1, dropout=0.1
    )
    options = {"rounds": 1500, "replay": 16, "updates": 1, "potential_updates": 1, "rounds_per_chunk": 1500}
    process = FlowTraining(net, objective, environments=environments, rate=3e-3, **options)
    carry, _ = process.advance(process.begin(named_key(jax.random.key(0), "graphs")))

    def distances(net):
        found = []
        for number in range(len(GRAPHS)):
            placed_net = placed(net, environments, number)
            listed = enumeration.enumerate_states(placed_net.environment)
            law = enumeration.terminal_distribution(listed, enumeration.edge_log_policies(placed_net, listed)[0])
            sizes = (listed.states[listed.terminal] == 1).sum(axis=1)
            found.append(enumeration.total_variation(law, 2.0 * sizes))
        return np.array(found)

    assert (distances(net) > 0.05).all()
    found = distances(process.trained(carry))
    assert (found < 0.05).all(), found
