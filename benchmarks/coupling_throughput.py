"""How fast do coupling flows train and draw, against the same architecture in PyTorch and against normflows, on the same cores?

Flows over 60 coordinates, eight layers, conditioners of four matrices and width 128; affine layers, and splines of eight bins.
Rows: batch 256 and 1024; a training step (maximum likelihood, clipped gradient, AdamW) and draws with their log density. Peers:
PyTorch eager and ``torch.compile`` (whole flow as one program), normflows where it is installed. Each contender is a process of its
own, with two threads; they take turns, round by round, and a row gives medians and ratios (above 1: heatbath is faster).

    python benchmarks/coupling_throughput.py [--quick] [--rounds 15] [--batch 256 1024]

Writes results/coupling_throughput.json; ``--quick`` does batch 64, one round, without ``torch.compile``, and writes nothing.
"""

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import time

DIMENSION = 60
SIZE = {"layers": 8, "width": 128, "depth": 2}
BINS = {"affine": 0, "spline": 8}
THREADS = 2


def serve_heatbath(connection) -> None:
    """Answer (kind, task, batch) with seconds of one call, until told to stop."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    from heatbath.models.coupling import coupling_flow
    from heatbath.training.trainable import trainable

    key = jax.random.key(0)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4))
    flows, programs, inputs = {}, {}, {}
    for kind, bins in BINS.items():
        model = coupling_flow(key, DIMENSION, bins=bins, **SIZE)
        params, rest = eqx.partition(model, trainable(model))

        def train(carry, x, rest=rest):
            params, state = carry
            gradient = jax.grad(lambda p: -jnp.mean(jax.vmap(eqx.combine(p, rest).log_prob)(x)))(params)
            updates, state = optimiser.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        def draw(carry, keys, rest=rest):
            return jax.vmap(eqx.combine(carry[0], rest).sample_and_log_prob)(keys)

        flows[kind] = jax.tree.map(jnp.copy, (params, optimiser.init(params)))
        programs[kind] = {"train": jax.jit(train, donate_argnums=0), "draw": jax.jit(draw)}
    while (order := connection.recv()) is not None:
        kind, task, batch = order
        if order not in inputs:
            inputs[order] = (
                jax.random.normal(key, (batch, DIMENSION)) if task == "train" else jax.random.split(key, batch)
            )
        begun = time.perf_counter()
        result = jax.block_until_ready(programs[kind][task](flows[kind], inputs[order]))
        connection.send(time.perf_counter() - begun)
        if task == "train":
            flows[kind] = result


def serve_torch(connection, name: str) -> None:
    """The same in PyTorch: ``name`` is that of the contender."""
    import torch
    from coupling_peer import Flow, Normflows

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    make = Normflows if name == "normflows" else Flow
    wrap = torch.compile if name == "torch.compile" else (lambda function: function)
    programs = {}
    for kind, bins in BINS.items():
        flow = make(DIMENSION, bins=bins, **SIZE)
        optimiser = torch.optim.AdamW(flow.parameters(), lr=1e-4, fused=True)
        programs[kind] = flow, optimiser, wrap(lambda x, flow=flow: -flow.log_prob(x).mean()), wrap(flow.draw)

    def train(flow, optimiser, loss, x):
        optimiser.zero_grad()
        loss(x).backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimiser.step()

    inputs = {}
    while (order := connection.recv()) is not None:
        kind, task, batch = order
        flow, optimiser, loss, draw = programs[kind]
        x = inputs.setdefault(batch, torch.randn(batch, DIMENSION))
        begun = time.perf_counter()
        if task == "train":
            train(flow, optimiser, loss, x)
        else:
            with torch.no_grad():
                draw(torch.randn(batch, DIMENSION))
        connection.send(time.perf_counter() - begun)


class Contender:
    """A process that computes on command."""

    def __init__(self, name: str):
        self.name = name
        serve, arguments = (serve_heatbath, ()) if name == "heatbath" else (serve_torch, (name,))
        spawn = multiprocessing.get_context("spawn")
        self.pipe, there = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(there, *arguments), daemon=True)
        self.process.start()

    def seconds(self, order) -> float:
        """Wall time of one call."""
        self.pipe.send(order)
        return self.pipe.recv()

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def measure(contenders, order, rounds: int) -> tuple[dict, dict]:
    """Seconds of the first call (with compilation) and the median of later ones, by contender."""
    first = {contender.name: contender.seconds(order) for contender in contenders}
    times = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            # The processor has just served another process: one call to warm up, the next one counts.
            contender.seconds(order)
            times[contender.name].append(contender.seconds(order))
    return first, {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024])
    options = parser.parse_args()
    batches, rounds = ([64], 1) if options.quick else (options.batch, options.rounds)
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    names = ["heatbath", "torch eager"]
    names += [] if options.quick else ["torch.compile"]
    names += ["normflows"] if importlib.util.find_spec("normflows") else []
    contenders = [Contender(name) for name in names]
    rows, data, firsts = [], {}, []
    for kind in BINS:
        for batch in batches:
            for task in ("train", "draw"):
                first, medians = measure(contenders, (kind, task, batch), rounds)
                ours = medians["heatbath"]
                row = [kind, "training step" if task == "train" else "draws", batch, round(1e3 * ours, 2)]
                for name in ("torch eager", "torch.compile", "normflows"):
                    row += (
                        [round(1e3 * medians[name], 2), round(medians[name] / ours, 2)]
                        if name in medians
                        else ["-", "-"]
                    )
                rows.append(row)
                data[f"{kind} {task} {batch}"] = medians
                firsts.append(f"{kind} {task} {batch}: " + ", ".join(f"{n} {s:.1f} s" for n, s in first.items()))
                print(row, flush=True)
    for contender in contenders:
        contender.stop()
    if options.quick:
        return
    from record import record

    columns = ["layers", "what", "batch", "heatbath ms"]
    columns += ["torch eager ms", "ratio", "torch.compile ms", "ratio", "normflows ms", "ratio"]
    record(
        "coupling_throughput",
        title="Coupling flows: heatbath, PyTorch and normflows on the same cores",
        columns=columns,
        rows=rows,
        notes=[
            f"{DIMENSION} coordinates, {SIZE}, splines of {BINS['spline']} bins, float32, {THREADS} threads; medians of {rounds} "
            "rounds in turns; ratio above 1: heatbath is faster.",
            "normflows also moves the half that conditions (by splines without conditions) and takes its parameters by gathers.",
            "First calls, with compilation: " + "; ".join(firsts),
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
