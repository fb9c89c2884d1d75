"""A stage for replays: a socket that reads when the test lets it, chunks that are stored, and what is told live."""

import json
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from agrenting.db import streams
from agrenting.db.streams import StoredChunk
from agrenting.db.transaction import ReaderTx, WriterTx
from agrenting.feeds import follow
from agrenting.presences import Topic
from agrenting.replays import Replays
from agrenting.subscriptions import Subscription
from channels.changes import StoreChunk
from channels.chunks import BinaryChunk, Encoding, SendChunk
from channels.handlers import Follow
from channels.session import Join, Joined
from channels.told import Audience, Broadcast, Unsaid
from channels.wire import Vsn

TOPIC: Final = "task:1"
OUTBOX: Final = 2_000

Step = Callable[[], None]


class Wire:
    """A connection as a subscription sees one. What it is sent it notes; `when_full` decides when the peer reads."""

    def __init__(self, agent_id: str, vsn: Vsn = Vsn.V2) -> None:
        self.vsn = vsn
        self.identity = SimpleNamespace(agent_id=agent_id)
        self.settings = SimpleNamespace(outbox_bytes_max=OUTBOX)
        self.sent: list[Any] = []
        self.ended: list[tuple[str, Any]] = []
        self.slow = 0
        self.joined: dict[str, Joined] = {}
        self.spawned: list[Coroutine[Any, Any, None]] = []
        self.is_full = False
        self.replays = Replays()
        self.engine: Any = None
        self.draining: deque[Step] = deque()
        """What happens while the peer is waited for, one for each time."""
        self.drains = 0
        self.hub = self.session = self.protocol = self

    def send(self, frame: str | bytes) -> None:
        self.sent.append(decoded(frame))

    def too_slow(self) -> None:
        self.slow += 1

    def end(self, subscription: Subscription, event: str, payload: Any) -> None:
        if self.joined.pop(subscription.topic, None) is subscription.joined:
            self.ended.append((event, payload))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.spawned.append(work)

    async def drained(self) -> None:
        self.drains += 1
        if self.draining:
            self.draining.popleft()()

    @property
    def seqs(self) -> list[tuple[str, int]]:
        """The chunks that it was sent: `i` or `o`, and the seq."""
        return [(event[0], payload["seq"]) for event, payload in self.sent if event.endswith("_stream")]

    @property
    def output(self) -> list[int]:
        """The seqs of the output."""
        return [seq for direction, seq in self.seqs if direction == "o"]


class Stage:
    """One task's streams on a real file, and a socket of its client that follows them."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.tx = WriterTx(self.connection, {})
        self.topic = Topic(TOPIC)
        self.reading: deque[Step] = deque()
        """What happens right before a page is read, one for each time."""
        self.settling: deque[Step] = deque()
        """What is stored while everything under way is waited for."""
        self.reads = 0

    def close(self) -> None:
        """Let go of the file."""
        with closing(self.connection):
            self.connection.rollback()

    # What is stored, and told.

    def store(self, *seqs: int, direction: str = "output", size: int = 4, encoding: Encoding = "utf8") -> None:
        """Chunks are durable."""
        for seq in seqs:
            streams.append(self.tx, StoreChunk("1", direction, seq, data_of(seq, size), encoding, None))

    def tell(self, *seqs: int, direction: str = "output", size: int = 4, encoding: Encoding = "utf8") -> None:
        """Chunks are relayed, durable or not."""
        for seq in seqs:
            data = data_of(seq, size)
            chunk: SendChunk | BinaryChunk = SendChunk(chunk=data.decode(), seq=seq)
            if encoding == "binary":
                chunk = BinaryChunk(seq=seq, data=data)
            payload = {"task_id": "1", "seq": seq, **chunk.shown}
            said = Broadcast(TOPIC, f"{direction}_stream", payload, Audience.OTHER_AGENTS, binary=chunk.binary)
            self.topic.publish(said, "bob", None)

    def say(self, event: str, **payload: Any) -> None:
        """Something else is told."""
        self.topic.publish(Broadcast(TOPIC, event, payload), "bob", None)

    def unsay(self) -> None:
        """What Bob has sent is taken back."""
        self.topic.unsay(Unsaid(TOPIC).topic and "bob")

    # Who follows.

    def join(
        self,
        wire: Wire,
        *,
        output: int | None = 0,
        input_: int | None = None,
        is_binary: bool = False,
        topic: str = TOPIC,
    ) -> Subscription:
        """A socket joins; its replay begins when it is run."""
        joined = Joined(topic, "j")
        given: Any = wire
        route: Any = SimpleNamespace(visible=None)
        party: Any = SimpleNamespace(id=wire.identity.agent_id)
        subscription = Subscription(given, joined, Join(topic, msgspec.Raw(b"{}"), "j", "1", None), route, party)
        joined.subscription = subscription
        wire.joined[topic] = joined
        self.topic.subscribers[subscription] = None
        wanted = {"input": input_, "output": output}
        replays = {direction: first for direction, first in wanted.items() if first is not None}
        engine = SimpleNamespace(read=self._read, settled=self._settled)
        given.engine = engine
        follow(subscription, Follow(task_id="1", replays=replays, is_binary=is_binary))
        return subscription

    async def run(self, wire: Wire) -> None:
        """The replays of a socket run to their ends."""
        while wire.spawned:
            await wire.spawned.pop(0)

    async def _read(self, question: Callable[[ReaderTx], list[StoredChunk]]) -> list[StoredChunk]:
        self.reads += 1
        if self.reading:
            self.reading.popleft()()
        given: Any = self.tx
        return question(given)

    async def _settled(self) -> None:
        if self.settling:
            self.settling.popleft()()


Settled = Callable[[], Awaitable[None]]


def data_of(seq: int, size: int = 4) -> bytes:
    """The bytes of a chunk."""
    return f"{seq:0{size}}".encode()


def decoded(frame: str | bytes) -> tuple[str, Any]:
    """Event and payload of a frame of either version; of a binary one its seq and its bytes."""
    if isinstance(frame, str):
        message = json.loads(frame)
        return (message["event"], message["payload"]) if isinstance(message, dict) else (message[3], message[4])
    _kind, own, topic, event = frame[:4]
    name = frame[4 + own + topic : 4 + own + topic + event].decode()
    payload = frame[4 + own + topic + event :]
    return name, {"seq": int.from_bytes(payload[:8], "big"), "bytes": payload[8:]}
