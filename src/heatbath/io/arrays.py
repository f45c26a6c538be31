"""The ensemble on disk: named arrays that grow along their first axis.

A zarr v3 group with one array per name, named dimensions and unit attributes, so that any zarr reader opens it. Zarr
replaces a chunk in one rename, hence a killed process leaves every row that was there before. The store is truncated to
the checkpoint's lengths before a run continues; readers pass those lengths to see finished rows only.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import zarr

from heatbath.errors import RunDirectoryError
from heatbath.io.storage import explained, sync_file

#: Size of one compressed file before compression. Big enough for few files, small enough to rewrite a partial one often.
CHUNK_BYTES = 4 * 2**20


class ArrayStore:
    """Arrays that grow along axis 0, in a folder.

    ``append`` adds rows, ``truncate`` takes some back, ``read`` returns them. The folder appears with the first append.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._synced = 0

    def append(
        self,
        arrays: Mapping[str, np.ndarray],
        *,
        dims: Mapping[str, Sequence[str]] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        """Add rows to each named array; the first append of a name creates it with its dimension names and unit.

        Raises ``RunDirectoryError`` when the disk refuses or when rows do not fit those already there.
        """
        with explained(self.path, "What was written before the last checkpoint is good."):
            group = zarr.open_group(self.path, mode="a", zarr_format=3)
            for name, rows in arrays.items():
                rows = np.asarray(rows)
                if name not in group:
                    _create(group, name, rows, (dims or {}).get(name), (units or {}).get(name, "1"))
                array = _array(group, name)
                if array.shape[1:] != rows.shape[1:] or array.dtype != rows.dtype:
                    raise RunDirectoryError(
                        f"'{name}' in '{self.path}' has rows of shape {array.shape[1:]} and type {array.dtype}; "
                        f"found rows of shape {rows.shape[1:]} and type {rows.dtype}"
                    )
                if len(rows):
                    array.append(rows)

    def lengths(self) -> dict[str, int]:
        """Rows of each array."""
        group = self._group()
        return {} if group is None else {name: array.shape[0] for name, array in group.arrays()}

    def truncate(self, lengths: Mapping[str, int]) -> None:
        """Keep the first ``lengths[name]`` rows of each array (none of a name that is absent from ``lengths``).

        Raises ``RunDirectoryError`` when there are fewer rows than that: data that a checkpoint relies on is missing.
        """
        present = self.lengths()
        for name, length in lengths.items():
            if present.get(name, 0) < length:
                raise RunDirectoryError(
                    f"expected {length} rows of '{name}' in '{self.path}', found {present.get(name, 0)}: "
                    "part of the ensemble is missing, so the run cannot be continued."
                )
        group = self._group()
        if group is None:
            return
        with explained(self.path):
            for leftover in self.path.rglob("*.partial"):
                leftover.unlink(missing_ok=True)
            for name, length in present.items():
                keep = lengths.get(name, 0)
                if keep < length:
                    array = _array(group, name)
                    array.resize((keep, *array.shape[1:]))

    def read(self, lengths: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
        """Every array, in memory; the first ``lengths[name]`` rows only where lengths are given."""
        group = self._group()
        if group is None:
            return {}
        with explained(self.path):
            return {
                name: np.asarray(array[: array.shape[0] if lengths is None else lengths.get(name, 0)])
                for name, array in group.arrays()
            }

    def describe(self) -> dict[str, dict]:
        """Shape, type, dimension names and unit of each array."""
        group = self._group()
        return {
            name: {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "dims": list(array.metadata.dimension_names or ()),
                "unit": array.attrs.get("unit", "1"),
            }
            for name, array in (() if group is None else group.arrays())
        }

    def sync(self) -> None:
        """Flush the files that changed since the last ``sync`` to the disk: a checkpoint vouches for them."""
        started = time.time_ns()
        with explained(self.path):
            for folder, _, names in os.walk(self.path):
                for file in (Path(folder) / name for name in names):
                    if file.stat().st_mtime_ns >= self._synced:
                        sync_file(file)
        self._synced = started - 2_000_000_000  # file systems stamp times more coarsely than the clock runs

    def _group(self):
        if not (self.path / "zarr.json").is_file():
            return None
        with explained(self.path):
            return zarr.open_group(self.path, mode="r+" if os.access(self.path, os.W_OK) else "r", zarr_format=3)


def _array(group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise RunDirectoryError(f"expected an array called '{name}' in the ensemble, found a group")
    return array


def _create(group, name: str, rows: np.ndarray, dims: Sequence[str] | None, unit: str) -> None:
    if dims is not None and len(dims) != rows.ndim:
        raise RunDirectoryError(f"'{name}' has {rows.ndim} axes but {len(dims)} names: {tuple(dims)}")
    per_row = max(1, rows.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64)))
    chunk = int(np.clip(CHUNK_BYTES // per_row, 1, 2**16))
    group.create_array(
        name,
        shape=(0, *rows.shape[1:]),
        chunks=(chunk, *(max(1, n) for n in rows.shape[1:])),
        dtype=rows.dtype,
        # a row that was announced but not yet written reads as NaN, never as a plausible zero
        fill_value=np.nan if rows.dtype.kind == "f" else 0,
        dimension_names=dims,
        attributes={"unit": unit},
    )
