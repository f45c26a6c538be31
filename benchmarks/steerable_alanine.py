"""A steerable flow of alanine dipeptide, trained at 600 K only: what are its draws worth at 300 K, and are its answers right?

The model is trained by

    heatbath train alanine-dipeptide --model steerable-flow --temperature "600 K" --data RUN_AT_600_K --out MODEL

and never sees another temperature. For each temperature and seed it draws configurations, weighs them, and gives P(phi > 0) and
Delta F. At 300 K the reference is umbrella sampling (results/alanine_reference.json), and the free energy along phi and the
Ramachandran divergence are compared with a reference ensemble; ``--references`` names finished runs of `heatbath sample` at
any other temperature. Errors of one seed come from its weights; those of the mean from the spread over seeds.

    python benchmarks/steerable_alanine.py MODEL [--references RUN ...] [--seeds 4] [--draws 100000] [--work DIR] [--quick]
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from record import RESULTS, record

import heatbath
from heatbath.estimators.ramachandran import ramachandran_jsd
from heatbath.experiments import launch
from heatbath.experiments.generator_results import weight_summary
from heatbath.experiments.generator_sampling import generator_sampler
from heatbath.experiments.generators import load_generator
from heatbath.experiments.references import matching
from heatbath.experiments.steered import free_energy_of_share, law, second_basin
from heatbath.io.run_directory import RunDirectory
from heatbath.samplers.base import run_to_end
from heatbath.state import at_temperature

TEMPERATURES = (300, 450, 600, 1000)
BINS = 36
EDGES = np.linspace(-np.pi, np.pi, BINS + 1)


def torsions(target, ensemble) -> np.ndarray:
    """(draw, 2) of phi and psi, radians."""
    observables, flat = target.observables(), ensemble.flat()
    pair = [observables[name].function for name in target.ramachandran[0]]
    return np.stack([flat.evaluate(function) for function in pair], axis=1)


def profile(angles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """-log of the share of every bin of phi."""
    shares, _ = np.histogram(angles[:, 0], EDGES, weights=weights)
    with np.errstate(divide="ignore"):
        return -np.log(shares / shares.sum())


def drawn(target, model, card, temperature: int, draws: int, seed: int):
    state = at_temperature(target, f"{temperature} K")
    sampler = generator_sampler(target, state, model, centre_scale=card.centre_scale, samples=draws)
    return run_to_end(sampler, jax.random.key(seed))


def references(target, runs: list[Path]) -> dict[int, object]:
    """Temperature -> reference ensemble: the package's own, and those of the given runs."""
    found = {}
    for temperature in TEMPERATURES:
        stored = matching(target, float(temperature))
        if stored is not None:
            found[temperature] = stored.ensemble()
    for path in runs:
        _, ensemble = launch.draws(RunDirectory.open(path))
        found[round(ensemble.state.temperature(target.unit))] = ensemble
    return found


def of_reference(target, ensemble, temperature: int) -> dict:
    """Its Delta F, profile and torsions; at 300 K Delta F is that of umbrella sampling."""
    flat = ensemble.flat()
    angles, weights = torsions(target, ensemble), flat.weights()
    difference = free_energy_of_share(second_basin(target, ensemble))
    fields = [float(difference.value), float(difference.standard_error)]
    source = "main job"
    umbrella = RESULTS / "alanine_reference.json"
    if temperature == 300 and umbrella.exists():
        fields, source = list(map(float, json.loads(umbrella.read_text())["rows"][0][1:3])), "umbrella sampling"
    chains = np.shape(ensemble.log_weights)[0]
    halves = np.repeat(np.arange(chains) % 2, len(weights) // chains).astype(bool)
    floor = ramachandran_jsd(angles[halves], angles[~halves], weights[halves], weights[~halves])
    return {
        "delta_f": fields,
        "source": source,
        "angles": angles,
        "weights": weights,
        "profile": profile(angles, weights),
        "floor": float(floor),
    }


def measure(target, model, card, temperature: int, options, reference: dict | None) -> dict:
    """All seeds at one temperature."""
    rows = []
    for seed in range(options.seeds):
        place = None if options.work is None else options.work / f"{temperature}-{seed}-{options.draws}.json"
        if place is not None and place.exists():
            rows.append({name: np.array(value, dtype=float) for name, value in json.loads(place.read_text()).items()})
            continue
        ensemble = drawn(target, model, card, temperature, options.draws, seed).ensemble
        difference, summary = free_energy_of_share(second_basin(target, ensemble)), weight_summary(ensemble.log_weights)
        row = {
            "ess": summary["fraction"],
            "pareto_k": summary["pareto_k"],
            "delta_f": float(difference.value),
            "delta_f_error": float(difference.standard_error),
            "population": float(second_basin(target, ensemble).value),
        }
        angles, weights = torsions(target, ensemble), ensemble.weights()
        row["profile"] = profile(angles, weights)
        if reference is not None:
            row["jsd"] = float(ramachandran_jsd(angles, reference["angles"], weights, reference["weights"]))
            row["jsd_unweighted"] = float(ramachandran_jsd(angles, reference["angles"], None, reference["weights"]))
        rows.append(row)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps({name: np.asarray(value).tolist() for name, value in row.items()}))
        print(temperature, seed, {name: value for name, value in row.items() if name != "profile"}, flush=True)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def compare_profiles(found: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Root mean square difference of F(phi) in kT, over bins with more than 0.1 % of the reference, and the mean error there."""
    bins = np.exp(-reference) > 1e-3
    mean = found.mean(axis=0)[bins]
    errors = found[:, bins].std(axis=0, ddof=1) / np.sqrt(len(found))
    difference = mean - reference[bins]
    return float(np.sqrt(np.mean((difference - difference.mean()) ** 2))), float(errors.mean())


def spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--references", type=Path, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="folder for finished seeds, so that an interrupted call goes on")
    parser.add_argument("--quick", action="store_true", help="few draws; nothing is recorded")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.draws = 2, 4000
    target = heatbath.molecule("alanine-dipeptide")
    model, card = load_generator(options.model, target)
    known = {temperature: of_reference(target, ensemble, temperature)
             for temperature, ensemble in references(target, options.references).items()}  # fmt: skip
    rows, data = [], {}
    for temperature in TEMPERATURES:
        reference = known.get(temperature)
        found = measure(target, model, card, temperature, options, reference)
        (value, error), within = spread(found["delta_f"]), found["delta_f_error"].mean() / np.sqrt(options.seeds)
        error = max(error, within)
        cells = [temperature, "{:.3f} ± {:.3f}".format(*spread(found["ess"])), f"{np.median(found['pareto_k']):.2f}",
                 f"{value:.3f} ± {error:.3f}"]  # fmt: skip
        if reference is None:
            cells += [""] * 6
        else:
            true, uncertain = reference["delta_f"]
            rms, mean_error = compare_profiles(found["profile"], reference["profile"])
            cells += [
                f"{true:.3f} ± {uncertain:.3f} ({reference['source']})",
                f"{abs(value - true) / np.hypot(error, uncertain):.1f}",
                f"{found['jsd'].mean():.4f}",
                f"{found['jsd_unweighted'].mean():.4f}",
                f"{reference['floor']:.4f}",
                f"{rms:.3f} ({mean_error:.3f})",
            ]
        rows.append(cells)
        print(*cells, sep=" | ", flush=True)
        data[str(temperature)] = {name: array.tolist() for name, array in found.items()}
        if reference is not None:
            data[str(temperature)]["reference"] = {
                "delta_f": reference["delta_f"], "profile": np.where(np.isfinite(reference["profile"]), reference["profile"], None).tolist()
            }  # fmt: skip
        data[str(temperature)]["profile"] = [
            [float(v) if np.isfinite(v) else None for v in row] for row in found["profile"]
        ]
    betas = [float(at_temperature(target, f"{temperature} K").beta) for temperature in TEMPERATURES]
    breach = law(model, target, betas)
    print(f"largest spread of log p' - (T/T') log p: {breach:.1e}")
    if options.quick:
        return
    training = card.training
    record(
        "steerable_alanine",
        title=f"Alanine dipeptide by a steerable flow trained at {card.temperature} only",
        columns=["T (K)", "effective share of draws", "Pareto k", "ΔF (kT)", "reference ΔF (kT)", "σ apart",
                 "Ramachandran JSD", "unweighted", "floor", "rms of F(φ) (mean error), kT"],
        rows=rows,
        notes=[
            f"{options.draws} draws for each of {options.seeds} seeds; training {training.get('steps')} steps in "
            f"{training.get('seconds')} s, {training.get('parameters')} parameters.",
            f"Spread of log p' - (T/T') log p over draws: {breach:.1e} (zero for an exactly steerable flow).",
            "The floor of the divergence is that between two halves of the reference's ladders.",
            "F(φ) is compared in bins of 10 degrees that hold more than 0.1 % of the reference.",
        ],
        data={"trained_at": float(str(card.temperature).split()[0]), "temperatures": data, "breach": breach, "training": {k: training.get(k) for k in ("steps", "seconds", "seed", "command")}},
    )  # fmt: skip


if __name__ == "__main__":
    main()
