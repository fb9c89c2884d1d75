"""A task's streams as its handler sees them: what it reads, and what it yields."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .connection import Connection, State
from .errors import ClientError, LostChunks, RefusedByServer, StreamRewritten
from .streams import Position
from .task_work import OwnOutput, TaskFailed, TaskWork

T = TypeVar("T")


class TaskInput:
    """The client's bytes, as a handler reads them: by chunks, or by lines that begin and end anywhere in chunks.

    What is held here is not read yet: a checkpoint says where the first byte of it stands.

    Args:
        work: The attempt.
    """

    def __init__(self, work: TaskWork) -> None:
        self._work = work
        self._incoming = work.kept.streamed.incoming
        self._held: list[tuple[Position, bytes]] = []
        """Chunks that have come and are not read to their end, each with where it begins."""
        self._offset = 0 if work.notes is None else work.notes.skip
        """Bytes that were read of the first of them, or of the one that comes next."""
        self._next_seq = self._incoming.position.seq
        """Of the chunk that comes next."""

    @property
    def position(self) -> tuple[Position, int]:
        """Where the first byte stands that was not read: a chunk's beginning, and the bytes before it in that chunk."""
        return self._held[0][0] if self._held else self._incoming.position, self._offset

    @property
    def is_rewritten(self) -> bool:
        """Whether chunks that have come have other bytes now: whoever reads on is told."""
        return self._incoming.position.seq < self._next_seq

    async def chunk(self) -> bytes | None:
        """The next chunk, or what is left of one; None at the end."""
        return await self._read(self._chunk)

    async def line(self) -> bytes | None:
        """What comes up to the next line feed, which is in it; the last line may have none. None at the end."""
        return await self._read(self._line)

    async def _read(self, read: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
        while True:
            try:
                return await read()
            except StreamRewritten as rewritten:
                await self._forget(rewritten.seq)

    async def _chunk(self) -> bytes | None:
        while self._held or await self._fetch():
            rest = self._held[0][1][self._offset :]
            self._drop(1, 0)
            if rest:
                return rest
        return None

    async def _line(self) -> bytes | None:
        parts: list[bytes] = []
        number, offset = 0, self._offset
        while number < len(self._held) or await self._fetch():
            _, content = self._held[number]
            end = content.find(b"\n", offset) + 1
            if end:
                parts.append(content[offset:end])
                self._drop(number, end)
                return b"".join(parts)
            parts.append(content[offset:])
            number, offset = number + 1, 0
        self._drop(number, 0)
        return b"".join(parts) or None

    async def _fetch(self) -> bool:
        """Hold the next chunk; False at the end."""
        before = self._incoming.position
        content = await self._work.ask(self._work.kept.next_chunk())
        if content is None:
            return False
        self._held.append((before, content))
        self._next_seq = before.seq + 1
        return True

    def _drop(self, number: int, offset: int) -> None:
        """So many chunks were read, and so many bytes of the one behind them."""
        del self._held[:number]
        self._offset = offset
        if self._held and offset == len(self._held[0][1]):
            self._drop(1, 0)

    async def _forget(self, seq: int) -> None:
        """Chunks from one on come anew. What was read already cannot be taken back: then all begins anew."""
        read_up_to = self._next_seq
        if self._held:
            read_up_to = self._held[0][0].seq + (self._offset > 0)
        if read_up_to > seq:
            await self._work.restart(seq)
        self._held = [held for held in self._held if held[0].seq < seq]
        self._next_seq = seq


class TaskOutput:
    """What a handler yields. What an earlier start of it had sent already is compared, and not sent again.

    Args:
        work: The attempt.
        connection: The agent's.
        own: Of the task: what is sent.
        chunk_bytes_max: The largest chunk that the market takes.
        payment_s: How long to wait for the payment of a unit.
    """

    def __init__(
        self, work: TaskWork, connection: Connection, own: OwnOutput, *, chunk_bytes_max: int, payment_s: float
    ) -> None:
        self._work = work
        self._connection = connection
        self._earlier = own.earlier
        self._compared = 0
        self._start = 0 if work.notes is None else work.notes.output
        self._sent = 0
        self._price = work.kept.price
        self._payment_s = payment_s
        self._chunk_bytes_max = chunk_bytes_max
        if self._price is not None and self._price.unit_bytes is not None:
            self._chunk_bytes_max = min(chunk_bytes_max, self._price.unit_bytes)

    @property
    def size(self) -> int:
        """Bytes that were yielded, from the first start on."""
        return self._start + self._compared + self._sent

    @property
    def has_earlier(self) -> bool:
        """Whether an earlier start has sent something that was not yielded again."""
        return self._compared < len(self._earlier)

    async def ready(self) -> None:
        """Wait until all is here that an earlier program has sent.

        Raises:
            LostChunks: Less is stored than the checkpoint says.
        """
        await self._work.ask(self._work.kept.flush())
        stored = self._work.kept.streamed.outgoing.position.size
        if stored < self._start:
            raise LostChunks("output is missing that was stored at the checkpoint", expected=self._start, told=stored)

    async def send(self, content: str | bytes) -> None:
        """Send what the handler has yielded, as one chunk unless it is too large for one. Nothing is sent for nothing.

        Raises:
            TypeError: It is neither text nor bytes.
            TaskFailed: `not_repeatable`, `stream_too_large`, `payment_due`; `chunk_too_large` where each chunk costs.
        """
        rest = self._compare(_bytes(content))
        if self._price is not None and self._price.per == "chunk" and len(rest) > self._chunk_bytes_max:
            raise TaskFailed("chunk_too_large", {"bytes": len(rest), "chunk_bytes_max": self._chunk_bytes_max})
        for start in range(0, len(rest), self._chunk_bytes_max):
            chunk = rest[start : start + self._chunk_bytes_max]
            await self._asked(self._send(chunk))
            self._sent += len(chunk)

    async def flush(self) -> None:
        """Wait until all that was sent is stored.

        Raises:
            TaskFailed: As for `send`.
        """
        await self._asked(self._work.kept.flush())

    async def close(self) -> None:
        """End the stream, once all is paid that is paid as it streams: who leaves without paying has had the work.

        Raises:
            TaskFailed: `not_repeatable`: less was yielded than an earlier start had sent; `stream_too_large`.
        """
        if self.has_earlier:
            raise self._not_repeatable()
        await self.flush()
        if self._price is not None:
            await self._asked(self._in_time(self._work.kept.until_paid))
        await self._asked(self._work.kept.close())

    def _compare(self, content: bytes) -> bytes:
        """Hold it against what was sent already; what of it is new."""
        known = bytes(self._earlier[self._compared : self._compared + len(content)])
        if not content.startswith(known):
            raise self._not_repeatable()
        self._compared += len(known)
        return content[len(known) :]

    def _not_repeatable(self) -> TaskFailed:
        return TaskFailed("not_repeatable", {"from_byte": self._start})

    async def _send(self, chunk: bytes) -> None:
        if self._price is None:
            await self._work.kept.send(chunk)
        elif not await self._in_time(lambda: self._work.kept.send(chunk)):
            raise TaskFailed("payment_due", {"paid_up_to": self._work.kept.streamed.paid_up_to})

    async def _in_time(self, wait: Callable[[], Awaitable[Any]]) -> bool:
        """Wait for something that needs a payment; False: it did not come. Time without a connection does not count."""
        while True:
            try:
                async with asyncio.timeout(self._payment_s):
                    await wait()
            except ClientError:
                raise  # One of them is a TimeoutError.
            except TimeoutError:
                if self._connection.state is State.CONNECTED:
                    return False
            else:
                return True

    async def _asked(self, waiting: Awaitable[T]) -> T:
        """What is waited for; refusals of what was sent are failures of the task.

        Raises:
            TaskFailed: See `send`.
        """
        try:
            return await self._work.ask(waiting)
        except RefusedByServer as refusal:
            if refusal.reason in {"seq_conflict", "stream_closed", "checksum_mismatch", "size_mismatch"}:
                raise self._not_repeatable() from refusal
            if refusal.reason in {"stream_too_large", "chunk_too_large", "payment_due"}:
                raise TaskFailed(refusal.reason) from refusal
            raise


def _bytes(content: object) -> bytes:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    raise TypeError(f"a handler yields text or bytes, and this one a {type(content).__name__}")
