"""``heatbath reference``: make the reference ensemble of a system, or write one from a finished run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from heatbath.cli.options import Json, MaxTime, Quiet
from heatbath.errors import UsageError


def reference(
    name: Annotated[str, Parameter(help="A name (`heatbath list references`).")],
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Data folder; HEATBATH_DATA or a folder in the user's home by default.")
    ] = None,
    run: Annotated[
        Path | None,
        Parameter(help="Take the draws of this finished run of `heatbath sample` instead of making new ones."),
    ] = None,
    samples: Annotated[int | None, Parameter(help="Draws to make; the system's own number by default.")] = None,
    frames: Annotated[int | None, Parameter(help="Equally weighted frames to write.")] = None,
    max_time: MaxTime = None,
    overwrite: Annotated[bool, Parameter(help="Begin anew although the folder holds a run of this name.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Draw the reference ensemble of a system by replica exchange and write it with its checksum and provenance.

    A run that was interrupted is continued. Whatever compares or trains a generator finds the file by itself.
    """
    from heatbath.experiments import references

    entry = references.system(name)
    if run is not None and (samples is not None or max_time is not None):
        raise UsageError("--samples and --max-time belong to a new run; with --run the draws are there already.")
    from heatbath.cli.output import note, print_json, print_table
    from heatbath.cli.progress import reporting
    from heatbath.cli.runtime import prepare_jax
    from heatbath.io.datasets import data_folder, records, write_reference
    from heatbath.io.run_directory import RunDirectory

    folder = data_folder() if out is None else out
    prepare_jax()
    code = 0
    if run is not None:
        found = references.from_run(RunDirectory.open(run), frames or entry.frames)
        path = write_reference(folder / "references", name, found)
    else:
        with reporting(quiet=quiet) as progress:
            path, ended = references.make(
                name,
                folder,
                samples=samples,
                frames=frames,
                max_time=max_time,
                overwrite=overwrite,
                progress=progress,
            )
        code = ended.code
    if path is None:
        note(f"The time was over before every sample was drawn; call the same command again to go on in '{folder}'.")
        return 3
    record = records(folder / "references")[name]
    if json:
        print_json({"file": str(path), "record": record})
    else:
        print_table(
            [
                ["file", str(path)],
                ["frames", str(record["frames"])],
                ["ladders", str(record["ladders"])],
                ["SHA-256", record["sha256"]],
            ]
        )
    return code
