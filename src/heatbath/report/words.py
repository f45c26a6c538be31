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
    if abs(value) >= 1e7:
        power = math.floor(math.log10(abs(value)))
        scaled = with_error(value / 10.0**power, error / 10.0**power)
        return f"({scaled}) × 10{str(power).translate(_SUPERSCRIPTS)}{tail}"
    if places > 6:
        return f"{number(value)} ± {number(error, 2)}{tail}"
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


def small_share(value: float | int | None) -> str:
    """A share as a percentage, or that it is below what matters."""
    return "less than 0.001 %" if value is not None and 0 <= value < 1e-5 else percent(value)


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


# Sentences about weights ---------------------------------------------------------------------------------------------

#: Effective draws below which an average is an accident of a few configurations.
FEW_EFFECTIVE_DRAWS = 100.0
#: A forward effective share this many times below the reverse one says that the model misses configurations.
MISSING_FACTOR = 5.0


def few_effective_draws(effective: float | int | None, draws: int | None) -> str:
    """What to say of weights that leave too few effective draws; empty when they leave enough."""
    if effective is None or effective >= FEW_EFFECTIVE_DRAWS:
        return ""
    total = "" if draws is None else f" {number(draws, 8)}"
    return (
        f"The{total} weighted draws are worth no more than {number(effective, 2)} of equal weight: averages rest on a few "
        "configurations and mean nothing yet. Train the model longer, draw more, anneal from the model (--method flow-smc), "
        "or sample by replica exchange."
    )


def missed_modes(ess: Mapping[str, Any]) -> str:
    """What to say when reference draws are much less probable under the model than its own draws suggest."""
    own, forward = ess.get("fraction"), ess.get("forward_fraction")
    if not own or forward is None or forward * MISSING_FACTOR > own:
        return ""
    return (
        f"The model hardly draws some configurations of the reference: its own draws look {percent(own)} effective, "
        f"reference draws {small_share(forward)}. Weights cannot bring back what was never drawn."
    )


# The verdict ---------------------------------------------------------------------------------------------------------


def is_training(results: Mapping[str, Any]) -> bool:
    """Whether the run made a model and no draws."""
    return str(results.get("method", "")).startswith("training")


def verdict_words(results: Mapping[str, Any]) -> dict[str, str]:
    """The word for a good and a bad verdict, and what to do then: of draws, or of a training, which has no numbers to use."""
    if is_training(results):
        return {"good": "Usable model", "bad": "Not usable yet", "advice": "Do not sample from this model yet:"}
    return {"good": "Converged", "bad": "Not converged", "advice": "Do not use these numbers yet:"}
