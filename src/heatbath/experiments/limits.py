"""What every experiment refuses about its numbers, in the same words: counts below their least, lengths that are not positive."""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from heatbath.errors import InvalidArgumentError


def check_counts(config: Any, limits: Mapping[str, int | tuple[int, int]], *, where: str = "") -> None:
    """Hold whole numbers to their limits: ``{"section.name": least}`` or ``{"section.name": (least, most)}``.

    ``where`` stands before the names in the message when ``config`` is only a section. Words such as "auto" pass.
    Raises ``InvalidArgumentError`` naming the first number outside.
    """
    for path, limit in limits.items():
        value = _at(config, path)
        if isinstance(value, str):
            continue
        least, most = limit if isinstance(limit, tuple) else (limit, math.inf)
        if not least <= value <= most:
            wanted = f"at least {least}" if most == math.inf else f"between {least} and {most}"
            raise InvalidArgumentError(f"{where}{path} must be {wanted}; found {value}")


def check_positive(config: Any, paths: Iterable[str], *, where: str = "") -> None:
    """Hold numbers to being positive and finite; ``paths`` and ``where`` as above. Raises ``InvalidArgumentError``."""
    for path in paths:
        value = _at(config, path)
        if not (math.isfinite(value) and value > 0):
            raise InvalidArgumentError(f"{where}{path} must be positive and finite; found {value}")


def _at(config: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), config)
