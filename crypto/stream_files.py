"""Whether bytes that somebody has are those of a task's stream, by the task's receipt.

Nothing here holds more than one block at a time, and nothing is read on once there is more than the stream had.

Source: SIGNING.md ("Streams", "Receipts").
"""

from collections.abc import Iterable, Iterator

from .checksums import NO_CHUNKS, StreamChecksum, next_digest
from .errors import ReceiptError
from .evidence import RECEIPT_MEMBERS, Fields
from .task_receipts import KIND, MEMBERS
from .task_streams import Direction, TaskStream, read_streams


def verify_stream(receipt: object, *, direction: Direction, blocks: Iterable[bytes]) -> str:
    """Check bytes against the size and the checksum of a stream that was closed; a sentence of what that proves.

    Args:
        receipt: Of a task. What it is worth, `verify_receipt` tells; here only its streams are read.
        blocks: The bytes in order, cut anyhow.

    Raises:
        ReceiptError: `kind`, `shape`, `stream`, `stream_open`, `stream_size`, `stream_checksum`.
    """
    stream = _stream_in(receipt, direction)
    if stream.checksum is None:
        raise ReceiptError(
            f"The {direction} was not closed, so the receipt has no checksum of it; only its chunks can be compared.",
            check="stream_open",
        )
    _require_checksum(_summed(blocks, stream), stream)
    return f"The {direction} here is that of the receipt: {stream.total_size} bytes with the SHA-256 {stream.checksum}."


def verify_chunks(receipt: object, *, direction: Direction, chunks: Iterable[bytes]) -> str:
    """Check chunks against the running digest of a stream, and its checksum if it was closed; the sentence of that.

    Args:
        receipt: As for `verify_stream`.
        chunks: From seq 0 on, cut as they were sent.

    Raises:
        ReceiptError: `kind`, `shape`, `stream`, `stream_size`, `stream_checksum`, `stream_digest`.
    """
    stream, digested = _stream_in(receipt, direction), _Digested(chunks)
    seen = _summed(digested, stream)
    if stream.checksum is not None:
        _require_checksum(seen, stream)
    if (seen.count, digested.head) != (stream.chunks, stream.digest):
        raise ReceiptError(
            f"The {direction} here, of {seen.count} chunks, has the running digest {digested.head}; the receipt says "
            f"{stream.chunks} chunks and {stream.digest}.",
            check="stream_digest",
        )
    closed = "it was not closed" if stream.checksum is None else f"its SHA-256 is {stream.checksum}"
    return (
        f"The {direction} here is that of the receipt, cut into the same {stream.chunks} chunks of {stream.total_size} "
        f"bytes in all with the running digest {stream.digest}; {closed}."
    )


class _Digested:
    """Chunks on their way through; `head` is the running digest over those that have passed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.head = NO_CHUNKS
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for seq, chunk in enumerate(self._chunks):
            self.head = next_digest(self.head, seq=seq, chunk=chunk)
            yield chunk


def _stream_in(receipt: object, direction: Direction) -> TaskStream:
    fields = Fields(receipt, pointer="", names=RECEIPT_MEMBERS)
    if fields.member("kind") != KIND:
        raise ReceiptError("This is no receipt of a task, and only those have an input and an output.", check="kind")
    return read_streams(Fields(fields.member("document"), pointer="/document", names=MEMBERS))[direction]


def _summed(blocks: Iterable[bytes], stream: TaskStream) -> StreamChecksum:
    seen = StreamChecksum()
    for block in blocks:
        seen.update(block)
        if seen.size > stream.total_size:
            raise ReceiptError(
                f"The {stream.direction} here has more than the {stream.total_size} bytes that the receipt says.",
                check="stream_size",
            )
    if seen.size < stream.total_size:
        raise ReceiptError(
            f"The {stream.direction} here has {seen.size} bytes; the receipt says {stream.total_size}.",
            check="stream_size",
        )
    return seen


def _require_checksum(seen: StreamChecksum, stream: TaskStream) -> None:
    if seen.hexdigest() != stream.checksum:
        raise ReceiptError(
            f"The {stream.direction} here has the SHA-256 {seen.hexdigest()}; the receipt says {stream.checksum}.",
            check="stream_checksum",
        )
