"""Numbers and names as people read them."""

import math
import re
from collections.abc import Mapping
from typing import Any

_GREEK = {"phi": "φ", "psi": "ψ", "omega": "ω", "chi": "χ", "theta": "θ"}
_ANGLES = re.compile(r"(?<![A-Za-z])(phi|psi|omega|chi|theta)(_)?(?![A-Za-z])")
#: Units whose written form differs from their name.
_UNITS = {"1": "", "k_B": "kB"}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
DASH = "–"


def with_error(value: float | int | None, error: float | int | None, unit: str = "1") -> str:
    """``1.234 ± 0.056 unit``: the error to two digits, the value to the same place."""
    if value is None:
        return DASH
    unit = _UNITS.get(unit, unit)
    tail = f" {unit}" if unit else ""
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{number(value)}{tail}"
    places = max(0, 1 - int(f"{error:.1e}".split("e")[1]))  # of the rounded error: 0.0996 is 0.10
    if places > 6 or abs(value) >= 1e7:
        return f"{value:.4g} ± {error:.2g}{tail}"
    return f"{value:.{places}f} ± {error:.{places}f}{tail}".replace("-", "−")


def number(value: int | float | None, digits: int = 4) -> str:
    """A number to ``digits`` significant digits, thousands apart; a dash for None."""
    if value is None:
        return DASH
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        places = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
        text = f"{value:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text.replace(",", "\u202f").replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")


def percent(value: float | int | None, error: float | int | None = None) -> str:
    """A share as a percentage, with its error where there is one."""
    if value is None:
        return DASH
    if error is None:
        return f"{number(100 * value, 3)} %"
    return f"{with_error(100 * value, 100 * error)} %"


def duration(seconds: float | int | None) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return DASH
    total = round(seconds)
    if total < 60:
        return f"{seconds:.0f} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def pretty(name: str) -> str:
    """Greek letters for the angles that are called by them: ``phi_2`` is φ2, ``chirality`` stays; ± for +-."""
    return _ANGLES.sub(lambda match: _GREEK[match[1]], name.replace("+-", "±"))


def estimate(fields: Mapping[str, Any]) -> str:
    """The text of an estimate as results.json holds it (scalar values)."""
    return with_error(fields.get("value"), fields.get("standard_error"), fields.get("unit", "1"))


def axis_label(label: str, unit: str) -> str:
    """``φ (degrees)``: what an axis says; radians are shown as degrees."""
    shown = {"1": "", "rad": "degrees"}.get(unit, unit)
    return f"{pretty(label)} ({shown})" if shown else pretty(label)
