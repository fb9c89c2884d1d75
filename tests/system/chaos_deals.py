"""Deals of agents over a network that nobody would want, and what both sides and the server make of them afterwards.

Clients and providers are `Agent`s, each with a connection of its own through the proxy. What a deal is about is drawn
from the seed and its number: at the list price, negotiated, or paid as it streams; how much goes in; and whether the
provider gives up half-way. Every provider answers each chunk with its bytes turned round, so both sides know what has
to come.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from agrenting.client.acknowledging import AcknowledgeUpTo
from agrenting.client.agent import Agent
from agrenting.client.backoff import Backoff
from agrenting.client.errors import Disconnected, NoAnswer, TaskNotDone
from agrenting.client.hired_task import HiredTask
from agrenting.client.incoming_channels import AcceptChannels
from agrenting.client.job import Job, TaskFailed
from agrenting.client.keys import SigningKey
from agrenting.client.payment_channel import PaymentChannel
from agrenting.client.strategies import Boulware, Conceder
from tests.system.chaos import ChaosProxy
from tests.system.harness import AgentAccount, MarketProcess

MIRROR: Final = "mirror"
DRIP: Final = "drip"
"""The same work, at a price for each chunk."""

PRICE: Final = 1_000
PURSE: Final = 10_000_000
DEPOSIT: Final = 200_000
UNIT: Final = 7
"""What a chunk of the output costs that is paid as it streams, in minor units."""

QUICK: Final = Backoff(first_s=0.01, most_s=0.2)
AT_ONCE: Final = 12
"""How many deals are under way at a time."""

KINDS: Final = ("listed", "listed", "negotiated", "negotiated", "streamed", "failing", "cancelled")


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be dealt."""

    number: int
    kind: str
    client: int
    provider: int
    chunks: tuple[bytes, ...]

    @property
    def expected(self) -> bytes:
        """What has to come back."""
        return b"".join(chunk[::-1] for chunk in self.chunks)

    @classmethod
    def drawn(cls, seed: int, number: int, *, clients: int, providers: int) -> "Deal":
        """One of a run."""
        chance = random.Random(f"{seed}:deal {number}")
        words = [f"deal {number}, chunk {seq} " * chance.randint(1, 40) for seq in range(chance.randint(1, 12))]
        noise = chance.random() < 0.5  # Half of them send what is no text, in binary frames.
        chunks = tuple(chance.randbytes(len(word)) if noise else word.encode() for word in words)
        return cls(
            number=number,
            kind=chance.choice(KINDS),
            client=chance.randrange(clients),
            provider=chance.randrange(providers),
            chunks=chunks,
        )


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a client knows of a deal that is over for it."""

    deal: Deal
    task_id: str
    status: str
    escrow_status: str
    price: int
    paid: int


class Provider:
    """A provider: what it was given, by task, and what it has done with it."""

    def __init__(self, account: AgentAccount) -> None:
        self.account = account
        self.inputs: dict[str, list[bytes]] = {}
        """What it has read of each task, anew at each start of its handler."""

    async def mirror(self, job: Job) -> AsyncIterator[bytes]:
        """Turn every chunk round; give up, or wait for ever, where the client says so."""
        read = self.inputs[job.task_id] = []
        async for chunk in job:
            read.append(chunk)
            if job.input["kind"] == "failing" and len(read) == job.input["chunks"]:
                raise TaskFailed("no_more", {"read": len(read)})
            if job.input["kind"] != "cancelled":
                yield chunk[::-1]
        if job.input["kind"] == "cancelled":
            await asyncio.Event().wait()


class Bazaar:
    """Clients and providers, and the deals between them.

    Args:
        market: The server; where it listens may change.
        proxy: What the agents speak through.
        folder: Where the agents keep what they sign.
    """

    def __init__(self, market: MarketProcess, proxy: ChaosProxy, folder: Path, *, clients: int, providers: int) -> None:
        self.market = market
        self.proxy = proxy
        self.folder = folder
        market.user("alice")
        market.user("bob")
        self.clients = [market.agent("alice", f"Client {n}", deposit=PURSE) for n in range(clients)]
        self.providers = [
            Provider(market.agent("bob", f"Mirror {n}", "--capability", f"{MIRROR}={PRICE}", "--global"))
            for n in range(providers)
        ]
        self.channels: dict[tuple[int, int], PaymentChannel] = {}
        self._over = 0
        self._turned = asyncio.Condition()
        self._opening = asyncio.Lock()

    async def until_over(self, count: int) -> None:
        """Wait until so many deals are over."""
        async with self._turned:
            await self._turned.wait_for(lambda: self._over >= count)

    async def run(self, deals: list[Deal]) -> list[Done]:
        """Do all of them."""
        async with AsyncExitStack() as stack:
            serving = [await self._serve(stack, provider) for provider in self.providers]
            buyers = [await self._opened(stack, account) for account in self.clients]
            slots = asyncio.Semaphore(AT_ONCE)

            async def one(deal: Deal) -> Done:
                async with slots:
                    done = await self._dealt(buyers[deal.client], deal)
                async with self._turned:
                    self._over += 1
                    self._turned.notify_all()
                return done

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(deal), name=f"deal {deal.number}") for deal in deals]
            self.proxy.calm()
            for channel in self.channels.values():
                await channel.close(timeout_s=20)
                await channel.receipt()
                await channel.history()
            for agent, work in serving:
                agent.stop()
                await work
            return [task.result() for task in tasks]

    async def _serve(self, stack: AsyncExitStack, provider: Provider) -> tuple[Agent, asyncio.Task[None]]:
        agent = await self._opened(stack, provider.account)
        agent.accept_channels(AcceptChannels(acknowledge=AcknowledgeUpTo(100_000, tasks_only=True)))
        agent.capability(MIRROR, price=PRICE, strategy=Conceder(limit=PRICE // 2))(provider.mirror)
        agent.capability(DRIP, price=UNIT)(provider.mirror)
        return agent, asyncio.create_task(agent.serve(), name=provider.account.handle)

    async def _opened(self, stack: AsyncExitStack, account: AgentAccount) -> Agent:
        """An agent that is open: the first connection is not tried again by itself."""
        while True:
            agent = Agent(
                self.proxy.url,
                account.api_key,
                SigningKey(account.seed),
                folder=self.folder / account.id,
                backoff=QUICK,
                concurrency=100,
            )
            try:
                return await stack.enter_async_context(agent)
            except (Disconnected, NoAnswer) as loss:
                self.proxy.note(-1, f"{account.handle} could not connect: {loss}")

    async def _dealt(self, agent: Agent, deal: Deal) -> Done:
        self.proxy.note(-1, f"deal {deal.number} begins: {deal.kind}")
        task = await self._hired(agent, deal)
        self.proxy.note(-1, f"deal {deal.number} is task {task.id}")
        if deal.kind == "cancelled":
            await task.cancel("changed my mind")
        elif deal.kind == "failing":
            with pytest.raises(TaskNotDone) as end:
                await task.result()
            assert end.value.status == "failed"
        else:
            got = [chunk async for chunk in task]
            assert b"".join(got) == deal.expected, f"deal {deal.number}: other bytes"
            assert [len(chunk) for chunk in got] == [len(chunk) for chunk in deal.chunks], "other chunks"
            await task.settle()
            if deal.kind != "streamed":
                await task.verify()
        self.proxy.note(-1, f"deal {deal.number} is over: {task.status}")
        state = task.state
        await task.leave()
        return Done(
            deal=deal,
            task_id=task.id,
            status=state["status"],
            escrow_status=state["escrow_status"],
            price=state["price"],
            paid=task.paid,
        )

    async def _hired(self, agent: Agent, deal: Deal) -> HiredTask:
        provider = self.providers[deal.provider].account
        said = {"kind": deal.kind, "chunks": len(deal.chunks), "sha256": hashlib.sha256(deal.expected).hexdigest()}
        common: dict[str, Any] = {"provider": provider.handle, "input": said, "data": list(deal.chunks)}
        if deal.kind == "negotiated":
            return await agent.hire(MIRROR, strategy=Boulware(limit=PRICE), **common)
        if deal.kind == "streamed":
            channel = await self._channel(agent, deal)
            price = {"amount": UNIT, "per": "chunk", "credit": 2}
            return await agent.hire(DRIP, channel=channel, stream_price=price, **common)
        return await agent.hire(MIRROR, max_price=PRICE, **common)

    async def _channel(self, agent: Agent, deal: Deal) -> PaymentChannel:
        """The channel of the two, which is opened by the first deal that needs it."""
        async with self._opening:
            pair = deal.client, deal.provider
            if pair not in self.channels:
                handle = self.providers[deal.provider].account.handle
                self.channels[pair] = await agent.open_channel(handle, deposit=DEPOSIT)
            return self.channels[pair]


def differences(bazaar: Bazaar, deals: list[Done]) -> list[str]:
    """What does not fit, of what both sides know and of what the server has; nothing, as a rule."""
    found: list[str] = []
    with bazaar.market.rest(bazaar.market.operator_key) as rest:
        sums = rest.get("/api/v1/admin/ledger").json()["data"]
        if sums["sum"] != 0 or sums["escrow"] != 0 or sums["channels"] != 0:
            found.append(f"the ledger: {sums}")
    for account in [*bazaar.clients, *(provider.account for provider in bazaar.providers)]:
        found += _of_money(bazaar, account, deals)
    for done in deals:
        found += _of_deal(bazaar, done)
    return found


def _of_money(bazaar: Bazaar, account: AgentAccount, deals: list[Done]) -> list[str]:
    """Whether an agent has just what the deals have left it."""
    mine = [done for done in deals if bazaar.clients[done.deal.client] is account]
    others = [done for done in deals if bazaar.providers[done.deal.provider].account is account]
    spent = sum((done.price if done.escrow_status == "released" else 0) + done.paid for done in mine)
    fee_bps = _get(bazaar, account, "meta")["fee_bps"]
    earned = sum(
        (done.price - done.price * fee_bps // 10_000 if done.escrow_status == "released" else 0) + done.paid
        for done in others
    )
    expected = (PURSE if account in bazaar.clients else 0) - spent + earned
    balance = _get(bazaar, account, "ledger/balance")
    return (
        [] if balance["available"] == balance["total"] == expected else [f"{account.handle}: {balance}, not {expected}"]
    )


def _of_deal(bazaar: Bazaar, done: Done) -> list[str]:
    """Whether a task is what its client knows, and what its provider has read."""
    deal, name = done.deal, f"deal {done.deal.number} ({done.deal.kind}, task {done.task_id})"
    provider = bazaar.providers[deal.provider]
    seen = [_get(bazaar, who, f"tasks/{done.task_id}") for who in (bazaar.clients[deal.client], provider.account)]
    seen[1].pop("checkpoint", None)  # The provider's alone.
    found = [] if seen[0] == seen[1] else [f"{name}: the two sides see different tasks"]
    task = seen[0]
    if (task["status"], task["escrow_status"], task["price"]) != (done.status, done.escrow_status, done.price):
        found.append(f"{name}: {task['status']}, {task['escrow_status']}, and the client knows {done}")
    statuses = {"failing": "failed", "cancelled": "cancelled"}
    if done.status != statuses.get(deal.kind, "completed"):
        found.append(f"{name}: it was {done.status}")
    if done.status != "completed":
        return found
    output, input_ = task["streams"]["output"], task["streams"]["input"]
    if output["checksum"] != hashlib.sha256(deal.expected).hexdigest() or output["next_seq"] != len(deal.chunks):
        found.append(f"{name}: the stored output is another")
    if input_["checksum"] != hashlib.sha256(b"".join(deal.chunks)).hexdigest():
        found.append(f"{name}: the stored input is another")
    if tuple(provider.inputs[done.task_id]) != deal.chunks:
        found.append(f"{name}: the provider has read something else")
    if deal.kind == "streamed" and not task["paid"] == done.paid == UNIT * len(deal.chunks):
        found.append(f"{name}: {task['paid']} is paid, the client knows {done.paid}, {UNIT * len(deal.chunks)} is due")
    return found


def _get(bazaar: Bazaar, account: AgentAccount, path: str) -> Any:
    with bazaar.market.rest(account.api_key) as rest:
        return rest.get(f"/api/v1/{path}").raise_for_status().json()["data"]
