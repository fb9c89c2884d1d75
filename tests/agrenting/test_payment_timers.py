"""Payment channels by the clock: at once for whoever acts, and by their timer also after a restart.

Alice's client opens, Bob's translator answers.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import paying
from tests.agrenting.api.market import Marketplace, Player, marketplace
from tests.agrenting.api.payers import (
    DEPOSIT,
    WITH,
    Json,
    accepted,
    at,
    close,
    hand_in,
    money,
    pay,
    pending,
    propose,
    require_sound,
    timers,
)

CLOCK = "payment_clock"
DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var"


@pytest.fixture
async def market(folder: Path) -> AsyncIterator[Marketplace]:
    async with marketplace(folder) as running:
        yield running


@pytest.fixture
async def two(market: Marketplace) -> tuple[Player, Player]:
    return await market.deal()


async def due_at(market: Marketplace) -> list[int]:
    """When what is armed is due, in seconds from now, but for mailboxes."""
    armed = "SELECT due_at FROM timers WHERE kind <> 'mailbox' ORDER BY due_at"
    rows = await market.server.database.read(lambda tx: tx.all(armed))
    return [round(row[0] / 1_000 - market.clock.now.timestamp()) for row in rows]


async def heard(market: Marketplace, who: Player, channel: Json) -> Any:
    """A socket of an agent that listens to a channel; what it is sent from now on."""
    connection, transport = await market.socket(who.api_key)
    connection.receive(json.dumps(["1", "1", f"payment:{channel['id']}", "phx_join", {}]))
    await market.server.engine.drain()
    transport.sent.clear()
    return transport


async def stored(market: Marketplace, channel: Json) -> str:
    """The status as it is kept: nobody has looked."""
    rows = await market.server.database.read(
        lambda tx: tx.all("SELECT status FROM payment_channels WHERE id = :id", id=channel["id"])
    )
    status: str = rows[0][0]
    return status


# One by one.


async def test_what_nobody_accepts_expires_by_its_timer_and_both_are_told(
    market: Marketplace, two: tuple[Player, Player]
) -> None:
    channel = await pending(*two)
    sockets = [await heard(market, one, channel) for one in two]
    market.clock.advance(days=1, milliseconds=-1)
    assert await market.server.timers.run_due() == 0
    market.clock.advance(milliseconds=1)

    assert await market.server.timers.run_due() == 1

    for socket in sockets:
        ((*_, event, payload),) = socket.sent
        assert (event, payload["change"], payload["channel"]["status"]) == ("channel_updated", "expired", "expired")
    assert await stored(market, channel) == "expired"
    assert await money(two[0]) == (WITH, 0)
    assert await timers(market) == []
    await require_sound(market, locked=0)


async def test_a_proposal_expires_by_the_timer_and_its_nonce_is_used(
    market: Marketplace, two: tuple[Player, Player]
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob)
    await market.server.timers.run_due()
    await propose(channel, alice, 70)
    socket = await heard(market, alice, channel)
    market.clock.advance(minutes=5, milliseconds=-1)
    await market.server.timers.run_due()
    assert socket.sent == []
    market.clock.advance(milliseconds=1)

    assert await market.server.timers.run_due() == 1

    ((*_, event, payload),) = socket.sent
    assert (event, payload["reason"], payload["agent_id"], payload["nonce"], payload["next_nonce"]) == (
        "transfer_voided", "expired", None, 1, 2,
    )  # fmt: skip
    after = await bob.get(at(channel))
    assert (after["pending_proposal"], after["last_nonce"], after["balance_a"]) == (None, 1, DEPOSIT)


async def test_a_window_that_is_over_pays_by_the_timer(market: Marketplace, two: tuple[Player, Player]) -> None:
    alice, bob = two
    channel = await accepted(alice, bob, window_s=3 * DAY_S)
    await pay(channel, alice, bob, 300)
    await bob.post(at(channel, "force-close"))
    socket = await heard(market, alice, channel)
    market.clock.advance(days=3, milliseconds=-1)
    await market.server.timers.run_due()
    assert await stored(market, channel) == "closing"
    market.clock.advance(milliseconds=1)

    await market.server.timers.run_due()

    ((*_, event, payload),) = socket.sent
    assert (event, payload["cause"], payload["final_balance_b"]) == ("channel_closed", "force_close", 300)
    assert (await money(alice), await money(bob)) == ((WITH - 300, 0), (300, 0))
    assert await timers(market) == []


@pytest.mark.parametrize(("mode", "days"), [("online", 1), ("offline", 3)])
async def test_a_dispute_ends_by_the_timer_in_offline_mode_not_before_the_window(
    market: Marketplace, two: tuple[Player, Player], mode: str, days: int
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob, window_s=3 * DAY_S, mode=mode)
    await alice.post(at(channel, "dispute"), {"reason": "no"})
    market.clock.advance(days=days, milliseconds=-1)
    await market.server.timers.run_due()
    assert await stored(market, channel) == "disputed"
    market.clock.advance(milliseconds=1)

    await market.server.timers.run_due()

    closed = await bob.get(at(channel))
    assert (closed["status"], closed["cause"]) == ("closed", "dispute_timeout")
    assert await money(alice) == (WITH, 0)
    await require_sound(market, locked=0)


# Early timers.


async def test_a_timer_that_fires_before_anything_is_due_is_armed_again(
    market: Marketplace, two: tuple[Player, Player]
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob)
    assert await due_at(market) == [DAY_S]  # Of the acceptance, which has come.
    await propose(channel, alice, 10)
    assert await due_at(market) == [300]
    await alice.post(at(channel, "reject_transfer"), {})
    await bob.post(at(channel, "force-close"))
    assert await due_at(market) == [300]  # One timer a channel, and it never waits longer than it must.

    market.clock.advance(minutes=5)
    assert await market.server.timers.run_due() == 1

    assert await due_at(market) == [DAY_S - 300]
    assert await stored(market, channel) == "closing"
    market.clock.advance(days=1, minutes=-5)
    await market.server.timers.run_due()
    assert await stored(market, channel) == "closed"


async def test_a_timer_of_an_idle_channel_is_gone_until_it_is_needed(
    market: Marketplace, two: tuple[Player, Player]
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob)
    market.clock.advance(days=1)
    await market.server.timers.run_due()  # The acceptance came in time.

    assert (await timers(market), await stored(market, channel)) == ([], "open")
    await propose(channel, alice, 10)
    assert await timers(market) == [(f"payment:{channel['id']}", CLOCK)]


async def test_the_second_proposal_expires_in_its_own_time(market: Marketplace, two: tuple[Player, Player]) -> None:
    alice, bob = two
    channel = await accepted(alice, bob)
    await propose(channel, alice, 10)
    market.clock.advance(minutes=2)
    await bob.post(at(channel, "reject_transfer"), {})
    await propose(channel, alice, 20)
    market.clock.advance(minutes=3)
    await market.server.timers.run_due()

    assert (await bob.get(at(channel)))["pending_proposal"]["amount"] == 20
    assert await due_at(market) == [120]
    market.clock.advance(minutes=2)
    await market.server.timers.run_due()
    assert (await bob.get(at(channel)))["last_nonce"] == 2


# Before a timer has run.


async def test_an_expired_proposal_is_over_for_whoever_acts_first(
    market: Marketplace, two: tuple[Player, Player]
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob)
    proposed = await propose(channel, alice, 70)
    late = paying.acknowledgement(proposed, bob.seed, proposed["pending_proposal"])
    socket = await heard(market, alice, channel)
    market.clock.advance(minutes=5)

    refused = await bob.refused("POST", at(channel, "acknowledge_transfer"), late)
    assert refused.why in {(409, "nonce_replayed"), (409, "no_pending_transfer")}
    second = await propose(channel, alice, 80)

    assert (second["pending_proposal"]["nonce"], second["last_nonce"]) == (2, 1)
    events = [message[3] for message in socket.sent]
    assert events[0] == "transfer_voided"
    kinds = [(step["kind"], step["last_nonce"]) for step in await bob.get(at(channel, "history"))]
    assert kinds == [("opened", 0), ("accepted", 0), ("voided", 1)]
    await market.server.timers.run_due()
    assert (await bob.get(at(channel)))["pending_proposal"]["amount"] == 80


@pytest.mark.parametrize("event", ["deposit", "close_request", "dispute", "force-close"])
async def test_other_events_find_no_expired_proposal_either(
    market: Marketplace, two: tuple[Player, Player], event: str
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob)
    await propose(channel, alice, 70)
    market.clock.advance(minutes=5)
    fresh = await alice.get(at(channel))
    bodies: dict[str, Json | None] = {
        "deposit": {"amount": 5},
        "close_request": {
            "final_balance_a": DEPOSIT,
            "final_balance_b": 0,
            "signature": paying.close_signature(fresh, alice.seed, (DEPOSIT, 0)),
        },
        "dispute": {"reason": "no"},
        "force-close": None,
    }

    after = await alice.post(at(channel, event), bodies[event])

    assert (fresh["last_nonce"], after["last_nonce"], after["pending_proposal"]) == (1, 1, None)
    voided = (await bob.get(at(channel, "history")))[2]
    assert (voided["kind"], voided["agent_id"], voided["details"]["reason"]) == ("voided", None, "expired")
    await require_sound(market)


@pytest.mark.parametrize("before", ["force-close", "dispute"])
async def test_a_channel_whose_time_is_over_has_ended_for_whoever_acts(
    market: Marketplace, two: tuple[Player, Player], before: str
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob, mode="offline")
    channel = await hand_in(channel, alice, bob, 200)
    await alice.post(at(channel, before), None if before == "force-close" else {"reason": "no"})
    market.clock.advance(days=1)
    late = {"transfers": paying.chain(channel, alice.seed, bob.seed, [300])}

    for who, event, body in (
        (bob, "submit_transfers", late),
        (bob, "dispute", {"reason": "I too"}),
        (alice, "force-close", None),
        (alice, "withdraw_dispute", None),
        (bob, "close", paying.close(channel, alice.seed, bob.seed)),
    ):
        refused = await who.refused("POST", at(channel, event), body)
        assert (refused.why, refused.details) == ((409, "terminal_state"), {"status": "closed"}), event
    assert (await alice.get(at(channel)))["final_balance_b"] == 200
    await market.server.timers.run_due()
    assert (await money(alice), await money(bob)) == ((WITH - 200, 0), (200, 0))
    await require_sound(market, locked=0)


async def test_a_dispute_keeps_a_window_from_paying_and_its_withdrawal_pays_at_once(
    market: Marketplace, two: tuple[Player, Player]
) -> None:
    alice, bob = two
    channel = await accepted(alice, bob)
    await alice.post(at(channel, "force-close"))
    market.clock.advance(hours=23)
    await bob.post(at(channel, "dispute"), {"reason": "no"})
    market.clock.advance(hours=2)
    await market.server.timers.run_due()
    assert await stored(market, channel) == "disputed"

    after = await bob.post(at(channel, "withdraw_dispute"))

    assert (after["status"], after["cause"]) == ("closed", "force_close")
    assert await money(alice) == (WITH, 0)
    await require_sound(market, locked=0)


async def test_nobody_holds_the_others_money_longer_than_three_windows(
    market: Marketplace, two: tuple[Player, Player]
) -> None:
    """Bob alternates all that he and, against her interest, Alice could: each disputes at the last moment."""
    alice, bob = two
    channel = await accepted(alice, bob)
    started = market.clock.now
    await alice.post(at(channel, "force-close"))
    market.clock.advance(days=1, milliseconds=-1)
    await bob.post(at(channel, "dispute"), {"reason": "no"})
    market.clock.advance(days=1, milliseconds=-1)
    refused = await bob.refused("POST", at(channel, "dispute"), {"reason": "once more"})
    assert refused.why == (409, "channel_not_open")
    market.clock.advance(milliseconds=1)
    await market.server.timers.run_due()

    assert await stored(market, channel) == "closed"
    assert (market.clock.now - started).total_seconds() < 3 * DAY_S


# Restarts.


async def test_a_restart_in_between_loses_no_timer(folder: Path) -> None:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        waiting = await pending(alice, bob)
        proposed, closing = await accepted(alice, bob), await accepted(alice, bob)
        disputed, over = await accepted(alice, bob, mode="offline"), await accepted(alice, bob)
        await propose(proposed, alice, 10)
        await pay(closing, alice, bob, 20)
        await bob.post(at(closing, "force-close"))
        await hand_in(disputed, alice, bob, 30)
        await alice.post(at(disputed, "dispute"), {"reason": "no"})
        await close(over, alice, bob)
        clock = market.clock
    clock.advance(minutes=5)
    async with marketplace(folder, clock) as market:
        await market.server.timers.run_due()
        assert [await stored(market, one) for one in (waiting, proposed, closing, disputed)] == [
            "pending", "open", "closing", "disputed",
        ]  # fmt: skip
        voided = await market.with_key(bob.api_key).get(at(proposed))
        assert (voided["last_nonce"], voided["pending_proposal"]) == (1, None)
    clock.advance(days=1)
    async with marketplace(folder, clock) as market:
        await market.server.timers.run_due()
        assert [await stored(market, one) for one in (waiting, proposed, closing, disputed)] == [
            "expired", "open", "closed", "closed",
        ]  # fmt: skip
        assert {kind for _, kind in await timers(market)} == {"alert_retention"}  # Of the dispute, which is over.
        await require_sound(market, locked=DEPOSIT)
        assert await money(market.with_key(bob.api_key)) == (50, 0)
        assert await money(market.with_key(alice.api_key)) == (WITH - DEPOSIT - 50, DEPOSIT)


async def test_the_time_that_a_server_is_down_counts_also_before_its_timers_run(folder: Path) -> None:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        channel = await accepted(alice, bob)
        await alice.post(at(channel, "force-close"))
        clock = market.clock
    clock.advance(days=2)
    async with marketplace(folder, clock) as market:
        who = market.with_key(bob.api_key)
        refused = await who.refused("POST", at(channel, "dispute"), {"reason": "I was away"})
        assert (refused.why, refused.details) == ((409, "terminal_state"), {"status": "closed"})
