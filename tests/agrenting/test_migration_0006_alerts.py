"""Alerts of a market that is older than they are: how its providers' last tasks ended is known from the start."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from agrenting.db.migrate import go_back, migrate
from tests.agrenting.api.alarms import complete, fail, kinds, listed
from tests.agrenting.api.friends import opening
from tests.agrenting.api.market import marketplace

ENDS = "SELECT agent_id, ends FROM recent_ends ORDER BY agent_id"


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


async def test_the_last_ends_of_before_count_as_if_they_had_been_kept(folder: Path) -> None:
    async with marketplace(folder) as market:
        path, clock = market.server.settings.database_path, market.clock
        alice, bob = await market.deal()
        other = await market.translator("Other")
        for act in (*(complete,) * 6, *(fail,) * 5):
            clock.advance(seconds=1)
            await act(alice, bob)
        held = await complete(alice, bob, hold_seconds=3_600)
        await alice.post(f"/tasks/{held}/dispute", {"reason": "no"})
        clock.advance(seconds=1)
        await fail(alice, other)
        assert await listed(bob, type="success_rate_low") == []
    before = rows_of(path, ENDS)
    assert len(before) == 2

    go_back(path, "0005")
    migrate(path)

    assert rows_of(path, ENDS) == before
    async with marketplace(folder, clock) as market:
        client, provider = (market.with_key(one.api_key) for one in (alice, bob))
        task = await client.post("/tasks", opening("/tasks", bob))
        await provider.post(f"/tasks/{task['id']}/error", {"type": "broken"})
        assert ("success_rate_low", "active") in await kinds(provider)


async def test_going_back_leaves_no_timer_that_nobody_knows(folder: Path) -> None:
    async with marketplace(folder) as market:
        path = market.server.settings.database_path
        alice, bob = await market.deal()
        await fail(alice, bob)
        (alert,) = await listed(bob)
        await bob.post(f"/alerts/{alert['id']}/resolve")
    assert rows_of(path, "SELECT kind FROM timers WHERE topic LIKE 'alert:%'") == [("alert_retention",)]

    go_back(path, "0005")

    assert rows_of(path, "SELECT * FROM timers WHERE topic LIKE 'alert:%'") == []
