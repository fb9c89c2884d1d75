"""Phoenix's frames, V2, as data: text as arrays of five, binary ones as PROTOCOL.md's "Frames" says.

text     [join_ref, ref, topic, event, payload]
binary   kind, one length byte a part, the parts, then the bytes
"""

from typing import Any, Final

import msgspec

Frame = tuple[str | None, str | None, str, str, Any]
"""join_ref, ref, topic, event, payload; the payload of a binary one is `bytes`."""

PUSH: Final = 0
REPLY: Final = 1
UTF8_BYTES_MAX: Final = 4
"""What a character takes at most."""
"""Kinds of binary frames."""

_FRAMES = msgspec.json.Decoder(Frame)


class Reply(msgspec.Struct, frozen=True):
    """The payload of a `phx_reply`."""

    status: str
    response: Any = None


class BadFrame(ValueError):
    """What came is no frame."""


def encode_frame(frame: Frame) -> str | bytes:
    """A frame as it is sent: binary where its payload is bytes.

    Raises:
        ValueError: A part of a binary frame's header has more than 255 bytes.
    """
    *header, payload = frame
    if not isinstance(payload, bytes):
        return msgspec.json.encode(frame).decode()
    parts = [(part or "").encode() for part in header]
    return b"".join((bytes((PUSH, *map(len, parts))), *parts, payload))


def exceeds(encoded: str | bytes, bytes_max: int) -> bool:
    """Whether an encoded frame has more bytes than that."""
    if isinstance(encoded, bytes) or len(encoded) > bytes_max:
        return len(encoded) > bytes_max
    return len(encoded) * UTF8_BYTES_MAX > bytes_max and len(encoded.encode()) > bytes_max


def decode_frame(message: str | bytes) -> Frame | None:
    """What came as a frame; None: a kind of binary frame that is not known here.

    Raises:
        BadFrame: It is none.
    """
    try:
        return _FRAMES.decode(message) if isinstance(message, str) else _decode_binary(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(str(error)) from error


def _decode_binary(message: bytes) -> Frame | None:
    kind = message[0] if message else None
    if kind == PUSH:
        (join_ref, topic, event), payload = _parts(message, 3)
        return join_ref, None, topic, event, payload
    if kind == REPLY:
        (join_ref, ref, topic, status), payload = _parts(message, 4)
        return join_ref, ref, topic, "phx_reply", {"status": status, "response": payload}
    return None


def _parts(message: bytes, count: int) -> tuple[list[str], bytes]:
    """The parts of a binary frame's header, and what comes behind it."""
    ends = 1 + count
    parts: list[str] = []
    for length in message[1:ends]:
        parts.append(message[ends : ends + length].decode())
        ends += length
    if len(parts) < count or ends > len(message):
        raise BadFrame("the frame ends within its header")
    return parts, message[ends:]
