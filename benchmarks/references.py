"""Packaged references: small sets of equilibrium draws, taken from finished runs of the systems in `heatbath list references`.

Reads one run directory per system (each made by the command in its record, for instance `heatbath reference aaa`, which keeps
its run in the data folder under runs/), resamples every ladder by its weights, and writes NAME.npz and NAME.json into
src/heatbath/data/references. Systems whose run is not there are left as they are, and said to be missing.

    python benchmarks/references.py --runs FOLDER [NAME=RUN ...]
"""

import argparse
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

from heatbath.experiments.references import SYSTEMS, from_run
from heatbath.io.datasets import data_folder, load_reference, packaged_folder, write_reference
from heatbath.io.run_directory import RunDirectory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=data_folder() / "runs", help="folder that holds a run per system")
    parser.add_argument("chosen", nargs="*", help="NAME=RUN: another name of the run directory")
    arguments = parser.parse_args()
    names = {name: arguments.runs / name for name in SYSTEMS}
    names |= {name: arguments.runs / run for name, _, run in (word.partition("=") for word in arguments.chosen)}
    total = 0
    for name, entry in SYSTEMS.items():
        if not entry.packaged:
            continue
        if not (names[name] / "results.json").is_file():
            print(f"{name:24} no finished run at {names[name]}")
            continue
        write_reference(packaged_folder(), name, from_run(RunDirectory.open(names[name]), entry.packaged))
        found = load_reference(name, packaged_folder())
        total += found.record["bytes"]
        size = f"{found.size} frames, {found.ladders} ladders, {found.record['bytes'] / 1e6:.2f} MB"
        print(f"{name:24} {size}, converged: {found.record['converged']}")
    print(f"{total / 1e6:.2f} MB in {packaged_folder()}")


if __name__ == "__main__":
    main()
