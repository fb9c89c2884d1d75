"""Alerts through the real server: raised by what happens, told to whose they are, answered by REST."""

from pathlib import Path
from typing import Any

import pytest

from tests.agrenting.api.alarms import (
    complete,
    disputed,
    expire,
    fail,
    hired,
    kinds,
    listed,
    of,
    set_to,
    stored,
    subscribed,
)
from tests.agrenting.api.friends import opening
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player, marketplace
from tests.agrenting.api.payers import accepted, at, close, freeze

WITH = 100_000


# Rules, from the event to the answer.


async def test_a_failed_task_is_told_to_both_sides(market: Marketplace, alice: Player, bob: Player) -> None:
    task_id = await fail(alice, bob)

    (own,), (clients,) = await listed(bob), await listed(alice)
    assert (own["type"], own["severity"], own["agent_id"]) == ("task_failed", "error", bob.id)
    assert own["data"] == {"task_id": task_id, "role": "provider", "error": "broken", "capability": "translate"}
    assert (clients["severity"], clients["data"]["role"]) == ("warning", "client")
    assert "The price of 0.001 USD is back with alice/client" in clients["message"]
    assert (own["status"], own["acknowledged_by"], own["resolved_by"]) == ("active", None, None)
    assert own["inserted_at"] == own["updated_at"] == "2030-01-01T12:00:00Z"
    assert await listed(of(market, "bob")) == [own]


async def test_what_goes_well_raises_nothing(market: Marketplace, alice: Player, bob: Player) -> None:
    await complete(alice, bob)
    task_id = await hired(alice, bob)
    await alice.post(f"/tasks/{task_id}/cancel", {"reason": "never mind"})
    channel = await accepted(alice, bob)
    await close(channel, alice, bob)

    assert await stored(market) == []


async def test_a_refused_event_leaves_no_alert(market: Marketplace, alice: Player, bob: Player) -> None:
    task_id = await complete(alice, bob)

    assert (await bob.refused("POST", f"/tasks/{task_id}/error", {"type": "broken"})).why == (409, "terminal_state")
    assert await stored(market) == []


async def test_the_deadline_fails_a_task_for_both(market: Marketplace, alice: Player, bob: Player) -> None:
    await hired(alice, bob)
    market.clock.advance(days=7)
    await market.server.timers.run_due()

    assert [one["data"]["error"] for one in await listed(bob, type="task_failed")] == ["deadline"]
    assert [one["data"]["error"] for one in await listed(alice, type="task_failed")] == ["deadline"]


async def test_a_dispute_is_the_providers_until_it_is_settled(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    task_id = await disputed(alice, bob)

    (told,) = await listed(bob)
    assert (told["type"], told["status"], told["data"]["reason"]) == ("dispute_opened", "active", "bad words")
    assert await listed(alice) == []

    await olga.post(f"/admin/tasks/{task_id}/decide", {"decision": "provider", "reason": "it is good"})

    (told,) = await listed(bob)
    assert (told["status"], told["resolved_by"]) == ("resolved", "house")


async def test_a_dispute_that_the_client_wins_becomes_a_failure(olga: Caller, alice: Player, bob: Player) -> None:
    task_id = await disputed(alice, bob)

    await olga.post(f"/admin/tasks/{task_id}/decide", {"decision": "client", "reason": "it is bad"})

    assert await kinds(bob) == [("task_failed", "active"), ("dispute_opened", "resolved")]
    assert await kinds(alice) == [("task_failed", "active")]


async def test_a_ban_puts_delivered_work_into_dispute_for_both(olga: Caller, alice: Player, bob: Player) -> None:
    await complete(alice, bob, hold_seconds=3_600)

    await olga.post(f"/admin/agents/{bob.id}/ban")

    assert await kinds(alice) == [("dispute_opened", "active")]
    (told,) = await olga.get("/admin/alerts", params={"agent_id": bob.id})
    assert (told["data"]["opened_by"], told["data"]["role"]) == (None, "provider")


async def test_a_dispute_of_a_channel_is_both_parties_until_it_is_withdrawn(alice: Player, bob: Player) -> None:
    channel = await accepted(alice, bob)
    await bob.post(at(channel, "dispute"), {"reason": "late"})
    assert await kinds(alice) == await kinds(bob) == [("channel_dispute", "active")]

    await bob.post(at(channel, "withdraw_dispute"))
    assert await kinds(alice) == await kinds(bob) == [("channel_dispute", "resolved")]

    await alice.post(at(channel, "dispute"), {"reason": "late, too"})
    assert await kinds(bob) == [("channel_dispute", "active"), ("channel_dispute", "resolved")]


async def test_lost_states_are_critical_until_the_channel_has_ended(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    channel = await accepted(alice, bob)
    await freeze(market, channel, alice, bob)

    assert await kinds(alice) == await kinds(bob) == [("channel_state_lost", "active")]
    (told,) = await olga.get("/admin/alerts", params={"whose": "market"})
    assert (told["severity"], told["agent_id"], told["data"]) == ("critical", None, {"channel_id": channel["id"]})

    await olga.post(f"/admin{at(channel, 'decide')}", {"final_balance_a": 10_000, "final_balance_b": 0, "reason": "so"})

    assert {(one.type, one.status, one.resolved_by) for one in await stored(market)} == {
        ("channel_state_lost", "resolved", "house")
    }


async def test_messages_that_nobody_answers_are_counted_in_one_alert_for_each_side(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    _, heard = await subscribed(market, bob.api_key, f"analytics:agent:{bob.id}")
    sent = [await expire(market, alice, bob, number) for number in range(3)]

    (receivers,), (senders,) = await listed(bob), await listed(alice)
    assert (receivers["data"]["role"], senders["data"]["role"]) == ("receiver", "sender")
    assert {(one["data"]["count"], one["data"]["message_id"]) for one in (receivers, senders)} == {(3, sent[-1])}
    assert receivers["message"].startswith("3 messages expired unanswered, alice/client to bob/translator.")
    assert (receivers["data"]["first_at"], receivers["data"]["last_at"]) == (
        "2030-01-08T12:00:00Z", "2030-01-22T12:00:00Z"
    )  # fmt: skip
    told = heard()
    assert [(one["id"], one["data"]["count"]) for one in told] == [(receivers["id"], count) for count in (1, 2, 3)]
    assert told[-1] == {name: receivers[name] for name in told[-1]}


async def test_an_alert_that_grows_stays_acknowledged_and_begins_anew_once_it_is_resolved(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    await expire(market, alice, bob, 1)
    (alert,) = await listed(bob)
    await bob.post(f"/alerts/{alert['id']}/acknowledge")
    await expire(market, alice, bob, 2)
    (same,) = await listed(bob)
    assert (same["id"], same["status"], same["data"]["count"]) == (alert["id"], "acknowledged", 2)
    await bob.post(f"/alerts/{alert['id']}/resolve")

    await expire(market, alice, bob, 3)

    newest, oldest = await listed(bob)
    assert (oldest["id"], oldest["data"]["count"], oldest["status"]) == (alert["id"], 2, "resolved")
    assert (newest["data"]["count"], newest["status"]) == (1, "active")


async def test_many_messages_that_expire_at_once_are_one_alert_and_few_pushes(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    for number in range(40):
        body = {"to_agent_id": bob.id, "type": "status_update", "payload": number}
        await alice.post("/messages", body)
    _, heard = await subscribed(market, bob.api_key, f"analytics:agent:{bob.id}")
    market.clock.advance(days=7)
    await market.server.timers.run_due()

    (alert,) = await listed(bob)
    assert alert["data"]["count"] == 40
    assert [one["data"]["count"] for one in heard()] == [32, 40]


async def test_one_owner_of_both_agents_gets_an_alert_for_each(market: Marketplace, bob: Player) -> None:
    client = await market.agent("bob", "Client", deposit=WITH)
    await fail(client, bob)

    assert {one["agent_id"] for one in await listed(of(market, "bob"))} == {client.id, bob.id}
    assert [one["agent_id"] for one in await listed(client)] == [client.id]


# The success rate.


async def test_the_success_rate_is_low_below_half_of_ten_and_resolves_itself(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    for _ in range(4):
        await complete(alice, bob)
    for _ in range(5):
        await fail(alice, bob)
    assert await kinds(bob, type="success_rate_low") == []

    await fail(alice, bob)
    assert await kinds(bob, type="success_rate_low") == [("success_rate_low", "active")]
    for _ in range(4):
        await complete(alice, bob)  # Each pushes one that was completed before out of the ten.
    assert await kinds(bob, type="success_rate_low") == [("success_rate_low", "active")]

    await complete(alice, bob)

    assert await kinds(bob, type="success_rate_low") == [("success_rate_low", "resolved")]
    assert await kinds(alice, type="success_rate_low") == []


async def test_a_dispute_that_turns_a_success_into_a_failure_can_make_the_rate_low(
    olga: Caller, alice: Player, bob: Player
) -> None:
    held = await complete(alice, bob, hold_seconds=3_600)
    for _ in range(4):
        await complete(alice, bob)
    for _ in range(5):
        await fail(alice, bob)
    assert await kinds(bob, type="success_rate_low") == []

    await alice.post(f"/tasks/{held}/dispute", {"reason": "bad words"})
    await olga.post(f"/admin/tasks/{held}/decide", {"decision": "client", "reason": "it is bad"})

    (told,) = await listed(bob, type="success_rate_low")
    assert told["data"] == {"completed": 4, "failed": 6, "success_rate": 0.4}


async def test_the_last_ends_and_the_thresholds_survive_a_restart(folder: Path) -> None:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        await set_to(alice, alice, WITH)
        for _ in range(9):
            await fail(alice, bob)
    async with marketplace(folder) as market:
        client, provider = (market.with_key(one.api_key) for one in (alice, bob))
        task = await client.post("/tasks", opening("/tasks", bob))
        assert len(await listed(client, type="balance_low", status="active")) == 1
        await provider.post(f"/tasks/{task['id']}/error", {"type": "broken"})

        assert len(await listed(provider, type="task_failed")) == 10
        assert await kinds(provider, type="success_rate_low") == [("success_rate_low", "active")]
        assert await listed(client, type="balance_low", status="active") == []


# Thresholds.


async def test_without_a_threshold_nothing_is_low(alice: Player) -> None:
    assert await alice.get(f"/agents/{alice.id}/alert-thresholds") == {
        "agent_id": alice.id,
        "balance_below": None,
        "currency": "USD",
        "exponent": 6,
    }


async def test_a_balance_below_its_threshold_is_told_until_it_is_enough_again(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    await set_to(of(market, "alice"), alice, WITH - PRICE)
    task_id = await hired(alice, bob)
    assert await kinds(alice) == []

    await hired(alice, bob)
    await hired(alice, bob)
    (told,) = await listed(alice)
    assert (told["type"], told["status"]) == ("balance_low", "active")
    assert told["data"] == {"available": WITH - 2 * PRICE, "balance_below": WITH - PRICE}

    await alice.post(f"/tasks/{task_id}/cancel")
    assert await kinds(alice) == [("balance_low", "active")]
    body = {"agent_id": alice.id, "amount": PRICE}
    await olga.post("/admin/deposits", body, headers={"idempotency-key": "1"})

    assert await kinds(alice) == [("balance_low", "resolved")]


async def test_another_threshold_raises_and_resolves_at_once(alice: Player) -> None:
    await set_to(alice, alice, WITH)
    assert await kinds(alice) == []
    assert (await set_to(alice, alice, "0.100001"))["balance_below"] == WITH + 1
    assert await kinds(alice) == [("balance_low", "active")]
    await set_to(alice, alice, WITH + 2)
    assert await kinds(alice) == [("balance_low", "active")]
    await set_to(alice, alice, None)
    assert await kinds(alice) == [("balance_low", "resolved")]
    assert (await alice.get(f"/agents/{alice.id}/alert-thresholds"))["balance_below"] is None


@pytest.mark.parametrize("below", [-1, 1.5, "0.0000001", "x", True, 2**53])
async def test_a_threshold_is_an_amount(alice: Player, below: Any) -> None:
    refused = await alice.refused("PUT", f"/agents/{alice.id}/alert-thresholds", {"balance_below": below})

    assert refused.why[0] == 422
    assert (await alice.get(f"/agents/{alice.id}/alert-thresholds"))["balance_below"] is None


async def test_thresholds_are_the_agents_own_and_its_owners(
    market: Marketplace, olga: Caller, alice: Player, mallory: Player
) -> None:
    sibling = await market.agent("alice", "Other")
    path = f"/agents/{alice.id}/alert-thresholds"
    for who in (mallory, of(market, "mallory"), olga, sibling):
        assert (await who.refused("GET", path)).why == (404, "not_found")
        assert (await who.refused("PUT", path, {"balance_below": 1})).why == (404, "not_found")
    assert (await alice.refused("GET", "/agents/nobody/alert-thresholds")).why == (404, "not_found")


async def test_a_refused_spending_says_nothing_of_a_low_balance(alice: Player, bob: Player) -> None:
    await set_to(alice, alice, WITH)
    body = {"provider_agent_id": bob.id, "capability": "translate", "price": WITH + 1}

    assert (await alice.refused("POST", "/tasks", body)).why[0] in {409, 422}
    assert await kinds(alice) == []


async def test_a_deleted_agent_has_no_condition_any_more(market: Marketplace, alice: Player) -> None:
    poor = await market.agent("alice", "Poor")
    await set_to(poor, poor, 5)
    assert await kinds(of(market, "alice")) == [("balance_low", "active")]

    await of(market, "alice").delete(f"/agents/{poor.id}")

    assert await kinds(of(market, "alice")) == [("balance_low", "resolved")]
    rows = await market.server.database.read(lambda tx: tx.all("SELECT * FROM alert_thresholds"))
    assert rows == []
