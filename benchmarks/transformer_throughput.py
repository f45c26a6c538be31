"""How fast does the causal transformer flow train and draw, against the same architecture in PyTorch on the same cores?

Size: 4 blocks of 2 layers, 128 channels, 22 atoms in space (1.6 million parameters). Rows: batch 256 and 1024; a
training step (maximum likelihood, AdamW, clipped gradient; no moving average on either side) and draws with their log density.
Training runs as in ``training.fit``, several steps per call of one compiled program. Peers: PyTorch eager and ``torch.compile``
(training only: a token-by-token loop is not compiled as one program). Each contender is a process of its own, with two threads;
they take turns, round by round, and a row gives medians and the ratio of medians (above 1: heatbath is faster). GFLOP/s count
multiply-adds of the linear maps as two, backward as twice forward.

    python benchmarks/transformer_throughput.py [--quick] [--rounds 7] [--batch 256 1024] [--huge-pages]

``--huge-pages`` starts all contenders with GLIBC_TUNABLES=glibc.malloc.hugetlb=1 (Linux, glibc 2.35 or newer): memory of a step
in pages of 2 MiB, which spares most page faults. Writes results/transformer_throughput.json (or ..._huge_pages.json);
``--quick`` does batch 64, one round, without ``torch.compile``, and writes nothing.
"""

import argparse
import dataclasses
import multiprocessing
import os
import statistics
import time

ATOMS = 22
SIZE = {"channels": 128, "blocks": 4, "layers": 2, "head_dim": 64}
THREADS = 2
STEPS = 4  # training steps per measurement


def gigaflops_of_a_pass(batch: int) -> float:
    """Products of the linear maps of one evaluation of log q."""
    per_token = 12 * SIZE["channels"] ** 2 * SIZE["layers"] * SIZE["blocks"]
    return 2e-9 * per_token * (ATOMS - 1) * batch


def serve_heatbath(connection) -> None:
    """Answer (task, batch) with seconds of one call, until told to stop."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    from heatbath.models.transformer_flow import TransformerFlowSize, transformer_flow

    key = jax.random.key(0)
    model = transformer_flow(key, n_atoms=ATOMS, size=TransformerFlowSize(**SIZE))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4))
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def train(carry, x):
        def step(_, carry):
            params, state = carry
            gradient = jax.grad(lambda p: -jnp.mean(eqx.combine(p, rest).log_probs(x)))(params)
            updates, state = optimiser.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, STEPS, step, carry)

    def draw(params, keys):
        return jax.vmap(eqx.combine(params, rest).sample_and_log_prob)(keys)

    programs = {"train": jax.jit(train, donate_argnums=0), "draw": jax.jit(draw)}
    carry, inputs = (params, optimiser.init(params)), {}
    carry = jax.tree.map(jnp.copy, carry)
    while (order := connection.recv()) is not None:
        task, batch = order
        if order not in inputs:
            inputs[order] = (
                jax.random.normal(key, (batch, ATOMS, 3)) if task == "train" else jax.random.split(key, batch)
            )
        begun = time.perf_counter()
        if task == "train":
            carry = jax.block_until_ready(programs[task](carry, inputs[order]))
        else:
            jax.block_until_ready(programs[task](params, inputs[order]))
        connection.send((time.perf_counter() - begun) / (STEPS if task == "train" else 1))


def serve_torch(connection, compiled: bool) -> None:
    """The same in PyTorch."""
    import torch
    from transformer_peer import Flow, Training

    torch.set_num_threads(THREADS)
    flow = Flow(ATOMS, 3, **SIZE)
    trainings = {}
    while (order := connection.recv()) is not None:
        task, batch = order
        if task == "train" and batch not in trainings:
            trainings[batch] = Training(flow, batch, compiled=compiled)
        begun = time.perf_counter()
        if task == "train":
            for _ in range(STEPS):
                trainings[batch]()
        else:
            flow.draw(batch)
        connection.send((time.perf_counter() - begun) / (STEPS if task == "train" else 1))


@dataclasses.dataclass
class Contender:
    """A process that computes on command."""

    name: str
    serve: object
    arguments: tuple = ()

    def start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, there = spawn.Pipe()
        self.process = spawn.Process(target=self.serve, args=(there, *self.arguments), daemon=True)
        self.process.start()

    def seconds(self, order) -> float:
        """Wall time of one call."""
        self.pipe.send(order)
        return self.pipe.recv()

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def measure(contenders, orders, rounds: int) -> tuple[dict, dict]:
    """First calls (compilation) and medians of later ones, seconds by (contender, task, batch)."""
    first, times = {}, {}
    for order in orders:
        taking_part = [c for c in contenders if order[0] == "train" or c.name != "torch.compile"]
        for contender in taking_part:
            first[contender.name, *order] = contender.seconds(order)
            contender.seconds(order)
        for _ in range(rounds):
            for contender in taking_part:
                times.setdefault((contender.name, *order), []).append(contender.seconds(order))
        for contender in taking_part:
            key = (contender.name, *order)
            print(
                f"{contender.name:14} {order}: {statistics.median(times[key]):.4f} s, first {first[key]:.1f} s",
                flush=True,
            )
    return first, {key: statistics.median(values) for key, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--huge-pages", action="store_true")
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024])
    options = parser.parse_args()
    batches, rounds = ([64], 1) if options.quick else (options.batch, options.rounds)
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    if options.huge_pages:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    contenders = [Contender("heatbath", serve_heatbath), Contender("torch eager", serve_torch, (False,))]
    if not options.quick:
        contenders.append(Contender("torch.compile", serve_torch, (True,)))
    for contender in contenders:
        contender.start()
    orders = [(task, batch) for batch in batches for task in ("train", "draw")]
    first, medians = measure(contenders, orders, rounds)
    for contender in contenders:
        contender.stop()
    rows = []
    for task, batch in orders:
        ours = medians["heatbath", task, batch]
        flops = gigaflops_of_a_pass(batch) * (3 if task == "train" else 1)
        eager = medians["torch eager", task, batch]
        compiled = medians.get(("torch.compile", task, batch))
        row = ["training step" if task == "train" else "draws", batch, round(1e3 * ours, 1), round(flops / ours)]
        row += [round(1e3 * eager, 1), round(eager / ours, 2)]
        row += ["-", "-"] if compiled is None else [round(1e3 * compiled, 1), round(compiled / ours, 2)]
        rows.append(row)
        print(row)
    if options.quick:
        return
    from record import record

    record(
        "transformer_throughput" + ("_huge_pages" if options.huge_pages else ""),
        title="Transformer flow: heatbath and PyTorch on the same cores"
        + (", huge pages" if options.huge_pages else ""),
        columns=["what", "batch", "ms", "GFLOP/s", "torch eager ms", "ratio", "torch.compile ms", "ratio"],
        rows=rows,
        notes=[
            f"{ATOMS} atoms, {SIZE}, float32, {THREADS} threads; medians of {rounds} rounds in turns; ratio above 1: heatbath is faster.",
            "First calls, with compilation: "
            + "; ".join(f"{name} {task} {batch}: {seconds:.1f} s" for (name, task, batch), seconds in first.items()),
        ],
        data={"medians": {" ".join(map(str, key)): value for key, value in medians.items()}},
    )


if __name__ == "__main__":
    main()
