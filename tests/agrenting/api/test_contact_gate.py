"""The gate, revocation and blocks by REST: what one may open with whom, and what the end of a contact cuts."""

import asyncio

import pytest

from tests.agrenting.api.friends import (
    ADD,
    BLOCK,
    DEPOSIT,
    DOORS,
    REMOVE,
    RESPOND,
    UNBLOCK,
    Strangers,
    agents_ear,
    listen,
    opening,
    require_sound,
    strangers,
    translator,
    wanted,
)
from tests.agrenting.api.market import PRICE, Marketplace, Player


@pytest.fixture
async def two(market: Marketplace) -> Strangers:
    return await strangers(market)


async def open_as(two: Strangers, path: str) -> tuple[int, str]:
    """How it is answered when the client opens something with the translator."""
    answer = await two.client.call("POST", path, json=opening(path, two.translator))
    return answer.status_code, "" if answer.status_code < 400 else answer.json()["error"]["code"]


async def available(who: Player) -> int:
    amount: int = (await who.get("/ledger/balance"))["available"]
    return amount


# Strangers and contacts.


@pytest.mark.parametrize("path", DOORS)
async def test_strangers_open_nothing_contacts_do_and_after_the_end_no_more(two: Strangers, path: str) -> None:
    assert await open_as(two, path) == (403, "contact_required")
    await two.ask()
    assert await open_as(two, path) == (403, "contact_required")  # A pending request grants nothing.

    await two.translator.post(ADD, {"handle": two.client.handle})
    assert (await open_as(two, path))[0] == 201

    await two.translator.post(REMOVE, {"handle": two.client.handle})
    assert await open_as(two, path) == (403, "contact_required")
    assert await available(two.client) == DEPOSIT


@pytest.mark.parametrize("path", DOORS)
async def test_a_contact_does_not_extend_to_owners_or_siblings(two: Strangers, path: str) -> None:
    await two.befriend()
    brother = await translator(two.market, "bob", "Brother")
    sister = await two.market.agent("alice", "Sister", deposit=PRICE)

    for who, whom in ((two.client, brother), (sister, two.translator)):
        assert (await who.refused("POST", path, opening(path, whom))).why == (403, "contact_required")


@pytest.mark.parametrize("path", DOORS)
async def test_siblings_and_global_agents_need_no_contact(two: Strangers, path: str) -> None:
    for provider in (
        await translator(two.market, "alice", "Sibling"),
        await translator(two.market, "bob", "For all", is_global=True),
    ):
        await two.client.post(path, opening(path, provider))


# Scopes.


@pytest.mark.parametrize(("kind", "is_open"), [("negotiation", DOORS[0]), ("task", DOORS[1])])
async def test_a_scope_names_kinds(two: Strangers, kind: str, is_open: str) -> None:
    await two.befriend({"kinds": [kind]})

    answers = {path: (await open_as(two, path)) for path in DOORS}

    assert answers == {path: (201, "") if path == is_open else (403, "contact_scope_exceeded") for path in DOORS}


async def test_a_scope_of_other_kinds_opens_neither(two: Strangers) -> None:
    await two.befriend({"kinds": ["room", "message"]})

    for path in DOORS:
        refused = await two.client.refused("POST", path, opening(path, two.translator))
        assert (refused.why, refused.details) == ((403, "contact_scope_exceeded"), {"kinds": ["room", "message"]})


@pytest.mark.parametrize(("max_price", "is_held"), [(PRICE - 1, False), (PRICE, True), ("0.001", True)])
async def test_a_scope_bounds_the_held_price(two: Strangers, max_price: int | str, *, is_held: bool) -> None:
    await two.befriend({"max_price": max_price})

    assert await open_as(two, "/tasks") == ((201, "") if is_held else (403, "contact_scope_exceeded"))

    assert await available(two.client) == DEPOSIT - PRICE * is_held
    await require_sound(two.market)


async def test_a_scope_bounds_offers_of_either_side(two: Strangers) -> None:
    await two.befriend({"max_price": 600})
    session = await two.negotiate()
    path = f"/negotiations/{session['id']}/offer"

    refused = await two.client.refused("POST", path, two.client.offer(session, 601))
    assert (refused.why, refused.details) == ((403, "contact_scope_exceeded"), {"max_price": 600})
    session = await two.client.post(path, two.client.offer(session, 600))
    answer = await two.translator.refused("POST", path, two.translator.offer(session, 900))

    assert answer.why == (403, "contact_scope_exceeded")
    agreed = await two.translator.post(path, two.translator.offer(session, 600))
    assert (agreed["status"], agreed["amount"]) == ("agreed", 600)


async def test_a_scope_bounds_what_is_open_at_once(two: Strangers) -> None:
    await two.befriend({"max_open": 2})
    session = await two.negotiate()
    await two.hire()

    for path in DOORS:
        refused = await two.client.refused("POST", path, opening(path, two.translator))
        assert (refused.why, refused.details) == ((403, "contact_scope_exceeded"), {"max_open": 2})

    await two.client.post(f"/negotiations/{session['id']}/reject", {})
    await two.hire()


async def test_of_twenty_openings_at_once_the_scope_lets_three_through(two: Strangers) -> None:
    await two.befriend({"max_open": 3})

    answers = await asyncio.gather(*(open_as(two, DOORS[number % 2]) for number in range(20)))

    assert sorted(set(answers)) == [(201, ""), (403, "contact_scope_exceeded")]
    assert answers.count((201, "")) == 3
    await require_sound(two.market)


@pytest.mark.parametrize("path", DOORS)
async def test_a_scope_ends_by_the_clock_before_its_timer_has_run(two: Strangers, path: str) -> None:
    await two.befriend({"expires_at": "2030-01-01T13:00:00Z"})
    assert (await open_as(two, path))[0] == 201
    two.market.clock.advance(hours=1)

    assert await open_as(two, path) == (403, "contact_required")
    assert [one["handle"] for one in await two.client.get("/agent/contacts")] == ["alice"]


async def test_a_scope_binds_the_requester_alone(two: Strangers) -> None:
    client = await translator(two.market, "alice", "Asker")
    await two.market.agent("bob", "Buyer")
    await client.post(ADD, {"handle": "bob/buyer"})
    buyer = two.market.with_key(two.market.user_keys["bob"], **{"x-agent-id": await id_of(two, "bob/buyer")})
    await buyer.post(RESPOND, {"action": "approve", "handle": client.handle, "scope": {"kinds": ["room"]}})

    assert (await buyer.post("/negotiations", wanted(client)))["status"] == "open"


async def id_of(two: Strangers, handle: str) -> str:
    row = await two.market.server.database.read(
        lambda tx: tx.one("SELECT id FROM agents WHERE handle = :handle", handle=handle)
    )
    assert row is not None
    id_: str = row[0]
    return id_


# Revocation.


async def end_contact(two: Strangers, how: str) -> None:
    if how == "removed by the client":
        await two.client.post(REMOVE, {"handle": two.translator.handle})
    elif how == "removed by the provider's owner":
        (contact,) = [one for one in await two.client.get("/agent/contacts") if one["origin"] == "request"]
        await two.bob.post("/me/contacts/remove", {"contact_id": contact["id"]})
    elif how == "blocked by the client":
        await two.client.post(BLOCK, {"handle": two.translator.handle})
    else:
        await two.translator.post(BLOCK, {"handle": two.client.handle})


ENDS = ["removed by the client", "removed by the provider's owner", "blocked by the client", "blocked by the provider"]


@pytest.mark.parametrize("how", ENDS)
async def test_the_end_of_a_contact_cuts_what_has_not_begun(two: Strangers, how: str) -> None:
    await two.befriend()
    session, waiting, running = await two.negotiate(), await two.hire(), await two.hire()
    await two.translator.post(f"/tasks/{running['id']}/progress", {"percent": 10})
    hears_session = await listen(two.market, two.client.api_key, f"negotiation:{session['id']}")
    hears_task = await listen(two.market, two.translator.api_key, f"task:{waiting['id']}")

    await end_contact(two, how)

    for who in (two.client, two.translator):
        ended = await who.get(f"/negotiations/{session['id']}")
        cancelled = await who.get(f"/tasks/{waiting['id']}")
        assert (ended["status"], ended["reason"]) == ("cancelled", "contact_revoked")
        assert (cancelled["status"], cancelled["reason"], cancelled["escrow_status"]) == (
            "cancelled", "contact_revoked", "refunded",
        )  # fmt: skip
        assert (await who.get(f"/tasks/{running['id']}"))["status"] == "in_progress"
    assert [event for event, _ in hears_session()] == ["negotiation_cancelled"]
    assert [event for event, _ in hears_task()] == ["task_cancelled"]
    assert await available(two.client) == DEPOSIT - PRICE
    await two.translator.post(f"/tasks/{running['id']}/complete", {"result": 1})
    assert (await two.client.get(f"/tasks/{running['id']}"))["escrow_status"] == "released"
    await require_sound(two.market)


async def test_an_agreement_of_before_opens_nothing_after_the_end(two: Strangers) -> None:
    await two.befriend()
    session = await two.negotiate()
    path = f"/negotiations/{session['id']}/offer"
    session = await two.client.post(path, two.client.offer(session, 600))
    await two.translator.post(path, two.translator.offer(session, 600))
    await two.client.post(REMOVE, {"handle": two.translator.handle})

    refused = await two.client.refused(
        "POST", "/tasks", {**wanted(two.translator), "negotiation_session_id": session["id"]}
    )

    assert refused.why == (403, "contact_required")


# Blocks.


async def test_to_the_blocked_one_there_is_no_such_agent(two: Strangers) -> None:
    await two.befriend()
    assert [hit["id"] for hit in await two.client.get("/discover")] == [two.translator.id]
    await two.translator.post(BLOCK, {"handle": two.client.handle})

    async def refusals(id_: str, handle: str) -> list[tuple[int, str, str]]:
        asked = [
            await two.client.refused("POST", path, body)
            for path, body in (
                (ADD, {"handle": handle}),
                (REMOVE, {"handle": handle}),
                (RESPOND, {"handle": handle, "action": "approve"}),
                (BLOCK, {"handle": handle}),
                (UNBLOCK, {"handle": handle}),
                *((door, {**opening(door, two.translator), "provider_agent_id": id_}) for door in DOORS),
            )
        ] + [await two.client.refused("GET", f"/agents/{id_}")]
        return [(*one.why, one.error["message"]) for one in asked]

    answers = await refusals(two.translator.id, two.translator.handle)

    assert {status for status, *_ in answers} == {404}
    assert answers == await refusals("01a1fd32-0000-7000-8000-000000000000", "bob/nothing")
    assert await two.client.get("/discover") == []
    assert await two.translator.get("/discover") == []


async def test_a_blocked_sibling_finds_no_such_agent_either(two: Strangers) -> None:
    sibling = await translator(two.market, "alice", "Sibling")
    assert (await two.client.get(f"/agents/{sibling.id}"))["id"] == sibling.id
    await sibling.post(BLOCK, {"handle": two.client.handle})

    assert (await two.client.refused("GET", f"/agents/{sibling.id}")).why == (404, "not_found")
    assert (await two.client.refused("POST", ADD, {"handle": sibling.handle})).why == (404, "not_found")
    for path in DOORS:
        assert (await two.client.refused("POST", path, opening(path, sibling))).why == (404, "not_found")
    assert sibling.id not in {hit["id"] for hit in await two.client.get("/discover")}
    assert (await two.alice.get(f"/agents/{sibling.id}"))["id"] == sibling.id  # The owner of both sees both.


@pytest.mark.parametrize("path", DOORS)
async def test_the_blocker_is_told_that_it_has_blocked(two: Strangers, path: str) -> None:
    await two.befriend()
    await two.client.post(BLOCK, {"handle": two.translator.handle})

    assert await open_as(two, path) == (409, "blocked_by_you")

    await two.client.post(UNBLOCK, {"handle": two.translator.handle})
    assert await open_as(two, path) == (403, "contact_required")  # The contact does not come back.


async def test_a_block_by_the_provider_is_no_event_for_strangers(two: Strangers) -> None:
    ear = await agents_ear(two.market, two.client)

    await two.translator.post(BLOCK, {"handle": two.client.handle})
    await two.translator.post(UNBLOCK, {"handle": two.client.handle})

    assert ear() == []


async def test_a_block_keeps_no_sibling_of_the_blocked_away(two: Strangers) -> None:
    sister = await two.market.agent("alice", "Sister")
    await two.translator.post(BLOCK, {"handle": two.client.handle})

    assert (await sister.get(f"/agents/{two.translator.id}"))["id"] == two.translator.id
    await sister.post(ADD, {"handle": two.translator.handle})
