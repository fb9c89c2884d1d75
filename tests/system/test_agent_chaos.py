"""Two hundred deals over a network that delays, stalls, cuts, half-closes and duplicates at random."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.system.chaos import KINDS, ChaosProxy
from tests.system.chaos_deals import Bazaar, Deal, Done, differences
from tests.system.harness import MarketProcess

T = TypeVar("T")

SEED: Final = int(os.environ.get("CHAOS_SEED", "20261122"))
DEALS: Final = 200
DEALS_OVER_KILLS: Final = 60
CLIENTS: Final = 4
PROVIDERS: Final = 3
WITHIN_S: Final = 240.0
"""Far more than it takes: who gets here hangs."""

KILLED_AT: Final = (0.3, 0.6)
"""After which part of the deals the server is killed."""


async def test_two_hundred_deals_over_a_network_that_nobody_would_want(market: MarketProcess, tmp_path: Path) -> None:
    async with ChaosProxy(lambda: market.url, SEED) as proxy:
        bazaar = Bazaar(market, proxy, tmp_path / "agents", clients=CLIENTS, providers=PROVIDERS)

        done = await _told(proxy, bazaar.run(_drawn(DEALS)))

        _require_sound(bazaar, done, DEALS)
        assert set(proxy.counts) == set(KINDS), proxy.counts


async def test_the_server_may_be_killed_meanwhile(market: MarketProcess, tmp_path: Path) -> None:
    async with ChaosProxy(lambda: market.url, SEED, longest_s=2.0) as proxy:
        bazaar = Bazaar(market, proxy, tmp_path / "agents", clients=CLIENTS, providers=PROVIDERS)

        async def kill() -> None:
            for part in KILLED_AT:
                await bazaar.until_over(int(part * DEALS_OVER_KILLS))
                proxy.note(-1, "the server is killed")
                market.kill()
                await asyncio.to_thread(market.start)
                proxy.note(-1, "the server is there again")

        async with asyncio.TaskGroup() as group:
            group.create_task(kill())
            running = group.create_task(_told(proxy, bazaar.run(_drawn(DEALS_OVER_KILLS))))

        _require_sound(bazaar, running.result(), DEALS_OVER_KILLS)


def _drawn(count: int) -> list[Deal]:
    return [Deal.drawn(SEED, number, clients=CLIENTS, providers=PROVIDERS) for number in range(count)]


async def _told(proxy: ChaosProxy, work: Awaitable[T]) -> T:
    """Do it; where it goes wrong, tell how to have it again, and what had happened."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return await work
    except BaseException as error:
        error.add_note(f"CHAOS_SEED={proxy.seed}\n{proxy.timeline()}")
        raise


def _require_sound(bazaar: Bazaar, done: list[Done], count: int) -> None:
    """Everybody has what it should, and the server's books agree."""
    found = differences(bazaar, done)
    if found:
        pytest.fail("\n".join([f"CHAOS_SEED={bazaar.proxy.seed}", *found, bazaar.proxy.timeline()]))
    assert len(done) == count
    assert {one.deal.kind for one in done} == {"listed", "negotiated", "streamed", "failing", "cancelled"}
    assert bazaar.market.here("doctor")["ok"]
