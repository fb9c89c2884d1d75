"""Raw sockets for tests of the wire itself: every frame as it is, nothing matched or hidden; and a watched server.

A `WatchedMarket` logs everything at debug as JSON, remembers every secret that was made, and at its end holds the log
against them: no key or token stands in it, no handler has crashed that was not told to, and the exit code is 0.
"""

import asyncio
import base64
import json
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.system.harness import STOP_TIMEOUT_S, AgentAccount, MarketProcess

WITHIN_S = 30.0
ECHO_ROOM = '["examples.echo_room"]'
CRASH_SENTENCE = "the example crashes because it was told to"


class WatchedMarket(MarketProcess):
    """A server whose log is kept whole, and held against what must never stand in it."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        defaults = {"AGRENTING_LOG_LEVEL": "debug", "AGRENTING_TOPICS": ECHO_ROOM}
        super().__init__(data_dir, **defaults, **settings)
        self.log = deque()
        self.secrets: set[str] = set()

    def here(self, *arguments: str) -> Any:
        """As the harness, and the key that was made is remembered."""
        fields = super().here(*arguments)
        if "api_key" in fields:
            self.secrets.add(fields["api_key"])
        return fields

    def token(self, key: str) -> str:
        """A session token, by REST."""
        with self.rest(key) as rest:
            answer = rest.post("/api/v1/auth/authenticate")
            assert answer.is_success, answer.text
            token: str = answer.json()["data"]["session_token"]
        self.secrets.add(token)
        return token

    def events(self) -> list[dict[str, Any]]:
        """The log's lines so far, parsed."""
        return [json.loads(line) for line in list(self.log) if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        return [line for line in self.events() if line["event"] == event]

    def end(self) -> None:
        """Stop, and examine what was said meanwhile."""
        assert self.process is not None, "the server has died"
        assert self.process.poll() is None, "the server has died:\n" + "\n".join(self.log)
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        said = self.process.stdout.read()
        assert self._reap() == 0, "\n".join(self.log)
        self.require_quiet_log(said)

    def require_quiet_log(self, said: str = "") -> None:
        """No secret, no crash of ours, and nothing but structured lines."""
        written = "\n".join([*self.log, said])
        secrets = self.secrets | ({self.operator_key} if self.operator_key else set())
        for secret in secrets:
            assert secret not in written
            assert base64.b64encode(secret.encode()).decode().rstrip("=") not in written
        for mark in ("api_key=", "session_token=", "token=", "bearer.phx."):
            assert mark not in written
        loose = [line for line in self.log if not line.startswith("{")]
        assert not loose, "\n".join(loose)
        bad = [line for line in self.events() if line["level"] in {"error", "critical"} and not _is_wanted(line)]
        assert not bad, bad

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def ws_url(self, path: str = "/socket/websocket", query: str = "") -> str:
        """Any address of the socket door."""
        return self.url.replace("http", "ws", 1) + path + (f"?{query}" if query else "")

    @asynccontextmanager
    async def wire(
        self, account: AgentAccount | str, *, vsn: str = "2.0.0", path: str = "/socket/websocket", **options: Any
    ) -> AsyncIterator["Wire"]:
        """An open raw socket."""
        key = account if isinstance(account, str) else account.api_key
        async with connect(
            self.ws_url(path, f"vsn={vsn}"),
            additional_headers={"x-api-key": key},
            compression=None,
            ping_interval=None,
            max_size=None,
            open_timeout=WITHIN_S,
            **options,
        ) as socket:
            yield Wire(socket, vsn)


def _is_wanted(line: dict[str, Any]) -> bool:
    return line["event"] == "handler_crashed" and CRASH_SENTENCE in line.get("exception", "")


@contextmanager
def watched(data_dir: Path, **settings: str) -> Iterator[WatchedMarket]:
    """A watched server from here to there."""
    market = WatchedMarket(data_dir, **settings)
    market.start()
    try:
        yield market
    except BaseException:
        if market.process is not None:
            market.kill()
        raise
    if market.process is not None:
        market.end()


class Wire:
    """One socket, frame by frame."""

    def __init__(self, socket: ClientConnection, vsn: str = "2.0.0") -> None:
        self.socket = socket
        self.is_v1 = vsn.startswith("1")

    async def send(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any = None) -> None:
        """Send a frame; under V1 the join_ref goes along only if there is one."""
        payload = {} if payload is None else payload
        if self.is_v1:
            frame: Any = {"topic": topic, "event": event, "payload": payload, "ref": ref}
            if join_ref is not None:
                frame["join_ref"] = join_ref
        else:
            frame = [join_ref, ref, topic, event, payload]
        await self.socket.send(json.dumps(frame))

    async def send_raw(self, message: str | bytes | list[str] | list[bytes]) -> None:
        """Send a message as it is; a list is sent in fragments."""
        await self.socket.send(message)

    async def receive(self) -> Any:
        """The next message: V2 as a list, V1 as an object, binary as bytes."""
        async with asyncio.timeout(WITHIN_S):
            message = await self.socket.recv()
        return message if isinstance(message, bytes) else json.loads(message)

    async def until_flushed(self) -> list[Any]:
        """Everything that the server had to say before it answered a heartbeat, in order."""
        mark = f"flush-{os.urandom(4).hex()}"
        await self.send(None, mark, "phoenix", "heartbeat")
        came: list[Any] = []
        while True:
            message = await self.receive()
            if not isinstance(message, bytes) and (message["ref"] if self.is_v1 else message[1]) == mark:
                return came
            came.append(message)

    async def receive_event(self, event: str) -> Any:
        """The next message of an event; others before it are passed over."""
        while True:
            message = await self.receive()
            if not isinstance(message, bytes) and (message["event"] if self.is_v1 else message[3]) == event:
                return message

    async def join(self, topic: str, ref: Any = "1", payload: Any = None) -> Any:
        """Join without presence, and the response."""
        await self.send(ref, ref, topic, "phx_join", {"presence": False} if payload is None else payload)
        reply = await self.receive_event("phx_reply")
        body = reply["payload"] if self.is_v1 else reply[4]
        assert body["status"] == "ok", body
        return body["response"]

    async def closed(self) -> tuple[int | None, str]:
        """The code and the reason that the server closes with."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    await self.socket.recv()
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                return None, ""
            return closed.rcvd.code, closed.rcvd.reason

    async def is_alive(self) -> None:
        """The server still answers on this socket."""
        await self.until_flushed()


def ok(join_ref: Any, ref: Any, topic: str, response: Any = None) -> list[Any]:
    """The V2 reply of a push that was taken."""
    return [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": {} if response is None else response}]


def refused(message: Any) -> str:
    """The reason of a V2 error reply."""
    assert message[3] == "phx_reply", message
    assert message[4]["status"] == "error", message
    reason: str = message[4]["response"]["reason"]
    return reason


def binary_push(join_ref: str, ref: str, topic: str, event: str, data: bytes) -> bytes:
    """A client's binary push."""
    parts = [part.encode() for part in (join_ref, ref, topic, event)]
    return bytes((0, *map(len, parts))) + b"".join(parts) + data


async def http_exchange(address: tuple[str, int], request: bytes) -> bytes:
    """Send bytes on a plain connection; everything that comes until the other side closes."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            return await reader.read()
    finally:
        writer.close()
