"""The clock alone: with nobody acting any more, every negotiation and every task with money in it comes to an end."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agrenting.db import ledger
from agrenting.db.changes import set_timer
from agrenting.db.transaction import Tx
from agrenting.timers import DUE_AT_ONCE, RETRY_AFTER_S
from channels.changes import Timer
from channels.task_state import DEADLINE
from tests.agrenting.api.market import PRICE, Marketplace, Player, marketplace

DEPOSIT = 100_000
FEE = PRICE * 500 // 10_000
FOR_EVER = {"days": 400}
MAILBOX_RUNS = 2
"""Of the mailbox that was left alone for ever: what is over, and what is forgotten."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var"


def checksum(whole: bytes) -> dict[str, Any]:
    return {"checksum": hashlib.sha256(whole).hexdigest(), "total_size": len(whole)}


async def hired(alice: Player, bob: Player, **fields: Any) -> str:
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "hold_seconds": 0, **fields}
    task = await alice.post("/tasks", body)
    return f"/tasks/{task['id']}"


async def negotiation(alice: Player, bob: Player, *bids: int) -> dict[str, Any]:
    session: dict[str, Any] = await alice.post(
        "/negotiations", {"provider_agent_id": bob.id, "capability": "translate"}
    )
    for number, amount in enumerate(bids):
        who = (alice, bob)[number % 2]
        session = await who.post(f"/negotiations/{session['id']}/offer", who.offer(session, amount))
    return session


async def statuses(market: Marketplace, table: str) -> Counter[str]:
    rows = await market.server.database.read(lambda tx: tx.all(f"SELECT status FROM {table}"))  # noqa: S608 - ours
    return Counter(row[0] for row in rows)


async def require_balanced(market: Marketplace) -> dict[str, int]:
    def look(tx: Tx) -> dict[str, int]:
        assert ledger.doctor(tx) == []
        return ledger.summary(tx)

    return await market.server.database.read(look)


async def everything(market: Marketplace) -> tuple[Player, Player]:
    """One of each state that holds money or waits for somebody."""
    alice, bob = await market.deal()
    await negotiation(alice, bob)
    await negotiation(alice, bob, 500)
    await negotiation(alice, bob, 500, 900)
    assert (await negotiation(alice, bob, 700, 700))["status"] == "agreed"
    agreed = await negotiation(alice, bob, 600, 600)

    await hired(alice, bob)  # Nobody has begun.
    await hired(alice, bob, max_price=None, negotiation_session_id=agreed["id"])
    given = await hired(alice, bob)
    await alice.post(f"{given}/input_stream", {"chunk": "words", "seq": 0})
    await alice.post(f"{given}/input_complete", checksum(b"words"))
    begun = await hired(alice, bob)
    await bob.post(f"{begun}/progress", {"percent": 10})
    half = await hired(alice, bob)
    await bob.post(f"{half}/output_stream", {"chunk": "half a", "seq": 0})
    empty = await hired(alice, bob)
    await bob.post(f"{empty}/progress", {"percent": 99})
    delivered = await hired(alice, bob)
    await bob.post(f"{delivered}/output_stream", {"chunk": "wort", "seq": 0})
    await bob.post(f"{delivered}/output_complete", checksum(b"wort"))
    return alice, bob


async def require_all_ended(market: Marketplace, *, left: int = 7) -> None:
    """All money is where it belongs, and of so many tasks the streams are still kept."""
    assert await statuses(market, "negotiations") == {"expired": 3, "agreed": 2}
    assert await statuses(market, "tasks") == {"failed": 6, "completed": 1}
    held = await require_balanced(market)
    assert held == {
        "agents": DEPOSIT - FEE, "escrow": 0, "channels": 0, "fees": FEE, "external": -DEPOSIT, "sum": 0,
    }  # fmt: skip
    armed = await market.server.database.read(lambda tx: tx.all("SELECT kind FROM timers"))
    assert [kind for (kind,) in armed] == ["task_retention"] * left


async def test_the_clock_alone_takes_everything_to_its_end(folder: Path) -> None:
    async with marketplace(folder) as market:
        alice, bob = await everything(market)
        assert (await require_balanced(market))["escrow"] == 6 * PRICE + 600
        market.clock.advance(**FOR_EVER)

        assert await market.server.timers.run_due() == 10 + MAILBOX_RUNS  # Three negotiations and seven tasks.

        await require_all_ended(market)
        assert (await bob.get("/ledger/balance"))["available"] == PRICE - FEE  # Verified output is paid.
        assert (await alice.get("/ledger/balance"))["available"] == DEPOSIT - PRICE
        assert await market.server.timers.run_due() == 0


async def test_a_restart_in_between_loses_no_timer(folder: Path) -> None:
    async with marketplace(folder) as market:
        await everything(market)
        clock = market.clock
    for step in ({"minutes": 31}, {"days": 1}, {"days": 3}, {"days": 4}, {"days": 400}):
        clock.advance(**step)
        async with marketplace(folder, clock) as market:
            await market.server.timers.run_due()
            await require_balanced(market)
    async with marketplace(folder, clock) as market:
        await require_all_ended(market, left=0)


async def test_before_its_time_a_timer_does_nothing(folder: Path) -> None:
    async with marketplace(folder) as market:
        await everything(market)
        market.clock.advance(minutes=29)

        assert await market.server.timers.run_due() == 0

        assert await statuses(market, "tasks") == {"pending": 3, "in_progress": 4}


async def test_an_end_by_the_clock_decides_also_before_its_timer_has_run(folder: Path) -> None:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        session = await negotiation(alice, bob, 500)
        market.clock.advance(minutes=31)

        refused = await bob.refused("POST", f"/negotiations/{session['id']}/offer", bob.offer(session, 900))

        assert refused.error["code"] in {"negotiation_expired", "expired", "negotiation_not_open"}


async def test_more_timers_than_are_looked_for_at_once_all_run(folder: Path) -> None:
    async with marketplace(folder) as market:
        count = DUE_AT_ONCE * 2 + 5
        due = market.clock.now

        def arm(tx: Any) -> None:
            for number in range(count):
                set_timer(tx, Timer(DEADLINE, f"task:gone-{number}", due))

        await market.server.database.write(arm)

        # The server looks by itself too, at its start: some may be its own.
        assert DUE_AT_ONCE < await market.server.timers.run_due() <= count
        assert await market.server.database.read(lambda tx: tx.all("SELECT topic FROM timers")) == []
        assert await market.server.timers.run_due() == 0


async def test_a_timer_that_raises_is_tried_later_and_keeps_no_other_waiting(folder: Path) -> None:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        path = await hired(alice, bob)
        topic = f"task:{path.rpartition('/')[2]}"
        due = market.clock.now
        await market.server.database.write(lambda tx: set_timer(tx, Timer("no_such_kind", topic, due)))
        market.clock.advance(**FOR_EVER)

        ran = await market.server.timers.run_due()

        assert ran == 2 + MAILBOX_RUNS  # Once each: what raised is not tried again and again.
        assert (await alice.get(path))["status"] == "failed"
        rows = await market.server.database.read(lambda tx: tx.all("SELECT kind, due_at FROM timers"))
        assert sorted(kind for kind, _ in rows) == ["no_such_kind", "task_retention"]
        assert await market.server.timers.run_due() == 0
        market.clock.advance(seconds=RETRY_AFTER_S)
        assert await market.server.timers.run_due() == 1
