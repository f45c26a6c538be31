"""Refusing a run that does not fit into memory before it starts."""

from heatbath.errors import ResourceError
from heatbath.memory import available_bytes, readable_bytes
from heatbath.samplers.base import Sampler


def require_memory(sampler: Sampler, available: int | None = None) -> None:
    """Raise ``ResourceError`` when the draws of ``sampler`` would not fit into ``available`` bytes (default: what is free)."""
    cost = sampler.cost()
    available = available_bytes() if available is None else available
    if cost is None or available is None or cost.memory_bytes <= available:
        return
    raise ResourceError(
        f"this run would need {readable_bytes(cost.memory_bytes)} of memory for its draws and "
        f"{readable_bytes(available)} are free. Lower `samples`, `ladders` or `rungs`."
    )
