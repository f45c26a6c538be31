"""Model directories: a trained model as two files that can be copied, checked and read by any later process.

``model.toml`` is the card: kind, sizes, what it was trained for, how, and with what success; it is read without JAX.
``arrays.npz`` holds one array per tree path, of the SHA-256 that the card states. Nothing is unpickled: the structure of the
model is built anew from the card, and must have exactly the arrays of the file.
"""

import dataclasses
import hashlib
import io
import os
import shutil
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heatbath.errors import ModelError
from heatbath.io.storage import explained, sync_directory, write_atomically
from heatbath.io.toml import to_toml

_FORMAT = 1
_HEADER = "A trained model of heatbath. `heatbath show` on this directory prints it."


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What is to be known about a trained model.

    kind:         name in the registry of model kinds
    sizes:        what its builder was told, besides the target
    target:       what it draws, as plain values: ``configuration`` (builds the target), ``atoms``, ``fingerprint``, ...
    temperature:  the one it was trained at, as text ("300 K", or a number in kT)
    steerable:    whether it knows other temperatures too
    centre_scale: sigma of the centre of mass in nm; None where the model does not place a centre
    training:     command, seed, steps, checksum of the data, metrics, versions
    """

    kind: str
    sizes: Mapping[str, Any]
    target: Mapping[str, Any]
    temperature: str
    steerable: bool = False
    centre_scale: float | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain nested values; what is None is left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def find_model(path: Path) -> Path:
    """The model directory at ``path``: itself, or ``model/`` inside a run directory. Raises ``ModelError`` when there is none."""
    path = Path(path)
    for candidate in (path, path / "model"):
        if (candidate / "model.toml").is_file():
            return candidate
    state = "holds no model.toml" if path.is_dir() else "does not exist"
    raise ModelError(
        f"expected a model directory or a run of `heatbath train`, but '{path}' {state}. Train one with: heatbath train TARGET"
    )


def save_model(path: Path, model: Any, card: ModelCard) -> Path:
    """Write ``model`` and its card as the directory ``path``, which is complete or absent; an older model there is replaced.

    Raises ``RunDirectoryError`` when the disk refuses.
    """
    path = Path(path)
    data = _pack(_arrays(model))
    values = {
        "format": _FORMAT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        **card.to_dict(),
    }
    aside = path.parent / f".{path.name}.{os.getpid()}.new"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            write_atomically(aside / "arrays.npz", data)
            write_atomically(aside / "model.toml", to_toml(_plain(values), header=_HEADER))
            if (path / "model.toml").is_file() or (path.is_dir() and not any(path.iterdir())):
                shutil.rmtree(path)
            aside.rename(path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_directory(path.parent)
    return path


def read_card(path: Path) -> ModelCard:
    """The card of the model at ``path`` (see ``find_model``), without JAX. Raises ``ModelError`` when it is damaged."""
    return _card(_values(find_model(path)))


def load_model(path: Path, build: Callable[[ModelCard], Any]) -> tuple[Any, ModelCard]:
    """The model at ``path`` (see ``find_model``) and its card.

    ``build(card)`` makes an untrained model of the card's kind and sizes; its arrays are replaced by the file's. Raises
    ``ModelError`` when a file is missing or truncated, or when the arrays do not fit the built model.
    """
    folder = find_model(path)
    values = _values(folder)
    card = _card(values)
    arrays = _read_arrays(folder, values)
    return _filled(build(card), arrays, folder, card), card


def _values(folder: Path) -> dict[str, Any]:
    file = folder / "model.toml"
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"'{file}' cannot be read ({error}). Copy the model again or train a new one.") from error
    if values.get("format") != _FORMAT:
        raise ModelError(
            f"'{file}' has format {values.get('format')!r}; this version reads format {_FORMAT}. Use the heatbath that wrote it."
        )
    return values


def _card(values: Mapping[str, Any]) -> ModelCard:
    known = {field.name for field in dataclasses.fields(ModelCard)}
    needed = {"kind", "sizes", "target", "temperature"}
    if missing := sorted(needed - set(values)):
        raise ModelError(f"the model card lacks {', '.join(missing)}. Copy the model again or train a new one.")
    return ModelCard(**{name: value for name, value in values.items() if name in known})


def _read_arrays(folder: Path, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    file = folder / "arrays.npz"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"expected '{file}' beside model.toml, but it cannot be read ({error.strerror}). Copy the whole directory."
        ) from error
    if hashlib.sha256(data).hexdigest() != values.get("sha256"):
        raise ModelError(
            f"'{file}' is damaged: {len(data)} bytes of another checksum where the card says {values.get('bytes')} bytes. "
            "Copy it again or train a new model."
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _arrays(model: Any) -> dict[str, np.ndarray]:
    import equinox as eqx

    from heatbath.io.trees import flatten

    return flatten(eqx.filter(model, eqx.is_array))


def _filled(model: Any, arrays: Mapping[str, np.ndarray], folder: Path, card: ModelCard) -> Any:
    """``model`` with the values of ``arrays``, in the model's own types. Raises ``ModelError`` unless they fit exactly."""
    import equinox as eqx

    from heatbath.io.trees import restore

    own = _arrays(model)
    wrong = [name for name in own if name in arrays and _shape(own[name]) != _shape(arrays[name])]
    other = sorted(set(own) ^ set(arrays))
    if wrong or other:
        first = (
            f"{wrong[0]} is {_shape(arrays[wrong[0]])} where {_shape(own[wrong[0]])} is needed"
            if wrong
            else f"{other[0]} is {'missing' if other[0] in own else 'unknown'}"
        )
        raise ModelError(
            f"the arrays in '{folder}' belong to another architecture than its card, {card.kind!r} with sizes "
            f"{dict(card.sizes)}: {first} ({len(wrong) + len(other)} such arrays). Use the heatbath that wrote it, or train anew."
        )
    values = {name: np.asarray(value, own[name].dtype) for name, value in arrays.items()}
    dynamic, rest = eqx.partition(model, eqx.is_array)
    return eqx.combine(restore(dynamic, values), rest)


def _shape(array: np.ndarray) -> str:
    kinds = {"f": "numbers", "i": "integers", "u": "integers", "b": "truth values", "c": "complex numbers"}
    return f"{array.shape} {kinds.get(array.dtype.kind, array.dtype)}"


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(
                zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True
            ) as member:  # a fixed date: same bytes
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """Plain TOML types: NumPy numbers become Python's, None is left out of tables."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value) if isinstance(value, Path) else value
