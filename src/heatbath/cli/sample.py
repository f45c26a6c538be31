"""``heatbath sample``: the main job."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from heatbath.cli.options import Json, MaxTime, Quiet, Settings
from heatbath.errors import UsageError, nearest

_STRUCTURES = (".pdb", ".ent", ".pdbx", ".cif")


def sample(
    target: Annotated[str | None, Parameter(help="A name (`heatbath list targets`) or a PDB file.")] = None,
    /,
    *,
    sequence: Annotated[str | None, Parameter(help="A peptide in one-letter code, e.g. AAA.")] = None,
    capped: Annotated[bool, Parameter(help="Put Ace and Nme caps on --sequence.")] = False,
    temperature: Annotated[
        str | None, Parameter(help='"300 K" for molecules, a number (kT) for model systems.')
    ] = None,
    samples: Annotated[
        int | None, Parameter(help="Draws to make at the asked temperature, all chains together.")
    ] = None,
    max_time: MaxTime = None,
    seed: Annotated[int | None, Parameter(help="One integer that fixes every random number.")] = None,
    out: Annotated[Path | None, Parameter(help="Run directory; runs/<date>-<target>-<hash> by default.")] = None,
    method: Annotated[str | None, Parameter(help="`heatbath list methods` names them.")] = None,
    model: Annotated[
        Path | None,
        Parameter(help="Model directory or run of `heatbath train`, for --method flow; one that ships by default."),
    ] = None,
    forcefield: Annotated[str | None, Parameter(help="Force field of a molecule, e.g. amber14-obc2.")] = None,
    ladders: Annotated[
        int | None, Parameter(help="Independent ladders (or chains); errors come from their spread.")
    ] = None,
    rungs: Annotated[int | None, Parameter(help="Temperatures per ladder of a replica exchange.")] = None,
    config: Annotated[Path | None, Parameter(help="A TOML file; options given here win over it.")] = None,
    settings: Settings = (),
    preset: Annotated[str | None, Parameter(help="quick, default or full: how many samples are drawn.")] = None,
    dry_run: Annotated[
        bool, Parameter(help="Print the resolved configuration and what the run would cost, and stop.")
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the run that --out holds.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Draw equilibrium samples of a system at a temperature, and report free energies, convergence and cost.

    TARGET is a registered name or a PDB file; a peptide is given by --sequence instead. With --max-time the run stops in time,
    is analysed, and leaves with code 0 if it has converged by then and with 3 if it has not: `heatbath resume` continues it.
    """
    from heatbath.cli.launching import launch, layered

    options: dict[str, Any] = {
        "seed": seed,
        "temperature": temperature,
        "target": {**named_target(target), "sequence": sequence, "capped": capped or None, "forcefield": forcefield},
        "sampler": {
            "samples": samples,
            "method": method or (None if model is None else "flow"),
            "model": None if model is None else str(model),
            "ladders": ladders,
            "rungs": rungs,
        },
        "run": {"max_time": max_time},
    }
    values = layered("sample", options, file=config, settings=settings, preset=preset)
    return launch("sample", values, out=out, overwrite=overwrite, dry_run=dry_run, quiet=quiet, json=json)


def named_target(word: str | None) -> dict[str, str]:
    """The configuration of the target that a word on the command line names. Raises ``UsageError`` when it names none."""
    from heatbath.targets.registry import ENTRIES

    if word is None:
        return {}
    if word in ENTRIES:
        return {"name": word}
    if Path(word).suffix.lower() in _STRUCTURES or Path(word).is_file():
        return {"structure": word}
    raise UsageError(
        f"unknown target {word!r}: neither a registered name nor a PDB file. {nearest(word, ENTRIES)} "
        "A peptide is given as --sequence."
    )
