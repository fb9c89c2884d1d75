"""A Phoenix socket, V2: topics, pushes with their replies, events, heartbeats.

A lost connection raises `Disconnected` wherever somebody waits; every join reply carries the whole state, so
connecting again and rejoining makes an agent whole.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from .errors import Disconnected, RefusedByServer, TopicEnded

HEARTBEAT_S = 30.0
REPLY_TIMEOUT_S = 30.0

OnFrame = Callable[[str, Any], None]
"""Told of each frame: `>` or `<`, and the frame."""


class Topic:
    """A joined topic. `state` is its join reply: the whole state at that moment."""

    def __init__(self, socket: "PhoenixSocket", name: str, join_ref: str) -> None:
        self.name = name
        self.join_ref = join_ref
        self.state: Any = None
        self._socket = socket
        self.inbox: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def push(self, event: str, payload: dict[str, Any] | None = None) -> Any:
        """Push an event and wait for its reply.

        Raises:
            RefusedByServer: The reply is an error.
            Disconnected: The socket is gone.
        """
        return await self._socket.request(self, event, payload or {})

    async def next_event(self, timeout_s: float | None = None) -> tuple[str, Any]:
        """The next event and its payload.

        Raises:
            TopicEnded: The server has ended the topic.
            Disconnected: The socket is gone.
            TimeoutError: Nothing came in time.
        """
        async with asyncio.timeout(timeout_s):
            event, payload = await self.inbox.get()
        if event == "disconnected":
            self.inbox.put_nowait((event, payload))  # For whoever else waits.
            raise Disconnected(payload)
        if event in {"phx_close", "phx_error"}:
            raise TopicEnded(f"{self.name}: {event} {payload}")
        return event, payload

    async def expect(self, event: str, timeout_s: float | None = REPLY_TIMEOUT_S) -> Any:
        """The payload of the next event of that name; others before it are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                name, payload = await self.next_event()
                if name == event:
                    return payload

    async def leave(self) -> None:
        """Leave the topic."""
        await self._socket.leave(self)


class PhoenixSocket:
    """One socket of one agent. Use it as an asynchronous context.

    Args:
        base_url: As in `http://127.0.0.1:4000`.
        api_key: Sent in the header x-api-key; never shown.
        on_frame: Told of each frame, for those who want to watch.
    """

    def __init__(self, base_url: str, api_key: str, on_frame: OnFrame | None = None) -> None:
        self._address = base_url.replace("http", "ws", 1) + "/socket/websocket?vsn=2.0.0"
        self._headers = {"x-api-key": api_key}
        self._on_frame: OnFrame = on_frame or (lambda _direction, _frame: None)
        self._topics: dict[str, Topic] = {}
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._ref = 0
        self._connection: ClientConnection
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            Disconnected: The server cannot be reached, or refuses the credential.
        """
        try:
            self._connection = await connect(
                self._address, additional_headers=self._headers, compression=None, max_size=None
            )
        except (OSError, WebSocketException) as error:
            raise Disconnected(f"cannot connect: {error}") from error
        self._tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._beat()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the socket."""
        await self._connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, name: str, payload: dict[str, Any] | None = None) -> Topic:
        """Join a topic; its `state` is the reply.

        Raises:
            RefusedByServer: The join was refused.
            Disconnected: The socket is gone.
        """
        topic = Topic(self, name, self._next_ref())
        self._topics[name] = topic
        try:
            topic.state = await self._ask(topic.join_ref, topic.join_ref, name, "phx_join", payload or {})
        except BaseException:
            self._topics.pop(name, None)
            raise
        return topic

    async def leave(self, topic: Topic) -> None:
        """Leave a topic."""
        self._topics.pop(topic.name, None)
        await self._ask(topic.join_ref, self._next_ref(), topic.name, "phx_leave", {})

    async def request(self, topic: Topic, event: str, payload: dict[str, Any]) -> Any:
        """Push an event on a topic and wait for its reply."""
        return await self._ask(topic.join_ref, self._next_ref(), topic.name, event, payload)

    def _next_ref(self) -> str:
        self._ref += 1
        return str(self._ref)

    async def _ask(self, join_ref: str | None, ref: str, topic: str, event: str, payload: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[ref] = future
        frame = (join_ref, ref, topic, event, payload)
        self._on_frame(">", frame)
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await self._connection.send(msgspec.json.encode(frame).decode())
                reply = await future
        except WebSocketException as error:
            raise Disconnected(str(error)) from error
        finally:
            self._waiting.pop(ref, None)
            future.cancel()
        response = reply["response"]
        if reply["status"] != "ok":
            context = {name: value for name, value in response.items() if name not in {"reason", "message"}}
            raise RefusedByServer(response.get("reason", "refused"), response.get("message", ""), context)
        return response

    async def _read(self) -> None:
        try:
            async for message in self._connection:
                self._hear(msgspec.json.decode(message))
        except WebSocketException:
            pass  # What it means is said below, to whoever waits.
        finally:
            self._lost()

    def _hear(self, frame: Any) -> None:
        self._on_frame("<", frame)
        join_ref, ref, name, event, payload = frame
        if event == "phx_reply":
            future = self._waiting.get(ref)
            if future is not None and not future.done():
                future.set_result(payload)
            return
        topic = self._topics.get(name)
        if topic is not None and join_ref in {None, topic.join_ref}:
            topic.inbox.put_nowait((event, payload))

    def _lost(self) -> None:
        code = self._connection.close_code
        sentence = f"the connection was closed with {code}: {self._connection.close_reason}"
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Disconnected(sentence))
        for topic in self._topics.values():
            topic.inbox.put_nowait(("disconnected", sentence))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._ask(None, self._next_ref(), "phoenix", "heartbeat", {})
