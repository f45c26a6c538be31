"""Numbers and lines as people read them."""

import io
import math

import pytest

from heatbath.cli import output, progress
from heatbath.cli.compare import match
from heatbath.experiments.drive import Beat


@pytest.mark.parametrize(
    ("value", "error", "unit", "text"),
    [
        (1.23456, 0.0567, "kT", "1.235 ± 0.057 kT"),
        (-12.3, 4.4, "1", "-12.3 ± 4.4"),
        (1234.5, 67.8, "kJ/mol", "1234 ± 68 kJ/mol"),
        (0.5, None, "1", "0.5 (no error)"),
        (None, None, "kT", "unknown"),
        (math.nan, 1.0, "kT", "unknown"),
        (3.0, 0.0, "1", "3 ± 0"),
    ],
)
def test_errors_decide_the_digits(value, error, unit, text):
    """Digits below the error are noise that looks like knowledge."""
    assert output.with_error(value, error, unit) == text


def test_amounts():
    """Eight-digit numbers cannot be read at a glance."""
    assert output.amount(12_345) == "12 345"
    assert output.amount(1_234_567) == "1.23 million"
    assert output.size(1536) == "1.54 kB"
    assert output.duration(42.4) == "42 s"
    assert output.duration(185) == "3 min 05 s"
    assert output.duration(7800) == "2 h 10 min"


def test_a_progress_line_says_rate_time_and_science():
    """A bar that only moves does not say whether the run is any good."""
    beat = Beat("production", 0.25, 500, 12.0, 36.0, 2.5e6, {"round_trips": 7.0, "evaluations": 1.0})
    text = progress.line(beat)
    for part in ("production  25 %", "500 draws", "2.5 million energies/s", "36 s left", "round trips 7"):
        assert part in text


def test_plain_progress_is_rare(capsys):
    """One line per chunk would fill the log of a batch job."""
    plain = progress.PlainProgress()
    for index in range(100):
        plain.beat(Beat("production", index / 100, index, 0.1 * index, 1.0, 1e3, {}))
    assert len(capsys.readouterr().err.splitlines()) == 1
    plain.beat(Beat("production", 1.0, 100, 10.0, 0.0, 1e3, {}))
    assert "100 %" in capsys.readouterr().err


def test_terminal_progress_draws_one_line(monkeypatch):
    """On a terminal the line is redrawn, and colours stay off where the user says so."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    with progress.reporting(quiet=False) as reporter:
        reporter.beat(Beat("warm-up", 0.5, 0, 1.0, 1.0, 1e3, {"acceptance": 0.65}))
        reporter.notice("a sentence [with brackets]")
    assert "acceptance 0.65" in stream.getvalue()
    assert "a sentence [with brackets]" in stream.getvalue()
    assert not output.colours(stream)
    monkeypatch.delenv("NO_COLOR")
    assert output.colours(stream)


def test_comparison_combines_errors():
    """A difference without its error says nothing."""

    def results(value, error, unit="kT"):
        return {
            "free_energy_differences": [
                {"from": "a", "to": "b", "value": {"value": value, "standard_error": error, "unit": unit}}
            ],
            "estimates": {"energy": {"value": 1.0, "standard_error": None, "unit": "1"}},
        }

    rows = match(results(1.0, 0.3), results(2.0, 0.4))
    assert [row["name"] for row in rows] == ["free energy of b relative to a", "energy"]
    assert rows[0]["sigmas"] == pytest.approx(2.0)
    assert rows[1]["sigmas"] is None
    assert len(match(results(1.0, 0.3), results(1.0, 0.3, "kJ/mol"))) == 1
