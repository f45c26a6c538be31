"""Tables to learn densities from: every form of file, every kind of bad data, and the published splits where they are at hand."""

import gzip

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, MissingDataError, UsageError
from heatbath.io.density_data import DATA_SETS, available, bits_per_dimension, published, without_near_copies
from heatbath.io.tables import binarised, divided, read_idx, read_split, split

RNG = np.random.default_rng(0)
ONES = (RNG.random((40, 6)) < 0.4).astype(np.uint8)


def test_an_archive_keeps_its_own_split(tmp_path):
    """If parts were mixed, a likelihood would be of other data than the papers'."""
    np.savez(tmp_path / "own.npz", train=ONES[:20], valid=ONES[20:30], test=ONES[30:])
    found = read_split(tmp_path / "own.npz", "binary")
    assert (found.train.dtype, found.dimension, found.name) == (np.uint8, 6, "own")
    np.testing.assert_array_equal(found.test, ONES[30:])
    assert found.checksum != split("own", "binary", ONES[:20], ONES[20:29], ONES[30:]).checksum


@pytest.mark.parametrize("form", ["npz", "npy", "csv", "names", "packed"])
def test_one_table_is_divided_the_same_way_in_every_form(tmp_path, form):
    """A form that lost rows, a header or the order would change the result."""
    file = tmp_path / f"table.{'csv' if form in ('csv', 'names') else 'npz' if form == 'packed' else form}"
    if form == "npz":
        np.savez(file, rows=ONES)
    elif form == "packed":
        np.savez(file, rows=np.packbits(ONES, axis=1), num_columns=6)
    elif form == "npy":
        np.save(file, ONES)
    else:
        head = "a,b,c,d,e,f\n" if form == "names" else ""
        file.write_text(head + "\n".join(",".join(map(str, row)) for row in ONES) + "\n")
    found = read_split(file, "binary", seed=3)
    train, valid, test = divided(ONES, 3)
    for part, expected in ((found.train, train), (found.valid, valid), (found.test, test)):
        np.testing.assert_array_equal(part, expected)
    rows = np.concatenate([found.train, found.valid, found.test])
    assert (len(train), len(valid), len(test)) == (32, 4, 4)
    np.testing.assert_array_equal(np.sort(rows @ 2 ** np.arange(6)), np.sort(ONES @ 2 ** np.arange(6)))


def write_idx(file, array):
    """The IDX form of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = head + array.tobytes()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)


def test_a_folder_of_images_is_read_as_published(tmp_path):
    """A user's full MNIST comes as these files: a wrong offset or order would scramble every image."""
    grey = RNG.integers(0, 256, (30, 3, 4)).astype(np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", grey[:20])
    write_idx(tmp_path / "t10k-images-idx3-ubyte", grey[20:])
    np.testing.assert_array_equal(read_idx(tmp_path / "train-images-idx3-ubyte.gz"), grey[:20])
    found = read_split(tmp_path, "binary", rule="threshold")
    assert (found.image, len(found.train), len(found.valid), len(found.test)) == ((3, 4), 18, 2, 10)
    np.testing.assert_array_equal(found.test, (grey[20:].reshape(10, 12) > 127.5).astype(np.uint8))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    with pytest.raises(MissingDataError, match="Copy it again"):
        read_split(tmp_path, "binary")


def test_fixed_binary_digits_and_grey_archives(tmp_path):
    """The other two forms in which MNIST travels."""
    for part, rows in (("train", ONES[:20, :4]), ("valid", ONES[20:30, :4]), ("test", ONES[30:, :4])):
        np.savetxt(tmp_path / f"binarized_mnist_{part}.amat", rows, fmt="%d")
    found = read_split(tmp_path, "binary")
    assert found.image == (2, 2)
    np.testing.assert_array_equal(found.valid, ONES[20:30, :4])
    grey = RNG.integers(0, 256, (20, 2, 3)).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=grey, x_test=grey[:5], y_train=np.arange(20), y_test=np.arange(5))
    assert read_split(tmp_path / "mnist.npz", "binary").image == (2, 3)


def test_draws_that_make_digits_binary_have_the_right_means_and_stay():
    """Means of binary pixels are grey values: 4.5 standard errors of 20000 draws; false alarm below 1e-4."""
    grey = np.full((20_000, 1, 3), (0, 64, 255), np.uint8)
    ones = binarised(grey, "stochastic", 1)
    assert not ones[:, 0].any()
    assert ones[:, 2].all()
    assert abs(ones[:, 1].mean() - 64 / 255) < 4.5 * 0.434 / np.sqrt(20_000)
    np.testing.assert_array_equal(ones, binarised(grey, "stochastic", 1))


def test_real_columns_are_standardised_by_the_training_part_alone():
    """Statistics of the test part would leak into the model."""
    table = RNG.normal(3.0, 2.0, (60, 2))
    found = split("t", "real", table[:40], table[40:50], table[50:])
    np.testing.assert_allclose(found.train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.train.std(axis=0), 1)
    np.testing.assert_allclose(found.test * found.scales + found.means, table[50:])
    assert found.log_volume == pytest.approx(np.log(table[:40].std(axis=0)).sum())


NOT_BINARY, HOLED, NARROW = ONES.astype(float), ONES.astype(float), ONES[:, :5]
NOT_BINARY = np.where(np.arange(40)[:, None] == 7, 2.0, NOT_BINARY)
HOLED = np.where(np.arange(40)[:, None] == 3, np.nan, HOLED)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (NOT_BINARY, r"zeros and ones in valid of 'b'; found .*2.0.* in row 7, column 0"),
        (HOLED, "not finite, the first in row 3, column 0"),
        (NARROW, "expected 6 columns in valid of 'b'; found 5"),
        (ONES[:0], "valid of 'b' is empty"),
        (ONES[0], "expected a table"),
        (ONES.astype(str), "expected a table of numbers"),
    ],
)
def test_bad_data_get_one_clear_sentence(bad, words):
    """Each of these would otherwise become a NaN, a shape error deep inside, or a wrong likelihood."""
    with pytest.raises(InvalidArgumentError, match=words):
        split("b", "binary", ONES, bad, ONES)


def test_bad_files_get_one_clear_sentence(tmp_path):
    """Files that are absent, empty, ragged, no numbers or no archive."""
    with pytest.raises(MissingDataError, match="does not exist"):
        read_split(tmp_path / "none.npz", "binary")
    for text, words in (("", "empty"), ("1,0\n1\n", "different lengths"), ("1,0\nx,1\n", "line 2 of")):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InvalidArgumentError, match=words):
            read_split(tmp_path / "t.csv", "binary")
    (tmp_path / "t.csv").write_text("1,0\n,1\n" * 10)
    with pytest.raises(InvalidArgumentError, match="not finite"):
        read_split(tmp_path / "t.csv", "binary")
    (tmp_path / "t.npz").write_bytes(b"no archive")
    with pytest.raises(MissingDataError, match="npz"):
        read_split(tmp_path / "t.npz", "binary")
    with pytest.raises(MissingDataError, match="train-images"):
        read_split(tmp_path, "binary")
    with pytest.raises(InvalidArgumentError, match="constant"):
        split("c", "real", np.ones((5, 1)), np.ones((5, 1)), np.ones((5, 1)))


def test_columns_that_copy_another_are_left_out():
    """Two copies of a column have an infinite density."""
    x = RNG.normal(size=(200, 2))
    table = np.column_stack([x[:, 0], x[:, 1], 2 * x[:, 0] + 1e-3 * RNG.normal(size=200)])
    assert without_near_copies(table).shape == (200, 2)
    assert bits_per_dimension(np.log(2) * 10, 10) == pytest.approx(1.0)


def test_a_published_file_must_be_the_published_one(tmp_path):
    """Another file under the same name would give numbers that nobody can compare."""
    (tmp_path / "dna.npz").write_bytes(b"other")
    with pytest.raises(MissingDataError, match="SHA-256"):
        published("dna", folder=tmp_path)
    with pytest.raises(MissingDataError, match="HEATBATH_DATA"):
        published("nips", folder=tmp_path)
    with pytest.raises(UsageError, match="mushrooms"):
        published("mushroom")
    with pytest.raises(InvalidArgumentError, match="folds 0 to 9"):
        published("red-wine", fold=10)


SHAPES = {
    "dna": (1600, 400, 1186, 180),
    "mushrooms": (2000, 500, 5624, 112),
    "nips": (400, 100, 1240, 500),
    "red-wine": (1272, 168, 159, 11),
    "white-wine": (3918, 490, 490, 11),
    "parkinsons": (4699, 588, 588, 15),
    "digits": (8000, 1000, 1000, 784),
    "digits-8": (1297, 250, 250, 64),
}


@pytest.mark.parametrize("name", SHAPES)
def test_published_splits_have_the_published_sizes(name):
    """Rows and columns of the papers' tables; skipped where the files are not at hand."""
    if not available(name):
        pytest.skip(f"the data set {name} is not on this machine (HEATBATH_DATA)")
    found = published(name)
    assert (len(found.train), len(found.valid), len(found.test), found.dimension) == SHAPES[name]
    assert found.kind == DATA_SETS[name].kind


def test_folds_partition_the_rows():
    """A row in two test folds, or in none, would bias the mean over folds."""
    if not available("white-wine"):
        pytest.skip("the data set white-wine is not on this machine (HEATBATH_DATA)")
    rows = []
    for fold in range(10):
        found = published("white-wine", fold=fold)
        rows.append(found.test * found.scales + found.means)
    assert len(np.concatenate(rows)) == 4898
    first = published("white-wine", fold=0)
    np.testing.assert_allclose(np.concatenate(rows).mean(axis=0)[0], 6.854788, rtol=1e-6)
    assert len(first.train) + len(first.valid) + len(first.test) == 4898
