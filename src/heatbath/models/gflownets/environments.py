"""Ways of building: walking up a grid, filling a bag, writing a sequence from both ends, choosing an independent set."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets.environment import Environment


def _positive(**sizes: int) -> None:
    for name, (value, least) in {name: (value, 1) for name, value in sizes.items()}.items():
        if value < least:
            raise InvalidArgumentError(f"{name} must be at least {least}; found {value}")


class Hypergrid(Environment):
    """From the corner of a grid of ``side``^``dimension`` points, one step up along an axis at a time; the last action stops.

    State: coordinates and whether it has stopped. Configuration: coordinates. Several parents per state.
    """

    dimension: int = eqx.field(static=True)
    side: int = eqx.field(static=True)

    def __check_init__(self):
        _positive(dimension=self.dimension, side=self.side)

    @property
    def actions(self) -> int:
        return self.dimension + 1

    @property
    def longest(self) -> int:
        return self.dimension * (self.side - 1) + 1

    @property
    def shortest(self) -> int:
        return 1

    def initial(self):
        return jnp.zeros(self.dimension + 1, jnp.int32)

    def allowed(self, state):
        return jnp.append(state[:-1] < self.side - 1, True) & (state[-1] == 0)

    def step(self, state, action):
        return state.at[action].add(1)

    def allowed_back(self, state):
        stopped = state[-1] == 1
        return jnp.append((state[:-1] > 0) & ~stopped, stopped)

    def step_back(self, state, way):
        return state.at[way].add(-1)

    def configuration(self, state):
        return state[:-1]

    def state_of(self, configuration):
        return jnp.append(configuration, 1).astype(jnp.int32)

    def features(self, state):
        places = jax.nn.one_hot(state[:-1], self.side, dtype=jnp.float32).reshape(-1)
        return jnp.append(places, state[-1].astype(jnp.float32))

    @property
    def places(self) -> int:
        return 2 * self.side**self.dimension

    def place(self, state):
        return jnp.sum(state * jnp.asarray(self._radix(), jnp.int32))

    def _radix(self) -> np.ndarray:
        return np.append(self.side ** np.arange(self.dimension, dtype=np.int64), self.side**self.dimension)

    def numbers(self, states):
        return states.astype(np.int64) @ self._radix()


class Bag(Environment):
    """``size`` items of ``letters`` kinds, one at a time, in any order. State and configuration: how many of each kind."""

    letters: int = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __check_init__(self):
        _positive(letters=self.letters, size=self.size)

    @property
    def actions(self) -> int:
        return self.letters

    @property
    def longest(self) -> int:
        return self.size

    def initial(self):
        return jnp.zeros(self.letters, jnp.int32)

    def allowed(self, state):
        return jnp.broadcast_to(jnp.sum(state) < self.size, (self.letters,))

    def step(self, state, action):
        return state.at[action].add(1)

    def allowed_back(self, state):
        return state > 0

    def step_back(self, state, way):
        return state.at[way].add(-1)

    def state_of(self, configuration):
        return configuration.astype(jnp.int32)

    def features(self, state):
        return jax.nn.one_hot(state, self.size + 1, dtype=jnp.float32).reshape(-1)

    @property
    def places(self) -> int:
        return math.comb(self.letters + self.size, self.letters)

    def place(self, state):
        """The rank among bags of at most ``size`` items: with room r before and r' after kind i, and m kinds to follow, kind i
        adds C(r+m+1, m+1) - C(r'+m+1, m+1), the number of bags with fewer of it.
        """
        ways = [
            [math.comb(room + self.letters - kind, self.letters - kind) for room in range(self.size + 1)]
            for kind in range(self.letters)
        ]
        table, after = jnp.asarray(ways, jnp.int32), self.size - jnp.cumsum(state)
        kinds = jnp.arange(self.letters)
        return jnp.sum(table[kinds, after + state] - table[kinds, after])

    def numbers(self, states):
        return states.astype(np.int64) @ ((self.size + 1) ** np.arange(self.letters, dtype=np.int64))


class Sequence(Environment):
    """A word of ``length`` letters out of ``letters``, grown at both ends: actions 0..k-1 append a letter, k..2k-1 prepend one.

    State: letters from the left, letter + 1, then zeros. Configuration: letters 0..k-1. Two ways back: drop the first, drop
    the last. Without ``both_ends`` letters are appended only, and the one way back, number 0, drops the last.
    """

    letters: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    both_ends: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        _positive(letters=self.letters, length=self.length)

    @property
    def actions(self) -> int:
        return (2 if self.both_ends else 1) * self.letters

    @property
    def ways_back(self) -> int:
        return 2 if self.both_ends else 1

    @property
    def longest(self) -> int:
        return self.length

    def initial(self):
        return jnp.zeros(self.length, jnp.int32)

    def allowed(self, state):
        return jnp.broadcast_to(state[-1] == 0, (self.actions,))

    def step(self, state, action):
        letter = (action % self.letters + 1).astype(jnp.int32)
        appended = state.at[jnp.sum(state > 0)].set(letter)
        if not self.both_ends:
            return appended
        prepended = jnp.roll(state, 1).at[0].set(letter)
        return jnp.where(action < self.letters, appended, prepended)

    def allowed_back(self, state):
        return jnp.broadcast_to(state[0] > 0, (self.ways_back,))

    def step_back(self, state, way):
        without_last = state.at[jnp.sum(state > 0) - 1].set(0)
        if not self.both_ends:
            return without_last
        without_first = jnp.roll(state, -1).at[-1].set(0)
        return jnp.where(way == 0, without_first, without_last)

    def way_of(self, state, action):
        return jnp.where((action < self.letters) & self.both_ends, 1, 0)

    def action_of(self, state, way):
        last = state[jnp.sum(state > 0) - 1] - 1
        return jnp.where((way == 0) & self.both_ends, self.letters + state[0] - 1, last)

    def configuration(self, state):
        return state - 1

    def state_of(self, configuration):
        return (configuration + 1).astype(jnp.int32)

    def features(self, state):
        return jax.nn.one_hot(state, self.letters + 1, dtype=jnp.float32).reshape(-1)

    @property
    def places(self) -> int:
        return sum(self.letters**length for length in range(self.length + 1))

    def place(self, state):
        """How many words are shorter, and the letters read as digits, the first one fastest."""
        powers = [self.letters**length for length in range(self.length + 1)]
        shorter = jnp.asarray(np.append(0, np.cumsum(powers[:-1])), jnp.int32)
        digits = jnp.where(state > 0, state - 1, 0) * jnp.asarray(powers[:-1], jnp.int32)
        return shorter[jnp.sum(state > 0)] + jnp.sum(digits)

    def numbers(self, states):
        return states.astype(np.int64) @ ((self.letters + 1) ** np.arange(self.length, dtype=np.int64))


class IndependentSet(Environment):
    """A maximal independent set of a graph, one vertex at a time; neighbours of a chosen vertex are out.

    adjacency (n, n) symmetric without loops; vertices that are not ``present`` (padding) never take part. State: 0 undecided,
    1 in, 2 out. Configuration: 1 for the vertices of the set. A set of m vertices has m parents, and T = |S| steps lead to it.
    ``most`` bounds the size of sets where one knows better than n (cliques that cover the vertices), and with it all paths.
    """

    adjacency: Bool[Array, "n n"]
    present: Bool[Array, " n"]
    most: int = eqx.field(static=True)

    def __init__(self, adjacency, present=None, most: int | None = None):
        adjacency = jnp.asarray(adjacency, bool)
        self.adjacency, self.most = adjacency, adjacency.shape[-1] if most is None else most
        self.present = jnp.ones(adjacency.shape[-1], bool) if present is None else jnp.asarray(present, bool)

    @property
    def actions(self) -> int:
        return self.adjacency.shape[-1]

    @property
    def longest(self) -> int:
        return self.most

    @property
    def shortest(self) -> int:
        return 1

    def initial(self):
        return jnp.where(self.present, 0, 2).astype(jnp.int32)

    def _with(self, chosen):
        out = (self.adjacency.astype(jnp.float32) @ chosen.astype(jnp.float32) > 0) | ~self.present
        return jnp.where(chosen, 1, jnp.where(out, 2, 0)).astype(jnp.int32)

    def allowed(self, state):
        return state == 0

    def step(self, state, action):
        return self._with((state == 1).at[action].set(True))

    def allowed_back(self, state):
        return state == 1

    def step_back(self, state, way):
        return self._with((state == 1).at[way].set(False))

    def configuration(self, state):
        return (state == 1).astype(jnp.int32)

    def state_of(self, configuration):
        return self._with(configuration == 1)

    def features(self, state):
        return jax.nn.one_hot(state, 3, dtype=jnp.float32).reshape(-1)

    @property
    def places(self) -> int:
        return 2**self.actions

    def place(self, state):
        return jnp.sum(jnp.where(state == 1, 1 << jnp.arange(self.actions, dtype=jnp.int32), 0))

    def numbers(self, states):
        return (states == 1).astype(np.int64) @ (1 << np.arange(self.actions, dtype=np.int64))
