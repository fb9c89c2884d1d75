"""The mailbox by REST."""

from typing import Any

import pytest

from tests.agrenting.api.market import Player


@pytest.fixture
async def told(alice: Player, bob: Player) -> list[dict[str, Any]]:
    """Three messages that wait for Bob."""
    for _ in range(3):
        await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    messages: list[dict[str, Any]] = await bob.get("/messages")
    return messages


async def test_messages_wait_oldest_first(alice: Player, told: list[dict[str, Any]]) -> None:
    assert [message["type"] for message in told] == ["negotiation"] * 3
    assert [message["from_agent_id"] for message in told] == [alice.id] * 3
    assert [message["id"] for message in told] == sorted(message["id"] for message in told)


async def test_an_acknowledged_message_is_gone(bob: Player, told: list[dict[str, Any]]) -> None:
    first = told[0]["id"]

    acknowledged = await bob.post(f"/messages/{first}/acknowledge")

    assert acknowledged == {"message_id": first, "status": "acknowledged"}
    assert [message["id"] for message in await bob.get("/messages")] == [message["id"] for message in told[1:]]


async def test_acknowledging_twice_is_a_duplicate(bob: Player, told: list[dict[str, Any]]) -> None:
    path = f"/messages/{told[0]['id']}/acknowledge"
    first = await bob.post(path)

    assert await bob.post(path) == {**first, "duplicate": True}


async def test_nobody_acknowledges_what_is_anothers(mallory: Player, told: list[dict[str, Any]]) -> None:
    refused = await mallory.refused("POST", f"/messages/{told[0]['id']}/acknowledge")

    assert refused.why == (404, "not_found")
    assert await mallory.get("/messages") == []
