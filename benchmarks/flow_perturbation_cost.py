"""What does a weight cost? Log Jacobians of a continuous flow in 10 to 1000 dimensions, and at equal error of log Z.

Times: 20 Euler steps of a residual perceptron (width 256, two layers, random weights). Draw (noise to x, the flow inverted to
1e-5), and draw with weight, by each method; methods take turns within a round, ratios are taken within a round and their
median is reported. One explicit pass over all steps, without inversion, is timed beside them.

Errors: 20 Euler steps of v(x) = Q [r (y + sin(y)/2)], y = Q^T x, with a random orthogonal Q and rates r of spread 0.1, so that
log singular values of the whole map have a spread near 0.1 and no coordinate axis is special (the +-1 vectors of Hutchinson
are exact for diagonal matrices). In the coordinates y the Jacobian is diagonal, so that every estimate can be compared with
the exact value, which no method is told. Relative variance V of the weight and bias of log Z are those for a target that is
the flow's own density (exact weights are then constant). Draws for an error of 0.05 in log Z: V / (0.05^2 - bias^2), none where
the bias alone is larger.

    python benchmarks/flow_perturbation_cost.py [--quick] [--dry]
"""

import argparse
import time

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from record import record

from heatbath.models.continuous_flow import ContinuousFlow, continuous_flow
from heatbath.models.log_jacobian import ExactJacobian, FlowPerturbation, Hutchinson, MultiStepFlowPerturbation
from heatbath.models.nets.residual import Dense
from heatbath.models.nets.velocity import ResidualVelocity, Velocity

STEPS, SPREAD, ERROR = 20, 0.1, 0.05
METHODS = {
    "multi-step flow perturbation": MultiStepFlowPerturbation(),
    "single-shot flow perturbation": FlowPerturbation(),
    "Hutchinson, 1 probe": Hutchinson(1, order=3),
    "Hutchinson, 2 probes": Hutchinson(2, order=3),
    "Hutchinson, 10 probes": Hutchinson(10, order=3),
    "exact Jacobian": ExactJacobian(),
}


class Rotated(Velocity):
    """The field described above."""

    axes: jax.Array
    rates: jax.Array

    def __call__(self, x, t):
        y = x @ self.axes
        return self.axes @ (self.rates * (y + 0.5 * jnp.sin(y)))

    def exact_log_det(self, x, steps: int):
        """log|det Dg(x)| in float64, from the diagonal Jacobian in the coordinates y."""
        y, axes, rates = x.astype(jnp.float64), self.axes.astype(jnp.float64), self.rates.astype(jnp.float64)
        y, h = y @ axes, 1 / steps

        def step(carry, _):
            y, total = carry
            total = total + jnp.sum(jnp.log(jnp.abs(1 - h * rates * (1 + 0.5 * jnp.cos(y)))))
            return (y - h * rates * (y + 0.5 * jnp.sin(y)), total), None

        return jax.lax.scan(step, (y, jnp.zeros(())), None, length=steps)[0][1]


def timed_flow(dimension: int) -> ContinuousFlow:
    """A perceptron as one would train, with random weights; its slope is a few times smaller than one over the step."""
    key, key_last = jax.random.split(jax.random.key(dimension))
    net = ResidualVelocity.create(key, dimension, width=256, depth=2)
    last = Dense.create(key_last, 256, dimension, gain=1.0)
    net = eqx.tree_at(lambda n: n.network.last, net, last)
    return continuous_flow(net, (dimension,), steps=STEPS, integrator="euler")


def make_flow(dimension: int) -> ContinuousFlow:
    """The flow whose Jacobian is known, float32."""
    random = np.random.default_rng(dimension)
    axes, _ = np.linalg.qr(random.standard_normal((dimension, dimension)))
    rates = SPREAD * random.standard_normal(dimension)
    field = Rotated(jnp.asarray(axes, jnp.float32), jnp.asarray(rates, jnp.float32))
    return continuous_flow(field, (dimension,), steps=STEPS, integrator="euler")


@eqx.filter_jit
def plain(flow, keys):
    """Draws without weights."""
    return jax.vmap(lambda key: flow.from_base(flow.base.sample(key))[0])(keys)


@eqx.filter_jit
def explicit_pass(flow, keys):
    """One pass over all steps: what a draw would cost without inversion."""
    return jax.vmap(lambda key: flow.to_base(flow.base.sample(key)))(keys)


@eqx.filter_jit
def weighted(flow, log_jacobian, keys):
    """Draws with log q, and its error."""

    def one(key):
        x, _ = flow.from_base(flow.base.sample(key))
        z, log_det = log_jacobian.estimate(jax.random.fold_in(key, 1), flow, x)
        return flow.base.log_prob(z) + log_det, log_det - flow.velocity.exact_log_det(x, flow.steps)

    return jax.vmap(one)(keys)


@eqx.filter_jit
def with_density(flow, log_jacobian, keys):
    """As ``weighted`` without the comparison: what is timed."""

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
    many = 128 if quick else 512
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


def measure_errors(flow, draws: int) -> dict:
    """Variance of log w, relative variance V of w, bias of log Z and the draws for the stated error, by method."""
    found = {}
    for name, log_jacobian in METHODS.items():
        if name.startswith("exact"):
            found[name] = {"variance_log_w": 0.0, "relative_variance": 0.0, "bias": 0.0, "draws": 1.0}
            continue
        parts = [
            np.asarray(weighted(flow, log_jacobian, jax.random.split(jax.random.key(1 + i), 512))[1])
            for i in range(draws // 512)
        ]
        error = -np.concatenate(parts)  # log w minus its exact value
        mean = np.mean(np.exp(error))
        relative = np.var(np.exp(error), ddof=1) / mean**2
        uncertainty = np.sqrt(relative / error.size)
        # unbiased by construction where declared: the measured shift of log Z is shown, and is noise there
        bias = 0.0 if log_jacobian.unbiased_weight else float(np.log(mean))
        room = ERROR**2 - bias**2
        found[name] = {
            "variance_log_w": float(error.var(ddof=1)),
            "relative_variance": float(relative),
            "shift_of_log_z": float(np.log(mean)),
            "shift_error": float(uncertainty),
            "bias": bias,
            "draws": float(relative / room) if room > 0 else None,
        }
    return found


def report(data: dict) -> tuple[list[list], list[str]]:
    """Rows of the table and notes."""
    rows = []
    for dimension, entry in data["dimensions"].items():
        plain_seconds = float(np.median(entry["times"]["seconds"]["plain"]))
        for name in METHODS:
            error, ratio = entry["errors"][name], entry["ratios"][name][1]
            draws = error["draws"]
            total = None if draws is None else max(draws, 1.0) * ratio * plain_seconds
            rows.append(
                [int(dimension), name, ratio, error["variance_log_w"], error.get("shift_of_log_z", 0.0), draws, total]
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
        "The exact Jacobian is charged one draw: all its weights are equal here.",
    ]
    return rows, notes


def main():
    """Measure every dimension and write results/flow_perturbation_cost.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three dimensions, few rounds; prints only")
    parser.add_argument("--dry", action="store_true", help="print, do not write the results file")
    options = parser.parse_args()
    dimensions = (10, 100, 1000) if options.quick else (10, 30, 100, 300, 1000)
    rounds, draws = (3, 1024) if options.quick else (9, 8192)
    data = {"steps": STEPS, "spread": SPREAD, "log_z_error": ERROR, "dimensions": {}}
    for dimension in dimensions:
        flow = make_flow(dimension)
        times = measure_times(timed_flow(dimension), rounds, quick=options.quick)
        entry = {"times": times, "ratios": ratios(times["seconds"]), "errors": measure_errors(flow, draws)}
        data["dimensions"][str(dimension)] = entry
        print(dimension, {name: round(value[1], 2) for name, value in entry["ratios"].items()}, flush=True)
        for name, error in entry["errors"].items():
            print("   ", name, {key: value and round(value, 4) for key, value in error.items()}, flush=True)
    rows, notes = report(data)
    print("\n".join(notes))
    if options.quick or options.dry:
        return
    columns = [
        "dimension",
        "log Jacobian",
        "cost per draw (plain draws)",
        "Var log w",
        "shift of log Z",
        "draws",
        "seconds",
    ]
    record(
        "flow_perturbation_cost",
        title="Cost of a weighted draw of a continuous flow",
        columns=columns,
        rows=rows,
        notes=notes,
        data=data,
    )


if __name__ == "__main__":
    main()
