"""Does a flow network learn the exact law of bags of 13 items of 7 kinds (77 520 states, modes drawn by lot)?

Runs `heatbath run energy-decomposition-gflownet --preset full` with one method and seed as a user would, or reads a finished run
(``--run``). Asked: total variation between the network's law, by dynamic programming over all states, and the exact one, below
0.05; log Z by the weights of its draws within 0.02 of the exact one.

    python benchmarks/gflownet_bag.py [--method db] [--run DIR] [--quick]
"""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from record import record

QUICK = ("training.rounds=20", "training.chunk=10", "sampler.samples=1000")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="db")
    parser.add_argument("--run", type=Path, default=Path(".cache/gflownet_bag"))
    parser.add_argument("--quick", action="store_true", help="a few rounds; nothing is written to results/")
    arguments = parser.parse_args()
    run = arguments.run.with_name("gflownet_bag_quick") if arguments.quick else arguments.run
    if not (run / "results.json").exists():
        settings = [f'training.methods=["{arguments.method}"]', "training.seeds=1", *(QUICK if arguments.quick else ())]
        chosen = [word for setting in settings for word in ("--set", setting)]
        begun = ["resume", str(run)] if run.exists() else ["run", "energy-decomposition-gflownet", "--preset", "full"]
        begun += [] if run.exists() else ["--out", str(run), *chosen]
        subprocess.run([sys.executable, "-m", "heatbath", *begun], check=False)
    results = json.loads((run / "results.json").read_text())
    settings = tomllib.loads((run / "resolved.toml").read_text())
    rows, data = judged(results)
    data |= {"training": settings["training"], "network": settings["network"]}
    print(*rows, sep="\n")
    if arguments.quick:
        return
    record(
        "gflownet_bag",
        title="Bags of 13 items of 7 kinds: the law of a flow network",
        columns=["quantity", "found", "asked"],
        rows=rows,
        notes=[
            "Total variation by dynamic programming over all 77 520 states, of the averaged network.",
            f"Settings: {json.dumps(data['training'])}, network {json.dumps(data['network'])}.",
        ],
        data=data,
    )


def judged(results: dict) -> tuple[list[list], dict]:
    """Rows of the table and what they were read from."""
    found, weights = results["gflownets"], results["gflownets"]["weights"]
    method = found["methods"][0]
    history = method["histories"][0]
    error = weights["log_z"] - weights["exact"]
    rows = [
        ["method", method["name"], ""],
        ["trajectories, one energy each", int(history["trajectories"][-1]), ""],
        ["modes met", f"{100 * history['modes'][-1]:.2f} %", ""],
        ["total variation", history["total_variation"][-1], "below 0.05"],
        ["log Z by the flow out of the start, minus the exact one", history["log_z_error"][-1], ""],
        ["log Z by weights, minus the exact one", f"{error:.5f} ± {weights['log_z_error']:.5f}", "below 0.02"],
        ["effective draws per draw", weights["ess"], ""],
    ]
    return rows, {"weights": weights, "history": history}


if __name__ == "__main__":
    main()
