"""One program of an agent in private channels, over either transport, with one set of verbs.

`Dacp` speaks FDC3's messages plainly; `over_phoenix` and `over_dacp` give a `Guest`, for what must be the same on both.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect

from tests.system.fdc3_schemas import NEVER_ANSWERED, Frame, faults_of
from tests.system.harness import AgentAccount, Client, MarketProcess, Refused

WITHIN_S = 30.0
NORMAL = 1000


class Denied(Exception):
    """A refusal, by its reason."""


class Guest(Protocol):
    """One program of an agent."""

    @property
    def instance_id(self) -> str:
        """Which of its agent's programs it is."""
        ...

    async def join(self, channel: str, token: str | None = None) -> None:
        """Sit in a channel, or Denied."""

    async def leave(self, channel: str) -> None:
        """Sit there no more, or Denied."""

    async def say(self, channel: str, context: dict[str, Any]) -> None:
        """Broadcast a context, or Denied."""

    async def lose(self) -> None:
        """Lose the connection, without a word to the server."""


class Dacp:
    """FDC3's messages on one socket; nothing is hidden, and at the end everything is held against the schemas."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[Frame] = []
        self.inbox: list[dict[str, Any]] = []
        """Events that nobody has asked for yet."""
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for raw in self.socket:
                body = json.loads(raw)
                self.frames.append(Frame(body, is_sent=False))
                meta = body["meta"]
                answer = self._answers.pop(meta.get("requestUuid") or meta.get("connectionAttemptUuid"), None)
                if answer is not None:
                    answer.set_result(body["payload"])
                    continue
                async with self._news:
                    self.inbox.append(body)
                    self._news.notify_all()
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError(f"closed with {self.socket.close_code}"))

    async def send(self, body: dict[str, Any]) -> None:
        """Send a frame as it is."""
        self.frames.append(Frame(body, is_sent=True))
        await self.socket.send(json.dumps(body))

    async def ask(self, type_: str, **payload: Any) -> dict[str, Any]:
        """Send a request; the payload of its response, or Denied."""
        return await self.ask_as(None, type_, **payload)

    async def ask_as(self, source: dict[str, str] | None, type_: str, **payload: Any) -> dict[str, Any]:
        """Send a request that says from whom it is, truly or not."""
        id_ = str(uuid4())
        meta: dict[str, Any] = {"requestUuid": id_, "timestamp": datetime.now(UTC).isoformat()}
        if source is not None:
            meta["source"] = source
        told = await self._answered(id_, {"type": type_, "payload": payload, "meta": meta})
        if "error" in told:
            raise Denied(told["error"])
        return told

    async def attach(self, **identity: str) -> dict[str, Any]:
        """FDC3's last handshake step; what it answers."""
        meta = {"connectionAttemptUuid": str(uuid4()), "timestamp": datetime.now(UTC).isoformat()}
        page = "https://agent.example/"
        payload = {"identityUrl": page, "actualUrl": page, **identity}
        body = {"type": "WCP4ValidateAppIdentity", "payload": payload, "meta": meta}
        return await self._answered(meta["connectionAttemptUuid"], body)

    async def _answered(self, id_: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[id_] = answer
        async with asyncio.timeout(WITHIN_S):
            await self.send(body)
            return await answer

    async def expect(self, type_: str) -> dict[str, Any]:
        """The payload of the next event, which is of that type; heartbeats aside."""
        async with asyncio.timeout(WITHIN_S), self._news:
            while True:
                await self._news.wait_for(lambda: self.inbox)
                body = self.inbox.pop(0)
                if body["type"] != "heartbeatEvent":
                    assert body["type"] == type_, body
                    payload: dict[str, Any] = body["payload"]
                    return payload

    async def close(self) -> None:
        """Close the socket."""
        await self.socket.close()
        await asyncio.gather(self._reader, return_exceptions=True)


@asynccontextmanager
async def dacp(market: MarketProcess, account: AgentAccount, instance_id: str = "") -> AsyncIterator[Dacp]:
    """An open socket that speaks FDC3; at a good end its frames are examined."""
    query = f"?instance_id={instance_id}" if instance_id else ""
    url = market.url.replace("http", "ws", 1) + "/socket/dacp" + query
    async with connect(
        url,
        additional_headers={"x-api-key": account.api_key},
        compression=None,
        max_size=None,
        open_timeout=WITHIN_S,
    ) as socket:
        one = Dacp(socket)
        try:
            yield one
        finally:
            await one.close()
    is_lost = socket.close_code != NORMAL  # Then the last requests may have no answer.
    faults = [fault for fault in faults_of(one.frames) if not (is_lost and fault.startswith(NEVER_ANSWERED))]
    assert not faults, faults


class DacpGuest:
    """A Guest that speaks FDC3."""

    def __init__(self, one: Dacp, instance_id: str) -> None:
        self.dacp = one
        self._instance_id = instance_id

    @property
    def instance_id(self) -> str:
        """As the server tells it."""
        return self._instance_id

    async def join(self, channel: str, token: str | None = None) -> None:
        """Sit in a channel, or Denied."""
        await self.dacp.ask("joinPrivateChannel", channelId=channel, invitationToken=token)

    async def leave(self, channel: str) -> None:
        """Sit there no more, or Denied."""
        await self.dacp.ask("leavePrivateChannel", channelId=channel)

    async def say(self, channel: str, context: dict[str, Any]) -> None:
        """Broadcast a context, or Denied."""
        await self.dacp.ask("broadcastRequest", channelId=channel, context=context)

    async def lose(self) -> None:
        """Lose the connection, without a word to the server."""
        await lose_socket(self.dacp.socket)


class PhoenixGuest:
    """A Guest that speaks Phoenix."""

    def __init__(self, client: Client, instance_id: str) -> None:
        self.client = client
        self._instance_id = instance_id

    @property
    def instance_id(self) -> str:
        """Chosen by itself."""
        return self._instance_id

    async def join(self, channel: str, token: str | None = None) -> None:
        """Sit in a channel, or Denied."""
        with _denied():
            await self.client.join(channel, {} if token is None else {"invitation_token": token})

    async def leave(self, channel: str) -> None:
        """Sit there no more, or Denied."""
        with _denied():
            await self.client.push(channel, "phx_leave")

    async def say(self, channel: str, context: dict[str, Any]) -> None:
        """Broadcast a context, or Denied."""
        with _denied():
            await self.client.push(channel, "broadcastRequest", {"context": context})

    async def lose(self) -> None:
        """Lose the connection, without a word to the server."""
        await lose_socket(self.client.socket)


@contextmanager
def _denied() -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise Denied(refused.reason) from refused


async def lose_socket(socket: ClientConnection) -> None:
    """Lose a connection, without a word to the server."""
    socket.transport.abort()
    await socket.wait_closed()


@asynccontextmanager
async def over_dacp(market: MarketProcess, account: AgentAccount, instance_id: str = "") -> AsyncIterator[Guest]:
    """A program that speaks FDC3, and is told which it is unless it says so."""
    async with dacp(market, account, instance_id) as one:
        told = await one.ask("getInfoRequest")
        yield DacpGuest(one, told["implementationMetadata"]["appMetadata"]["instanceId"])


@asynccontextmanager
async def over_phoenix(market: MarketProcess, account: AgentAccount, instance_id: str = "") -> AsyncIterator[Guest]:
    """A program that speaks Phoenix, and says which it is."""
    own = instance_id or f"program-{uuid4()}"
    async with market.client(account.api_key, f"&instance_id={own}") as client:
        yield PhoenixGuest(client, own)


Door = Callable[..., AbstractAsyncContextManager[Guest]]
DOORS: tuple[Door, ...] = (over_phoenix, over_dacp)
