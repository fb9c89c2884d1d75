"""A server that was restored from a backup: what was voided since then does not hide what was lost."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.handlers import Market
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


@pytest.mark.parametrize("restored_at", [None, NOW - HOUR])
def test_a_voided_proposal_that_bob_countersigns_proves_nothing(restored_at: Any) -> None:
    """Never restored, or before the channel was opened: it is known that the transfer was never executed."""
    topic, countersigned = lost_and_covered(world := world_of(msgspec.structs.replace(MARKET, restored_at=restored_at)))

    assert world.join(BOB, topic, {"known": countersigned})["state_lost"] is None


def test_what_mallory_covers_up_after_a_restore_freezes_the_channel() -> None:
    market = msgspec.structs.replace(MARKET, restored_at=NOW + HOUR)
    topic, lost = lost_and_covered(world := world_of(market))

    assert world.join(BOB, topic, {"known": lost})["state_lost"]["nonce"] == 1


def test_what_was_voided_before_the_restore_proves_nothing_still() -> None:
    market = msgspec.structs.replace(MARKET, restored_at=NOW + 3 * HOUR)
    topic, countersigned = lost_and_covered(world := world_of(market))

    assert world.join(BOB, topic, {"known": countersigned})["state_lost"] is None


def test_what_was_executed_since_the_restore_is_known() -> None:
    world = world_of(msgspec.structs.replace(MARKET, restored_at=NOW))
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
