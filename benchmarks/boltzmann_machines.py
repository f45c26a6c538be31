"""What do Boltzmann machines learn with and without bias? Bars and stripes against exact sums, small digits by annealing.

    python benchmarks/boltzmann_machines.py [--quick] [--only bars|digits] [--seeds 3] [--seed S] [--pieces N] [--work FOLDER]

Bars: a machine of 16-12 units, learned by each rule from the same start by as many updates; its divergence from the 30 images of 4 x 4 by sums
over all states. Digits: the 8 x 8 digits of scikit-learn, a deep machine by the unbiased rule beside a restricted one by persistent
chains and a mixture of Bernoullis; likelihoods with log Z from both sides, and distances of draws from test images by the features of a
classifier trained here (they are no FID). Every finished piece is kept in FOLDER, and seeds that the results have are not made again; at
most N new ones are made per call, and several calls may share a FOLDER.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from record import earlier, measured, record, stamp

from heatbath.estimators.feature_distances import feature_statistics, frechet_distance, kernel_distance
from heatbath.experiments import machine_stages as stages
from heatbath.experiments import unbiased_boltzmann_machine as experiment
from heatbath.experiments.config import build, merge
from heatbath.kernels.block_gibbs import start_at_mode
from heatbath.models.nade import fit_bernoulli_mixture
from heatbath.models.nets.image_classifier import ImageClassifier
from heatbath.samplers.importance import importance
from heatbath.samplers.machine_annealing import AnnealedMachine, clamped_log_z, log_partition
from heatbath.samplers.unbiased import unbiased_estimates
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.training import AdamW, Cosine, fit
from heatbath.training.objectives.classification import CrossEntropy
from heatbath.training.objectives.contrastive_divergence import PersistentContrastiveDivergence, PersistentMachine
from heatbath.training.trainable import trainable

#: Rules of bars and stripes, and learning rates besides that of the preset: the biased ones do worse at that one.
RULES = {"unbiased": (), "persistent": (0.01, 0.002), "contrastive-divergence": (0.01, 0.002)}
MOST_SEEDS = 5
BARS = [(rule, rate) for rule, rates in RULES.items() for rate in (None, *rates)]
#: Hidden layers of the deep machine of bars and stripes, and its rules with their rates.
DEEP, DEEP_BARS = (12, 8), (("unbiased", None), ("persistent", 0.002))
#: Updates of every machine of digits: twice those of the preset.
UPDATES = 10_000
#: So many times the updates take persistent chains as long as the unbiased rule.
LONGER = 10
#: The machine of digits whose coupled chains are followed, for so many sweeps at most.
COUPLED, MOST_SWEEPS = "DBM 64-64-64, persistent", 1000
#: name -> hidden layers, rule and updates of the machines of digits
MACHINES = {
    "DBM 64-64-64, unbiased": ((64, 64), "unbiased", UPDATES),
    "DBM 64-64-64, persistent": ((64, 64), "persistent", UPDATES),
    "DBM 64-64-64, persistent, equal time": ((64, 64), "persistent", LONGER * UPDATES),
    "RBM 64-64, persistent": ((64,), "persistent", UPDATES),
    "RBM 64-128, persistent": ((128,), "persistent", UPDATES),
}


def prepared_for(preset, seed, **changes):
    """The experiment's objects, as the command line would make them."""
    config = build(experiment.Config, merge(merge(experiment.PRESETS[preset], changes), {"seed": seed}))
    return experiment.prepare(experiment.check(config))


def trained(prepared, rule):
    """A trained machine, and what its training cost."""
    process = stages.trainer(prepared, rule)
    carry, began, rows = process.begin(prepared.key), time.perf_counter(), []
    while not process.finished(carry):
        carry, chunk = process.advance(carry)
        rows.append(dict(chunk.metrics))
        print(
            rule, int(carry.step), {k: round(v, 4) for k, v in chunk.metrics.items() if k != "evaluations"}, flush=True
        )
    facts = {"seconds": time.perf_counter() - began, "skipped": int(carry.skipped), "updates": process.steps}
    for name in ("truncated", "truncated_free", "meeting_time", "validation_loss", "gradient_norm"):
        if name in rows[0]:
            facts[name] = [row[name] for row in rows]
    return stages.plain(process.trained(carry)), facts


def bars(rule, rate, seed, quick, *, deep=False):
    """Exact divergence of one rule from one start, at the rate of the preset or another."""
    changes = {**({"steps": 200} if quick else {}), **({} if rate is None else {"rate": rate})}
    machine = {}
    if deep:
        changes, machine = changes | {"coupling": "pool", "pool": 64}, {"hidden": DEEP}
    prepared = prepared_for(experiment.BARS, seed, training=changes, machine=machine)
    _, facts = trained(prepared, rule)
    shift = float(np.log(len(prepared.split.test)))
    return facts | {"kl": [loss - shift for loss in facts["validation_loss"]]}


# Digits ---------------------------------------------------------------------------------------------------------------
def digits(name, seed, quick):
    """Likelihoods and distances of one machine."""
    hidden, rule, updates = MACHINES[name]
    changes = {"machine": {"hidden": hidden}, "training": {"steps": 100 if quick else updates}}
    prepared = prepared_for("default", seed, **changes)
    machine, facts = trained(prepared, rule)
    settings, rows = prepared.config.evaluation, jnp.asarray(prepared.split.test)
    began = time.perf_counter()
    found = log_partition(jax.random.key(seed + 1), machine, chains=settings.chains, levels=settings.levels)
    clamped = clamped_log_z(
        jax.random.key(seed + 2), machine, rows, chains=settings.row_chains, levels=settings.row_levels
    )
    for part in ("train", "valid"):  # for judging settings: test rows are not looked at for that
        some = jnp.asarray(getattr(prepared.split, part)[:250])
        sums = clamped_log_z(
            jax.random.key(seed + 2), machine, some, chains=settings.row_chains, levels=settings.row_levels
        )
        facts[part] = float(found.upper.value) - float(sums.mean())
    facts |= {
        "lower": -float(clamped.mean()) + float(found.lower.value),
        "upper": -float(clamped.mean()) + float(found.upper.value),
        "log_z_errors": [float(side.standard_error) for side in (found.lower, found.upper)],
        "error": float(clamped.std(ddof=1) / np.sqrt(len(clamped))),
        "rows": [round(float(found.upper.value) - float(value), 4) for value in clamped],
        "evaluation_seconds": time.perf_counter() - began,
    }
    u = ReducedEnergy(machine, ThermoState(1.0))
    if name == COUPLED and seed == 0 and not quick:
        facts["couplings"] = couplings(machine, prepared)
    ensemble = importance(jax.random.key(seed + 3), AnnealedMachine(levels=1000), u, 1000, chunk=250)
    drawn = np.asarray(ensemble.resample(jax.random.key(seed + 4)).samples)[:, : prepared.split.dimension]
    return facts | {"ess": ensemble.ess() / ensemble.size, **distances(prepared.split, drawn)}


def couplings(machine, prepared):
    """Meeting times of pairs from data under each coupling, and the variance of the gradients that they give."""
    u, rows = ReducedEnergy(machine, ThermoState(1.0)), jnp.asarray(prepared.split.train, jnp.int32)
    params, rest = eqx.partition(machine, trainable(machine))

    def start(key):
        key_row, key_mode = jax.random.split(key)
        row = rows[jax.random.randint(key_row, (), 0, len(rows))]
        return jnp.concatenate([row, start_at_mode(key_mode, machine.given_visible(row))])

    def spread(objective, model):
        """Sum of the variances of all components, from gradients of one batch."""

        @jax.jit
        def one(key):
            gradient = jax.grad(lambda p: objective(key, model(eqx.combine(p, rest)), rows[:100])[0])(params)
            return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(gradient)])

        return float(np.var([np.asarray(one(key)) for key in jax.random.split(jax.random.key(1), 40)], axis=0).sum())

    found = {}
    for kind in ("unit-by-unit", "maximal", "proposal", "pool"):
        settings = prepared_for("default", 0, training={"coupling": kind})
        pair = stages.coupling_of(settings)
        met = unbiased_estimates(
            jax.random.key(0), pair, u, start, lambda x: x.mean(), pairs=200, cap=MOST_SWEEPS, chunk=200
        )
        found[kind] = {
            "mean": float(met.meeting_times.mean()),
            "quantiles": np.quantile(met.meeting_times, (0.5, 0.9, 1.0)).tolist(),
            "cut": met.truncation_rate,
            "variance": spread(stages.trainer(settings, "unbiased").objective, lambda m: m),
        }
        print(kind, found[kind], flush=True)
    # persistent chains that have reached the law: what no rule with as many free states can beat by much
    ensemble = importance(jax.random.key(2), AnnealedMachine(levels=1000), u, 200, chunk=200)
    particles = jnp.asarray(ensemble.resample(jax.random.key(3)).samples[:100], jnp.float32)
    rule = PersistentContrastiveDivergence()
    found["persistent"] = {"variance": spread(rule, lambda m: PersistentMachine(m, particles))}
    return found


def labels_of(split):
    """Labels of the three parts of the 8 x 8 digits, in the order of the split."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng([0, 24]).permutation(len(found.target))
    ones = (found.images.reshape(len(found.target), -1) > 8).astype(np.uint8)[order]
    assert np.array_equal(ones, np.concatenate([split.train, split.valid, split.test])), "another order of the rows"
    return np.split(found.target[order], np.cumsum([len(split.train), len(split.valid)]))


_CLASSIFIERS = {}


def classifier(split):
    """A classifier of the digits and its accuracy on test rows; trained once per call."""
    if not _CLASSIFIERS:
        labels = labels_of(split)
        net = ImageClassifier(jax.random.key(0), (8, 8))
        data = (jnp.asarray(split.train, jnp.float32), jnp.asarray(labels[0], jnp.int32))
        optimiser = AdamW(Cosine(3e-3, 1500), decay=1e-3)
        found = fit(jax.random.key(1), net, CrossEntropy(), data, steps=1500, batch_size=100, optimiser=optimiser)
        scores = jax.vmap(found.model)(jnp.asarray(split.test, jnp.float32))
        _CLASSIFIERS["net"] = (found.model, float((np.asarray(scores).argmax(axis=1) == labels[2]).mean()))
    return _CLASSIFIERS["net"]


def features(split, rows):
    """Features of rows by the classifier."""
    return np.asarray(jax.jit(jax.vmap(classifier(split)[0].features))(jnp.asarray(rows, jnp.float32)))


def distances(split, drawn):
    """Frechet and kernel distances of draws from the test rows, and what training rows have."""
    test, made = features(split, split.test), features(split, drawn)
    floor = features(split, split.train)
    return {
        "frechet": frechet_distance(feature_statistics(made), feature_statistics(test)),
        "kernel": float(kernel_distance(made, test).value),
        "frechet_floor": frechet_distance(feature_statistics(floor), feature_statistics(test)),
        "kernel_floor": float(kernel_distance(floor, test).value),
        "accuracy": classifier(split)[1],
    }


def mixture(seed):
    """The mixture of Bernoullis whose size held-out rows choose."""
    split = prepared_for("default", seed).split
    fits = [fit_bernoulli_mixture(split.train, count, seed=seed, held_out=split.valid) for count in (16, 32, 64, 128)]
    model = max(fits, key=lambda fit: fit.valid.max()).model
    values = np.asarray(jax.jit(jax.vmap(model.log_prob))(jnp.asarray(split.test)))
    drawn = np.asarray(jax.vmap(model.sample)(jax.random.split(jax.random.key(seed), 1000)))
    nats = {"lower": -float(values.mean()), "upper": -float(values.mean())}
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    rows = [round(-float(value), 4) for value in values]
    return nats | {"components": len(model.logits), "error": error, "rows": rows, **distances(split, drawn)}


# Tables ---------------------------------------------------------------------------------------------------------------
def spread(values, digits=3):
    """Mean and standard error over seeds."""
    values = np.array(values, dtype=float)
    error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}g}{error}"


def table(found):
    """Rows of the results page."""
    rows = []
    deep = [name_of(*pair, deep=True) for pair in DEEP_BARS]
    for name in [*(name_of(*pair) for pair in BARS), *deep]:
        runs = found.get(name)
        if runs:
            cut = spread([run["truncated"][-1] for run in runs]) if "truncated" in runs[0] else ""
            steps = f"{runs[0]['updates']}"
            rows.append(
                [
                    "bars and stripes",
                    ("" if name in deep else "RBM 16-12, ") + name.removeprefix("bars, "),
                    steps,
                    f"KL {spread([run['kl'][-1] for run in runs])}",
                    "",
                    "",
                    cut,
                ]
            )
    for name in (*MACHINES, "mixture of Bernoullis"):
        runs = found.get(f"digits, {name}")
        if runs:
            nats = f"{spread([run['upper'] for run in runs], 4)} (log Z from below: {spread([run['lower'] for run in runs], 4)})"
            cut = spread([run["truncated"][-1] for run in runs]) if "truncated" in runs[0] else ""
            marks = [spread([run[kind] for run in runs]) for kind in ("frechet", "kernel")]
            rows.append(["digits 8 x 8", name, str(runs[0].get("updates", "")), nats, *marks, cut])
    return rows


def differences(found):
    """How much worse the other models of digits are than each deep machine, row by row: sentences."""
    rows = {name: np.array([run["rows"] for run in runs]) for name, runs in found.items() if "rows" in runs[0]}
    for name in [name for name in rows if "DBM" in name]:
        parts = []
        for other in [other for other in rows if "DBM" not in other]:
            count = min(len(rows[name]), len(rows[other]))
            gap = rows[other][:count].mean(axis=0) - rows[name][:count].mean(axis=0)
            error = gap.std(ddof=1) / np.sqrt(len(gap))
            over = (rows[other][:count] - rows[name][:count]).mean(axis=1)
            parts.append(
                f"{gap.mean():.3f} ± {error:.3f} below {other.removeprefix('digits, ')} ({count} seeds: {over.min():.2f} to {over.max():.2f})"
            )
        yield f"Nats per test row of {name.removeprefix('digits, ')}, compared row by row: {'; '.join(parts)}."


def name_of(rule, rate, *, deep=False):
    """What the row of a rule is called."""
    machine = f"DBM {'-'.join(map(str, (16, *DEEP)))}, " if deep else ""
    return f"bars, {machine}{rule}" + ("" if rate is None else f", rate {rate:g}")


def pieces(*, quick):
    """Name, seed and function of every piece, seed by seed."""
    for seed in range(1 if quick else MOST_SEEDS):
        for rule, rate in reversed(BARS):
            make = lambda rule=rule, rate=rate, seed=seed: bars(rule, rate, seed, quick)  # noqa: E731
            yield name_of(rule, rate), seed, make
        for rule, rate in DEEP_BARS:
            make = lambda rule=rule, rate=rate, seed=seed: bars(rule, rate, seed, quick, deep=True)  # noqa: E731
            yield name_of(rule, rate, deep=True), seed, make
        for name in MACHINES:
            yield f"digits, {name}", seed, lambda name=name, seed=seed: digits(name, seed, quick)
        yield "digits, mixture of Bernoullis", seed, lambda seed=seed: mixture(seed)


def claimed(path):
    """Whether this call is the one that makes a piece; delete the claims of calls that were broken off."""
    try:
        path.with_suffix(".claim").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("", "bars", "digits"), default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=-1, help="make pieces of this seed alone")
    parser.add_argument("--pieces", type=int, default=10**6)
    parser.add_argument("--work", type=Path, default=Path(".cache/boltzmann_machines"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    (kept, when), found, new = ({}, {}) if arguments.quick else earlier("boltzmann_machines"), {}, 0
    for name, seed, make in pieces(quick=arguments.quick):  # finished pieces of every kind go into the table
        path = (
            arguments.work
            / f"{'quick-' if arguments.quick else ''}{name.replace(', ', '-').replace(' ', '-')}-{seed}.json"
        )
        before = [run for place, run in enumerate(kept.get(name, ())) if run.get("seed", place) == seed]
        if before and not path.exists():
            found.setdefault(name, []).append(when | before[0] | {"seed": seed})
            continue
        if not path.exists():
            if (
                new >= arguments.pieces
                or seed >= arguments.seeds
                or arguments.seed not in (-1, seed)
                or not name.startswith(arguments.only)
            ):
                continue
            if not claimed(path):
                continue
            path.write_text(json.dumps(make() | stamp()))
            new += 1
        found.setdefault(name, []).append(json.loads(path.read_text()) | {"seed": seed})
    rows = table(found)
    print(*rows, sep="\n")
    if arguments.quick:
        return
    counts = {name: len(runs) for name, runs in found.items()}
    notes = [
        f"Seeds of each row: {min(counts.values())} to {max(counts.values())}. Errors are standard errors over seeds.",
        "All rules of one machine have the same start, updates and batches, and the same rate (0.05 for bars) unless another is said. KL: from the 30 images, by sums over all states, of the averaged machine, in nats.",
        "Digits: nats per test row (250 rows) with log Z from above, so that the machine looks worse, not better.",
    ]
    notes += differences(found)
    some = next((runs[0] for name, runs in found.items() if name.startswith("digits")), None)
    if some:
        notes.append(
            f"Frechet and kernel distances are by 64 features of a classifier trained here on the same digits (accuracy on test rows "
            f"{some['accuracy']:.3f}); they are no FID. Training rows have {some['frechet_floor']:.3g} and {some['kernel_floor']:.2g}."
        )
    pairs = next((run["couplings"] for runs in found.values() for run in runs if "couplings" in run), None)
    if pairs:
        base = pairs["persistent"]["variance"]
        for kind, row in pairs.items():
            if kind == "persistent":
                continue
            middle, late, last = row["quantiles"]
            notes.append(
                f"Coupling {kind} of the machine {COUPLED}: pairs from data meet after {row['mean']:.3g} sweeps (median {middle:.0f}, 9 of 10 by "
                f"{late:.0f}, last {last:.0f}; {row['cut']:.3g} not by {MOST_SWEEPS}); gradients by the default k, m and cap have {row['variance'] / base:.3g} "
                "times the variance of those by persistent chains."
            )
    notes.append(
        "Cut off: share of pairs of chains that had not met at the cap, at the end of the training; beyond zero the rule is not unbiased."
    )
    stamps, seeds = {}, {}
    for name, runs in found.items():
        for run in runs:
            stamps[name, run["commit"]] = run
            seeds.setdefault((name, run["commit"]), []).append(str(run["seed"]))
    notes.append(measured({f"{key[0]} (seeds {', '.join(seeds[key])})": run for key, run in stamps.items()}))
    record(
        "boltzmann_machines",
        title="Boltzmann machines learned with and without bias",
        columns=[
            "data",
            "model",
            "updates",
            "how far from the data",
            "Frechet distance",
            "kernel distance",
            "cut off",
        ],
        rows=rows,
        notes=notes,
        data=found,
    )


if __name__ == "__main__":
    main()
