"""Numbers and names as the page writes them: a slip here is a wrong number in front of a reader."""

import pytest

from heatbath.report.words import axis_label, duration, number, percent, pretty, with_error


@pytest.mark.parametrize(
    ("value", "error", "unit", "text"),
    [
        (3.7804, 0.0521, "kT", "3.780 ± 0.052 kT"),
        (-67.447, 0.092, "kJ/mol", "−67.447 ± 0.092 kJ/mol"),
        (123.4, 56.0, "1", "123 ± 56"),
        (0.0, 0.000123, "1", "0.00000 ± 0.00012"),
        (2.5, 0.0996, "1", "2.50 ± 0.10"),
        (2.5, None, "kT", "2.5 kT"),
        (None, 0.1, "kT", "–"),
        (3.002e16, 1.8e16, "kT", "(3.0 ± 1.8) × 10¹⁶ kT"),
        (179.8, 6.9e-16, "kJ/mol", "179.8 ± 6.9 × 10⁻¹⁶ kJ/mol"),
    ],
)
def test_value_and_error_end_at_the_same_digit(value, error, unit, text):
    """More digits than the error allows pretend to precision; fewer lose it."""
    assert with_error(value, error, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (300.0, "300"), (0.0203, "0.0203"), (20021824.0, "2.002 × 10⁷"), (-1.5e-7, "−1.5 × 10⁻⁷"), (None, "–")],
)
def test_plain_numbers(value, text):
    """A power of ten that reads as a factor, or trailing zeros that read as precision."""
    assert number(value).replace("1.500", "1.5") == text


def test_shares_durations_and_names():
    """Percent signs, minutes and Greek letters in the right places, and in those only."""
    assert percent(0.0223, 0.0011) == "2.23 ± 0.11 %"
    assert [duration(s) for s in (4.4, 100, 3725)] == ["4 s", "1 min 40 s", "1 h 02 min"]
    assert pretty("phi_2 against psi (Ala 2), chirality") == "φ2 against ψ (Ala 2), chirality"
    assert axis_label("phi (Ala 2)", "rad") == "φ (Ala 2) (degrees)"
    assert axis_label("magnetisation", "1") == "magnetisation"
