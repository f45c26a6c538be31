"""Every state of an environment that is small enough, and by it the exact law of what a network builds: no sampling anywhere."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.errors import ResourceError
from heatbath.models.gflownets.environment import Environment

#: States beyond which nothing is enumerated.
MOST_STATES = 2_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Enumeration:
    """All states (n, k) in an order in which parents come before children, and all edges by parent, child and labels.

    ``depth`` (n,) is the largest number of steps that lead to a state; ``terminal`` (n,) of bool; edges are sorted by the
    depth of their parent.
    """

    environment: Environment
    states: np.ndarray
    depth: np.ndarray
    terminal: np.ndarray
    parent: np.ndarray
    child: np.ndarray
    action: np.ndarray
    way: np.ndarray

    @property
    def configurations(self) -> np.ndarray:
        """The objects of the terminal states, in their order."""
        return np.asarray(_configurations(self.environment, jnp.asarray(self.states[self.terminal])))

    @functools.cached_property
    def layers(self) -> list[np.ndarray]:
        """Numbers of edges, by the depth of their parent."""
        depths = self.depth[self.parent]
        return [np.flatnonzero(depths == depth) for depth in range(int(self.depth.max()) + 1)]


@eqx.filter_jit
def _configurations(env: Environment, states):
    return jax.vmap(env.configuration)(states)


@eqx.filter_jit
def _expand(env: Environment, states):
    actions = jnp.arange(env.actions)

    def of_one(state):
        return (
            env.allowed(state),
            jax.vmap(lambda a: env.step(state, a))(actions),
            jax.vmap(lambda a: env.way_of(state, a))(actions),
        )

    return jax.lax.map(of_one, states, batch_size=4096)


def enumerate_states(env: Environment) -> Enumeration:
    """All states, breadth first. Raises ``ResourceError`` beyond ``MOST_STATES``."""
    known: dict[int, int] = {}
    states: list[np.ndarray] = []
    frontier = np.asarray(env.initial())[None]
    known[int(env.numbers(frontier)[0])] = 0
    states.append(frontier)
    edges, first = [], 0
    while len(frontier):
        allowed, children, ways = (np.asarray(leaf) for leaf in _expand(env, jnp.asarray(_padded(frontier))))
        allowed, children, ways = allowed[: len(frontier)], children[: len(frontier)], ways[: len(frontier)]
        row, action = np.nonzero(allowed)
        found = children[row, action]
        numbers = env.numbers(found)
        unique, place, inverse = np.unique(numbers, return_index=True, return_inverse=True)
        fresh = np.array([int(number) not in known for number in unique], dtype=bool)
        for number in unique[fresh]:
            known[int(number)] = len(known)
        if len(known) > MOST_STATES:
            raise ResourceError(f"this environment has more than {MOST_STATES} states and cannot be enumerated")
        ids = np.array([known[int(number)] for number in unique], dtype=np.int64)
        edges.append(
            np.stack([first + row, ids[inverse], action, ways[row, action]], axis=1)
            if len(row)
            else np.zeros((0, 4), int)
        )
        first += len(frontier)
        frontier = found[place[fresh]]
        states.append(frontier)
    every = np.concatenate(states)
    parent, child, action, way = np.concatenate(edges).T
    depth = _depths(len(every), parent, child)
    order = np.argsort(depth[parent], kind="stable")
    terminal = np.ones(len(every), dtype=bool)
    terminal[parent] = False
    return Enumeration(env, every, depth, terminal, parent[order], child[order], action[order], way[order])


def _padded(rows: np.ndarray) -> np.ndarray:
    """Rows up to the next power of two, so that few programs are compiled."""
    size = 1 << (len(rows) - 1).bit_length()
    return np.concatenate([rows, np.broadcast_to(rows[:1], (size - len(rows), *rows.shape[1:]))])


def _depths(count: int, parent: np.ndarray, child: np.ndarray) -> np.ndarray:
    """Longest path to every state: relaxed until nothing changes."""
    depth = np.zeros(count, dtype=np.int64)
    while True:
        new = depth.copy()
        np.maximum.at(new, child, depth[parent] + 1)
        if np.array_equal(new, depth):
            return depth
        depth = new


def terminal_distribution(enumeration: Enumeration, edge_log_forward: np.ndarray) -> np.ndarray:
    """P(x) of every terminal state, from log probabilities of every edge forward: the flow of 1 from the initial state."""
    reach = np.zeros(len(enumeration.states))
    reach[0] = 1.0
    probabilities = np.exp(np.asarray(edge_log_forward, dtype=np.float64))
    for edges in enumeration.layers:
        np.add.at(reach, enumeration.child[edges], reach[enumeration.parent[edges]] * probabilities[edges])
    return reach[enumeration.terminal]


def edge_log_policies(net: Any, enumeration: Enumeration) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities of every edge, forward and back, by a network (anything with ``heads``)."""
    log_forward, log_back = (
        np.asarray(leaf, dtype=np.float64) for leaf in _policies(net, jnp.asarray(enumeration.states))
    )
    return log_forward[enumeration.parent, enumeration.action], log_back[enumeration.child, enumeration.way]


@eqx.filter_jit
def _policies(net: Any, states):
    def of_one(state):
        heads = net.heads(state)
        return heads.log_forward, heads.log_back

    return jax.lax.map(of_one, states, batch_size=8192)


def exact_flows(
    enumeration: Enumeration, log_rewards: np.ndarray, edge_log_back: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log flow of every state and log probability forward of every edge, that send exp(log_rewards) into the terminal states.

    F(s) = sum over children of F(s') P_B(s | s'), P_F = F(s') P_B / F(s). The flow of the initial state is Z.
    """
    log_flow = np.full(len(enumeration.states), -np.inf)
    log_flow[enumeration.terminal] = log_rewards
    for edges in reversed(enumeration.layers):
        parts = log_flow[enumeration.child[edges]] + edge_log_back[edges]
        np.logaddexp.at(log_flow, enumeration.parent[edges], parts)
    log_forward = log_flow[enumeration.child] + edge_log_back - log_flow[enumeration.parent]
    return log_flow, log_forward


def total_variation(p: np.ndarray, log_rewards: np.ndarray) -> float:
    """Half the sum of |p - exp(log_rewards)/Z|."""
    rewards = np.exp(log_rewards - np.max(log_rewards))
    return float(0.5 * np.abs(p - rewards / rewards.sum()).sum())
