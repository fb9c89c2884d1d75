"""Chunks as they are sent: in JSON as text or base64, or as the payload of a binary frame.

JSON      {"chunk": "…", "seq": 7, "encoding": "utf8" | "base64"}
binary    seq as 8 bytes, big-endian, then the bytes
"""

import base64
import binascii
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec

from channels.errors import Invalid
from channels.wire import InvalidPayload

SEQ_MAX: Final = 2**53 - 1
"""The largest seq that every client's number holds exactly; no stream gets there."""

SEQ_BYTES: Final = 8
QUANTUM_BYTES, QUANTUM_CHARS = 3, 4
"""What base64 encodes at a time, and into how much."""

Encoding = Literal["utf8", "base64", "binary"]


class SendChunk(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A chunk, ≤ 64 KiB once decoded. Standard padded base64 for bytes that are no text."""

    chunk: str
    seq: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
    encoding: Literal["utf8", "base64"] = "utf8"

    @cached_property
    def data(self) -> bytes:
        """The bytes that it stands for.

        Raises:
            ValueError: It is not what `encoding` says.
        """
        return self.chunk.encode() if self.encoding == "utf8" else _from_base64(self.chunk)

    @property
    def shown(self) -> dict[str, Any]:
        """As receivers get it in JSON."""
        return {"chunk": self.chunk, "encoding": self.encoding}

    @property
    def binary(self) -> bytes | None:
        """As receivers get it who take binary frames: as it came, which was JSON."""
        return None


class BinaryChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that came in a binary frame, ≤ 64 KiB.

    Args:
        seq: Counts from 0.
        data: Its bytes, at least one.
    """

    seq: int
    data: bytes

    encoding: Encoding = "binary"

    @property
    def shown(self) -> dict[str, Any]:
        """As receivers get it in JSON, where bytes become base64."""
        return {"chunk": self.data, "encoding": "base64"}

    @property
    def binary(self) -> bytes | None:
        """As receivers get it who take binary frames."""
        return binary_chunk(self.seq, self.data)


Chunk = SendChunk | BinaryChunk


def data_of(chunk: Chunk) -> bytes:
    """A chunk's bytes, at least one.

    Raises:
        Invalid: `invalid_payload`: it is not what its encoding says, or empty.
    """
    try:
        data = chunk.data
    except ValueError as error:
        forms = {"utf8": "text that UTF-8 can hold", "base64": "standard padded base64"}
        raise Invalid("invalid_payload", f"The chunk is not {forms[chunk.encoding]}.", field="chunk") from error
    if not data:
        raise Invalid("invalid_payload", "A chunk is not empty; close a stream without bytes at once.", field="chunk")
    return data


def read_binary_chunk(payload: bytes) -> BinaryChunk:
    """The chunk in a binary frame.

    Raises:
        InvalidPayload: There is no seq, or nothing behind it, or the seq is out of range.
    """
    if len(payload) <= SEQ_BYTES:
        raise InvalidPayload("payload", "a binary chunk is its seq in 8 bytes, big-endian, and at least one byte more")
    seq = int.from_bytes(payload[:SEQ_BYTES], "big")
    if seq > SEQ_MAX:
        raise InvalidPayload("seq", f"a seq is at most {SEQ_MAX}")
    return BinaryChunk(seq=seq, data=payload[SEQ_BYTES:])


def binary_chunk(seq: int, data: bytes) -> bytes:
    """The payload of a binary frame that carries a chunk."""
    return seq.to_bytes(SEQ_BYTES, "big") + data


def replayed(seq: int, data: bytes, encoding: Encoding) -> dict[str, Any]:
    """A stored chunk as receivers get it in JSON: text where it was sent as text, else base64."""
    if encoding == "utf8":
        return {"seq": seq, "chunk": data.decode(), "encoding": "utf8", "replay": True}
    return {"seq": seq, "chunk": data, "encoding": "base64", "replay": True}


def _from_base64(text: str) -> bytes:
    """The bytes of standard padded base64, of which the same bytes have one form only.

    Raises:
        ValueError: It is none.
    """
    data = binascii.a2b_base64(text, strict_mode=True)
    last = data[-(len(data) % QUANTUM_BYTES or QUANTUM_BYTES) :]
    if base64.b64encode(last).decode() != text[-QUANTUM_CHARS:]:  # Bits beyond the last byte, or no padding.
        raise ValueError("it has bits beyond its last byte")
    return data
