"""``heatbath report``: the numbers and the page of a run, again, from its own draws."""

from typing import Annotated

from cyclopts import Parameter

from heatbath.cli.options import Json, Run


def report(
    directory: Run,
    /,
    *,
    page_only: Annotated[bool, Parameter(help="Keep results.json as it is and only make the page again.")] = False,
    json: Json = False,
) -> int:
    """Compute results.json and report/index.html from the draws that are on disk; also of a run that is still going."""
    from heatbath.cli.launching import conclude
    from heatbath.cli.output import note
    from heatbath.io.run_directory import RunDirectory

    run = RunDirectory.open(directory)
    if page_only:
        from heatbath.experiments.launch import Ended, exit_code
        from heatbath.report import build

        results = run.read_json("results.json")
        build(run.path)
        finished = bool((run.record() or {}).get("finished"))
        return conclude(Ended(run, exit_code(results, finished=finished), results), json=json)
    from heatbath.cli.runtime import prepare_jax
    from heatbath.experiments.launch import analyse

    prepare_jax()
    note("computing the results from the draws on disk")
    return conclude(analyse(run), json=json)
