"""Values that a field cannot take, drawn from the type of the field or from the value that it has."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Json = Any
# A place in nested JSON: names of fields and numbers of items.
Place = tuple[str | int, ...]

WHATEVER: list[Json] = [
    None,
    True,
    -1,
    0,
    1.5,
    math.nan,
    -math.inf,
    10**400,
    "no such value",
    "",
    [],
    {},
    [[]],
    {"a": []},
]
HALF_A_CHARACTER = "\ud800"


def config_fields(section: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give every dotted key of a section, the sections in it too, with its type."""
    for name, kind in get_type_hints(section).items():
        yield f"{prefix}{name}", kind
        if is_dataclass(kind):
            yield from config_fields(kind, f"{prefix}{name}.")


def impossible(kind: Any) -> list[Json]:
    """Give values that no field of a type can have."""
    return [value for value in WHATEVER if not _may_be(value, kind)]


def _may_be(value: Json, kind: Any) -> bool:
    """Whether a value is one of the type, or could be meant as one: a number as a text."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_may_be(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is dict:
        return isinstance(value, dict) and all(_may_be(one, inner[1]) for one in value.values())
    if origin is list:
        return isinstance(value, list) and all(_may_be(one, inner[0]) for one in value)
    if is_dataclass(kind):
        return value == {}
    if kind is NoneType:
        return value is None
    if kind is str:
        return not isinstance(value, dict | list | None)
    return _may_be_number(value, kind)


def _may_be_number(value: Json, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return isinstance(value, bool) and kind is bool
    if not isinstance(value, int | float):
        return False
    try:
        kind(value)
    except (ValueError, OverflowError):
        return False
    return not issubclass(kind, int) or isinstance(value, int)


def is_of_another_type(value: Json, original: Json) -> bool:
    """Whether no field that holds the original could hold the value; null tells nothing of the type."""
    if original is None or value is None:
        return False
    numbers = [isinstance(one, int | float) and not isinstance(one, bool) for one in (value, original)]
    return type(value) is not type(original) and not all(numbers)


def nested(place: Sequence[str | int], value: Json) -> Json:
    """Make objects that hold one value at a place."""
    return {place[0]: nested(place[1:], value)} if place else value


def places(value: Json, at: Place = ()) -> Iterator[Place]:
    """Give every place in a JSON value; of a list, its first item."""
    yield at
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from places(inner, (*at, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*at, 0))


def at(value: Json, place: Place) -> Json:
    """What stands at a place."""
    return at(value[place[0]], place[1:]) if place else value


def replaced(value: Json, place: Place, by: Json) -> Json:
    """Copy a JSON value with another one at a place."""
    if not place:
        return by
    inner = replaced(value[place[0]], place[1:], by)
    if isinstance(value, Mapping):
        return {**value, place[0]: inner}
    return [inner if number == place[0] else one for number, one in enumerate(value)]
