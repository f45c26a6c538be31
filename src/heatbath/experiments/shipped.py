"""Trained models that ship with the package, and the choice among them: readable without JAX."""

from importlib import resources
from pathlib import Path
from typing import Any

from heatbath.errors import UsageError
from heatbath.io.models import find_model, read_card


def shipped_models() -> dict[str, Path]:
    """Folders of the models in the package, by name."""
    folder = Path(str(resources.files("heatbath"))) / "data" / "models"
    return {file.parent.name: file.parent for file in sorted(folder.glob("*/model.toml"))}


def model_folder(target: Any, title: str, given: str, base: Path | None = None) -> Path:
    """The folder of the model to use: the one that was given (relative to ``base``), else the one that ships for ``target``.

    ``target`` is a ``TargetConfig``, ``title`` what it is called. Raises ``ModelError`` when nothing is at the given place, and
    ``UsageError`` when nothing was given and no packaged model fits.
    """
    if given:
        return find_model((base or Path()) / given)
    for folder in shipped_models().values():
        if _is_for(read_card(folder).target.get("configuration", {}), target):
            return folder
    known = ", ".join(shipped_models()) or "none"
    raise UsageError(
        f"there is no packaged model for {title!r} (there are: {known}). Train one with `heatbath train {title}` and give its "
        "run directory as --model."
    )


def _is_for(configuration: Any, target: Any) -> bool:
    """Whether a card's target is the configured one, as far as their configurations tell; arrays are compared on loading."""
    names = ("name", "structure", "sequence", "capped", "parameters")
    same = all((configuration.get(name) or None) == (getattr(target, name) or None) for name in names)
    fields = {configuration.get("forcefield", "auto"), target.forcefield}
    return same and (len(fields - {"auto"}) <= 1)
