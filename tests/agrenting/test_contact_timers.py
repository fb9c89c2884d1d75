"""Requests, contacts and blocks end by the clock: at once for whoever looks, and by their timers also after a restart.

Alice's client has asked Bob's translator.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.db.migrate import migrate
from tests.agrenting.api.friends import (
    ADD,
    BLOCK,
    DEPOSIT,
    REMOVE,
    REQUESTS,
    RESPOND,
    Strangers,
    agents_ear,
    contacts_of,
    require_sound,
    rows,
    strangers,
)
from tests.agrenting.api.market import Caller, Marketplace, marketplace, settings_of

LATER = "2030-01-01T13:00:00Z"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of the newest schema."""
    path = settings_of(tmp_path_factory.mktemp("empty")).database_path
    migrate(path)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path, empty: bytes) -> Path:
    settings_of(tmp_path).database_path.write_bytes(empty)
    return tmp_path


@pytest.fixture
async def two(folder: Path) -> AsyncIterator[Strangers]:
    async with marketplace(folder) as market:
        yield await strangers(market)


async def run_due(two: Strangers) -> int:
    return await two.market.server.timers.run_due()


async def sent_status(who: Caller) -> list[str]:
    return [one["status"] for one in (await who.get(REQUESTS, params={"sent_status": "all"}))["sent"]]


async def events_of(two: Strangers, run: Any) -> list[list[tuple[str, Any]]]:
    """What both sides are told while something runs."""
    ears = [await agents_ear(two.market, one) for one in (two.client, two.translator)]
    await run
    return [ear() for ear in ears]


# Requests.


async def test_a_request_expires_by_its_timer_and_both_are_told(two: Strangers) -> None:
    id_ = await two.ask()
    two.market.clock.advance(days=30, milliseconds=-1)
    assert await run_due(two) == 0
    two.market.clock.advance(milliseconds=1)

    told = await events_of(two, run_due(two))

    assert told == [[("contact_request_updated", {"id": id_, "status": "expired"})]] * 2
    assert await sent_status(two.client) == ["expired"]
    assert (await rows(two.market))["timers"] == []
    assert await run_due(two) == 0


async def test_a_request_is_over_by_the_clock_before_its_timer_has_run(two: Strangers) -> None:
    id_ = await two.ask()
    two.market.clock.advance(days=30)

    assert (await two.translator.get(REQUESTS))["received"] == []
    assert await two.bob.get("/me/contacts/requests", params={"whose": "agents"}) == []
    assert await sent_status(two.client) == ["expired"]
    for who, action in ((two.translator, "approve"), (two.translator, "reject"), (two.client, "cancel")):
        refused = await who.refused("POST", RESPOND, {"action": action, "request_id": id_})
        assert (refused.why, refused.details) == ((409, "request_resolved"), {"status": "expired"})


async def test_asking_again_before_the_timer_has_run_ends_the_old_request(two: Strangers) -> None:
    old = await two.ask()
    two.market.clock.advance(days=30)

    told = await events_of(two, two.ask())

    assert ("contact_request_updated", {"id": old, "status": "expired"}) in told[0]
    assert [event for event, _ in told[1]] == ["contact_request_updated", "contact_request_received"]
    assert sorted(await sent_status(two.client)) == ["expired", "pending"]
    assert len((await rows(two.market))["timers"]) == 1


async def test_asking_back_after_the_end_is_a_request_of_its_own(two: Strangers) -> None:
    await two.ask()
    two.market.clock.advance(days=30)

    answer = await two.translator.post(ADD, {"handle": two.client.handle})

    assert answer["status"] == "pending"
    assert await contacts_of(two.client) == set()
    await run_due(two)
    assert (await sent_status(two.client), await sent_status(two.translator)) == (["expired"], ["pending"])


@pytest.mark.parametrize("action", ["approve", "reject", "cancel"])
async def test_an_answer_disarms_the_timer(two: Strangers, action: str) -> None:
    await two.ask()
    assert len((await rows(two.market))["timers"]) == 1
    who, whom = (two.client, two.translator) if action == "cancel" else (two.translator, two.client)

    await who.post(RESPOND, {"action": action, "handle": whom.handle})

    assert (await rows(two.market))["timers"] == []


# Contacts.


async def test_a_contact_ends_by_its_timer_like_a_revocation(two: Strangers) -> None:
    await two.befriend({"expires_at": LATER})
    (contact,) = [one for one in await two.client.get("/agent/contacts") if one["origin"] == "request"]
    session, waiting, running = await two.negotiate(), await two.hire(), await two.hire()
    await two.translator.post(f"/tasks/{running['id']}/progress", {"percent": 10})
    two.market.clock.advance(hours=1, milliseconds=-1)
    await run_due(two)  # The negotiation expires after half an hour.
    assert await contacts_of(two.client) == {"bob/translator"}
    second = await two.negotiate()
    two.market.clock.advance(milliseconds=1)

    told = await events_of(two, run_due(two))

    assert told == [[("contact_removed", {"id": contact["id"]})]] * 2
    assert (await two.client.get(f"/negotiations/{session['id']}"))["status"] == "expired"
    ended = await two.client.get(f"/negotiations/{second['id']}")
    cancelled = await two.translator.get(f"/tasks/{waiting['id']}")
    for one in (ended, cancelled):
        assert (one["status"], one["reason"]) == ("cancelled", "contact_revoked")
    assert cancelled["escrow_status"] == "refunded"
    assert (await two.client.get(f"/tasks/{running['id']}"))["status"] == "in_progress"
    assert (await two.client.get("/ledger/balance"))["available"] == DEPOSIT - running["price"]
    await require_sound(two.market)


async def test_a_contact_is_over_by_the_clock_before_its_timer_has_run(two: Strangers) -> None:
    await two.befriend({"expires_at": LATER})
    two.market.clock.advance(hours=1)

    for who, whom in ((two.client, two.translator), (two.translator, two.client)):
        assert await contacts_of(who) == set()
        assert (await who.refused("POST", REMOVE, {"handle": whom.handle})).why == (404, "not_found")
    assert (await two.client.page("/agent/contacts"))["metadata"]["total_count"] == 1  # Its owner.


async def test_friends_again_before_the_timer_has_run_are_told_of_the_end_first(two: Strangers) -> None:
    await two.befriend({"expires_at": LATER})
    pending = await two.hire()
    two.market.clock.advance(hours=1)

    told = await events_of(two, two.befriend())

    for heard in told:
        events = [event for event, _ in heard]
        assert events.index("contact_removed") < events.index("contact_added")
        (removed,) = [told for event, told in heard if event == "contact_removed"]
        (added,) = [told for event, told in heard if event == "contact_added"]
        assert removed["id"] != added["id"]
    assert (await two.client.get(f"/tasks/{pending['id']}"))["reason"] == "contact_revoked"
    assert await contacts_of(two.client) == {"bob/translator"}
    await run_due(two)
    assert await contacts_of(two.client) == {"bob/translator"}
    await require_sound(two.market)


async def test_a_removal_disarms_the_timer(two: Strangers) -> None:
    await two.befriend({"expires_at": LATER})
    assert len((await rows(two.market))["timers"]) == 1

    await two.client.post(REMOVE, {"handle": two.translator.handle})

    assert (await rows(two.market))["timers"] == []


# Blocks.


async def test_a_block_ends_by_its_timer_and_the_blocked_one_is_not_told(two: Strangers) -> None:
    await two.translator.post(BLOCK, {"handle": two.client.handle, "expires_at": LATER})
    two.market.clock.advance(hours=1, milliseconds=-1)
    assert await run_due(two) == 0
    assert (await two.client.refused("POST", ADD, {"handle": two.translator.handle})).why == (404, "not_found")
    two.market.clock.advance(milliseconds=1)

    assert await events_of(two, run_due(two)) == [[], []]

    (block,) = (await rows(two.market))["blocks"]
    assert "ended" in block
    assert (await rows(two.market))["timers"] == []
    await two.ask()


async def test_a_block_is_over_by_the_clock_before_its_timer_has_run(two: Strangers) -> None:
    await two.translator.post(BLOCK, {"handle": two.client.handle, "expires_at": LATER})
    two.market.clock.advance(hours=1)

    assert await two.translator.get("/agent/contacts/blocks") == []
    assert [hit["id"] for hit in await two.client.get("/discover")] == [two.translator.id]
    await two.ask()
    made = await two.translator.post(BLOCK, {"handle": two.client.handle})
    assert await run_due(two) == 0  # The new block has no end, and the old one's timer is gone with it.
    assert await two.translator.get("/agent/contacts/blocks") == [made]


# Restarts.


async def test_a_restart_in_between_loses_none(folder: Path) -> None:
    async with marketplace(folder) as market:
        two = await strangers(market)
        await two.befriend({"expires_at": LATER})
        await two.hire()
        other = await market.agent("bob", "Other")
        await two.client.post(ADD, {"handle": other.handle})
        await two.translator.post(BLOCK, {"handle": "alice", "expires_at": LATER})
        keys, clock = (two.client.api_key, two.translator.api_key), market.clock
        assert len((await rows(market))["timers"]) == 5  # The task's deadline and the mailbox's are two of them.
    clock.advance(days=30)

    async with marketplace(folder, clock) as market:
        await market.server.timers.run_due()
        client, provider = (market.with_key(key) for key in keys)
        after = await states_of(market)
        assert (await contacts_of(client), await contacts_of(provider)) == (set(), set())
        assert await sent_status(client) == ["approved", "expired"]

    # One timer is left: the streams of the task are kept for a while.
    assert after == {"requests": ["approved", "expired"], "ended contacts": 1, "blocks": ["ended"], "timers": 1}


async def states_of(market: Marketplace) -> dict[str, Any]:
    def look(tx: Any) -> dict[str, Any]:
        return {
            "requests": [row[0] for row in tx.all("SELECT status FROM contact_requests ORDER BY status")],
            "ended contacts": tx.one("SELECT count(*) FROM contacts WHERE status = 'ended'")[0],
            "blocks": [row[0] for row in tx.all("SELECT status FROM blocks")],
            "timers": tx.one("SELECT count(*) FROM timers")[0],
        }

    return await market.server.database.read(look)
