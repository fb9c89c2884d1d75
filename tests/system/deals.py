"""Agents that deal until they are done, whatever happens to the server meanwhile.

Each step is decided from what a join tells, so an agent that has lost its connection takes up where the server is. What
was acknowledged is remembered and held against every later snapshot.
"""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from typing import Any

from websockets.exceptions import WebSocketException

from tests.system.harness import AgentAccount, Client, MarketProcess, Refused, signed_accept, signed_offer

LOST = (ConnectionError, OSError, WebSocketException, asyncio.TimeoutError)
RETRY_S = 0.05
CHUNKS = tuple(f"word {number} ".encode() for number in range(5))
CHECKSUM = hashlib.sha256(b"".join(CHUNKS)).hexdigest()
SIZE = sum(map(len, CHUNKS))


class Deal:
    """One deal between two agents, from the first offer to the payment.

    Args:
        market: The server, which may be killed and come back at another address.
        client: Who hires.
        provider: Who is hired.
        bids: What the two offer, in turn; then the client accepts.
    """

    def __init__(
        self, market: MarketProcess, client: AgentAccount, provider: AgentAccount, bids: tuple[int, ...] = (800, 1_101)
    ) -> None:
        self.market = market
        self.client = client
        self.provider = provider
        self.bids = bids
        self.session_id = ""
        self.task_id = ""
        self.price = 0
        self.lost_count = 0
        self.acked_offers = 0
        self.acked_agreed = False
        self.acked_chunks = {"input": 0, "output": 0}
        self.acked_completed = False

    async def run(self) -> None:
        """Deal until the task is completed."""
        while True:
            try:
                async with AsyncExitStack() as stack:
                    client = await stack.enter_async_context(self.market.client(self.client.api_key))
                    provider = await stack.enter_async_context(self.market.client(self.provider.api_key))
                    await self._deal(client, provider)
                    return
            except LOST:
                self.lost_count += 1
                await asyncio.sleep(RETRY_S)  # The server is gone; nothing tells when it is back.

    async def _deal(self, client: Client, provider: Client) -> None:
        await client.join("agents:discovery")
        if not self.session_id:
            opened = await client.push(
                "agents:discovery",
                "open_negotiation",
                {"provider_agent_id": self.provider.id, "capability": "translate"},
            )
            self.session_id = opened["id"]
        await self._bargain(client, provider)
        if not self.task_id:
            await self._hire(client)
        await self._work(client, provider)

    async def _bargain(self, client: Client, provider: Client) -> None:
        topic = f"negotiation:{self.session_id}"
        session = await client.join(topic)
        await provider.join(topic)
        assert len(session["offers"]) >= self.acked_offers, "an acknowledged offer is lost"
        assert session["status"] == "agreed" or not self.acked_agreed, "an acknowledged agreement is lost"
        while session["status"] == "open":
            made = len(session["offers"])
            if made < len(self.bids):
                socket, agent = ((client, self.client), (provider, self.provider))[made % 2]
                session = await socket.push(topic, "offer", signed_offer(session, agent, self.bids[made]))
                self.acked_offers = made + 1
            else:
                session = await client.push(topic, "accept", signed_accept(session, self.client))
                self.acked_agreed = True
        self.price = session["amount"]

    async def _hire(self, client: Client) -> None:
        try:
            task = await client.push(
                "agents:discovery",
                "open_task",
                {
                    "provider_agent_id": self.provider.id,
                    "capability": "translate",
                    "negotiation_session_id": self.session_id,
                    "hold_seconds": 0,
                },
            )
            self.task_id = task["id"]
        except Refused as refused:
            if refused.reason != "agreement_used":
                raise
            self.task_id = refused.response["task_id"]  # It was created, but the answer was lost.

    async def _work(self, client: Client, provider: Client) -> None:
        topic = f"task:{self.task_id}"
        task = await client.join(topic)
        await provider.join(topic)
        assert task["status"] == "completed" or not self.acked_completed, "an acknowledged completion is lost"
        for direction, socket in (("input", client), ("output", provider)):
            await self._stream(topic, task, direction, socket)
        if task["status"] != "completed":
            ended = await provider.push(topic, "complete", {"result": None})
            assert ended["status"] == "completed"
        self.acked_completed = True

    async def _stream(self, topic: str, task: dict[str, Any], direction: str, socket: Client) -> None:
        stream = task["streams"][direction]
        assert stream["next_seq"] >= self.acked_chunks[direction], "an acknowledged chunk is lost"
        if stream["complete"]:
            return
        for seq in range(stream["next_seq"], len(CHUNKS)):
            acked = await socket.push(topic, f"{direction}_stream", {"chunk": CHUNKS[seq].decode(), "seq": seq})
            self.acked_chunks[direction] = acked["next_seq"]
        await socket.push(topic, f"{direction}_complete", {"checksum": CHECKSUM, "total_size": SIZE})
