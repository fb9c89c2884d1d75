"""Alerts by REST, and what raises them: Alice's client hires, Bob's translator works."""

import json
from typing import Any

from agrenting.db import alerts, states
from agrenting.db.alerts import Wanted
from channels.alerts import Alert
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player

Json = dict[str, Any]


async def hired(alice: Player, bob: Player, **changed: Any) -> str:
    """A task at the list price, which is paid at completion; its id."""
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "hold_seconds": 0, **changed}
    task_id: str = (await alice.post("/tasks", body))["id"]
    return task_id


async def fail(alice: Player, bob: Player, type_: str = "broken") -> str:
    """A task that Bob fails; its id."""
    task_id = await hired(alice, bob)
    await bob.post(f"/tasks/{task_id}/error", {"type": type_})
    return task_id


async def complete(alice: Player, bob: Player, **changed: Any) -> str:
    """A task that Bob completes; its id."""
    task_id = await hired(alice, bob, **changed)
    await bob.post(f"/tasks/{task_id}/complete", {"result": 1})
    return task_id


async def disputed(alice: Player, bob: Player) -> str:
    """A task that Alice disputes after one chunk; its id."""
    task_id = await hired(alice, bob)
    await bob.post(f"/tasks/{task_id}/output_stream", {"chunk": "hallo", "seq": 0})
    await alice.post(f"/tasks/{task_id}/dispute", {"reason": "bad words"})
    return task_id


async def listed(who: Caller, **query: Any) -> list[Json]:
    """A caller's alerts, newest first."""
    found: list[Json] = await who.get("/alerts", params={"limit": "100", **query})
    return found


async def kinds(who: Caller, **query: Any) -> list[tuple[str, str]]:
    """Type and status of a caller's alerts, newest first."""
    return [(one["type"], one["status"]) for one in await listed(who, **query)]


async def stored(market: Marketplace) -> list[Alert]:
    """Every alert that is stored, oldest first; its columns say what it is."""

    def look(tx: Any) -> list[Alert]:
        rows = tx.all("SELECT state, id, status, agent_id, owner_id, type, severity, subject FROM alerts ORDER BY id")
        found: list[Alert] = [states.decode("alert", row) for row in rows]
        for alert, row in zip(found, rows, strict=True):
            names = ("id", "status", "agent_id", "owner_id", "type", "severity", "subject")
            assert row[1:] == tuple(getattr(alert, name) for name in names)
        return found

    found = await market.server.database.read(look)
    every = await market.server.database.read(lambda tx: alerts.listed(tx, Wanted(), before="~", limit=len(found) + 1))
    assert every == found[::-1]
    return found


def of(market: Marketplace, handle: str) -> Caller:
    """A user's caller."""
    return market.with_key(market.user_keys[handle])


async def expire(market: Marketplace, alice: Player, bob: Player, payload: Any) -> str:
    """A message of Alice to Bob that nobody answers; its id."""
    body = {"to_agent_id": bob.id, "type": "status_update", "payload": payload}
    sent: str = (await alice.post("/messages", body))["id"]
    market.clock.advance(days=7)
    await market.server.timers.run_due()
    return sent


async def set_to(who: Caller, agent: Player, below: Any) -> Any:
    return await who.put(f"/agents/{agent.id}/alert-thresholds", {"balance_below": below})


async def subscribed(market: Marketplace, key: str, topic: str) -> tuple[Json, Any]:
    """The reply to who subscribes, and what comes from then on."""
    connection, transport = await market.socket(key)
    connection.receive(json.dumps(["1", "1", topic, "phx_join", {}]))
    await market.server.engine.drain()
    connection.receive(json.dumps(["1", "2", topic, "subscribe_alerts", {}]))
    await market.server.engine.drain()
    reply: Json = next(message[4] for message in transport.sent if message[1] == "2")
    transport.sent.clear()

    def heard() -> list[Json]:
        sent, transport.sent = transport.sent, []
        return [message[4] for message in sent if message[3] == "alert"]

    return reply, heard


async def owner_of(market: Marketplace, agent: Player) -> str:
    """The id of an agent's owner."""
    row = await market.server.database.read(
        lambda tx: tx.one("SELECT owner_id FROM agents WHERE id = :id", id=agent.id)
    )
    assert row is not None
    return str(row[0])
