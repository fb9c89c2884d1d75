"""One direction of a task's bytes: chunks in order, then a checksum over all of them.

    seq 0, seq 1, seq 2, …  ──►  complete {checksum, total_size}  ──►  verified, closed

`seq` counts from 0 per task and direction, and a chunk is taken only as the next one. The reply to a chunk, sent once
it is stored, carries `next_seq`, the first missing one: that is the acknowledgement and the flow control. The checksum
is SHA-256 over the decoded bytes in seq order. If it or the size does not fit, the stream stays open.

A chunk that is stored already and comes again with the same bytes is a duplicate: it is answered and does nothing.
"""

import base64
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from channels.errors import Conflict, Invalid, TooLarge
from channels.handlers import Limits
from crypto import ChecksumMismatch, SizeMismatch, StreamChecksum

if TYPE_CHECKING:  # A task has streams, so its module imports this one.
    from channels.task import Task

SEQ_MAX: Final = 2**53 - 1
"""The largest seq that every client's number holds exactly; no stream gets there."""

CHECKSUM_PREFIX: Final = "sha256:"

Direction = Literal["input", "output"]
"""`input` flows from client to provider, `output` from provider to client."""


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one direction has come.

    Args:
        next_seq: The first missing chunk, which is the number of those stored.
        size: Decoded bytes stored.
        is_complete: Closed by its sender, with a checksum that was verified.
        checksum: That SHA-256, 64 lower-case hex digits.
    """

    next_seq: int = 0
    size: int = 0
    is_complete: bool = False
    checksum: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether something came and all of it is verified: a stream closed without a chunk delivers nothing."""
        return self.is_complete and self.next_seq > 0


class StreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an event of a stream rests on.

    Args:
        task: The task of the topic; None where there is none.
        checksum: Over the chunks stored so far, for closing the stream. It is the server's: do not change it.
        stored: The chunk that is stored at the request's seq already; None where there is none.
    """

    task: "Task | None"
    checksum: StreamChecksum | None
    stored: bytes | None


class SendChunk(msgspec.Struct, frozen=True, kw_only=True):
    """The next chunk, ≤ 64 KiB once decoded. Standard padded base64 for bytes that are no text."""

    chunk: str
    seq: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
    encoding: Literal["utf8", "base64"] = "utf8"


class CloseStream(msgspec.Struct, frozen=True, kw_only=True):
    """There is no more: SHA-256 of the decoded bytes in hex, `sha256:` before it or not, and their number."""

    checksum: str
    total_size: int


def stream_snapshot(stream: StreamState) -> dict[str, Any]:
    """A stream as both parties see it. It is complete only with a verified checksum, so the two say the same."""
    return {
        "next_seq": stream.next_seq,
        "total_size": stream.size,
        "complete": stream.is_complete,
        "verified": stream.is_complete,
        "checksum": stream.checksum,
    }


def decode_chunk(request: SendChunk) -> bytes:
    """The bytes of a chunk.

    Raises:
        Invalid: `invalid_payload`: not what `encoding` says, or empty.
    """
    try:
        chunk = request.chunk.encode() if request.encoding == "utf8" else base64.b64decode(request.chunk, validate=True)
    except ValueError as error:
        raise _bad_chunk(request) from error
    if request.encoding == "base64" and base64.b64encode(chunk).decode() != request.chunk:
        raise _bad_chunk(request)  # Bits beyond the last byte: the same bytes have one form only.
    if not chunk:
        raise Invalid("invalid_payload", "A chunk is not empty; a stream without bytes is closed at once.", field="chunk")
    return chunk


def append(stream: StreamState, *, seq: int, chunk: bytes, limits: Limits) -> StreamState:
    """The stream with one chunk more.

    Raises:
        Conflict: `stream_closed`; `seq_conflict`: other bytes stand there; `seq_out_of_window`: not the next one yet;
            both with next_seq.
        TooLarge: `chunk_too_large`, `stream_too_large`.
    """
    if stream.is_complete:
        raise stream_closed(stream)
    if seq < stream.next_seq:
        raise Conflict(
            "seq_conflict", f"Chunk {seq} is stored with other bytes.", seq=seq, next_seq=stream.next_seq
        )
    if seq > stream.next_seq:
        raise Conflict(
            "seq_out_of_window", f"The next chunk is {stream.next_seq}, not {seq}.", seq=seq, next_seq=stream.next_seq
        )
    if len(chunk) > limits.chunk_bytes_max:
        raise TooLarge(
            "chunk_too_large",
            f"A chunk has at most {limits.chunk_bytes_max} bytes, not {len(chunk)}.",
            chunk_bytes_max=limits.chunk_bytes_max,
        )
    size = stream.size + len(chunk)
    if size > limits.stream_bytes_max:
        raise TooLarge(
            "stream_too_large",
            f"A stream has at most {limits.stream_bytes_max} bytes; with this chunk it would have {size}.",
            stream_bytes_max=limits.stream_bytes_max,
        )
    return msgspec.structs.replace(stream, next_seq=seq + 1, size=size)


def close(stream: StreamState, *, checksum: StreamChecksum, request: CloseStream) -> StreamState:
    """The stream closed, if what its sender says of it fits what came.

    Args:
        stream: The stream.
        checksum: Over the stored chunks.
        request: What its sender says.

    Raises:
        Conflict: `stream_closed`.
        Invalid: `size_mismatch`, `checksum_mismatch`, with what is here; the stream stays open.
    """
    if stream.is_complete:
        raise stream_closed(stream)
    try:
        checksum.require(checksum=request.checksum, total_size=request.total_size)
    except (SizeMismatch, ChecksumMismatch) as error:
        raise Invalid(error.reason, str(error), next_seq=stream.next_seq, **error.context) from error
    return msgspec.structs.replace(stream, is_complete=True, checksum=checksum.hexdigest())


def is_closed_so(stream: StreamState, request: CloseStream) -> bool:
    """Whether the stream was closed with just these fields, so that closing it again is a duplicate."""
    offered = request.checksum.removeprefix(CHECKSUM_PREFIX).lower()
    return stream.is_complete and (offered, request.total_size) == (stream.checksum, stream.size)


def stream_closed(stream: StreamState) -> Conflict:
    """The refusal of anything new on a stream that is closed."""
    return Conflict(
        "stream_closed", "This stream is complete; nothing can be added to it.", next_seq=stream.next_seq
    )


def _bad_chunk(request: SendChunk) -> Invalid:
    forms = {"utf8": "text that UTF-8 can hold", "base64": "standard padded base64"}
    return Invalid("invalid_payload", f"The chunk is not {forms[request.encoding]}.", field="chunk")
