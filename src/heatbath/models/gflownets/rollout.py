"""Trajectories: drawn forward from the policy, or backward from finished objects. Padded to one length, so that all are one "
"program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from heatbath.models.gflownets.environment import Environment
from heatbath.models.gflownets.noted import Layers


class Trajectory(NamedTuple):
    """``states`` (T+1, k), the last one repeated after the end; ``actions`` and ``ways`` (T,), labels of every edge; ``valid``
    (T,), which steps are there.
    """

    states: Int[Array, "*batch t1 k"]
    actions: Int[Array, "*batch t"]
    ways: Int[Array, "*batch t"]
    valid: Bool[Array, "*batch t"]


#: Most actions whose running sum is written out.
FEW = 32
#: Fewest trajectories that are still worth a narrower program of their own.
NARROWEST = 8


def forward(key: Key[Array, ""], net: Any, exploration: Float[Array, ""] | float = 0.0) -> Trajectory:
    """One trajectory of the policy; with probability ``exploration`` a step is uniform over what is allowed."""
    env = net.environment

    def step(state, place):
        going = ~env.finished(state)
        action = _action(net, exploration, state, _uniform(key, place))
        new = jnp.where(going, env.step(state, action), state)
        return new, (new, action, env.way_of(state, action), going)

    _, (states, actions, ways, valid) = jax.lax.scan(step, env.initial(), jnp.arange(env.longest))
    return Trajectory(jnp.concatenate([env.initial()[None], states]), actions, ways, valid)


def _uniform(key: Array, place: Array) -> Array:
    """The one random number in [0, 1) that decides step number ``place`` of a trajectory."""
    return jax.random.uniform(jax.random.fold_in(key, place), dtype=jnp.float32)


def _action(net: Any, exploration: Any, state: Array, u: Array) -> Array:
    """The action whose part of [0, 1) holds ``u``: actions are laid end to end, each as long as it is likely. One of the allowed
    ones whatever is rounded; any in a finished state.
    """
    return _chosen(net.environment.allowed(state), net.heads(state).log_forward, exploration, u)


def _chosen(allowed: Array, log_forward: Array, exploration: Any, u: Array) -> Array:
    likely = jnp.exp(log_forward)
    if not isinstance(exploration, float) or exploration > 0:
        even = allowed / jnp.maximum(jnp.sum(allowed), 1)
        likely = (1 - exploration) * likely + exploration * even.astype(likely.dtype)
    ends = _running_sum(likely)
    last = allowed.shape[0] - 1 - jnp.argmax(allowed[::-1])
    return jnp.minimum(jnp.sum(ends <= u * ends[-1]), last).astype(jnp.int32)


def _running_sum(values: Array) -> Array:
    """cumsum; of few values as one product that compilers fuse with what is around it."""
    count = values.shape[0]
    if count > FEW:
        return jnp.cumsum(values)
    return jnp.sum(jnp.where(np.tri(count, dtype=bool), values[None, :], 0), axis=1)


def forward_many(
    keys: Key[Array, " n"],
    net_of: Callable[[Int[Array, ""]], Any],
    exploration: Float[Array, ""] | float = 0.0,
) -> Trajectory:
    """``forward`` for every key, of the network ``net_of(number)``, all with one shape. Where paths end early, half the rows are
    left out as soon as half the trajectories have ended, and so on, and it ends when the last one does: the network is asked
    for little more than the states that there are.
    """
    count, env = keys.shape[0], net_of(jnp.zeros((), jnp.int32)).environment
    numbers = jnp.arange(count)
    first = jax.vmap(lambda number: net_of(number).environment.initial())(numbers)
    if env.shortest == env.longest:
        look = lambda number, state: (net_of(number).heads(state), ())  # noqa: E731
        return _even(keys, net_of, exploration, first, look)[0]
    states, actions, valid = _uneven(keys, net_of, exploration, first, env.longest)
    of_path = jax.vmap(lambda number, state, action: net_of(number).environment.way_of(state, action), (None, 0, 0))
    return Trajectory(states, actions, jax.vmap(of_path)(numbers, states[:, :-1], actions), valid)


def forward_noted(
    keys: Key[Array, " n"], net: Any, exploration: Float[Array, ""] | float = 0.0
) -> tuple[Trajectory, Layers]:
    """``forward`` for every key where all paths are equally long, with the layers (T, n, width) of the perceptron at all states
    but the last; they are large, and stay in the order in which they were made.
    """
    env = net.environment
    first = jnp.broadcast_to(env.initial(), (keys.shape[0], *env.initial().shape))
    return _even(keys, lambda number: net, exploration, first, lambda _, state: net.noted_heads(state))


def _even(
    keys: Array, net_of: Callable[[Any], Any], exploration: Any, first: Array, look: Callable[[Any, Array], Any]
) -> tuple[Trajectory, Any]:
    """All trajectories are equally long: none has ended before the others. ``look(number, state)``: what the network of a
    trajectory says, and what is worth noting besides, which is returned with steps first.
    """

    def of_one(number, state, u):
        env = net_of(number).environment
        heads, note = look(number, state)
        action = _chosen(env.allowed(state), heads.log_forward, exploration, u)
        return env.step(state, action), action, env.way_of(state, action), note

    def step(states, us):
        new, *rest = jax.vmap(of_one)(jnp.arange(len(keys)), states, us)
        return new, (new, *rest)

    longest = net_of(jnp.zeros((), jnp.int32)).environment.longest
    us = jax.vmap(jax.vmap(_uniform, (0, None)), (None, 0))(keys, jnp.arange(longest))
    _, (states, actions, ways, notes) = jax.lax.scan(step, first, us)
    states = jnp.concatenate([first[None], states])
    states, actions, ways = (jnp.moveaxis(leaf, 0, 1) for leaf in (states, actions, ways))
    return Trajectory(states, actions, ways, jnp.ones(actions.shape, bool)), notes


def _uneven(
    keys: Array, net_of: Callable[[Any], Any], exploration: Any, first: Array, longest: int
) -> tuple[Array, Array, Array]:
    """States, actions, and which steps are there."""
    (count, width), numbers = first.shape, jnp.arange(len(keys))

    def of_one(number, state, place):
        net = net_of(number)
        going = ~net.environment.finished(state)
        action = _action(net, exploration, state, _uniform(keys[number], place))
        return jnp.where(going, net.environment.step(state, action), state), action, going

    def goes_on(number, state):
        return ~net_of(number).environment.finished(state)

    # one row per step: the new state, the action, whether there was a step
    path = jnp.zeros((longest, count, width + 2), first.dtype)
    states, place, ended, rows = first, jnp.int32(0), first, count
    while True:
        narrower = rows // 2 if rows >= 2 * NARROWEST else 0

        def body(held, numbers=numbers, rows=rows):
            place, states, _, path = held
            new, actions, going = jax.vmap(of_one, in_axes=(0, 0, None))(numbers, states, place)
            row = jnp.concatenate([new, actions[:, None], going[:, None].astype(new.dtype)], axis=1)
            path = path.at[place].set(row) if rows == count else path.at[place, numbers].set(row)
            still = jnp.sum(jax.vmap(goes_on)(numbers, new))
            return place + 1, new, still, path

        def more(held, narrower=narrower):
            return (held[0] < longest) & (held[2] > narrower)

        still = jnp.sum(jax.vmap(goes_on)(numbers, states))
        place, states, _, path = jax.lax.while_loop(more, body, (place, states, still, path))
        ended = states if rows == count else ended.at[numbers].set(states)
        if not narrower:
            break
        order = jnp.argsort(~jax.vmap(goes_on)(numbers, states), stable=True)[:narrower]
        numbers, states, rows = numbers[order], states[order], narrower
    valid = path[..., -1] > 0
    actions = path[..., -2]
    states = jnp.where(valid[..., None], path[..., :-2], ended[None])
    states = jnp.concatenate([first[None], states])
    states, actions, valid = (jnp.moveaxis(leaf, 0, 1) for leaf in (states, actions, valid))
    return states, actions, valid


def backward(key: Key[Array, ""], net: PyTree, state: Int[Array, " k"]) -> Trajectory:
    """A trajectory that ends in the finished ``state``, its steps drawn from the policy back."""
    env = net.environment

    def step(state, key):
        ways = env.allowed_back(state)
        going = jnp.any(ways)
        logits = jnp.where(going, net.heads(state).log_back, 0.0)
        way = jax.random.categorical(key, logits)
        action = env.action_of(state, way)
        parent = jnp.where(going, env.step_back(state, way), state)
        return parent, (parent, action, way, going)

    _, (states, actions, ways, valid) = jax.lax.scan(step, state, jax.random.split(key, env.longest))
    # reversed, the steps that are not there come first; roll them to the end
    count = jnp.sum(valid)
    order = (jnp.arange(env.longest) + env.longest - count) % env.longest
    actions, ways, valid = (leaf[::-1][order] for leaf in (actions, ways, valid))
    path = jnp.concatenate([states[::-1], state[None]])
    places = jnp.minimum(jnp.arange(env.longest + 1) + env.longest - count, env.longest)
    return Trajectory(path[places], actions, ways, valid)


def log_probabilities(net: PyTree, path: Trajectory) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """Log probabilities of every step of one trajectory, forward and back; 0 where there is none."""
    heads = jax.vmap(net.heads)(path.states)
    log_pf = jnp.take_along_axis(heads.log_forward[:-1], path.actions[:, None], axis=1)[:, 0]
    log_pb = jnp.take_along_axis(heads.log_back[1:], path.ways[:, None], axis=1)[:, 0]
    return jnp.where(path.valid, log_pf, 0.0), jnp.where(path.valid, log_pb, 0.0)


def finished_configuration(env: Environment, path: Trajectory) -> Int[Array, "..."]:
    """The object that a trajectory ends in."""
    return env.configuration(path.states[-1])
