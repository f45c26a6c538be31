"""Refusing a run that does not fit into memory before it starts."""

import os
from pathlib import Path

from heatbath.errors import ResourceError
from heatbath.samplers.base import Sampler


def available_bytes() -> int | None:
    """Memory that can be had without swapping, or None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def require_memory(sampler: Sampler, available: int | None = None) -> None:
    """Raise ``ResourceError`` when the draws of ``sampler`` would not fit into ``available`` bytes (default: what is free)."""
    cost = sampler.cost()
    available = available_bytes() if available is None else available
    if cost is None or available is None or cost.memory_bytes <= available:
        return
    raise ResourceError(
        f"this run would need {_readable(cost.memory_bytes)} of memory for its draws and {_readable(available)} are free. "
        "Lower `samples`, `ladders` or `rungs`."
    )


def _readable(size: int) -> str:
    units = ("bytes", "KiB", "MiB", "GiB")
    power = min(len(units) - 1, max(0, int(size).bit_length() - 1) // 10)
    return f"{size / 1024**power:.3g} {units[power]}"
