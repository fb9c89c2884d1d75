"""A server that lies: a proxy before a real one, which reads all that is told, and changes what it is to lie about.

    lie = Lie(r"event negotiation:.* offer", lambda offer: offer | {"midpoint": 1})
    async with LyingServer(market.url, lie) as liar:
        agent = Agent(liar.url, …)

What the client says goes through as it is. What the server says is named by its place, and its payload is handed to the
lie, if the place fits:

    GET /api/v1/tasks/{id}/receipt         the `data` of a REST answer, or the whole JSON where there is no envelope
    reply task:{id} phx_join               the response of a reply, by the event that it answers
    event task:{id} output_stream          the payload of an event; `bytes` where it came as a binary frame
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import httpx
import msgspec
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agrenting.client.frames import PUSH, decode_frame, encode_frame

DROPPED: Final = object()
"""What a lie answers where nothing is to come through."""

HOP_BY_HOP: Final = frozenset(("connection", "content-length", "transfer-encoding", "content-encoding", "host", "date"))
JSON_LINES: Final = "application/jsonl"
FRAME_BYTES_MAX: Final = 16_777_216

Json = Any
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


class Lie:
    """One lie.

    Args:
        where: A pattern of the whole place.
        change: Gets the payload, a copy, and gives what is told instead; `DROPPED`: nothing; None: the truth.
        times: How often it is told at most; None: always.
    """

    def __init__(self, where: str, change: Callable[[Json], Json], *, times: int | None = None) -> None:
        self._where = re.compile(where)
        self._change = change
        self._left = times
        self.told = 0
        """How often it was told."""
        self.on_told: Callable[[], None] = lambda: None
        """Called right before it is told the first time."""
        self.is_armed = True
        """Nothing but the truth is told while it is not."""

    def of(self, place: str, payload: Json) -> Json:
        """What is told at a place."""
        if not self.is_armed or self._left == 0 or not self._where.fullmatch(place):
            return payload
        told = self._change(json.loads(json.dumps(payload)) if not isinstance(payload, bytes) else payload)
        if told is None or told == payload:
            return payload
        if not self.told:
            self.on_told()
        self.told += 1
        self._left = None if self._left is None else self._left - 1
        return told


class LyingServer:
    """The proxy. Use it as an asynchronous context; `url` is where clients go.

    Args:
        target: The real server's address.
        *lies: What is told instead of the truth; the first one that fits a place changes it.
    """

    def __init__(self, target: str, *lies: Lie) -> None:
        self.url = ""
        self.lies = list(lies)
        self.places: list[str] = []
        """All places of which something was told, in order."""
        self.said: list[str] = []
        """All that clients have said, in order: `POST /api/v1/tasks`, `push negotiation:{id} offer`."""
        self._target = target
        self._sockets: set[ClientConnection] = set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._http = httpx.AsyncClient(base_url=self._target, timeout=30)
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            host="127.0.0.1",
            port=0,
            log_config=None,
            lifespan="off",
            ws_max_size=FRAME_BYTES_MAX,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # Older ones have it.
        self._serving = asyncio.create_task(self._serve())
        while not self._server.started:
            await asyncio.sleep(0.01)  # uvicorn tells nobody.
            assert not self._serving.done(), "the proxy did not start"
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self._server.should_exit = self._server.force_exit = True
        for socket in self._sockets:
            socket.transport.abort()
        await self._serving
        await self._http.aclose()

    def cut(self) -> None:
        """Cut all sockets, as a lost connection does."""
        for socket in self._sockets:
            socket.transport.abort()

    def told(self, place: str, payload: Json) -> Json:
        """What is told at a place, after the lies."""
        self.places.append(place)
        for lie in self.lies:
            changed = lie.of(place, payload)
            if changed is DROPPED or changed != payload:
                return changed
        return payload

    async def _serve(self) -> None:
        with suppress(asyncio.CancelledError):
            await self._server.serve()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._relay_call(scope, receive, send)
        else:
            await self._relay_socket(scope, receive, send)

    # REST.

    async def _relay_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, is_more = b"", True
        while is_more:
            part = await receive()
            body, is_more = body + part.get("body", b""), part.get("more_body", False)
        query = scope["query_string"].decode()
        self.said.append(f"{scope['method']} {scope['path']}")
        answer = await self._http.request(
            scope["method"],
            scope["path"] + (f"?{query}" if query else ""),
            content=body,
            headers=_headers(scope),
        )
        content = self._call_told(f"{scope['method']} {scope['path']}", answer)
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items() if name not in HOP_BY_HOP]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _call_told(self, place: str, answer: httpx.Response) -> bytes:
        kind = answer.headers.get("content-type", "")
        if not answer.is_success or not answer.content or "json" not in kind:
            return answer.content
        if kind.startswith(JSON_LINES):
            lines = [json.loads(line) for line in answer.content.splitlines()]
            return b"".join(json.dumps(line).encode() + b"\n" for line in self.told(place, lines))
        whole = answer.json()
        is_wrapped = isinstance(whole, dict) and "data" in whole
        told = self.told(place, whole["data"] if is_wrapped else whole)
        return json.dumps(whole | {"data": told} if is_wrapped else told).encode()

    # Sockets.

    async def _relay_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        address = f"{self._target.replace('http', 'ws', 1)}{scope['path']}?{scope['query_string'].decode()}"
        wanted = {"x-api-key", "origin", "cookie"}
        headers = {name: value for name, value in _headers(scope).items() if name in wanted}
        try:
            server = await connect(address, additional_headers=headers, compression=None, max_size=None)
        except InvalidStatus as refusal:
            await send({"type": "websocket.http.response.start", "status": refusal.response.status_code, "headers": []})
            await send({"type": "websocket.http.response.body", "body": bytes(refusal.response.body or b"")})
            return
        self._sockets.add(server)
        asked: dict[str, str] = {}
        try:
            await send({"type": "websocket.accept"})
            works = (self._to_server(server, receive, asked), self._to_client(server, send, asked))
            tasks = [asyncio.create_task(work) for work in works]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._sockets.discard(server)
            await server.close()
            with suppress(RuntimeError):  # The client has closed it.
                await send({"type": "websocket.close", "code": server.close_code or 1012})

    async def _to_client(self, server: ClientConnection, send: Send, asked: dict[str, str]) -> None:
        with suppress(ConnectionClosed):
            async for message in server:
                frame = self._frame_told(message, asked)
                if frame is not None:
                    await send({"type": "websocket.send", "text" if isinstance(frame, str) else "bytes": frame})

    async def _to_server(self, server: ClientConnection, receive: Receive, asked: dict[str, str]) -> None:
        with suppress(ConnectionClosed):
            while (heard := await receive())["type"] == "websocket.receive":
                message: str | bytes = heard["text"] if heard.get("text") is not None else heard["bytes"]
                ref, topic, event = _asked(message)
                asked[ref] = event
                self.said.append(f"push {topic} {event}")
                await server.send(message)

    def _frame_told(self, message: str | bytes, asked: dict[str, str]) -> str | bytes | None:
        frame = decode_frame(message)
        assert frame is not None, message
        join_ref, ref, topic, event, payload = frame
        if event == "phx_reply":
            event = asked.pop(ref or "", "")
            if payload["status"] != "ok":
                return message
            response = self.told(f"reply {topic} {event}", payload["response"])
            if response is DROPPED:
                return None
            return msgspec.json.encode(
                [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": response}]
            ).decode()
        told = self.told(f"event {topic} {event}", payload)
        if told is DROPPED:
            return None
        if isinstance(told, bytes):
            parts = [(part or "").encode() for part in (join_ref, topic, event)]
            return b"".join((bytes((PUSH, *map(len, parts))), *parts, told))
        return encode_frame((join_ref, ref, topic, event, told))


def _asked(message: str | bytes) -> tuple[str, str, str]:
    """Ref, topic and event of a frame of a client."""
    if isinstance(message, str):
        _, ref, topic, event, _ = json.loads(message)
        return ref or "", topic, event
    ends = 5
    parts: list[str] = []
    for length in message[1:5]:
        parts.append(message[ends : ends + length].decode())
        ends += length
    return parts[1], parts[2], parts[3]


def _headers(scope: Scope) -> dict[str, str]:
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    return {name: value for name, value in headers.items() if name not in HOP_BY_HOP}
