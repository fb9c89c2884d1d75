"""StreamedTask: one side of a task on the wire, across connections.

    task = StreamedTask(task_id, role="client")
    async with PhoenixSocket(url, key) as socket:
        await task.join(socket)
        await task.send(b"Good morning!")
        await task.close()
        while (chunk := await task.next_chunk()) is not None:
            ...

Whatever is lost, a new socket and `join` make it whole: what was sent and not acknowledged is sent again, what has come
goes on behind the last chunk that was handed on. It does not connect again by itself.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from .backoff import NOT_NOW, patiently
from .errors import ClientError, LostChunks, NoAnswer, RefusedByServer, StreamBroken, TopicEnded, telling
from .socket import REPLY_TIMEOUT_S, PhoenixSocket, Topic
from .streams import ChunkPayload, Direction, IncomingStream, OutgoingStream, Position

Role = Literal["client", "provider"]
OnEvent = Callable[[str, dict[str, Any]], None]
SENDS: Final[dict[Role, Direction]] = {"client": "input", "provider": "output"}
TAKES: Final[dict[Role, Direction]] = {"client": "output", "provider": "input"}

IN_FLIGHT_MAX: Final = 32
"""Chunks that are sent ahead of their acknowledgement; a server takes 256 beyond the first missing one."""

REPLAY_TIMEOUT_S: Final = REPLY_TIMEOUT_S
"""How long stored chunks may take to come before the task is joined once more, and then are taken for lost."""

RELAY_VOID: Final = "relay_void"
FINAL: Final = frozenset(("completed", "failed", "cancelled"))


class StreamPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit of the output costs that is paid as it streams, in minor units: a task's `stream_price`."""

    amount: int
    per: Literal["chunk", "bytes"]
    unit_bytes: int | None = None
    credit: int = 1

    def units(self, position: Position) -> int:
        """The units that a stream has up to a position; one of bytes that has begun is one."""
        if self.unit_bytes is None:
            return position.seq
        return -(-position.size // self.unit_bytes)  # Rounds up: what has begun is delivered.


class _Standing(msgspec.Struct, frozen=True):
    """What is read of a task here."""

    status: str
    escrow_status: str
    stream_price: StreamPrice | None


class StreamedTask:
    """One side of a task: its streams, and how it stands. All waiting reads the topic, and none of it needs a loop.

    Where the output is paid as it streams, the provider's `send` waits until the next chunk is paid for as far as the
    credit reaches: it is what the server would refuse with `payment_due` before, and `task_paid` lets it go on.

    Args:
        task_id: The task's.
        role: Which side this is.
        start: From where on the other side's stream is wanted; None: all of it.
        in_flight_max: Chunks that are sent ahead of their acknowledgement, 1 to 256.
        timeout_s: How long to wait for the other side; None: without limit.
        on_event: Told of every event of the task but chunks.
    """

    def __init__(
        self,
        task_id: str,
        *,
        role: Role,
        start: Position | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
        timeout_s: float | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.id = task_id
        self.state: dict[str, Any] = {}
        """The task as it was told last: by the join, and from its end on. Its parts may have moved on since."""
        self.incoming = IncomingStream(start)
        self.outgoing = OutgoingStream()
        self.paid = 0
        """What is paid for the output as it streams, in minor units, as far as told."""
        self.paid_up_to = 0
        """Units of the output that are paid so, as far as told."""
        self.joins = 0
        """How often it was joined."""
        self.is_joined = False
        """Whether the last join was brought to its end, with all that had to be pushed again. It may be lost since."""
        self._role: Role = role
        self._timeout_s = timeout_s
        self._on_event: OnEvent = on_event or (lambda _event, _payload: None)
        self._slots = asyncio.Semaphore(in_flight_max)
        self._pushes: set[asyncio.Task[None]] = set()
        self._failure: ClientError | None = None
        self._stalled_at: int | None = None
        """Where the stored chunks of the other side had stopped coming when the task was joined again for them."""
        self._reading = asyncio.Lock()
        self._joining = asyncio.Lock()
        self._socket: PhoenixSocket
        self._topic: Topic

    async def join(self, socket: PhoenixSocket) -> dict[str, Any]:
        """Join the task, the first time or after a loss, and push again what was not acknowledged; the reply.

        Raises:
            RefusedByServer: The join was refused.
            LyingServer: The server has lost or changed what it had stored.
            NoAnswer, Disconnected, TopicEnded: As for a topic.
        """
        async with self._joining:
            return await self._join(socket)

    async def send(self, chunk: bytes) -> None:
        """Send the next chunk, once there is room for one more in flight. It is kept until it is acknowledged.

        Where this raises, the chunk was not taken: send it again, once the reason is gone. All before it are kept, and
        pushed again by `join`; `outgoing.position` says which chunk is next.

        Raises:
            RefusedByServer: An earlier chunk was refused.
            LyingServer: An earlier one was acknowledged with another digest.
            StreamBroken: The task has ended, and no more will be paid.
            NoAnswer, Disconnected, TopicEnded: Join again.
        """
        while True:
            await self._until(lambda: self.outgoing.is_whole and self._is_paid(len(chunk)))
            await self._slots.acquire()
            if self._failure is None:
                break
            self._slots.release()
            await self._mend()
        self._push_soon(self.outgoing.append(chunk))

    async def flush(self) -> None:
        """Wait until all that was sent is stored.

        Raises:
            LostChunks: All of it was answered, and not all is stored.
            RefusedByServer, LyingServer, NoAnswer, Disconnected, TopicEnded: As for `send`.
        """
        await self._until(lambda: self.outgoing.is_whole)
        while self._failure is not None or self.outgoing.durable_seq < self.outgoing.position.seq:
            await self._mend()
            if self._pushes:
                await asyncio.wait(self._pushes)
            elif self._failure is None:
                await self._until_joined()
                self._require_acknowledged()

    async def close(self) -> dict[str, Any]:
        """End the stream with its checksum; the reply. To do so again is no error.

        Raises:
            RefusedByServer, LyingServer, NoAnswer, Disconnected, TopicEnded: As for `send`.
        """
        await self.flush()
        reply: dict[str, Any] = await self._ask(f"{self._sends}_complete", self.outgoing.closing())
        self.outgoing.acknowledge(reply)
        return reply

    async def push(self, event: str, payload: dict[str, Any] | None = None) -> Any:
        """Push another event of the task, such as `checkpoint`, `complete` or `dispute`; its reply.

        Raises:
            RefusedByServer, NoAnswer, Disconnected, TopicEnded: As for a topic.
        """
        return await self._ask(event, payload)

    async def next_chunk(self) -> bytes | None:
        """The other side's next chunk, in order and once; None at the end, when digest and checksum were right.

        Raises:
            StreamRewritten: Chunks that were handed on have other bytes now. Forget them, and go on.
            StreamBroken: The task ended before its stream was complete.
            LyingServer: Digest or checksum are not those of what came.
            NoAnswer, Disconnected, TopicEnded: Join again.
        """
        found: list[bytes] = []
        await self._until(lambda: self._has_next(found))
        return found[0] if found else None

    async def until_paid(self) -> None:
        """Wait until all that was sent is paid, where it is paid as it streams.

        Raises:
            StreamBroken: The task ended before.
            NoAnswer, Disconnected, TopicEnded: As for a topic.
        """
        price = self.price
        if price is not None:
            await self._until(lambda: self.paid_up_to >= price.units(self.outgoing.position) or self._require_going())

    async def release(self) -> dict[str, Any]:
        """Pay the completed task's price now: the client has checked what it got, and need not wait for the hold.

        Raises:
            RefusedByServer: `not_completed`, `not_held`, `escrow_locked`, `forbidden_role`.
            NoAnswer, Disconnected, TopicEnded: As for a topic.
        """
        task = await self._ask("release")
        with telling("the task"):
            self._stand(task)
        return self.state

    async def end(self) -> dict[str, Any]:
        """Wait until the task has ended; the task.

        Raises:
            NoAnswer, Disconnected, TopicEnded: As for a topic.
        """
        await self._until(lambda: self.state["status"] in FINAL)
        return self.state

    async def settled(self) -> dict[str, Any]:
        """Wait until the task has ended and nothing of its price is held any more; the task.

        Raises:
            NoAnswer, Disconnected, TopicEnded: As for a topic.
        """
        await self._until(lambda: self.state["status"] in FINAL and self.state["escrow_status"] != "held")
        return self.state

    async def leave(self) -> None:
        """Leave the task's topic; what was not acknowledged yet is pushed again where it is joined again.

        Raises:
            NoAnswer, Disconnected: As for a topic.
        """
        await self._abandon()
        await self._topic.leave()

    @property
    def price(self) -> StreamPrice | None:
        """What a unit of the output costs; None where the price is held."""
        told = self.state["stream_price"]
        return None if told is None else msgspec.convert(told, StreamPrice)

    @property
    def _sends(self) -> Direction:
        return SENDS[self._role]

    @property
    def _takes(self) -> Direction:
        return TAKES[self._role]

    # Joining.

    async def _join(self, socket: PhoenixSocket) -> dict[str, Any]:
        self.is_joined = False  # Who is cancelled in here leaves it so, and what has to be pushed again is not.
        await self._abandon()
        if self.joins:  # Nobody reads or pushes there any more, also on another socket.
            self._socket.drop(self._topic, TopicEnded(f"task:{self.id} is joined again", RELAY_VOID))
        topic = await patiently(lambda: socket.join(f"task:{self.id}", self._wanted()))
        with telling("the task"):
            streams = topic.state["streams"]
            self.incoming.rejoin(streams[self._takes])
            again = self.outgoing.rejoin(streams[self._sends])
            self._stand(topic.state)
        self._socket, self._topic, self._failure = socket, topic, None
        for payload in again:
            await self._slots.acquire()
            self._push_soon(payload)
        self.joins += 1
        self.is_joined = True
        return self.state

    def _wanted(self) -> dict[str, Any]:
        """What a join asks for."""
        return {
            f"{self._takes}_from": self.incoming.position.seq,
            f"{self._sends}_from": self.outgoing.position.seq,
            "binary": True,
        }

    async def _abandon(self) -> None:
        """Forget what was under way on another connection: what was not acknowledged is pushed again."""
        for push in self._pushes:
            push.cancel()
        if self._pushes:
            await asyncio.wait(self._pushes)

    async def _until_joined(self) -> None:
        """Wait for somebody who is joining.

        Raises:
            TopicEnded: Nobody is, or it was given up.
        """
        async with self._joining:
            if not self.is_joined:
                raise TopicEnded(f"task:{self.id} has to be joined again")

    def _require_acknowledged(self) -> None:
        """Refuse replies to all that was sent which leave something of it out: it would be waited for in vain.

        Raises:
            LostChunks: They do.
        """
        seq = self.outgoing.durable_seq
        if not self._pushes and self._failure is None and seq < self.outgoing.position.seq:
            raise LostChunks(f"chunk {seq} was answered, and is not stored", expected=seq + 1, told=seq)

    async def _join_again(self, topic: Topic) -> None:
        async with self._joining:
            if self._topic is topic:
                await self._join(self._socket)

    # Sending.

    async def _ask(self, event: str, payload: dict[str, Any] | bytes | None = None) -> Any:
        """Push, and again where the server says that it is too much just now; the reply."""
        topic = self._topic
        return await patiently(lambda: topic.push(event, payload))

    def _push_soon(self, payload: ChunkPayload) -> None:
        push = asyncio.create_task(self._push(self._topic, payload))
        self._pushes.add(push)
        push.add_done_callback(self._pushed)

    def _pushed(self, push: asyncio.Task[None]) -> None:
        self._pushes.discard(push)
        self._slots.release()

    async def _push(self, topic: Topic, payload: ChunkPayload) -> None:
        try:
            reply = await patiently(lambda: topic.push(f"{self._sends}_stream", payload))
            if topic is self._topic:  # Else it is pushed again, or was stored when the task was joined again.
                self.outgoing.acknowledge(reply)
                self._note(reply)
        except ClientError as error:
            if topic is self._topic:
                self._failure = self._failure or error

    async def _mend(self) -> None:
        """Go on after a failure where joining again is all that it takes; else raise it."""
        failure = self._failure
        if failure is None:
            return
        if isinstance(failure, RefusedByServer) and failure.reason in NOT_NOW:
            self.is_joined = False  # Joining again pushes it once more.
        if not _is_void(failure):
            raise failure
        await self._join_again(self._topic)

    def _is_paid(self, chunk_bytes: int) -> bool:
        """Whether the server takes one more chunk, as far as that is a question of money."""
        price = self.price
        if price is None or self._role == "client":
            return True
        sent = self.outgoing.position
        units = price.units(Position(sent.seq + 1, sent.size + chunk_bytes))
        return units <= self.paid_up_to + price.credit or self._require_going()

    def _stand(self, task: dict[str, Any]) -> None:
        """Take how the task stands, if it is a task at all."""
        msgspec.convert(task, _Standing)
        self.state = task
        self._note(task)

    def _note(self, told: dict[str, Any]) -> None:
        """Take how far the output is paid; that never goes down."""
        with telling("what is paid"):
            self.paid = max(self.paid, told.get("paid") or 0)
            self.paid_up_to = max(self.paid_up_to, told.get("paid_up_to") or 0)

    # Reading.

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Read the topic until something is so. Several may wait at once: who reads, reads for all."""
        while not is_so():
            async with self._reading:
                if is_so():
                    return
                topic = self._topic
                if self.incoming.needs_replay:
                    await self._join_again(topic)
                    continue
                try:
                    heard = await self._heard(topic)
                except TopicEnded as error:
                    if topic is self._topic:
                        if not _is_void(error):
                            raise
                        await self._join_again(topic)
                else:
                    if topic is self._topic:  # Else the join has told more than that already.
                        self._hear(*heard)

    async def _heard(self, topic: Topic) -> tuple[str, Any]:
        """The next event; where a chunk that is stored is due, it has to come in some time.

        Raises:
            LostChunks: It does not, though the task was joined again for it.
            NoAnswer, Disconnected, TopicEnded: As for a topic.
        """
        due = self.incoming.reached_seq
        if due >= self.incoming.stored_seq or (self._timeout_s or math.inf) < REPLAY_TIMEOUT_S:
            return await topic.next_event(self._timeout_s)
        try:
            return await topic.next_event(REPLAY_TIMEOUT_S)
        except NoAnswer:
            if self._stalled_at == due:
                raise LostChunks(f"chunk {due} is stored, and does not come", expected=due) from None
            self._stalled_at = due
            raise TopicEnded(f"task:{self.id} brings no chunk {due}", RELAY_VOID) from None

    def _hear(self, event: str, payload: Any) -> None:
        if event == f"{self._takes}_stream":
            self.incoming.hear(payload)
        elif event == f"{self._sends}_stream":
            self.outgoing.hear(payload)
        else:
            with telling(f"the task, as {event}"):
                self._note_event(event, payload)
            self._on_event(event, payload)

    def _note_event(self, event: str, payload: dict[str, Any]) -> None:
        if event == f"{self._takes}_complete":
            self.incoming.close(payload)
        elif event == "task_paid":
            self._note(payload)
        elif event.startswith("task_") or "task" in payload:
            self._stand(payload["task"])

    def _has_next(self, found: list[bytes]) -> bool:
        """Whether there is an answer for who waits for the next chunk; the chunk goes into `found`."""
        chunk = self.incoming.pop()
        if chunk is not None:
            found.append(chunk)
            return True
        if self.incoming.is_complete:
            return True
        if self.incoming.position.seq >= self.incoming.stored_seq:
            self._require_going()
        return False

    def _require_going(self) -> bool:
        """False, while the task has not ended.

        Raises:
            StreamBroken: It has.
        """
        if self.state["status"] in FINAL:
            raise StreamBroken(self.state["status"])
        return False


def _is_void(error: ClientError) -> bool:
    """Whether chunks were relayed and then not stored after all, so that the topic has to be joined again."""
    return isinstance(error, TopicEnded) and error.reason == RELAY_VOID
