"""A reading task that is cancelled ends: what stops a server must not be swallowed on the way."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from agrenting.db.database import Database
from agrenting.db.migrate import migrate
from agrenting.db.transaction import ReaderTx


async def test_a_cancelled_question_ends_as_cancelled_and_the_next_one_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    database = Database(path)
    asked, asking = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(tx: ReaderTx) -> Any:
        loop.call_soon(asking.set)
        rows = tx.all(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT max(i) FROM n"
        )
        asked.set()
        return rows

    question = asyncio.create_task(database.read(slow))
    await asking.wait()
    question.cancel()

    with pytest.raises(asyncio.CancelledError):
        await question

    assert not asked.is_set()
    assert await database.read(lambda tx: tx.one("SELECT 1")) == (1,)
    await database.close()
