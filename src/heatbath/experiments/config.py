"""Configurations: TOML on disk, one tree of frozen dataclasses in the program.

Every key is known and typed; a key that is not is an error that suggests the nearest one. Values come from, in rising
order: the defaults, a preset, a file, ``--set`` and options of the command line. Quantities are strings with a unit.
No JAX is imported here, so that mistakes are reported at once.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from heatbath.errors import HeatbathError, UsageError, nearest
from heatbath.io.toml import as_toml, to_toml
from heatbath.units import parse_quantity

__all__ = [
    "Quantity",
    "assignments",
    "build",
    "differences",
    "merge",
    "read",
    "to_dict",
    "to_toml",
]

Config = TypeVar("Config")
_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Marks a string field as a physical quantity: ``Annotated[str, Quantity("time")]`` accepts "2 fs" and 0.002.

    ``dimension`` is one of ``units.parse_quantity``. A value that is one of ``words`` (such as "auto") is accepted as it is.
    """

    dimension: str
    words: tuple[str, ...] = ()


def build(cls: type[Config], values: Mapping[str, Any], *, where: str = "") -> Config:
    """The dataclass ``cls`` with ``values`` (nested mappings for nested dataclasses); defaults elsewhere.

    Raises ``UsageError`` for an unknown key, a value of the wrong type, or a word that is not among the choices.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    known = {field.name for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    arguments = {}
    for name, value in values.items():
        path = f"{where}{name}"
        if name not in known:
            table = f"[{where.rstrip('.')}]" if where else "the configuration"
            raise UsageError(f"unknown key '{path}' in {table}. {nearest(name, known)}")
        arguments[name] = _convert(hints[name], value, path)
    return cls(**arguments)


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ``UsageError`` when it is missing or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"expected a configuration file, but '{path}' does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration file '{path}' cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"'{path}' is not valid TOML: {error}") from error


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over one another; later ones win key by key."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            old = result.get(name)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[name] = merge(typing.cast(Mapping, old), value) if both else value
    return result


def assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """``["a.b=3", "c=300 K"]`` as nested tables. A value that is not TOML is taken as a string.

    Raises ``UsageError`` for a pair without ``=`` or with an empty key.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        names = [name.strip() for name in path.split(".")]
        if not equals or not all(names):
            raise UsageError(f"--set expects key=value such as sampler.samples=2000; found {pair!r}")
        value: Any = _toml_value(text.strip())
        for name in reversed(names):
            value = {name: value}
        result = merge(result, value)
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """The tree as nested plain mappings."""
    return dataclasses.asdict(config)


def differences(first: Mapping[str, Any], second: Mapping[str, Any], *, where: str = "") -> list[tuple[str, Any, Any]]:
    """(key, value in ``first``, value in ``second``) of every leaf that differs; None stands for absent."""
    found = []
    for name in sorted({*first, *second}):
        one, two = first.get(name), second.get(name)
        if isinstance(one, Mapping) or isinstance(two, Mapping):
            tables = (v if isinstance(v, Mapping) else {} for v in (one, two))
            found += differences(*tables, where=f"{where}{name}.")
        elif one != two:
            found.append((f"{where}{name}", one, two))
    return found


# Types ----------------------------------------------------------------------------------------------------------------
def _convert(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UsageError(f"'{path}' is a table: write [{path}] and its keys below it; found {value!r}")
        return build(typing.cast(type, kind), value, where=f"{path}.")
    if origin is typing.Annotated:
        quantities = [mark for mark in arguments[1:] if isinstance(mark, Quantity)]
        return _quantity(quantities[0], value, path) if quantities else _convert(arguments[0], value, path)
    if origin in (types.UnionType, typing.Union):
        return _one_of(arguments, value, path)
    if origin is Literal:
        if value not in arguments:
            raise UsageError(f"'{path}' is {value!r}. {nearest(str(value), [str(a) for a in arguments])}")
        return value
    if dict in (kind, origin):
        if not isinstance(value, Mapping):
            raise UsageError(f"'{path}' is a table: write [{path}] and its keys below it; found {value!r}")
        return dict(value)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UsageError(f"'{path}' is a list such as [1, 2]; found {as_toml(value)}")
        return tuple(_convert(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"'{path}' must be {_WORDS.get(kind, kind.__name__)}; found {as_toml(value)}")
    return value


def _one_of(kinds: tuple, value: Any, path: str) -> Any:
    for kind in kinds:
        try:
            return _convert(kind, value, path)
        except UsageError:
            continue
    words = [repr(k.__args__[0]) if typing.get_origin(k) is Literal else _WORDS.get(k, str(k)) for k in kinds]
    raise UsageError(f"'{path}' must be {' or '.join(words)}; found {as_toml(value)}")


def _quantity(mark: Quantity, value: Any, path: str) -> str:
    if value in mark.words:
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"'{path}' must be a {mark.dimension} in quotes; found {as_toml(value)}")
    try:
        parse_quantity(value, mark.dimension)
    except HeatbathError as error:
        words = f" or {' or '.join(map(repr, mark.words))}" if mark.words else ""
        raise UsageError(f"'{path}': {error}{words}") from error
    return str(value)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
