"""``heatbath train``: a generator for a system."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from heatbath.cli.options import Json, MaxTime, Quiet, Settings


def train(
    target: Annotated[str | None, Parameter(help="A name (`heatbath list targets`) or a PDB file.")] = None,
    /,
    *,
    sequence: Annotated[str | None, Parameter(help="A peptide in one-letter code, e.g. AAA.")] = None,
    capped: Annotated[bool, Parameter(help="Put Ace and Nme caps on --sequence.")] = False,
    forcefield: Annotated[str | None, Parameter(help="Force field of a molecule, e.g. amber14-obc2.")] = None,
    temperature: Annotated[
        str | None, Parameter(help='"300 K" for molecules, a number (kT) for model systems.')
    ] = None,
    model: Annotated[str | None, Parameter(help="Kind of model; `heatbath list models` names them.")] = None,
    size: Annotated[str | None, Parameter(help="Named size of the model, e.g. small.")] = None,
    data: Annotated[
        Path | None, Parameter(help="A finished run of `heatbath sample` to learn from; made first if not given.")
    ] = None,
    steps: Annotated[int | None, Parameter(help="Optimiser steps.")] = None,
    samples: Annotated[int | None, Parameter(help="Draws of the reference that is made without --data.")] = None,
    max_time: MaxTime = None,
    seed: Annotated[int | None, Parameter(help="One integer that fixes every random number.")] = None,
    out: Annotated[Path | None, Parameter(help="Run directory; runs/<date>-train-<target>-<hash> by default.")] = None,
    config: Annotated[Path | None, Parameter(help="A TOML file; options given here win over it.")] = None,
    settings: Settings = (),
    preset: Annotated[str | None, Parameter(help="quick, default or full: how much is drawn and trained.")] = None,
    dry_run: Annotated[
        bool, Parameter(help="Print the resolved configuration and what the run would cost, and stop.")
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the run that --out holds.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Train a model that draws equilibrium samples of a system, from reference data by replica exchange or a given run.

    The trained model lies in RUN/model; draw from it with `heatbath sample TARGET --method flow --model RUN`. A training that
    was stopped is continued by `heatbath resume`.
    """
    from heatbath.cli.launching import launch, layered
    from heatbath.cli.sample import named_target

    options: dict[str, Any] = {
        "seed": seed,
        "temperature": temperature,
        "data": None if data is None else str(data),
        "target": {**named_target(target), "sequence": sequence, "capped": capped or None, "forcefield": forcefield},
        "model": {"kind": model, "size": size},
        "training": {"steps": steps},
        "sampler": {"samples": samples},
        "run": {"max_time": max_time},
    }
    values = layered("train", options, file=config, settings=settings, preset=preset)
    return launch("train", values, out=out, overwrite=overwrite, dry_run=dry_run, quiet=quiet, json=json)
