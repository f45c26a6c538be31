"""The compiler under us computes what it is asked to. When one of these fails, no other result of this suite means anything."""

import numpy as np
import pytest

from heatbath.cli import canary


@pytest.mark.parametrize(("dtype", "rows"), [("float64", 16_385), ("float64", 40_000), ("float32", 32_769)])
def test_batched_products_are_right(dtype, rows):
    """jax-ml/jax#39103: this JAX silently miscomputes batched energies on the CPU; exclude it in pyproject.toml."""
    assert np.array_equal(canary.squared_lengths(dtype, rows), np.arange(rows, dtype=dtype) ** 2)


def test_nan_is_noticed():
    """The test for trouble that heatbath uses everywhere does not see trouble."""
    assert canary.finiteness_sees_nan()


def test_doctor_tells_the_truth_about_the_maximum():
    """Some releases lose NaN in jnp.max: doctor must say which kind this one is, and must not fail for it."""
    found = {c.name: c for c in canary.sing()}
    assert found["maximum with NaN"].right == canary.maximum_keeps_nan()
    assert not found["maximum with NaN"].fatal
    assert all(c.right for c in found.values() if c.fatal)


def test_a_wrong_canary_is_heard(monkeypatch):
    """Negative control: a canary that cannot fail warns nobody."""
    monkeypatch.setattr(canary, "squared_lengths", lambda dtype, rows: np.zeros(rows, dtype))
    wrong = [c for c in canary.sing() if not c.right and c.fatal]
    assert len(wrong) == 2
    assert "39103" in wrong[0].sentence
