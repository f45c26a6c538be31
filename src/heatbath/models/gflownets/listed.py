"""An environment that is a list: states by number, edges in tables. For objects that no arithmetic of arrays can build."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets.environment import Environment


class ListedGraph(Environment):
    """Edges parent -> child of a graph without cycles whose states have numbers 0 (the start) to n - 1.

    From every state the a-th edge that leaves it is action a, and the w-th edge that enters a state is its way back w. Two states
    are joined by one edge at most: however many ways of attaching a piece make the same object, it is one step, so that symmetry
    biases nothing. State: its number. Configuration: the number among the finished ones, in their order.

    seen (n, f) of bool are what a network sees of every state. Raises ``InvalidArgumentError`` for double edges, for states that
    nothing leads to, and for cycles.
    """

    children: Int[Array, "n actions"]
    parents: Int[Array, "n ways"]
    labels: tuple[Int[Array, "n actions"], Int[Array, "n ways"]]
    object_of: Int[Array, " n"]
    state_number: Int[Array, " objects"]
    seen: Array
    steps: int = eqx.field(static=True)

    def __init__(self, parent: np.ndarray, child: np.ndarray, seen: np.ndarray):
        parent, child = np.asarray(parent, dtype=np.int64), np.asarray(child, dtype=np.int64)
        count = len(seen)
        if len(np.unique(parent * count + child)) < len(parent):
            raise InvalidArgumentError("two edges join the same states; list each pair once")
        entered = np.bincount(child, minlength=count)
        if entered[0] or (entered[1:] == 0).any():
            raise InvalidArgumentError("nothing leads to the start 0, and every other state must have a parent")
        self.steps = _longest(count, parent, child)
        out_place, in_place = _places(parent), _places(child)
        shape = (count, int(out_place.max()) + 1), (count, int(in_place.max()) + 1)
        children, parents = np.full(shape[0], -1), np.full(shape[1], -1)
        ways, actions = np.zeros(shape[0], int), np.zeros(shape[1], int)
        children[parent, out_place], ways[parent, out_place] = child, in_place
        parents[child, in_place], actions[child, in_place] = parent, out_place
        finished = np.flatnonzero(np.bincount(parent, minlength=count) == 0)
        object_of = np.zeros(count, int)
        object_of[finished] = np.arange(len(finished))
        integers = (children, parents, ways, actions, object_of, finished)
        children, parents, ways, actions, object_of, finished = (jnp.asarray(a, jnp.int32) for a in integers)
        self.children, self.parents, self.labels = children, parents, (ways, actions)
        self.object_of, self.state_number, self.seen = object_of, finished, jnp.asarray(seen, bool)

    @property
    def actions(self) -> int:
        return self.children.shape[1]

    @property
    def ways_back(self) -> int:
        return self.parents.shape[1]

    @property
    def longest(self) -> int:
        return self.steps

    @property
    def shortest(self) -> int:
        return 1

    def initial(self):
        return jnp.zeros(1, jnp.int32)

    def allowed(self, state):
        return self.children[state[0]] >= 0

    def step(self, state, action):
        return self.children[state[0], action][None]

    def allowed_back(self, state):
        return self.parents[state[0]] >= 0

    def step_back(self, state, way):
        return self.parents[state[0], way][None]

    def way_of(self, state, action):
        return self.labels[0][state[0], action]

    def action_of(self, state, way):
        return self.labels[1][state[0], way]

    def configuration(self, state):
        return self.object_of[state[0]][None]

    def state_of(self, configuration):
        return self.state_number[configuration[0]][None]

    def features(self, state):
        return self.seen[state[0]].astype(jnp.float32)

    @property
    def places(self) -> int:
        return self.children.shape[0]

    def place(self, state):
        return state[0]

    def numbers(self, states):
        return states[:, 0].astype(np.int64)


def _places(ends: np.ndarray) -> np.ndarray:
    """For every edge, how many edges before it have the same end."""
    order = np.argsort(ends, kind="stable")
    first = np.searchsorted(ends[order], ends[order])
    places = np.empty(len(ends), dtype=np.int64)
    places[order] = np.arange(len(ends)) - first
    return places


def _longest(count: int, parent: np.ndarray, child: np.ndarray) -> int:
    """Number of edges of the longest path from 0. Raises ``InvalidArgumentError`` when there are cycles."""
    depth = np.zeros(count, dtype=np.int64)
    for _ in range(count + 1):
        new = depth.copy()
        np.maximum.at(new, child, depth[parent] + 1)
        if np.array_equal(new, depth):
            return int(depth.max())
        depth = new
    raise InvalidArgumentError("the edges go in a circle, so that building would never end")
