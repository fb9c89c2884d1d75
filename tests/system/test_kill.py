"""kill -9 at random moments: what was acknowledged is there, the books balance, and the agents finish."""

import asyncio
import random
from datetime import timedelta

import pytest

from agrenting.clock import system_clock
from agrenting.config import load_settings
from agrenting.db import ledger, rollup_doctor
from agrenting.folder import Folder
from tests.system.deals import Deal
from tests.system.harness import AgentAccount, MarketProcess

PAIRS = 6
PRICE, DEPOSIT = 1_000, 10_000_000
FEE_BPS = 500


def pairs(market: MarketProcess) -> list[tuple[AgentAccount, AgentAccount]]:
    """Clients of one user and global providers of another."""
    market.user("alice")
    market.user("bob")
    return [
        (
            market.agent("alice", f"Client {number}", deposit=DEPOSIT),
            market.agent("bob", f"Provider {number}", "--capability", f"translate={PRICE}", "--global"),
        )
        for number in range(PAIRS)
    ]


def examine(market: MarketProcess) -> dict[str, int]:
    """The books, and the sums made of them, while nobody serves them."""
    folder = Folder(load_settings({"data_dir": str(market.data_dir)}, environment={}))
    with folder.transaction() as tx:
        assert ledger.doctor(tx) == []
        assert rollup_doctor.doctor(tx, messages_since=system_clock() - timedelta(days=1)) == []
        return ledger.summary(tx)


async def deal_for_ever(market: MarketProcess, client: AgentAccount, provider: AgentAccount, done: list[Deal]) -> None:
    while True:
        deal = Deal(market, client, provider)
        await deal.run()
        done.append(deal)


async def kill_again_and_again(market: MarketProcess, kills: int, seed: int) -> None:
    """The test itself, for so many kills."""
    chance = random.Random(seed)
    accounts = pairs(market)
    done: list[Deal] = []
    dealing = [asyncio.create_task(deal_for_ever(market, *pair, done)) for pair in accounts]
    try:
        for _ in range(kills):
            finished, before = len(done), chance.uniform(0.02, 0.4)
            await asyncio.wait(dealing, timeout=before, return_when=asyncio.FIRST_EXCEPTION)
            market.kill()
            held = examine(market)
            assert held["agents"] + held["escrow"] + held["fees"] == PAIRS * DEPOSIT
            await asyncio.to_thread(market.start)
            for task in dealing:
                assert not task.done(), task.exception()
        finished = len(done)
        while len(done) < finished + PAIRS:  # After the last kill everybody finishes what was under way.
            ended, _ = await asyncio.wait(dealing, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
    finally:
        for task in dealing:
            task.cancel()
        await asyncio.gather(*dealing, return_exceptions=True)
    assert market.stop() == 0
    held = examine(market)
    paid = sum(deal.price for deal in done)
    assert held["fees"] >= sum(deal.price * FEE_BPS // 10_000 for deal in done)
    assert paid > 0
    assert sum(deal.lost_count for deal in done) > 0, "no deal was ever interrupted: this tested nothing"


@pytest.mark.timeout(300)
async def test_twenty_kills_lose_nothing_and_move_nothing_unacknowledged(market: MarketProcess) -> None:
    await kill_again_and_again(market, kills=20, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_three_hundred_kills_lose_nothing(market: MarketProcess) -> None:
    await kill_again_and_again(market, kills=300, seed=2)
