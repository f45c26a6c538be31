"""Largest independent sets of graphs of model RB: a flow network trained on the CPU beside greedy choice and the proven optimum.

    python benchmarks/independent_sets.py [--quick] [--graphs 100] [--rounds 600] [--work FOLDER]
    python benchmarks/independent_sets.py --work COLDER --beta 100 --start FOLDER/network.npz --smallest 200 --largest 300

The network learns from graphs of 100 to 150 vertices of the same model (smaller ones are cheaper, and its weights do not depend on the
size), every round one trajectory on each of several graphs drawn at random, with reward exp(beta |S|). It is judged on graphs of 200 to
300 vertices: the mean size of a draw, of the best of 20, and of the one set whose every step is the likeliest. Every set is checked to be
independent and maximal. Trained weights, draws and optima are kept in
FOLDER, so that a second call goes on where the first was stopped; ``--stage`` does a part of the whole.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from record import record

from heatbath.models.gflownets.environments import IndependentSet
from heatbath.models.gflownets.graph_network import GraphGFlowNet, padded
from heatbath.models.gflownets.rollout import forward
from heatbath.targets.graphs import greedy_independent_set, is_maximal_independent, largest_independent_set, rb_graph
from heatbath.training.gflownet_training import FlowTraining
from heatbath.training.objectives.gflownet import FlowBalance

MOST, TRIES, WIDTH, DEPTH = 24, 20, 32, 3


def train(arguments, path):
    """The network after ``--rounds``, or after about ``--seconds``, begun with that of ``--start`` if given; its leaves are kept."""
    beta, start, count = arguments.beta, arguments.start, arguments.train_graphs
    between = {"smallest": arguments.smallest, "largest": arguments.largest}
    graphs = [rb_graph(seed, **between).adjacency for seed in range(count)]
    environments = padded(graphs).environments(MOST)
    one = jax.tree.map(lambda leaf: leaf[0], environments)
    net, before = GraphGFlowNet.create(jax.random.key(0), one, width=WIDTH, depth=DEPTH, scale=arguments.scale), []
    if start:
        before = json.loads(start.with_suffix(".json").read_text())["stages"]
        net = eqx.tree_at(lambda n: n.environment, network(start, graphs[0], arguments.scale), one)
    u = lambda x: -beta * jnp.sum(x).astype(jnp.float32)  # noqa: E731
    ahead = lambda state: -beta * jnp.sum(state == 1).astype(jnp.float32)  # noqa: E731
    options = {"draws": 8, "exploration": 0.02, "balance": arguments.balance, "decomposition": "forward-looking"}
    objective = FlowBalance(u, partial_u=ahead, **options)
    options = {"rounds": arguments.rounds, "replay": 8, "remembered": 256, "updates": 1, "rounds_per_chunk": 20}
    process = FlowTraining(net, objective, environments=environments, rate=arguments.rate, ema=0.98, **options)
    carry, began = process.begin(jax.random.key(1)), time.perf_counter()
    while not process.finished(carry) and time.perf_counter() - began < arguments.seconds:
        carry, chunk = process.advance(carry)
        ends = np.asarray(carry.memory.paths.states[:, -1])
        sizes = (ends == 1).sum(axis=1)
        print(int(carry.round), f"loss {chunk.metrics['loss']:.3f}, sizes {sizes[sizes > 0].mean():.2f}", flush=True)
    arrays = eqx.filter(process.trained(carry), eqx.is_inexact_array)
    np.savez(path, *[np.asarray(leaf) for leaf in jax.tree.leaves(arrays)])
    stage = {"rounds": int(carry.round), "calls": int(carry.calls), "seconds": time.perf_counter() - began}
    stage |= {"beta": beta, "balance": arguments.balance, "scale": arguments.scale, "graphs": count, **between}
    path.with_suffix(".json").write_text(json.dumps({"stages": [*before, stage]}))


def network(path, adjacency, scale):
    """The trained network on another graph."""
    environment = IndependentSet(adjacency, most=MOST)
    net = GraphGFlowNet.create(jax.random.key(0), environment, width=WIDTH, depth=DEPTH, scale=scale)
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)
    leaves = list(np.load(path).values())
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), [jnp.asarray(leaf) for leaf in leaves]), rest)


class Likeliest(eqx.Module):
    """The policy of a network with every step but the likeliest left out."""

    net: GraphGFlowNet

    @property
    def environment(self):
        return self.net.environment

    def heads(self, state):
        heads = self.net.heads(state)
        best = heads.log_forward == jnp.max(heads.log_forward)
        return heads._replace(log_forward=jnp.where(best, heads.log_forward, -jnp.inf))


@eqx.filter_jit
def draws(net, keys):
    """Finished states of one draw per key, and last the one of the likeliest steps."""
    states = jax.lax.map(lambda key: forward(key, net).states[-1], keys, batch_size=len(keys))
    return jnp.concatenate([states, forward(keys[0], Likeliest(net)).states[-1:]])


def judge(path, seeds, kept):
    """Sizes of draws on every test graph, and of the greedy set."""
    scale = json.loads(path.with_suffix(".json").read_text())["stages"][-1]["scale"]
    for seed in seeds:
        row = kept.setdefault(str(seed), {})
        if "likeliest" in row:
            continue
        graph = rb_graph(seed).adjacency
        size = 300
        adjacency, present = np.zeros((size, size), bool), np.zeros(size, bool)
        adjacency[: len(graph), : len(graph)], present[: len(graph)] = graph, True
        net = eqx.tree_at(
            lambda n: n.environment, network(path, adjacency, scale), IndependentSet(adjacency, present, MOST)
        )
        states = np.asarray(draws(net, jax.random.split(jax.random.key(seed), TRIES)))[:, : len(graph)]
        assert all(is_maximal_independent(graph, state == 1) for state in states)
        row |= {
            "sizes": (states[:-1] == 1).sum(axis=1).tolist(),
            "likeliest": int((states[-1] == 1).sum()),
            "greedy": int(greedy_independent_set(graph).sum()),
            "vertices": len(graph),
        }


def solve(seeds, kept, work):
    """Proven optima, kept one by one."""
    for seed in seeds:
        row = kept.setdefault(str(seed), {})
        if "optimum" not in row:
            graph, began = rb_graph(seed), time.perf_counter()
            row["optimum"] = int(largest_independent_set(graph.adjacency, graph.cliques).sum())
            row["optimum_seconds"] = time.perf_counter() - began
            (work / "graphs.json").write_text(json.dumps(kept))


def summary(values):
    """How many, their mean and its standard error."""
    return len(values), float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--graphs", type=int, default=400)
    parser.add_argument("--solved", type=int, default=100, help="graphs whose optimum is proven")
    parser.add_argument(
        "--first",
        type=int,
        default=200_000,
        help="number of the first test graph; settings are chosen on those from 100000 on",
    )
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--beta", type=float, default=32.0)
    parser.add_argument("--balance", choices=("db", "subtb"), default="db")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of the network's outputs; beta makes them of order one"
    )
    parser.add_argument("--start", type=Path, help="weights of an earlier training, at a higher temperature say")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--train-graphs", type=int, default=64)
    parser.add_argument("--smallest", type=int, default=100, help="vertices of the graphs to learn from")
    parser.add_argument("--largest", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--stage", choices=("all", "train", "judge", "solve"), default="all")
    parser.add_argument("--keep", action="store_true", help="nothing is written to results/")
    parser.add_argument("--work", type=Path, default=Path(".cache/independent_sets"))
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        arguments.graphs, arguments.rounds, arguments.train_graphs = 2, 20, 4
    path = work / ("quick.npz" if arguments.quick else "network.npz")
    kept = json.loads((work / "graphs.json").read_text()) if (work / "graphs.json").exists() else {}
    seeds = range(arguments.first, arguments.first + arguments.graphs)
    if arguments.stage in ("all", "train") and not path.exists():
        train(arguments, path)
    if arguments.stage in ("all", "judge"):
        judge(path, seeds, kept)
        (work / "graphs.json").write_text(json.dumps(kept))
    if arguments.stage in ("all", "solve"):
        solve(seeds[: arguments.solved], kept, work)
    rows = [row for seed in seeds if "likeliest" in (row := kept.get(str(seed), {}))]
    if not rows:
        return
    values = {
        "greedy, fewest neighbours first": [row["greedy"] for row in rows],
        "flow network, mean of a draw": [np.mean(row["sizes"]) for row in rows],
        "flow network, likeliest steps": [row["likeliest"] for row in rows],
        f"flow network, best of {TRIES}": [max(row["sizes"]) for row in rows],
    }
    solved = [row for row in rows if "optimum" in row]
    table = [[name, *summary(v)] for name, v in values.items()]
    if solved:
        table.append(["proven optimum (CP-SAT)", *summary([row["optimum"] for row in solved])])
        best = [max(row["sizes"]) for row in solved]
        table.append([f"flow network, best of {TRIES}, where the optimum is proven", *summary(best)])
    print(*table, sep="\n")
    gains = {name: np.array(v) - np.array(values[next(iter(values))]) for name, v in values.items()}
    gains = {name: summary(v)[1:] for name, v in gains.items() if name.startswith("flow")}
    print("minus greedy:", gains)
    if arguments.quick or arguments.keep:
        return
    made = json.loads(path.with_suffix(".json").read_text())
    record(
        "independent_sets",
        title="Independent sets of graphs of model RB, 200 to 300 vertices",
        columns=["method", "graphs", "mean size", "standard error over graphs"],
        rows=table,
        notes=[
            f"Network: {DEPTH} layers of width {WIDTH}, looking ahead, reward exp(beta |S|). "
            + "; then ".join(
                f"{t['balance']}, beta {t['beta']:g}, scale {t['scale']:g}, {t['rounds']} rounds of 8 trajectories on {t['graphs']} graphs of {t['smallest']} to {t['largest']} "
                f"vertices, {t['seconds']:.0f} s"
                for t in made["stages"]
            )
            + ", one shared core.",
            "Minus greedy, graph by graph: "
            + "; ".join(f"{name}: {mean:.2f} ± {error:.2f}" for name, (mean, error) in gains.items())
            + ".",
            "Every drawn set was checked to be independent and maximal.",
            f"Graphs {seeds[0]} to {seeds[-1]}; loss, temperature and rounds were chosen on graphs from 100000 on.",
        ],
        data={"graphs": {str(seed): kept.get(str(seed)) for seed in seeds}, "training": made},
    )


if __name__ == "__main__":
    main()
