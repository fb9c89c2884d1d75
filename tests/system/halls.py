"""A server, Alice who hires and Bob who works, and what the tests of streams do with a task of the two."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.system.harness import AgentAccount, Client, MarketProcess, Refused
from tests.system.streaming import encode_binary, listening


async def open_task(buyer: Client, provider: AgentAccount, **fields: Any) -> dict[str, Any]:
    """Alice's client, which has joined discovery, hires a provider."""
    body = {"provider_agent_id": provider.id, "capability": "translate", "max_price": 1_000, **fields}
    task: dict[str, Any] = await buyer.push("agents:discovery", "open_task", body)
    return task


def rss_bytes(market: MarketProcess) -> int:
    """What the server holds in memory of its own; pages of the database file are not counted."""
    assert market.process is not None
    with open(f"/proc/{market.process.pid}/status", encoding="utf-8") as status:  # noqa: PTH123 - it is no file.
        return next(int(line.split()[1]) * 1_024 for line in status if line.startswith("RssAnon"))


async def narrow(market: MarketProcess) -> socket.socket:
    """A connection to the server whose receive buffer is small, so that not reading is felt soon: for `sock=`."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    one.setblocking(False)  # noqa: FBT003 - it is the socket's own method.
    parts = urlsplit(market.url)
    await asyncio.get_running_loop().sock_connect(one, (parts.hostname, parts.port))
    return one


class Ground:
    """The server, which may be killed and comes again at the same address."""

    def __init__(self, market: MarketProcess) -> None:
        self.market = market
        self.port = market.url.rpartition(":")[2]
        self.kills = 0
        self._restart: asyncio.Task[None] | None = None

    def kill(self) -> None:
        """Kill it here and now, unless it has just been killed."""
        if self._restart is not None and not self._restart.done():
            return
        assert self.market.process is not None
        self.market.process.kill()
        self.kills += 1
        self._restart = asyncio.create_task(self._start_again())

    async def is_up(self) -> None:
        """Wait until it can be connected to."""
        if self._restart is not None:
            await asyncio.shield(self._restart)

    async def _start_again(self) -> None:
        await asyncio.to_thread(self.market.kill)
        await asyncio.to_thread(self.market.start, self.port)


class Hall(NamedTuple):
    """A server, Alice's client and Bob's provider."""

    market: MarketProcess
    alice: AgentAccount
    bob: AgentAccount

    @asynccontextmanager
    async def task(self, **fields: Any) -> AsyncIterator["OpenTask"]:
        """A task, and a socket of each that has joined it."""
        async with self.market.client(self.alice.api_key) as alice, self.market.client(self.bob.api_key) as bob:
            await alice.join("agents:discovery")
            task = await open_task(alice, self.bob, **fields)
            one = OpenTask(self, task, alice, bob)
            await alice.join(one.topic)
            await bob.join(one.topic)
            yield one


class OpenTask(NamedTuple):
    """A task that both have joined."""

    hall: Hall
    fields: dict[str, Any]
    alice: Client
    bob: Client

    @property
    def id(self) -> str:
        """The task's."""
        task_id: str = self.fields["task_id"]
        return task_id

    @property
    def topic(self) -> str:
        """The task's."""
        return f"task:{self.id}"

    def ear(self, account: AgentAccount, **options: Any) -> Any:
        """Another socket of one of the two, which listens."""
        return listening(self.hall.market, account, self.fields, **options)

    def read(self) -> dict[str, Any]:
        """The task as the server has it."""
        with self.hall.market.rest(self.hall.alice.api_key) as rest:
            answer = rest.get(f"/api/v1/tasks/{self.id}")
            assert answer.is_success, answer.text
            task: dict[str, Any] = answer.json()["data"]
            return task

    async def send(
        self, direction: str, chunks: list[bytes], *, first: int = 0, window: int = 64
    ) -> list[dict[str, Any]]:
        """Send text chunks with so many in flight, as fast as they are taken; the replies, in order."""
        sender, slots = self.alice if direction == "input" else self.bob, asyncio.Semaphore(window)

        async def send(seq: int, chunk: bytes) -> dict[str, Any]:
            try:
                payload = {"seq": seq, "chunk": chunk.decode()}
                reply: dict[str, Any] = await sender.push(self.topic, f"{direction}_stream", payload)
                return reply
            finally:
                slots.release()

        sending = []
        for seq, chunk in enumerate(chunks, first):
            await slots.acquire()
            sending.append(asyncio.create_task(send(seq, chunk)))
        return await asyncio.gather(*sending)

    async def send_binary(self, sender: Client, event: str, payload: bytes, ref: str = "binary") -> Any:
        """Push a binary frame; the response, or Refused."""
        frame = encode_binary(sender.join_refs[self.topic], ref, self.topic, event, payload)
        await sender.socket.send(frame)
        reply = await sender.expect("phx_reply", self.topic)
        if reply["status"] != "ok":
            raise Refused(reply["response"])
        return reply["response"]
