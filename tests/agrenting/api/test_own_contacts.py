"""Contacts of users by REST, and what owners do for their agents. Alice asks, Bob answers, Mallory pokes about."""

from typing import Any

import pytest

from tests.agrenting.api.friends import (
    ADD,
    REMOVE,
    Strangers,
    agents_ear,
    ask,
    contacts_of,
    join,
    require_sound,
    rows,
    strangers,
    users_ear,
)
from tests.agrenting.api.market import Caller, Marketplace

OWN = "/me/contacts"
OWN_REQUESTS = "/me/contacts/requests"
SENT = "/me/contacts/requests/sent"
OWN_REMOVE, OWN_BLOCK, OWN_UNBLOCK = (f"/me/contacts/{verb}" for verb in ("remove", "block", "unblock"))


@pytest.fixture
async def two(market: Marketplace) -> Strangers:
    return await strangers(market)


@pytest.fixture
async def mallory(market: Marketplace) -> Caller:
    return await market.user("mallory")


def asking(handle: str, **fields: Any) -> dict[str, Any]:
    return {"contact_request": {"recipient_handle": handle, **fields}}


async def asked(who: Caller, handle: str) -> str:
    """A user asks for contact; the request's id."""
    request = await who.post(OWN_REQUESTS, asking(handle))
    assert request["status"] == "pending"
    id_: str = request["id"]
    return id_


async def own_contacts(who: Caller) -> dict[str, dict[str, Any]]:
    return {one["user"]["handle"]: one for one in await who.get(OWN) if one["origin"] != "owner"}


async def test_an_owner_and_its_agent_are_contacts_from_the_start(two: Strangers) -> None:
    (of_owner,), (of_agent,) = await two.alice.get(OWN), await two.client.get("/agent/contacts")

    assert (of_owner["user"]["handle"], of_owner["contact_id"], of_owner["contact_type"]) == (
        "alice/client", two.client.id, "Agent",
    )  # fmt: skip
    assert (of_owner["source"], of_owner["origin"], of_owner["status"]) == (None, "owner", "active")
    assert (of_agent["handle"], of_agent["type"], of_agent["origin"]) == ("alice", "User", "owner")
    assert of_owner["id"] == of_agent["id"]
    assert {"description", "tags", "listed_in_directory"}.isdisjoint(of_agent)


@pytest.mark.parametrize("at", ["", "@"])
async def test_a_user_asks_and_gets_the_whole_request(two: Strangers, at: str) -> None:
    bobs = await users_ear(two.market, "bob", two.bob)

    answer = await two.alice.call("POST", OWN_REQUESTS, json=asking(f"{at}bob", message="Hello"))

    assert answer.status_code == 201
    request = answer.json()["data"]
    assert {name: request[name] for name in request if name not in {"id", "requester", "recipient"}} == {
        "status": "pending", "requester_id": two.alice_id, "requester_type": "User", "recipient_id": two.bob_id,
        "recipient_type": "User", "message": "Hello", "inserted_at": "2030-01-01T12:00:00Z",
        "expires_at": "2030-01-31T12:00:00Z", "responded_at": None,
    }  # fmt: skip
    assert (request["requester"]["handle"], request["recipient"]["handle"]) == ("alice", "bob")
    assert await two.bob.get(OWN_REQUESTS) == await two.alice.get(SENT) == [request]
    ((event, told),) = bobs()
    assert (event, told["requester"]) == (
        "contact_request_received", {"id": two.alice_id, "handle": "alice", "name": "alice"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (asking("alice"), (409, "self_contact")),
        (asking("alice/client"), (409, "already_contacts")),
        (asking("no one"), (400, "invalid_handle")),
        (asking("nobody"), (404, "not_found")),
        (asking("bob", message="x" * 501), (422, "invalid_payload")),
        (asking("bob", message=5), (422, "invalid_payload")),
        ({"contact_request": {}}, (422, "invalid_payload")),
        ({}, (422, "invalid_payload")),
    ],
)
async def test_a_users_request_is_refused(two: Strangers, body: dict[str, Any], why: tuple[int, str]) -> None:
    before = await rows(two.market)

    assert (await two.alice.refused("POST", OWN_REQUESTS, body)).why == why

    assert await rows(two.market) == before


async def test_a_null_message_is_none(two: Strangers) -> None:
    assert (await two.alice.post(OWN_REQUESTS, asking("bob", message=None)))["message"] is None


async def test_a_second_request_and_a_request_to_a_contact_are_refused(two: Strangers) -> None:
    id_ = await asked(two.alice, "bob")
    assert (await two.alice.refused("POST", OWN_REQUESTS, asking("bob"))).why == (409, "request_pending")

    crossing = await two.bob.post(OWN_REQUESTS, asking("alice"))

    assert (crossing["id"], crossing["status"], crossing["responded_at"]) == (id_, "approved", "2030-01-01T12:00:00Z")
    assert (await two.alice.refused("POST", OWN_REQUESTS, asking("bob"))).why == (409, "already_contacts")


async def test_a_repeated_idempotency_key_asks_and_answers_once(two: Strangers) -> None:
    once = {"idempotency-key": "once"}
    first = await two.alice.call("POST", OWN_REQUESTS, json=asking("bob"), headers=once)
    again = await two.alice.call("POST", OWN_REQUESTS, json=asking("bob"), headers=once)
    assert first.json() == again.json()

    path = f"{OWN_REQUESTS}/{first.json()['data']['id']}/approve"
    answers = [await two.bob.call("POST", path, headers=once) for _ in range(2)]

    assert [answer.json()["data"]["status"] for answer in answers] == ["approved", "approved"]
    assert "idempotency-replayed" in answers[1].headers


# Answering.


@pytest.mark.parametrize(
    ("method", "verb", "status"),
    [("POST", "/approve", "approved"), ("POST", "/reject", "rejected"), ("DELETE", "", "cancelled")],
)
@pytest.mark.parametrize("between", ["users", "agents"])
async def test_a_user_answers_for_itself_and_for_its_agents(
    two: Strangers, method: str, verb: str, status: str, between: str
) -> None:
    id_ = await two.ask() if between == "agents" else await asked(two.alice, "bob")
    who = two.alice if method == "DELETE" else two.bob
    path = f"{OWN_REQUESTS}/{id_}{verb}"
    ears = (
        [await agents_ear(two.market, one) for one in (two.client, two.translator)]
        if between == "agents"
        else [await users_ear(two.market, "alice", two.alice), await users_ear(two.market, "bob", two.bob)]
    )

    answer = await who.call(method, path)

    assert (answer.status_code, answer.json()["data"]) == (200, {"id": id_, "status": status})
    for ear in ears:
        assert [event for event, _ in ear()] == [
            "contact_request_updated", *(["contact_added"] if status == "approved" else []),
        ]  # fmt: skip
    refused = await who.refused(method, path)
    assert (refused.why, refused.details) == ((409, "request_resolved"), {"status": status})


@pytest.mark.parametrize(("method", "verb"), [("POST", "/approve"), ("POST", "/reject"), ("DELETE", "")])
async def test_others_requests_are_not_found_and_the_wrong_side_is_refused(
    two: Strangers, mallory: Caller, method: str, verb: str
) -> None:
    for id_ in (await two.ask(), await asked(two.alice, "bob")):
        path = f"{OWN_REQUESTS}/{id_}{verb}"
        assert (await mallory.refused(method, path)).why == (404, "not_found")
        wrong = two.bob if method == "DELETE" else two.alice
        assert (await wrong.refused(method, path)).why == (403, "forbidden_role")
        assert (await mallory.refused(method, f"{OWN_REQUESTS}/nothing{verb}")).why == (404, "not_found")
    assert len(await two.bob.get(OWN_REQUESTS, params={"whose": "all"})) == 2


async def test_a_request_to_an_agent_is_none_to_its_owner(two: Strangers) -> None:
    await two.ask()

    assert await two.bob.get(OWN_REQUESTS) == []
    assert len(await two.bob.get(OWN_REQUESTS, params={"whose": "agents"})) == 1


async def test_an_owner_narrows_what_is_opened_with_its_agent(two: Strangers) -> None:
    id_ = await two.ask()

    await two.bob.post(f"{OWN_REQUESTS}/{id_}/approve", {"scope": {"max_price": "8.50"}})

    (contact,) = [one for one in await two.translator.get("/agent/contacts") if one["origin"] == "request"]
    assert contact["scope"]["max_price"] == 8_500_000


async def test_an_owners_key_with_an_agents_id_acts_as_the_agent(two: Strangers) -> None:
    as_client = two.market.with_key(two.market.user_keys["alice"], **{"x-agent-id": two.client.id})
    as_translator = two.market.with_key(two.market.user_keys["bob"], **{"x-agent-id": two.translator.id})

    id_ = await ask(as_client, two.translator.handle)
    answer = await as_translator.post("/agent/contacts/requests/respond", {"action": "approve", "request_id": id_})

    assert answer["status"] == "approved"
    assert await contacts_of(two.client) == {"bob/translator"}
    assert await own_contacts(two.alice) == {}
    assert (await as_client.refused("GET", OWN)).why == (403, "user_required")


# Ending.


async def test_a_user_ends_its_contact_by_handle_or_id(two: Strangers) -> None:
    for name in ("handle", "contact_id"):
        await asked(two.alice, "bob")
        await two.bob.post(OWN_REQUESTS, asking("alice"))
        contact = (await own_contacts(two.alice))["bob"]
        assert (contact["source"], contact["contact_id"], contact["contact_type"]) == ("request", two.bob_id, "User")
        named = {"handle": "@bob"} if name == "handle" else {"contact_id": contact["id"]}

        assert await two.alice.post(OWN_REMOVE, named) == {"status": "removed"}

        assert (await own_contacts(two.alice), await own_contacts(two.bob)) == ({}, {})
        assert (await two.bob.refused("POST", OWN_REMOVE, {"contact_id": contact["id"]})).why == (404, "not_found")


@pytest.mark.parametrize("owner", ["alice", "bob"])
async def test_an_owner_ends_its_agents_contact_by_id_and_strangers_do_not(
    two: Strangers, mallory: Caller, owner: str
) -> None:
    await two.befriend()
    (contact,) = [one for one in await two.client.get("/agent/contacts") if one["origin"] == "request"]
    assert (await mallory.refused("POST", OWN_REMOVE, {"contact_id": contact["id"]})).why == (404, "not_found")
    who = two.alice if owner == "alice" else two.bob
    by_handle = two.translator.handle if owner == "alice" else two.client.handle
    assert (await who.refused("POST", OWN_REMOVE, {"handle": by_handle})).why == (404, "not_found")

    assert await who.post(OWN_REMOVE, {"contact_id": contact["id"]}) == {"status": "removed"}

    assert (await contacts_of(two.client), await contacts_of(two.translator)) == (set(), set())
    await require_sound(two.market)


@pytest.mark.parametrize("fields", [{}, {"handle": None, "contact_id": None}])
async def test_naming_no_contact_is_a_bad_request(two: Strangers, fields: dict[str, None]) -> None:
    assert (await two.alice.refused("POST", OWN_REMOVE, fields)).why == (400, "malformed")


@pytest.mark.parametrize("path", [OWN_REMOVE, OWN_BLOCK, OWN_UNBLOCK])
async def test_a_malformed_handle_is_a_bad_request_and_an_unknown_one_not_found(two: Strangers, path: str) -> None:
    assert (await two.alice.refused("POST", path, {"handle": "no one"})).why == (400, "invalid_handle")
    assert (await two.alice.refused("POST", path, {"handle": "nobody"})).why == (404, "not_found")


# Blocking.


async def test_a_users_block_is_listed_and_ended(two: Strangers) -> None:
    made = await two.bob.post(OWN_BLOCK, {"handle": "@alice", "reason": "rude"})
    assert (made["handle"], made["type"], made["reason"], made["expires_at"]) == ("alice", "User", "rude", None)
    assert await two.bob.get("/me/contacts/blocks") == [made]
    assert (await two.alice.refused("POST", OWN_REQUESTS, asking("bob"))).why == (404, "not_found")
    assert (await two.bob.refused("POST", OWN_REQUESTS, asking("alice"))).why == (409, "blocked_by_you")
    assert (await two.bob.refused("POST", OWN_BLOCK, {"handle": "alice"})).why == (409, "already_blocked")

    assert await two.bob.post(OWN_UNBLOCK, {"handle": "alice"}) == {"status": "unblocked"}

    assert await two.bob.get("/me/contacts/blocks") == []
    await asked(two.alice, "bob")


@pytest.mark.parametrize(
    ("handle", "why"), [("alice", (409, "self_contact")), ("alice/client", (403, "forbidden_role"))]
)
async def test_nobody_blocks_itself_or_its_agent(two: Strangers, handle: str, why: tuple[int, str]) -> None:
    assert (await two.alice.refused("POST", OWN_BLOCK, {"handle": handle})).why == why


async def test_a_users_block_does_not_extend_to_its_agents(two: Strangers) -> None:
    await two.bob.post(OWN_BLOCK, {"handle": two.client.handle})

    await two.ask()


# Who is told.


@pytest.mark.parametrize("who", ["its agent", "another user", "an agent of another"])
async def test_only_the_user_itself_hears_of_its_contacts(two: Strangers, who: str) -> None:
    keys = {
        "its agent": two.client.api_key,
        "another user": two.market.user_keys["bob"],
        "an agent of another": two.translator.api_key,
    }

    reply, _ = await join(two.market, keys[who], f"user_contacts:{two.alice_id}")

    assert (reply["status"], reply["response"]["reason"]) == ("error", "unauthorized")


async def test_a_new_agent_is_told_to_its_owner(two: Strangers) -> None:
    ear = await users_ear(two.market, "alice", two.alice)

    made = await two.alice.post("/agents", {"name": "Second", "description": "another"})

    ((event, told),) = ear()
    assert (event, told["handle"], told["type"], told["tags"]) == ("contact_added", "alice/second", "Agent", [])
    second = two.market.with_key(made["api_key"])
    assert [one["handle"] for one in await second.get("/agent/contacts")] == ["alice"]


async def test_online_is_who_has_a_socket(two: Strangers) -> None:
    await two.befriend()
    assert {one["online"] for one in await two.client.get("/agent/contacts")} == {False}
    connection, _ = await two.market.socket(two.translator.api_key)

    contacts = {one["handle"]: one["online"] for one in await two.client.get("/agent/contacts")}

    assert contacts == {"alice": False, "bob/translator": True}
    assert {one["online"] for one in await two.bob.get(OWN)} == {True}
    connection.closed()
    assert {one["online"] for one in await two.client.get("/agent/contacts")} == {False}


async def test_no_email_is_shown(two: Strangers) -> None:
    await two.market.server.database.write(lambda tx: tx.run("UPDATE users SET email = 'alice@example.test'"))
    await asked(two.alice, "bob")
    await ask(two.client, "bob")

    shown = [await two.bob.page(path, params=query) for path, query in ((OWN_REQUESTS, {"whose": "all"}), (OWN, {}))]

    assert len(shown[0]["data"]) == 2
    assert "example.test" not in str(shown)


# Agents' and users' doors.


async def test_agents_and_users_have_doors_of_their_own(two: Strangers) -> None:
    assert (await two.client.refused("GET", OWN)).why == (403, "user_required")
    assert (await two.client.refused("POST", OWN_REQUESTS, asking("bob"))).why == (403, "user_required")
    assert (await two.alice.refused("GET", "/agent/contacts")).why == (403, "agent_required")
    for path in (ADD, REMOVE):
        assert (await two.alice.refused("POST", path, {"handle": "bob"})).why == (403, "agent_required")


async def test_a_key_without_the_scope_contacts_opens_neither(two: Strangers) -> None:
    for owner, path in ((two.alice, OWN), (two.client, "/agent/contacts")):
        made = await owner.post("/keys", {"name": "narrow", "scopes": ["tasks", "discover"]})
        narrow = two.market.with_key(made["api_key"])
        refused = await narrow.refused("GET", path)
        assert (refused.why, refused.details) == ((403, "missing_scope"), {"scope": "contacts"})
