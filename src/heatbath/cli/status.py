"""``heatbath status``: how far a run is, from its files alone."""

from typing import Any

from heatbath.cli.options import Json, Run


def status(directory: Run, /, *, json: Json = False) -> int:
    """Say whether a run is running, stopped, done, failed or has crashed, and how far it is."""
    from heatbath.cli.output import amount, duration, print_json, print_table
    from heatbath.io.run_directory import RunDirectory

    summary = summarise(RunDirectory.open(directory))
    if json:
        print_json(summary)
        return 0
    rows = [["status", summary["status"] + (f": {summary['message']}" if summary["message"] else "")]]
    if summary["checkpoint"] is not None:
        rows += [
            ["done", f"{100 * summary['progress']:.0f} %, {summary['draws']} draws"],
            *([["stage", summary["stage"]]] if summary["stage"] else []),
            ["sampled for", duration(summary["elapsed"])],
            ["energy evaluations", amount(summary["energy_evaluations"])],
            ["checkpoint", f"{summary['checkpoint']:06d}"],
        ]
    print_table(rows)
    return 0


def summarise(run: Any) -> dict[str, Any]:
    """Status, progress and verdict of a run, as plain data."""
    state, record = run.status(), run.record() or {}
    results = run.read_json("results.json") if run.has("results.json") else {}
    return {
        "directory": str(run.path),
        "status": state.word,
        "message": state.message,
        "progress": record.get("progress"),
        "draws": record.get("draws"),
        "stage": record.get("stage"),
        "elapsed": record.get("elapsed"),
        "energy_evaluations": record.get("evaluations"),
        "checkpoint": record.get("step"),
        "converged": results.get("verdict", {}).get("converged"),
        "last": run.last_metrics(),
    }
