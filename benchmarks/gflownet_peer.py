"""The other side of ``gflownet_speed.py``: torchgfn or gfnx on the same problem, in an environment of their own.

    PEER/bin/python benchmarks/gflownet_peer.py torchgfn|gfnx PROBLEM.npz --task rates --batch 128 --width 32 --seconds 2
    PEER/bin/python benchmarks/gflownet_peer.py torchgfn|gfnx PROBLEM.npz --task law --goal 0.1 --seconds 60

``rates`` prints trajectories per second of processor time, sampled from the policy and in training by ``--balance`` (uniform policy
back, Adam). ``law`` trains until the total variation between the law of the policy and the exact one is below the goal, and
prints the processor seconds that the training took (null beyond ``--seconds``; laws are computed outside of the clock, the first
step is not counted) with all that was measured on the way. The network is a perceptron of two hidden layers; one thread.

PROBLEM.npz holds ``kind`` (grid, bag, word), ``sizes``, log rewards, and all states with the edges between them.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np

#: Between two looks at the law, more processor seconds by this factor.
SPACING = 1.1


def timed(function, seconds, batch):
    """Trajectories per second of processor time; the first two calls are not counted."""
    function(), function()
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        function()
        count += batch
    return count / (time.process_time() - began)


def total_variation(problem, log_policy):
    """Between the exact law and that of a policy, its log probabilities (states, actions); edges are sorted by their parent's depth."""
    reach = np.zeros(len(problem["states"]))
    reach[0] = 1.0
    chance = np.exp(np.asarray(log_policy, np.float64))[problem["parent"], problem["action"]]
    for first, last in zip(problem["layers"][:-1], problem["layers"][1:], strict=True):
        parent, child = problem["parent"][first:last], problem["child"][first:last]
        np.add.at(reach, child, reach[parent] * chance[first:last])
    exact = np.exp(problem["log_rewards"] - problem["log_rewards"].max())
    return float(0.5 * np.abs(reach[problem["terminal"]] - exact / exact.sum()).sum())


def until(step, law, goal, seconds):
    """Processor seconds of ``step`` until ``law()`` is below the goal, None if never, and (seconds, law) on the way."""
    step()
    spent, look, seen = 0.0, 0.2, []
    while spent < seconds:
        began = time.process_time()
        step()
        spent += time.process_time() - began
        if spent >= look:
            seen.append((spent, law()))
            look = spent * SPACING
            if seen[-1][1] < goal:
                return spent, seen
    return None, seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=("torchgfn", "gfnx"))
    parser.add_argument("problem")
    parser.add_argument("--task", choices=("rates", "law"), default="rates")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--balance", choices=("tb", "db", "subtb"), default="tb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--goal", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    problem = dict(np.load(arguments.problem))
    problem["kind"] = str(problem["kind"])
    if arguments.peer == "torchgfn":
        from gflownet_torchgfn import made
    else:
        from gflownet_gfnx import made
    sides = made(problem, arguments)
    if arguments.task == "rates":
        found = {task: timed(sides[task], arguments.seconds, sides["batch"]) for task in ("sampling", "training")}
    else:
        law = lambda: total_variation(problem, sides["log_policy"]())  # noqa: E731
        spent, seen = until(sides["training"], law, arguments.goal, arguments.seconds)
        found = {"seconds": spent, "seen": seen}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
