"""A server that was restored from a backup: what was voided since then does not hide what was lost."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.limits import Market
from tests import paying
from tests.channels.played import Played
from tests.channels.roles import ALICE, BOB, MARKET, NOW, refused
from tests.channels.work import PURSE

HOUR = timedelta(hours=1)


def world_of(market: Market) -> Played:
    world = Played()
    world.market = market
    world.deposit(ALICE, PURSE)
    return world


def lost_and_covered(world: Played, *, amount: int = 10) -> tuple[str, Any]:
    """Alice has paid Bob, the server has lost it, and she has proposed the very same again and withdrawn it."""
    topic = world.channel()
    lost = {
        **paying.chain(world.join(ALICE, topic), ALICE.secret_key, BOB.secret_key, [10])[0],
        "balance_a": 990,
        "balance_b": 10,
    }
    world.advance(2 * HOUR.total_seconds())
    world.propose(topic, ALICE, amount)
    world.push(ALICE, topic, "reject_transfer", {"reason": "changed my mind"})
    return topic, lost


@pytest.mark.parametrize("restores", [(), (NOW - HOUR,)])
def test_a_voided_proposal_that_bob_countersigns_proves_nothing(restores: Any) -> None:
    """Never restored, or before the channel was opened: it is known that the transfer was never executed."""
    topic, countersigned = lost_and_covered(world := world_of(msgspec.structs.replace(MARKET, restores=restores)))

    assert world.join(BOB, topic, {"known": countersigned})["state_lost"] is None


def test_what_mallory_covers_up_after_a_restore_freezes_the_channel() -> None:
    market = msgspec.structs.replace(MARKET, restores=(NOW + HOUR, NOW + 4 * HOUR))
    topic, lost = lost_and_covered(world := world_of(market))

    assert world.join(BOB, topic, {"known": lost})["state_lost"]["nonce"] == 1


def test_what_was_voided_before_the_restore_proves_nothing_still() -> None:
    market = msgspec.structs.replace(MARKET, restores=(NOW + 3 * HOUR,))
    topic, countersigned = lost_and_covered(world := world_of(market))

    assert world.join(BOB, topic, {"known": countersigned})["state_lost"] is None


def test_what_was_executed_since_the_restore_is_known() -> None:
    world = world_of(msgspec.structs.replace(MARKET, restores=(NOW,)))
    topic = world.channel()
    paid = world.pay(topic)

    assert world.join(BOB, topic, {"known": paid["last_transfer"]})["state_lost"] is None


def test_a_close_that_was_signed_in_the_lost_past_does_not_end_a_frozen_channel() -> None:
    """Bob signed a close before Alice paid him more; restored to that moment, it would pay him too little."""
    world = world_of(MARKET)
    topic = world.channel()
    before = world.join(ALICE, topic)
    old = paying.close(before, ALICE.secret_key, BOB.secret_key)
    lost = {**paying.chain(before, ALICE.secret_key, BOB.secret_key, [10])[0], "balance_a": 990, "balance_b": 10}
    world.join(BOB, topic, {"known": lost})

    assert refused(world.push, ALICE, topic, "close", old).reason == "stale_state"
    frozen = world.join(ALICE, topic)
    assert (frozen["last_nonce"], frozen["next_nonce"]) == (1, 2)
    settled = paying.close(frozen, ALICE.secret_key, BOB.secret_key, (990, 10))
    assert world.push(ALICE, topic, "close", settled)["status"] == "closed"


def test_a_frozen_channel_learns_of_a_still_newer_state() -> None:
    world = world_of(MARKET)
    topic = world.channel()
    chain = paying.chain(world.join(ALICE, topic), ALICE.secret_key, BOB.secret_key, [10, 10, 10])
    known = [{**one, "balance_a": 1_000 - 10 * n, "balance_b": 10 * n} for n, one in enumerate(chain, 1)]

    for one in (known[1], known[0], known[2]):
        world.join(BOB, topic, {"known": one})

    assert world.join(ALICE, topic)["last_nonce"] == 3
    assert [step.details["nonce"] for step in world.steps[topic.partition(":")[2]] if step.kind == "state_lost"] == [
        2,
        3,
    ]


DAY_S = MARKET.limits.window_default_s


def restored_after(seconds: float) -> Market:
    return msgspec.structs.replace(MARKET, restores=(NOW + timedelta(seconds=seconds),))


@pytest.mark.parametrize("kind", ["force_close", "dispute"])
def test_what_had_begun_when_the_backup_was_restored_waits_a_window_more(kind: str) -> None:
    world = world_of(restored_after(DAY_S - 60))
    topic = world.channel()
    if kind == "dispute":
        world.push(ALICE, topic, "dispute", {"reason": "late"})
    else:
        world.rest(ALICE, topic, "force_close")

    world.advance(DAY_S)
    assert world.join(BOB, topic)["closed_at"] is None
    world.advance(DAY_S - 60)
    assert world.join(BOB, topic)["status"] == "closed"


@pytest.mark.parametrize("kind", ["force_close", "dispute"])
def test_what_begins_after_a_restore_waits_no_longer_than_it_says(kind: str) -> None:
    world = world_of(restored_after(1))
    topic = world.channel()
    world.advance(2)
    if kind == "dispute":
        world.push(ALICE, topic, "dispute", {"reason": "late"})
    else:
        world.rest(ALICE, topic, "force_close")

    world.advance(DAY_S)
    assert world.join(BOB, topic)["status"] == "closed"


def test_a_pending_channel_cannot_be_ended_right_after_a_restore() -> None:
    """It may have been accepted since the backup was made, and paid over."""
    world = world_of(restored_after(60))
    topic = world.channel(accepted=False)
    world.advance(60)
    before = world.everything()

    for who, name in ((ALICE, "cancel"), (BOB, "decline")):
        refusal = refused(world.rest, who, topic, name)
        assert (refusal.reason, refusal.context["until"]) == ("recently_restored", NOW + timedelta(seconds=60 + DAY_S))
    assert world.everything() == before


def test_a_pending_channel_may_be_accepted_right_after_a_restore() -> None:
    world = world_of(restored_after(60))
    topic = world.channel(accepted=False)
    world.advance(60)

    assert world.rest(BOB, topic, "accept")["status"] == "open"


@pytest.mark.parametrize("timers", ["in time", "late"])
def test_a_window_after_a_restore_a_pending_channel_expires_as_any_other(timers: str) -> None:
    world = world_of(restored_after(DAY_S - 60))
    topic = world.channel(accepted=False)
    world.advance(DAY_S)
    assert world.join(ALICE, topic)["status"] == "pending"

    world.advance(DAY_S - 60, run_timers=timers == "in time")
    assert refused(world.rest, ALICE, topic, "cancel").reason == "expired"
    assert world.join(ALICE, topic)["status"] == "expired"
    assert world.available(ALICE) == PURSE


def test_a_block_right_after_a_restore_leaves_a_pending_channel_waiting_and_closed_to_trade() -> None:
    world = world_of(restored_after(60))
    topic = world.channel(accepted=False)
    world.advance(60)
    world.call(BOB, "block", handle=ALICE.agent.handle)

    assert refused(world.rest, BOB, topic, "accept").reason == "contact_revoked"
    channel = world.join(ALICE, topic)
    assert (channel["status"], channel["is_revoked"]) == ("pending", True)
    world.advance(2 * DAY_S)
    assert world.available(ALICE) == PURSE
