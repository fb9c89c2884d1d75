"""The streams of a task: bytes both ways, in order, with a checksum at the end.

    seq 0, seq 1, seq 2, …  ──►  complete {checksum, total_size}  ──►  verified, closed

`seq` counts from 0 per task and direction, and a chunk is taken only as the next one. The reply to a chunk, sent once
it is stored, carries `next_seq`, the first missing one: that is the acknowledgement and the flow control. The checksum
is SHA-256 over the decoded bytes in seq order. If it or the size does not fit, the stream stays open.

A chunk that is stored already and comes again with the same bytes is a duplicate: it is answered and does nothing.
"""

import base64
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from channels.errors import Conflict, Invalid, TooLarge
from channels.handlers import Context, Decision, Limits, StoreChunk
from channels.task_state import (
    Direction,
    Role,
    StreamState,
    Task,
    relayed,
    require_role,
    require_running,
    started,
    stream_snapshot,
    told,
)
from crypto import ChecksumMismatch, SizeMismatch, StreamChecksum

SEQ_MAX: Final = 2**53 - 1
"""The largest seq that every client's number holds exactly; no stream gets there."""

CHECKSUM_PREFIX: Final = "sha256:"
SENDERS: Final[dict[Direction, Role]] = {"input": "client", "output": "provider"}


class StreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an event of a stream rests on.

    Args:
        task: The task of the topic; None where there is none.
        checksum: Over the chunks stored so far, for closing the stream. It is the server's: do not change it.
        stored: The chunk that is stored at the request's seq already; None where there is none.
    """

    task: Task | None
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


def input_stream(facts: StreamFacts, request: SendChunk, context: Context) -> Decision:
    """Send the provider the next chunk of the input; client only.

    Raises:
        Invalid: `invalid_payload`: not what `encoding` says, or empty.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `terminal_state`; `stream_closed`, `seq_conflict`: other bytes are stored there, `seq_out_of_window`:
            not the next one; all three with next_seq.
        Expired: `expired`.
        TooLarge: `chunk_too_large`, `stream_too_large`.
    """
    return _send_chunk(facts, request, context, direction="input")


def input_complete(facts: StreamFacts, request: CloseStream, context: Context) -> Decision:
    """Close the input with its checksum; client only. What does not fit leaves the stream open.

    Raises:
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `terminal_state`; `stream_closed`: with another checksum or size.
        Expired: `expired`.
        Invalid: `size_mismatch`, `checksum_mismatch`, with what is here and next_seq.
    """
    return _close_stream(facts, request, context, direction="input")


def output_stream(facts: StreamFacts, request: SendChunk, context: Context) -> Decision:
    """Send the client the next chunk of the output; provider only. Starts the task.

    Raises:
        Invalid, NotFound, Forbidden, Conflict, Expired, TooLarge: as `input_stream`.
    """
    return _send_chunk(facts, request, context, direction="output")


def output_complete(facts: StreamFacts, request: CloseStream, context: Context) -> Decision:
    """Close the output with its checksum; provider only. Starts the task.

    Raises:
        NotFound, Forbidden, Conflict, Expired, Invalid: as `input_complete`.
    """
    return _close_stream(facts, request, context, direction="output")


def _send_chunk(facts: StreamFacts, request: SendChunk, context: Context, *, direction: Direction) -> Decision:
    chunk = _decoded(request)
    task = require_role(facts.task, context, SENDERS[direction])
    if facts.stored == chunk:
        return Decision(reply={**_chunk_told(task, direction, request.seq), "duplicate": True})
    require_running(task, context)
    stream = _appended(task.stream(direction), seq=request.seq, chunk=chunk, limits=context.market.limits)
    after = _with_stream(task, direction, stream, context.now)
    reply = _chunk_told(after, direction, request.seq)
    sent = {**reply, "chunk": request.chunk, "encoding": request.encoding}
    return Decision(
        state=after,
        reply=reply,
        broadcasts=(relayed(task, f"{direction}_stream", sent),),
        changes=(StoreChunk(task.id, direction, request.seq, chunk),),
    )


def _close_stream(facts: StreamFacts, request: CloseStream, context: Context, *, direction: Direction) -> Decision:
    task = require_role(facts.task, context, SENDERS[direction])
    stream = task.stream(direction)
    if _is_closed_so(stream, request):
        return Decision(reply={**told(task, **stream_snapshot(stream)), "duplicate": True})
    require_running(task, context)
    assert facts.checksum is not None, "closing a stream of a task is given its checksum"
    stream = _closed(stream, checksum=facts.checksum, request=request)
    after = _with_stream(task, direction, stream, context.now)
    reply = told(after, **stream_snapshot(stream))
    return Decision(state=after, reply=reply, broadcasts=(relayed(task, f"{direction}_complete", reply),))


def _decoded(request: SendChunk) -> bytes:
    try:
        chunk = request.chunk.encode() if request.encoding == "utf8" else base64.b64decode(request.chunk, validate=True)
    except ValueError as error:
        raise _bad_chunk(request) from error
    if request.encoding == "base64" and base64.b64encode(chunk).decode() != request.chunk:
        raise _bad_chunk(request)  # Bits beyond the last byte: the same bytes have one form only.
    if not chunk:
        raise Invalid("invalid_payload", "A chunk is not empty; close a stream without bytes at once.", field="chunk")
    return chunk


def _bad_chunk(request: SendChunk) -> Invalid:
    forms = {"utf8": "text that UTF-8 can hold", "base64": "standard padded base64"}
    return Invalid("invalid_payload", f"The chunk is not {forms[request.encoding]}.", field="chunk")


def _appended(stream: StreamState, *, seq: int, chunk: bytes, limits: Limits) -> StreamState:
    _require_open(stream)
    next_seq = stream.next_seq
    if seq < next_seq:
        raise Conflict("seq_conflict", f"Chunk {seq} is stored with other bytes.", seq=seq, next_seq=next_seq)
    if seq > next_seq:
        raise Conflict("seq_out_of_window", f"The next chunk is {next_seq}, not {seq}.", seq=seq, next_seq=next_seq)
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


def _closed(stream: StreamState, *, checksum: StreamChecksum, request: CloseStream) -> StreamState:
    _require_open(stream)
    try:
        checksum.require(checksum=request.checksum, total_size=request.total_size)
    except (SizeMismatch, ChecksumMismatch) as error:
        raise Invalid(error.reason, str(error), next_seq=stream.next_seq, **error.context) from error
    return msgspec.structs.replace(stream, is_complete=True, checksum=checksum.hexdigest())


def _is_closed_so(stream: StreamState, request: CloseStream) -> bool:
    offered = request.checksum.removeprefix(CHECKSUM_PREFIX).lower()
    return stream.is_complete and (offered, request.total_size) == (stream.checksum, stream.size)


def _require_open(stream: StreamState) -> None:
    if stream.is_complete:
        raise Conflict(
            "stream_closed", "This stream is complete; nothing can be added to it.", next_seq=stream.next_seq
        )


def _with_stream(task: Task, direction: Direction, stream: StreamState, now: datetime) -> Task:
    """The task with a stream that has moved on; the provider's moves start it."""
    if direction == "input":
        return msgspec.structs.replace(task, input_stream=stream)
    return msgspec.structs.replace(started(task, now), output_stream=stream)


def _chunk_told(task: Task, direction: Direction, seq: int) -> dict[str, Any]:
    stream = task.stream(direction)
    return told(task, seq=seq, next_seq=stream.next_seq, total_size=stream.size)
