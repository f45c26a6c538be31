"""``heatbath show``: one target, method or experiment, with its parameters and their defaults."""

from typing import Annotated, Any

from cyclopts import Parameter

from heatbath.cli.options import Json
from heatbath.errors import UsageError, nearest


def show(
    name: Annotated[str, Parameter(help="Name of a target, a method or an experiment.")], /, *, json: Json = False
) -> int:
    """Explain what a name stands for, and what can be set."""
    from heatbath.cli.output import print_json, print_table

    found = describe(name)
    if json:
        print_json(found)
        return 0
    settings = found.pop("settings", None)
    print_table([[key, str(value)] for key, value in found.items() if not isinstance(value, dict)])
    if found.get("parameters"):
        print("parameters (set with --set target.parameters.NAME=VALUE)")
        print_table([[f"  {key}", str(value)] for key, value in found["parameters"].items()])
    if settings:
        print(f"\n{settings}", end="")
    return 0


def describe(name: str) -> dict[str, Any]:
    """What is known about ``name``, as plain data. Raises ``UsageError`` when nothing is."""
    from heatbath.experiments.base import EXPERIMENTS, experiment
    from heatbath.experiments.methods import METHODS
    from heatbath.targets.registry import ENTRIES

    if name in ENTRIES:
        entry = ENTRIES[name]
        return {
            "target": name,
            "description": entry.description,
            "kind": entry.kind,
            "temperature": entry.temperature if isinstance(entry.temperature, str) else f"{entry.temperature} (kT)",
            "run": f"heatbath sample {name}",
            "parameters": dict(entry.parameters),
        }
    if name in METHODS:
        return {"method": name, "description": METHODS[name], "run": f"heatbath sample TARGET --method {name}"}
    if name in EXPERIMENTS:
        from heatbath.experiments.config import to_dict, to_toml

        module = experiment(name)
        text = to_toml(to_dict(module.Config()), header="The configuration with its defaults, as a file for --config.")
        presets = ", ".join(module.PRESETS)
        return {"experiment": name, "description": EXPERIMENTS[name].summary, "presets": presets, "settings": text}
    known = [*ENTRIES, *METHODS, *EXPERIMENTS]
    raise UsageError(f"nothing is called {name!r}. {nearest(name, known)}")
