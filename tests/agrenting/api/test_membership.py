"""What joining, leaving, registering and deleting do to contacts. Alice, Bob and Carol come and go, Olga operates."""

from typing import Any

import pytest

from agrenting.db import states
from channels.agents import Agent
from tests.agrenting.api.friends import (
    ADD,
    BLOCK,
    REQUESTS,
    Ear,
    Strangers,
    agents_ear,
    ask,
    contacts_of,
    hired,
    require_sound,
    rows,
    strangers,
    translator,
    users_ear,
)
from tests.agrenting.api.market import Caller, Marketplace


@pytest.fixture
async def two(market: Marketplace) -> Strangers:
    return await strangers(market)


@pytest.fixture
async def acme(olga: Caller) -> str:
    organisation: str = (await olga.post("/admin/organisations", {"name": "Acme"}))["id"]
    return organisation


async def move(olga: Caller, user: Caller, organisation: str | None) -> dict[str, Any]:
    """As an operator makes a user a member, or of none."""
    path = f"/admin/users/{user.headers['x-user-id']}/organisation"
    moved: dict[str, Any] = await olga.post(path, {"organisation": organisation})
    return moved


async def origins_of(who: Caller) -> dict[str, str]:
    """How each of a user's contacts came about, but for those with its agents."""
    contacts = await who.get("/me/contacts")
    return {one["user"]["handle"]: one["origin"] for one in contacts if one["origin"] != "owner"}


async def of_agent(market: Marketplace, id_: str) -> tuple[str | None, str | None]:
    """The agent's own organisation, and its owner's; what is searched by says the same."""
    agent: Agent = await market.server.database.read(lambda tx: states.load(tx, "agent", id_))
    row = await market.server.database.read(
        lambda tx: tx.one("SELECT organisation_id FROM agents WHERE id = :id", id=id_)
    )
    assert row == (agent.organisation_id,)
    return agent.organisation_id, agent.owner_organisation_id


def events(ear: Ear) -> list[str]:
    return [event for event, _ in ear()]


async def test_joining_makes_a_contact_of_every_member_and_tells_all(
    market: Marketplace, olga: Caller, acme: str
) -> None:
    alice, bob, carol = [await market.user(name) for name in ("alice", "bob", "carol")]
    await move(olga, alice, "Acme")
    ears = [await users_ear(market, name, user) for name, user in (("alice", alice), ("carol", carol))]

    moved = await move(olga, bob, "Acme")

    assert (moved["id"], moved["organisation_id"]) == (bob.headers["x-user-id"], acme)
    assert [await origins_of(user) for user in (alice, bob, carol)] == [
        {"bob": "organisation"}, {"alice": "organisation"}, {},
    ]  # fmt: skip
    ((event, told),) = ears[0]()
    assert (event, told["handle"], told["type"]) == ("contact_added", "bob", "User")
    assert ears[1]() == []
    (contact,) = await bob.get("/me/contacts")
    assert (contact["source"], contact["scope"]) == (None, None)
    await move(olga, carol, "Acme")
    assert await origins_of(carol) == {"alice": "organisation", "bob": "organisation"}
    await require_sound(market)


async def test_a_user_made_in_an_organisation_is_a_contact_of_its_members(
    market: Marketplace, olga: Caller, acme: str
) -> None:
    alice = await market.user("alice")
    await move(olga, alice, "Acme")
    ear = await users_ear(market, "alice", alice)

    made = await olga.post("/admin/users", {"handle": "dave", "organisation": "Acme"})

    assert await origins_of(market.with_key(made["api_key"])) == {"alice": "organisation"}
    assert await origins_of(alice) == {"dave": "organisation"}
    assert events(ear) == ["contact_added"]


async def test_leaving_ends_what_joining_made_and_nothing_else(market: Marketplace, olga: Caller, acme: str) -> None:
    alice, bob, carol = [await market.user(name) for name in ("alice", "bob", "carol")]
    await bob.post("/me/contacts/requests", {"contact_request": {"recipient_handle": "alice"}})
    await alice.post("/me/contacts/requests", {"contact_request": {"recipient_handle": "bob"}})
    for user in (alice, bob, carol):
        await move(olga, user, "Acme")
    assert await origins_of(alice) == {"bob": "request", "carol": "organisation"}
    ears = [await users_ear(market, name, user) for name, user in (("bob", bob), ("carol", carol))]

    moved = await move(olga, alice, None)

    assert moved["organisation_id"] is None
    assert [await origins_of(user) for user in (alice, bob, carol)] == [
        {"bob": "request"}, {"alice": "request", "carol": "organisation"}, {"bob": "organisation"},
    ]  # fmt: skip
    assert [events(ear) for ear in ears] == [[], ["contact_removed"]]
    await require_sound(market)


async def test_members_who_come_back_are_contacts_again(market: Marketplace, olga: Caller, acme: str) -> None:
    alice, bob = [await market.user(name) for name in ("alice", "bob")]
    for user in (alice, bob):
        await move(olga, user, "Acme")
    (first,) = await alice.get("/me/contacts")
    await move(olga, alice, None)

    await move(olga, alice, "Acme")

    (second,) = await alice.get("/me/contacts")
    assert (second["contact_id"], first["contact_id"]) == (bob.headers["x-user-id"],) * 2
    assert second["id"] != first["id"]


async def test_a_block_outlasts_joining(market: Marketplace, olga: Caller, acme: str) -> None:
    alice, bob = [await market.user(name) for name in ("alice", "bob")]
    await bob.post("/me/contacts/block", {"handle": "alice"})

    for user in (alice, bob):
        await move(olga, user, "Acme")

    assert (await origins_of(alice), await origins_of(bob)) == ({}, {})


async def test_a_request_that_is_approved_after_joining_outlives_leaving(
    market: Marketplace, olga: Caller, acme: str
) -> None:
    alice, bob = [await market.user(name) for name in ("alice", "bob")]
    asked = await alice.post("/me/contacts/requests", {"contact_request": {"recipient_handle": "bob"}})
    for user in (alice, bob):
        await move(olga, user, "Acme")
    until = "2030-01-02T00:00:00Z"

    answer = await bob.post(f"/me/contacts/requests/{asked['id']}/approve", {"scope": {"expires_at": until}})

    assert answer["status"] == "approved"
    await move(olga, bob, None)
    assert (await origins_of(alice), await origins_of(bob)) == ({"bob": "request"}, {"alice": "request"})
    await require_sound(market)
    market.clock.advance(days=1)
    assert (await origins_of(alice), await origins_of(bob)) == ({}, {})
    await market.server.timers.run_due()
    await require_sound(market)


async def test_an_organisations_contact_is_removed_by_hand(market: Marketplace, olga: Caller, acme: str) -> None:
    alice, bob = [await market.user(name) for name in ("alice", "bob")]
    for user in (alice, bob):
        await move(olga, user, "Acme")

    await bob.post("/me/contacts/remove", {"handle": "alice"})
    await move(olga, alice, None)

    assert (await origins_of(alice), await origins_of(bob)) == ({}, {})
    await require_sound(market)


# Agents of who comes and goes.


async def test_agents_follow_their_owner_and_its_sockets_come_back(two: Strangers, olga: Caller, acme: str) -> None:
    sockets = [(await two.market.socket(key))[1] for key in (two.market.user_keys["alice"], two.client.api_key)]
    _, bystander = await two.market.socket(two.translator.api_key)
    assert await of_agent(two.market, two.client.id) == (None, None)

    await move(olga, two.alice, "Acme")

    assert [socket.closed_with for socket in (*sockets, bystander)] == [1001, 1001, None]
    assert await of_agent(two.market, two.client.id) == (None, acme)
    shared = await two.alice.post("/agents", {"name": "Shared", "description": "ours", "organisation": "Acme"})
    assert await of_agent(two.market, shared["id"]) == (acme, acme)
    _, socket = await two.market.socket(shared["api_key"])

    await move(olga, two.alice, None)

    assert socket.closed_with == 1001
    assert await of_agent(two.market, two.client.id) == (None, None)
    assert await of_agent(two.market, shared["id"]) == (None, None)


async def test_members_hire_shared_agents_without_a_contact_until_they_leave(
    two: Strangers, olga: Caller, acme: str
) -> None:
    await move(olga, two.bob, "Acme")
    made = await two.bob.post(
        "/agents",
        {
            "name": "Shared",
            "description": "ours",
            "organisation": "Acme",
            "capabilities": [{"name": "translate", "price": 1_000}],
        },
    )
    hiring = {"provider_agent_id": made["id"], "capability": "translate", "max_price": 1_000}
    assert (await two.client.refused("POST", "/tasks", hiring)).why == (403, "contact_required")
    await move(olga, two.alice, "Acme")

    assert (await two.client.post("/tasks", hiring))["status"] == "pending"
    refused = await two.client.refused("POST", "/tasks", hired(two.translator))
    assert refused.why == (403, "contact_required")  # Bob's translator is not shared.

    await move(olga, two.alice, None)
    assert (await two.client.refused("POST", "/tasks", hiring)).why == (403, "contact_required")


# Refusals.


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("Acme", "Acme", (409, "already_member")),
        ("Acme", "Umbrella", (409, "other_organisation")),
        (None, None, (409, "no_organisation")),
        (None, "Nowhere", (404, "not_found")),
        (None, 5, (422, "invalid_payload")),
    ],
)
async def test_a_move_is_refused(
    market: Marketplace, olga: Caller, *, before: str | None, after: Any, why: tuple[int, str]
) -> None:
    acme = (await olga.post("/admin/organisations", {"name": "Acme"}))["id"]
    await olga.post("/admin/organisations", {"name": "Umbrella"})
    alice = await market.user("alice", organisation=before)
    await market.user("bob", organisation="Umbrella")
    path = f"/admin/users/{alice.headers['x-user-id']}/organisation"
    _, socket = await market.socket(market.user_keys["alice"])
    kept = await rows(market)

    refused = await olga.refused("POST", path, {"organisation": after})

    assert (refused.why, socket.closed_with) == (why, None)
    assert await rows(market) == kept
    assert (await alice.get("/me"))["organisation_id"] == (acme if before else None)


async def test_a_move_names_an_organisation_or_none(olga: Caller, market: Marketplace) -> None:
    path = f"/admin/users/{olga.headers['x-user-id']}/organisation"

    refused = await olga.refused("POST", path, {})

    assert (refused.why, list(refused.details)) == ((422, "invalid_payload"), ["/organisation"])


async def test_operators_alone_move_users_that_there_are(market: Marketplace, olga: Caller, acme: str) -> None:
    alice = await market.user("alice")
    path = f"/admin/users/{alice.headers['x-user-id']}/organisation"

    assert (await alice.refused("POST", path, {"organisation": "Acme"})).why == (403, "operator_required")
    refused = await olga.refused("POST", "/admin/users/nobody/organisation", {"organisation": "Acme"})
    assert refused.why == (404, "not_found")


# Registering and deleting.


async def test_a_deleted_agent_leaves_nothing_open_and_the_others_are_told(two: Strangers) -> None:
    await two.befriend()
    asking, asked, blocking, blocked = [await two.market.agent("bob", f"Bot {number}") for number in range(4)]
    other = await translator(two.market, "alice", "Other")
    for bot in (asking, asked, blocking, blocked):
        assert await contacts_of(bot) == set()
    incoming = await ask(asking, other.handle)
    outgoing = await ask(other, asked.handle)
    await blocking.post(BLOCK, {"handle": other.handle})
    await other.post(BLOCK, {"handle": blocked.handle})
    await other.post(ADD, {"handle": two.translator.handle})
    await two.translator.post(ADD, {"handle": other.handle})
    owner = await users_ear(two.market, "alice", two.alice)
    ears = [await agents_ear(two.market, one) for one in (two.translator, asking, asked, blocking, blocked)]

    await two.alice.delete(f"/agents/{other.id}")

    assert [events(ear) for ear in ears[:1]] == [["contact_removed"]]
    assert ears[1]() == [("contact_request_updated", {"id": incoming, "status": "rejected"})]
    assert ears[2]() == [("contact_request_updated", {"id": outgoing, "status": "cancelled"})]
    assert [ear() for ear in ears[3:]] == [[], []]
    assert events(owner) == ["contact_removed"]
    assert await contacts_of(two.translator) == {"alice/client"}  # The other contact stays.
    assert (await asking.get(REQUESTS, params={"sent_status": "rejected"}))["sent"][0]["id"] == incoming
    assert await blocking.get("/agent/contacts/blocks") == []
    left = await rows(two.market)
    assert other.id not in str(left["contact_sides"])
    assert left["timers"] == []
    await require_sound(two.market)


async def test_a_request_that_is_over_when_its_agent_is_deleted_has_expired(two: Strangers) -> None:
    id_ = await two.ask()
    two.market.clock.advance(days=30)

    await two.bob.delete(f"/agents/{two.translator.id}")

    (sent,) = (await two.client.get(REQUESTS, params={"sent_status": "all"}))["sent"]
    assert (sent["id"], sent["status"]) == (id_, "expired")
    assert (await rows(two.market))["timers"] == []


async def test_a_banned_agent_has_no_contacts_any_more(two: Strangers, olga: Caller) -> None:
    await two.befriend()
    ear = await agents_ear(two.market, two.client)

    await olga.post(f"/admin/agents/{two.translator.id}/ban")

    assert events(ear) == ["contact_removed"]
    assert await contacts_of(two.client) == set()
    assert (await two.client.refused("POST", ADD, {"handle": two.translator.handle})).why == (404, "not_found")
    await require_sound(two.market)
