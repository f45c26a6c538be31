"""Learning rates have the values that their formulas say, at the ends, at the peak and between."""

import math

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.training import Constant, Cosine, OneCycle


def test_constant():
    """A rate that drifts would be another schedule."""
    assert float(Constant(0.3)(0)) == float(Constant(0.3)(10**6)) == 0.3


def test_cosine():
    """The rate is the first at 0, halves at half time, is the last at the end and stays there."""
    schedule = Cosine(0.2, 100, last=0.1)
    found = [float(schedule(step)) for step in (0, 50, 100, 500)]
    np.testing.assert_allclose(found, [0.2, 0.2 * 0.55, 0.02, 0.02], rtol=1e-12)


def test_one_cycle():
    """The peak after the warm-up, the division at both ends, a cosine in the middle of each part."""
    schedule = OneCycle(1.0, 1000, warmup=0.05, division=500)
    low = 1 / 500
    steps = [0, 25, 50, 525, 1000, 5000]
    expected = [low, (1 + low) / 2, 1.0, (1 + low) / 2, low, low]
    np.testing.assert_allclose([float(schedule(step)) for step in steps], expected, rtol=1e-9)
    rising = low + (1 - low) * 0.5 * (1 - math.cos(math.pi * 10 / 50))
    np.testing.assert_allclose(float(schedule(10)), rising, rtol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(0.0),
        lambda: Cosine(1.0, 0),
        lambda: OneCycle(-1.0, 10),
        lambda: OneCycle(1.0, 10, warmup=0.0),
        lambda: OneCycle(1.0, 10, warmup=1.0),
    ],
)
def test_impossible_schedules_are_refused(make):
    """A rate of zero or a warm-up without end would train nothing, silently."""
    with pytest.raises(InvalidArgumentError, match="found"):
        make()
