"""gfnx's side of ``gflownet_peer.py``: hypergrids, and words that are appended to; it has no bags."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gfnx.base import BaseRewardModule
from gfnx.environment.hypergrid import HypergridEnvironment
from gfnx.environment.sequence import FixedAutoregressiveSequenceEnvironment
from gfnx.reward.hypergrid import GeneralHypergridRewardModule
from gfnx.utils.rollout import forward_rollout, forward_trajectory_log_probs, split_traj_to_transitions

#: Steps of sampling or training in one call of a compiled function.
STEPS = 20


class TableReward(BaseRewardModule):
    """Log rewards of words, the last letter fastest."""

    def __init__(self, table, powers):
        self.table, self.powers = jnp.asarray(table, jnp.float32), jnp.asarray(powers)

    def init(self, rng_key, dummy_state):
        return None

    def log_reward(self, state, env_params):
        return self.table[jnp.sum(state.tokens * self.powers, axis=-1)]

    def reward(self, state, env_params):
        return jnp.exp(self.log_reward(state, env_params))


def _environment(problem):
    """The environment, its actions back, and what the network sees of an observation and of the states of the problem."""
    if problem["kind"] == "grid":
        dimension, side = (int(size) for size in problem["sizes"])
        reward = GeneralHypergridRewardModule(R0=float(problem["floor"]))
        env = HypergridEnvironment(reward, dim=dimension, side=side)
        hot = lambda states: jax.nn.one_hot(states, side).reshape(len(states), -1)  # noqa: E731
        seen = hot(jnp.asarray(problem["states"][:, :-1]))
        return env, dimension, dimension + 1, lambda observed: observed.astype(jnp.float32), seen
    if problem["kind"] != "word":
        raise SystemExit("gfnx has no such environment")
    letters, steps = (int(size) for size in problem["sizes"])
    reward = TableReward(problem["table"], letters ** np.arange(steps - 1, -1, -1))
    tokens = {"bos_token": letters, "eos_token": letters + 1, "pad_token": letters + 2}
    env = FixedAutoregressiveSequenceEnvironment(reward, steps, letters, letters + 3, **tokens)
    hot = lambda states: jax.nn.one_hot(states, letters + 1).reshape(len(states), -1)  # noqa: E731
    see = lambda observed: hot(jnp.where(observed[:, 1:] < letters, observed[:, 1:] + 1, 0))  # noqa: E731
    return env, 1, letters, see, hot(jnp.asarray(problem["states"]))


def made(problem, arguments):
    """Sampling, steps of training, and the log policy at all states."""
    if arguments.balance == "subtb":
        raise SystemExit("losses of parts of trajectories are not among the pieces of gfnx")
    env, ways, actions, see, every = _environment(problem)
    settings = env.init(jax.random.key(0))
    width = see(env.reset(1, settings)[0]).shape[-1]
    perceptron = lambda out, number: eqx.nn.MLP(  # noqa: E731
        width, out, arguments.width, 2, activation=jax.nn.leaky_relu, key=jax.random.key(2 * arguments.seed + number)
    )
    arrays, rest = eqx.partition(perceptron(actions, 1), eqx.is_inexact_array)
    flow, flow_rest = eqx.partition(perceptron(1, 10**6), eqx.is_inexact_array)
    params = {"net": arrays, "log_z": jnp.zeros(())} | ({"flow": flow} if arguments.balance == "db" else {})
    slow, fast = optax.adam(arguments.rate), optax.adam(100 * arguments.rate)
    optimiser = optax.multi_transform({"net": slow, "flow": slow, "log_z": fast}, {name: name for name in params})

    def policy(key, observed, params):
        logits = jax.vmap(eqx.combine(params["net"], rest))(see(observed))
        return logits, {"forward_logits": logits, "backward_logits": jnp.zeros((len(observed), ways))}

    def rollout(key, params):
        return forward_rollout(key, arguments.batch, policy, params, env, settings)

    @jax.jit
    def sample(key, params):
        many = lambda key: rollout(key, params)[1]["log_gfn_reward"].sum()  # noqa: E731
        return jax.lax.map(many, jax.random.split(key, STEPS)).sum()

    def trajectory_balance(params, key):
        paths, about = rollout(key, params)
        log_pf, log_pb = forward_trajectory_log_probs(env, paths, settings)
        return jnp.mean((params["log_z"] + log_pf - log_pb - about["log_gfn_reward"]) ** 2)

    def detailed_balance(params, key):
        edges = split_traj_to_transitions(rollout(key, params)[0])
        log_flow = lambda seen: jax.vmap(eqx.combine(params["flow"], flow_rest))(see(seen))[:, 0]  # noqa: E731
        logits = jax.vmap(eqx.combine(params["net"], rest))(see(edges.obs))
        log_pf = jax.nn.log_softmax(logits, where=~env.get_invalid_mask(edges.state, settings), axis=-1)
        log_pf = jnp.take_along_axis(log_pf, edges.action[:, None], axis=-1)[:, 0]
        log_pb = -jnp.log(jnp.sum(~env.get_invalid_backward_mask(edges.next_state, settings), axis=-1))
        end = jnp.where(edges.done, edges.log_gfn_reward, log_flow(edges.next_obs))
        misses = jnp.where(edges.pad, 0.0, (log_flow(edges.obs) + log_pf - log_pb - end) ** 2)
        return jnp.sum(misses) / jnp.sum(~edges.pad)

    loss = {"tb": trajectory_balance, "db": detailed_balance}[arguments.balance]

    @jax.jit
    def train(key, params, state):
        def one(held, key):
            params, state = held
            updates, state = optimiser.update(jax.grad(loss)(params, key), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(one, (params, state), jax.random.split(key, STEPS))[0]

    held = {"params": params, "state": optimiser.init(params)}
    keys = (jax.random.fold_in(jax.random.key(2 * arguments.seed + 2), number) for number in range(10**9))

    def training():
        new = jax.block_until_ready(train(next(keys), held["params"], held["state"]))
        held["params"], held["state"] = new

    def sampling():
        sample(next(keys), params).block_until_ready()

    def log_policy():
        logits = np.array(jax.lax.map(eqx.combine(held["params"]["net"], rest), every, batch_size=4096), np.float64)
        if problem["kind"] == "grid":
            side = int(problem["sizes"][1])
            logits[:, :-1][problem["states"][:, :-1] >= side - 1] = -np.inf
        return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

    return {"sampling": sampling, "training": training, "log_policy": log_policy, "batch": STEPS * arguments.batch}
