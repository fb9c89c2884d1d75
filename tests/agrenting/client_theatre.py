"""A server whose part each test plays itself: one `Stage` for each socket that a client opens."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from agrenting.client import PhoenixSocket, Topic


class Stage:
    """The server's end of one socket."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        request = connection.request
        assert request is not None
        self.request = request

    async def hear(self) -> list[Any]:
        """The next frame of the client."""
        async with asyncio.timeout(30):
            frame: list[Any] = json.loads(await self.connection.recv())
        return frame

    async def say(self, *frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def reply(self, frame: list[Any], response: Any, status: str = "ok") -> None:
        join_ref, ref, topic, _event, _payload = frame
        await self.say(join_ref, ref, topic, "phx_reply", {"status": status, "response": response})

    async def tell(self, topic: Topic, event: str, payload: Any) -> None:
        """Push an event to a topic's subscriber."""
        await self.say(topic.join_ref, None, topic.name, event, payload)

    async def take_join(self, socket: PhoenixSocket, name: str, state: Any = None) -> Topic:
        """Let the client join."""
        joining = asyncio.create_task(socket.join(name))
        await self.reply(await self.hear(), {} if state is None else state)
        return await joining


class Theatre:
    """A server that hands every socket to the test."""

    def __init__(self) -> None:
        self.url = ""
        self.refusal: Response | None = None
        self.asked = 0
        """How often somebody has asked for a socket."""
        self.open_stages = 0
        self.holds = asyncio.Event()
        """Set unless handshakes are to hang."""
        self.holds.set()
        self.stages: asyncio.Queue[Stage] = asyncio.Queue()
        self._news = asyncio.Condition()

    async def stage(self) -> Stage:
        async with asyncio.timeout(30):
            return await self.stages.get()

    async def until_asked(self, times: int) -> None:
        """Wait until somebody has asked for a socket so often."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: self.asked >= times)

    async def take(self, connection: ServerConnection) -> None:
        self.stages.put_nowait(Stage(connection))
        self.open_stages += 1
        await connection.wait_closed()
        self.open_stages -= 1

    async def decide(self, _connection: ServerConnection, _request: Request) -> Response | None:
        async with self._news:
            self.asked += 1
            self._news.notify_all()
        await self.holds.wait()
        return self.refusal


@asynccontextmanager
async def playing(port: int = 0) -> AsyncIterator[Theatre]:
    """An open theatre, on a free port unless one is named."""
    theatre = Theatre()
    async with serve(theatre.take, "127.0.0.1", port, process_request=theatre.decide) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        theatre.url = f"http://127.0.0.1:{port}"
        yield theatre
