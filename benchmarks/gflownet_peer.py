"""The other side of ``gflownet_speed.py``: torchgfn or gfnx on the same hypergrid, in an environment of their own.

    PEER/bin/python benchmarks/gflownet_peer.py torchgfn|gfnx --dimension 4 --side 16 --batch 128 --seconds 10

Prints one line of JSON: trajectories per second of processor time, sampled from the policy and (torchgfn) in training by trajectory
balance with uniform backward policy and Adam. The network is a perceptron of two hidden layers, ``--width`` wide; one thread.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")


def timed(function, seconds, batch):
    """Trajectories per second of processor time; the first call is not counted."""
    function()
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        function()
        count += batch
    return count / (time.process_time() - began)


def torchgfn(arguments):
    """Sampling and training."""
    import torch
    from gfn.estimators import DiscretePolicyEstimator
    from gfn.gflownet import TBGFlowNet
    from gfn.gym import HyperGrid
    from gfn.preprocessors import KHotPreprocessor
    from gfn.samplers import Sampler
    from gfn.utils.modules import MLP, DiscreteUniform

    torch.set_num_threads(1)
    env = HyperGrid(ndim=arguments.dimension, height=arguments.side)
    seen = KHotPreprocessor(height=arguments.side, ndim=arguments.dimension)
    net = MLP(input_dim=seen.output_dim, output_dim=env.n_actions, hidden_dim=arguments.width, n_hidden_layers=2)
    forward = DiscretePolicyEstimator(module=net, n_actions=env.n_actions, preprocessor=seen, is_backward=False)
    uniform = DiscreteUniform(env.n_actions - 1)
    back = DiscretePolicyEstimator(module=uniform, n_actions=env.n_actions, preprocessor=seen, is_backward=True)
    balance = TBGFlowNet(pf=forward, pb=back, init_logZ=0.0)
    sampler = Sampler(estimator=forward)
    optimiser = torch.optim.Adam(balance.parameters(), lr=1e-3)

    def sample():
        with torch.no_grad():
            sampler.sample_trajectories(env, n=arguments.batch, save_logprobs=False)

    def train():
        paths = sampler.sample_trajectories(env, n=arguments.batch, save_logprobs=True)
        optimiser.zero_grad()
        balance.loss(env, balance.to_training_samples(paths), recalculate_all_logprobs=False).backward()
        optimiser.step()

    return {
        "sampling": timed(sample, arguments.seconds, arguments.batch),
        "training": timed(train, arguments.seconds, arguments.batch),
    }


def gfnx(arguments):
    """Sampling."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from gfnx.environment.hypergrid import HypergridEnvironment
    from gfnx.reward.hypergrid import EasyHypergridRewardModule
    from gfnx.utils.rollout import forward_rollout

    env = HypergridEnvironment(EasyHypergridRewardModule(), dim=arguments.dimension, side=arguments.side)
    settings = env.init(jax.random.key(0))
    size = jax.tree.leaves(env.reset(1, settings)[0])[0].shape[-1]
    net = eqx.nn.MLP(
        size, arguments.dimension + 1, arguments.width, 2, activation=jax.nn.leaky_relu, key=jax.random.key(1)
    )

    @eqx.filter_jit
    def run(net, key):
        arrays, rest = eqx.partition(net, eqx.is_array)
        policy = lambda key, seen, held: (jax.vmap(eqx.combine(held, rest))(seen.astype(jnp.float32)), {})  # noqa: E731
        paths, _ = forward_rollout(key, arguments.batch, policy, arrays, env, settings)
        return paths.log_gfn_reward.sum()

    keys = iter(jax.random.split(jax.random.key(2), 100_000))
    return {"sampling": timed(lambda: run(net, next(keys)).block_until_ready(), arguments.seconds, arguments.batch)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=("torchgfn", "gfnx"))
    parser.add_argument("--dimension", type=int, default=4)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    print(json.dumps({"torchgfn": torchgfn, "gfnx": gfnx}[arguments.peer](arguments)))
