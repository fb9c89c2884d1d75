"""Stricter than JSON has to be: what two readers could take for two things, or break on, is refused.

msgspec decodes to types and lets a repeated key win silently; money is no place for that. Nearly all that clients send
is what a plain writer would write, spaces aside, and text that comes out again as it went in has no key twice: so much
is seen at msgspec's speed. Whatever else comes is read once more as it was written, member by member.
"""

import json
import math
import re
from typing import Any, Final

import msgspec

INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every client's number holds exactly."""

LEVELS_MAX: Final = 64
THE_WHOLE: Final = "payload"
"""What a refusal calls the field where it is the whole that is wrong."""

QUOTED_CHARS_MAX: Final = 200
"""A refusal repeats at most so much of what was sent."""

_TOO_DEEP: Final = f"at most {LEVELS_MAX} levels of arrays and objects"
_TWICE: Final = "stands twice in one object"
_NOT_UTF8: Final = "text is UTF-8, without half surrogate pairs"
_TOO_LARGE: Final = f"integers are within ±{INTEGER_MAX}"
_NOT_FINITE: Final = "numbers are finite"

_SHAPES: Final = bytes.maketrans(b"123456789{", b"000000000[")
"""Every digit as 0 and every opening bracket as [: what may be large or deep shows by its shape."""

_MANY_DIGITS: Final = b"0" * len(str(INTEGER_MAX))
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")

_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


class TooLoose(ValueError):
    """JSON that is refused though some reader would take it; `field` says where."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class _Members(list[tuple[str, Any]]):
    """An object as it was written, repeated keys and all."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


_AS_WRITTEN: Final = json.JSONDecoder(
    object_pairs_hook=_Members, parse_int=_Number, parse_float=_Number, parse_constant=_Number
)

_Place = tuple[Any, str | int] | None
"""Where a value stands: the place of what it stands in, and its key or index there. The outermost stands nowhere."""


def require_strict(raw: bytes) -> None:
    """Refuse repeated keys, too many levels, integers beyond ±(2^53-1), NaN and infinities, and what is no JSON.

    Raises:
        TooLoose: With the field, as in `terms.languages[0]`, or `payload` for the whole.
    """
    try:
        _require_strict(raw)
    except RecursionError as error:
        raise TooLoose(THE_WHOLE, _TOO_DEEP) from error


def require_distinct_keys(text: str | bytes) -> None:
    """Refuse a repeated key of the outermost object; what stands inside is checked when its type is known.

    Args:
        text: A JSON object.

    Raises:
        TooLoose: With the key.
        UnicodeDecodeError: It is not UTF-8.
        RecursionError: It is nested deeper than this machine reads.
    """
    members: _Members = _AS_WRITTEN.decode(text if isinstance(text, str) else text.decode())
    keys: set[str] = set()
    for key, _ in members:
        if key in keys:
            raise TooLoose(quoted(key), _TWICE)
        keys.add(key)


def quoted(text: str) -> str:
    """What was sent, as a refusal may repeat it: short, and fit to be encoded."""
    short = text if len(text) <= QUOTED_CHARS_MAX else text[:QUOTED_CHARS_MAX] + "…"
    return _HALF_A_PAIR.sub("\N{REPLACEMENT CHARACTER}", short)


def _require_strict(raw: bytes) -> None:
    try:
        value = _read(raw)
    except ValueError as error:
        raise _unreadable(raw, error) from error
    shapes = raw.translate(_SHAPES)
    if shapes.count(b"[") > LEVELS_MAX:
        _require_levels(value)
    if _MANY_DIGITS in shapes or not _is_as_written_plainly(raw, value):
        _require_members(raw.decode())


def _is_as_written_plainly(raw: bytes, value: Any) -> bool:
    written = _write(value)
    return written == raw or written == msgspec.json.format(raw, indent=-1)


def _require_levels(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(LEVELS_MAX):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if outer.__class__ is dict else outer)
            if inner.__class__ is dict or inner.__class__ is list
        ]
        if not level:
            return
    raise TooLoose(THE_WHOLE, _TOO_DEEP)


def _unreadable(raw: bytes, error: ValueError) -> TooLoose:
    """What is wrong with JSON that msgspec does not read: the field that a laxer reader would take, or its sentence."""
    if isinstance(error, UnicodeDecodeError):
        return TooLoose(THE_WHOLE, _NOT_UTF8)
    try:
        _require_members(raw.decode())
    except TooLoose as refusal:
        return refusal
    except ValueError:
        pass  # The laxer reader does not take it either.
    return TooLoose(THE_WHOLE, f"no JSON: {error}")


def _require_members(text: str) -> None:
    _require_value(_AS_WRITTEN.decode(text), None)


def _require_value(value: Any, place: _Place) -> None:
    kind = value.__class__
    if kind is _Members:
        keys: set[str] = set()
        for key, inner in value:
            if key in keys:
                raise TooLoose(_path((place, key)), _TWICE)
            keys.add(key)
            _require_text(key, (place, key))
            _require_value(inner, (place, key))
    elif kind is list:
        for index, inner in enumerate(value):
            _require_value(inner, (place, index))
    elif kind is _Number:
        _require_number(value, place)
    elif kind is str:
        _require_text(value, place)


def _require_text(text: str, place: _Place) -> None:
    if not text.isascii() and _HALF_A_PAIR.search(text):
        raise TooLoose(_path(place), _NOT_UTF8)


def _require_number(number: str, place: _Place) -> None:
    digits = number.removeprefix("-")
    if digits.isdecimal():
        if len(digits) > len(_MANY_DIGITS) or int(digits) > INTEGER_MAX:
            raise TooLoose(_path(place), _TOO_LARGE)
    elif not math.isfinite(float(number)):
        raise TooLoose(_path(place), _NOT_FINITE)


def _path(place: _Place) -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return quoted("".join(reversed(steps)).removeprefix(".")) or THE_WHOLE
