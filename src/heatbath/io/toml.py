"""Writing TOML: what configurations and model cards hold. Reading is the standard library's ``tomllib``."""

import json
from collections.abc import Mapping
from typing import Any

from heatbath.errors import UsageError


def to_toml(values: Mapping[str, Any], *, header: str = "") -> str:
    """``values`` as TOML text: plain keys first, then one table per nested mapping.

    Holds what configurations hold: strings, numbers, booleans, lists of these, tables. ``header`` becomes a comment.
    """
    lines = [f"# {line}" for line in header.splitlines()]
    _write_table(lines, (), values)
    return "\n".join(lines).strip() + "\n"


def as_toml(value: Any) -> str:
    """One value as TOML. Raises ``UsageError`` for what TOML, or this writer, cannot hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)  # inf and nan are spelt the same in TOML
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):  # TOML shares JSON's escapes; it also wants DEL escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    raise UsageError(f"a configuration cannot hold {value!r} of type {type(value).__name__}")


def _write_table(lines: list[str], path: tuple[str, ...], values: Mapping[str, Any]) -> None:
    plain = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
    if path and (plain or not values):
        lines += ["", "[" + ".".join(_key(name) for name in path) + "]"]
    lines += [f"{_key(name)} = {as_toml(value)}" for name, value in plain.items()]
    for name, value in values.items():
        if isinstance(value, Mapping):
            _write_table(lines, (*path, name), value)


def _key(name: str) -> str:
    return name if name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name) else as_toml(name)
