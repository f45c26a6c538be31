"""Limits of numbers in a configuration."""

import math
from types import SimpleNamespace

import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.experiments.limits import check_counts, check_positive

CONFIG = SimpleNamespace(goal=0.5, part=SimpleNamespace(count=3, words="auto", rate=0.0, bad=math.nan))


def test_numbers_within_their_limits_pass_and_words_are_left_alone():
    """A least value is allowed itself, so is the most; "auto" is no number."""
    check_counts(CONFIG, {"part.count": 3, "part.words": 7})
    check_counts(CONFIG.part, {"count": (1, 3)})
    check_positive(CONFIG, ("goal",))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_counts(CONFIG, {"part.count": 4}), "part.count must be at least 4; found 3"),
        (lambda: check_counts(CONFIG, {"part.count": (0, 2)}), "part.count must be between 0 and 2; found 3"),
        (lambda: check_counts(CONFIG.part, {"count": 4}, where="part."), "part.count must be at least 4; found 3"),
        (lambda: check_positive(CONFIG, ("goal", "part.rate")), "part.rate must be positive and finite; found 0.0"),
        (lambda: check_positive(CONFIG.part, ("bad",), where="part."), "part.bad must be positive and finite"),
    ],
)
def test_a_number_outside_is_named(call, message):
    """The message says which number, what was expected and what was found."""
    with pytest.raises(InvalidArgumentError, match=message):
        call()
