"""A server of one task, for tests of the client: it relays at once, and stores when the test says so.

It keeps to the rules that matter to a client: what is not stored is lost with it, a reply is an acknowledgement, and a
join is answered with what is stored, and then with the chunks from there on.
"""

import asyncio
import base64
import hashlib
from typing import Any, cast

import msgspec

from agrenting.client import ClientError, Disconnected, PhoenixSocket, RefusedByServer, Topic, TopicEnded
from crypto import NO_CHUNKS, next_digest

Json = dict[str, Any]
TASK_ID = "7a0b4c3e-1111-4222-8333-444455556666"
SENDERS = {"input": "client", "output": "provider"}


class Stream:
    """One direction: what is stored, and whether it is closed."""

    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}
        self.binary: set[int] = set()
        """Which of them came in binary frames."""
        self.checksum: str | None = None

    @property
    def next_seq(self) -> int:
        return next(seq for seq in range(len(self.stored) + 1) if seq not in self.stored)

    @property
    def whole(self) -> bytes:
        return b"".join(self.stored[seq] for seq in range(self.next_seq))

    def replay(self, seq: int) -> Json | bytes:
        """A stored chunk as it is replayed."""
        chunk = self.stored[seq]
        return in_frame(seq, chunk) if seq in self.binary else shown(seq, chunk) | {"replay": True}

    @property
    def told(self) -> Json:
        digest = NO_CHUNKS
        for seq in range(self.next_seq):
            digest = next_digest(digest, seq=seq, chunk=self.stored[seq])
        told = {"next_seq": self.next_seq, "total_size": len(self.whole), "digest": digest}
        return told | {"complete": self.checksum is not None, "checksum": self.checksum}


class Waiting:
    """A chunk that was relayed and is not stored yet."""

    def __init__(self, topic: Topic, direction: str, seq: int, chunk: bytes) -> None:
        self.topic = topic
        self.direction = direction
        self.seq = seq
        self.chunk = chunk
        self.reply: asyncio.Future[Json] = asyncio.get_running_loop().create_future()


class TaskServer:
    """The server. `is_slow`: chunks wait for `sync` until they are stored."""

    def __init__(self, stream_price: Json | None = None) -> None:
        self.is_slow = False
        self.streams = {"input": Stream(), "output": Stream()}
        self.waiting: list[Waiting] = []
        self.topics: dict[str, Topic] = {}
        self.joins: list[tuple[str, Json]] = []
        self.refusal: RefusedByServer | None = None
        self.pushed: list[tuple[str, Json | bytes]] = []
        self.paid = 0
        self.task: Json = {
            "task_id": TASK_ID,
            "status": "pending",
            "escrow_status": "none",
            "stream_price": stream_price,
        }

    def socket(self, role: str) -> PhoenixSocket:
        """One more connection of one side."""
        return cast("PhoenixSocket", Socket(self, role))

    @property
    def snapshot(self) -> Json:
        streams = {direction: stream.told for direction, stream in self.streams.items()}
        return {**self.task, **self.figures, "paid": self.paid, "streams": streams}

    @property
    def figures(self) -> Json:
        price = self.task["stream_price"]
        return {"paid_up_to": None if price is None else self.paid // price["amount"]}

    # What tests do.

    def sync(self, count: int | None = None) -> None:
        """Store what waits, or the first so many of it, and acknowledge it."""
        for one in self.waiting[:count]:
            stream = self.streams[one.direction]
            stream.stored[one.seq] = one.chunk
            if not one.reply.done():
                one.reply.set_result({"seq": one.seq, **stream.told, **self.figures})
        del self.waiting[:count]

    def cut(self, role: str) -> None:
        """One side loses its connection; what it has sent is stored all the same."""
        self._end(role, Disconnected("it was cut"))

    def crash(self) -> None:
        """Die and come back: what is not stored is lost."""
        lost, self.waiting = self.waiting, []
        for role in list(self.topics):
            self._end(role, Disconnected("the server died"))
        for one in lost:
            _fail(one.reply, Disconnected("the server died"))

    def void(self) -> None:
        """What was relayed is not stored after all: both have to join again."""
        lost, self.waiting = self.waiting, []
        for one in lost:
            _fail(one.reply, TopicEnded("it was relayed and not stored", "relay_void"))
        for role in list(self.topics):
            self._end(role, TopicEnded("it was relayed and not stored", "relay_void"))

    def pay(self, amount: int) -> None:
        self.paid += amount
        self.tell("task_paid", {"task_id": TASK_ID, "paid": self.paid, **self.figures})

    def end(self, status: str, **fields: Any) -> None:
        """The task ends."""
        self.task |= {"status": status, **fields}
        self.tell(f"task_{status}", {"task": self.snapshot})

    def tell(self, event: str, payload: Json | bytes, role: str | None = None) -> None:
        """Push an event to both sides, or to one."""
        for name, topic in self.topics.items():
            if role in {None, name}:
                topic.take((event, payload))

    # What clients do.

    async def join(self, topic: Topic, role: str, payload: Json) -> None:
        await asyncio.sleep(0)
        self.joins.append((role, payload))
        self.topics[role] = topic
        topic.state = self.snapshot
        for direction, stream in self.streams.items():
            wanted = payload.get(f"{direction}_from")
            if wanted is not None:
                for seq in sorted(stream.stored):
                    if seq >= min(wanted, stream.next_seq):
                        topic.take((f"{direction}_stream", stream.replay(seq)))

    async def take(self, role: str, topic: Topic, event: str, payload: Json | bytes) -> Json:
        if self.topics.get(role) is not topic:
            raise TopicEnded("it is not joined")
        await asyncio.sleep(0)
        self.pushed.append((event, payload))
        if self.refusal is not None:
            raise self.refusal
        direction, _, kind = event.partition("_")
        if kind == "stream" and direction in self.streams:
            return await self._chunk(topic, direction, payload)
        if kind == "complete" and direction in self.streams:
            stream = self.streams[direction]
            assert payload == {"checksum": hashlib.sha256(stream.whole).hexdigest(), "total_size": len(stream.whole)}
            stream.checksum = hashlib.sha256(stream.whole).hexdigest()
            self._relay(direction, event, stream.told)
            return stream.told
        if event == "release":
            self.task["escrow_status"] = "released"
            return self.snapshot
        return {"event": event}

    async def leave(self, role: str, topic: Topic) -> None:
        await asyncio.sleep(0)
        if self.topics.get(role) is topic:
            self._end(role, TopicEnded("it was left"))

    async def _chunk(self, topic: Topic, direction: str, payload: Json | bytes) -> Json:
        stream = self.streams[direction]
        if isinstance(payload, bytes):
            seq, chunk = int.from_bytes(payload[:8], "big"), payload[8:]
            stream.binary.add(seq)
        else:
            seq, chunk = payload["seq"], payload["chunk"].encode()
        if seq in stream.stored:
            assert stream.stored[seq] == chunk, "seq_conflict"
            reply = {"seq": seq, **stream.told, **self.figures, "duplicate": True}
            await asyncio.sleep(0)  # Replies come in the order in which they were given.
            return reply
        relayed = payload if isinstance(payload, bytes) else shown(seq, chunk)
        self._relay(direction, f"{direction}_stream", relayed)
        one = Waiting(topic, direction, seq, chunk)
        self.waiting.append(one)
        if not self.is_slow:
            self.sync()
            await asyncio.sleep(0)  # Those whose chunks were stored with it are told before.
        return await one.reply

    def _relay(self, direction: str, event: str, payload: Json | bytes) -> None:
        for role in self.topics:
            if role != SENDERS[direction]:
                self.tell(event, payload, role)

    def _end(self, role: str, error: ClientError) -> None:
        topic = self.topics.pop(role)
        topic.take(error)
        for one in self.waiting:
            if one.topic is topic:
                _fail(one.reply, error)


class Socket:
    """What a client sees of it."""

    def __init__(self, server: TaskServer, role: str) -> None:
        self._server = server
        self._role = role

    async def join(self, name: str, payload: Json | None = None) -> Topic:
        topic = Topic(cast("PhoenixSocket", self), name, "1")
        await self._server.join(topic, self._role, payload or {})
        return topic

    def drop(self, topic: Topic, error: TopicEnded) -> None:
        if topic.ended is None:
            topic.take(error)

    async def leave(self, topic: Topic) -> None:
        await self._server.leave(self._role, topic)

    async def request(self, topic: Topic, event: str, payload: Json | bytes, _timeout_s: float) -> Json:
        return await self._server.take(self._role, topic, event, payload)


def shown(seq: int, chunk: bytes) -> Json:
    """A chunk as a receiver gets it."""
    try:
        return {"task_id": TASK_ID, "seq": seq, "chunk": chunk.decode(), "encoding": "utf8"}
    except UnicodeDecodeError:
        return {"task_id": TASK_ID, "seq": seq, "chunk": base64.b64encode(chunk).decode(), "encoding": "base64"}


def in_frame(seq: int, chunk: bytes) -> bytes:
    """A chunk that was sent in a binary frame, as a receiver gets it that takes those."""
    return seq.to_bytes(8, "big") + chunk


def told_of(*chunks: bytes, complete: bool = False) -> Json:
    """What a server tells of a stream that has stored these chunks."""
    stream = Stream()
    stream.stored = dict(enumerate(chunks))
    if complete:
        stream.checksum = hashlib.sha256(stream.whole).hexdigest()
    return cast("Json", msgspec.to_builtins(stream.told))


def _fail(reply: asyncio.Future[Json], error: ClientError) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # Whoever waits is told; a test may have stopped waiting.
