"""Pay as you stream over real sockets: many deals at once, cut connections, and a server that is killed meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.system.harness import MarketProcess
from tests.system.steady_payers import Served
from tests.system.streaming_payers import Deal, Line, Pair
from tests.system.tracks import UNBOUND

PURSE = 10_000_000
PAIRS = 6
DEALS = 200
AT_ONCE = 3
"""Deals of one pair side by side, over the same sockets."""

SETTINGS = {
    **UNBOUND,
    "AGRENTING_LOG_LEVEL": "warning",
    "AGRENTING_LIMITS_WINDOW_MIN_S": "1",
    "AGRENTING_LIMITS_TASKS_OPEN_MAX": "1000",
    "AGRENTING_TIMER_POLL_S": "0.1",
}


@pytest.fixture
def market(tmp_path: Path) -> Iterator[MarketProcess]:
    process = MarketProcess(tmp_path / "var", **SETTINGS).start()
    yield process
    if process.process is not None:
        process.kill()


def pairs_of(market: MarketProcess, served: Served) -> list[Pair]:
    """Clients and providers of two owners."""
    for owner in ("alice", "bob"):
        market.user(owner)
    lines = []
    for number in range(PAIRS):
        client = market.agent("alice", f"Client {number}", "--global", deposit=PURSE)
        provider = market.agent("bob", f"Provider {number}", "--capability", "translate=1", "--global", deposit=PURSE)
        lines.append((Line(market, served, client), Line(market, served, provider)))
    return [Pair(*two) for two in lines]


class Play:
    """All deals, and the server's death in the midst of them."""

    def __init__(self, market: MarketProcess, deals: int, first_seed: int) -> None:
        self.market, self.served = market, Served()
        self.pairs = pairs_of(market, self.served)
        self.wanted, self.seeds = deals, count(first_seed)
        self.begun: list[Deal] = []
        self.ended = 0
        self.is_half_done = asyncio.Event()

    async def deal(self, pair: Pair) -> None:
        """One deal after the other, until all are begun."""
        while len(self.begun) < self.wanted:
            deal = Deal(pair, next(self.seeds))
            self.begun.append(deal)
            await deal.run()
            self.ended += 1
            if self.ended >= self.wanted // 2:
                self.is_half_done.set()

    async def kill(self) -> None:
        """Half of the deals are done, others are in their midst: the server dies, and comes back elsewhere."""
        await self.is_half_done.wait()
        assert self.ended < len(self.begun), "some are under way"
        self.market.kill()
        await asyncio.to_thread(self.market.start)
        await self.served.again()

    async def run(self) -> None:
        """Play it to the end."""
        async with AsyncExitStack() as stack:
            for pair in self.pairs:
                for line in pair.lines:
                    stack.push_async_callback(line.close)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.kill())
                for pair in self.pairs * AT_ONCE:
                    group.create_task(self.deal(pair))


async def neither_side_loses_more_than_the_credit(market: MarketProcess, deals: int, first_seed: int) -> None:
    play = Play(market, deals, first_seed)

    await play.run()

    answers = sum((deal.answers for deal in play.begun), Counter[str]())
    assert len(play.begun) >= deals
    assert min(answers[answer] for answer in ("ok", "payment_due", "lost", "duplicate")) > 0, answers
    assert sum(line.cuts for pair in play.pairs for line in pair.lines) > deals // 10
    assert market.stop() == 0, "\n".join(market.log)
    assert market.cli("doctor")["ok"]
    found = market.here("doctor")
    assert found["differences"] == []
    assert found["summary"]["agents"] + found["summary"]["channels"] == 2 * PAIRS * PURSE
    assert found["summary"]["escrow"] == found["summary"]["fees"] == 0


@pytest.mark.timeout(180)
async def test_over_two_hundred_schedules_neither_side_loses_more_than_the_credit(market: MarketProcess) -> None:
    await neither_side_loses_more_than_the_credit(market, DEALS, 1)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_over_two_thousand_schedules_neither_side_loses_more_than_the_credit(market: MarketProcess) -> None:
    await neither_side_loses_more_than_the_credit(market, 2_000, 10_001)
