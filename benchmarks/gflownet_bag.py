"""Does a flow network learn the exact law of bags of 13 items of 7 kinds (77 520 states, modes drawn by lot)?

Runs `heatbath run energy-decomposition-gflownet --preset full` for every method and seed, as a user would; a seed draws other modes
too. A run that has finished in FOLDER/METHOD-SEED is read, one that was stopped goes on; methods that are not named keep what the
results have of them. Asked: total variation between the network's law, by dynamic programming over all states, and the exact one,
below 0.05; log Z by the weights of its draws within 0.02 of the exact one.

    python benchmarks/gflownet_bag.py [--methods db,led] [--seeds 3] [--work FOLDER] [--quick]
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
#: What is asked of a network.
ASKED = {
    "trajectories, one energy each": "",
    "modes met": "",
    "total variation": "below 0.05",
    "log Z by the flow out of the start, minus the exact one": "below 0.02",
    "log Z by weights, minus the exact one": "below 0.02",
    "effective draws per draw": "",
}
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
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--keep", action="store_true", help="runs are kept in FOLDER, and nothing is written to results/"
    )
    parser.add_argument("--work", type=Path, default=Path(".cache/gflownet_bags"))
    parser.add_argument("--quick", action="store_true", help="a few rounds; nothing is written to results/")
    arguments = parser.parse_args()
    work = arguments.work.with_name("gflownet_bags_quick") if arguments.quick else arguments.work
    work.mkdir(parents=True, exist_ok=True)
    kept, when = ({}, {}) if arguments.quick else earlier("gflownet_bag")
    data = {name: when | found if name in ORDER else found for name, found in kept.items()}
    for method in arguments.methods.split(","):
        data[method] = stamp() | {"seeds": []}
        for seed in range(1 if arguments.quick else arguments.seeds):
            run, chosen = work / f"{method}-{seed}", QUICK if arguments.quick else MORE.get(method, ())
            found = finished(run, method, (f"seed={seed}", *chosen))["gflownets"]
            history = {name: values[-1] for name, values in found["methods"][0]["histories"][0].items()}
            data[method]["seeds"].append({"weights": found["weights"], "last": history})
        settings = tomllib.loads((run / "resolved.toml").read_text())
        data |= {"training": settings["training"] | {"methods": list(ORDER)}, "network": settings["network"]}
        del data["training"]["rounds"]
    columns = {method: [judged(**found) for found in data[method]["seeds"]] for method in ORDER if method in data}
    rows = [
        [name, *("; ".join(dict(one)[name] for one in columns[method]) for method in columns), asked]
        for name, asked in ASKED.items()
    ]
    print(*rows, sep="\n")
    if arguments.quick or arguments.keep:
        return
    record(
        "gflownet_bag",
        title="Bags of 13 items of 7 kinds: the law of a flow network",
        columns=["quantity", *columns, "asked"],
        rows=rows,
        notes=[
            "Total variation by dynamic programming over all 77 520 states, of the averaged network; a number for every seed.",
            f"Settings: {json.dumps(data['training'])}, network {json.dumps(data['network'])}; learned decompositions (led) get more rounds.",
            measured({method: data[method] for method in columns}),
        ],
        data=data,
    )


def judged(weights: dict, last: dict) -> list[tuple[str, str]]:
    """Quantities of one network, in the order of ``ASKED``."""
    error = weights["log_z"] - weights["exact"]
    values = (
        f"{int(last['trajectories'])}",
        f"{100 * last['modes']:.2f} %",
        f"{last['total_variation']:.4f}",
        f"{last['log_z_error']:+.4f}",
        f"{error:+.5f} ± {weights['log_z_error']:.5f}",
        f"{weights['ess']:.3f}",
    )
    return list(zip(ASKED, values, strict=True))


if __name__ == "__main__":
    main()
