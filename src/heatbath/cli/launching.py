"""Starting a run from the command line: layers of configuration, dry run, progress, results on stdout."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from heatbath.cli.output import amount, note, print_json, print_table, size, with_error
from heatbath.errors import UsageError, nearest
from heatbath.experiments import base
from heatbath.experiments.config import assignments, build, merge, read, to_dict, to_toml


def layered(
    name: str,
    options: Mapping[str, Any],
    *,
    file: Path | None = None,
    settings: Iterable[str] = (),
    preset: str | None = None,
) -> dict[str, Any]:
    """What the user gave, as one tree: preset, then file, then ``--set``, then options (None means not given)."""
    presets = base.experiment(name).PRESETS
    if preset is not None and preset not in presets:
        raise UsageError(f"unknown preset {preset!r}. {nearest(preset, presets)}")
    from_file = read(file) if file is not None else {}
    for table, key in (("target", "structure"), ("sampler", "model")):
        found = from_file.get(table)
        if file is not None and isinstance(found, dict) and isinstance(found.get(key), str) and found[key]:
            found[key] = str(file.parent / found[key])  # paths in a file are relative to it
    return merge(presets[preset or "default"], from_file, assignments(settings), _given(options))


def launch(
    name: str,
    values: Mapping[str, Any],
    *,
    out: Path | None,
    overwrite: bool,
    dry_run: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Check, then run (or only price) the experiment ``name`` with ``values``; print its results; return the exit code."""
    module = base.experiment(name)
    config = module.check(build(module.Config, values))
    from heatbath.cli.runtime import prepare_jax
    from heatbath.experiments import launch as launching

    if dry_run:
        prepare_jax()
        return _price(module, config, json=json)
    if out is not None:
        launching.check_free(out, overwrite=overwrite)
        launching.check_writable(out)
    prepare_jax()
    from heatbath.cli.progress import reporting

    with reporting(quiet=quiet) as progress:
        given = to_toml({"experiment": name, **values}, header="As given on the command line.")
        ended = launching.start(config, given=given, out=out, overwrite=overwrite, progress=progress)
    return conclude(ended, json=json)


def conclude(ended: Any, *, json: bool) -> int:
    """Print what a run found, where it lies, and how to go on; return its exit code."""
    path = ended.run.path
    if json:
        print_json(
            {
                "directory": str(path),
                "exit_code": ended.code,
                "status": ended.run.status().word,
                "results": ended.results,
            }
        )
    elif ended.results is not None:
        print_results(ended.results)
        print_table([["report", str(path / "report" / "index.html")]])
    if ended.results is None:
        note(f"The time was over before the first draw; continue with: heatbath resume {path}")
    if ended.results is not None and not (ended.results.get("run") or {}).get("finished"):
        note(f"The time was over before every sample was drawn; continue with: heatbath resume {path}")
    if ended.code == 4:
        more = _more(ended)
        cure = f"draw more with: heatbath extend {path} --samples +{more}" if more else "the report says why"
        note(f"Finished but not converged; {cure}")
    return ended.code


def print_results(results: Mapping[str, Any]) -> None:
    """The answer in a few lines: verdict (with its reasons when it is no), free-energy differences, populations, means."""
    verdict = results["verdict"]
    print("CONVERGED" if verdict["converged"] else "NOT CONVERGED")
    for sentence in [*([] if verdict["converged"] else verdict["reasons"]), *verdict.get("cautions", [])]:
        print(f"  {sentence}")
    rows = []
    for item in results.get("free_energy_differences") or []:
        label = f"free energy of {item['to']} relative to {item['from']}"
        rows += [[label, _shown(item[key])] for key in ("value", "in_unit") if item.get(key)]
    rows += [[f"population of {b['name']}", _shown(b["population"])] for b in results.get("basins") or []]
    rows += [[name, _shown(e)] for name, e in (results.get("estimates") or {}).items() if _scalar(e)]
    print_table(rows)


def _shown(estimate: Mapping[str, Any]) -> str:
    return with_error(estimate["value"], estimate["standard_error"], estimate.get("unit", "1"))


def _scalar(estimate: Mapping[str, Any]) -> bool:
    return isinstance(estimate.get("value"), (int, float))


def _more(ended: Any) -> int | None:
    """As many samples as the run was asked for; None where an experiment draws none."""
    from heatbath.experiments.launch import load

    return getattr(getattr(load(ended.run), "sampler", None), "samples", None)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` without what was not given."""
    result = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            value = _given(value) or None
        if value is not None:
            result[name] = value
    return result


def _price(module: Any, config: Any, *, json: bool) -> int:
    prepared = module.prepare(config)
    cost = module.cost(prepared)
    if json:
        print_json({"config": to_dict(prepared.config), "cost": cost})
        return 0
    print(to_toml(to_dict(prepared.config)))
    shown = {"energy_evaluations": amount, "memory_bytes": size, "disk_bytes": size}
    print_table(
        [name.removesuffix("_bytes").replace("_", " "), "unknown" if cost[name] is None else show(cost[name])]
        for name, show in shown.items()
    )
    return 0
