"""Alerts are answered and listed by those whose they are, are bounded, and are pushed to who has asked."""

import json
from pathlib import Path

import pytest

from channels.limits import Limits
from tests.agrenting.api.alarms import (
    disputed,
    fail,
    kinds,
    listed,
    of,
    owner_of,
    set_to,
    subscribed,
)
from tests.agrenting.api.friends import listen
from tests.agrenting.api.market import Caller, Marketplace, Player, marketplace
from tests.agrenting.api.payers import accepted, freeze

WITH = 100_000


# Answering.


async def test_an_alert_is_acknowledged_and_resolved_once(market: Marketplace, alice: Player, bob: Player) -> None:
    await fail(alice, bob)
    (alert,) = await listed(bob)
    path, owner = f"/alerts/{alert['id']}", of(market, "bob")
    market.clock.advance(minutes=1)

    done = await owner.post(f"{path}/acknowledge")
    assert (done["status"], done["updated_at"]) == ("acknowledged", "2030-01-01T12:01:00Z")
    assert (await bob.post(f"{path}/acknowledge")) == {**done, "duplicate": True}
    done = await bob.post(f"{path}/resolve")
    assert (done["status"], done["resolved_by"]) == ("resolved", bob.id)
    assert (await owner.post(f"{path}/resolve")) == {**done, "duplicate": True}
    refused = await owner.refused("POST", f"{path}/acknowledge")
    assert (refused.why, refused.details) == ((409, "terminal_state"), {"status": "resolved"})
    assert await owner.get(path) == done


async def test_others_see_nothing_of_an_alert(
    market: Marketplace, olga: Caller, alice: Player, bob: Player, mallory: Player
) -> None:
    await disputed(alice, bob)
    (alert,) = await listed(bob)
    for who in (alice, of(market, "alice"), mallory, of(market, "mallory"), olga):
        assert await listed(who) == await listed(who, agent_id=bob.id) == []
        assert (await who.refused("GET", f"/alerts/{alert['id']}")).why == (404, "not_found")
        for verb in ("acknowledge", "resolve"):
            assert (await who.refused("POST", f"/alerts/{alert['id']}/{verb}")).why == (404, "not_found")
    assert await listed(bob) == [alert]


async def test_siblings_see_each_others_alerts_by_name(market: Marketplace, alice: Player, bob: Player) -> None:
    sibling = await market.translator("Sibling")
    await fail(alice, bob)

    assert await listed(sibling) == []
    (alert,) = await listed(sibling, agent_id=bob.id)
    assert (await sibling.post(f"/alerts/{alert['id']}/resolve"))["resolved_by"] == sibling.id


async def test_a_condition_that_was_resolved_by_hand_is_raised_again_once_it_was_over(alice: Player) -> None:
    await set_to(alice, alice, WITH + 1)
    (alert,) = await listed(alice)
    await alice.post(f"/alerts/{alert['id']}/resolve")

    await set_to(alice, alice, WITH + 2)
    assert await kinds(alice) == [("balance_low", "resolved")]
    await set_to(alice, alice, 1)
    await set_to(alice, alice, WITH + 1)
    assert await kinds(alice) == [("balance_low", "active"), ("balance_low", "resolved")]


async def test_only_operators_answer_for_the_market(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    await freeze(market, await accepted(alice, bob), alice, bob)
    (alert,) = await olga.get("/admin/alerts", params={"whose": "market"})
    path = f"/alerts/{alert['id']}"

    for who in (alice, of(market, "bob")):
        assert (await who.refused("POST", f"{path}/resolve")).why == (404, "not_found")
    assert (await olga.post(f"{path}/acknowledge"))["status"] == "acknowledged"
    assert (await olga.post(f"{path}/resolve"))["status"] == "resolved"
    assert (await olga.get(path))["status"] == "resolved"


# Lists.


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_lists_are_paged_newest_first_whatever_their_status(alice: Player, bob: Player, limit: int) -> None:
    for _ in range(5):
        await fail(alice, bob)
    whole = await listed(bob)
    await bob.post(f"/alerts/{whole[1]['id']}/acknowledge")
    await bob.post(f"/alerts/{whole[3]['id']}/resolve")
    whole = await listed(bob)
    found, cursor = [], None
    while True:
        page = await bob.page("/alerts", params={"limit": limit, **({"cursor": cursor} if cursor else {})})
        found += page["data"]
        cursor = page["metadata"]["next_cursor"]
        if cursor is None:
            break

    assert found == whole
    assert [one["status"] for one in whole] == ["active", "acknowledged", "active", "resolved", "active"]


async def test_lists_are_narrowed(market: Marketplace, olga: Caller, alice: Player, bob: Player) -> None:
    await fail(alice, bob)
    await disputed(alice, bob)
    (first,) = await listed(alice)
    await alice.post(f"/alerts/{first['id']}/resolve")

    assert await kinds(bob, type="dispute_opened") == [("dispute_opened", "active")]
    assert await kinds(bob, severity="warning") == []
    assert await kinds(alice, severity="warning", status="resolved") == [("task_failed", "resolved")]
    assert await kinds(alice, status="active") == []
    everything = await olga.get("/admin/alerts", params={})
    assert [(one["type"], one["agent_id"]) for one in everything] == [
        ("dispute_opened", bob.id), ("task_failed", alice.id), ("task_failed", bob.id)
    ]  # fmt: skip
    assert await olga.get("/admin/alerts", params={"agent_id": bob.id, "type": "task_failed"}) == [everything[2]]
    assert (await bob.refused("GET", "/alerts?status=over")).why == (422, "invalid_payload")


# Bounds.


async def test_an_agent_has_only_so_many_unresolved_alerts_and_none_that_matter_hide_behind_failures(
    folder: Path,
) -> None:
    async with marketplace(folder, limits=Limits(alerts_per_agent_max=4)) as market:
        alice, bob = await market.deal()
        await set_to(bob, bob, 1)
        await freeze(market, await accepted(alice, bob), alice, bob)
        await disputed(alice, bob)
        failures = [await fail(alice, bob) for _ in range(4)]

        own = await listed(bob)
        assert [(one["type"], one["status"]) for one in own] == [
            ("task_failed", "active"),
            ("task_failed", "resolved"),
            ("task_failed", "resolved"),
            ("task_failed", "resolved"),
            ("dispute_opened", "active"),
            ("channel_state_lost", "active"),
            ("balance_low", "active"),
        ]
        assert [one["data"]["task_id"] for one in own[:4]] == failures[::-1]
        assert {one["resolved_by"] for one in own[1:4]} == {"house"}


async def test_where_only_lasting_conditions_are_left_the_oldest_makes_room_but_for_critical_ones(folder: Path) -> None:
    async with marketplace(folder, limits=Limits(alerts_per_agent_max=2)) as market:
        alice, bob = await market.deal()
        await freeze(market, await accepted(alice, bob), alice, bob)
        await set_to(bob, bob, 1)

        await disputed(alice, bob)

        assert await kinds(bob) == [
            ("dispute_opened", "active"), ("balance_low", "resolved"), ("channel_state_lost", "active")
        ]  # fmt: skip


async def test_only_so_many_resolved_alerts_of_an_agent_are_kept_however_often_a_condition_comes_and_goes(
    folder: Path,
) -> None:
    async with marketplace(folder, limits=Limits(alerts_per_agent_max=3)) as market:
        alice, bob = await market.deal()
        await fail(alice, bob)
        for _ in range(6):
            await set_to(alice, alice, 2 * WITH)
            await set_to(alice, alice, None)
        newest = await listed(alice)
        await set_to(alice, alice, 2 * WITH)
        (active,) = await listed(alice, type="balance_low", status="active")
        await alice.post(f"/alerts/{active['id']}/resolve")

        assert await kinds(alice) == [("balance_low", "resolved")] * 3 + [("task_failed", "active")]
        assert [one["id"] for one in await listed(alice)] == [
            active["id"],
            *(one["id"] for one in newest[:2]),
            newest[3]["id"],
        ]
        assert await kinds(bob) == [("task_failed", "active")]
        timers = await market.server.database.read(
            lambda tx: tx.all("SELECT topic FROM timers WHERE kind = 'alert_retention' ORDER BY topic DESC")
        )
        assert [topic for (topic,) in timers] == [f"alert:{one['id']}" for one in (await listed(alice))[:3]]


async def test_resolved_alerts_are_deleted_after_a_while_and_the_others_stay(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    await fail(alice, bob)
    (own,) = await listed(bob)
    await bob.post(f"/alerts/{own['id']}/resolve")
    market.clock.advance(days=30, milliseconds=-1)
    await market.server.timers.run_due()
    assert ("task_failed", "resolved") in await kinds(bob)

    market.clock.advance(milliseconds=1)
    await market.server.timers.run_due()

    assert ("task_failed", "resolved") not in await kinds(bob)
    assert ("task_failed", "active") in await kinds(alice)
    left = await market.server.database.read(lambda tx: tx.all("SELECT * FROM timers WHERE kind = 'alert_retention'"))
    assert left == []


# What sockets hear.


async def test_who_has_subscribed_hears_every_change_and_who_has_not_hears_nothing(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    topic = f"analytics:agent:{bob.id}"
    reply, heard = await subscribed(market, bob.api_key, topic)
    deaf = await listen(market, bob.api_key, topic)
    owners_reply, owner_heard = await subscribed(
        market, market.user_keys["bob"], f"analytics:user:{await owner_of(market, bob)}"
    )
    assert reply == owners_reply == {"status": "ok", "response": {"alerts": [], "has_more": False}}

    await fail(alice, bob)
    (alert,) = await listed(bob)
    await bob.post(f"/alerts/{alert['id']}/acknowledge")
    await bob.post(f"/alerts/{alert['id']}/resolve")

    told = heard()
    assert [(one["id"], one["status"]) for one in told] == [
        (alert["id"], "active"), (alert["id"], "acknowledged"), (alert["id"], "resolved")
    ]  # fmt: skip
    assert told[0] == {name: alert[name] for name in told[0]}
    assert owner_heard() == told
    assert "alert" not in [event for event, _ in deaf()]


async def test_who_subscribes_is_told_what_is_active_newest_first(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    for _ in range(3):
        await fail(alice, bob)
    newest, middle, oldest = await listed(bob)
    await bob.post(f"/alerts/{middle['id']}/acknowledge")

    reply, _ = await subscribed(market, bob.api_key, f"analytics:agent:{bob.id}")

    found = reply["response"]["alerts"]
    assert [one["id"] for one in found] == [newest["id"], oldest["id"]]


async def test_the_reply_has_a_hundred_at_most_and_says_that_there_are_more(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    for _ in range(100):
        await fail(alice, bob)
    full, _ = await subscribed(market, alice.api_key, f"analytics:agent:{alice.id}")
    await fail(alice, bob)
    more, _ = await subscribed(market, alice.api_key, f"analytics:agent:{alice.id}")

    assert (len(full["response"]["alerts"]), full["response"]["has_more"]) == (100, False)
    assert (len(more["response"]["alerts"]), more["response"]["has_more"]) == (100, True)


async def test_the_market_hears_of_what_is_its_own_alone(
    market: Marketplace, alice: Player, bob: Player, mallory: Player
) -> None:
    _, heard = await subscribed(market, mallory.api_key, "analytics:global")

    await fail(alice, bob)
    await freeze(market, await accepted(alice, bob), alice, bob)

    (told,) = heard()
    assert (told["type"], told["agent_id"]) == ("channel_state_lost", None)
    assert not any(word in json.dumps(told) for word in (alice.id, bob.id, "alice", "bob"))
    reply, _ = await subscribed(market, mallory.api_key, "analytics:global")
    assert reply["response"]["alerts"] == [told]
