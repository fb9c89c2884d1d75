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


def require_strict(raw: bytes, *, levels_max: int | None = LEVELS_MAX) -> None:
    """Refuse repeated keys, too many levels, integers beyond ±(2^53-1), NaN and infinities, and what is no JSON.

    Args:
        raw: JSON text in UTF-8.
        levels_max: How deep arrays and objects may stand inside each other. None checks the outermost object's keys
            alone: the rest is checked when its type is known.

    Raises:
        TooLoose: With the field, as far as it is known.
    """
    try:
        text = raw.decode()
        if levels_max is None:
            _require_once(_OUTER.decode(text))
            return
        _require_levels(raw, levels_max)
        _STRICT.decode(text)
    except UnicodeDecodeError as error:
        raise TooLoose("payload", "text is UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise TooLoose("payload", f"no JSON: {error}") from error


def _require_levels(raw: bytes, levels_max: int) -> None:
    if raw.count(b"[") + raw.count(b"{") <= levels_max:
        return
    level = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", raw)):
        level += 1 if bracket in b"[{" else -1
        if level > levels_max:
            raise TooLoose("payload", f"at most {levels_max} levels of arrays and objects")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _require_once(pairs)
    return members


def _require_once(pairs: Any) -> None:
    if not isinstance(pairs, list):
        return
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
