"""The check of the ledger beside a running server: what it finds, how it goes on, and when the alert is over."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agrenting.config import SettingsError, load_settings
from agrenting.db.transaction import ReaderTx
from agrenting.ledger_check import LedgerCheck
from tests.agrenting.api.alarms import Json, complete, subscribed
from tests.agrenting.api.market import Caller, Marketplace, marketplace

EXTERNAL = "external"


class Seconds:
    """Seconds that pass with each look at them."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
async def market(folder: Path) -> AsyncIterator[Marketplace]:
    """A market where some money has moved, and which checks nothing by itself."""
    async with marketplace(folder, ledger_check_s=0) as running:
        alice, bob = await running.deal()
        await complete(alice, bob)
        yield running


@pytest.fixture
async def olga(market: Marketplace) -> Caller:
    return await market.user("olga", is_operator=True)


def check_of(market: Marketplace, *, part: int = 500, step: float = 0.0) -> LedgerCheck:
    return LedgerCheck(market.server.engine, every_s=1.0, part=part, monotonic=Seconds(step))


async def spoil(market: Marketplace, sql: str, **values: Any) -> None:
    assert await market.server.database.write(lambda tx: tx.run(sql, **values)) == 1


async def move(market: Marketplace, account: str, amount: int) -> None:
    """Change what an account holds, and nothing else."""
    await spoil(
        market, "UPDATE accounts SET balance = balance + :amount WHERE name LIKE :name", amount=amount, name=account
    )


async def alerts_of(olga: Caller) -> list[Json]:
    found: list[Json] = await olga.get("/admin/alerts", params={"whose": "market"})
    return found


async def test_a_sound_ledger_raises_nothing_and_writes_nothing(market: Marketplace, olga: Caller) -> None:
    check = check_of(market)

    assert [await check.look(), await check.look()] == [[], []]
    assert await alerts_of(olga) == []


async def test_money_out_of_nowhere_is_found_told_and_logged(market: Marketplace, olga: Caller) -> None:
    reply, heard = await subscribed(market, market.user_keys["alice"], "analytics:global")
    assert reply["response"]["alerts"] == []
    await move(market, "platform:fees", 7)

    with structlog.testing.capture_logs() as logs:
        found = await check_of(market).look()

    assert found == [
        "all accounts together hold 7, not 0",
        "account platform:fees holds 57, its postings sum to 50",
    ]
    (log,) = logs
    assert (log["log_level"], log["event"], log["differences"], log["count"]) == (
        "critical",
        "ledger_mismatch",
        found,
        2,
    )
    (alert,) = await alerts_of(olga)
    assert (alert["type"], alert["severity"], alert["data"]) == ("ledger_mismatch", "critical", {"differences": 2})
    assert [one["id"] for one in heard()] == [alert["id"]]


async def test_money_on_the_wrong_account_is_found_though_the_sum_is_right(market: Marketplace) -> None:
    await move(market, "platform:fees", -7)
    await move(market, EXTERNAL, 7)

    assert len(await check_of(market).look()) == 2


async def test_an_entry_that_does_not_sum_to_nothing_is_found(market: Marketplace) -> None:
    (row,) = await market.server.database.read(
        lambda tx: tx.all("SELECT entry_id, amount FROM postings WHERE account = 'platform:fees'")
    )
    await spoil(market, "UPDATE postings SET amount = amount + 1 WHERE account = 'platform:fees'")

    assert await check_of(market).look() == [
        "account platform:fees holds 50, its postings sum to 51",
        f"entry {row[0]} is out of balance by 1, over 3",
    ]


async def test_an_entry_without_postings_is_found(market: Marketplace) -> None:
    await spoil(market, "INSERT INTO ledger_entries (id, kind, memo, created_at) VALUES ('lonely', 'deposit', '', 0)")

    assert await check_of(market).look() == ["entry lonely is out of balance by 0, over 0"]


async def test_an_account_below_zero_is_found(market: Marketplace) -> None:
    def drain(tx: Any) -> None:
        tx.run("PRAGMA ignore_check_constraints = ON")
        tx.run("UPDATE accounts SET balance = -1 WHERE name = 'platform:fees'")
        tx.run("PRAGMA ignore_check_constraints = OFF")

    await market.server.database.write(drain)

    assert "1 accounts are below zero" in await check_of(market).look()


async def test_the_alert_stands_once_and_is_over_when_all_is_sound_again(market: Marketplace, olga: Caller) -> None:
    check = check_of(market)
    await move(market, "platform:fees", 7)
    await check.look()
    await check.look()
    assert len(await alerts_of(olga)) == 1

    await move(market, "platform:fees", -7)
    await check.look()

    (alert,) = await alerts_of(olga)
    assert (alert["status"], alert["resolved_by"]) == ("resolved", "house")


async def test_what_was_resolved_by_hand_is_raised_again_while_it_lasts(market: Marketplace, olga: Caller) -> None:
    check = check_of(market)
    await move(market, "platform:fees", 7)
    await check.look()
    (alert,) = await alerts_of(olga)
    await olga.post(f"/alerts/{alert['id']}/resolve")

    await check.look()

    assert [one["status"] for one in await alerts_of(olga)] == ["active", "resolved"]


async def test_an_account_with_very_many_postings_is_found_wrong_by_what_all_others_are(market: Marketplace) -> None:
    check = LedgerCheck(market.server.engine, every_s=1.0, most=1, monotonic=Seconds())
    await move(market, EXTERNAL, -7)
    assert await check.look() == [
        "all accounts together hold -7, not 0",
        "account external holds -100007, its postings sum to -100000",
    ]

    await spoil(market, "INSERT INTO postings (account, entry_id, amount) VALUES ('external', 'another', 0)")

    assert await check.look() == ["all accounts together hold -7, not 0"]


async def test_a_look_that_has_no_time_goes_on_where_the_last_one_stopped(market: Marketplace, olga: Caller) -> None:
    check = check_of(market, part=1, step=1.0)
    await move(market, "platform:fees", 7)
    await move(market, EXTERNAL, -7)
    counts = await market.server.database.read(_rows)

    found = [await check.look() for _ in range(sum(counts) + 2)]

    assert [len(one) for one in found if one] == [1, 1]
    assert [one["status"] for one in await alerts_of(olga)] == ["active"]


async def test_the_alert_of_before_a_restart_is_over_after_a_whole_sound_round_alone(
    market: Marketplace, olga: Caller
) -> None:
    await move(market, "platform:fees", 7)
    await check_of(market).look()
    await move(market, "platform:fees", -7)
    again = check_of(market, part=1, step=1.0)
    looks = sum(await market.server.database.read(_rows)) + 2

    for _ in range(looks - 1):
        await again.look()
        assert (await alerts_of(olga))[0]["status"] == "active"
    await again.look()

    assert (await alerts_of(olga))[0]["status"] == "resolved"


def _rows(tx: ReaderTx) -> tuple[int, int]:
    """How many accounts and entries there are."""
    row = tx.one("SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM ledger_entries)")
    assert row is not None
    return row[0], row[1]


async def test_it_looks_again_though_a_look_has_failed(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = LedgerCheck(market.server.engine, every_s=0.0)
    looked = asyncio.Event()
    real, times = check.look, 0

    async def look() -> list[str]:
        nonlocal times
        times += 1
        if times == 1:
            raise RuntimeError("the disk")
        found = await real()
        looked.set()
        return found

    monkeypatch.setattr(check, "look", look)
    running = asyncio.create_task(check.run_for_ever())
    await asyncio.wait_for(looked.wait(), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert "ledger_check_failed" in capsys.readouterr().out


async def test_a_server_checks_by_itself(folder: Path) -> None:
    async with marketplace(folder, ledger_check_s=0.01) as market:
        await market.deal()
        connection, transport = await market.socket(market.user_keys["alice"])
        for ref, event in (("1", "phx_join"), ("2", "subscribe_alerts")):
            connection.receive(json.dumps(["1", ref, "analytics:global", event, {}]))
            await market.server.engine.drain()

        await move(market, EXTERNAL, 7)

        (told,) = await transport.heard("alert", 1)
        assert told["type"] == "ledger_mismatch"


def test_it_is_off_at_zero_and_not_below() -> None:
    assert load_settings({"ledger_check_s": 0}, environment={}).ledger_check_s == 0
    with pytest.raises(SettingsError, match="ledger_check_s is not below 0"):
        load_settings({"ledger_check_s": -1}, environment={})
