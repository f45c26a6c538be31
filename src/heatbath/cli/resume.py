"""``heatbath resume`` and ``heatbath extend``: going on with a run."""

from typing import Annotated, Any

from cyclopts import Parameter

from heatbath.cli.options import Json, MaxTime, Quiet, Run


def resume(directory: Run, /, *, max_time: MaxTime = None, quiet: Quiet = False, json: Json = False) -> int:
    """Continue a stopped or killed run from its last good checkpoint, to the same numbers as if it had never stopped.

    A time limit of the first call does not apply again; give --max-time anew if there is one.
    """
    return _proceed(directory, None, max_time, quiet=quiet, json=json)


def extend(
    directory: Run,
    /,
    *,
    samples: Annotated[str, Parameter(help="How many more (+10000), or the new total (20000).")],
    max_time: MaxTime = None,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Draw more samples in a run; the earlier ones stay and the chains continue."""
    return _proceed(directory, samples, max_time, quiet=quiet, json=json)


def _proceed(directory: Any, samples: str | None, max_time: str | None, *, quiet: bool, json: bool) -> int:
    from heatbath.io.run_directory import RunDirectory

    found = RunDirectory.open(directory)
    if max_time is not None:
        from heatbath.units import parse_quantity

        parse_quantity(max_time, "duration")
    from heatbath.cli.launching import conclude
    from heatbath.cli.progress import reporting
    from heatbath.cli.runtime import prepare_jax
    from heatbath.experiments import launch

    prepare_jax()
    with reporting(quiet=quiet) as progress:
        ended = launch.proceed(found, samples=samples, max_time=max_time, progress=progress)
    return conclude(ended, json=json)
