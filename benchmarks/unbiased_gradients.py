"""Are gradients of deep Boltzmann machines by coupled chains unbiased, and what does that cost?

    python benchmarks/unbiased_gradients.py [--quick] [--pairs 200000] [--work FOLDER]

A machine of 4-3-3 units is small enough for sums over all states, so that the mean of every estimator can be compared with the exact
one, component by component (21 products v h and h h'). Beside the true couplings with lag one stand two controls: the telescoped sum of
the public code, in which no second chain runs, and the start itself (local mode, then one sweep). Finished parts are kept in FOLDER.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from record import record

from heatbath.kernels.block_gibbs import UniformMetropolis, start_at_mode
from heatbath.kernels.coupled import CommonRandomNumbers, MaximalBlockGibbs
from heatbath.samplers.unbiased import unbiased_estimates
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.boltzmann_machines import boltzmann_machine

SIZES, CAP, CHUNK = (4, 3, 3), 20_000, 10_000
COUPLINGS = {
    "Metropolis, H_0": (CommonRandomNumbers(UniformMetropolis()), {"k": 0}),
    "Metropolis, H_10:30": (CommonRandomNumbers(UniformMetropolis()), {"k": 10, "m": 30}),
    "maximal block Gibbs, H_0": (MaximalBlockGibbs(), {"k": 0}),
    "maximal block Gibbs, H_2:6": (MaximalBlockGibbs(), {"k": 2, "m": 6}),
}


def problem(scale):
    """The machine, the products whose means are the gradient of log Z, and these means."""
    machine = boltzmann_machine(SIZES, scale=scale, seed=2)

    def statistics(x):
        v, h, g = machine.split(x.astype(float))
        return jnp.concatenate([jnp.outer(v, h).reshape(-1), jnp.outer(h, g).reshape(-1)])

    gradient = jax.jit(jax.grad(lambda m: m.log_partition()))(machine)
    return machine, statistics, np.concatenate([np.asarray(w).reshape(-1) for w in gradient.weights])


def telescoped(machine, statistics, key, *, correct=True):
    """f at the start, plus (``correct``) f(x_t) - f(x_{t-1}) of the same chain until its first rejection."""
    kernel, u = UniformMetropolis(), ReducedEnergy(machine, ThermoState(1.0))
    key_start, key = jax.random.split(key)
    x = start_at_mode(key_start, machine)
    if not correct:
        return statistics(x)

    def body(carry):
        key, state, total, _ = carry
        key, key_step = jax.random.split(key)
        new, info = kernel.step(key_step, state, u)
        return key, new, total + statistics(new.position) - statistics(state.position), info.accepted

    carry = (key, kernel.init(key, x, u), statistics(x), jnp.ones((), bool))
    return jax.lax.while_loop(lambda c: c[3], body, carry)[2]


def in_parts(one, pairs, seed):
    """``one(key)`` of so many keys, part by part."""
    part = jax.jit(jax.vmap(one))
    keys = jax.random.split(jax.random.key(seed), pairs).reshape((-1, min(CHUNK, pairs)))
    return np.concatenate([np.asarray(part(key)) for key in keys])


def row_of(values, exact, began, more=None):
    """What one estimator gives: bias in standard errors, its size, the summed variance, and ``more``."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    bias = values.mean(axis=0) - exact
    return {
        "z": float(np.abs(bias / error).max()),
        "bias": float(np.abs(bias).max()),
        "variance": float(values.var(axis=0, ddof=1).sum()),
        "pairs": len(values),
        "seconds": time.perf_counter() - began,
        **(more or {}),
    }


def measure(scale, name, pairs):
    """One estimator of one machine."""
    machine, statistics, exact = problem(scale)
    began = time.perf_counter()
    if name in COUPLINGS:
        coupling, options = COUPLINGS[name]
        found = unbiased_estimates(
            jax.random.key(4),
            coupling,
            ReducedEnergy(machine, ThermoState(1.0)),
            lambda key: start_at_mode(key, machine),
            statistics,
            pairs=pairs,
            cap=CAP,
            chunk=CHUNK,
            **options,
        )
        times = found.meeting_times
        more = {
            "truncated": found.truncation_rate,
            "met_at_once": float((times == 1).mean()),
            "meeting_mean": float(times.mean()),
            "meeting_max": int(times.max()),
        }
        return row_of(found.values, exact, began, more)
    correct = name == "telescoped (public code)"
    return row_of(in_parts(lambda k: telescoped(machine, statistics, k, correct=correct), pairs, 5), exact, began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--work", type=Path, default=Path(".cache/unbiased_gradients"))
    arguments = parser.parse_args()
    pairs = 2000 if arguments.quick else arguments.pairs
    arguments.work.mkdir(parents=True, exist_ok=True)
    found, rows = {}, []
    for scale in (0.7, 1.5):
        for name in (*COUPLINGS, "telescoped (public code)", "start alone"):
            path = arguments.work / f"{pairs}-{scale}-{name.replace(' ', '-')}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(scale, name, pairs)))
            here = found[f"{scale}, {name}"] = json.loads(path.read_text())
            print(scale, name, here, flush=True)
            times = f"{here['meeting_mean']:.3g}, at most {here['meeting_max']}" if "meeting_mean" in here else ""
            cut = f"{here['truncated']:.2g}" if "truncated" in here else ""
            cells = [f"{here['z']:.3g}", f"{here['bias']:.2g}", f"{here['variance']:.3g}", times, cut]
            rows.append([str(scale), name, *cells])
    if arguments.quick:
        return
    record(
        "unbiased_gradients",
        title="Gradients of a deep Boltzmann machine of 4-3-3 units, against sums over all states",
        columns=[
            "spread of weights",
            "estimator",
            "largest bias / its error",
            "largest bias",
            "variance",
            "meeting time",
            "cut off",
        ],
        rows=rows,
        notes=[
            f"{pairs} pairs of chains per row, every one from a local mode and one sweep. Bias and its error are the largest of 21 components; an unbiased estimator has a largest ratio below 4 in 999 of 1000 such rows.",
            "Variance: summed over components, of one pair. Meeting time: first t with x_t = y_(t-1), mean and largest. Cut off: share of pairs that had not met at the cap.",
            "telescoped: the sum of the public code of the method, which runs no second chain; it ends at the state of the first rejection.",
        ],
        data=found,
    )


if __name__ == "__main__":
    main()
