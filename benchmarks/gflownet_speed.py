"""Flow networks on grids, bags and words: this package beside torchgfn and gfnx, in trajectories per second and in seconds to a law.

    python benchmarks/gflownet_speed.py [--quick] [--torchgfn PEER/bin/python] [--gfnx PEER/bin/python] [--work FOLDER]

Rates: every side samples trajectories from a perceptron of two hidden layers and trains it by trajectory balance (uniform policy
back, Adam). Laws: every side trains, with a loss and settings that suit it, until the total variation between the law of its policy and the exact one
is below a goal. Sides take turns, a process each, ``--repeats`` times, one thread each; what is counted is processor time, so that
other programs on the machine do not matter much, and neither compilation nor the computation of laws counts. What has been measured
is kept in FOLDER, so that a second call goes on where the first was stopped. A peer that is not given, or does not have the
problem, is left out.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gflownet_peer import timed, total_variation, until
from record import Pieces, record

from heatbath.models.gflownets.enumeration import enumerate_states
from heatbath.models.gflownets.environments import Bag, Hypergrid, Sequence
from heatbath.models.gflownets.network import GFlowNet, masked_log_softmax
from heatbath.models.gflownets.rollout import forward_many
from heatbath.targets.sets import BagReward, GridReward
from heatbath.training.gflownet_training import FlowTraining
from heatbath.training.objectives.gflownet import FlowBalance

#: Trajectories at once, and width of the perceptron.
CASES = ((16, 32), (128, 32), (128, 128))
#: Learning rate of all sides where rates are measured: a policy that learned would draw longer paths the faster its side is.
STILL = 1e-9
FLOOR, HIDDEN, SHARPNESS = 0.1, 16, 2.0
#: Sizes for the rates, sizes for the law, and the goal of its total variation.
PROBLEMS = {
    "grid": ((4, 16), (4, 8), 0.1),
    "bag": ((7, 13), (7, 13), 0.3),
    "word": ((4, 8), (4, 8), 0.2),
}
#: How this package goes to the law; the rate falls by a cosine over the rounds.
LAW = {
    "grid": {
        "balance": "db",
        "draws": 128,
        "replay": 128,
        "width": 32,
        "depth": 1,
        "memory_rows": 2**13,
        "rounds": 1500,
        "rate": 6e-2,
    },
    "bag": {
        "balance": "subtb",
        "draws": 32,
        "replay": 32,
        "width": 64,
        "depth": 2,
        "memory_rows": 0,
        "rounds": 2500,
        "rate": 1e-2,
    },
    "word": {
        "balance": "tb",
        "draws": 1024,
        "replay": 0,
        "width": 32,
        "depth": 1,
        "memory_rows": 2**17,
        "rounds": 200,
        "rate": 5e-2,
    },
}
#: What the peers are given for the law: loss, trajectories at once, width, learning rate. The best in the first turn counts.
PEERS_LAW = (
    ("tb", 16, 128, 1e-3), ("tb", 128, 128, 1e-3), ("tb", 128, 128, 3e-3), ("tb", 128, 128, 1e-2), ("tb", 512, 128, 3e-3),
    ("tb", 1024, 64, 1e-2), ("db", 128, 128, 3e-3), ("db", 32, 64, 1e-2), ("subtb", 128, 128, 3e-3), ("subtb", 32, 64, 1e-2),
)  # fmt: skip


def words(sizes):
    """Log rewards of all words: minus SHARPNESS times the distance in letters from the nearest of some hidden words."""
    letters, length = sizes
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, letters, (HIDDEN, length))
    digits = (np.arange(letters**length)[:, None] // letters ** np.arange(length - 1, -1, -1)) % letters
    return -SHARPNESS * np.min((digits[:, None] != hidden).sum(axis=-1), axis=1).astype(float)


def problem_of(kind, sizes):
    """The environment, its reduced energy, and what a peer has to be told."""
    about = {"kind": kind, "sizes": np.array(sizes)}
    if kind == "grid":
        return Hypergrid(*sizes), GridReward(*sizes, floor=FLOOR).energy, about | {"floor": FLOOR}
    if kind == "bag":
        target = BagReward(*sizes, needed=sizes[1] // 2 + 1)
        about |= {"modes": np.asarray(target.is_mode), "needed": target.needed, "levels": np.log([0.01, 10.0, 30.0])}
        return Bag(*sizes), target.energy, about
    table = words(sizes)
    energies, powers = jnp.asarray(-table, jnp.float32), jnp.asarray(sizes[0] ** np.arange(sizes[1] - 1, -1, -1))
    return Sequence(*sizes, both_ends=False), lambda x: energies[jnp.sum(x * powers)], about | {"table": table}


def written(kind, sizes, path):
    """PROBLEM.npz for the peers: the rewards, and all states with the edges between them, sorted by the depth of their parents."""
    env, u, about = problem_of(kind, sizes)
    found = enumerate_states(env)
    order = np.concatenate(found.layers)
    energies = jax.jit(lambda x: jax.lax.map(u, x, batch_size=2**14))(jnp.asarray(found.configurations))
    edges = {name: getattr(found, name)[order] for name in ("parent", "child", "action")}
    layers = np.cumsum([0, *map(len, found.layers)])
    about |= {"states": found.states, "terminal": found.terminal, "layers": layers}
    np.savez(path, **about, **edges, log_rewards=-np.asarray(energies, np.float64))


def rates(kind, batch, width, seconds):
    """Here: trajectories per second of processor time, sampling and training, and the mean length of a trajectory."""
    env, u, _ = problem_of(kind, PROBLEMS[kind][0])
    net = GFlowNet.create(jax.random.key(0), env, width=width)

    @eqx.filter_jit
    def run(net, key):
        def many(key):
            paths = forward_many(jax.random.split(key, batch), lambda number: net)
            ends = jax.vmap(env.configuration)(paths.states[:, -1])
            return jnp.sum(jax.vmap(u)(ends)), jnp.sum(paths.valid)

        energies, steps = jax.lax.map(many, jax.random.split(key, 10))
        return jnp.sum(energies), jnp.sum(steps)

    keys = iter(jax.random.split(jax.random.key(1), 100_000))
    sampling = timed(lambda: jax.block_until_ready(run(net, next(keys))), seconds, 10 * batch)
    objective = FlowBalance(u, draws=batch, balance="tb", exploration=0.0)
    process = FlowTraining(
        net, objective, rounds=10**5, replay=0, updates=1, rounds_per_chunk=100, rate=STILL, remembered=batch
    )
    held = [process.begin(jax.random.key(2))]

    def train():
        held[0] = process.advance(held[0])[0]

    training = timed(train, seconds, 100 * batch)
    return {"sampling": sampling, "training": training, "steps": int(run(net, next(keys))[1]) / (10 * batch)}


def law(kind, path, seconds, seed):
    """Here: processor seconds of training to the goal, and what was measured on the way."""
    _, sizes, goal = PROBLEMS[kind]
    env, u, _ = problem_of(kind, sizes)
    problem, settings = dict(np.load(path)), LAW[kind]
    shape = {name: settings[name] for name in ("width", "depth", "memory_rows")}
    net = GFlowNet.create(jax.random.key(2 * seed), env, **shape)
    objective = FlowBalance(u, draws=settings["draws"], exploration=0.05, balance=settings["balance"])
    options = {name: settings[name] for name in ("rounds", "rate", "replay")}
    process = FlowTraining(net, objective, updates=1, remembered=2**14, rounds_per_chunk=20, ema=0.95, **options)
    held = [process.begin(jax.random.key(2 * seed + 1))]
    process.advance(held[0])  # compiles

    @eqx.filter_jit
    def policy(net, states):
        def of_one(state):
            return masked_log_softmax(net.heads(state).log_forward, env.allowed(state))

        return jax.lax.map(of_one, states, batch_size=4096)

    def step():
        held[0] = process.advance(held[0])[0]

    def found():
        return total_variation(problem, policy(process.trained(held[0]), jnp.asarray(problem["states"])))

    spent, seen = until(step, found, goal, seconds)
    return {"seconds": spent, "seen": seen}


def matmul_rate(width):
    """Floating-point operations per second of processor time of the product of two square float32 matrices."""
    a = jnp.ones((width, width), jnp.float32)

    @jax.jit
    def many(a):
        return jax.lax.fori_loop(0, 100, lambda _, b: (a @ b) / width, a)

    return timed(lambda: many(a).block_until_ready(), 0.5, 100 * 2 * width**3)


def operations(kind, width, steps):
    """Floating-point operations of the matrix products for one sampled trajectory of ``steps`` steps."""
    env = problem_of(kind, PROBLEMS[kind][0])[0]
    size = env.features(env.initial()).shape[0]
    return steps * 2 * (size * width + width**2 + width * env.actions)


def theirs(python, name, path, options):
    """What a peer prints; None when it does not run."""
    script = Path(__file__).with_name("gflownet_peer.py")
    said = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [python, str(script), name, str(path), *said], capture_output=True, text=True, check=False, cwd=script.parent
    )
    if done.returncode:
        print(name, done.stderr.strip().splitlines()[-1:], flush=True)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def rows_of_rates(pieces, kind, sides, arguments, peak):
    """Rates of all sides in turn."""
    path, rows = arguments.work / f"{kind}-rates.npz", []
    if not path.exists():
        env, _, about = problem_of(kind, PROBLEMS[kind][0])
        np.savez(path, states=np.asarray(env.initial())[None], **about)
    for batch, width in CASES[:1] if arguments.quick else CASES[: arguments.cases]:
        options = {"batch": batch, "width": width, "seconds": arguments.seconds}
        told = {"task": "rates", "rate": STILL, **options}
        found = {}
        for repeat in range(arguments.repeats):
            for name, python in sides.items():
                make = (
                    (lambda o=options: rates(kind, **o))
                    if name == "heatbath"
                    else (lambda n=name, p=python, o=told: theirs(p, n, path, o))
                )
                if (measured := pieces.get(f"rates {kind} {batch} {width} {name} {repeat}", make)) is not None:
                    found.setdefault(name, []).append(measured)
        if "heatbath" not in found:
            continue
        for task, passes in (
            ("sampling", 1),
            ("training", 3),
        ):  # the least a training needs: it samples, and goes back through the network; twice as much on the way back
            base = np.array([measured[task] for measured in found["heatbath"]])
            work = passes * operations(kind, width, np.mean([measured["steps"] for measured in found["heatbath"]]))
            for name, several in found.items():
                values = np.array([measured[task] for measured in several])
                share = np.median(values) * work / peak[width]
                rows.append(
                    [
                        kind,
                        task,
                        f"{batch} at once, width {width}",
                        name,
                        float(np.median(values)),
                        float(np.median(base[: len(values)] / values)),
                        f"{100 * share:.2g} %",
                    ]
                )
    return rows


def rows_of_laws(pieces, kind, sides, arguments):
    """Seconds to the law of all sides in turn; of a peer's settings the best in the first turn."""
    path, rows, goal = arguments.work / f"{kind}.npz", [], PROBLEMS[kind][2]
    if not path.exists():
        written(kind, PROBLEMS[kind][1], path)
    limit = 2.0 if arguments.quick else arguments.limit
    found, best = {}, {}
    for repeat in range(1 if arguments.quick else arguments.repeats):
        for name, python in sides.items():
            if name == "heatbath":
                make = lambda seed=repeat + 1: law(kind, path, limit, seed)  # noqa: E731
                if (measured := pieces.get(f"law {kind} {name} {repeat}", make)) is not None:
                    found.setdefault(name, []).append(measured)
                continue
            measured, longest = {}, limit
            for setting in PEERS_LAW if repeat == 0 else best.get(name, ()):
                options = dict(zip(("balance", "batch", "width", "rate"), setting, strict=True))
                options |= {"goal": goal, "seconds": longest, "seed": repeat + 1}
                make = lambda n=name, p=python, o=options: theirs(p, n, path, {"task": "law", **o})  # noqa: E731
                measured[setting] = pieces.get(f"law {kind} {name} {setting} {repeat}", make)
                if repeat == 0 and measured[setting] and measured[setting]["seconds"]:
                    longest = measured[setting]["seconds"]  # what takes longer need not be waited for
            measured = {setting: value for setting, value in measured.items() if value is not None}
            if not measured or "heatbath" not in found:
                continue
            if repeat == 0:
                order = lambda s: (measured[s]["seconds"] or np.inf, measured[s]["seen"][-1][1])  # noqa: E731, B023
                best[name] = [min(measured, key=order)]
            found.setdefault(name, []).append(measured[best[name][0]])
    base = np.array([measured["seconds"] or np.nan for measured in found.get("heatbath", ())])
    for name, several in found.items():
        spent = np.array([measured["seconds"] or np.nan for measured in several])
        reached = np.isfinite(spent).all()
        last = f"not in {several[0]['seen'][-1][0]:.0f} s: {several[0]['seen'][-1][1]:.3f} after them"
        ratio = (
            float(np.median(spent / base[: len(spent)]))
            if reached
            else f"more than {several[0]['seen'][-1][0] / np.max(base):.3g}"
        )
        how = f"total variation {goal}"
        if name in best:
            balance, batch, width, rate = best[name][0]
            how += f", {balance}, {batch} at once, width {width}, rate {rate:g}"
        rows.append([kind, "seconds to the law", how, name, float(np.median(spent)) if reached else last, ratio, ""])
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torchgfn", default="")
    parser.add_argument("--gfnx", default="")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--limit", type=float, default=60.0, help="processor seconds that a law may take")
    parser.add_argument("--keep", action="store_true", help="nothing is written to results/")
    parser.add_argument("--tabulate", action="store_true", help="of what is in FOLDER; nothing new is measured")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the settings of the rates")
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--work", type=Path, default=Path(".cache/gflownet_speed"))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats, arguments.seconds, arguments.work = 1, 0.3, arguments.work.with_name("gflownet_speed_quick")
    arguments.work = arguments.work.absolute()
    arguments.work.mkdir(parents=True, exist_ok=True)
    given = {"heatbath": sys.executable, "torchgfn": arguments.torchgfn, "gfnx": arguments.gfnx}
    sides = {name: python for name, python in given.items() if python}
    matrices = Pieces(arguments.work / "matrices.json")
    peak = {width: matrices.get(f"matrices {width}", lambda w=width: matmul_rate(w)) for width in (32, 128)}
    rows, data = [], {"matrices": matrices.found}
    for kind in arguments.problems.split(","):
        pieces = Pieces(arguments.work / f"{kind}.json", closed=arguments.tabulate)
        data[kind] = pieces.found
        rows += rows_of_rates(pieces, kind, sides, arguments, peak)
        rows += rows_of_laws(pieces, kind, sides, arguments)
    print(*rows, sep="\n")
    if arguments.quick or arguments.keep:
        return
    record(
        "gflownet_speed",
        title="Flow networks: trajectories per second, and seconds to the law",
        columns=[
            "problem",
            "task",
            "setting",
            "package",
            "per second, or seconds",
            "heatbath is faster by",
            "of the matrix products' rate",
        ],
        rows=rows,
        notes=[
            f"Rates: grids of 16^4 points, bags of 13 of 7 letters, words of 8 of 4 letters (appended); perceptrons of two hidden layers, "
            f"trajectory balance; trajectories per second of processor time, one thread, medians of {arguments.repeats} rounds in turn. "
            "All steps of training are taken, with a rate of 1e-9, so that everyone's policy stays the even one and its paths equally long.",
            "Of the matrix products' rate: the operations of the dense layers at the states of a trajectory, once for sampling and three "
            "times for training (drawn, and twice on the way back; a second way forth is not counted), by the rate of square products of that width "
            f"({', '.join(f'{width}: {value / 1e9:.0f}e9 per second' for width, value in peak.items())}). Nothing that multiplies "
            "these layers can be faster than 100 %.",
            "Seconds to the law: processor seconds of training until the total variation between the policy's law and the exact one is "
            "below the goal; grids of 8^4 points, bags and words as above. Compilation, the first step and the computation of laws do not "
            f"count. Every turn has its own seed; medians. Here, settings chosen with another seed: {json.dumps(LAW)}; memory_rows are numbers of "
            "single states, which peers do not have. Peers have perceptrons of two hidden layers, and in the first turn the choice of loss, "
            "trajectories at once, width and rate: "
            + "; ".join(f"{loss}, {b}, {w}, {r:g}" for loss, b, w, r in PEERS_LAW)
            + ". gfnx has no bags and no losses of parts.",
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
