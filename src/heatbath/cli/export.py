"""``heatbath export``: the draws of a run for other programs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from heatbath.cli.options import Json, Run
from heatbath.errors import UsageError


def export(
    directory: Run,
    file: Annotated[Path, Parameter(help="Where to: the ending says the format (.pdb, .dcd, .xtc, .npz).")],
    /,
    *,
    weights: Annotated[
        Literal["resample", "beside"],
        Parameter(
            help="resample: frames are drawn by weight and are then equal; beside: every draw, weights in a text file."
        ),
    ] = "resample",
    frames: Annotated[
        int | None, Parameter(help="How many frames to draw; the effective sample size by default.")
    ] = None,
    superposed: Annotated[bool, Parameter(help="Put every frame onto the reference structure.")] = False,
    json: Json = False,
) -> int:
    """Write the weighted draws of a run as a trajectory for MDAnalysis, MDTraj, VMD, PLUMED or NumPy."""
    from heatbath.cli.output import print_json
    from heatbath.io.run_directory import RunDirectory

    run = RunDirectory.open(directory)
    if frames is not None and weights == "beside":
        raise UsageError("--frames belongs to --weights resample; with beside every draw is written.")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"the folder '{file.absolute().parent}' does not exist; make it first.")
    from heatbath.cli.runtime import prepare_jax
    from heatbath.experiments.launch import draws
    from heatbath.io.trajectories import export as write

    prepare_jax()
    target, ensemble = draws(run)
    choice = None if file.suffix == ".npz" and frames is None else weights
    written = write(ensemble, target, file, weights=choice, frames=frames, superposed=superposed)
    if json:
        print_json({"files": [str(path) for path in written], "draws": ensemble.size, "ess": ensemble.ess()})
    else:
        for path in written:
            print(path)
    return 0
