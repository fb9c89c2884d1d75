"""Folding beside a running market: all that is due, again and again, whatever goes wrong once."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from agrenting import folding
from agrenting.db import rollups
from agrenting.db.database import Database
from agrenting.folding import RollupFolding
from channels.counting import Facts
from tests.agrenting.api.market import START

SCOPES = 100


@pytest.fixture
async def database(tmp_path: Path, empty: Path) -> AsyncIterator[Database]:
    made = Database(Path(shutil.copy(empty, tmp_path / "market.sqlite3")))
    facts = Facts()
    for number in range(SCOPES):
        facts.add((f"agent:{number}",), rollups.folded_before(START), ((0, 1),))
    await made.write(lambda tx: rollups.flush(tx, facts))
    yield made
    await made.close()


async def test_all_that_is_due_is_folded_step_by_step(database: Database) -> None:
    due = START + timedelta(hours=1)

    assert await RollupFolding(database, lambda: START).run_due() == 1
    assert await database.read(lambda tx: rollups.pending(tx, due)) == SCOPES

    assert await RollupFolding(database, lambda: due).run_due() > SCOPES // rollups.FOLDED_AT_ONCE
    assert await database.read(lambda tx: rollups.pending(tx, due)) == 0


async def test_a_fold_that_fails_is_tried_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FOLD_EVERY_S", 0.0)
    looked, done = 0, asyncio.Event()

    class Failing(RollupFolding):
        async def run_due(self) -> int:
            nonlocal looked
            looked += 1
            if looked == 1:
                raise OSError("the disk is full")
            done.set()
            return 1

    running = asyncio.create_task(Failing(database, lambda: START).run_for_ever())
    async with asyncio.timeout(30):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert looked >= 2
