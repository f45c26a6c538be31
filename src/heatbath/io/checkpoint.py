"""Checkpoints: numbered folders of arrays that are complete or absent.

``state/000123/`` holds ``arrays.npz`` (one array per tree path) and ``meta.json`` (the step, a record of everything
else that must agree with it, and the SHA-256 of the arrays). A folder is written aside, flushed and renamed. Two are
kept, so that a damaged newest one costs the time between two checkpoints and nothing more. Nothing is ever unpickled.
"""

import dataclasses
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heatbath.errors import CheckpointError
from heatbath.io.storage import sync_directory, write_atomically

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One saved state.

    ``step`` counts the chunks that went before; ``arrays`` maps tree paths to arrays; ``record`` is plain JSON that belongs
    to the same instant (lengths of the series on disk, elapsed time).
    """

    step: int
    arrays: Mapping[str, np.ndarray]
    record: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write ``checkpoint`` under ``folder`` and drop all but the ``keep`` newest. Raises ``OSError`` when the disk refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{checkpoint.step:06d}"
    aside = folder / f".writing-{checkpoint.step:06d}"
    _remove_leftovers(folder)
    aside.mkdir()
    try:
        data = _pack(checkpoint.arrays)
        write_atomically(aside / "arrays.npz", data)
        meta = {
            "format": _FORMAT,
            "step": checkpoint.step,
            "sha256": hashlib.sha256(data).hexdigest(),
            "arrays": {name: [str(a.dtype), list(a.shape)] for name, a in checkpoint.arrays.items()},
            "record": dict(checkpoint.record),
        }
        write_atomically(aside / "meta.json", json.dumps(meta, indent=1))
        if final.exists():  # the same step again: after a resume that made no progress
            shutil.rmtree(final)
        aside.rename(final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_directory(folder)
    for old in _folders(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_latest(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest good checkpoint, and one sentence for each newer one that is damaged.

    Raises ``CheckpointError`` when none is left: a run never starts afresh silently.
    """
    problems: list[str] = []
    for candidate in reversed(_folders(folder)):
        try:
            return _load(candidate), problems
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            problems.append(f"checkpoint {candidate.name} is damaged ({error or type(error).__name__})")
    if problems:
        raise CheckpointError(
            f"no usable checkpoint in '{folder}': " + "; ".join(problems) + ". Start again with another --out; "
            "the draws on disk can still be read."
        )
    raise CheckpointError(f"expected a checkpoint in '{folder}', found none: there is nothing to continue from.")


def latest_record(folder: Path) -> dict[str, Any] | None:
    """The record of the newest readable checkpoint without its arrays, or None."""
    for candidate in reversed(_folders(folder)):
        try:
            meta = json.loads((candidate / "meta.json").read_text())
            return {"step": meta["step"], **meta["record"]}
        except (OSError, ValueError, KeyError):
            continue
    return None


def discard_after(folder: Path, step: int) -> None:
    """Remove the checkpoints newer than ``step``: they were found damaged and the run continues from an older one."""
    for candidate in _folders(folder):
        if int(candidate.name) > step:
            shutil.rmtree(candidate, ignore_errors=True)


def _load(folder: Path) -> Checkpoint:
    meta = json.loads((folder / "meta.json").read_text())
    if meta["format"] != _FORMAT:
        raise ValueError(f"format {meta['format']}, this version reads format {_FORMAT}")
    data = (folder / "arrays.npz").read_bytes()
    if hashlib.sha256(data).hexdigest() != meta["sha256"]:
        raise ValueError(f"the checksum of arrays.npz ({len(data)} bytes) does not match")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Checkpoint(int(meta["step"]), arrays, meta["record"])


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An npz file in memory: the whole is hashed, and its size is known before the disk is touched."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()), key=lambda p: int(p.name))


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)
