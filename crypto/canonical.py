"""Canonical JSON: one value, one sequence of bytes, so that a digest can stand for a document.

RFC 8785, restricted to what needs no rules for floats: objects, arrays, strings, booleans, null, and integers within
±(2^53−1). Members are sorted by the UTF-16 code units of their names, strings are escaped as little as possible, and
nothing is normalised: what is written differently in Unicode differs.

Source: RFC 8785, sections 3.2.2.2 (strings) and 3.2.3 (order of members).
"""

import json
from collections.abc import Sequence
from typing import Final, cast

from .errors import BadDocument
from .messages import INTEGER_MAX, digest

NESTING_MAX: Final = 64
"""Levels of arrays and objects inside each other."""

DOCUMENT_NESTING_MAX: Final = NESTING_MAX + 8
"""The same for a document that is digested: it wraps values, such as terms, that were taken by themselves before."""


def canonical_json(value: object, *, nesting_max: int = NESTING_MAX) -> bytes:
    """The value's canonical JSON in UTF-8.

    Args:
        value: Of dictionaries, lists, tuples, strings, booleans, None and integers.
        nesting_max: How many levels deep arrays and objects may stand inside each other.

    Raises:
        BadDocument: It holds a float, an integer beyond ±(2^53−1), a name that is no string, a lone surrogate, another
            kind of value, or too many levels. Names the place.
    """
    ordered = _ordered(value, (), nesting_max)
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def canonical_digest(value: object) -> str:
    """SHA-256 of the canonical JSON, 64 lower-case hex digits. Nesting may go up to `DOCUMENT_NESTING_MAX`.

    Raises:
        BadDocument: As by `canonical_json`.
    """
    return digest(canonical_json(value, nesting_max=DOCUMENT_NESTING_MAX))


def _ordered(value: object, path: tuple[str, ...], levels_left: int) -> object:
    """The same value with the members of every object in order; refused if it has no canonical form."""
    if not isinstance(value, (dict, list, tuple)):
        _require_scalar(value, path)
        return value
    if levels_left == 0:
        raise _bad_document("arrays and objects are nested too deeply", path)
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        return {name: _ordered(members[name], (*path, name), levels_left - 1) for name in _sorted_names(members, path)}
    items = cast("Sequence[object]", value)
    return [_ordered(item, (*path, str(index)), levels_left - 1) for index, item in enumerate(items)]


def _sorted_names(members: dict[object, object], path: tuple[str, ...]) -> list[str]:
    names = [name for name in members if isinstance(name, str)]
    if len(names) != len(members):
        raise _bad_document("a member's name is no string", path)
    try:
        return sorted(names, key=lambda name: name.encode("utf-16-be"))  # Big-endian bytes sort like code units.
    except UnicodeEncodeError as error:
        raise _bad_document("a member's name holds a lone surrogate", path) from error


def _require_scalar(value: object, path: tuple[str, ...]) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _bad_document("the string holds a lone surrogate", path) from error
    elif isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise _bad_document(f"integers are within ±{INTEGER_MAX}", path)
    elif isinstance(value, float):
        raise _bad_document("numbers are integers, without fraction or exponent", path)
    elif value is not None:
        raise _bad_document(f"a {type(value).__name__} is no value of JSON", path)


def _bad_document(trouble: str, path: tuple[str, ...]) -> BadDocument:
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)
    place = f"At {pointer}" if pointer else "At the top"
    return BadDocument(f"{place}: {trouble}.", pointer=pointer)
