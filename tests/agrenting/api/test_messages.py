"""The mailbox by REST, and what its sockets are pushed."""

import json
from typing import Any

import pytest

from agrenting.config import Settings
from agrenting.db import messages as stored
from channels.limits import Limits
from channels.messages import DUE_AT_ONCE
from tests.agrenting.api.friends import BLOCK, Strangers, strangers
from tests.agrenting.api.market import Caller, FakeSocket, Marketplace, Player, marketplace

WEEK = {"days": 7}
UNKNOWN = "99999999-0000-7000-8000-000000000000"


def letter(to: Player, **fields: Any) -> dict[str, Any]:
    """What a message to an agent says."""
    return {"to_agent_id": to.id, "type": "status_update", "payload": {"done": 3}, **fields}


async def send(sender: Caller, to: Player, **fields: Any) -> dict[str, Any]:
    """Send a message; the answer."""
    answer: dict[str, Any] = await sender.post("/messages", letter(to, **fields))
    return answer


async def ids(who: Player, path: str = "/messages", **query: Any) -> list[str]:
    """The ids of a list of messages."""
    return [message["id"] for message in await who.get(path, params=query)]


async def listen(market: Marketplace, who: Player) -> FakeSocket:
    """A socket that has joined its agent's mailbox, and is pushed what waits there."""
    connection, transport = await market.socket(who.api_key)
    connection.receive(json.dumps(["1", "1", f"messages:{who.id}", "phx_join", {}]))
    (reply,) = await transport.heard("phx_reply", 1)
    assert reply["status"] == "ok"
    return transport


@pytest.fixture
async def told(alice: Player, bob: Player) -> list[dict[str, Any]]:
    """Three messages that wait for Bob."""
    for _ in range(3):
        await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    messages: list[dict[str, Any]] = await bob.get("/messages")
    return messages


# The mailbox.


async def test_messages_wait_oldest_first(alice: Player, told: list[dict[str, Any]]) -> None:
    assert [message["type"] for message in told] == ["negotiation"] * 3
    assert [message["from_agent_id"] for message in told] == [alice.id] * 3
    assert [message["from_market"] for message in told] == [True] * 3
    assert [message["id"] for message in told] == sorted(message["id"] for message in told)


async def test_an_acknowledged_message_is_gone(bob: Player, told: list[dict[str, Any]]) -> None:
    first = told[0]["id"]

    acknowledged = await bob.post(f"/messages/{first}/acknowledge")

    assert acknowledged == {"message_id": first, "status": "acknowledged"}
    assert await ids(bob) == [message["id"] for message in told[1:]]


async def test_a_rejected_message_is_gone_and_its_sender_reads_why(alice: Player, bob: Player) -> None:
    sent = await send(alice, bob)

    rejected = await bob.post(f"/messages/{sent['id']}/reject", {"reason": "not mine"})

    assert rejected == {"message_id": sent["id"], "status": "rejected", "reason": "not mine"}
    assert await bob.get("/messages") == []
    read = await alice.get(f"/messages/{sent['id']}")
    assert (read["status"], read["reason"]) == ("rejected", "not mine")


async def test_answering_twice_is_a_duplicate_and_the_first_answer_stands(alice: Player, bob: Player) -> None:
    taken, left = await send(alice, bob), await send(alice, bob)
    take, leave = f"/messages/{taken['id']}/acknowledge", f"/messages/{left['id']}/reject"
    first = await bob.post(take)
    second = await bob.post(leave, {"reason": "busy"})

    assert await bob.post(take) == {**first, "duplicate": True}
    assert await bob.post(leave, {"reason": "lazy"}) == {**second, "duplicate": True}
    refused = await bob.refused("POST", f"/messages/{taken['id']}/reject", {"reason": "busy"})
    assert refused.why == (409, "already_acknowledged")
    refused = await bob.refused("POST", f"/messages/{left['id']}/acknowledge")
    assert refused.why == (409, "already_rejected")


async def test_a_rejection_needs_a_reason(alice: Player, bob: Player) -> None:
    sent = await send(alice, bob)

    assert (await bob.refused("POST", f"/messages/{sent['id']}/reject", {"reason": " "})).why[0] == 422


async def test_nobody_answers_what_is_anothers(mallory: Player, alice: Player, told: list[dict[str, Any]]) -> None:
    for who in (mallory, alice):
        for path, body in (("acknowledge", None), ("reject", {"reason": "mine"})):
            refused = await who.refused("POST", f"/messages/{told[0]['id']}/{path}", body)
            assert refused.why == (404, "not_found")
    assert await mallory.get("/messages") == []


async def test_after_a_week_a_message_is_over_by_the_clock_alone_and_then_by_the_timer(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    sent = await send(alice, bob)
    market.clock.advance(**WEEK)

    refused = await bob.refused("POST", f"/messages/{sent['id']}/acknowledge")

    assert refused.why == (410, "expired")
    assert await bob.get("/messages") == []
    by_clock = await alice.get(f"/messages/{sent['id']}")
    await market.server.timers.run_due()
    assert await alice.get(f"/messages/{sent['id']}") == by_clock
    assert by_clock["status"] == "expired"


async def test_what_has_ended_is_forgotten_two_weeks_after_it_was_sent(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    for _ in range(2):
        sent = await send(alice, bob)
        await bob.post(f"/messages/{sent['id']}/acknowledge")
    market.clock.advance(days=13)
    await send(alice, bob)
    await market.server.timers.run_due()
    assert len(await ids(alice, "/messages/sent")) == 3

    market.clock.advance(days=1)
    await market.server.timers.run_due()

    assert len(await ids(alice, "/messages/sent")) == 1
    market.clock.advance(days=14)
    await market.server.timers.run_due()
    assert await ids(alice, "/messages/sent") == []
    timers = await market.server.database.read(lambda tx: tx.all("SELECT * FROM timers WHERE kind = 'mailbox'"))
    assert timers == []


async def test_a_message_ends_in_time_also_where_the_clock_would_come_later_to_forget(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    sender = await listen(market, alice)
    await send(alice, bob)
    market.clock.advance(**WEEK)
    await market.server.timers.run_due()
    market.clock.advance(**WEEK)
    answered = await send(alice, bob)
    await bob.post(f"/messages/{answered['id']}/acknowledge")
    await market.server.timers.run_due()  # Nothing is left but what may be forgotten in two weeks.
    waiting = await send(alice, bob)

    market.clock.advance(**WEEK)
    await market.server.timers.run_due()

    told = await sender.heard("message_updated", 3)
    assert [one["status"] for one in told] == ["expired", "acknowledged", "expired"]
    assert told[2]["id"] == waiting["id"]


async def test_more_than_ends_at_once_ends_all_the_same(market: Marketplace, alice: Player, bob: Player) -> None:
    count = DUE_AT_ONCE + 2
    for number in range(count):
        await send(alice, bob, payload=number)
    market.clock.advance(**WEEK)
    await market.server.timers.run_due()

    assert len(await ids(alice, "/messages/sent", status="expired", limit=100)) == count
    market.clock.advance(**WEEK)
    await market.server.timers.run_due()
    assert await ids(alice, "/messages/sent") == []


# Sending.


async def test_a_message_is_answered_whole_and_read_by_both(alice: Player, bob: Player) -> None:
    sent = await send(alice, bob, dedup_key="report 3")

    assert sent["status"] == "queued"
    assert (sent["from_agent_id"], sent["to_agent_id"], sent["from_market"]) == (alice.id, bob.id, False)
    assert await alice.get(f"/messages/{sent['id']}") == sent
    assert await bob.get(f"/messages/{sent['id']}") == {**sent, "dedup_key": None}
    (waiting,) = await bob.get("/messages")
    assert waiting == {name: sent[name] for name in waiting}


async def test_a_receiver_is_named_by_its_handle_too(alice: Player, bob: Player) -> None:
    await send(alice, bob, to_agent_id=None, to_handle=f"@{bob.handle.upper()}")

    assert len(await bob.get("/messages")) == 1


async def test_nobody_else_reads_a_message(alice: Player, bob: Player, mallory: Player) -> None:
    sent = await send(alice, bob)

    for message_id in (sent["id"], UNKNOWN):
        assert (await mallory.refused("GET", f"/messages/{message_id}")).why == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"type": "news", "payload": 1, "to_handle": "bob/translator"},
        {"type": "status_update", "payload": 1},
        {"type": "status_update", "to_handle": "bob/translator"},
        {"type": "status_update", "payload": "x" * 65_536, "to_handle": "bob/translator"},
        {"type": "status_update", "payload": 1, "to_handle": "bob/translator", "dedup_key": ""},
    ],
    ids=["type", "receiver", "payload missing", "payload too large", "dedup_key"],
)
async def test_what_does_not_fit_is_refused(alice: Player, bob: Player, body: dict[str, Any]) -> None:
    refused = await alice.refused("POST", "/messages", body)

    assert refused.why == (422, "invalid_payload")
    assert await bob.get("/messages") == []


async def test_an_unknown_receiver_is_not_found(alice: Player, bob: Player) -> None:
    for receiver in ({"to_agent_id": UNKNOWN}, {"to_agent_id": None, "to_handle": "no/body"}):
        assert (await alice.refused("POST", "/messages", letter(bob, **receiver))).why == (404, "not_found")


async def test_nobody_writes_to_itself(alice: Player) -> None:
    assert (await alice.refused("POST", "/messages", letter(alice))).why == (422, "same_agent")


async def test_strangers_need_a_contact_and_after_a_block_there_is_nobody(market: Marketplace) -> None:
    two: Strangers = await strangers(market)
    refused = await two.client.refused("POST", "/messages", letter(two.translator))
    assert refused.why == (403, "contact_required")

    await two.befriend()
    await send(two.client, two.translator)
    await two.translator.post(BLOCK, {"handle": two.client.handle})

    refused = await two.client.refused("POST", "/messages", letter(two.translator))
    assert refused.why == (404, "not_found")
    refused = await two.translator.refused("POST", "/messages", letter(two.client))
    assert refused.why == (409, "blocked_by_you")


async def test_agents_without_a_version_in_common_do_not_write(market: Marketplace, alice: Player, bob: Player) -> None:
    await market.with_key(market.user_keys["bob"]).patch(f"/agents/{bob.id}", {"protocol_versions": ["2.0", "3.0"]})

    refused = await alice.refused("POST", "/messages", letter(bob))

    assert refused.why == (422, "no_common_version")
    assert refused.error["context"] == {"own_versions": ["1.0"], "other_versions": ["2.0", "3.0"]}


async def test_a_dedup_key_sends_once(alice: Player, bob: Player) -> None:
    first = await send(alice, bob, dedup_key="once")

    assert await send(alice, bob, dedup_key="once") == {**first, "duplicate": True}
    refused = await alice.refused("POST", "/messages", letter(bob, dedup_key="once", payload=4))
    assert refused.why == (409, "dedup_mismatch")
    assert len(await bob.get("/messages")) == 1


async def test_an_idempotency_key_sends_once_too(alice: Player, bob: Player) -> None:
    key = {"idempotency-key": "once"}
    first = await alice.post("/messages", letter(bob), headers=key)

    assert await alice.post("/messages", letter(bob), headers=key) == first
    assert len(await bob.get("/messages")) == 1


async def test_the_same_key_of_another_sender_is_another_message(alice: Player, bob: Player, olga: Caller) -> None:
    await send(alice, bob, dedup_key="once")
    await send(olga, bob, type="system", dedup_key="once")

    again = await send(olga, bob, type="system", dedup_key="once")

    assert again["duplicate"] is True
    assert len(await bob.get("/messages")) == 2


async def test_what_was_sent_is_listed_newest_first_page_by_page_and_by_status(alice: Player, bob: Player) -> None:
    sent = [(await send(alice, bob, payload=number))["id"] for number in range(5)]
    await bob.post(f"/messages/{sent[1]}/acknowledge")

    first = await alice.page("/messages/sent", params={"limit": 3})
    second = await alice.page("/messages/sent", params={"limit": 3, "cursor": first["metadata"]["next_cursor"]})

    assert [message["id"] for message in first["data"] + second["data"]] == sent[::-1]
    assert await ids(alice, "/messages/sent", status="acknowledged") == [sent[1]]
    assert await ids(alice, "/messages/sent", status="queued") == [sent[number] for number in (4, 3, 2, 0)]
    assert await ids(bob, "/messages/sent") == []
    assert (await alice.refused("GET", "/messages/sent?status=lost")).why == (422, "invalid_payload")


async def test_by_the_clock_what_is_over_is_listed_as_such(market: Marketplace, alice: Player, bob: Player) -> None:
    sent = await send(alice, bob)
    market.clock.advance(**WEEK)

    assert await ids(alice, "/messages/sent", status="queued") == []
    assert await ids(alice, "/messages/sent", status="expired") == [sent["id"]]


async def test_what_was_announced_of_ones_doing_is_listed_as_the_markets(alice: Player, bob: Player) -> None:
    await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})

    (announced,) = await alice.get("/messages/sent")

    assert (announced["type"], announced["from_market"], announced["to_agent_id"]) == ("negotiation", True, bob.id)


# The house.


async def test_operators_speak_for_the_house(market: Marketplace, olga: Caller, bob: Player) -> None:
    sent = await send(olga, bob, type="system", payload="We move on Sunday.")

    (message,) = await bob.get("/messages")
    assert (message["from_agent_id"], message["from_market"]) == (None, True)
    assert (message["type"], message["payload"]) == ("system", "We move on Sunday.")
    assert (await bob.get(f"/messages/{sent['id']}"))["status"] == "queued"
    assert (await olga.refused("POST", "/messages", letter(bob))).why == (403, "agent_required")


async def test_nobody_else_does(market: Marketplace, alice: Player, bob: Player) -> None:
    person = market.with_key(market.user_keys["bob"])

    for who in (alice, person):
        refused = await who.refused("POST", "/messages", letter(bob, type="system"))
        assert refused.why == (403, "forbidden_role")
    assert (await person.refused("POST", "/messages", letter(bob))).why == (403, "agent_required")
    assert await bob.get("/messages") == []


# Too much.


async def test_a_full_mailbox_refuses_its_sender_then_everybody_but_the_house(folder: Any) -> None:
    limits = Limits(messages_per_sender_max=2, mailbox_max=3)
    async with marketplace(folder, limits=limits) as market:
        olga = await market.user("olga", is_operator=True)
        alice, bob = await market.deal()
        carol = await market.agent("alice", "Carol")
        for who in (alice, alice, carol):
            await send(who, bob)

        refused = await alice.refused("POST", "/messages", letter(bob))
        assert (refused.why, refused.details) == ((409, "mailbox_full"), {"max": 2, "scope": "sender"})
        opening = {"provider_agent_id": bob.id, "capability": "translate"}
        assert (await alice.refused("POST", "/negotiations", opening)).why == (409, "mailbox_full")
        assert await alice.get("/negotiations") == []
        refused = await carol.refused("POST", "/messages", letter(bob))
        assert (refused.why, refused.details) == ((409, "mailbox_full"), {"max": 3, "scope": "mailbox"})

        await carol.post("/negotiations", opening)
        await send(olga, bob, type="system")

        assert len(await bob.get("/messages")) == 5


async def test_agents_of_one_owner_fill_their_part_of_a_mailbox_alone(folder: Any) -> None:
    async with marketplace(folder, limits=Limits(messages_per_house_max=2)) as market:
        alice, bob = await market.deal()
        sister = await market.agent("alice", "Sister")
        await market.user("carol")
        carol = await market.agent("carol", "Carol")
        told = await market.agent("bob", "Brother", is_global=True)
        first = await send(alice, told)
        await send(sister, told)

        for sender in (alice, sister):
            refused = await sender.refused("POST", "/messages", letter(told))
            assert (refused.why, refused.details) == ((409, "mailbox_full"), {"max": 2, "scope": "house"})
        await send(carol, told)
        for _ in range(3):
            await send(bob, told)  # They have one owner.
        await told.post(f"/messages/{first['id']}/acknowledge")
        await send(sister, told)

        assert len(await told.get("/messages")) == 6


async def test_a_flood_of_one_sender_is_slowed_by_its_bytes(folder: Any) -> None:
    async with marketplace(folder, message_bytes_per_s=1.0, message_bytes_burst=100_000.0) as market:
        alice, bob = await market.deal()
        big = letter(bob, payload="x" * 60_000)
        assert Settings().message_bytes_burst > 100_000
        answers = [(await alice.call("POST", "/messages", json=big)).status_code for _ in range(8)]

        assert answers[0] == 201
        assert set(answers[answers.index(429) :]) == {429}
        assert (await alice.call("GET", "/messages")).status_code == 200


# Sockets.


async def test_a_join_pushes_what_waits_and_its_senders_are_told(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    sender = await listen(market, alice)
    sent = [(await send(alice, bob, payload=number))["id"] for number in range(3)]

    receiver = await listen(market, bob)

    assert receiver.sent[0][4] == {"status": "ok", "response": {"undelivered": 3}}
    assert [message["id"] for message in await receiver.heard("new_message", 3)] == sent
    told = await sender.heard("message_updated", 3)
    assert [(one["id"], one["status"]) for one in told] == [(id_, "delivered") for id_ in sent]
    assert await ids(bob) == sent


async def test_a_message_comes_at_once_and_its_sender_is_told_of_the_answer(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    sender, receiver = await listen(market, alice), await listen(market, bob)

    sent = await send(alice, bob)
    (message,) = await receiver.heard("new_message", 1)
    await sender.heard("message_updated", 1)
    await bob.post(f"/messages/{message['id']}/reject", {"reason": "busy"})

    delivered, rejected = await sender.heard("message_updated", 2)
    assert (delivered["status"], delivered["reason"]) == ("delivered", None)
    assert (rejected["status"], rejected["reason"]) == ("rejected", "busy")
    assert {delivered["id"], rejected["id"], message["id"]} == {sent["id"]}


async def test_an_unanswered_message_is_repeated(folder: Any) -> None:
    # One repeat: of several, those that a busy machine is too late for are left out.
    async with marketplace(folder, message_repeats_s=(0.02,)) as market:
        alice, bob = await market.deal()
        receiver = await listen(market, bob)
        sent = await send(alice, bob)

        heard = await receiver.heard("new_message", 2)

        assert [one["id"] for one in heard] == [sent["id"]] * 2
        assert heard[0] == heard[-1]


async def test_a_restart_loses_nothing_and_delivers_what_was_not_answered(folder: Any) -> None:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        receiver = await listen(market, bob)
        sent = [(await send(alice, bob, payload=number))["id"] for number in range(3)]
        await receiver.heard("new_message", 3)
        await bob.post(f"/messages/{sent[1]}/acknowledge")
        key = bob.api_key

    async with marketplace(folder) as market:
        connection, transport = await market.socket(key)
        connection.receive(json.dumps(["1", "1", f"messages:{bob.id}", "phx_join", {}]))

        assert [one["id"] for one in await transport.heard("new_message", 2)] == [sent[0], sent[2]]


# The doctor.


async def test_the_doctor_finds_what_columns_and_timers_do_not_say(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    sent = await send(alice, bob)
    assert await market.server.database.read(stored.doctor) == []

    def spoil(tx: Any) -> None:
        tx.run("UPDATE messages SET status = 'expired'")
        tx.run("DELETE FROM timers")

    await market.server.database.commits.write(spoil)

    assert await market.server.database.read(stored.doctor) == [
        f"message {sent['id']} is not what its columns say",
        f"the mailbox of {bob.id} has messages and no timer",
    ]
