"""What follows from a unit: in its transaction, told after it, and gone with it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.db.commit import GroupCommit, StorageUnavailable, Unit
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.transaction import WriterTx
from channels.changes import Changed
from channels.errors import Conflict
from tests.agrenting.test_commit import INSERT, Fragile


class Scribe:
    """A follower that writes a row for each thing that has happened, and one for each batch."""

    def __init__(self) -> None:
        self.gathered: list[str] = []
        self.told: list[str] = []
        self.dropped = 0
        self.fails_at = ""
        self.flush_fails = False

    def follow(self, tx: WriterTx) -> str:
        names = [one.after for one in tx.happened if isinstance(one, Changed)]
        for name in names:
            tx.run(INSERT, name=f"followed-{name}")
        if self.fails_at in names:
            raise RuntimeError("a bug")
        self.gathered += names
        return ",".join(names)

    def flush(self, tx: WriterTx) -> None:
        if self.flush_fails:
            raise RuntimeError("a bug")
        if self.gathered:
            tx.run(INSERT, name="batch-" + "-".join(self.gathered))
            self.gathered = []

    def drop(self) -> None:
        self.gathered = []
        self.dropped += 1

    def tell(self, told: str) -> None:
        self.told.append(f"told {told}")


class Desk:
    """A writer with a scribe."""

    def __init__(self, path: Path) -> None:
        self.connection = Fragile(open_writer(path, busy_timeout_s=5.0))
        given: Any = self.connection
        self.commits = GroupCommit(given, batch_max=100)
        self.scribe = Scribe()
        self.commits.follower = self.scribe
        self.errors: dict[str, Exception | None] = {}

    def submit(self, name: str, *, then: Exception | None = None, is_silent: bool = False) -> None:
        def run(tx: WriterTx) -> None:
            tx.run(INSERT, name=name)
            if not is_silent:
                tx.happened.append(Changed("agent", None, name))
            if then is not None:
                raise then

        def settled(_outcome: None, error: Exception | None) -> None:
            self.errors[name] = error
            self.scribe.told.append(f"settled {name}")

        self.commits.submit(Unit(run, settled))

    def rows(self) -> list[str]:
        return [row[0] for row in self.connection.execute("SELECT name FROM market ORDER BY rowid")]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    path = tmp_path / "market.sqlite3"
    await asyncio.to_thread(migrate, path)
    desk = Desk(path)
    yield desk
    await desk.commits.close()
    desk.connection.close()


async def test_what_follows_is_stored_with_the_unit_and_told_after_it(desk: Desk) -> None:
    desk.submit("a")
    await desk.commits.drain()

    assert desk.rows() == ["a", "followed-a", "batch-a"]
    assert desk.scribe.told == ["settled a", "told a"]


async def test_nothing_follows_from_what_has_done_nothing(desk: Desk) -> None:
    desk.submit("a", is_silent=True)
    await desk.commits.drain()

    assert desk.rows() == ["a"]
    assert desk.scribe.told == ["settled a"]


async def test_units_of_one_batch_are_followed_one_by_one_and_written_once(desk: Desk) -> None:
    desk.submit("a")
    for name in ("b", "c"):
        desk.submit(name)
    await desk.commits.drain()

    assert desk.rows() == ["a", "followed-a", "batch-a", "b", "followed-b", "c", "followed-c", "batch-b-c"]
    assert desk.scribe.told == ["settled a", "told a", "settled b", "told b", "settled c", "told c"]


async def test_nothing_follows_from_a_unit_that_is_refused(desk: Desk) -> None:
    desk.submit("a", then=Conflict("conflict", "No."))
    await desk.commits.drain()

    assert desk.rows() == []
    assert desk.scribe.told == ["settled a"]


async def test_a_bug_in_what_follows_undoes_its_unit_alone(desk: Desk) -> None:
    desk.scribe.fails_at = "b"
    for name in ("a", "b", "c"):
        desk.submit(name)
    await desk.commits.drain()

    assert [name for name in desk.rows() if "batch" not in name] == ["a", "followed-a", "c", "followed-c"]
    assert isinstance(desk.errors["b"], RuntimeError)
    assert desk.errors["a"] is desk.errors["c"] is None


async def test_a_bug_at_the_end_of_a_batch_fails_it_whole_and_the_writer_goes_on(desk: Desk) -> None:
    desk.scribe.flush_fails = True
    desk.submit("a")
    await desk.commits.drain()
    desk.scribe.flush_fails = False
    desk.submit("b")
    await desk.commits.drain()

    assert isinstance(desk.errors["a"], StorageUnavailable)
    assert desk.rows() == ["b", "followed-b", "batch-b"]
    assert desk.scribe.dropped == 1
    assert desk.scribe.told == ["settled a", "settled b", "told b"]


async def test_a_commit_that_fails_leaves_nothing_of_what_followed(desk: Desk) -> None:
    desk.connection.failing.add("COMMIT")
    desk.submit("a")
    await desk.commits.drain()
    desk.connection.failing.clear()
    desk.submit("b")
    await desk.commits.drain()

    assert isinstance(desk.errors["a"], StorageUnavailable)
    assert desk.rows() == ["b", "followed-b", "batch-b"]
    assert desk.scribe.told == ["settled a", "settled b", "told b"]
