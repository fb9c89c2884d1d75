"""The wire as data: Phoenix frames V1 and V2, decoded once and encoded once.

V2 text is `[join_ref, ref, topic, event, payload]`, V1 an object with topic, event, payload and ref. The payload stays
raw until the event is known.
"""

import base64
import enum
import json
import re
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

PHX_JOIN: Final = "phx_join"
PHX_LEAVE: Final = "phx_leave"
PHX_REPLY: Final = "phx_reply"
PHX_CLOSE: Final = "phx_close"
PHX_ERROR: Final = "phx_error"
HEARTBEAT: Final = "heartbeat"
PHOENIX: Final = "phoenix"
PART_BYTES_MAX: Final = 255
INT_MAX: Final = 2**53 - 1
LEVELS_MAX: Final = 64
T = TypeVar("T")


class Vsn(enum.IntEnum):
    V1 = 1
    V2 = 2


class UnsupportedVersion(Exception):
    pass


class BadFrame(Exception):
    pass


class InvalidPayload(Exception):
    reason = "invalid_payload"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def parse_vsn(text: str | None) -> Vsn:
    if text is None:
        return Vsn.V1
    m = re.fullmatch(r"([12])\.0\.(0|[1-9]\d*)", text)
    if m is None:
        raise UnsupportedVersion(f"vsn {text!r} is not supported; use 2.0.0")
    return Vsn(int(m[1]))


class Frame(msgspec.Struct, frozen=True):
    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: Any
    binary: bool = False


class _V2(msgspec.Struct, array_like=True):
    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: msgspec.Raw


class _V1(msgspec.Struct):
    topic: str
    event: str
    payload: msgspec.Raw
    ref: Any
    join_ref: Any = None


_v1 = msgspec.json.Decoder(_V1).decode
_v2 = msgspec.json.Decoder(_V2).decode


def decode_frame(vsn: Vsn, message: str | bytes) -> Frame:
    try:
        if vsn is Vsn.V2:
            if isinstance(message, bytes):
                return _binary(message)
            a: Any = _v2(message)
        else:
            a = _v1(message)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, IndexError) as e:
        raise BadFrame(str(e)) from e
    return Frame(a.join_ref, a.ref, a.topic, a.event, a.payload)


def _binary(m: bytes) -> Frame:
    if not m or m[0] != 0:
        raise BadFrame("unknown binary kind")
    sizes = m[1:5]
    at = 5
    parts = []
    for size in sizes:
        if at + size > len(m):
            raise BadFrame("truncated")
        parts.append(m[at : at + size].decode())
        at += size
    return Frame(parts[0], parts[1], parts[2], parts[3], m[at:], True)


_enc = msgspec.json.Encoder().encode


def _js(v: Any) -> str:
    return _enc(v).decode()


def _b(v: Any) -> bytes:
    return b"" if v is None else (v if isinstance(v, str) else _js(v)).encode()


def encode_reply(vsn: Vsn, *, join_ref: Any, ref: Any, topic: str, status: str, response: Any) -> str | bytes:
    if isinstance(response, bytes):
        if vsn is Vsn.V2:
            parts = [_b(join_ref), _b(ref), topic.encode(), status.encode()]
            return bytes([1, *map(len, parts)]) + b"".join(parts) + response
        response = {"encoding": "base64", "data": base64.b64encode(response).decode()}
    payload = {"status": status, "response": response}
    if vsn is Vsn.V2:
        return _js((join_ref, ref, topic, PHX_REPLY, payload))
    return _js({"topic": topic, "event": PHX_REPLY, "payload": payload, "ref": ref})


class Outgoing:
    __slots__ = ("_last", "_tail", "_v1", "event", "payload", "topic")

    def __init__(self, topic: str, event: str, payload: Any) -> None:
        self.topic, self.event, self.payload = topic, event, payload
        self._tail: str | None = None
        self._v1: str | None = None

    def frame_for(self, vsn: Vsn, join_ref: Any) -> str | bytes:
        if vsn is Vsn.V2:
            if isinstance(self.payload, bytes):
                parts = [_b(join_ref), self.topic.encode(), self.event.encode()]
                return bytes([0, *map(len, parts)]) + b"".join(parts) + self.payload
            if self._tail is None:
                self._tail = ",null," + _js((self.topic, self.event, self.payload))[1:]
            return "[" + _js(join_ref) + self._tail
        if self._v1 is None:
            p = self.payload
            if isinstance(p, bytes):
                p = {"encoding": "base64", "data": base64.b64encode(p).decode()}
            self._v1 = _js({"topic": self.topic, "event": self.event, "payload": p, "ref": None})
        return self._v1


def encode_lifecycle(vsn: Vsn, *, join_ref: Any, topic: str, event: str, payload: Any) -> str:
    if vsn is Vsn.V2:
        return _js((join_ref, join_ref, topic, event, payload))
    return _js({"topic": topic, "event": event, "payload": payload, "ref": join_ref})


@lru_cache(maxsize=512)
def _decoder(t: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(t)


def decode_payload(raw: Any, type_: Any) -> Any:
    if isinstance(raw, bytes):
        raise InvalidPayload("payload", "JSON was expected")
    try:
        return _decoder(type_).decode(raw)
    except msgspec.ValidationError as e:
        raise InvalidPayload("payload", str(e)) from e
    except (msgspec.DecodeError, RecursionError) as e:
        raise InvalidPayload("payload", str(e)) from e
