"""Text on stdout: tables for people, JSON for programs, numbers with their errors."""

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from heatbath.io.run_directory import json_ready


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(json_ready(value), indent=1, allow_nan=False))


def print_table(rows: Iterable[Sequence[str]], *, head: Sequence[str] = ()) -> None:
    """Left-aligned columns, wide enough for their content, without frames: easy to read and to cut."""
    table = [[str(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    if not table:
        return
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(max(map(len, table)))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def with_error(value: int | float | None, error: int | float | None, unit: str = "1") -> str:
    """``1.234 ± 0.056 kT``: two digits of the error decide how many of the value are shown."""
    suffix = "" if unit in ("", "1") else f" {unit}"
    if value is None or not math.isfinite(value):
        return "unknown"
    if error is None or not math.isfinite(error):
        return f"{value:.4g} (no error){suffix}"
    if error == 0:
        return f"{value:.6g} ± 0{suffix}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}{suffix}" if digits < 9 else f"{value:.3g} ± {error:.2g}{suffix}"


def amount(count: int | float) -> str:
    """Large counts in words' length: ``1.23 million``."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:.3g} {word}"
    return f"{count:,.0f}".replace(",", " ")


def size(count: int | float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: int | float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def colours(stream: Any) -> bool:
    """Whether ``stream`` is a terminal whose user wants colours."""
    return stream.isatty() and "NO_COLOR" not in os.environ and "--no-color" not in sys.argv


def note(sentence: str) -> None:
    """A line on stderr."""
    print(sentence, file=sys.stderr, flush=True)
