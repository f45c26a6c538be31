"""The ensemble store grows, can be cut back to a checkpoint, and says what its axes and units are."""

import errno

import numpy as np
import pytest
import zarr

from heatbath.errors import RunDirectoryError
from heatbath.io.arrays import ArrayStore

DIMS = {"samples": ("draw", "chain", "site"), "energies": ("draw", "chain")}
UNITS = {"samples": "nm", "energies": "kJ/mol"}


def rows(start, count):
    draws = np.arange(start, start + count, dtype=np.float64)
    samples = (draws[:, None, None] + np.arange(6).reshape(2, 3) / 10).astype(np.float32)
    return {"samples": samples, "energies": np.repeat(draws[:, None], 2, axis=1)}


@pytest.fixture
def store(tmp_path):
    store = ArrayStore(tmp_path / "ensemble")
    for start, count in ((0, 3), (3, 4), (7, 1)):
        store.append(rows(start, count), dims=DIMS, units=UNITS)
    return store


def test_appended_rows_come_back_in_order(store):
    """A lost or repeated row would be a wrong sample."""
    assert store.lengths() == {"samples": 8, "energies": 8}
    back = store.read()
    for name, expected in rows(0, 8).items():
        assert back[name].dtype == expected.dtype
        assert np.array_equal(back[name], expected)


def test_truncation_then_append_equals_no_interruption(store, monkeypatch):
    """Rows beyond a checkpoint that survive would be counted twice."""
    store.truncate({"samples": 5, "energies": 5})
    store.append(rows(5, 6))
    assert np.array_equal(store.read()["samples"], rows(0, 11)["samples"])
    assert np.array_equal(store.read({"samples": 2})["samples"], rows(0, 2)["samples"])
    store.truncate({})
    assert store.lengths() == {"samples": 0, "energies": 0}


def test_truncation_with_many_files(tmp_path, monkeypatch):
    """The same where each file holds two rows, so that whole files go and one is cut."""
    monkeypatch.setattr("heatbath.io.arrays.CHUNK_BYTES", 48)
    store = ArrayStore(tmp_path / "e")
    store.append(rows(0, 9), dims=DIMS)
    store.truncate({"samples": 3, "energies": 3})
    store.append(rows(3, 2))
    assert np.array_equal(store.read()["samples"], rows(0, 5)["samples"])
    assert sum(p.is_file() for p in (tmp_path / "e" / "samples" / "c").rglob("*")) == 3


def test_missing_rows_are_an_error(store):
    """Continuing from a checkpoint whose draws are gone would leave a hole."""
    with pytest.raises(RunDirectoryError, match=r"expected 9 rows of 'samples'.*found 8"):
        store.truncate({"samples": 9})


def test_any_zarr_reader_finds_names_and_units(store):
    """Files that need heatbath to be understood lock people in."""
    array = zarr.open_group(store.path, mode="r")["samples"]
    assert array.metadata.dimension_names == ("draw", "chain", "site")
    assert array.attrs["unit"] == "nm"
    assert store.describe()["energies"] == {
        "shape": [8, 2],
        "dtype": "float64",
        "dims": ["draw", "chain"],
        "unit": "kJ/mol",
    }
    store.sync()


def test_rows_that_do_not_fit_are_refused(store):
    """Silent casting would change numbers."""
    with pytest.raises(RunDirectoryError, match="rows of shape"):
        store.append({"energies": np.zeros((1, 3))})
    with pytest.raises(RunDirectoryError, match="type float32"):
        store.append({"energies": np.zeros((1, 2), np.float32)})
    with pytest.raises(RunDirectoryError, match="2 names"):
        store.append({"other": np.zeros(3)}, dims={"other": ("a", "b")})


def test_a_full_disk_is_one_sentence_and_leaves_earlier_rows(store, monkeypatch):
    """A traceback from inside a storage library tells nobody to free some space."""
    import zarr.storage._local as local

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(local, "_put", full)
        with pytest.raises(RunDirectoryError, match="no space left on the disk"):
            store.append(rows(8, 3))
    store.truncate({"samples": 8, "energies": 8})
    assert np.array_equal(store.read()["samples"], rows(0, 8)["samples"])


def test_an_empty_place_reads_as_nothing(tmp_path):
    """A run in its warm-up has no draws yet, which is no error."""
    store = ArrayStore(tmp_path / "none")
    assert store.read() == {}
    assert store.lengths() == {}
    store.truncate({})
