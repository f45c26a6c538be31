"""Trajectories: drawn forward from the policy, or backward from finished objects. Padded to one length, so that all are one "
"program.
"""

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

    def step(state, key):
        key_action, key_explore, key_uniform = jax.random.split(key, 3)
        going = ~env.finished(state)
        allowed = env.allowed(state) | ~going  # a finished state takes any label, and stays
        logits = jnp.where(going, net.heads(state).log_forward, 0.0)
        chosen = jax.random.categorical(key_action, logits)
        uniform = jax.random.categorical(key_uniform, jnp.where(allowed, 0.0, -jnp.inf))
        action = jnp.where(jax.random.uniform(key_explore) < exploration, uniform, chosen)
        way = env.way_of(state, action)
        new = jnp.where(going, env.step(state, action), state)
        return new, (new, action, way, going)

    keys = jax.random.split(key, env.longest)
    _, (states, actions, ways, valid) = jax.lax.scan(step, env.initial(), keys)
    return Trajectory(jnp.concatenate([env.initial()[None], states]), actions, ways, valid)


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
