"""Boltzmann machines of binary digits and clothes, 28 x 28: the rows RBM and DBM of the table of ``digits_likelihoods.py``.

    python benchmarks/digits_machines.py --data digits|fashion --model rbm|dbm [--seed 0] [--steps N] [--work FOLDER]

Persistent contrastive divergence on the centred machine, Adam, weights that decay; every eighth of the updates the averaged machine is
measured on held-out rows by a short annealing, and the best of them is kept. Test rows with log Z from below and from above; the sums over
the hidden units of a deep machine are annealed too, which makes it look worse. The result is FOLDER/{data}-{model}-{seed}.json.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from heatbath.io.density_data import published
from heatbath.samplers.machine_annealing import clamped_log_z, log_partition
from heatbath.targets.boltzmann_machines import boltzmann_machine
from heatbath.training import AdamW, Cosine, Trainer
from heatbath.training.objectives.contrastive_divergence import (
    PersistentContrastiveDivergence,
    persistent_machine,
    persistent_optimiser,
)

#: model -> hidden layers and updates
MODELS = {"rbm": ((500,), 30_000), "dbm": ((500, 500), 12_000)}
BATCH, CHAINS = 100, 100
#: Learning rate; at the usual one a deep machine of clothes runs away from its persistent chains.
RATES = {("fashion", "dbm"): 2e-4}
USUAL_RATE = 1e-3
#: Pull of weights to zero: clothes have many rows and need less of it.
DECAY = {"digits": 0.02, "fashion": 0.002}
CHECKS = 8
#: Test rows of a deep machine, whose sums over hidden units are annealed.
MOST_ROWS = 1000


def nats(key, machine, rows, *, chains, levels, row_levels):
    """-log p of rows up to log Z, and log Z from both sides."""
    keys = jax.random.split(key)
    found = log_partition(keys[0], machine, chains=chains, levels=levels, settle=levels)
    clamped = clamped_log_z(keys[1], machine, jnp.asarray(rows), chains=5, levels=row_levels, at_once=20)
    return -clamped, found


def trained(split, model, seed, steps, rate, decay):
    """The machine with the best held-out likelihood on the way, that likelihood, and the history."""
    means = (split.train.sum(axis=0) + 1) / (len(split.train) + 2)
    sizes = (split.dimension, *MODELS[model][0])
    machine = boltzmann_machine(sizes, scale=0.01, seed=seed, visible_means=means, dtype=jnp.float32)
    key = jax.random.key(seed)
    optimiser = AdamW(Cosine(rate, steps, last=0.02), decay=decay, clip=None, spared=("biases",)).transformation()
    trainer = Trainer(
        persistent_machine(jax.random.fold_in(key, 1), machine, CHAINS),
        PersistentContrastiveDivergence(steps=1, clamped_steps=3),
        jnp.asarray(split.train, jnp.uint8),
        steps=steps,
        batch_size=BATCH,
        optimiser=persistent_optimiser(optimiser),
        ema=0.999,
        steps_per_chunk=max(1, steps // (4 * CHECKS)),
    )
    carry, best, history, checked = trainer.begin(key), (np.inf, None), [], 0
    began = time.perf_counter()
    while not trainer.finished(carry):
        carry, _ = trainer.advance(carry)
        step = int(carry.step)
        if step - checked < steps // CHECKS and not trainer.finished(carry):
            continue
        checked = step
        machine = trainer.trained(carry).machine
        held, found = nats(jax.random.key(step), machine, split.valid[:200], chains=50, levels=300, row_levels=30)
        value = float(held.mean()) + float(found.lower.value)
        history.append({"step": step, "valid": value, "seconds": time.perf_counter() - began})
        print(history[-1], flush=True)
        best = min(best, (value, machine), key=lambda pair: pair[0])
    return best[1], best[0], history


def piece(data, model, seed, steps):
    """What one machine reached."""
    began, split = time.perf_counter(), published(data)
    machine, valid, history = trained(split, model, seed, steps, RATES.get((data, model), USUAL_RATE), DECAY[data])
    rows = split.test if model == "rbm" else split.test[:MOST_ROWS]
    held, found = nats(jax.random.key(seed + 7), machine, rows, chains=100, levels=2000, row_levels=100)
    lower, upper = (float(held.mean()) + float(side.value) for side in (found.lower, found.upper))
    error = float(held.std(ddof=1) / np.sqrt(len(held)))
    return {
        "test": {"1": upper},
        "test_error": {"1": error},
        "lower": lower,
        "upper": upper,
        "log_z_errors": [float(side.standard_error) for side in (found.lower, found.upper)],
        "total_seconds": time.perf_counter() - began,
        "dimension": split.dimension,
        "test_rows": len(rows),
        "valid": valid,
        "updates": steps,
        "layers": [split.dimension, *MODELS[model][0]],
        "history": history,
        "remark": "persistent contrastive divergence, log Z by annealing from above",
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=("digits", "fashion"), required=True)
    parser.add_argument("--model", choices=tuple(MODELS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(".cache/digits_likelihoods"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.work / f"{arguments.data}-{arguments.model}-{arguments.seed}.json"
    if path.exists():
        print(path, "is there")
        return
    steps = arguments.steps or MODELS[arguments.model][1]
    found = piece(arguments.data, arguments.model, arguments.seed, steps)
    path.write_text(json.dumps(found))
    print({name: value for name, value in found.items() if name != "history"})


if __name__ == "__main__":
    main()
