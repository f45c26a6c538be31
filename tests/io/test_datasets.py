"""Reference ensembles on disk: what is read is what was written, or a sentence says why not."""

import json

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, MissingDataError
from heatbath.io.datasets import (
    Reference,
    data_folder,
    load_reference,
    packaged_folder,
    records,
    write_reference,
)


@pytest.fixture
def reference():
    rng = np.random.default_rng(3)
    positions = rng.normal(size=(4, 6, 5, 3)).astype(np.float32)
    energies = np.arange(24, dtype=np.float32).reshape(4, 6)
    return Reference(positions, energies, {"beta": 0.4, "temperature": 300.0, "atoms": list("abcde")})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HEATBATH_DATA", str(tmp_path))
    return tmp_path / "references"


def test_what_is_written_is_read(reference, folder):
    """A lost ladder axis or a rounded coordinate would spoil every floor and every weight computed from the file."""
    write_reference(folder, "small", reference)
    found = load_reference("small")
    assert found.positions.dtype == np.float32
    np.testing.assert_array_equal(found.positions, reference.positions)
    np.testing.assert_array_equal(found.energies, reference.energies)
    assert (found.record["frames"], found.record["ladders"]) == (24, 4)
    assert records()["small"]["folder"] == str(folder)


def test_the_place_is_chosen_by_the_environment(tmp_path, monkeypatch):
    """Large data must not fill a home directory that the user did not choose."""
    monkeypatch.setenv("HEATBATH_DATA", str(tmp_path / "big"))
    assert data_folder() == tmp_path / "big"


def test_a_missing_reference_names_the_command(folder):
    """Nobody should have to search how the data are made."""
    with pytest.raises(MissingDataError, match="heatbath reference aaa"):
        load_reference("no-such-reference-aaa".removeprefix("no-such-reference-"), folder, least=10**7)
    with pytest.raises(MissingDataError, match="found none"):
        load_reference("nothing", folder)


def test_too_small_a_reference_is_refused(reference, folder):
    """A floor from fewer frames than asked would be another number."""
    write_reference(folder, "small", reference)
    assert load_reference("small", least=24).size == 24
    with pytest.raises(MissingDataError, match="the largest has 24"):
        load_reference("small", least=25)


@pytest.mark.parametrize("damage", ["truncated", "other content", "no record", "no arrays"])
def test_damaged_files_are_noticed(reference, folder, damage):
    """A half-copied file would silently be another ensemble."""
    path = write_reference(folder, "small", reference)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "other content":
        record = path.with_suffix(".json").read_text()
        write_reference(folder, "small", Reference(reference.positions + 1, reference.energies, reference.record))
        path.with_suffix(".json").write_text(record)
    elif damage == "no record":
        path.with_suffix(".json").write_text("{")
    else:
        path.unlink()
    with pytest.raises(MissingDataError, match="heatbath reference small"):
        load_reference("small")


def test_frames_are_spread_over_ladders_and_time(reference):
    """Taking the first frames of the file would take one ladder only, and no floor would know."""
    np.testing.assert_array_equal(np.sort(reference.flat_energies()), np.arange(24))
    few = reference.flat_energies(8)
    assert len({int(energy) // 6 for energy in few}) == 4
    np.testing.assert_array_equal(reference.flat(8), reference.flat()[::3])
    with pytest.raises(InvalidArgumentError, match="1 to 24"):
        reference.flat(25)


def test_ensemble_keeps_ladders_apart(reference):
    """Errors come from the spread over ladders; a flat ensemble would call correlated frames independent."""
    ensemble = reference.ensemble()
    assert ensemble.axes == ("chain", "draw")
    assert np.shape(ensemble.log_weights) == (4, 6)
    assert float(ensemble.state.beta) == pytest.approx(0.4)


def test_packaged_references_are_whole_and_small():
    """What ships must be readable, stated and small; a checksum that no longer fits would break every comparison."""
    names = [file.stem for file in packaged_folder().glob("*.json")]
    assert {"alanine-dipeptide", "aaa", "ace-aaa-nme"} <= set(names)
    total = 0
    for name in names:
        reference = load_reference(name, packaged_folder())
        record = json.loads((packaged_folder() / f"{name}.json").read_text())
        assert reference.positions.shape[2] == len(record["atoms"])
        assert {"command", "seed", "versions", "free_energy_differences", "effective_size"} <= set(record)
        assert np.isfinite(reference.positions).all()
        assert np.abs(reference.positions.mean(axis=2)).max() < 1e-5
        total += record["bytes"]
    assert total < 6e6
