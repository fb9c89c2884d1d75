"""Strangers who ask for contact: Alice's client and Bob's personal translator, and what is kept and told of the two."""

import json
from collections.abc import Callable
from typing import Any

from agrenting.db import ledger, sides
from channels.registration import CapabilityDraft
from tests.agrenting.api.market import PRICE, Caller, FakeSocket, Marketplace, Player

ADD = "/agent/contacts/add"
RESPOND = "/agent/contacts/requests/respond"
REQUESTS = "/agent/contacts/requests"
REMOVE = "/agent/contacts/remove"
BLOCK = "/agent/contacts/block"
UNBLOCK = "/agent/contacts/unblock"
DOORS = ("/negotiations", "/tasks")
DEPOSIT = 100_000
TABLES = ("contact_requests", "contacts", "contact_sides", "blocks", "timers", "negotiations", "tasks")

Ear = Callable[[], list[tuple[str, Any]]]
"""Events and payloads that have come since this was last asked."""


class Strangers:
    """Alice and her client, Bob and his translator, whom only contacts may hire; and their keys."""

    def __init__(self, market: Marketplace, people: tuple[Caller, Caller], agents: tuple[Player, Player]) -> None:
        self.market = market
        self.alice, self.bob = people
        self.client, self.translator = agents

    @property
    def alice_id(self) -> str:
        return self.alice.headers["x-user-id"]

    @property
    def bob_id(self) -> str:
        return self.bob.headers["x-user-id"]

    async def ask(self, **fields: Any) -> str:
        """The client asks the translator for contact; the request's id."""
        return await ask(self.client, self.translator.handle, **fields)

    async def befriend(self, scope: dict[str, Any] | None = None) -> None:
        """The two are contacts; the scope narrows what the client may open."""
        await self.ask()
        answer = {"action": "approve", "handle": self.client.handle}
        await self.translator.post(RESPOND, answer if scope is None else {**answer, "scope": scope})

    async def negotiate(self) -> dict[str, Any]:
        """The client opens a negotiation."""
        session: dict[str, Any] = await self.client.post("/negotiations", wanted(self.translator))
        return session

    async def hire(self) -> dict[str, Any]:
        """The client opens a task at the list price."""
        task: dict[str, Any] = await self.client.post("/tasks", hired(self.translator))
        return task


async def strangers(market: Marketplace) -> Strangers:
    """Alice's client with money, Bob's translator: neither owner nor organisation in common."""
    people = await market.user("alice"), await market.user("bob")
    client = await market.agent("alice", "Client", deposit=DEPOSIT)
    return Strangers(market, people, (client, await translator(market)))


async def translator(market: Marketplace, owner: str = "bob", name: str = "Translator", **draft: Any) -> Player:
    """An agent that translates for its contacts, and that strangers find."""
    capabilities = (CapabilityDraft(name="translate", price=PRICE),)
    return await market.agent(owner, name, capabilities=capabilities, tags=("words",), **draft)


async def ask(who: Caller, handle: str, **fields: Any) -> str:
    """An agent asks for contact; the request's id."""
    asked = await who.post(ADD, {"handle": handle, **fields})
    assert asked["status"] == "pending"
    id_: str = asked["id"]
    return id_


async def contacts_of(who: Caller) -> set[str]:
    """The handles of an agent's contacts, but for its owner's."""
    return {one["handle"] for one in await who.get("/agent/contacts") if one["origin"] != "owner"}


def wanted(provider: Player) -> dict[str, Any]:
    """The body that opens a negotiation."""
    return {"provider_agent_id": provider.id, "capability": "translate"}


def hired(provider: Player) -> dict[str, Any]:
    """The body that opens a task at the list price."""
    return {**wanted(provider), "max_price": PRICE, "hold_seconds": 0}


def opening(path: str, provider: Player) -> dict[str, Any]:
    """The body for one of the two doors."""
    return hired(provider) if path == "/tasks" else wanted(provider)


async def rows(market: Marketplace) -> dict[str, list[tuple[Any, ...]]]:
    """All that is kept of contacts, and of what rests on them."""

    def look(tx: Any) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table: [tuple(row) for row in tx.all(f"SELECT * FROM {table} ORDER BY 1, 2")]  # noqa: S608 - names of ours
            for table in TABLES
        }

    return await market.server.database.read(look)


async def require_sound(market: Marketplace) -> None:
    """Both sides agree on who is whose contact, and the books balance."""
    assert await market.server.database.read(sides.doctor) == []
    assert await market.server.database.read(ledger.doctor) == []


async def join(market: Marketplace, key: str, topic: str) -> tuple[Any, FakeSocket]:
    """Join a topic with a key; the reply, and the socket that it came on."""
    connection, transport = await market.socket(key)
    connection.receive(json.dumps(["1", "1", topic, "phx_join", {}]))
    await market.server.database.commits.drain()
    (reply,) = transport.sent
    transport.sent.clear()
    return reply[4], transport


async def listen(market: Marketplace, key: str, topic: str) -> Ear:
    """Join a topic with a key; what is told on it from now on."""
    reply, transport = await join(market, key, topic)
    assert reply["status"] == "ok"

    def heard() -> list[tuple[str, Any]]:
        sent, transport.sent = transport.sent, []
        return [(message[3], message[4]) for message in sent]

    return heard


async def agents_ear(market: Marketplace, agent: Player) -> Ear:
    """What an agent is told of its contacts."""
    return await listen(market, agent.api_key, f"agent_contacts:{agent.id}")


async def users_ear(market: Marketplace, handle: str, user: Caller) -> Ear:
    """What a user is told of its contacts."""
    return await listen(market, market.user_keys[handle], f"user_contacts:{user.headers['x-user-id']}")
