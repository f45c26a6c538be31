"""Quantities at the border."""

import pytest

from heatbath.errors import TemperatureError, UnitError
from heatbath.units import BOLTZMANN, beta_from_temperature, parse_quantity, temperature_from_beta


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("300 K", "temperature", 300.0),
        ("1 fs", "time", 1e-3),
        ("1.5e3fs", "time", 1.5),
        ("5 min", "duration", 300.0),
        ("90s", "duration", 90.0),
        ("2 nm", "length", 2.0),
        ("20 A", "length", 2.0),
        (0.25, "time", 0.25),
        ("-3", "energy", -3.0),
        ("1 kcal/mol", "energy", 4.184),
        ("2 /ps", "rate", 2.0),
    ],
)
def test_quantities_are_read_into_internal_units(text, dimension, value):
    """A wrong factor here would rescale every run."""
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("text", ["", "K", "300 Kelvins", "1 fs extra", "fs 1", "0x10 K"])
def test_unreadable_quantities_are_refused(text):
    """A typo must not become a number."""
    with pytest.raises(UnitError, match="expected a temperature"):
        parse_quantity(text, "temperature")


def test_a_unit_of_another_dimension_is_refused():
    """'300 fs' is no temperature."""
    with pytest.raises(UnitError, match="'fs'"):
        parse_quantity("300 fs", "temperature")


def test_beta_at_300_kelvin():
    """kT at 300 K is 2.494338785445972 kJ/mol."""
    assert 1 / beta_from_temperature("300 K", "kJ/mol") == pytest.approx(300 * BOLTZMANN, rel=1e-14)
    assert 1 / beta_from_temperature("300 K", "kcal/mol") == pytest.approx(300 * BOLTZMANN / 4.184, rel=1e-14)


@pytest.mark.parametrize("temperature", ["0 K", "-10 K", "nan K", float("nan"), float("inf"), 0])
def test_impossible_temperatures_are_refused(temperature):
    """beta = 1/0 or a negative beta would silently sample nonsense."""
    with pytest.raises((TemperatureError, UnitError)):
        beta_from_temperature(temperature, "kJ/mol")


def test_kelvin_has_no_meaning_for_reduced_targets():
    """A toy target has no kelvin."""
    with pytest.raises(TemperatureError, match="reduced units"):
        beta_from_temperature("300 K", "1")


@pytest.mark.parametrize("unit", ["1", "kJ/mol", "kcal/mol", "eV"])
def test_temperature_and_beta_are_inverses(unit):
    """Reports convert back; they must show what was asked."""
    assert temperature_from_beta(beta_from_temperature(412.5, unit), unit) == pytest.approx(412.5, rel=1e-13)
