"""Senders and receivers of streams: the provider's socket, which keeps chunks in flight, and the client's.

Against the bare relay the same two say the same frames. It acknowledges nothing, so there the sender goes on with what
the receiver has got: both are in this process.
"""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from picows import WSFrame, WSMsgType, WSTransport

from benchmarks.load import Client, Script
from benchmarks.servers import Account
from channels.chunks import binary_chunk

WITHIN_S = 30.0
HEAD_BYTES = 128
"""A frame's refs, topic and event, and the status of a reply, are in front of this."""

SEQ_BYTES = 8
LINE = "A stream is text as people write it: words, commas, and now and then a new line.\n"
UNDER_WAY_BYTES = 524_288
UNDER_WAY_MAX = 128


@dataclass(frozen=True)
class Kind:
    """How a stream is cut: text in JSON or bytes in binary frames, and the bytes of a chunk."""

    form: Literal["text", "binary"]
    size: int

    @property
    def name(self) -> str:
        """As the table says it."""
        return f"{self.form}, {self.size // 1024} KiB"

    @property
    def window(self) -> int:
        """Chunks in flight: enough to keep a server busy, and less than one outbox."""
        return max(4, min(UNDER_WAY_MAX, UNDER_WAY_BYTES // self.size))  # Rounds down.

    @property
    def body(self) -> bytes:
        """Every chunk's bytes."""
        if self.form == "binary":
            return bytes(number * 7 & 0xFF for number in range(self.size))
        return (LINE * (self.size // len(LINE) + 1))[: self.size].encode()

    @property
    def shown(self) -> bytes:
        """The same, as they stand in a frame."""
        return self.body if self.form == "binary" else json.dumps(self.body.decode())[1:-1].encode()


@dataclass
class Times:
    """Seconds from the sending of each chunk until the receiver had it, and until it was acknowledged."""

    relayed_s: list[float] = field(default_factory=list[float])
    acknowledged_s: list[float] = field(default_factory=list[float])

    def clear(self) -> None:
        """Begin anew."""
        self.relayed_s.clear()
        self.acknowledged_s.clear()


class Streaming(Client):
    """One end of a stream.

    Args:
        topic: The task's.
        key: Whose socket it is; empty: the bare relay's, where nothing is joined.
        joins: The payload of the join.
    """

    def __init__(self, topic: str, key: str, joins: dict[str, Any]) -> None:
        super().__init__(Script(topic, key=key), 0)
        self._join = f'["1","1","{topic}","phx_join",{json.dumps(joins)}]'.encode()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join, where there is something to join."""
        self.transport = transport
        if self.script.key:
            transport.send(WSMsgType.TEXT, self._join)
        else:
            self.joined.set_result(b'"status":"ok"')


class Sender(Streaming):
    """The provider's socket: sends the next chunk for each that is acknowledged."""

    def __init__(self, kind: Kind, topic: str, key: str = "", window: int | None = None) -> None:
        super().__init__(topic, key, {})
        self.kind = kind
        self.window = window or kind.window
        self.body = kind.body
        self.times = Times()
        self.sent_at: list[float] = []
        self.acknowledged = 0
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self.refusal = ""
        self.until: int | None = None
        """The stream ends with so many chunks; None: when it is told to."""
        self._answer: asyncio.Future[bytes] | None = None
        self._front = f'"{topic}","output_stream",{{"seq":'
        self._back = b',"chunk":"%b"}]' % kind.shown

    @property
    def sent(self) -> int:
        """Chunks so far."""
        return len(self.sent_at)

    def start(self) -> None:
        """Keep the window full from now on."""
        self.is_pushing = True
        for _ in range(self.window):
            self.go_on()

    def go_on(self) -> None:
        """Send one more, if there is one."""
        if self.is_pushing and (self.until is None or self.sent < self.until):
            self.push()

    def push(self) -> None:
        """Send the next chunk."""
        seq = self.sent
        self.is_idle.clear()
        self.sent_at.append(time.perf_counter())
        if self.kind.form == "text":
            head = f'["1","{seq}",{self._front}{seq}'.encode()
            self.transport.send(WSMsgType.TEXT, head + self._back)
        else:
            parts = (b"1", b"%d" % seq, self.script.topic.encode(), b"output_stream")
            head = bytes((0, *map(len, parts))) + b"".join(parts)
            self.transport.send(WSMsgType.BINARY, head + binary_chunk(seq, self.body))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows hands it over
        """Hear a reply."""
        payload = frame.get_payload_as_bytes()
        if not self.joined.done():
            self.joined.set_result(payload)
        elif b'"phx_reply"' not in payload[:HEAD_BYTES]:
            return
        elif b'"status":"ok"' not in payload[:HEAD_BYTES]:
            self.refusal = self.refusal or payload.decode()
            self.is_pushing = False
            self.is_idle.set()
            if self._answer is not None:
                self._answer.set_result(payload)
        elif self._answer is not None:
            self._answer.set_result(payload)
        else:
            self.times.acknowledged_s.append(time.perf_counter() - self.sent_at[self.acknowledged])
            self.take()

    def take(self) -> None:
        """One more is acknowledged."""
        self.acknowledged += 1
        if self.acknowledged == self.sent and not self.is_pushing:
            self.is_idle.set()
        self.go_on()
        if self.acknowledged == self.until:
            self.is_idle.set()

    async def stop(self) -> None:
        """Send no more, and wait until all that was sent is acknowledged.

        Raises:
            RuntimeError: Something was refused.
        """
        self.is_pushing = False
        if self.acknowledged < self.sent and not self.refusal:
            await asyncio.wait_for(self.is_idle.wait(), WITHIN_S)
        if self.refusal:
            raise RuntimeError(f"a chunk was refused: {self.refusal}")

    async def close_stream(self) -> None:
        """Close the stream with its checksum, which the server compares with what it has stored; end the task."""
        sha256 = hashlib.sha256()
        for _ in range(self.sent):
            sha256.update(self.body)
        checksum = {"checksum": sha256.hexdigest(), "total_size": self.sent * self.kind.size}
        for event, payload in (("output_complete", checksum), ("complete", {"result": None})):
            self._answer = asyncio.get_running_loop().create_future()
            message = f'["1","{event}","{self.script.topic}","{event}",{json.dumps(payload)}]'
            self.transport.send(WSMsgType.TEXT, message.encode())
            await asyncio.wait_for(self._answer, WITHIN_S)
        if self.refusal:
            raise RuntimeError(f"the end of a stream was refused: {self.refusal}")


class Receiver(Streaming):
    """The client's socket: takes every chunk, and looks that it is the next one, and whole.

    Args:
        sender: Whose stream.
        key: The client's; empty at the bare relay.
        replays_from: Asks for the stored chunks from here on; None: only for what comes.
    """

    def __init__(self, sender: Sender, key: str = "", replays_from: int | None = None) -> None:
        joins: dict[str, Any] = {"binary": True}
        if replays_from is not None:
            joins["output_from"] = replays_from
        super().__init__(sender.script.topic, key, joins)
        self.sender = sender
        self.received = 0
        self.has_all = asyncio.Event()
        self.expected: int | None = None
        self._expected_body = sender.kind.shown

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a chunk."""
        payload = frame.get_payload_as_bytes()
        if not self.joined.done():
            self.joined.set_result(payload)
            return
        if frame.msg_type == WSMsgType.TEXT:
            front, seq, rest = payload[: 2 * HEAD_BYTES].partition(b'"seq":')
            if b'"output_stream"' not in front or not seq:
                return
            number = int(rest[: rest.index(b",")])
        elif frame.msg_type == WSMsgType.BINARY:
            start = len(payload) - self.sender.kind.size
            number = int.from_bytes(payload[start - SEQ_BYTES : start], "big")
        else:
            return
        if number != self.received or self._expected_body not in payload:
            transport.disconnect()
            self.sender.refusal = f"chunk {number} came where {self.received} belongs, or it was not whole"
            return
        self._take(number)

    def _take(self, number: int) -> None:
        sender = self.sender
        self.received += 1
        sender.times.relayed_s.append(time.perf_counter() - sender.sent_at[number])
        if not sender.script.key:
            sender.take()
        if self.received == self.expected:
            self.has_all.set()

    async def take_all(self, expected: int) -> None:
        """Wait until so many have come."""
        self.expected = expected
        if self.received < expected:
            await asyncio.wait_for(self.has_all.wait(), WITHIN_S)


def open_task(rest: httpx.Client, client: Account, provider: Account) -> str:
    """The topic of a new task that costs nothing."""
    body = {"provider_agent_id": provider.id, "capability": "work", "max_price": 0}
    made = rest.post("/api/v1/tasks", json=body, headers={"x-api-key": client.key}).raise_for_status()
    return f"task:{made.json()['data']['task_id']}"
