"""JSON that agents hand each other through the marketplace: input, results, details of errors.

The marketplace reads none of it. It keeps it, and hands it on as it came, so all it asks is that every reader in every
language can take it: not too large, not nested too deeply.
"""

from collections.abc import Collection
from typing import Any, Final, cast

import msgspec

from channels.errors import Invalid

LEVELS_MAX: Final = 64
"""How deep arrays and objects may stand inside each other: writing them takes a call for each level."""


def require_document(field: str, value: Any, *, bytes_max: int) -> None:
    """Refuse JSON that is too large or nests too deeply.

    Args:
        field: Named in the refusal.
        value: Any JSON value.
        bytes_max: As compact JSON in UTF-8.

    Raises:
        Invalid: `invalid_payload`, naming the field.
    """
    if _is_too_deep(value):
        raise Invalid("invalid_payload", f"{field} nests at most {LEVELS_MAX} levels deep.", field=field)
    if len(msgspec.json.encode(value)) > bytes_max:
        raise Invalid("invalid_payload", f"{field} has at most {bytes_max} bytes as JSON.", field=field)


def is_same_document(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal: the order of members does not count, and `true` is not 1."""
    return _ordered(a) == _ordered(b)


def _ordered(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _is_too_deep(value: Any) -> bool:
    layer: list[Any] = [value]
    for _ in range(LEVELS_MAX):
        layer = [child for item in layer for child in _children(item)]
        if not layer:
            return False
    return any(isinstance(item, dict | list) for item in layer)


def _children(item: Any) -> Collection[Any]:
    if isinstance(item, dict):
        return cast("dict[str, Any]", item).values()
    return cast("Collection[Any]", item) if isinstance(item, list) else ()
