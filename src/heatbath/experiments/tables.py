"""The table that an experiment learns from: a published one by its name, or a file or folder of the user. Imports no JAX."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Literal, TypeVar

from heatbath.errors import InvalidArgumentError, UsageError, nearest
from heatbath.io.density_data import DATA_SETS, place

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A published table by ``name``, or a file or folder of yours by ``path``, of ``kind`` "binary" or "real".

    ``image``: rows and columns where the rows of your table are images. ``rule`` makes grey images binary. ``fold`` chooses among
    splits, ``seed`` fixes what the papers leave open. ``folder`` holds the published files (empty: HEATBATH_DATA).
    """

    name: str = "digits-8"
    path: str = ""
    kind: Literal["binary", "real"] = "binary"
    image: tuple[int, ...] = ()
    rule: Literal["stochastic", "threshold"] = "stochastic"
    fold: int = 0
    seed: int = 0
    folder: str = ""


def check_table(data: DataConfig, base: Path | None, *, made_here: Collection[str] = (), kind: str = "") -> None:
    """Refuse a table that is not there or does not fit, before anything is computed.

    ``made_here``: names besides the published ones, of data that the experiment makes itself. ``kind``: the only kind of table
    that the experiment takes ("" for any). Raises ``UsageError`` and ``InvalidArgumentError``.
    """
    if kind and data.kind != kind:
        raise UsageError(f"this experiment takes {kind} tables: data.kind is {kind!r}; found {data.kind!r}")
    if data.path:
        if not ((base or Path()) / data.path).exists():
            raise UsageError(f"data.path is '{data.path}', which does not exist. Give a table or a folder of images.")
        if data.image and (len(data.image) != 2 or min(data.image) < 1):
            raise InvalidArgumentError(f"data.image is [rows, columns]; found {list(data.image)}")
        return
    if data.name in made_here:
        return
    fitting = [name for name, entry in DATA_SETS.items() if kind in ("", entry.kind)]
    if data.name not in fitting:
        raise UsageError(_unknown(data.name, (*made_here, *fitting)))
    entry = DATA_SETS[data.name]
    if entry.kind != data.kind:
        raise UsageError(f"{data.name} is a {entry.kind} table; data.kind is {data.kind!r}")
    if data.fold >= entry.folds:
        raise InvalidArgumentError(f"{data.name} has the folds 0 to {entry.folds - 1}; data.fold is {data.fold}")
    place(data.name, Path(data.folder) if data.folder else None)


def _unknown(name: str, known: Collection[str]) -> str:
    """Why there is no such data; a name that looks like a file is sent to where files belong."""
    if "/" in name or Path(name).suffix in (".npz", ".npy", ".csv", ".txt", ".amat"):
        return f"there is no data set called {name!r}. A file or folder of yours belongs into data.path: --set data.path={name}"
    return f"there is no data set called {name!r}. {nearest(name, known)}"


def title(name: str, data: DataConfig) -> str:
    """A short name for a run of the experiment ``name``."""
    return f"{name}-{Path(data.path).stem if data.path else data.name}"


def rooted(data: DataConfig) -> DataConfig:
    """The same with paths from the root, so that a run can be resumed from anywhere."""
    paths = {name: str(Path(getattr(data, name)).absolute()) for name in ("path", "folder") if getattr(data, name)}
    return dataclasses.replace(data, **paths)
