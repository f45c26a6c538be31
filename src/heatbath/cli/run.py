"""``heatbath run``: an experiment by name or from a TOML file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from heatbath.cli.options import Json, MaxTime, Quiet, Settings
from heatbath.errors import UsageError


def run(
    experiment: Annotated[str, Parameter(help="A name (`heatbath list experiments`) or a TOML file.")],
    /,
    *,
    settings: Settings = (),
    preset: Annotated[str | None, Parameter(help="A named size of the experiment.")] = None,
    seed: Annotated[int | None, Parameter(help="One integer that fixes every random number.")] = None,
    max_time: MaxTime = None,
    out: Annotated[Path | None, Parameter(help="Run directory; runs/<date>-<title>-<hash> by default.")] = None,
    dry_run: Annotated[
        bool, Parameter(help="Print the resolved configuration and what the run would cost, and stop.")
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the run that --out holds.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Run an experiment. A file names it by its key `experiment` ("sample" when it has none)."""
    from heatbath.cli.launching import launch, layered
    from heatbath.experiments.config import read

    file = Path(experiment) if experiment.endswith(".toml") else None
    name = experiment if file is None else read(file).get("experiment", "sample")
    if not isinstance(name, str):
        raise UsageError(f"'experiment' in '{experiment}' must be a name in quotes; found {name!r}")
    options = {"seed": seed, "run": {"max_time": max_time}}
    values = layered(name, options, file=file, settings=settings, preset=preset)
    return launch(name, values, out=out, overwrite=overwrite, dry_run=dry_run, quiet=quiet, json=json)
