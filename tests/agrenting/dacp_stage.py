"""A stage for FDC3's messages: a whole server in this process, on a real port, and clients that hide nothing."""

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agrenting.transport import HubProtocol
from tests.agrenting.api.market import Marketplace, Player, marketplace
from tests.system.harness import Client

WITHIN_S: Final = 30.0
CONTEXT: Final = {"type": "fdc3.quote", "price": 1.5, "id": {"isin": "DE1"}, "nested": {"kept": [1, None]}}

ADDED, UNSUBSCRIBED, DISCONNECTED, BROADCAST = (
    "privateChannelOnAddContextListenerEvent",
    "privateChannelOnUnsubscribeEvent",
    "privateChannelOnDisconnectEvent",
    "broadcastEvent",
)

Message = dict[str, Any]


class Denied(Exception):
    """A response with an error."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Fdc3Client:
    """One socket that speaks FDC3's messages, as plain JSON."""

    def __init__(self, connection: ClientConnection, player: Player) -> None:
        self.connection = connection
        self.player = player
        self.instance_id = ""
        self.events: deque[Message] = deque()
        self._responses: dict[str, Message] = {}
        self._uuids = count(1)

    async def send(self, type_: str, payload: Any = None, **meta: Any) -> str:
        """Send a request, and wait for nothing; its requestUuid."""
        uuid = f"r-{next(self._uuids)}"
        frame = {"type": type_, "payload": {} if payload is None else payload, "meta": {"requestUuid": uuid, **meta}}
        await self.connection.send(json.dumps(frame))
        return uuid

    async def response(self, uuid: str) -> Message:
        """The response to a request, whole; what else comes meanwhile is kept."""
        async with asyncio.timeout(WITHIN_S):
            while uuid not in self._responses:
                await self._take()
        return self._responses.pop(uuid)

    async def ask(self, type_: str, payload: Any = None) -> Any:
        """Send a request; the payload of its response, or Denied."""
        told = await self.response(await self.send(type_, payload))
        assert told["type"] == type_.removesuffix("Request") + "Response"
        if "error" in told["payload"]:
            assert set(told["payload"]) == {"error"}
            raise Denied(told["payload"]["error"])
        return told["payload"]

    async def denied(self, type_: str, payload: Any = None) -> str:
        """The word by which a request is refused."""
        try:
            told = await self.ask(type_, payload)
        except Denied as denied:
            return denied.word
        raise AssertionError(f"it was not refused: {told}")

    async def event(self, type_: str = "") -> Message:
        """The next event, of a type; those before it are let go."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                while not self.events:
                    await self._take()
                event = self.events.popleft()
                if type_ in {"", event["type"]}:
                    return event

    async def flush(self) -> list[str]:
        """What events have come until now, in short; they are let go."""
        await self.ask("getInfoRequest")
        names = [one["type"] for one in self.events]
        self.events.clear()
        return names

    async def closed(self) -> tuple[int | None, str]:
        """Wait until the server has closed it."""
        async with asyncio.timeout(WITHIN_S):
            try:
                while True:
                    await self._take()
            except ConnectionClosed:
                return self.connection.close_code, self.connection.close_reason or ""

    async def info(self) -> Message:
        """What it is told of the server and of itself."""
        told: Message = (await self.ask("getInfoRequest"))["implementationMetadata"]
        return told

    async def step(self, payload: Message) -> Message:
        """WCP4, and its answer."""
        frame = {"type": "WCP4ValidateAppIdentity", "payload": payload, "meta": {"connectionAttemptUuid": "c-1"}}
        await self.connection.send(json.dumps(frame))
        async with asyncio.timeout(WITHIN_S):
            while "c-1" not in self._responses:
                await self._take()
        return self._responses.pop("c-1")

    async def create(self) -> str:
        """A new channel; its id."""
        id_: str = (await self.ask("createPrivateChannelRequest"))["privateChannel"]["id"]
        return id_

    async def invite(self, channel_id: str, **more: Any) -> str:
        """A token for a channel of its own."""
        token: str = (await self.ask("createPrivateChannelInvitation", {"channelId": channel_id, **more}))[
            "invitationToken"
        ]
        return token

    async def join(self, channel_id: str, token: str | None = None) -> Any:
        """Join a channel."""
        offered = {} if token is None else {"invitationToken": token}
        return await self.ask("joinPrivateChannel", {"channelId": channel_id, **offered})

    async def listen(self, channel_id: str | None, context_type: str | None = None) -> str:
        """Add a context listener; its id."""
        wanted = {"channelId": channel_id, "contextType": context_type}
        id_: str = (await self.ask("addContextListenerRequest", wanted))["listenerUUID"]
        return id_

    async def watch(self, channel_id: str, kind: str | None = None) -> str:
        """Add an event listener; its id."""
        wanted = {"privateChannelId": channel_id, "listenerType": kind}
        id_: str = (await self.ask("privateChannelAddEventListenerRequest", wanted))["listenerUUID"]
        return id_

    async def broadcast(self, channel_id: str, context: Any = CONTEXT) -> None:
        """Tell a context."""
        assert await self.ask("broadcastRequest", {"channelId": channel_id, "context": context}) == {}

    async def _take(self) -> None:
        message = json.loads(await self.connection.recv())
        meta = message["meta"]
        uuid = meta.get("requestUuid") or meta.get("connectionAttemptUuid")
        if uuid is None:
            self.events.append(message)
        else:
            assert uuid not in self._responses, "one response for each request"
            self._responses[uuid] = message


class Floor:
    """A running server and who comes to it."""

    def __init__(self, market: Marketplace, port: int) -> None:
        self.market = market
        self.hub = market.server.hub
        self.port = port

    def address(self, path: str = "/socket/dacp", query: str = "") -> str:
        """Where a socket is opened."""
        return f"ws://127.0.0.1:{self.port}{path}{query}"

    @asynccontextmanager
    async def fdc3(self, player: Player, query: str = "", **options: Any) -> AsyncIterator[Fdc3Client]:
        """A socket that speaks FDC3's messages."""
        headers = {"x-api-key": player.api_key}
        async with connect(self.address(query=query), additional_headers=headers, **options) as connection:
            client = Fdc3Client(connection, player)
            client.instance_id = (await client.info())["appMetadata"]["instanceId"]
            yield client

    @asynccontextmanager
    async def phoenix(self, player: Player, instance_id: str = "") -> AsyncIterator[Client]:
        """A socket that speaks Phoenix's protocol."""
        query = "?vsn=2.0.0" + (f"&instance_id={instance_id}" if instance_id else "")
        address = self.address("/socket/websocket", query)
        async with connect(address, additional_headers={"x-api-key": player.api_key}) as connection:
            client = Client(connection)
            try:
                yield client
            finally:
                await client.close()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until the server stands so; the loop turns meanwhile."""
        async with asyncio.timeout(WITHIN_S):
            while not is_so():
                await self.market.server.database.commits.drain()
                await asyncio.sleep(0)


class Ringing(uvicorn.Server):
    """uvicorn, that says when it has started, and leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config, has_started: asyncio.Event) -> None:
        super().__init__(config)
        self._has_started = has_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._has_started.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


@asynccontextmanager
async def floor(folder: Path, **settings: Any) -> AsyncIterator[Floor]:
    """A server on a free port."""
    async with marketplace(folder, **settings) as market:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            market.app,
            ws=HubProtocol,
            ws_max_size=market.server.settings.frame_bytes_max,
            ws_ping_interval=None,
            access_log=False,
            log_config=None,
            lifespan="off",
        )
        started = asyncio.Event()
        server = Ringing(config, started)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(WITHIN_S):
                await started.wait()
            yield Floor(market, listener.getsockname()[1])
        finally:
            await market.server.hub.drain()
            server.should_exit = True
            await serving


async def player(hall: Floor, name: str) -> Player:
    """An agent of an owner of that name."""
    await hall.market.user(name)
    return await hall.market.agent(name, "Bot")


async def guest(owner: Fdc3Client, other: Fdc3Client) -> str:
    """A new channel in which both sit."""
    channel_id = await owner.create()
    told = await other.join(channel_id, await owner.invite(channel_id))
    assert told == {"channel": {"id": channel_id, "type": "private"}}
    return channel_id
