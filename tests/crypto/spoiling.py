"""JSON values with one place changed, for whoever has to refuse them."""

from collections.abc import Iterator
from typing import Any

from .test_canonical import nested

Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place in a JSON value but the top."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*place, name)
        yield from places(item, (*place, name))


def holder(document: Any, place: Place) -> Any:
    """The object or list that has the place in it."""
    value: Any = document
    for name in place[:-1]:
        value = value[name]
    return value


def alterations(value: Any) -> Iterator[Any]:
    """Other values to put in its place: of every type, and near it."""
    yield from (
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        2**53,
        10**400,
        1.5,
        "",
        "x",
        "-",
        [],
        [[]],
        {},
        {"": None},
        nested(500),
    )
    if isinstance(value, str):
        yield from (value + "\n", value[:-1], value[::-1], value.upper(), value.swapcase(), value * 2)
    if isinstance(value, int):
        yield from (value + 1, value - 1, float(value), str(value))
    if isinstance(value, list):
        yield from (value[1:], value[:-1], value[::-1], value * 2, value * 50)
    if isinstance(value, dict):
        yield from ({**value, "more": 1}, {**value, 1: 1}, list(value), list(value.items()))


def is_same(altered: Any, value: Any) -> bool:
    """Whether the alteration is none; Python alone takes true for 1."""
    return type(altered) is type(value) and bool(altered == value)
