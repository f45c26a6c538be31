"""``heatbath show``: one target, method, kind of model or experiment with its parameters, or a trained model."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from heatbath.cli.options import Json
from heatbath.errors import UsageError, nearest


def show(
    name: Annotated[
        str, Parameter(help="Name of a target, a method, a kind of model or an experiment; or a model's directory.")
    ],
    /,
    *,
    json: Json = False,
) -> int:
    """Explain what a name stands for, and what can be set."""
    from heatbath.cli.output import print_json, print_table

    found = describe(name)
    if json:
        print_json(found)
        return 0
    settings = found.pop("settings", None)
    print_table([[key, str(value)] for key, value in found.items() if not isinstance(value, dict)])
    if isinstance(found.get("parameters"), dict):
        place = "model.sizes" if "model" in found else "target.parameters"
        print(f"parameters (set with --set {place}.NAME=VALUE)")
        print_table([[f"  {key}", str(value)] for key, value in found["parameters"].items()])
    if settings:
        print(f"\n{settings}", end="")
    return 0


def describe(name: str) -> dict[str, Any]:
    """What is known about ``name``, as plain data. Raises ``UsageError`` when nothing is."""
    from heatbath.experiments.base import EXPERIMENTS, experiment
    from heatbath.experiments.generators import KINDS
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
    if name in KINDS:
        kind = KINDS[name]
        return {
            "model": name,
            "description": kind.summary,
            "run": f"heatbath train TARGET --model {name}",
            "sizes": ", ".join(kind.sizes),
            "parameters": dict(kind.sizes["small"]),
        }
    if (Path(name) / "model.toml").is_file() or (Path(name) / "model" / "model.toml").is_file():
        return _trained(Path(name))
    known = [*ENTRIES, *METHODS, *KINDS, *EXPERIMENTS]
    raise UsageError(f"nothing is called {name!r}. {nearest(name, known)}")


def _trained(path: Path) -> dict[str, Any]:
    """The card of a trained model: what it draws, how it was trained, and how well it does."""
    from heatbath.io.models import read_card

    card = read_card(path)
    training = {name: value for name, value in card.training.items() if not isinstance(value, dict)}
    return {
        "trained model": card.kind,
        "target": card.target.get("name", ""),
        "force field": card.target.get("forcefield", ""),
        "temperature": card.temperature + (" (steerable)" if card.steerable else ""),
        **{name.replace("_", " "): value for name, value in training.items()},
        **{name.replace("_", " "): f"{value:.4g}" for name, value in card.training.get("metrics", {}).items()},
        "card": card.to_dict(),
    }
