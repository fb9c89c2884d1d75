"""Sockets and participants of task streams that resume: written for the tests, from the documents alone.

A `Link` is one socket on one task's topic, whose messages are heard at once and in order. A `Log` is what an
application was given of one direction: it may never be given a chunk twice, nor one before its turn, and what it holds
beyond the server's `next_seq` it drops when it comes again. What it holds before that it compares by the running
digest: where it was told what then was not stored, something else may have been stored in its place.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from crypto import NO_CHUNKS, next_digest
from tests.system.harness import REPLY_TIMEOUT_S, AgentAccount, MarketProcess, Refused

PUSH, REPLY = 0, 1
"""Kinds of the server's binary frames. Source: Phoenix's V2 serializer."""

UNLIMITED = {
    "AGRENTING_LOG_LEVEL": "warning",
    "AGRENTING_CONTROL_PER_S": "1000000",
    "AGRENTING_CONTROL_BURST": "1000000",
    "AGRENTING_DISCOVERY_PER_S": "1000000",
    "AGRENTING_DISCOVERY_BURST": "1000000",
    "AGRENTING_JOINS_PER_S": "1000000",
    "AGRENTING_JOINS_BURST": "1000000",
    "AGRENTING_STREAM_BYTES_PER_S": "1e12",
    "AGRENTING_STREAM_BYTES_BURST": "1e12",
    "AGRENTING_LIMITS_TASKS_OPEN_MAX": "100000",
}
"""Settings of servers whose rates are not what is tested."""


class Heard(NamedTuple):
    """A chunk as a receiver got it."""

    seq: int
    chunk: bytes
    form: str
    """How it came: `utf8`, `base64` or `binary`."""
    is_replay: bool | None
    """None where a binary frame has no place for it."""


def heard_chunk(payload: Any) -> Heard:
    """The chunk in a push of the server."""
    if isinstance(payload, bytes):
        return Heard(int.from_bytes(payload[:8], "big"), payload[8:], "binary", None)
    text, form = payload["chunk"], payload["encoding"]
    chunk = text.encode() if form == "utf8" else base64.b64decode(text, validate=True)
    return Heard(payload["seq"], chunk, form, payload.get("replay", False))


def digests_of(chunks: Sequence[bytes]) -> list[str]:
    """The running digest before each chunk, and after the last."""
    digests = [NO_CHUNKS]
    for seq, chunk in enumerate(chunks):
        digests.append(next_digest(digests[-1], seq=seq, chunk=chunk))
    return digests


def decode_binary(frame: bytes) -> tuple[str, str, str, bytes]:
    """Join_ref, topic, event and payload of a binary push; replies are not asked for here."""
    kind, *lengths = frame[:4]
    assert kind == PUSH, frame[:64]
    parts, at = [], 4
    for length in lengths:
        parts.append(frame[at : at + length].decode())
        at += length
    return parts[0], parts[1], parts[2], frame[at:]


def encode_binary(join_ref: str, ref: str, topic: str, event: str, payload: bytes) -> bytes:
    """A client's binary push."""
    parts = [part.encode() for part in (join_ref, ref, topic, event)]
    return bytes((PUSH, *map(len, parts))) + b"".join(parts) + payload


Then = Callable[[str, Any], None]
"""Told the status and the response of a push."""


class Link:
    """One socket on one topic. What comes is told at once, in the order in which it came.

    Args:
        socket: Open, V2.
        topic: The topic.
        hear: Told each push on the topic, and how the topic ended (`phx_error`, `phx_close`).
    """

    def __init__(self, socket: ClientConnection, topic: str, hear: Callable[[str, Any], None]) -> None:
        self.socket = socket
        self.topic = topic
        self.hear = hear
        self.join_ref: str | None = None
        self._is_joining = False
        self._ref = 0
        self._waiting: dict[str, Then] = {}

    async def read(self) -> None:
        """Hear everything until the socket is closed.

        Raises:
            ConnectionClosed: It is.
        """
        while True:
            self.take(await self.socket.recv())

    def take(self, raw: str | bytes) -> None:
        """One message of the server."""
        if isinstance(raw, bytes):
            join_ref, topic, event, payload = decode_binary(raw)
            self._told(join_ref, topic, event, payload)
            return
        join_ref, ref, topic, event, payload = json.loads(raw)
        if event == "phx_reply":
            self._is_joining = self._is_joining and ref != self.join_ref
            self._waiting.pop(ref)(payload["status"], payload["response"])
        else:
            self._told(join_ref, topic, event, payload)

    def _told(self, join_ref: str | None, topic: str, event: str, payload: Any) -> None:
        assert topic == self.topic
        if join_ref != self.join_ref and (event == "phx_close" or self._is_joining):
            return  # Of a join that another one replaces.
        assert join_ref == self.join_ref, f"{event} of another join"
        self.hear(event, payload)

    async def post(self, event: str, payload: Any, then: Then) -> None:
        """Push, and go on; `then` is told the reply."""
        self._ref += 1
        ref = str(self._ref)
        self._waiting[ref] = then
        if event == "phx_join":
            self.join_ref, self._is_joining = ref, True
        assert self.join_ref is not None
        if isinstance(payload, bytes):
            await self.socket.send(encode_binary(self.join_ref, ref, self.topic, event, payload))
        else:
            await self.socket.send(json.dumps([self.join_ref, ref, self.topic, event, payload]))

    def cut(self) -> None:
        """Break the connection, as a cable does."""
        self.socket.transport.abort()


@asynccontextmanager
async def linked(
    market: MarketProcess, key: str, topic: str, hear: Callable[[str, Any], None], **options: Any
) -> AsyncIterator[Link]:
    """A socket for one topic, which is not joined yet."""
    async with connect(
        market.socket_url,
        additional_headers={"x-api-key": key},
        compression=None,
        max_size=None,
        ping_interval=None,
        open_timeout=REPLY_TIMEOUT_S,
        **options,
    ) as socket:
        yield Link(socket, topic, hear)


class Log:
    """What an application was given of one direction, in order.

    Args:
        in_order: Whether chunks come in seq order on every connection, because they are sent so: then anything else is
            a fault of the server. If not, what comes early is kept until its turn.
        held: What the application has already.
    """

    def __init__(self, *, in_order: bool = True, held: Sequence[bytes] = ()) -> None:
        self.in_order = in_order
        self.chunks: list[bytes] = [*held]
        self.digests: list[str] = digests_of(held)
        self.agreed = 0
        """Up to where its digest was that of the server, when it last joined."""
        self.dropped = 0
        """Chunks that were relayed and came to nothing."""
        self._early: dict[int, bytes] = {}
        self._here: set[int] = set()
        """What has come since the last join."""

    @property
    def next_seq(self) -> int:
        """The next that the application waits for."""
        return len(self.chunks)

    @property
    def digest(self) -> str:
        """The running digest of all that it has."""
        return self.digests[-1]

    def require(self, next_seq: int, digest: str) -> None:
        """What the server says of its chunks up to one is what is here, as far as that goes."""
        if next_seq <= self.next_seq:
            assert self.digests[next_seq] == digest, f"other chunks than the server's before {next_seq}"

    def agrees(self, next_seq: int, digest: str) -> bool:
        """Whether what it holds before a seq is what the server has; if it holds less, that shows later."""
        if next_seq > self.next_seq:
            return True
        if self.digests[next_seq] != digest:
            return False
        self.agreed = next_seq
        return True

    def drop_from(self, next_seq: int) -> None:
        """A join's reply has come: what is held beyond it was never stored."""
        gone = self.chunks[next_seq:]
        self.dropped += len(gone)
        del self.chunks[next_seq:]
        del self.digests[next_seq + 1 :]
        self._early.clear()
        self._here.clear()

    def take(self, heard: Heard) -> None:
        """One chunk has come."""
        seq = heard.seq
        assert seq not in self._here, f"chunk {seq} came twice on one connection"
        self._here.add(seq)
        if self.in_order:
            assert seq == self.next_seq, f"chunk {seq} came, and {self.next_seq} was to come"
        assert seq >= self.next_seq, f"chunk {seq} came again, and {self.next_seq} was to come"
        self._early[seq] = heard.chunk
        while (chunk := self._early.pop(self.next_seq, None)) is not None:
            self.digests.append(next_digest(self.digest, seq=self.next_seq, chunk=chunk))
            self.chunks.append(chunk)


class Listener:
    """One socket of a participant that only listens: what came, in the order in which it came.

    Args:
        link: Its socket.
    """

    def __init__(self) -> None:
        self.link: Link
        self.logs = {"input": Log(), "output": Log()}
        self.heard: dict[str, list[Heard]] = {"input": [], "output": []}
        self.events: list[tuple[str, Any]] = []
        """All but chunks."""
        self.state: Any = None
        self.ended: str | None = None
        """`relay_void`, or why else the topic has ended."""
        self.pause = asyncio.Event()
        """It reads only while this is set."""
        self.pause.set()
        self.news = asyncio.Condition()
        self.over: ConnectionClosed | AssertionError | None = None
        """Why it reads no more."""

    def hear(self, event: str, payload: Any) -> None:
        """Take a push."""
        direction, _, what = event.partition("_")
        if what == "stream":
            chunk = heard_chunk(payload)
            self.heard[direction].append(chunk)
            self.logs[direction].take(chunk)
        elif event in {"phx_error", "phx_close"}:
            self.ended = payload.get("reason", event)
        else:
            self.events.append((event, payload))

    async def join(self, **payload: Any) -> Any:
        """Join, or join again: what is held beyond what is stored is dropped."""
        joined: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.ended = None

        def then(status: str, response: Any) -> None:
            if joined.done():
                return
            if status != "ok":
                joined.set_exception(Refused(response))
                return
            self.state = response
            for direction, log in self.logs.items():
                if f"{direction}_from" in payload:
                    log.drop_from(min(payload[f"{direction}_from"], response["streams"][direction]["next_seq"]))
            joined.set_result(response)

        await self.link.post("phx_join", payload, then)
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            return await joined

    async def resume(self, *directions: str, **payload: Any) -> Any:
        """Join from where its logs end; where they are not the server's, from where they were when they last agreed."""
        state = await self.join(**{f"{name}_from": self.logs[name].next_seq for name in directions}, **payload)
        streams = state["streams"]
        wrong = [
            name
            for name in directions
            if not self.logs[name].agrees(streams[name]["next_seq"], streams[name]["digest"])
        ]
        if not wrong:
            return state
        for name in wrong:
            self.logs[name].drop_from(self.logs[name].agreed)
        return await self.resume(*directions, **payload)

    async def read(self) -> None:
        """Read until the socket is closed."""
        try:
            while True:
                await self.pause.wait()
                self.link.take(await self.link.socket.recv())
                async with self.news:
                    self.news.notify_all()
        except (ConnectionClosed, AssertionError) as error:
            self.over = error
            async with self.news:
                self.news.notify_all()

    async def until(self, check: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait until something has come."""
        async with asyncio.timeout(within_s), self.news:
            await self.news.wait_for(lambda: self.over is not None or check())
        if self.over is not None and not check():
            raise self.over

    async def is_over(self, within_s: float = 30.0) -> ConnectionClosed:
        """Wait until the server has closed the socket."""
        await self.until(lambda: self.over is not None, within_s)
        assert isinstance(self.over, ConnectionClosed), self.over
        return self.over

    async def has(self, direction: str, count: int, within_s: float = 30.0) -> Log:
        """Wait until the application has so many chunks."""
        log = self.logs[direction]
        await self.until(lambda: log.next_seq >= count, within_s)
        return log


@asynccontextmanager
async def listening(
    market: MarketProcess, account: AgentAccount, task: dict[str, Any], **options: Any
) -> AsyncIterator[Listener]:
    """A listener that is connected; what fails while it reads fails the test."""
    listener = Listener()
    async with linked(market, account.api_key, f"task:{task['task_id']}", listener.hear, **options) as link:
        listener.link = link
        reading = asyncio.create_task(listener.read())
        try:
            yield listener
            if isinstance(listener.over, AssertionError):
                raise listener.over
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def words(count: int, size: int = 0) -> list[bytes]:
    """So many chunks of text, each other than the rest, of at least so many bytes."""
    return [f"{number} ".encode().ljust(size, b".") for number in range(count)]
