"""The streams of a task as its receipt sums them up: how much flowed each way, and what it was.

Source: SIGNING.md ("Streams", "Receipts").
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from .checksums import NO_CHUNKS
from .errors import ReceiptError
from .evidence import DIGEST, Fields
from .messages import INTEGER_MAX

Direction = Literal["input", "output"]
"""`input` flowed from client to provider, `output` from provider to client."""

DIRECTIONS: Final[tuple[Direction, ...]] = ("input", "output")

_MEMBERS: Final = frozenset(("chunks", "total_size", "digest", "complete", "checksum"))
_CHECKSUM_OF_NOTHING: Final = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStream:
    """One direction of a task.

    Args:
        chunks: How many came without a gap.
        total_size: Their decoded bytes.
        digest: The running digest over them.
        checksum: SHA-256 of the bytes, which both sides had; None where the stream was not closed.
    """

    direction: Direction
    chunks: int
    total_size: int
    digest: str
    checksum: str | None

    @property
    def is_delivered(self) -> bool:
        """Whether something came and all of it was verified."""
        return self.checksum is not None and self.chunks > 0

    @property
    def was_used(self) -> bool:
        """Whether its sender has done anything with it."""
        return self.checksum is not None or self.chunks > 0

    @property
    def sentence(self) -> str:
        """What the receipt says of it."""
        amount = f"The {self.direction} had {self.chunks} chunks of {self.total_size} bytes in all"
        if self.checksum is None:
            return f"{amount}, with the running digest {self.digest}; it was not closed, so there is no checksum."
        return f"{amount}, closed with the SHA-256 {self.checksum}."


def read_streams(fields: Fields) -> dict[Direction, TaskStream]:
    """Both streams of a task's document, each by itself free of contradictions.

    Raises:
        ReceiptError: `shape`, `stream`.
    """
    streams = Fields(fields.member("streams"), pointer=f"{fields.pointer}/streams", names=frozenset(DIRECTIONS))
    return {direction: _read_stream(streams, direction) for direction in DIRECTIONS}


def _read_stream(streams: Fields, direction: Direction) -> TaskStream:
    fields = Fields(streams.member(direction), pointer=f"{streams.pointer}/{direction}", names=_MEMBERS)
    stream = TaskStream(
        direction=direction,
        chunks=fields.integer("chunks", minimum=0, maximum=INTEGER_MAX),
        total_size=fields.integer("total_size", minimum=0, maximum=INTEGER_MAX),
        digest=fields.text("digest", DIGEST),
        checksum=fields.optional_text("checksum", DIGEST),
    )
    if fields.flag("complete") != (stream.checksum is not None):
        raise ReceiptError(
            f"{fields.pointer}/checksum: a stream has a checksum just where it was closed.", check="stream"
        )
    is_empty = stream.chunks == 0
    if stream.total_size < stream.chunks or (is_empty and stream.total_size):
        raise ReceiptError(
            f"{fields.pointer}/total_size: no chunk is empty, and without chunks there are no bytes.", check="stream"
        )
    if is_empty != (stream.digest == NO_CHUNKS):
        raise ReceiptError(
            f"{fields.pointer}/digest: the running digest is 64 zeros just where there are no chunks.", check="stream"
        )
    if stream.checksum is not None and is_empty != (stream.checksum == _CHECKSUM_OF_NOTHING):
        raise ReceiptError(
            f"{fields.pointer}/checksum: it is the SHA-256 of nothing just where there are no bytes.", check="stream"
        )
    return stream
