"""Is the main job fast, right, and honest about its error? Eight seeds of the command line against an independent reference.

Runs `heatbath sample alanine-dipeptide` once per seed, as a user would (a process each, default settings), and asks three
questions. Is Delta F(phi > 0 against phi < 0) within its error of results/alanine_reference.json (umbrella sampling)?
Is the stated error the spread over the seeds, within a factor 1.5? How long does a run take from start to report?

    python benchmarks/main_job.py [--seeds 8] [--dry]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import RESULTS, record


def run(seed: int, out: Path) -> dict:
    """One run of the main job in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "heatbath",
        "sample",
        "alanine-dipeptide",
        "--seed",
        str(seed),
        "--out",
        str(out),
        "--quiet",
    ]
    begun = time.time()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.time() - begun
    results = json.loads((out / "results.json").read_text())
    difference = results["free_energy_differences"][0]["value"]
    stereochemistry = results["stereochemistry"]
    return {
        "seed": seed,
        "exit_code": finished.returncode,
        "seconds": seconds,
        "delta_f_kt": difference["value"],
        "standard_error": difference["standard_error"],
        "evaluations": results["cost"]["energy_evaluations"],
        "inverted_centres": stereochemistry["inverted_centres"],
        "flipped_peptide_bonds": stereochemistry["flipped_peptide_bonds"],
        "frames": stereochemistry["frames"],
    }


def main():
    """Run the seeds one after the other and write results/main_job.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="print, do not write the results file")
    options = parser.parse_args()
    reference = json.loads((RESULTS / "alanine_reference.json").read_text())["data"]
    runs = []
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run(seed, Path(folder) / "run"))
        last = runs[-1]
        print(
            f"seed {seed}: {last['delta_f_kt']:.4f} +- {last['standard_error']:.4f} kT, {last['seconds']:.0f} s",
            flush=True,
        )
    values, errors = (np.array([r[name] for r in runs]) for name in ("delta_f_kt", "standard_error"))
    spread, stated = values.std(ddof=1), np.sqrt(np.mean(errors**2))
    combined = np.sqrt(errors**2 + reference["delta_f_kt_error"] ** 2)
    scores = (values - reference["delta_f_kt"]) / combined
    mean_error = spread / np.sqrt(len(values))
    overall = (values.mean() - reference["delta_f_kt"]) / np.hypot(mean_error, reference["delta_f_kt_error"])
    print(
        f"spread {spread:.4f}, stated {stated:.4f}, ratio {stated / spread:.2f}; scores {np.round(scores, 2)}; mean {overall:.2f}"
    )
    if options.dry:
        return
    record(
        "main_job",
        title="The main job: eight seeds of `heatbath sample alanine-dipeptide`",
        columns=[
            "seed",
            "Delta F, kT",
            "stated error",
            "score against the reference",
            "seconds",
            "inverted centres",
            "cis bonds",
        ],
        rows=[
            [
                r["seed"],
                r["delta_f_kt"],
                r["standard_error"],
                float(z),
                r["seconds"],
                r["inverted_centres"],
                r["flipped_peptide_bonds"],
            ]
            for r, z in zip(runs, scores, strict=True)
        ],
        notes=[
            f"Reference (umbrella sampling): {reference['delta_f_kt']:.4f} +- {reference['delta_f_kt_error']:.4f} kT.",
            f"Mean over seeds {values.mean():.4f} +- {mean_error:.4f} kT, {overall:+.2f} combined standard errors from the reference.",
            f"Spread over seeds {spread:.4f} kT, stated error {stated:.4f} kT: ratio {stated / spread:.2f}.",
            "Seconds are wall time of the whole command on two cores: start-up, compilation, sampling, analysis, report.",
        ],
        data={"runs": runs, "spread": float(spread), "stated": float(stated), "overall_score": float(overall)},
    )


if __name__ == "__main__":
    main()
