"""Replays: the stored chunks of a task's streams, pushed to a subscription before what is told live.

They go out in order, page by page as fast as the socket reads; what is told on the topic meanwhile waits until then.
For all topics of a socket together, what waits is one outbox at most, and one page is under way.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import structlog

from agrenting.db import streams
from agrenting.db.streams import StoredChunk
from agrenting.db.transaction import ReaderTx
from agrenting.subscriptions import Subscription
from channels.chunks import binary_chunk, replayed
from channels.handlers import Follow
from channels.told import Broadcast
from channels.wire import PHX_ERROR, Outgoing

log = structlog.get_logger(__name__)

PAGE_ROWS_MAX: Final = 1_024
PAGE_BYTES_MAX: Final = 262_144
PAGES_PER_OUTBOX: Final = 4
"""What is read at a time of what is replayed: so much, and as base64 well within an outbox."""

ReadPage = Callable[[Callable[[ReaderTx], list[StoredChunk]]], Awaitable[list[StoredChunk]]]


class Position:
    """How far the stored chunks of one direction have been pushed to a subscription.

    Args:
        first: All before it are there, or were not asked for.
    """

    __slots__ = ("above", "first")

    def __init__(self, first: int) -> None:
        self.first = first
        self.above: set[int] = set()
        """Those that were pushed beyond a missing one."""

    def has(self, seq: int) -> bool:
        """Whether a chunk was pushed already."""
        return seq < self.first or seq in self.above

    def add(self, seq: int) -> None:
        """A chunk has been pushed."""
        self.above.add(seq)
        while self.first in self.above:
            self.above.discard(self.first)
            self.first += 1


class Held(NamedTuple):
    """What waits for the end of a replay. `seq` is that of a chunk which may be replayed."""

    event: str
    seq: int | None
    frame: str | bytes


class Replays:
    """The replays of one socket: they take turns, and what waits for them all together is no more than an outbox."""

    __slots__ = ("active", "held_bytes", "turn")

    def __init__(self) -> None:
        self.active: dict[Replay, None] = {}
        self.held_bytes = 0
        self.turn = asyncio.Lock()


class Replay:
    """Stored chunks on their way to one subscription, and what is told meanwhile.

    Args:
        subscription: Whose.
        follow: What it asked for.
        read: Asks the database beside the writer.
        settled: Returns once everything that was under way is stored.
    """

    def __init__(
        self,
        subscription: Subscription,
        follow: Follow,
        read: ReadPage,
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._subscription = subscription
        self._task_id = follow.task_id
        self._read = read
        self._settled = settled
        self._positions = {f"{direction}_stream": Position(first) for direction, first in follow.replays.items()}
        self._all = subscription.connection.replays
        self._held: deque[Held] = deque()
        self._has_dropped = False
        self.is_live = False
        """Everything that was stored has been pushed."""
        self._all.active[self] = None

    def tell(self, outgoing: Outgoing, broadcast: Broadcast) -> None:
        """Push what is told on the topic, or keep it until what is stored has been pushed."""
        if not self.is_live:
            self._hold(outgoing, broadcast)
            return
        position = self._positions.get(broadcast.event)
        if position is None or not position.has(broadcast.payload["seq"]):
            self._subscription.push(outgoing)

    def ended(self, *, is_leaving: bool) -> None:
        """Nothing more is pushed; a page that is being read is the last look at it."""

    def _hold(self, outgoing: Outgoing, broadcast: Broadcast) -> None:
        """Keep what is told. Chunks that are too much are read again once they are stored."""
        subscription = self._subscription
        connection = subscription.connection
        frame = outgoing.frame_for(connection.vsn, subscription.join_ref)
        seq = broadcast.payload["seq"] if broadcast.event in self._positions else None
        self._held.append(Held(broadcast.event, seq, frame))
        self._all.held_bytes += len(frame)
        most = connection.hub.settings.outbox_bytes_max
        if self._all.held_bytes <= most:
            return
        for replay in self._all.active:
            replay.drop_chunks()
        if self._all.held_bytes > most:
            connection.too_slow()

    def drop_chunks(self) -> None:
        """Let go of the chunks that wait; they are read again once they are stored."""
        kept = deque(held for held in self._held if held.seq is None)
        if len(kept) < len(self._held):
            self._has_dropped = True
            self._forget_held()
            self._held = kept
            self._all.held_bytes += sum(len(held.frame) for held in kept)

    def _forget_held(self) -> None:
        self._all.held_bytes -= sum(len(held.frame) for held in self._held)
        self._held = deque()

    async def run(self) -> None:
        """Push everything; then the subscription is live."""
        subscription = self._subscription
        try:
            if await self._run():
                self.is_live = True
        except Exception:
            log.exception("replay_failed", topic=subscription.topic)
            subscription.connection.end(subscription, PHX_ERROR, {"reason": "channel_crash"})
        finally:
            self._forget_held()
            del self._all.active[self]

    async def _run(self) -> bool:
        """Whether the subscription still is there at the end."""
        while True:
            for event, position in self._positions.items():
                if not await self._push_stored(event, position):
                    return False
            if not self._has_dropped and await self._push_held():
                return True
            self._has_dropped = False
            await self._settled()  # What was dropped may have been relayed before it was stored.
            if not self._subscription.is_current:
                return False

    async def _push_stored(self, event: str, position: Position) -> bool:
        """Push what is stored now; whether the subscription still is there."""
        connection = self._subscription.connection
        direction, first = event.removesuffix("_stream"), position.first
        while True:
            async with self._all.turn:
                await connection.protocol.drained()
                page = await self._read(self._page(direction, first)) if self._subscription.is_current else []
                if not self._subscription.is_current:
                    return False
                if not page:
                    return True
                for chunk in page:
                    if not position.has(chunk.seq):
                        connection.send(self._frame(event, chunk))
                        position.add(chunk.seq)
                first = page[-1].seq + 1

    async def _push_held(self) -> bool:
        """Push what has waited; whether all of it was there."""
        connection = self._subscription.connection
        async with self._all.turn:
            while self._held:
                event, seq, frame = self._held.popleft()
                self._all.held_bytes -= len(frame)
                position = self._positions.get(event)
                if position is None or seq is None or not position.has(seq):
                    connection.send(frame)
                    if position is not None and seq is not None:
                        position.add(seq)
                if connection.protocol.is_full:
                    await connection.protocol.drained()
                    if self._has_dropped or not self._subscription.is_current:
                        return False
        return True

    def _page(self, direction: str, first: int) -> Callable[[ReaderTx], list[StoredChunk]]:
        outbox_bytes_max = self._subscription.connection.hub.settings.outbox_bytes_max
        bytes_max = min(PAGE_BYTES_MAX, outbox_bytes_max // PAGES_PER_OUTBOX)

        def ask(tx: ReaderTx) -> list[StoredChunk]:
            return streams.page(
                tx,
                task_id=self._task_id,
                direction=direction,
                first=first,
                rows_max=PAGE_ROWS_MAX,
                bytes_max=bytes_max,
            )

        return ask

    def _frame(self, event: str, chunk: StoredChunk) -> str | bytes:
        subscription = self._subscription
        payload: Any = {"task_id": self._task_id, **replayed(chunk.seq, chunk.data, chunk.encoding)}
        if subscription.is_binary and chunk.encoding == "binary":
            payload = binary_chunk(chunk.seq, chunk.data)
        outgoing = Outgoing(subscription.topic, event, payload)
        return outgoing.frame_for(subscription.connection.vsn, subscription.join_ref)
