"""Trajectories: drawn forward from the policy, or backward from finished objects. Padded to one length, so that all are one "
"program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from heatbath.models.gflownets.environment import Environment


class Trajectory(NamedTuple):
    """``states`` (T+1, k), the last one repeated after the end; ``actions`` and ``ways`` (T,), labels of every edge; ``valid``
    (T,), which steps are there.
    """

    states: Int[Array, "*batch t1 k"]
    actions: Int[Array, "*batch t"]
    ways: Int[Array, "*batch t"]
    valid: Bool[Array, "*batch t"]


def forward(key: Key[Array, ""], net: Any, exploration: Float[Array, ""] | float = 0.0) -> Trajectory:
    """One trajectory of the policy; with probability ``exploration`` a step is uniform over what is allowed."""
    env = net.environment

    keys = jax.random.split(key, env.longest)

    def step(state, key):
        state, labels = _step(net, exploration, state, key)
        return state, (state, *labels)

    _, (states, actions, ways, valid) = jax.lax.scan(step, env.initial(), keys)
    return Trajectory(jnp.concatenate([env.initial()[None], states]), actions, ways, valid)


def _step(net: Any, exploration: Any, state: Array, key: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    """The next state, and action, way and whether there was a step at all."""
    env = net.environment
    key_action, key_explore, key_uniform = jax.random.split(key, 3)
    going = ~env.finished(state)
    allowed = env.allowed(state) | ~going  # a finished state takes any label, and stays
    logits = jnp.where(going, net.heads(state).log_forward, 0.0)
    chosen = jax.random.categorical(key_action, logits)
    uniform = jax.random.categorical(key_uniform, jnp.where(allowed, 0.0, -jnp.inf))
    action = jnp.where(jax.random.uniform(key_explore) < exploration, uniform, chosen)
    new = jnp.where(going, env.step(state, action), state)
    return new, (action, env.way_of(state, action), going)


def forward_many(
    keys: Key[Array, " n"],
    net_of: Callable[[Int[Array, ""]], Any],
    exploration: Float[Array, ""] | float = 0.0,
) -> Trajectory:
    """``forward`` for every key, of the network ``net_of(number)``, all with one shape: it ends when the last trajectory does and
    not after the longest that there could be.
    """
    count, env = keys.shape[0], net_of(jnp.zeros((), jnp.int32)).environment
    step_keys = jax.vmap(lambda key: jax.random.split(key, env.longest))(keys)

    def of_one(number, state, key):
        return _step(net_of(number), exploration, state, key)

    def body(held):
        place, states, path = held
        states, (actions, ways, going) = jax.vmap(of_one)(jnp.arange(count), states, step_keys[:, place])
        new = (states, actions, ways, going)
        return place + 1, states, tuple(old.at[place].set(leaf) for old, leaf in zip(path, new, strict=True))

    def goes_on(held):
        place, states, _ = held
        going = jax.vmap(lambda number, state: ~net_of(number).environment.finished(state))(jnp.arange(count), states)
        return (place < env.longest) & jnp.any(going)

    first = jax.vmap(lambda number: net_of(number).environment.initial())(jnp.arange(count))
    shapes = jax.eval_shape(lambda: jax.vmap(of_one)(jnp.arange(count), first, step_keys[:, 0]))
    leaves = (shapes[0], *shapes[1])
    empty = tuple(jnp.zeros((env.longest, *leaf.shape), leaf.dtype) for leaf in leaves)
    place, last, (states, actions, ways, valid) = jax.lax.while_loop(goes_on, body, (jnp.int32(0), first, empty))
    done = jnp.arange(env.longest) >= place
    states = jnp.where(done[:, None, None], last[None], states)
    path = Trajectory(jnp.concatenate([first[None], states]), actions, ways, valid)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), path)


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
