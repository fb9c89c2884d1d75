"""Benchmarks by REST: medians over real agents, told only where enough owners stand behind them."""

from collections.abc import Callable
from typing import Any

import pytest

from agrenting.db import analytics as figures
from channels.benchmarks import OWNERS_MIN
from channels.registration import CapabilityDraft
from tests.agrenting.api.market import PRICE, Marketplace, Player
from tests.agrenting.api.test_analytics import asked


class TestBenchmarks:
    async def group(self, market: Marketplace, owners: int, *, prices: Callable[[int], int | None]) -> list[Player]:
        """One agent of each of so many owners, all of one capability."""
        players = []
        for number in range(owners):
            await market.user(f"owner{number}")
            capability = CapabilityDraft(name="sing", price=prices(number))
            players.append(await market.agent(f"owner{number}", "Singer", capabilities=(capability,), is_global=True))
        return players

    async def test_compare_with_the_median_of_who_shares_a_capability(self, market: Marketplace) -> None:
        players = await self.group(market, OWNERS_MIN, prices=lambda number: 100 * (number + 1))
        (told,) = (await asked(players[0], "metrics"))["benchmarks"]

        assert (told["capability"], told["owners"], told["agents"]) == ("sing", OWNERS_MIN, OWNERS_MIN)
        assert told["price"] == {"own": 100, "median": 300}
        assert told["success_rate"] == {"own": None, "median": None}

    async def test_of_an_even_number_are_the_middle_rounded_down(self, market: Marketplace) -> None:
        players = await self.group(market, 6, prices=lambda number: number * 5)

        assert (await asked(players[0], "metrics"))["benchmarks"][0]["price"]["median"] == 12

    async def test_are_not_told_below_five_owners_however_many_agents_they_have(self, market: Marketplace) -> None:
        players = await self.group(market, OWNERS_MIN - 1, prices=lambda _number: 100)
        for number in range(3):
            capability = CapabilityDraft(name="sing", price=5)
            await market.agent("owner0", f"More {number}", capabilities=(capability,))

        assert (await asked(players[0], "metrics"))["benchmarks"] == []

    async def test_a_number_that_fewer_owners_have_is_not_told(self, market: Marketplace) -> None:
        players = await self.group(market, OWNERS_MIN, prices=lambda number: 100 if number else None)

        assert (await asked(players[1], "metrics"))["benchmarks"][0]["price"] == {"own": 100, "median": None}

    async def test_what_was_done_counts_once_enough_owners_have_done_it(self, market: Marketplace) -> None:
        await market.user("alice")
        alice = await market.agent("alice", "Client", deposit=100_000)
        players = await self.group(market, OWNERS_MIN, prices=lambda _number: PRICE)
        for number, provider in enumerate(players):
            body = {"provider_agent_id": provider.id, "capability": "sing", "max_price": PRICE, "hold_seconds": 0}
            task_id = (await alice.post("/tasks", body))["id"]
            await provider.post(f"/tasks/{task_id}/progress", {"percent": 1})
            market.clock.advance(seconds=number + 1)
            await provider.post(f"/tasks/{task_id}/complete", {"result": 1})
            (told,) = (await asked(players[0], "metrics"))["benchmarks"]
            assert told["execution_time_ms"]["median"] == (3_000 if number == OWNERS_MIN - 1 else None)
            assert told["success_rate"]["median"] == (1 if number == OWNERS_MIN - 1 else None)
        (told,) = (await asked(players[0], "metrics"))["benchmarks"]
        assert told["execution_time_ms"]["own"] == 1_000

    async def test_who_is_not_active_is_not_of_the_group(self, market: Marketplace) -> None:
        players = await self.group(market, OWNERS_MIN, prices=lambda _number: 100)
        away = market.with_key(market.user_keys["owner4"])
        await away.patch(f"/agents/{players[4].id}", {"status": "inactive"})

        assert (await asked(players[0], "metrics"))["benchmarks"] == []

    async def test_those_of_a_large_group_are_kept_for_a_while(
        self, market: Marketplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "SMALL_MAX", OWNERS_MIN - 1)
        monkeypatch.setattr(figures, "GROUPS", figures.Groups())
        players = await self.group(market, OWNERS_MIN, prices=lambda _number: 100)
        await asked(players[0], "metrics")
        capability = CapabilityDraft(name="sing", price=5)
        await market.agent("owner0", "Another", capabilities=(capability,))
        pulse, counts = market.server.hub.pulse, []
        for step_s in (figures.FRESH_S, 0, figures.KEPT_S, 0):
            (told,) = (await asked(players[0], "metrics"))["benchmarks"]
            counts.append(told["agents"])
            market.clock.advance(seconds=step_s)
            if len(counts) == 2:  # It was asked for when it was old: the pulse looks again.
                await pulse.beat()
                await market.agent("owner0", "Third", capabilities=(capability,))

        assert counts == [OWNERS_MIN, OWNERS_MIN, OWNERS_MIN + 1, OWNERS_MIN + 1 + 1]

    async def test_no_more_groups_are_kept_than_may_be(
        self, market: Marketplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "SMALL_MAX", -1)
        monkeypatch.setattr(figures, "KEPT_MAX", 2)
        groups = figures.Groups()

        def ask(tx: Any) -> list[int]:
            engine = market.server.engine
            return [groups.of(tx, name, market=engine.market, now=engine.clock()).agents for name in "abcab"]

        assert await market.server.database.read(ask) == [0] * 5
        assert groups.due(market.server.engine.market) is None
        assert len(groups._kept) == 2  # noqa: SLF001 - what nobody sees from outside is how much is kept
