"""Speed of the NADE family: training beside PyTorch, ensembles beside loops over orders, draws beside passes of MADE.

    python benchmarks/nade_speed.py [--quick] [--part training|ensemble|draws] [--rounds 5]

Everything alternates in one process on random rows of the size of the DNA table (1600 x 180, 500 hidden units, batches of 100); the
median of the rounds is shown, and the ratio of each round's times. Compilation happens before and is stated apart. A part that was
measured before is kept when another is measured.
"""

import argparse
import json
import time
from typing import Any

import jax
import numpy as np
from record import RESULTS, record

from heatbath.models.nade import EoNADE, OrderlessNADE, deep_nade, made, nade, random_orders
from heatbath.training import AdamW, Constant, Trainer
from heatbath.training.objectives import MaximumLikelihood

jax.config.update("jax_enable_x64", True)

ROWS, COLUMNS, HIDDEN, BATCH, ORDERS = 1600, 180, 500, 100, 128
KEY = jax.random.key(0)


class Epochs:
    """An epoch of our own training, through the one trainer."""

    def __init__(self, model, rows):
        steps = len(rows) // BATCH
        self._trainer = Trainer(
            model,
            MaximumLikelihood(),
            jax.numpy.asarray(rows),
            steps=10**6,
            batch_size=BATCH,
            optimiser=AdamW(Constant(1e-3), clip=10.0),
            ema=0.0,
            steps_per_chunk=steps,
        )
        self._carry = self._trainer.begin(KEY)

    def __call__(self):
        self._carry, _ = self._trainer.advance(self._carry)


def training_runs(rows):
    """Name -> one epoch."""
    import torch
    from nade_peer import Made, Nade, Training

    torch.manual_seed(0)
    torch.set_num_threads(2)
    runs: dict[str, Any] = {"NADE, heatbath": Epochs(nade(KEY, COLUMNS, HIDDEN), rows)}
    runs["MADE, heatbath"] = Epochs(made(KEY, COLUMNS, (HIDDEN, HIDDEN)), rows)
    for words, compiled in (("eager", False), ("compiled", True)):
        runs[f"NADE, PyTorch {words}"] = Training(Nade(COLUMNS, HIDDEN), rows, BATCH, compiled=compiled)
        runs[f"MADE, PyTorch {words}"] = Training(Made(COLUMNS, (HIDDEN, HIDDEN)), rows, BATCH, compiled=compiled)
    return runs


def ensemble_runs(rows, orders):
    """Name -> log densities of ``rows``, and of the first one alone, under an ensemble of ``orders`` orders."""
    import torch
    from nade_peer import Orderless

    torch.set_num_threads(2)
    model = deep_nade(KEY, COLUMNS, (HIDDEN,))
    every = random_orders(KEY, orders, COLUMNS)
    ensemble = EoNADE(network=model.network, head=model.head, orders=every, chunk=1)
    together = jax.jit(lambda xs: ensemble.log_probs_by_order(xs))
    one = jax.jit(
        lambda order, xs: jax.vmap(OrderlessNADE(network=model.network, head=model.head, order=order).log_prob)(xs)
    )
    naive = jax.jit(lambda order, xs: jax.vmap(lambda x: by_full_passes(model, order, x))(xs))
    network = model.network
    peer = Orderless(network.inputs, network.flags, network.bias, network.heads[:, :, 0], network.head_bias[:, 0])
    runs, listed = {}, np.asarray(every).tolist()
    for words, few in ((f"{len(rows)} rows", rows), ("one row", rows[:1])):
        xs, tensor = jax.numpy.asarray(few), torch.tensor(few, dtype=torch.float32)
        runs |= {
            f"one scan, {words}": lambda xs=xs: jax.block_until_ready(together(xs)),
            f"loop, same recursion, {words}": lambda xs=xs: jax.block_until_ready([one(order, xs) for order in every]),
            f"loop in PyTorch, same recursion, {words}": lambda x=tensor: [peer.in_order(order, x) for order in listed],
            f"loop, a full pass per coordinate, {words}": lambda xs=xs: jax.block_until_ready(
                [naive(order, xs) for order in every]
            ),
        }
    return runs


def check(found):
    """Every way must give the same log densities. Raises ``AssertionError``."""
    for name, values in found.items():
        words = name.rsplit(", ", 1)[1]
        expected = np.stack([np.asarray(row) for row in found[f"one scan, {words}"]])
        np.testing.assert_allclose(np.stack([np.asarray(row) for row in values]), expected, rtol=1e-4, err_msg=name)


def by_full_passes(model, order, x):
    """log p(x) in an order as the public code computes it: the whole network for every coordinate."""

    def go(mask, site):
        log_prob = model.missing_log_probs(x, mask)[site]
        return mask.at[site].set(1.0), log_prob

    _, log_probs = jax.lax.scan(go, jax.numpy.zeros(x.shape), order)
    return log_probs.sum()


def draw_runs(count):
    """Name -> ``count`` draws."""
    import torch
    from nade_peer import Made

    torch.manual_seed(0)
    torch.set_num_threads(2)
    ours, masked = nade(KEY, COLUMNS, HIDDEN), made(KEY, COLUMNS, (HIDDEN,))
    orderless, peer = deep_nade(KEY, COLUMNS, (HIDDEN,)), Made(COLUMNS, (HIDDEN,))
    keys = jax.random.split(KEY, count)

    def drawn(model):
        draw = jax.jit(jax.vmap(model.sample))
        return lambda: jax.block_until_ready(draw(keys))

    return {
        "NADE": drawn(ours),
        "DeepNADE": drawn(orderless),
        "MADE, passes in heatbath": drawn(masked),
        "MADE, passes in PyTorch": lambda: peer.draw(count),
    }


def measured(runs, rounds, check=None):
    """Seconds of every round, all runs in turn; and of the first call, which compiles and whose results are checked."""
    first, times, found = {}, {name: [] for name in runs}, {}
    for name, run in runs.items():
        began = time.perf_counter()
        found[name] = run()
        first[name] = time.perf_counter() - began
        print(f"{name}: first call {first[name]:.2f} s", flush=True)
    if check is not None:
        check(found)
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    print({name: [round(seconds, 4) for seconds in values] for name, values in times.items()}, flush=True)
    return {"first": first, "times": times}


#: Part -> rows of the table: (what, ours, peer).
RATIOS = {
    "training": [
        ("epochs of NADE", "NADE, heatbath", "NADE, PyTorch eager"),
        ("epochs of NADE", "NADE, heatbath", "NADE, PyTorch compiled"),
        ("epochs of MADE", "MADE, heatbath", "MADE, PyTorch eager"),
        ("epochs of MADE", "MADE, heatbath", "MADE, PyTorch compiled"),
    ],
    "ensemble": [
        ("densities by orders", f"one scan, {words}", f"{peer}, {words}")
        for words in ("50 rows", "one row")
        for peer in (
            "loop, same recursion",
            "loop in PyTorch, same recursion",
            "loop, a full pass per coordinate",
        )
    ],
    "draws": [
        ("draws", "NADE", "MADE, passes in heatbath"),
        ("draws", "NADE", "MADE, passes in PyTorch"),
        ("draws", "DeepNADE", "MADE, passes in heatbath"),
    ],
}


def rows_of(data):
    """Rows of the table: medians of seconds, and of the ratios round by round."""
    made = []
    for part, pairs in RATIOS.items():
        for what, ours, peer in pairs if part in data else ():
            one, two = (np.array(data[part]["times"][name]) for name in (ours, peer))
            ratio = two / one
            spread = f"{np.median(ratio):.3g} ({ratio.min():.3g} to {ratio.max():.3g})"
            made.append([what, ours, float(np.median(one)), peer, float(np.median(two)), spread])
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--part", choices=list(RATIOS), default=None)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = (np.random.default_rng(0).random((ROWS, COLUMNS)) < 0.25).astype(np.int32)
    path = RESULTS / "nade_speed.json"
    data = json.loads(path.read_text())["data"] if path.exists() and not arguments.quick else {}
    makers = {
        "training": lambda: training_runs(rows[:200] if arguments.quick else rows),
        "ensemble": lambda: ensemble_runs(rows[:50], 4 if arguments.quick else ORDERS),
        "draws": lambda: draw_runs(10 if arguments.quick else 100),
    }
    for part in [arguments.part] if arguments.part else RATIOS:
        data[part] = measured(
            makers[part](), 1 if arguments.quick else arguments.rounds, check if part == "ensemble" else None
        )
    if arguments.quick:
        print(*rows_of(data), sep="\n")
        return
    record(
        "nade_speed",
        title="Speed of the NADE family",
        columns=["what", "ours", "seconds", "peer", "seconds", "ratio (range over rounds)"],
        rows=rows_of(data),
        notes=[
            f"{ROWS} rows of {COLUMNS} columns, {HIDDEN} hidden units, batches of {BATCH}; MADE is trained with two hidden layers. "
            f"Ensembles: {ORDERS} orders, one hidden layer. Draws: 100 at once.",
            "A loop over orders with the same recursion does the same arithmetic, three operations per hidden unit, coordinate, order "
            "and row, and is no slower where rows are many: one scan is gained over full passes and over calls.",
            "PyTorch's NADE is the form by a cumulative sum. Ratios are peer over ours: above one, ours is faster.",
            "Seconds of the first call, compilation included: "
            + ", ".join(f"{name} {seconds:.2g}" for part in data.values() for name, seconds in part["first"].items()),
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
