"""Tables to learn a density from: rows to train on, to stop early on and to test on, checked, from any file of numbers.

Accepted are ``npz`` (with ``train``, ``valid`` and ``test``, or one table), ``npy``, ``csv`` and text, folders with the four
files of MNIST in their published form, and its three files of fixed binary digits (``*_train.amat`` ...). Nothing is unpickled.
"""

import dataclasses
import gzip
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from heatbath.errors import InvalidArgumentError, MissingDataError

Kind = Literal["binary", "real"]
#: Shares of a table without a split of its own that are kept for stopping and for testing.
VALID_SHARE, TEST_SHARE = 0.1, 0.1


@dataclasses.dataclass(frozen=True)
class Split:
    """A table in three parts, each (n, d): uint8 zeros and ones where ``kind`` is "binary", float64 where it is "real".

    name, source: what it is called and where it comes from, in words
    image:        (rows, columns) where a row of the table is an image
    means, scales: of standardised columns, (d,): y = means + scales x. Densities of y are those of x divided by prod scales
    """

    name: str
    kind: Kind
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    source: str = ""
    image: tuple[int, int] | None = None
    means: np.ndarray | None = None
    scales: np.ndarray | None = None

    @property
    def dimension(self) -> int:
        """Number of columns."""
        return int(self.train.shape[1])

    @property
    def checksum(self) -> str:
        """SHA-256 of the three parts."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid, self.test):
            digest.update(repr(part.shape).encode() + np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    @property
    def log_volume(self) -> float:
        """sum log scales: what has to be taken from a log density in standardised units to have it in the table's own."""
        return 0.0 if self.scales is None else float(np.sum(np.log(self.scales)))


def split(
    name: str,
    kind: Kind,
    train,
    valid,
    test,
    *,
    source: str = "",
    image: tuple[int, int] | None = None,
    width: int | None = None,
) -> Split:
    """A checked ``Split``. Real columns are standardised by mean and standard deviation of the training part.

    Raises ``InvalidArgumentError`` when a part is empty, not a table, of another width (``width``: the one that is expected),
    holds numbers that are not finite, anything but zeros and ones where ``kind`` is "binary", or a constant real column.
    """
    parts = {"train": np.asarray(train), "valid": np.asarray(valid), "test": np.asarray(test)}
    expected = width or (parts["train"].shape[1] if parts["train"].ndim == 2 else None)
    for part, values in parts.items():
        check_table(values, kind, where=f"{part} of {name!r}", width=expected)
    if image is not None and math.prod(image) != expected:
        raise InvalidArgumentError(
            f"images of {name!r} are said to be {image[0]} x {image[1]}, but its rows have {expected} numbers"
        )
    if kind == "binary":
        ones = (np.ascontiguousarray(values, dtype=np.uint8) for values in parts.values())
        return Split(name, kind, *ones, source=source, image=image)
    real = {part: np.asarray(values, dtype=np.float64) for part, values in parts.items()}
    means, scales = real["train"].mean(axis=0), real["train"].std(axis=0)
    if constant := np.flatnonzero(~(scales > 0)).tolist():
        raise InvalidArgumentError(
            f"columns {constant[:8]} of the training part of {name!r} are constant, so they have no density. Leave them out."
        )
    standard = ((values - means) / scales for values in real.values())
    return Split(name, kind, *standard, source=source, image=image, means=means, scales=scales)


def check_table(values: np.ndarray, kind: Kind, *, where: str, width: int | None = None) -> None:
    """Refuse a part of a split with a sentence about the first thing that is wrong. See ``split``."""
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise InvalidArgumentError(
            f"expected a table of numbers (rows, columns) as {where}; found shape {values.shape} of type {values.dtype}"
        )
    if not values.size:
        raise InvalidArgumentError(f"{where} is empty: its shape is {values.shape}. At least one row is needed.")
    if width is not None and values.shape[1] != width:
        raise InvalidArgumentError(f"expected {width} columns in {where}; found {values.shape[1]}")
    if not (finite := np.isfinite(values)).all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidArgumentError(
            f"{where} holds {np.count_nonzero(~finite)} numbers that are not finite, the first in row {row}, column {column}. "
            "Leave such rows out or fill them in."
        )
    if kind == "binary" and (other := ~np.isin(values, (0, 1))).any():
        row, column = np.argwhere(other)[0]
        raise InvalidArgumentError(
            f"expected zeros and ones in {where}; found {values[row, column]!r} in row {row}, column {column}. "
            'Binarise the table, or say that it is "real".'
        )


def divided(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test rows of a table, in an order fixed by ``seed``.

    Raises ``InvalidArgumentError`` below ten rows.
    """
    if values.ndim < 1 or len(values) < 10:
        raise InvalidArgumentError(f"a table of at least ten rows is needed to divide it; found shape {values.shape}")
    order = np.random.default_rng([seed, 20]).permutation(len(values))
    held, tested = (max(1, round(share * len(values))) for share in (VALID_SHARE, TEST_SHARE))
    return values[order[held + tested :]], values[order[:held]], values[order[held : held + tested]]


def binarised(images: np.ndarray, rule: Literal["stochastic", "threshold"], seed: int) -> np.ndarray:
    """Grey images (n, ...) of 0 .. 255 as flat zeros and ones: one where 255 u < grey, u ~ U(0, 1) per pixel, or 127.5 < grey.

    The draws of "stochastic" are made once, by ``seed``, as is usual for digits: the same pixel has the same value ever after.
    """
    grey = np.asarray(images)
    flat = grey.reshape(len(grey), -1)
    limits = np.random.default_rng([seed, 21]).random(flat.shape) if rule == "stochastic" else 0.5
    return (flat > 255 * limits).astype(np.uint8)


# Reading --------------------------------------------------------------------------------------------------------------
def read_split(
    path: Path,
    kind: Kind,
    *,
    image: tuple[int, int] | None = None,
    rule: Literal["stochastic", "threshold"] = "stochastic",
    seed: int = 0,
) -> Split:
    """A user's own data: a file or folder of a form that this module knows (see above).

    An ``npz`` has tables ``train`` and ``test``, and ``valid`` unless a tenth of the training rows shall serve; ``x_train`` and
    ``x_test`` with grey images are known too. A single table is divided 8 : 1 : 1 in an order fixed by ``seed``. Grey images are
    made binary by ``rule``. Raises ``MissingDataError`` when nothing is there or it cannot be read, and what ``split`` raises.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(
            f"expected a table (npz, npy, csv) or a folder of images, but '{path}' does not exist. Give an existing path."
        )
    name, source = path.stem, path.name
    if path.is_dir():
        return read_folder(path, rule, seed)
    readers: Mapping[str, Callable[[Path], dict[str, np.ndarray]]] = {".npz": _archive, ".npy": _array}
    parts = readers.get(path.suffix.lower(), _text)(path)
    if {"x_train", "x_test"} <= set(parts):
        size = parts["x_train"].shape[1:]
        train, test = (binarised(parts[part], rule, seed) for part in ("x_train", "x_test"))
        return _with_valid(name, "binary", train, test, seed, source, _image_of(size, image))
    if "train" in parts and "test" in parts:
        if "valid" in parts:
            return split(name, kind, parts["train"], parts["valid"], parts["test"], source=source, image=image)
        return _with_valid(name, kind, parts["train"], parts["test"], seed, source, image)
    if len(parts) != 1:
        raise MissingDataError(
            f"expected the arrays train, valid and test, or a single table, in '{path}'; found {', '.join(sorted(parts))}"
        )
    (table,) = parts.values()
    if table.ndim == 3 and table.dtype == np.uint8 and kind == "binary":
        image, table = (int(table.shape[1]), int(table.shape[2])), binarised(table, rule, seed)
    return split(name, kind, *divided(table, seed), source=source, image=image)


def _image_of(size: tuple[int, ...], given: tuple[int, int] | None) -> tuple[int, int] | None:
    return (int(size[0]), int(size[1])) if len(size) == 2 else given


def _with_valid(name, kind: Kind, train, test, seed: int, source: str, image) -> Split:
    """A tenth of the training rows, fixed by ``seed``, serves for stopping."""
    train = np.asarray(train)
    held = max(1, round(VALID_SHARE * len(train)))
    order = np.random.default_rng([seed, 22]).permutation(len(train))
    return split(name, kind, train[order[held:]], train[order[:held]], test, source=source, image=image)


def read_folder(folder: Path, rule: Literal["stochastic", "threshold"], seed: int) -> Split:
    """The files of MNIST as they are published, or three files of fixed binary images. Raises ``MissingDataError``."""
    fixed = {part: sorted(folder.glob(f"*_{part}.amat")) for part in ("train", "valid", "test")}
    if all(fixed.values()):
        train, valid, test = (_text(files[0])["table"] for files in fixed.values())
        side = math.isqrt(train.shape[1])
        image = (side, side) if side * side == train.shape[1] else None
        return split(folder.name, "binary", train, valid, test, source="fixed binary images", image=image)
    found = {part: _images_in(folder, part) for part in ("train", "t10k")}
    size = found["train"].shape[1:]
    train, test = (binarised(grey, rule, seed) for grey in found.values())
    return _with_valid(folder.name, "binary", train, test, seed, f"images, {rule}", _image_of(size, None))


def _images_in(folder: Path, part: str) -> np.ndarray:
    for pattern in (f"{part}-images*idx3-ubyte", f"{part}-images*idx3-ubyte.gz"):
        if files := sorted(folder.glob(pattern)):
            return read_idx(files[0])
    raise MissingDataError(
        f"expected train-images-idx3-ubyte and t10k-images-idx3-ubyte (.gz or not), or *_train.amat, *_valid.amat and "
        f"*_test.amat, in '{folder}'; {part} is missing."
    )


def read_idx(file: Path) -> np.ndarray:
    """An IDX file of bytes, compressed or not, as MNIST is published. Raises ``MissingDataError`` when it is none or cut off."""
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rb") as stream:
            data = stream.read()
    except (OSError, EOFError) as error:
        raise MissingDataError(f"'{file}' cannot be read ({error}). Copy it again.") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise MissingDataError(f"expected an IDX file of bytes; '{file}' begins with {data[:4]!r}. Copy it again.")
    axes = data[3]
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", axes, 4)) if len(data) >= 4 + 4 * axes else ()
    if not shape or len(data) != 4 + 4 * axes + math.prod(shape):
        raise MissingDataError(f"'{file}' states the shape {shape} and holds {len(data)} bytes. Copy it again.")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _archive(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            parts = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise MissingDataError(f"'{file}' cannot be read as an npz archive ({error}).") from error
    if "num_columns" in parts:  # rows packed into bits
        columns = int(parts.pop("num_columns"))
        return {name: np.unpackbits(packed, axis=1)[:, :columns] for name, packed in parts.items()}
    return {name: array for name, array in parts.items() if array.ndim >= 2}


def _array(file: Path) -> dict[str, np.ndarray]:
    try:
        return {"table": np.load(file, allow_pickle=False)}
    except (OSError, ValueError, EOFError) as error:
        raise MissingDataError(f"'{file}' cannot be read as an npy array ({error}).") from error


def _text(file: Path) -> dict[str, np.ndarray]:
    """Numbers separated by commas, tabs or spaces; a first line of names is skipped, an empty field is not a number."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise MissingDataError(f"'{file}' cannot be read as text ({error}).") from error
    if not lines:
        raise InvalidArgumentError(f"'{file}' is empty. At least one row of numbers is needed.")
    mark = next((mark for mark in (",", "\t", ";") if mark in lines[0]), None)
    rows = [line.split(mark) for line in lines]
    first = 0 if _numbers(rows[0]) is not None else 1
    widths = {len(row) for row in rows[first:]}
    if len(widths) != 1:
        raise InvalidArgumentError(f"the rows of '{file}' have different lengths: {sorted(widths)[:8]}")
    table = [_numbers(row) for row in rows[first:]]
    bad = next((number for number, row in enumerate(table) if row is None), None)
    if bad is not None:
        raise InvalidArgumentError(
            f"line {bad + first + 1} of '{file}' is not a row of numbers: {lines[bad + first][:60]!r}"
        )
    return {"table": np.array(table, dtype=np.float64)}


def _numbers(fields: list[str]) -> list[float] | None:
    try:
        return [float(field) if field.strip() else math.nan for field in fields]
    except ValueError:
        return None
