"""Losses of flows: zero with zero gradient at the exact solution, not zero elsewhere; a short training; honest weights."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets import enumeration
from heatbath.models.gflownets.environments import Bag, Sequence
from heatbath.models.gflownets.network import GFlowNet, Heads
from heatbath.models.gflownets.rollout import forward
from heatbath.samplers.gflownet import FromGFlowNet
from heatbath.targets.sets import BagReward, GridReward, SetSize, checked_log_rewards
from heatbath.training import AdamW, Constant, fit
from heatbath.training.objectives.gflownet import FlowBalance

BALANCES = ("db", "tb", "subtb")


class Table(eqx.Module):
    """A network that looks everything up: free numbers for every state of an enumerated environment."""

    environment: Sequence
    log_forward: jax.Array
    log_back: jax.Array
    log_flow: jax.Array
    potential: jax.Array
    log_z: jax.Array
    places: jax.Array

    def heads(self, state):
        row = self.places[jnp.sum(state * 3 ** jnp.arange(3))]
        pick = lambda table: table[row]  # noqa: E731
        return Heads(pick(self.log_forward), pick(self.log_back), pick(self.log_flow), pick(self.potential))


@functools.cache
def solved(decomposition):
    """The exact solution on words of three letters, with the potentials of a random function of the state where they are "
    "learned."""
    env = Sequence(2, 3)
    found = enumeration.enumerate_states(env)
    rng = np.random.default_rng(3)
    states = found.states
    height = rng.normal(size=len(states))
    height[0] = 0.0
    rewards = height[found.terminal]
    edge_back = -np.log(np.bincount(found.child)[found.child])
    flow, edge_forward = enumeration.exact_flows(found, rewards, edge_back)
    shape = (len(states), env.actions)
    log_forward, log_back, potential = np.full(shape, -np.inf), np.full((len(states), 2), -np.inf), np.zeros(shape)
    log_forward[found.parent, found.action] = edge_forward
    log_back[found.child, found.way] = edge_back
    potential[found.parent, found.action] = height[found.child] - height[found.parent]
    tilde = flow - (0.0 if decomposition == "none" else height)
    places = np.zeros(27, dtype=int)
    places[states @ 3 ** np.arange(3)] = np.arange(len(states))
    table = Table(env, *map(jnp.asarray, (log_forward, log_back, tilde, potential, flow[0], places)))
    heights = jnp.asarray(height)
    u = lambda x: -heights[table.places[jnp.sum((x + 1) * 3 ** jnp.arange(3))]]  # noqa: E731
    partial = lambda state: -heights[table.places[jnp.sum(state * 3 ** jnp.arange(3))]]  # noqa: E731
    return table, u, partial


def losses(table, objective, count=16):
    keys = jax.random.split(jax.random.key(0), count)

    def total(values):
        model = eqx.tree_at(lambda t: (t.log_flow, t.log_z, t.potential), table, values)
        paths = jax.vmap(lambda key: forward(key, table, 0.5))(keys)
        flow, potential, _ = jax.vmap(lambda key, path: objective.of_path(key, model, path))(keys, paths)
        return jnp.mean(flow), jnp.mean(potential)

    values = (table.log_flow, table.log_z, table.potential)
    (flow, potential), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(values)
    size = max(float(jnp.abs(leaf).max()) for leaf in gradient)
    return float(flow), size, float(potential)


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("decomposition", ["none", "forward-looking", "learned"])
def test_the_exact_solution_is_a_fixed_point(balance, decomposition):
    """Loss below 1e-10 and no gradient, for potentials that are any function of the state; several parents per state."""
    table, u, partial = solved(decomposition)
    options = {"partial_u": partial} if decomposition == "forward-looking" else {}
    objective = FlowBalance(u, balance=balance, decomposition=decomposition, dropout=0.0, **options)
    flow, gradient, potential = losses(table, objective)
    assert flow < 1e-10
    assert gradient < 1e-5
    assert potential < 1e-10


@pytest.mark.parametrize("balance", BALANCES)
def test_a_wrong_boundary_is_no_fixed_point(balance):
    """Negative control: with the flows of the undecomposed problem, or a reward shifted by 0.3, the loss is not zero."""
    table, u, _ = solved("none")
    assert losses(table, FlowBalance(lambda x: u(x) + 0.3, balance=balance))[0] > 1e-3
    wrong, u, _ = solved("learned")
    shifted = eqx.tree_at(lambda t: (t.log_flow, t.log_z), wrong, (wrong.log_flow + 0.3, wrong.log_z + 0.3))
    assert losses(shifted, FlowBalance(u, balance=balance, decomposition="learned"))[0] > 1e-3


def test_what_a_residual_is_spread_over():
    """Potentials that lack 0.6 on every path keep the fixed point with correction only where the flows know of it."""
    table, u, _ = solved("learned")
    short = eqx.tree_at(lambda t: t.potential, table, table.potential - 0.2)  # every path has three steps
    assert losses(short, FlowBalance(u, decomposition="learned", dropout=0.0))[0] < 1e-10
    assert losses(short, FlowBalance(u, decomposition="learned", dropout=0.0, correct=False))[0] > 1e-3


@pytest.mark.slow
def test_a_short_training_finds_the_law():
    """Detailed balance with learned potentials on bags of 4 letters: total variation falls from above 0.5 to below 0.1."""
    env, target = Bag(3, 4), BagReward(3, 4, 3, share=0.5)
    found = enumeration.enumerate_states(env)
    rewards = -np.asarray(jax.jit(jax.vmap(target.energy))(jnp.asarray(found.configurations)))

    def distance(net):
        log_forward, _ = enumeration.edge_log_policies(net, found)
        return enumeration.total_variation(enumeration.terminal_distribution(found, log_forward), rewards)

    net = GFlowNet.create(jax.random.key(0), env, width=32, depth=1)
    objective = FlowBalance(target.energy, draws=32, decomposition="learned", exploration=0.2)
    assert objective.evaluations(1) == 32
    made = fit(
        jax.random.key(1),
        net,
        objective,
        steps=800,
        batch_size=1,
        optimiser=AdamW(Constant(5e-3)),
        ema=0.98,
        steps_per_chunk=400,
    )
    assert distance(net) > 0.3
    assert distance(made.model) < 0.1


def test_weights_are_honest_without_any_training():
    """The mean weight of an untrained network is Z (4.5 sigma of 4000 paths): the paths' weights lack nothing."""
    env, target = Bag(3, 4), BagReward(3, 4, 3, share=0.5)
    net = GFlowNet.create(jax.random.key(0), env, width=8, depth=1, learned_back=True)
    keys = jax.random.split(jax.random.key(2), 4000)
    bags, log_weights = jax.jit(jax.vmap(lambda key: FromGFlowNet(net).draw(key, target.energy)))(keys)
    assert (np.asarray(bags).sum(axis=1) == 4).all()
    weights = np.exp(np.asarray(log_weights, dtype=np.float64))
    assert abs(weights.mean() - np.exp(target.log_z(1.0))) < 4.5 * weights.std() / np.sqrt(len(weights))


def test_bad_rewards_are_refused():
    """Negative, NaN, all zero, empty; impossible targets."""
    for rewards, word in (([1.0, -1.0], "negative"), ([1.0, np.nan], "finite"), ([0.0, 0.0], "zero"), ([], "finite")):
        with pytest.raises(InvalidArgumentError, match=word):
            checked_log_rewards(rewards)
    assert checked_log_rewards([0.0, 1.0])[0] == -np.inf
    for make in (lambda: GridReward(floor=0.0), lambda: BagReward(needed=20), lambda: SetSize(np.eye(3))):
        with pytest.raises(InvalidArgumentError):
            make()
    with pytest.raises(InvalidArgumentError, match="partial_u"):
        FlowBalance(lambda x: 0.0, decomposition="forward-looking")


def test_the_full_bag_is_as_described():
    """27 132 bags of 13 out of 7 letters, 6468 with a letter at least seven times; modes are a quarter of those."""
    target = BagReward()
    bags = target.bags()
    assert len(bags) == 27_132
    assert (bags.max(axis=1) >= 7).sum() == 6468
    share = len(target.is_mode) / 6468
    assert abs(share - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / 6468)
    expected = len(target.is_mode) * 30 + (6468 - len(target.is_mode)) * 10 + (27_132 - 6468) * 0.01
    assert abs(target.log_z(1.0) - np.log(expected)) < 1e-9
