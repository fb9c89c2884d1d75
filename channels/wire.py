"""The wire as data: Phoenix's frames, V1 and V2, text and binary, decoded once and encoded once.

    V2 text     [join_ref, ref, topic, event, payload]
    V1 text     {"topic", "event", "payload", "ref"}, and join_ref if a client sends one
    V2 binary   kind, one length byte a part, the parts, then the bytes (PROTOCOL.md, "Frames")

A frame's payload stays raw until its event, and with it the payload's type, is known; what is only handed on is never
decoded. Refs are opaque: they go back as they came. Text frames are `str`, binary frames `bytes`.

Source: Phoenix 1.8, as its clients observe it.
"""

import base64
import enum
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec

from channels.strictness import THE_WHOLE, TooLoose, quoted, require_distinct_keys, require_strict

PHX_JOIN: Final = "phx_join"
PHX_LEAVE: Final = "phx_leave"
PHX_REPLY: Final = "phx_reply"
PHX_CLOSE: Final = "phx_close"
PHX_ERROR: Final = "phx_error"
HEARTBEAT: Final = "heartbeat"
PHOENIX: Final = "phoenix"

PART_BYTES_MAX: Final = 255
"""A topic, an event and a ref have at most so many bytes: a binary frame's lengths are single bytes."""

PUSH, REPLY = 0, 1
"""Kinds of binary frames: from a client always a push."""

_PUSH_BYTE: Final = bytes((PUSH,))

HEADER_PARTS: Final = 4

SHORT_CHARS_MAX: Final = PART_BYTES_MAX // 4  # Rounds down: so many characters fit, four bytes each.

T = TypeVar("T")


class Vsn(enum.IntEnum):
    """The protocol version that a socket speaks: V1 objects, V2 arrays and binary frames."""

    V1 = 1
    V2 = 2


class UnsupportedVersion(Exception):
    """A `vsn` that is none of 1.0.x and 2.0.x."""


class BadFrame(Exception):
    """A message that is no frame. It closes the connection (1011)."""


class InvalidPayload(Exception):
    """A payload that does not fit its event: an error reply, the topic stays joined.

    Args:
        field: Where, as in `terms.languages[0]`; `payload` for the whole.
        problem: What is wrong there, short enough to be told.
    """

    reason = "invalid_payload"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message of a client. `payload` is raw JSON, or in a binary frame its bytes."""

    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: msgspec.Raw | bytes
    binary: bool = False


class _V2Frame(msgspec.Struct, array_like=True, gc=False):
    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: msgspec.Raw


class _V1Frame(msgspec.Struct, gc=False):
    topic: str
    event: str
    payload: msgspec.Raw
    ref: Any
    join_ref: Any = None


_decode_v1 = msgspec.json.Decoder(_V1Frame).decode
_decode_v2 = msgspec.json.Decoder(_V2Frame).decode
_encode = msgspec.json.Encoder().encode


def parse_vsn(text: str | None) -> Vsn:
    """The version of the query's `vsn`; absent means V1.

    Raises:
        UnsupportedVersion: It is not a full version 1.0.x or 2.0.x.
    """
    if text is None:
        return Vsn.V1
    known = re.fullmatch(r"([12])\.0\.(?:0|[1-9][0-9]*)", text)
    if known is None:
        raise UnsupportedVersion("This vsn is not spoken here; connect with vsn=2.0.0.")
    return Vsn(int(known[1]))


def decode_frame(vsn: Vsn, message: str | bytes) -> Frame:
    """A client's message as a frame. Under V1 a binary message is JSON text too.

    Elements after the fifth are ignored. The payload is only passed over, so all that is known of it is that it is
    JSON, and nested no deeper than this machine reads (some hundreds of levels).

    Raises:
        BadFrame: It is none.
    """
    if vsn is Vsn.V2 and isinstance(message, bytes):
        return _decode_binary(message)
    try:
        if vsn is Vsn.V2:
            parts: _V1Frame | _V2Frame = _decode_v2(message)
        else:
            parts = _decode_v1(message)
            require_distinct_keys(message)
    except (RecursionError, ValueError) as error:  # Of text that is no JSON, not UTF-8, or has a key twice.
        raise BadFrame(str(error)) from error
    topic, event, join_ref, ref = parts.topic, parts.event, parts.join_ref, parts.ref
    if len(topic) > SHORT_CHARS_MAX or len(event) > SHORT_CHARS_MAX:
        _require_short("a topic", topic)
        _require_short("an event", event)
    if not (join_ref is None or (join_ref.__class__ is str and len(join_ref) <= SHORT_CHARS_MAX)):
        _require_short("a ref", join_ref)
    if not (ref is None or (ref.__class__ is str and len(ref) <= SHORT_CHARS_MAX)):
        _require_short("a ref", ref)
    return Frame(join_ref, ref, topic, event, parts.payload)


def _require_short(what: str, part: Any) -> None:
    if len(_part(part)) > PART_BYTES_MAX:
        raise BadFrame(f"{what} has at most {PART_BYTES_MAX} bytes")


def _decode_binary(message: bytes) -> Frame:
    if message[:1] != _PUSH_BYTE:
        raise BadFrame("a client's binary frame begins with 0")
    start = 1 + HEADER_PARTS
    parts: list[str] = []
    for size in message[1:start]:
        end = start + size
        if end > len(message):
            raise BadFrame("the binary frame ends within its header")
        try:
            parts.append(message[start:end].decode())
        except UnicodeDecodeError as error:
            raise BadFrame("the binary frame's header is not UTF-8") from error
        start = end
    if len(parts) < HEADER_PARTS:
        raise BadFrame("the binary frame ends within its header")
    join_ref, ref, topic, event = parts
    return Frame(join_ref, ref, topic, event, message[start:], binary=True)


def encode_reply(vsn: Vsn, *, join_ref: Any, ref: Any, topic: str, status: str, response: Any) -> str | bytes:
    """A reply: any JSON value, struct or raw JSON; bytes go as a binary reply.

    V1 has no binary frames, so there bytes become `{"encoding": "base64", "data"}`. A binary reply's refs are text,
    null is empty.

    Raises:
        ValueError: A part of a binary reply's header has more than 255 bytes. No frame that was decoded has one.
    """
    if isinstance(response, bytes):
        if vsn is Vsn.V2:
            return _binary(REPLY, (join_ref, ref, topic, status), response)
        response = _as_json(response)
    payload = {"status": status, "response": response}
    if vsn is Vsn.V2:
        return _encode((join_ref, ref, topic, PHX_REPLY, payload)).decode()
    return _encode({"topic": topic, "event": PHX_REPLY, "payload": payload, "ref": ref}).decode()


def encode_lifecycle(vsn: Vsn, *, join_ref: Any, topic: str, event: str, payload: Any) -> str:
    """`phx_close` or `phx_error`, whose ref is the join's."""
    if vsn is Vsn.V2:
        return _encode((join_ref, join_ref, topic, event, payload)).decode()
    return _encode({"topic": topic, "event": event, "payload": payload, "ref": join_ref}).decode()


class Outgoing:
    """A push or broadcast, encoded once for many subscribers.

    Each V2 subscriber gets its own join_ref put before the shared rest: one concatenation. Each form is made when the
    first subscriber needs it, so the payload must not change any more.

    Args:
        topic: The topic.
        event: The event.
        payload: Any JSON value, struct or raw JSON; bytes go as binary frames, to V1 as `{"encoding", "data"}`, since
            a subscriber that cannot take bytes must not stop a broadcast.
    """

    __slots__ = ("_binary_rest", "_event", "_payload", "_rest", "_topic", "_v1")

    def __init__(self, topic: str, event: str, payload: Any) -> None:
        self._topic = topic
        self._event = event
        self._payload = payload
        self._rest: str | None = None
        self._binary_rest: tuple[bytes, bytes] | None = None
        self._v1: str | None = None

    def frame_for(self, vsn: Vsn, join_ref: Any) -> str | bytes:
        """The frame for a subscriber.

        Raises:
            ValueError: The payload is bytes, and topic, event or join_ref has more than 255 of them.
        """
        if vsn is Vsn.V1:
            return self._for_v1()
        if isinstance(self._payload, bytes):
            return self._for_binary(self._payload, join_ref)
        if self._rest is None:
            self._rest = ",null," + _encode((self._topic, self._event, self._payload))[1:].decode()
        if join_ref.__class__ is str and join_ref.isalnum():  # As every client's are: nothing to escape.
            return f'["{join_ref}"{self._rest}'
        return f"[{_encode(join_ref).decode()}{self._rest}"

    def _for_binary(self, payload: bytes, join_ref: Any) -> bytes:
        if self._binary_rest is None:
            topic, event = self._topic.encode(), self._event.encode()
            self._binary_rest = bytes((len(topic), len(event))), topic + event + payload
        lengths, rest = self._binary_rest
        own = _part(join_ref)
        return b"".join((bytes((PUSH, len(own))), lengths, own, rest))

    def _for_v1(self) -> str:
        if self._v1 is None:
            payload = _as_json(self._payload) if isinstance(self._payload, bytes) else self._payload
            message = {"topic": self._topic, "event": self._event, "payload": payload, "ref": None}
            self._v1 = _encode(message).decode()
        return self._v1


def decode_payload(payload: msgspec.Raw | bytes, type_: type[T]) -> T:
    """A raw payload as the struct of its event. Fields that the struct does not have are ignored, once they are read.

    Besides what the types say, refused are: a key that an object has twice, more than 64 levels, integers that not
    every client's number holds (beyond ±(2^53-1)), NaN and infinities, text that is not UTF-8, and half surrogates.

    Raises:
        InvalidPayload: With the field.
    """
    if not isinstance(payload, msgspec.Raw):
        raise InvalidPayload(THE_WHOLE, "JSON is expected here, not bytes")
    raw = bytes(payload)
    try:
        require_strict(raw)
        return cast("T", _decoder_of(cast("Any", type_))(raw))
    except TooLoose as error:
        raise InvalidPayload(error.field, error.problem) from error
    except msgspec.DecodeError as error:
        raise _invalid(str(error)) from error


def _invalid(sentence: str) -> InvalidPayload:
    """A sentence of msgspec's as a field and a problem. It may hold what was sent, so the place is the last one named.

    The sentence is `problem - at `$.terms[0]``, of a key `problem - at `key` in `$.terms``, of the whole `problem`.
    """
    parts = re.fullmatch(r"(.*) - at `(?:key` in `)?\$([^`]*)`", sentence, re.DOTALL)
    problem, field = (parts[1], parts[2].removeprefix(".")) if parts is not None else (sentence, "")
    missing = re.fullmatch(r"Object missing required field `([^`]+)`", problem)
    if missing is not None:
        return InvalidPayload(f"{field}.{missing[1]}" if field else missing[1], "is required")
    return InvalidPayload(field or THE_WHOLE, quoted(problem))


@lru_cache(maxsize=1_024)
def _decoder_of(type_: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(type_).decode


def _binary(kind: int, header: tuple[Any, ...], data: bytes) -> bytes:
    parts = [_part(value) for value in header]
    return bytes((kind, *map(len, parts))) + b"".join(parts) + data


def _part(value: Any) -> bytes:
    """A header part: null is empty, text as it is, another ref as its JSON."""
    if value is None:
        return b""
    return value.encode() if isinstance(value, str) else _encode(value)


def _as_json(data: bytes) -> dict[str, str]:
    return {"encoding": "base64", "data": base64.b64encode(data).decode()}
