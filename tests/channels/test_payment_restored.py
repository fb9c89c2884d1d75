"""A server that was restored from a backup: what was voided since then does not hide what was lost."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.handlers import Market
from tests import paying
from tests.channels.played import Played
from tests.channels.roles import ALICE, BOB, MARKET, NOW
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
