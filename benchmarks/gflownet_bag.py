"""Does a flow network learn the exact law of bags of 13 items of 7 kinds (77 520 states, modes drawn by lot)?

Runs `heatbath run energy-decomposition-gflownet --preset full` once per method with one seed, as a user would; a run that has
finished in FOLDER/METHOD is read, one that was stopped goes on; methods that are not named keep what the results have of them. Asked: total variation between the network's law, by dynamic programming over all states, and the exact one, below
0.05; log Z by the weights of its draws within 0.02 of the exact one.

    python benchmarks/gflownet_bag.py [--methods db,led] [--work FOLDER] [--quick]
"""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from record import earlier, measured, record, stamp

#: Learned decompositions come to the same law more slowly: with 5000 and 12 000 rounds the flow out of the start was off by 0.042 and 0.021.
MORE = {"led": ("training.rounds=16000",)}
#: Methods in the order of the columns.
ORDER = ("db", "led")
QUICK = ("training.rounds=20", "training.chunk=10", "sampler.samples=1000")


def finished(run: Path, method: str, settings: tuple[str, ...]) -> dict:
    """Results of the run in a folder, which is made or finished where needed."""
    if not (run / "results.json").exists():
        chosen = [f'training.methods=["{method}"]', "training.seeds=1", *settings]
        words = [word for setting in chosen for word in ("--set", setting)]
        begun = ["run", "energy-decomposition-gflownet", "--preset", "full", "--out", str(run), *words]
        subprocess.run(
            [sys.executable, "-m", "heatbath", *(["resume", str(run)] if run.exists() else begun)], check=False
        )
    return json.loads((run / "results.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="db,led")
    parser.add_argument("--work", type=Path, default=Path(".cache/gflownet_bags"))
    parser.add_argument("--quick", action="store_true", help="a few rounds; nothing is written to results/")
    arguments = parser.parse_args()
    work = arguments.work.with_name("gflownet_bags_quick") if arguments.quick else arguments.work
    work.mkdir(parents=True, exist_ok=True)
    kept, when = ({}, {}) if arguments.quick else earlier("gflownet_bag")
    data = {name: when | found if name in ORDER else found for name, found in kept.items()}
    for method in arguments.methods.split(","):
        results = finished(work / method, method, QUICK if arguments.quick else MORE.get(method, ()))
        settings = tomllib.loads((work / method / "resolved.toml").read_text())
        found = results["gflownets"]
        data[method] = {"weights": found["weights"], "history": found["methods"][0]["histories"][0]} | stamp()
        data |= {"training": settings["training"] | {"methods": list(ORDER)}, "network": settings["network"]}
        del data["training"]["rounds"]
    columns = {
        method: judged(**{part: data[method][part] for part in ("weights", "history")})
        for method in ORDER
        if method in data
    }
    rows = [
        [found[0][0], *(value for _, value, _ in found), found[0][2]] for found in zip(*columns.values(), strict=True)
    ]
    print(*rows, sep="\n")
    if arguments.quick:
        return
    record(
        "gflownet_bag",
        title="Bags of 13 items of 7 kinds: the law of a flow network",
        columns=["quantity", *columns, "asked"],
        rows=rows,
        notes=[
            "Total variation by dynamic programming over all 77 520 states, of the averaged network; one seed.",
            f"Settings: {json.dumps(data['training'])}, network {json.dumps(data['network'])}; learned decompositions (led) get more rounds.",
            measured({method: data[method] for method in columns}),
        ],
        data=data,
    )


def judged(weights: dict, history: dict) -> list[list]:
    """Quantities of one network: name, value, and what is asked of it."""
    error = weights["log_z"] - weights["exact"]
    return [
        ["trajectories, one energy each", int(history["trajectories"][-1]), ""],
        ["modes met", f"{100 * history['modes'][-1]:.2f} %", ""],
        ["total variation", history["total_variation"][-1], "below 0.05"],
        ["log Z by the flow out of the start, minus the exact one", history["log_z_error"][-1], "below 0.02"],
        ["log Z by weights, minus the exact one", f"{error:.5f} ± {weights['log_z_error']:.5f}", "below 0.02"],
        ["effective draws per draw", weights["ess"], ""],
    ]


if __name__ == "__main__":
    main()
