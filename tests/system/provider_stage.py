"""A provider as its author runs it, and a client that hires it: what the system tests of providing stand on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agrenting.client import RestClient, Signer
from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection
from agrenting.client.context import AgentContext
from agrenting.client.errors import StreamBroken
from agrenting.client.folder import StateFolder
from agrenting.client.kept_task import KeptTask
from agrenting.client.mailbox import Mailbox
from agrenting.client.market import ask_market, ask_me
from agrenting.client.providing import Providing
from tests.system.harness import AgentAccount, MarketProcess

QUICK = Backoff(first_s=0.02, most_s=0.5)
PATIENCE_S = 30.0


@asynccontextmanager
async def opened(url: str, account: AgentAccount, folder: Path) -> AsyncIterator[AgentContext]:
    """What the parts of an open agent share."""
    connection = Connection(url, account.api_key, backoff=QUICK)
    async with RestClient(url, account.api_key) as rest, connection, asyncio.TaskGroup() as group:
        context = AgentContext(connection, rest)
        context.mailbox = Mailbox(context)
        market, me = await ask_market(rest), await ask_me(rest)
        signer = Signer(account.seed, market.signing_domain)
        context.fill(me=me, market=market, folder=StateFolder(folder), signer=signer, group=group)
        try:
            yield context
        finally:
            context.cancel_background()


class Stage:
    """Bob, who can be hired by Alice.

    Args:
        market: Where.
        alice: Who hires.
        bob: What is hired; its parts.
    """

    def __init__(self, market: MarketProcess, alice: AgentContext, bob: AgentContext) -> None:
        self.market = market
        self.alice = alice
        self.bob = bob
        self.providing = self.provider()

    def provider(self, drain_s: float = 5.0) -> Providing:
        """Bob's providing part; a program has one."""
        return Providing(self.bob, drain_s=drain_s)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Bob is at work in here, and has drained at the end."""
        serving = asyncio.create_task(self.providing.serve())
        await self.until_announced(*self.providing.capabilities)
        try:
            yield
        finally:
            self.providing.stop()
            async with asyncio.timeout(PATIENCE_S):
                await serving

    async def until_announced(self, *names: str) -> None:
        """Wait until Bob is online with these capabilities."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                hit = await self.found()
                if hit is not None and {*names} <= {*hit["capabilities"]} and hit["status"] == "online":
                    return
                await asyncio.sleep(0.02)  # Nobody tells a searcher.

    async def until_status(self, status: str) -> None:
        """Wait until others see that of Bob."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                hit = await self.found()
                if hit is not None and hit["status"] == status:
                    return
                await asyncio.sleep(0.02)  # Nobody tells a searcher.

    async def found(self, **query: Any) -> dict[str, Any] | None:
        """Bob, as a search finds him."""
        hits = await self.alice.rest.get("/discover", **query)
        return next((hit for hit in hits if hit["id"] == self.bob.me.id), None)

    async def hire(self, capability: str, **fields: Any) -> "Hired":
        """Alice hires Bob."""
        return await hire(self.alice, self.bob.me.id, capability, **fields)


class Hired:
    """A task as its client sees it."""

    def __init__(self, kept: KeptTask, events: "asyncio.Queue[tuple[str, Any]]") -> None:
        self.kept = kept
        self.id = kept.id
        self.events = events
        self.output: list[bytes] = []

    async def give(self, *chunks: bytes) -> None:
        """Send the whole input."""
        for chunk in chunks:
            await self.kept.send(chunk)
        await self.kept.close()

    async def take(self) -> bytes | None:
        """The next chunk of the output."""
        async with asyncio.timeout(PATIENCE_S):
            chunk = await self.kept.next_chunk()
        if chunk is not None:
            self.output.append(chunk)
        return chunk

    async def take_all(self) -> bytes:
        """The rest of the output; all that has come."""
        with contextlib.suppress(StreamBroken):
            while await self.take() is not None:
                pass
        return b"".join(self.output)

    async def end(self) -> dict[str, Any]:
        """The task, once it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.kept.end()

    async def event(self, name: str) -> Any:
        """The payload of the next event of that name."""
        async with asyncio.timeout(PATIENCE_S):
            reading = asyncio.create_task(self.kept.end())  # Somebody has to read the topic.
            try:
                while True:
                    event, payload = await self.events.get()
                    if event == name:
                        return payload
            finally:
                reading.cancel()
                await asyncio.wait((reading,))


async def hire(alice: AgentContext, provider_id: str, capability: str, **fields: Any) -> Hired:
    """Open a task, at the list price unless something else is said, and join it."""
    body: dict[str, Any] = {"provider_agent_id": provider_id, "capability": capability, **fields}
    if not {"negotiation_session_id", "stream_price"} & {*fields}:
        body["max_price"] = 100_000
    task = await alice.rest.post("/tasks", body)
    events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    kept = KeptTask(
        alice.connection,
        task["id"],
        role="client",
        on_event=lambda event, payload: events.put_nowait((event, payload)),
    )
    await kept.join()
    return Hired(kept, events)
