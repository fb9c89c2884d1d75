"""Stricter than JSON has to be: what two readers could take for two things, or break on, is refused.

msgspec decodes to types and lets a repeated key win silently; money is no place for that.
"""

import json
import re
from typing import Any, Final, NoReturn

INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every client's number holds exactly."""

LEVELS_MAX: Final = 64
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[][{}]")


class TooLoose(ValueError):
    """JSON that is refused though some reader would take it; `field` says where, as far as it is known."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def require_strict(raw: bytes) -> None:
    """Refuse repeated keys, too many levels, integers beyond ±(2^53-1), NaN and infinities, and what is no JSON.

    Raises:
        TooLoose: With the field, as far as it is known.
    """
    try:
        text = raw.decode()
        _require_levels(raw)
        _STRICT.decode(text)
    except UnicodeDecodeError as error:
        raise TooLoose("payload", "text is UTF-8") from error
    except json.JSONDecodeError as error:
        raise TooLoose("payload", f"no JSON: {error}") from error


def require_distinct_keys(text: str | bytes) -> None:
    """Refuse a repeated key of the outermost object; what stands inside is checked when its type is known.

    Args:
        text: A JSON object.

    Raises:
        TooLoose: With the key.
        RecursionError: It is nested deeper than this machine reads.
    """
    members: list[tuple[str, Any]] = _OUTER.decode(text if isinstance(text, str) else text.decode())
    _require_once(members)


def _require_levels(raw: bytes) -> None:
    if raw.count(b"[") + raw.count(b"{") <= LEVELS_MAX:
        return
    level = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", raw)):
        level += 1 if bracket in b"[{" else -1
        if level > LEVELS_MAX:
            raise TooLoose("payload", f"at most {LEVELS_MAX} levels of arrays and objects")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _require_once(pairs)
    return members


def _require_once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise TooLoose(name, "stands twice in one object")
        seen.add(name)


def _integer(digits: str) -> int:
    if len(digits) > len(str(-INTEGER_MAX)) or abs(int(digits)) > INTEGER_MAX:
        raise TooLoose("payload", f"integers are within ±{INTEGER_MAX}")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise TooLoose("payload", f"{name} is no JSON")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)
_OUTER: Final = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs)
