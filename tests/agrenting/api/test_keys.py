"""API keys: none has more rights than the one that made it."""

from typing import Any

import pytest

from channels.identity import AGENT_SCOPES
from tests.agrenting.api.market import Caller, Marketplace, Player


async def test_a_key_has_what_its_maker_has_unless_it_says_less(market: Marketplace, alice: Player) -> None:
    key = await alice.post("/keys", {"name": " second  key "})

    assert (key["name"], key["scopes"]) == ("second key", sorted(AGENT_SCOPES))
    assert (key["agent_id"], key["parent_id"]) == (alice.id, (await alice.get("/keys"))[0]["id"])
    assert key["api_key"].startswith(key["hint"])
    assert (await market.with_key(key["api_key"]).get("/agent/me"))["id"] == alice.id


async def test_a_list_of_keys_shows_no_key(alice: Player) -> None:
    made = await alice.post("/keys", {"name": "second"})

    listed = await alice.get("/keys")

    assert [key["name"] for key in listed] == ["alice/client", "second"]
    assert made["api_key"] not in str(listed)


async def test_a_user_lists_its_agents_keys_too_and_an_agent_its_own(market: Marketplace, mallory: Player) -> None:
    owner = market.with_key(market.user_keys["mallory"])

    assert [key["agent_id"] for key in await owner.get("/keys")] == [None, mallory.id]
    assert [key["agent_id"] for key in await mallory.get("/keys")] == [mallory.id]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"scopes": ["admin"]}, (403, "scope_exceeded")),
        ({"scopes": ["tasks", "payments"]}, (403, "scope_exceeded")),
        ({"scopes": ["everything"]}, (422, "invalid_payload")),
        ({"max_amount": 101}, (409, "spend_cap_exceeded")),
        ({"max_amount": None}, (409, "spend_cap_exceeded")),
        ({"max_amount_per_day": 1_001}, (409, "spend_cap_exceeded")),
        ({"max_amount": -1}, (422, "invalid_amount")),
        ({"name": ""}, (422, "invalid_payload")),
    ],
)
async def test_no_key_makes_one_with_more_rights(
    market: Marketplace, alice: Player, body: dict[str, Any], why: tuple[int, str]
) -> None:
    small = {"name": "small", "scopes": ["tasks"], "max_amount": 100, "max_amount_per_day": 1_000}
    caller = market.with_key((await alice.post("/keys", small))["api_key"])

    assert (await caller.refused("POST", "/keys", {"name": "more", **body})).why == why


async def test_caps_are_handed_down(market: Marketplace, alice: Player) -> None:
    small = await alice.post("/keys", {"name": "small", "max_amount": 100, "max_amount_per_day": 1_000})

    child = await market.with_key(small["api_key"]).post("/keys", {"name": "child", "max_amount": "0.00001"})

    assert (child["max_amount"], child["max_amount_per_day"], child["parent_id"]) == (10, 1_000, small["id"])


async def test_a_childs_spending_counts_against_its_makers_cap(market: Marketplace, alice: Player, bob: Player) -> None:
    parent = await alice.post("/keys", {"name": "parent", "max_amount_per_day": 1_500})
    caller = market.with_key(parent["api_key"])
    child = market.with_key((await caller.post("/keys", {"name": "child"}))["api_key"])
    hire = {"provider_agent_id": bob.id, "capability": "translate", "max_price": 1_000}
    await child.post("/tasks", hire)

    assert (await caller.refused("POST", "/tasks", hire)).why == (409, "spend_cap_exceeded")
    market.clock.advance(days=1)
    assert await caller.post("/tasks", hire)


async def test_an_owner_makes_a_key_for_its_agent(market: Marketplace, mallory: Player) -> None:
    owner = market.with_key(market.user_keys["mallory"])

    key = await owner.post(f"/agents/{mallory.id}/keys", {"name": "from home"})

    assert (key["agent_id"], key["scopes"]) == (mallory.id, sorted(AGENT_SCOPES))
    assert (await market.with_key(key["api_key"]).get("/agent/me"))["id"] == mallory.id


async def test_an_agents_key_never_has_admin(market: Marketplace, olga: Caller) -> None:
    bot = await olga.post("/agents", {"name": "Bot", "description": "A bot"})

    refused = await olga.refused("POST", f"/agents/{bot['id']}/keys", {"name": "root", "scopes": ["admin"]})

    assert refused.why == (403, "scope_exceeded")


async def test_an_operator_makes_another_operators_key_by_name_alone(market: Marketplace, olga: Caller) -> None:
    plain = await olga.post("/keys", {"name": "plain"})
    full = await olga.post("/keys", {"name": "full", "scopes": [*AGENT_SCOPES, "admin"]})

    assert "admin" not in plain["scopes"]
    assert await market.with_key(full["api_key"]).get("/admin/users")


async def test_an_agent_makes_keys_for_itself_alone(market: Marketplace, mallory: Player) -> None:
    sibling = await market.agent("mallory", "Sibling")

    refused = await mallory.refused("POST", f"/agents/{sibling.id}/keys", {"name": "x"})

    assert refused.why == (404, "not_found")
    assert (await mallory.post(f"/agents/{mallory.id}/keys", {"name": "x"}))["agent_id"] == mallory.id


async def test_a_revoked_key_and_its_sockets_die(market: Marketplace, mallory: Player) -> None:
    second = await mallory.post("/keys", {"name": "second"})
    _, socket = await market.socket(second["api_key"])

    revoked = await mallory.delete(f"/keys/{second['id']}")

    assert revoked["revoked_at"] == "2030-01-01T12:00:00Z"
    assert socket.closed_with == 1001
    market.clock.advance(hours=1)
    assert await mallory.delete(f"/keys/{second['id']}") == revoked


@pytest.mark.parametrize("whose", ["another's", "nobody's", "the owner's"])
async def test_nobody_revokes_what_is_not_its_own(
    market: Marketplace, mallory: Player, alice: Player, whose: str
) -> None:
    owner = market.with_key(market.user_keys["mallory"])
    ids = {
        "another's": (await alice.get("/keys"))[0]["id"],
        "nobody's": "nothing",
        "the owner's": (await owner.get("/keys"))[0]["id"],
    }

    assert (await mallory.refused("DELETE", f"/keys/{ids[whose]}")).why == (404, "not_found")


async def test_a_narrow_key_revokes_no_wider_one(market: Marketplace, alice: Player) -> None:
    narrow = await alice.post("/keys", {"name": "narrow", "scopes": ["tasks"]})
    main = (await alice.get("/keys"))[0]

    refused = await market.with_key(narrow["api_key"]).refused("DELETE", f"/keys/{main['id']}")

    assert refused.why == (403, "scope_exceeded")
    assert await market.with_key(narrow["api_key"]).delete(f"/keys/{narrow['id']}")
