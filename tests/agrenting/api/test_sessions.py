"""Sessions, rotation, and who one is."""

from typing import Any

import pytest

from tests.agrenting.api.market import START, Caller, Marketplace, Player


def bearer(market: Marketplace, token: str) -> Caller:
    return Caller(market.http, {"authorization": f"Bearer {token}"})


async def test_a_session_is_its_keys_for_a_day(market: Marketplace, mallory: Player) -> None:
    answer = await mallory.call("POST", "/auth/authenticate")
    session = answer.json()["data"]

    assert answer.status_code == 201
    assert session["token"] == session["session_token"]
    assert session["expires_at"] == START.replace(day=2).isoformat().replace("+00:00", "Z")
    assert (session["agent_id"], session["handle"]) == (mallory.id, "mallory/snoop")
    assert (await bearer(market, session["token"]).get("/agent/me"))["id"] == mallory.id


async def test_a_session_has_its_keys_scopes_and_caps(market: Marketplace, alice: Player, bob: Player) -> None:
    key = await alice.post("/keys", {"name": "narrow", "scopes": ["tasks"], "max_amount": 10})
    session = await market.with_key(key["api_key"]).post("/auth/authenticate")
    caller = bearer(market, session["token"])
    hire = {"provider_agent_id": bob.id, "capability": "translate", "max_price": 1_000}

    assert session["scopes"] == ["tasks"]
    assert (await caller.refused("GET", "/messages")).why == (403, "missing_scope")
    assert (await caller.refused("POST", "/tasks", hire)).why == (409, "spend_cap_exceeded")


async def test_an_owners_session_for_an_agent_is_that_agents_alone(market: Marketplace, mallory: Player) -> None:
    other = await market.agent("mallory", "Other")
    owner = market.with_key(market.user_keys["mallory"], **{"x-agent-id": mallory.id})
    caller = bearer(market, (await owner.post("/auth/authenticate"))["token"])

    assert (await caller.get("/agent/me"))["id"] == mallory.id
    assert (await caller.refused("GET", "/agent/me", headers={"x-agent-id": other.id})).why == (403, "wrong_agent")
    assert (await caller.refused("GET", "/me")).why == (403, "user_required")


@pytest.mark.parametrize("path", ["/auth/authenticate", "/auth/rotate-key"])
async def test_a_session_does_not_prolong_or_rotate_itself(market: Marketplace, mallory: Player, path: str) -> None:
    caller = bearer(market, (await mallory.post("/auth/authenticate"))["token"])

    assert (await caller.refused("POST", path)).why == (403, "key_required")


async def test_logging_out_ends_this_session_and_disconnects(market: Marketplace, mallory: Player) -> None:
    first, second = [(await mallory.post("/auth/authenticate"))["token"] for _ in range(2)]
    _, socket = await market.socket(first)

    assert await bearer(market, first).delete("/auth/logout") == {"status": "logged_out"}

    assert socket.closed_with == 1001
    assert (await bearer(market, first).refused("GET", "/agent/me")).why == (401, "invalid_credential")
    assert (await bearer(market, second).get("/agent/me"))["id"] == mallory.id


async def test_only_a_session_logs_out(mallory: Player) -> None:
    assert (await mallory.refused("DELETE", "/auth/logout")).why == (403, "session_required")


async def test_a_rotated_key_is_new_and_the_old_one_and_its_sessions_die(
    market: Marketplace, mallory: Player, alice: Player
) -> None:
    token = (await mallory.post("/auth/authenticate"))["token"]
    _, socket = await market.socket(mallory.api_key)
    _, others = await market.socket(alice.api_key)

    rotated = await mallory.post("/auth/rotate-key")

    assert rotated["api_key"] != mallory.api_key
    assert rotated["api_key"].startswith(rotated["hint"])
    assert (socket.closed_with, others.closed_with) == (1001, None)
    assert (await mallory.refused("GET", "/agent/me")).why == (401, "invalid_credential")
    assert (await bearer(market, token).refused("GET", "/agent/me")).why == (401, "invalid_credential")
    assert (await market.with_key(rotated["api_key"]).get("/agent/me"))["id"] == mallory.id


async def test_a_users_rotated_key_closes_the_sockets_of_agents_that_it_acted_as(
    market: Marketplace, mallory: Player
) -> None:
    key = market.user_keys["mallory"]
    _, socket = await market.socket(key, agent_id=mallory.id)

    await market.with_key(key).post("/auth/rotate-key")

    assert socket.closed_with == 1001


async def test_rotation_keeps_what_was_spent(market: Marketplace, alice: Player, bob: Player) -> None:
    key = await alice.post("/keys", {"name": "daily", "max_amount_per_day": 1_500})
    hire = {"provider_agent_id": bob.id, "capability": "translate", "max_price": 1_000}
    await market.with_key(key["api_key"]).post("/tasks", hire)
    rotated = await market.with_key(key["api_key"]).post("/auth/rotate-key")

    refused = await market.with_key(rotated["api_key"]).refused("POST", "/tasks", hire)

    assert refused.why == (409, "spend_cap_exceeded")


async def test_a_user_reads_itself(market: Marketplace, olga: Caller) -> None:
    assert await olga.get("/me") == {
        "id": olga.headers["x-user-id"],
        "handle": "olga",
        "organisation_id": None,
        "is_operator": True,
        "created_at": "2030-01-01T12:00:00Z",
        "first_name": None,
        "last_name": None,
        "email": None,
    }


async def test_an_agent_reads_itself(market: Marketplace, mallory: Player) -> None:
    profile: dict[str, Any] = await mallory.get("/agent/me")

    assert profile["handle"] == "mallory/snoop"
    assert profile["feature_flags"] == {"ff_file_transfer": False, "ff_room_tasks": False}
    assert profile["description"] == "Snoop of mallory"
