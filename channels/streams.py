"""The streams of a task: bytes both ways, relayed at once, stored, and whole at the end.

    seq 0, seq 1, seq 2, …  ──►  complete {checksum, total_size}  ──►  verified, closed

`seq` counts from 0 per task and direction. The reply to a chunk, sent once it is stored, carries `next_seq`, the first
missing one, and the running digest of all before it: that is the acknowledgement and the flow control. Chunks may come
out of order within a window from the first missing one on. A chunk that is stored already and comes again with the same
bytes is a duplicate: it is answered and does nothing.

The checksum is SHA-256 over the decoded bytes in seq order. What is missing, or does not fit, leaves the stream open
for repair. A disputed task's output may still be finished, because who is right may rest on it.

`foreseen_…` is what can be said of a chunk before the writer has it: it is relayed then already, from what this process
knows the task to be once all that is under way is stored.
"""

from datetime import datetime
from typing import Any, Final, Protocol, Self

import msgspec

from channels.changes import StoreChunk
from channels.chunks import Chunk, data_of
from channels.errors import Conflict, Invalid, TooLarge
from channels.handlers import Context, Decision
from channels.limits import Limits
from channels.stream_price import require_paid
from channels.task_state import (
    Direction,
    StreamState,
    Task,
    relayed,
    require_not_over,
    require_role,
    require_running,
    started,
    stream_snapshot,
    told,
    without_documents,
)
from channels.told import Broadcast
from crypto import ChecksumMismatch, SizeMismatch, StreamChecksum, next_digest

CHECKSUM_PREFIX: Final = "sha256:"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider has noted of how far it is: any JSON, and a seq that grows."""

    state: Any
    seq: int


class Stored(Protocol):
    """What is stored of a task beside its state, in the transaction that decides."""

    def chunk(self, direction: Direction, seq: int) -> bytes | None:
        """One chunk."""
        ...

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        ...

    def checksum(self, direction: Direction, stream: StreamState) -> StreamChecksum:
        """Over the chunks before the first missing one. It is the server's: do not change it."""
        ...


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an event of a running task rests on.

    Args:
        task: The task of the topic; None where there is none.
        stored: Its chunks and its checkpoint.
    """

    task: Task | None
    stored: Stored

    @property
    def known(self) -> Task | None:
        """What the next event is foreseen on, and is kept in memory for that."""
        return None if self.task is None else without_documents(self.task)

    def then(self, task: Task) -> Self:
        """What the next event rests on, where several are decided together."""
        return msgspec.structs.replace(self, task=task)


class CloseStream(msgspec.Struct, frozen=True, kw_only=True):
    """There is no more: SHA-256 of the decoded bytes in hex, `sha256:` before it or not, and their number."""

    checksum: str
    total_size: int


def input_stream(facts: TaskFacts, request: Chunk, context: Context) -> Decision:
    """Send the provider a chunk of the input; client only.

    Raises:
        Invalid: `invalid_payload`: not what `encoding` says, or empty.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `escrow_locked`, `terminal_state`; `stream_closed`, `seq_conflict`: other bytes are stored there,
            `seq_out_of_window`: too far ahead of the first missing one; all three with next_seq.
        Expired: `expired`.
        TooLarge: `chunk_too_large`, `stream_too_large`.
    """
    chunk = data_of(request)
    task = require_role(facts.task, context, "client")
    if _is_stored_so(facts, task, request.seq, chunk, direction="input"):
        return _repeated(task, request.seq, direction="input")
    require_running(task, context)
    after = _with_chunk(task, request.seq, chunk, context, direction="input")
    return _stored(facts, after, request, chunk, context, before=task, direction="input")


def output_stream(facts: TaskFacts, request: Chunk, context: Context) -> Decision:
    """Send the client a chunk of the output; provider only. Starts the task.

    Raises:
        Invalid, NotFound, Forbidden, Conflict, Expired, TooLarge: as `input_stream`.
        Conflict: `payment_due`: it is paid as it streams, and not paid so far.
    """
    chunk = data_of(request)
    task = require_role(facts.task, context, "provider")
    if _is_stored_so(facts, task, request.seq, chunk, direction="output"):
        return _repeated(task, request.seq, direction="output")
    require_not_over(task, context)  # Output of a disputed task may be finished.
    after = _with_chunk(task, request.seq, chunk, context, direction="output")
    require_paid(task, after.output_stream, chunk_bytes=len(chunk))
    return _stored(facts, after, request, chunk, context, before=task, direction="output")


def input_complete(facts: TaskFacts, request: CloseStream, context: Context) -> Decision:
    """Close the input with its checksum; client only. What does not fit leaves the stream open.

    Raises:
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `escrow_locked`, `terminal_state`; `stream_closed`: with another checksum or size; `missing_chunks`,
            with their seqs.
        Expired: `expired`.
        Invalid: `size_mismatch`, `checksum_mismatch`, with what is here and next_seq.
    """
    task = require_role(facts.task, context, "client")
    if _is_closed_so(task.input_stream, request):
        return _closed_already(task, direction="input")
    require_running(task, context)
    return _close_stream(facts, task, request, context, direction="input")


def output_complete(facts: TaskFacts, request: CloseStream, context: Context) -> Decision:
    """Close the output with its checksum; provider only. Starts the task.

    Raises:
        NotFound, Forbidden, Conflict, Expired, Invalid: as `input_complete`.
    """
    task = require_role(facts.task, context, "provider")
    if _is_closed_so(task.output_stream, request):
        return _closed_already(task, direction="output")
    require_not_over(task, context)  # Output of a disputed task may be finished.
    return _close_stream(facts, task, request, context, direction="output")


def foreseen_input(task: Task, request: Chunk, context: Context) -> tuple[Task, Broadcast]:
    """The task once a chunk of the input will have been stored, and the chunk as the provider gets it.

    Raises:
        Refusal: It will not be, or it is stored already.
    """
    require_role(task, context, "client")
    require_running(task, context)
    after = _with_chunk(task, request.seq, data_of(request), context, direction="input")
    return after, _chunk_relayed(after, request, "input")


def foreseen_output(task: Task, request: Chunk, context: Context) -> tuple[Task, Broadcast | None]:
    """The same of the output. What starts a task is not foreseen: when it started, the writer says.

    What is paid as it streams is relayed only once it is stored: else a server that dies in between has given away
    units that it does not know of, and the provider would lose more than the credit.

    Raises:
        Refusal: It will not be, or it is stored already.
    """
    if task.started_at is None:
        raise Conflict("not_started", "This chunk starts the task.")
    require_role(task, context, "provider")
    require_not_over(task, context)  # Output of a disputed task may be finished.
    chunk = data_of(request)
    after = _with_chunk(task, request.seq, chunk, context, direction="output")
    require_paid(task, after.output_stream, chunk_bytes=len(chunk))
    return after, None if task.stream_price is not None else _chunk_relayed(after, request, "output")


def _is_stored_so(facts: TaskFacts, task: Task, seq: int, chunk: bytes, *, direction: Direction) -> bool:
    return _is_stored(task.stream(direction), seq) and facts.stored.chunk(direction, seq) == chunk


def _repeated(task: Task, seq: int, *, direction: Direction) -> Decision:
    return Decision(reply={**_chunk_told(task, direction, seq), "duplicate": True})


def _stored(
    facts: TaskFacts,
    after: Task,
    request: Chunk,
    chunk: bytes,
    context: Context,
    *,
    before: Task,
    direction: Direction,
) -> Decision:
    """The chunk is stored, and the digest carried on over all that is in order now."""
    seq, stream = request.seq, after.stream(direction)
    in_order: tuple[int, tuple[bytes, ...]] | None = None
    if seq == before.stream(direction).next_seq:
        chunks = (chunk, *(_chunk_at(facts, direction, ahead) for ahead in range(seq + 1, stream.next_seq)))
        digest = stream.digest
        for number, one in enumerate(chunks, seq):
            digest = next_digest(digest, seq=number, chunk=one)
        after = _with_stream(after, direction, msgspec.structs.replace(stream, digest=digest), context.now)
        in_order = seq, chunks
    return Decision(
        state=after,
        reply=_chunk_told(after, direction, seq),
        broadcasts=(_chunk_relayed(after, request, direction),),
        changes=(StoreChunk(after.id, direction, seq, chunk, request.encoding, in_order),),
    )


def _with_chunk(task: Task, seq: int, chunk: bytes, context: Context, *, direction: Direction) -> Task:
    """The task with one chunk more, whose digest the stream does not have yet."""
    size, limits = len(chunk), context.market.limits
    before = task.stream(direction)
    _require_open(before)
    _require_in_window(before, seq, limits)
    if size > limits.chunk_bytes_max:
        raise TooLarge(
            "chunk_too_large",
            f"A chunk has at most {limits.chunk_bytes_max} bytes, not {size}.",
            chunk_bytes_max=limits.chunk_bytes_max,
        )
    if before.stored_count >= limits.stream_chunks_max:
        raise TooLarge(
            "stream_too_large",
            f"A stream has at most {limits.stream_chunks_max} chunks.",
            stream_chunks_max=limits.stream_chunks_max,
        )
    whole = before.stored_size + size
    if whole > limits.stream_bytes_max:
        raise TooLarge(
            "stream_too_large",
            f"A stream has at most {limits.stream_bytes_max} bytes; with this chunk it would have {whole}.",
            stream_bytes_max=limits.stream_bytes_max,
        )
    return _with_stream(task, direction, _grown(before, seq=seq, size=size), context.now)


def _grown(stream: StreamState, *, seq: int, size: int) -> StreamState:
    """The stream with one chunk more, in its place."""
    if seq > stream.next_seq:
        return msgspec.structs.replace(stream, ahead=tuple(sorted((*stream.ahead, (seq, size)))))
    next_seq, whole, ahead = seq + 1, stream.size + size, stream.ahead
    while ahead and ahead[0][0] == next_seq:
        next_seq, whole, ahead = next_seq + 1, whole + ahead[0][1], ahead[1:]
    return msgspec.structs.replace(stream, next_seq=next_seq, size=whole, ahead=ahead)


def _is_stored(stream: StreamState, seq: int) -> bool:
    return seq < stream.next_seq or any(seq == ahead for ahead, _ in stream.ahead)


def _require_in_window(stream: StreamState, seq: int, limits: Limits) -> None:
    next_seq = stream.next_seq
    if _is_stored(stream, seq):
        raise Conflict("seq_conflict", f"Chunk {seq} is stored with other bytes.", seq=seq, next_seq=next_seq)
    if seq >= next_seq + limits.stream_window:
        raise Conflict(
            "seq_out_of_window",
            f"Chunks are taken from the first missing one, {next_seq}, up to {next_seq + limits.stream_window - 1}.",
            seq=seq,
            next_seq=next_seq,
        )


def _chunk_at(facts: TaskFacts, direction: Direction, seq: int) -> bytes:
    chunk = facts.stored.chunk(direction, seq)
    assert chunk is not None, "what a stream says that it has is stored"
    return chunk


def _closed_already(task: Task, *, direction: Direction) -> Decision:
    return Decision(reply={**told(task, **stream_snapshot(task.stream(direction))), "duplicate": True})


def _close_stream(
    facts: TaskFacts, task: Task, request: CloseStream, context: Context, *, direction: Direction
) -> Decision:
    stream = task.stream(direction)
    _require_open(stream)
    _require_gapless(stream)
    checksum = facts.stored.checksum(direction, stream)
    try:
        checksum.require(checksum=request.checksum, total_size=request.total_size)
    except (SizeMismatch, ChecksumMismatch) as error:
        raise Invalid(error.reason, str(error), next_seq=stream.next_seq, **error.context) from error
    stream = msgspec.structs.replace(stream, is_complete=True, checksum=checksum.hexdigest())
    after = _with_stream(task, direction, stream, context.now)
    reply = told(after, **stream_snapshot(stream))
    return Decision(state=after, reply=reply, broadcasts=(relayed(task, f"{direction}_complete", reply),))


def _is_closed_so(stream: StreamState, request: CloseStream) -> bool:
    offered = request.checksum.removeprefix(CHECKSUM_PREFIX).lower()
    return stream.is_complete and (offered, request.total_size) == (stream.checksum, stream.size)


def _require_open(stream: StreamState) -> None:
    if stream.is_complete:
        raise Conflict(
            "stream_closed", "This stream is complete; nothing can be added to it.", next_seq=stream.next_seq
        )


def _require_gapless(stream: StreamState) -> None:
    if not stream.ahead:
        return
    here = {seq for seq, _ in stream.ahead}
    missing = [seq for seq in range(stream.next_seq, stream.ahead[-1][0]) if seq not in here]
    raise Conflict(
        "missing_chunks",
        f"{len(missing)} chunks are missing before the last one that is here; send them, then close the stream.",
        missing=missing,
        next_seq=stream.next_seq,
    )


def _with_stream(task: Task, direction: Direction, stream: StreamState, now: datetime) -> Task:
    """The task with a stream that has moved on; the provider's moves start it."""
    if direction == "input":
        return msgspec.structs.replace(task, input_stream=stream)
    return msgspec.structs.replace(started(task, now), output_stream=stream)


def _chunk_told(task: Task, direction: Direction, seq: int) -> dict[str, Any]:
    stream = task.stream(direction)
    return told(task, seq=seq, next_seq=stream.next_seq, total_size=stream.size, digest=stream.digest)


def _chunk_relayed(task: Task, request: Chunk, direction: Direction) -> Broadcast:
    stream = task.stream(direction)
    sent = told(task, seq=request.seq, next_seq=stream.next_seq, total_size=stream.size, **request.shown)
    return msgspec.structs.replace(relayed(task, f"{direction}_stream", sent), binary=request.binary)
