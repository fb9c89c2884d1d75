"""Suspension and ban: what they end, and what they leave."""

import json
from typing import Any

import pytest

from agrenting.db import ledger
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player


async def doctor(market: Marketplace) -> list[str]:
    return await market.server.database.read(ledger.doctor)


@pytest.fixture
async def busy(alice: Player, bob: Player) -> dict[str, Any]:
    """A negotiation and two tasks of Alice and Bob, one of them under way."""
    session = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    hire = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "hold_seconds": 0}
    waiting, running = await alice.post("/tasks", hire), await alice.post("/tasks", hire)
    await bob.post(f"/tasks/{running['id']}/output_stream", {"chunk": "hallo", "seq": 0})
    return {"session": session["id"], "tasks": [waiting["id"], running["id"]]}


async def test_a_suspended_agent_finishes_what_runs_and_opens_nothing(
    market: Marketplace, olga: Caller, alice: Player, bob: Player, busy: dict[str, Any]
) -> None:
    _, socket = await market.socket(bob.api_key)

    suspended = await olga.post(f"/admin/agents/{bob.id}/suspend")

    assert (suspended["status"], socket.closed_with) == ("suspended", 1001)
    opening = {"provider_agent_id": bob.id, "capability": "translate"}
    assert (await alice.refused("POST", "/negotiations", opening)).why == (409, "agent_unavailable")
    assert await alice.get("/discover") == []
    done = await bob.post(f"/tasks/{busy['tasks'][0]}/complete", {"result": 1})
    assert done["status"] == "completed"


async def test_a_reinstated_agent_is_found_again(market: Marketplace, olga: Caller, alice: Player, bob: Player) -> None:
    await olga.post(f"/admin/agents/{bob.id}/suspend")
    _, socket = await market.socket(bob.api_key)

    reinstated = await olga.post(f"/admin/agents/{bob.id}/reinstate")

    assert (reinstated["status"], socket.closed_with) == ("active", 1001)
    assert len(await alice.get("/discover")) == 1


async def test_doing_it_twice_changes_nothing(market: Marketplace, olga: Caller, bob: Player) -> None:
    first = await olga.post(f"/admin/agents/{bob.id}/suspend")
    _, socket = await market.socket(bob.api_key)
    market.clock.advance(hours=1)

    assert await olga.post(f"/admin/agents/{bob.id}/suspend") == first
    assert socket.closed_with is None


@pytest.mark.parametrize("banned", ["client", "provider"])
async def test_a_ban_ends_everything_and_gives_the_money_back(
    market: Marketplace, olga: Caller, deal: tuple[Player, Player], busy: dict[str, Any], banned: str
) -> None:
    target, other = deal if banned == "client" else deal[::-1]
    _, socket = await market.socket(target.api_key)
    connection, others = await market.socket(other.api_key)
    for topic in (f"negotiation:{busy['session']}", *(f"task:{id_}" for id_ in busy["tasks"])):
        connection.receive(json.dumps(["1", "1", topic, "phx_join", {}]))
    await market.server.database.commits.drain()

    agent = await olga.post(f"/admin/agents/{target.id}/ban")

    assert (agent["status"], socket.closed_with) == ("banned", 1001)
    assert others.events()[3:] == ["negotiation_cancelled", "task_cancelled", "task_cancelled"]
    assert (await target.refused("GET", "/agent/me")).why == (401, "invalid_credential")
    session = await other.get(f"/negotiations/{busy['session']}")
    tasks = [await other.get(f"/tasks/{id_}") for id_ in busy["tasks"]]
    assert (session["status"], session["reason"]) == ("cancelled", "banned")
    assert {(task["status"], task["escrow_status"], task["reason"]) for task in tasks} == {
        ("cancelled", "refunded", "banned")
    }
    assert (await olga.get("/admin/ledger"))["escrow"] == 0
    assert await doctor(market) == []


async def test_an_owners_key_does_not_act_as_a_banned_agent(market: Marketplace, olga: Caller, mallory: Player) -> None:
    await olga.post(f"/admin/agents/{mallory.id}/ban")
    owner = market.with_key(market.user_keys["mallory"], **{"x-agent-id": mallory.id})

    assert (await owner.refused("GET", "/agent/me")).why == (403, "agent_banned")


async def test_what_has_ended_stays_as_it_ended(
    market: Marketplace, olga: Caller, alice: Player, bob: Player, busy: dict[str, Any]
) -> None:
    done = await bob.post(f"/tasks/{busy['tasks'][0]}/complete", {"result": 1})

    await olga.post(f"/admin/agents/{bob.id}/ban")

    assert await alice.get(f"/tasks/{done['id']}") == done
    assert await doctor(market) == []


async def test_a_ban_is_final(market: Marketplace, olga: Caller, mallory: Player) -> None:
    banned = await olga.post(f"/admin/agents/{mallory.id}/ban")

    for move in ("suspend", "reinstate"):
        refused = await olga.refused("POST", f"/admin/agents/{mallory.id}/{move}")
        assert refused.why == (409, "terminal_state")
    assert await olga.post(f"/admin/agents/{mallory.id}/ban") == banned
    owner = market.with_key(market.user_keys["mallory"])
    assert (await owner.refused("PATCH", f"/agents/{mallory.id}", {"name": "Me again"})).why == (
        409,
        "terminal_state",
    )


async def test_a_draft_is_not_suspended(olga: Caller) -> None:
    draft = await olga.post("/agents", {"name": "Bot", "description": "A bot", "status": "draft"})

    assert (await olga.refused("POST", f"/admin/agents/{draft['id']}/suspend")).why == (409, "invalid_transition")


@pytest.mark.parametrize("move", ["suspend", "reinstate", "ban"])
async def test_an_unknown_agent_is_not_found(olga: Caller, move: str) -> None:
    assert (await olga.refused("POST", f"/admin/agents/nobody/{move}")).why == (404, "not_found")


async def test_a_ban_repeats_by_its_key(olga: Caller, mallory: Player) -> None:
    first = await olga.post(f"/admin/agents/{mallory.id}/ban", headers={"idempotency-key": "b"})

    again = await olga.call("POST", f"/admin/agents/{mallory.id}/ban", headers={"idempotency-key": "b"})

    assert again.json()["data"] == first
    assert again.headers["idempotency-replayed"] == "true"
