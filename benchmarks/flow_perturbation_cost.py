"""What does a weight cost? Log Jacobians of a continuous flow in 10 to 1000 dimensions, and at equal error of log Z.

One flow for everything: 20 Euler steps of a residual perceptron (width 256, two layers, random weights), its last layer scaled so
that the log singular values of the whole map have a spread near 0.1. It has no preferred axes and no diagonal Jacobian.

Times: draw (noise to x, the flow inverted to 1e-5), and draw with weight, by each method; methods take turns within a round, ratios
are taken within a round and their median is reported. One explicit pass over all steps, without inversion, is timed beside them.

Errors: at some draws x the exact log Jacobian, and many estimates by each method. Relative variance V of the weight and bias of log Z
are those for a target that is the flow's own density (exact weights are then constant). Draws for an error of 0.05 in log Z:
V / (0.05^2 - bias^2), none where the bias alone is larger. That favours the exact Jacobian, which one draw then satisfies; the last
column therefore asks the same for a target under which exact weights have a relative variance of 1: draws
((1 + 1)(1 + V) - 1) / (0.05^2 - bias^2).

    python benchmarks/flow_perturbation_cost.py [--quick] [--dry]
"""

import argparse
import json
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from record import RESULTS, record

from heatbath.models.continuous_flow import ContinuousFlow, continuous_flow
from heatbath.models.log_jacobian import ExactJacobian, FlowPerturbation, Hutchinson, MultiStepFlowPerturbation
from heatbath.models.nets.residual import Dense
from heatbath.models.nets.velocity import ResidualVelocity

STEPS, SPREAD, ERROR = 20, 0.1, 0.05
#: Relative variance of exact weights in the last column.
TARGET_VARIANCE = 1.0
METHODS = {
    "multi-step flow perturbation": MultiStepFlowPerturbation(),
    "single-shot flow perturbation": FlowPerturbation(),
    "Hutchinson, 1 probe": Hutchinson(1, order=3),
    "Hutchinson, 2 probes": Hutchinson(2, order=3),
    "Hutchinson, 10 probes": Hutchinson(10, order=3),
    "exact Jacobian": ExactJacobian(),
}


def make_flow(dimension: int) -> ContinuousFlow:
    """A perceptron as one would train, with random weights."""
    key, key_last, key_spread = jax.random.split(jax.random.key(dimension), 3)
    net = ResidualVelocity.create(key, dimension, width=256, depth=2)
    last = Dense.create(key_last, 256, dimension, gain=1.0)
    net = eqx.tree_at(lambda n: n.network.last, net, last)
    last = eqx.tree_at(lambda n: n.weight, last, last.weight * SPREAD / spread(key_spread, net, dimension))
    net = eqx.tree_at(lambda n: n.network.last, net, last)
    return continuous_flow(net, (dimension,), steps=STEPS, integrator="euler")


@eqx.filter_jit
def spread(key, velocity, dimension: int):
    """About the spread of log singular values of the flow of ``velocity``: root of |symmetric part of Dv|^2 / D at normal places.

    Half of |Dv n|^2 for isotropic n, because neither part of a matrix without structure is preferred.
    """

    def one(key):
        key_place, key_time, key_direction = jax.random.split(key, 3)
        x = jax.random.normal(key_place, (dimension,), jnp.float32)
        n = jax.random.normal(key_direction, (dimension,), jnp.float32)
        t = jax.random.uniform(key_time, (), jnp.float32)
        moved = jax.jvp(lambda x: velocity(x, t), (x,), (n,))[1]
        return 0.5 * jnp.sum(moved**2) / jnp.sum(n**2)

    return jnp.sqrt(jnp.mean(jax.vmap(one)(jax.random.split(key, 256))))


@eqx.filter_jit
def plain(flow, keys):
    """Draws without weights."""
    return jax.vmap(lambda key: flow.from_base(flow.base.sample(key))[0])(keys)


@eqx.filter_jit
def explicit_pass(flow, keys):
    """One pass over all steps: what a draw would cost without inversion."""
    return jax.vmap(lambda key: flow.to_base(flow.base.sample(key)))(keys)


@eqx.filter_jit
def exact_at(flow, keys):
    """Draws with their exact log|det Dg|, one after another."""

    def one(key):
        x = flow.from_base(flow.base.sample(key))[0]
        return x, ExactJacobian().estimate(key, flow, x)[1]

    return jax.lax.map(one, keys)


@eqx.filter_jit
def estimates(flow, log_jacobian, x, keys):
    """(draw, repeat) independent log|det Dg| at every x, one x at a time."""
    estimate = lambda key, x: log_jacobian.estimate(key, flow, x)[1]  # noqa: E731
    return jax.lax.map(lambda pair: jax.vmap(estimate, in_axes=(0, None))(pair[1], pair[0]), (x, keys))


@eqx.filter_jit
def with_density(flow, log_jacobian, keys):
    """Draws with log q."""

    def one(key):
        x, _ = flow.from_base(flow.base.sample(key))
        z, log_det = log_jacobian.estimate(jax.random.fold_in(key, 1), flow, x)
        return x, flow.base.log_prob(z) + log_det

    return jax.vmap(one)(keys)


def seconds(function, *arguments) -> float:
    """Wall time of one call that is compiled already."""
    begun = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - begun


def batches(dimension: int, *, quick: bool) -> dict[str, int]:
    """Draws at once, by method: the exact Jacobian carries ``dimension`` tangents for each."""
    many = 128 if quick or dimension > 100 else 512
    return {name: (max(1, 1000 // dimension) if name.startswith("exact") else many) for name in METHODS}


def measure_times(flow, rounds: int, *, quick: bool) -> dict:
    """Seconds per draw by method, in rounds of all methods."""
    dimension = flow.subspace.dimension
    sizes = batches(dimension, quick=quick)
    programs = {
        "plain": (lambda keys: plain(flow, keys), sizes["multi-step flow perturbation"]),
        "explicit pass": (lambda keys: explicit_pass(flow, keys), sizes["multi-step flow perturbation"]),
        **{name: (lambda keys, m=m: with_density(flow, m, keys), sizes[name]) for name, m in METHODS.items()},
    }
    keys = {name: jax.random.split(jax.random.key(0), size) for name, (_, size) in programs.items()}
    compile_seconds = {name: seconds(run, keys[name]) for name, (run, _) in programs.items()}
    table = {name: [] for name in programs}
    for _ in range(rounds):
        for name, (run, size) in programs.items():
            table[name].append(seconds(run, keys[name]) / size)
    return {"seconds": table, "first_call_seconds": compile_seconds}


def ratios(table: dict) -> dict:
    """Median over rounds of the time per draw over that of a plain draw in the same round, with the quartiles."""
    base = np.array(table["plain"])
    return {name: np.quantile(np.array(values) / base, [0.25, 0.5, 0.75]).tolist() for name, values in table.items()}


def measure_errors(flow, places: int, repeats: int) -> dict:
    """Variance of log w, relative variance V of w, bias of log Z and the draws for the stated error, by method."""
    x, exact = exact_at(flow, jax.random.split(jax.random.key(1), places))
    keys = jax.random.split(jax.random.key(2), (places, repeats))
    found = {}
    for name, log_jacobian in METHODS.items():
        if name.startswith("exact"):
            found[name] = {"variance_log_w": 0.0, "relative_variance": 0.0, "bias": 0.0, "draws": 1.0}
            continue
        error = np.asarray(exact)[:, None] - np.asarray(
            estimates(flow, log_jacobian, x, keys)
        )  # log w less its exact value
        means = np.exp(error).mean(axis=1)
        mean = means.mean()
        # places differ a little in their variances and biases, so that their spread is the error
        uncertainty = means.std(ddof=1) / np.sqrt(places) / mean
        relative = float(np.exp(error).var(ddof=1) / mean**2)
        # unbiased by construction where declared: the measured shift of log Z is shown, and is noise there
        bias = 0.0 if log_jacobian.unbiased_weight else float(np.log(mean))
        room = ERROR**2 - bias**2
        found[name] = {
            "variance_log_w": float(error.var(axis=1, ddof=1).mean()),
            "relative_variance": relative,
            "shift_of_log_z": float(np.log(mean)),
            "shift_error": float(uncertainty),
            "bias": bias,
            "draws": float(relative / room) if room > 0 else None,
        }
    return found


def draws_at(error: dict, variance: float) -> float | None:
    """Draws for the stated error of log Z when exact weights have this relative variance, independent of the estimate's."""
    room = ERROR**2 - error["bias"] ** 2
    return ((1 + variance) * (1 + error["relative_variance"]) - 1) / room if room > 0 else None


def report(data: dict) -> tuple[list[list], list[str]]:
    """Rows of the table and notes."""
    rows = []
    for dimension, entry in data["dimensions"].items():
        plain_seconds = float(np.median(entry["times"]["seconds"]["plain"]))
        for name in METHODS:
            error, ratio = entry["errors"][name], entry["ratios"][name][1]
            draws = error["draws"]
            total = None if draws is None else max(draws, 1.0) * ratio * plain_seconds
            spread_draws = draws_at(error, TARGET_VARIANCE)
            spread_total = None if spread_draws is None else spread_draws * ratio * plain_seconds
            rows.append(
                [
                    int(dimension),
                    name,
                    ratio,
                    error["variance_log_w"],
                    error.get("shift_of_log_z", 0.0),
                    error.get("shift_error", 0.0),
                    draws,
                    total,
                    spread_total,
                ]
            )
    largest = max(data["dimensions"], key=int)
    last = data["dimensions"][largest]["ratios"]
    multi = [entry["ratios"]["multi-step flow perturbation"][1] for entry in data["dimensions"].values()]
    notes = [
        f"{STEPS} Euler steps; a plain draw inverts them to 1e-5 and costs {last['plain'][1] / last['explicit pass'][1]:.1f} explicit "
        f"passes at D = {largest}.",
        f"Multi-step flow perturbation: at most {max(multi):.2f} plain draws at any dimension.",
        f"At D = {largest} the exact Jacobian costs {last['exact Jacobian'][1]:.0f} plain draws, "
        f"{last['exact Jacobian'][1] / last['multi-step flow perturbation'][1]:.0f} draws weighted by multi-step flow perturbation.",
        f"Draws and seconds for a standard error of {ERROR} in log Z from the log Jacobian alone; none where the bias is larger.",
        "For the flow's own density as target the exact Jacobian is charged one draw: all its weights are equal there.",
    ]
    return rows, notes


def main():
    """Measure every dimension and write results/flow_perturbation_cost.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three dimensions, few rounds; prints only")
    parser.add_argument("--only", type=int, nargs="*", default=[], help="these dimensions alone; prints only")
    parser.add_argument(
        "--part", type=Path, default=Path("runs/flow_perturbation_cost.json"), help="finished dimensions"
    )
    parser.add_argument("--again", action="store_true", help="the table anew from the numbers in the results file")
    parser.add_argument("--dry", action="store_true", help="print, do not write the results file")
    options = parser.parse_args()
    dimensions = options.only or ((10, 100, 1000) if options.quick else (10, 30, 100, 300, 1000))
    prints_only = bool(options.quick or options.dry or options.only)
    rounds, places = (3, 8) if options.quick else (7, 32)
    data = {"steps": STEPS, "spread": SPREAD, "log_z_error": ERROR, "dimensions": {}}
    if options.part.exists() and not prints_only:
        data = json.loads(options.part.read_text())  # begun before: go on behind the last finished dimension
    for dimension in () if options.again else dimensions:
        if str(dimension) in data["dimensions"]:
            continue
        flow = make_flow(dimension)
        repeats = 64 if options.quick else 512 if dimension <= 30 else 128
        times = measure_times(flow, rounds, quick=options.quick)
        entry = {"times": times, "ratios": ratios(times["seconds"]), "errors": measure_errors(flow, places, repeats)}
        data["dimensions"][str(dimension)] = entry
        if not prints_only:
            options.part.parent.mkdir(parents=True, exist_ok=True)
            options.part.write_text(json.dumps(data))
        print(dimension, {name: round(value[1], 2) for name, value in entry["ratios"].items()}, flush=True)
        for name, error in entry["errors"].items():
            print("   ", name, {key: value and round(value, 4) for key, value in error.items()}, flush=True)
    if options.again:
        data = json.loads((RESULTS / "flow_perturbation_cost.json").read_text())["data"]
    rows, notes = report(data)
    print("\n".join(notes))
    if prints_only:
        return
    columns = [
        "dimension",
        "log Jacobian",
        "cost per draw (plain draws)",
        "Var log w",
        "shift of log Z",
        "error",
        "draws",
        "seconds",
        "seconds, exact weights of variance 1",
    ]
    record(
        "flow_perturbation_cost",
        title="Cost of a weighted draw of a continuous flow",
        columns=columns,
        rows=rows,
        notes=notes,
        data=data,
    )
    options.part.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
