"""Trajectories per second on a hypergrid: this package beside torchgfn and gfnx.

    python benchmarks/gflownet_speed.py [--quick] [--torchgfn PEER/bin/python] [--gfnx PEER/bin/python]

Every side samples trajectories from a perceptron of two hidden layers; torchgfn and this package also train it by trajectory balance
(uniform backward policy, Adam). Sides take turns, a process each, ``--repeats`` times, one thread each; what is counted is processor
time, so that other programs on the machine do not matter much. A peer that is not given or does not run is left out and said so.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gflownet_peer import timed
from record import record

from heatbath.models.gflownets.environments import Hypergrid
from heatbath.models.gflownets.network import GFlowNet
from heatbath.models.gflownets.rollout import forward_many
from heatbath.targets.sets import GridReward
from heatbath.training.gflownet_training import FlowTraining
from heatbath.training.objectives.gflownet import FlowBalance

#: Trajectories at once, and width of the perceptron.
CASES = ((16, 32), (16, 128), (128, 32), (128, 128))


def ours(dimension, side, batch, width, seconds):
    """Trajectories per second of processor time, sampling and training."""
    env, target = Hypergrid(dimension, side), GridReward(dimension, side)
    net = GFlowNet.create(jax.random.key(0), env, width=width)

    @eqx.filter_jit
    def run(net, key):
        many = lambda k: forward_many(jax.random.split(k, batch), lambda number: net).states[:, -1]  # noqa: E731
        states = jax.lax.map(many, jax.random.split(key, 10))
        return jnp.sum(jax.vmap(jax.vmap(lambda s: target.energy(env.configuration(s))))(states))

    keys = iter(jax.random.split(jax.random.key(1), 100_000))
    sampling = timed(lambda: run(net, next(keys)).block_until_ready(), seconds, 10 * batch)
    objective = FlowBalance(target.energy, draws=batch, balance="tb", exploration=0.0)
    process = FlowTraining(net, objective, rounds=10**6, replay=0, updates=1, rounds_per_chunk=20)
    held = [process.begin(jax.random.key(2))]

    def train():
        held[0] = process.advance(held[0]._replace(history=held[0].history))[0]

    return {"sampling": sampling, "training": timed(train, seconds, 20 * batch)}


def theirs(python, name, options):
    """What the peer prints; None when it does not run."""
    if not python:
        return None
    script = Path(__file__).with_name("gflownet_peer.py")
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run([python, str(script), name, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        print(name, done.stderr.strip().splitlines()[-1:], flush=True)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torchgfn", default="")
    parser.add_argument("--gfnx", default="")
    parser.add_argument("--dimension", type=int, default=4)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    rows, data = [], {}
    for batch, width in CASES[:1] if arguments.quick else CASES:
        options = {"dimension": arguments.dimension, "side": arguments.side, "batch": batch, "width": width}
        options["seconds"] = 0.5 if arguments.quick else arguments.seconds
        found = {}
        for _ in range(repeats):
            sides = {
                "heatbath": ours(**options),
                "torchgfn": theirs(arguments.torchgfn, "torchgfn", options),
                "gfnx": theirs(arguments.gfnx, "gfnx", options),
            }
            for name, values in sides.items():
                for task, value in (values or {}).items():
                    found.setdefault(task, {}).setdefault(name, []).append(value)
        data[f"{batch} at once, width {width}"] = found
        for task, values in found.items():
            for name, rates in values.items():
                ratios = np.array(values["heatbath"]) / np.array(rates)
                rows.append([task, batch, width, name, float(np.median(rates)), float(np.median(ratios))])
                print(*rows[-1], flush=True)
    if arguments.quick:
        return
    record(
        "gflownet_speed",
        title="Trajectories of flow networks per second",
        columns=[
            "task",
            "at once",
            "width",
            "package",
            "trajectories per second of processor time",
            "heatbath is faster by",
        ],
        rows=rows,
        notes=[
            f"Hypergrid of {arguments.side}^{arguments.dimension} points; perceptrons of two hidden layers; one thread; compilation "
            f"left out; medians of {repeats} rounds in turn.",
            "Sampling and training of an untrained policy to begin with: most paths are short.",
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
