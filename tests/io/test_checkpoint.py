"""Checkpoints are complete or absent, and a damaged newest one falls back on the one before."""

import errno
import json

import numpy as np
import pytest

from heatbath.errors import CheckpointError
from heatbath.io import checkpoint
from heatbath.io.checkpoint import Checkpoint


def make(step):
    return Checkpoint(step, {".x": np.arange(5.0) + step, "['n'].count": np.asarray(step)}, {"lengths": {"x": step}})


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    """A changed bit would make a resumed run another run."""
    odd = np.array([np.nan, -0.0, np.inf, 5e-324])
    checkpoint.save(tmp_path, Checkpoint(7, {".odd": odd, ".flag": np.asarray(True)}, {"a": 1.5}))
    loaded, problems = checkpoint.load_latest(tmp_path)
    assert problems == []
    assert loaded.step == 7
    assert loaded.record == {"a": 1.5}
    assert loaded.arrays[".odd"].tobytes() == odd.tobytes()
    assert loaded.arrays[".flag"].dtype == np.bool_


def test_two_are_kept(tmp_path):
    """One kept would leave nothing when it is damaged; all kept would fill the disk."""
    for step in (1, 2, 3, 11):
        checkpoint.save(tmp_path, make(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000003", "000011"]
    assert checkpoint.latest_record(tmp_path) == {"step": 11, "lengths": {"x": 11}}


@pytest.mark.parametrize("damage", ["truncated", "changed", "no meta", "half meta"])
def test_a_damaged_newest_falls_back_with_a_sentence(tmp_path, damage):
    """Using damaged arrays, or giving up although the previous state is good."""
    checkpoint.save(tmp_path, make(1))
    newest = checkpoint.save(tmp_path, make(2))
    arrays, meta = newest / "arrays.npz", newest / "meta.json"
    data = arrays.read_bytes()
    if damage == "truncated":
        arrays.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        arrays.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "no meta":
        meta.unlink()
    else:
        meta.write_text(meta.read_text()[:40])
    loaded, problems = checkpoint.load_latest(tmp_path)
    assert loaded.step == 1
    assert len(problems) == 1
    assert "000002 is damaged" in problems[0]
    checkpoint.discard_after(tmp_path, loaded.step)
    assert [p.name for p in tmp_path.iterdir()] == ["000001"]


def test_none_left_is_an_error_and_never_a_fresh_start(tmp_path):
    """A silent fresh start would throw away what the user waited for."""
    with pytest.raises(CheckpointError, match="found none"):
        checkpoint.load_latest(tmp_path / "absent")
    (checkpoint.save(tmp_path, make(1)) / "arrays.npz").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no usable checkpoint.*000001 is damaged"):
        checkpoint.load_latest(tmp_path)


def test_a_failed_save_keeps_the_previous_one(tmp_path, monkeypatch):
    """A full disk must cost the new checkpoint only."""
    checkpoint.save(tmp_path, make(1))

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, make(2))
    assert [p.name for p in tmp_path.iterdir()] == ["000001"]
    assert checkpoint.load_latest(tmp_path)[0].step == 1


def test_a_later_format_is_refused(tmp_path):
    """Arrays of an unknown format could be read as something they are not."""
    meta = checkpoint.save(tmp_path, make(1)) / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load_latest(tmp_path)
