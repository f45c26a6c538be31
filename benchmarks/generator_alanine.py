"""How good are trained generators of alanine dipeptide, before and after reweighting, on equal terms?

Each model (a directory made by `heatbath train`, or the one that ships) draws the same number of configurations for several seeds;
importance sampling and, with --smc, sequential Monte Carlo turn them into weighted ensembles. Printed: effective size with all weights
and after the literature's cut of the largest 0.2 %, Pareto k, forward efficiency, energy and torus Wasserstein-2 and
Ramachandran divergence beside their floors, P(phi > 0) and Delta F against results/alanine_reference.json (umbrella sampling) and
against the reference ensemble. Every finished (model, seed) is kept in --work, so that an interrupted call goes on.

    python benchmarks/generator_alanine.py internal=runs/internal transformer=runs/transformer [--seeds 4] [--draws 10000] [--smc] [--quick]
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from record import RESULTS, record

from heatbath.estimators import free_energy_difference, populations
from heatbath.experiments.generator_metrics import metric_rows
from heatbath.experiments.generator_results import forward_efficiency, weight_summary
from heatbath.experiments.generator_sampling import generator_sampler, model_facts
from heatbath.experiments.generators import load_generator
from heatbath.experiments.references import same_energies
from heatbath.experiments.shipped import shipped_models
from heatbath.io.datasets import load_reference
from heatbath.io.run_directory import json_ready
from heatbath.samplers.base import run_to_end
from heatbath.state import at_temperature
from heatbath.targets.molecules import molecule

TEMPERATURE = "300 K"
#: Draws of each side in the small and the large comparison of energies.
SMALL, LARGE = 2000, 10_000


def basins_of(target, ensemble) -> dict:
    inside = {name: ensemble.evaluate(basin) for name, basin in target.basins().items()}
    share = populations(ensemble, inside)["phi > 0"]
    difference = free_energy_difference(ensemble, inside["phi < 0"], inside["phi > 0"])
    return {
        "population": [share.value, share.standard_error],
        "delta_f_kt": [difference.value, difference.standard_error],
    }


def drawn(target, state, model, card, method: str, draws: int, seed: int) -> tuple:
    """The ensemble, its diagnostics, and the seconds it took without and with compilation."""
    sampler = generator_sampler(
        target, state, model, centre_scale=card.centre_scale, samples=draws, method=method, particles=min(draws, 2000)
    )
    seconds = []
    for _ in range(1 if method == "flow-smc" else 2):
        begun = time.time()
        sampled = run_to_end(sampler, jax.random.key(seed))
        seconds.append(time.time() - begun)
    return sampled.ensemble, sampled.diagnostics, seconds


def evaluate(name: str, folder: Path, seed: int, arguments, reference) -> dict:
    """Everything about one model and one seed."""
    target = molecule("alanine-dipeptide")
    assert same_energies(target, reference)
    state = at_temperature(target, TEMPERATURE)
    model, card = load_generator(folder, target, TEMPERATURE)
    ensemble, diagnostics, seconds = drawn(target, state, model, card, "flow", arguments.draws, seed)
    found = {
        "name": name,
        "seed": seed,
        "model": model_facts(model, card),
        "ess": weight_summary(ensemble.log_weights),
        "seconds": seconds,
        "inverted": diagnostics["inverted"],
        "inverted_share": diagnostics["inverted_share"],
        "non_finite": diagnostics["non_finite"],
        **basins_of(target, ensemble),
    }
    forward = forward_efficiency(target, state, model, reference, card.centre_scale, seed=seed)
    found["ess"]["forward_fraction"] = forward.value
    smc = None
    if arguments.smc:
        smc, diagnostics, spent = drawn(target, state, model, card, "flow-smc", arguments.smc_draws, seed)
        found["smc"] = {
            **basins_of(target, smc),
            "seconds": spent,
            "levels": len(diagnostics["levels"]),
            "families": diagnostics["families"],
            "ess": smc.ess(),
        }
    options = {"smc": smc, "replicates": 4 if arguments.quick else 20, "seed": seed}
    found["metrics"] = metric_rows(target, ensemble, reference, most=SMALL, transport=arguments.transport, **options)
    if smc is not None and smc.size < LARGE:
        options["smc"] = None  # every side has equally many draws
    if reference.size >= 2 * LARGE and arguments.draws >= LARGE:
        rows = metric_rows(target, ensemble, reference, most=LARGE, transport=min(500, arguments.transport), **options)
        found["metrics_large"] = [row for row in rows if row["name"] == "energy W2"]
    return json_ready(found)


def over_seeds(values: list) -> tuple[float, float]:
    """Mean and standard deviation over seeds; NaN where a value is missing."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else float("nan")


def shown(values: list) -> str:
    mean, spread = over_seeds(values)
    return f"{mean:.4g} ± {spread:.2g}" if np.isfinite(spread) else f"{mean:.4g}"


def metric(found: dict, name: str, side: str, key: str = "metrics"):
    row = next((row for row in found.get(key) or () if row["name"] == name), None)
    return None if row is None or row.get(side) is None else row[side]["value"]


def table(results: dict[str, list[dict]], truth: dict) -> list[list]:
    """One row per quantity, one column per model, mean and spread over seeds."""
    names = list(results)

    def row(title, pick):
        return [title, *(shown([pick(found) for found in results[name]]) for name in names)]

    def sigmas(found, section=None):
        value, error = (found[section] if section else found)["delta_f_kt"]
        return (value - truth["delta_f_kt"]) / np.hypot(error, truth["delta_f_kt_error"]) if error else None

    rows = [
        row("effective size / draws, all weights", lambda f: f["ess"]["fraction"]),
        row("effective size / draws, largest 0.2 % dropped", lambda f: f["ess"]["fraction_after_cut"]),
        row("forward effective size / frames", lambda f: f["ess"]["forward_fraction"]),
        row("Pareto k", lambda f: f["ess"]["pareto_k"]),
        row("P(phi > 0)", lambda f: f["population"][0]),
        row("standard error of P(phi > 0)", lambda f: f["population"][1]),
        row("Delta F (kT)", lambda f: f["delta_f_kt"][0]),
        row("Delta F, standard errors from umbrella sampling", sigmas),
        row("seconds for the draws, compiled", lambda f: f["seconds"][-1]),
        row("inverted stereocentres, share of the weight", lambda f: f["inverted_share"]),
    ]
    if any("smc" in found for runs in results.values() for found in runs):
        rows += [
            row("Delta F after SMC (kT)", lambda f: f["smc"]["delta_f_kt"][0]),
            row("Delta F after SMC, standard errors from umbrella sampling", lambda f: sigmas(f, "smc")),
            row("seconds of SMC", lambda f: f["smc"]["seconds"][-1]),
        ]
    for key in ("metrics", "metrics_large"):
        first = next((found for runs in results.values() for found in runs if found.get(key)), None)
        for entry in first[key] if first else ():
            for side in ("unweighted", "reweighted", "smc", "floor"):
                if entry.get(side) is not None:
                    title = f"{entry['name']} ({entry['unit']}), {side}, {entry['draws']} draws"
                    rows.append(row(title, lambda f, n=entry["name"], s=side, k=key: metric(f, n, s, k)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="NAME=DIRECTORY; the packaged model when none is given")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--smc", action="store_true", help="also anneal from the model")
    parser.add_argument("--smc-draws", type=int, default=2000)
    parser.add_argument("--transport", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="one seed, small sizes; nothing is written to results/")
    parser.add_argument("--work", type=Path, default=Path(".cache/generator_alanine"))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.draws, arguments.transport, arguments.smc_draws = 1, 2000, 300, 400
    chosen = dict(word.split("=", 1) for word in arguments.models) or {
        "packaged": str(shipped_models()["alanine-dipeptide"])
    }
    reference = load_reference("alanine-dipeptide")
    arguments.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict]] = {}
    for seed in range(arguments.seeds):
        for name, folder in chosen.items():
            size = f"{arguments.draws}-{arguments.smc_draws if arguments.smc else 0}-{arguments.transport}-{reference.size}"
            file = arguments.work / f"{name}-{size}-{seed}.json"
            if not file.is_file():
                file.write_text(json.dumps(evaluate(name, Path(folder), seed, arguments, reference)))
            results.setdefault(name, []).append(json.loads(file.read_text()))
            print(name, seed, f"{results[name][-1]['ess']['fraction']:.3f}", flush=True)
    truth = json.loads((RESULTS / "alanine_reference.json").read_text())["data"]
    rows = table(results, truth)
    width = max(len(row[0]) for row in rows)
    for row in rows:
        print(row[0].ljust(width), *row[1:], sep="  ")
    if arguments.quick:
        return
    floors = "Floors are the same metric between halves of the reference that share no ladder."
    record(
        "generator_alanine",
        title="Generators of alanine dipeptide at 300 K (amber99sbildn + OBC2)",
        columns=["quantity", *chosen],
        rows=rows,
        notes=[
            f"Mean and standard deviation over {arguments.seeds} seeds of the draws (one training each); {arguments.draws} draws.",
            f"{floors} The reference has {reference.size} frames of {reference.ladders} ladders: {reference.record['command']}.",
            f"Umbrella sampling: Delta F = {truth['delta_f_kt']:.3f} ± {truth['delta_f_kt_error']:.3f} kT.",
            *(f"{name}: {runs[0]['model']}" for name, runs in results.items()),
        ],
        data=results,
    )


if __name__ == "__main__":
    main()
