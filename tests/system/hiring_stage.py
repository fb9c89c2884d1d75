"""Alice, who hires with the client's own parts, and Bob, whose provider is a foreign one: plain frames, no client."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agrenting.client.agreement import Agreement
from agrenting.client.bargaining import Bargaining
from agrenting.client.context import AgentContext
from agrenting.client.hired_task import HiredTask
from agrenting.client.hiring import Hiring
from agrenting.client.strategies import Strategy
from agrenting.client.told_messages import Message
from tests.system.harness import AgentAccount, Client, MarketProcess
from tests.system.provider_stage import opened

SOON_S = 30.0
LIST_PRICE = 1_000
_NUMBERS = itertools.count(1)


class Shop:
    """Alice and Bob at a market.

    Args:
        market: Where.
        alice: Who hires.
        bob: Who is hired.
        translator: Bob's socket.
        capability: What he does, and nobody else.
    """

    def __init__(
        self, market: MarketProcess, alice: AgentContext, bob: AgentAccount, translator: Client, capability: str
    ) -> None:
        self.market = market
        self.alice = alice
        self.bob = bob
        self.translator = translator
        self.capability = capability
        self.bargaining = Bargaining(alice)
        self.hiring = Hiring(alice, self.bargaining)

    async def hire(self, **options: Any) -> HiredTask:
        """Alice hires whoever does what Bob does, at the list price."""
        return await self.hiring.hire(self.capability, **{"max_price": LIST_PRICE, **options})

    async def cut(self) -> None:
        """Alice loses her socket, without goodbye."""
        (await self.alice.connection.socket()).abort()

    async def money(self) -> dict[str, int]:
        """What Alice has."""
        told: dict[str, int] = await self.alice.rest.get("/ledger/balance")
        return told

    async def tasks(self, status: str) -> list[dict[str, Any]]:
        """Alice's tasks that stand so."""
        told: list[dict[str, Any]] = await self.alice.rest.get("/tasks", status=status)
        return told

    async def stored(self, task_id: str, *, chunks: int) -> None:
        """Wait until so much of a task's input is stored: only a join tells that, so it is asked for."""
        while True:
            task = await self.alice.rest.get(f"/tasks/{task_id}")
            if task["streams"]["input"]["next_seq"] >= chunks:
                return

    async def told_of_session(self) -> str:
        """Wait until Bob is told that a session was opened; its topic."""
        await self.translator.join(f"messages:{self.bob.id}")
        while (message := await self.translator.expect("new_message"))["type"] != "negotiation":
            pass
        return str(message["payload"]["topic"])

    async def work(self, task: HiredTask | str) -> "Work":
        """Bob takes a task up."""
        task_id = task if isinstance(task, str) else task.id
        await self.translator.join(f"task:{task_id}", {"input_from": 0})
        return Work(self.translator, task_id)

    @asynccontextmanager
    async def bob_agent(self) -> AsyncIterator[AgentContext]:
        """Bob's agent with the client's own parts too, for what a foreign one would be too long for."""
        async with opened(self.market.url, self.bob, self.market.data_dir.parent / self.bob.id) as context:
            yield context

    @asynccontextmanager
    async def bargaining_bob(self, strategy: Strategy) -> "AsyncIterator[asyncio.Queue[Agreement | None]]":
        """Bob answers negotiations with a strategy; what comes of each."""
        outcomes: asyncio.Queue[Agreement | None] = asyncio.Queue()
        async with self.bob_agent() as context:
            bargaining = Bargaining(context)

            async def answer(message: Message) -> None:
                cutting = asyncio.create_task(cut_at_times(context))
                try:
                    outcomes.put_nowait(await bargaining.answer(message.payload, strategy, terms=lambda _terms: True))
                finally:
                    cutting.cancel()

            context.mailbox.on("negotiation", answer)
            await context.mailbox.start()
            yield outcomes


async def cut_at_times(context: AgentContext, times: int = 3) -> None:
    """Cut an agent's socket some times, shortly after one another."""
    for _ in range(times):
        await asyncio.sleep(0.03)
        (await context.connection.socket()).abort()


class Work:
    """One task, as Bob does it.

    Args:
        client: His socket.
        task_id: The task's.
    """

    def __init__(self, client: Client, task_id: str) -> None:
        self.topic = f"task:{task_id}"
        self._client = client
        self._sent: list[bytes] = []

    async def push(self, event: str, payload: dict[str, Any] | None = None) -> Any:
        return await self._client.push(self.topic, event, payload)

    async def take(self) -> str:
        """The next chunk of input."""
        told = await self._client.expect("input_stream", self.topic)
        return str(told["chunk"])

    async def until_closed(self) -> None:
        await self._client.expect("input_complete", self.topic)

    async def send(self, *chunks: str) -> None:
        for chunk in chunks:
            await self.push("output_stream", {"chunk": chunk, "seq": len(self._sent)})
            self._sent.append(chunk.encode())

    async def until_paid(self, units: int) -> None:
        """Wait until so many units of the output are paid."""
        while (await self._client.expect("task_paid", self.topic))["paid_up_to"] < units:
            pass

    async def close(self) -> None:
        content = b"".join(self._sent)
        await self.push(
            "output_complete", {"checksum": hashlib.sha256(content).hexdigest(), "total_size": len(content)}
        )

    async def complete(self, result: Any = None) -> None:
        await self.push("complete", {"result": result})

    async def deliver(self, *chunks: str, result: Any = None) -> None:
        """All of it."""
        await self.send(*chunks)
        await self.close()
        await self.complete(result)


@asynccontextmanager
async def opened_shop(market: MarketProcess, folder: Path, *, price: int = LIST_PRICE) -> AsyncIterator[Shop]:
    """Alice's client and Bob's translator, who is online; both are new at the market, and so is the capability."""
    number = next(_NUMBERS)
    alice, bob = await asyncio.to_thread(_made, market, number, price)
    async with opened(market.url, alice, folder / "alice") as context, market.client(bob.api_key) as translator:
        await translator.join("agents:discovery")
        yield Shop(market, context, bob, translator, f"translate-{number}")


def _made(market: MarketProcess, number: int, price: int) -> tuple[AgentAccount, AgentAccount]:
    for name in ("alice", "bob"):
        market.user(f"{name}{number}")
    alice = market.agent(f"alice{number}", "Client", deposit=100_000)
    offer = f"translate-{number}={price}"
    return alice, market.agent(f"bob{number}", "Translator", "--capability", offer, "--global", "--tag", "words")
