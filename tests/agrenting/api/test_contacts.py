"""Contacts of agents by REST: asked for, answered, listed, ended, and blocks. Alice's client and Bob's translator."""

from typing import Any

import pytest

from tests.agrenting.api.friends import (
    ADD,
    BLOCK,
    REMOVE,
    REQUESTS,
    RESPOND,
    UNBLOCK,
    Strangers,
    agents_ear,
    ask,
    contacts_of,
    rows,
    strangers,
)
from tests.agrenting.api.market import START, Marketplace

NOBODY = "nobody/nothing"
NAMING = (REMOVE, RESPOND)
NAMES_HANDLE = (ADD, REMOVE, RESPOND, BLOCK, UNBLOCK)


@pytest.fixture
async def two(market: Marketplace) -> Strangers:
    return await strangers(market)


def body_of(path: str, **fields: Any) -> dict[str, Any]:
    return {"action": "approve", **fields} if path == RESPOND else fields


# Asking.


@pytest.mark.parametrize("at", ["", "@"])
@pytest.mark.parametrize("message", [None, "Let us trade."])
async def test_asking_makes_a_pending_request(two: Strangers, at: str, message: str | None) -> None:
    ear = await agents_ear(two.market, two.translator)

    asked = await two.client.call("POST", ADD, json={"handle": at + two.translator.handle, "message": message})

    assert (asked.status_code, asked.json()["data"].keys()) == (201, {"id", "status"})
    lists = await two.translator.get(REQUESTS)
    (received,) = lists["received"]
    assert received == {
        "id": asked.json()["data"]["id"], "status": "pending", "from_handle": "alice/client", "from_name": "Client",
        "message": message, "inserted_at": "2030-01-01T12:00:00Z", "expires_at": "2030-01-31T12:00:00Z",
    }  # fmt: skip
    assert lists["sent"] == []
    ((event, told),) = ear()
    assert (event, told["id"], told["from_handle"], told["message"]) == (
        "contact_request_received", received["id"], "alice/client", message,
    )  # fmt: skip


@pytest.mark.parametrize("handle", ["", "@", "a b", "a/b/c", "-a", "alice/", "@@alice"])
@pytest.mark.parametrize("path", NAMES_HANDLE)
async def test_a_handle_that_nobody_can_have_is_a_bad_request(two: Strangers, path: str, handle: str) -> None:
    refused = await two.client.refused("POST", path, body_of(path, handle=handle))

    assert refused.why == (400, "invalid_handle")


@pytest.mark.parametrize("path", NAMES_HANDLE)
async def test_a_handle_that_nobody_has_is_not_found(two: Strangers, path: str) -> None:
    assert (await two.client.refused("POST", path, body_of(path, handle=NOBODY))).why == (404, "not_found")


@pytest.mark.parametrize("fields", [{}, {"handle": None}])
@pytest.mark.parametrize("path", NAMING)
async def test_naming_the_other_one_in_no_way_is_a_bad_request(
    two: Strangers, path: str, fields: dict[str, None]
) -> None:
    assert (await two.client.refused("POST", path, body_of(path, **fields))).why == (400, "malformed")


@pytest.mark.parametrize("path", [ADD, BLOCK, UNBLOCK])
async def test_whoever_is_named_by_handle_alone_has_to_be_named(two: Strangers, path: str) -> None:
    refused = await two.client.refused("POST", path, {})

    assert (refused.why, list(refused.details)) == ((422, "invalid_payload"), ["/handle"])


async def test_asking_oneself_is_refused(two: Strangers) -> None:
    assert (await two.client.refused("POST", ADD, {"handle": "alice/client"})).why == (409, "self_contact")


async def test_asking_again_names_the_pending_request(two: Strangers) -> None:
    id_ = await two.ask()

    refused = await two.client.refused("POST", ADD, {"handle": two.translator.handle})

    assert (refused.why, refused.details) == ((409, "request_pending"), {"request_id": id_})


async def test_asking_a_contact_is_refused(two: Strangers) -> None:
    await two.befriend()

    for who, whom in ((two.client, two.translator), (two.translator, two.client)):
        assert (await who.refused("POST", ADD, {"handle": whom.handle})).why == (409, "already_contacts")


async def test_asking_whom_one_has_blocked_is_refused(two: Strangers) -> None:
    await two.client.post(BLOCK, {"handle": two.translator.handle})

    refused = await two.client.refused("POST", ADD, {"handle": two.translator.handle})

    assert (refused.why, refused.details) == ((409, "blocked_by_you"), {"id": two.translator.id})


async def test_a_suspended_agent_does_not_ask(two: Strangers) -> None:
    olga = await two.market.user("olga", is_operator=True)
    await olga.post(f"/admin/agents/{two.client.id}/suspend")

    refused = await two.client.refused("POST", ADD, {"handle": two.translator.handle})

    assert refused.why == (409, "agent_unavailable")


async def test_ten_requests_to_strangers_may_be_pending(two: Strangers) -> None:
    bots = [await two.market.agent("bob", f"Bot {number}") for number in range(10)]
    for bot in bots:
        await ask(two.client, bot.handle)

    refused = await two.client.refused("POST", ADD, {"handle": two.translator.handle})

    assert (refused.why, refused.details) == ((409, "too_many_pending"), {"max": 10})
    await two.client.post(RESPOND, {"action": "cancel", "handle": bots[0].handle})
    await two.ask()


async def test_sixty_requests_an_hour_may_be_made(two: Strangers) -> None:
    for _ in range(60):
        await two.ask()
        await two.client.post(RESPOND, {"action": "cancel", "handle": two.translator.handle})

    refused = await two.client.refused("POST", ADD, {"handle": two.translator.handle})

    assert (refused.why, refused.answer.headers["retry-after"]) == ((429, "rate_limited"), "3600")
    two.market.clock.advance(hours=1)
    await two.ask()


async def test_a_message_of_500_characters_is_the_longest(two: Strangers) -> None:
    refused = await two.client.refused("POST", ADD, {"handle": two.translator.handle, "message": "ä" * 501})

    assert (refused.why, list(refused.details)) == ((422, "invalid_payload"), ["/message"])
    await two.ask(message="ä" * 500)


async def test_asking_whoever_has_asked_approves(two: Strangers) -> None:
    id_ = await two.ask()

    answer = await two.translator.post(ADD, {"handle": two.client.handle})

    assert answer == {"id": id_, "status": "approved"}
    assert (await contacts_of(two.client), await contacts_of(two.translator)) == ({"bob/translator"}, {"alice/client"})


async def test_an_agent_asks_a_user(two: Strangers) -> None:
    id_ = await ask(two.client, "@bob")

    (received,) = await two.bob.get("/me/contacts/requests")
    assert (received["id"], received["requester"]["handle"], received["recipient_type"]) == (
        id_,
        "alice/client",
        "User",
    )


async def test_a_repeated_idempotency_key_asks_once(two: Strangers) -> None:
    body, key = {"handle": two.translator.handle}, {"idempotency-key": "once"}

    first, again = [await two.client.call("POST", ADD, json=body, headers=key) for _ in range(2)]

    assert (again.status_code, again.json()) == (201, first.json())
    assert "idempotency-replayed" in again.headers
    assert len((await rows(two.market))["contact_requests"]) == 1


@pytest.mark.parametrize("standing", ["pending", "contacts", "self", "blocked"])
async def test_a_conflict_three_times_over_leaves_no_trace(two: Strangers, standing: str) -> None:
    whom = two.client if standing == "self" else two.translator
    if standing == "pending":
        await two.ask()
    elif standing == "contacts":
        await two.befriend()
    elif standing == "blocked":
        await two.client.post(BLOCK, {"handle": two.translator.handle})
    before = await rows(two.market)
    ears = [await agents_ear(two.market, one) for one in (two.client, two.translator)]

    refusals = [(await two.client.refused("POST", ADD, {"handle": whom.handle})).why[0] for _ in range(3)]

    assert refusals == [409, 409, 409]
    assert await rows(two.market) == before
    assert [ear() for ear in ears] == [[], []]


# Answering.


@pytest.mark.parametrize(
    ("action", "status", "by_recipient"),
    [("approve", "approved", True), ("reject", "rejected", True), ("cancel", "cancelled", False)],
)
@pytest.mark.parametrize("by_id", [True, False])
async def test_a_request_is_answered_and_both_are_told(
    two: Strangers, action: str, status: str, *, by_recipient: bool, by_id: bool
) -> None:
    id_ = await two.ask()
    who, whom = (two.translator, two.client) if by_recipient else (two.client, two.translator)
    ears = [await agents_ear(two.market, one) for one in (who, whom)]
    named = {"request_id": id_, "handle": None} if by_id else {"handle": f"@{whom.handle}", "request_id": None}

    answer = await who.post(RESPOND, {"action": action, **named})

    assert answer == {"id": id_, "status": status}
    for ear in ears:
        heard = ear()
        assert heard[0] == ("contact_request_updated", answer)
        assert [event for event, _ in heard[1:]] == ["contact_added"] * (action == "approve")
    assert await contacts_of(who) == ({whom.handle} if action == "approve" else set())
    assert (await two.translator.get(REQUESTS))["received"] == []
    (sent,) = (await two.client.get(REQUESTS, params={"sent_status": status}))["sent"]
    assert (sent["id"], sent["status"], sent["to_handle"], sent["to_name"], sent["responded_at"]) == (
        id_, status, "bob/translator", "Translator", "2030-01-01T12:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize("action", ["approve", "reject", "cancel"])
@pytest.mark.parametrize("end", ["approve", "reject", "cancel"])
async def test_an_answered_request_is_final(two: Strangers, end: str, action: str) -> None:
    id_ = await two.ask()
    ender = two.client if end == "cancel" else two.translator
    status = (await ender.post(RESPOND, {"action": end, "request_id": id_}))["status"]
    before = await rows(two.market)
    who = two.client if action == "cancel" else two.translator

    refused = await who.refused("POST", RESPOND, {"action": action, "request_id": id_})

    assert (refused.why, refused.details) == ((409, "request_resolved"), {"status": status})
    assert await rows(two.market) == before


@pytest.mark.parametrize("action", ["approve", "reject", "cancel"])
async def test_each_side_answers_for_itself_alone(two: Strangers, action: str) -> None:
    id_ = await two.ask()
    who, role = (two.translator, "requester") if action == "cancel" else (two.client, "recipient")

    refused = await who.refused("POST", RESPOND, {"action": action, "request_id": id_})

    assert (refused.why, refused.details) == ((403, "forbidden_role"), {"role": role})


async def test_strangers_and_siblings_know_of_no_request(two: Strangers) -> None:
    id_ = await two.ask()
    await two.market.user("mallory")
    for outsider in (await two.market.agent("mallory", "Snoop"), await two.market.agent("bob", "Brother")):
        for action in ("approve", "reject", "cancel"):
            refused = await outsider.refused("POST", RESPOND, {"action": action, "request_id": id_})
            unknown = await outsider.refused("POST", RESPOND, {"action": action, "request_id": "none"})
            assert (refused.why, refused.error["message"]) == (unknown.why, unknown.error["message"])
            assert refused.why == (404, "not_found")


async def test_after_a_final_answer_one_may_ask_again(two: Strangers) -> None:
    for action, who in (("reject", two.translator), ("cancel", two.client)):
        id_ = await two.ask()
        await who.post(RESPOND, {"action": action, "request_id": id_})
    await two.befriend()
    await two.client.post(REMOVE, {"handle": two.translator.handle})

    await two.ask()


SCOPED = {"kinds": ["task", "task"], "max_price": "8.50", "max_open": 3, "expires_at": "2030-02-01T13:00:00+01:00"}


async def test_an_approval_may_carry_a_scope(two: Strangers) -> None:
    await two.befriend(SCOPED)

    shown = {
        "kinds": ["task"], "max_price": 8_500_000, "max_open": 3, "expires_at": "2030-02-01T12:00:00Z",
    }  # fmt: skip
    for who, is_requester in ((two.client, True), (two.translator, False)):
        (contact,) = [one for one in await who.get("/agent/contacts") if one["origin"] == "request"]
        assert (contact["scope"], contact["is_requester"]) == (shown, is_requester)


@pytest.mark.parametrize(
    ("scope", "pointer", "code"),
    [
        ({"kinds": ["everything"]}, "/scope/kinds/0", "invalid_payload"),
        ({"kinds": "task"}, "/scope/kinds", "invalid_payload"),
        ({"max_price": -1}, "/scope/max_price", "invalid_amount"),
        ({"max_price": "8.0000001"}, "/scope/max_price", "invalid_amount"),
        ({"max_price": 8.5}, "/scope/max_price", "invalid_payload"),
        ({"max_open": 0}, "/scope/max_open", "invalid_payload"),
        ({"max_open": 10_001}, "/scope/max_open", "invalid_payload"),
        ({"max_open": "3"}, "/scope/max_open", "invalid_payload"),
        ({"expires_at": "tomorrow"}, "/scope/expires_at", "invalid_payload"),
        ({"expires_at": "2031-01-01T00:00:00"}, "/scope/expires_at", "invalid_payload"),
        ({"expires_at": START.isoformat()}, "/scope/expires_at", "invalid_payload"),
        ("everything", "/scope", "invalid_payload"),
    ],
)
async def test_a_scope_that_is_none_is_pointed_at(two: Strangers, scope: Any, pointer: str, code: str) -> None:
    id_ = await two.ask()
    before = await rows(two.market)

    for who, path, body in (
        (two.translator, RESPOND, {"action": "approve", "request_id": id_, "scope": scope}),
        (two.bob, f"/me/contacts/requests/{id_}/approve", {"scope": scope}),
    ):
        refused = await who.refused("POST", path, body)
        assert (refused.why, list(refused.details)) == ((422, code), [pointer])

    assert await rows(two.market) == before


async def test_only_an_approval_has_a_scope(two: Strangers) -> None:
    id_ = await two.ask()

    refused = await two.translator.refused("POST", RESPOND, {"action": "reject", "request_id": id_, "scope": {}})

    assert (refused.why, list(refused.details)) == ((422, "invalid_payload"), ["/scope"])


@pytest.mark.parametrize("action", [None, "", "expire"])
async def test_there_is_no_other_answer(two: Strangers, action: str | None) -> None:
    refused = await two.translator.refused("POST", RESPOND, {"action": action, "handle": two.client.handle})

    assert (refused.why, list(refused.details)) == ((422, "invalid_payload"), ["/action"])


# Ending.


@pytest.mark.parametrize("by", ["client", "translator"])
@pytest.mark.parametrize("by_id", [True, False])
async def test_either_side_ends_a_contact_and_both_are_told(two: Strangers, by: str, *, by_id: bool) -> None:
    await two.befriend()
    who, whom = (two.client, two.translator) if by == "client" else (two.translator, two.client)
    (contact,) = [one for one in await who.get("/agent/contacts") if one["origin"] == "request"]
    ears = [await agents_ear(two.market, one) for one in (who, whom)]
    named = {"contact_id": contact["id"]} if by_id else {"handle": f"@{whom.handle}"}

    assert await who.post(REMOVE, named) == {"status": "removed"}

    assert [ear() for ear in ears] == [[("contact_removed", {"id": contact["id"]})]] * 2
    assert (await contacts_of(who), await contacts_of(whom)) == (set(), set())
    for again in (named, {"contact_id": contact["id"]}):
        assert (await who.refused("POST", REMOVE, again)).why == (404, "not_found")


async def test_nobody_else_ends_a_contact(two: Strangers) -> None:
    await two.befriend()
    (contact,) = [one for one in await two.client.get("/agent/contacts") if one["origin"] == "request"]
    await two.market.user("mallory")

    for outsider in (await two.market.agent("mallory", "Snoop"), await two.market.agent("bob", "Brother")):
        refused = await outsider.refused("POST", REMOVE, {"contact_id": contact["id"]})
        assert refused.why == (404, "not_found")

    assert await contacts_of(two.client) == {"bob/translator"}


# Blocking.


async def test_a_block_is_shown_to_the_blocker_alone(two: Strangers) -> None:
    body = {"handle": f"@{two.client.handle}", "reason": "spam", "expires_at": "2030-06-01T00:00:00Z"}
    ear = await agents_ear(two.market, two.client)

    answer = await two.translator.call("POST", BLOCK, json=body)

    assert answer.status_code == 201
    made = answer.json()["data"]
    assert {name: made[name] for name in made if name != "id"} == {
        "handle": "alice/client", "type": "Agent", "reason": "spam", "expires_at": "2030-06-01T00:00:00Z",
        "inserted_at": "2030-01-01T12:00:00Z",
    }  # fmt: skip
    assert await two.translator.get("/agent/contacts/blocks") == [made]
    assert await two.client.get("/agent/contacts/blocks") == []
    assert ear() == []


async def test_an_unblocked_one_may_ask_again(two: Strangers) -> None:
    await two.translator.post(BLOCK, {"handle": two.client.handle})
    assert await two.translator.post(UNBLOCK, {"handle": two.client.handle}) == {"status": "unblocked"}

    assert (await two.translator.refused("POST", UNBLOCK, {"handle": two.client.handle})).why == (404, "not_found")
    await two.ask()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"handle": "bob/translator"}, (409, "self_contact")),
        ({"handle": "bob"}, (403, "forbidden_role")),
        ({"reason": "x" * 501}, (422, "invalid_payload")),
        ({"expires_at": "2029-01-01T00:00:00Z"}, (422, "invalid_payload")),
        ({"expires_at": "2031-01-01T00:00:00"}, (422, "invalid_payload")),
    ],
)
async def test_a_block_is_refused(two: Strangers, fields: dict[str, Any], why: tuple[int, str]) -> None:
    refused = await two.translator.refused("POST", BLOCK, {"handle": two.client.handle, **fields})

    assert refused.why == why
    assert (await rows(two.market))["blocks"] == []


async def test_blocking_twice_is_refused(two: Strangers) -> None:
    made = await two.translator.post(BLOCK, {"handle": two.client.handle})

    refused = await two.translator.refused("POST", BLOCK, {"handle": two.client.handle})

    assert (refused.why, refused.details) == ((409, "already_blocked"), {"id": made["id"]})


@pytest.mark.parametrize(("by", "status"), [("requester", "cancelled"), ("recipient", "rejected")])
async def test_a_block_ends_a_pending_request(two: Strangers, by: str, status: str) -> None:
    id_ = await two.ask()
    who, whom = (two.client, two.translator) if by == "requester" else (two.translator, two.client)
    ears = [await agents_ear(two.market, one) for one in (two.client, two.translator)]

    await who.post(BLOCK, {"handle": whom.handle})

    assert [ear() for ear in ears] == [[("contact_request_updated", {"id": id_, "status": status})]] * 2


async def test_to_the_blocked_one_there_is_nobody_to_block_back(two: Strangers) -> None:
    await two.translator.post(BLOCK, {"handle": two.client.handle})

    assert (await two.client.refused("POST", BLOCK, {"handle": two.translator.handle})).why == (404, "not_found")
