"""Group commit: order, refusals and bugs that stay alone, commits that fail whole, and another process on the file."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agrenting.db import streams
from agrenting.db.commit import GroupCommit, StorageUnavailable, Unit
from agrenting.db.database import Database, open_writer
from agrenting.db.migrate import migrate
from agrenting.db.transaction import ReaderTx, StaleState, WriterTx
from channels.changes import StoreChunk
from channels.errors import Conflict, Invalid
from channels.task_state import StreamState
from crypto import StreamChecksum

INSERT = "INSERT INTO market (name, value) VALUES (:name, 'x')"


class Fragile:
    """A connection whose statements fail where a test says so."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.failing: set[str] = set()
        self.gate: threading.Event | None = None

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        if self.gate is not None and sql == "BEGIN IMMEDIATE":
            self.gate.wait()
        if sql in self.failing:
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, values)

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        return self._connection.executemany(sql, rows)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        self._connection.close()


class Desk:
    """A writer on a fresh database, and the outcomes in the order in which they were told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = Fragile(open_writer(path, busy_timeout_s=5.0))
        self.batches: list[int] = []
        given: Any = self.connection
        self.commits = GroupCommit(given, batch_max=100, observe=lambda units, _seconds: self.batches.append(units))
        self.told: list[tuple[str, Any]] = []

    def submit(self, name: str, *, then: Exception | None = None) -> None:
        """Insert a row, and then raise."""

        def run(tx: WriterTx) -> str:
            tx.run(INSERT, name=name)
            if then is not None:
                raise then
            return name

        def settled(outcome: Any, error: Exception | None) -> None:
            self.told.append((name, outcome if error is None else error))

        self.commits.submit(Unit(run, settled))

    def hold(self) -> threading.Event:
        """Let what is submitted from now on gather, until the answer is set."""
        gate = self.connection.gate = threading.Event()
        return gate

    def rows(self) -> list[str]:
        """What is durable, as another process sees it."""
        with closing(sqlite3.connect(self.path)) as other:
            return [row[0] for row in other.execute("SELECT name FROM market ORDER BY rowid")]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    desk = Desk(path)
    yield desk
    await desk.commits.close()
    desk.connection.close()


async def test_what_is_submitted_in_order_is_told_in_order_and_shares_commits(desk: Desk) -> None:
    gate = desk.hold()
    for number in range(250):
        desk.submit(str(number))
    gate.set()
    await desk.commits.drain()

    assert desk.told == [(str(number), str(number)) for number in range(250)]
    assert desk.rows() == [str(number) for number in range(250)]
    assert desk.batches == [1, 100, 100, 49]  # The first went alone: nothing was under way.


async def test_nothing_is_told_before_it_is_durable(desk: Desk) -> None:
    seen: list[list[str]] = []

    def run(tx: WriterTx) -> None:
        tx.run(INSERT, name="a")

    desk.commits.submit(Unit(run, lambda _outcome, _error: seen.append(desk.rows())))
    await desk.commits.drain()

    assert seen == [["a"]]


@pytest.mark.parametrize(
    "raised",
    [
        Invalid("invalid_payload", "No."),
        RuntimeError("a bug"),
        KeyError("a bug"),
        sqlite3.IntegrityError("a bug"),
        OverflowError("Python int too large"),
        AssertionError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_unit_that_raises_leaves_the_others_of_its_batch(desk: Desk, raised: Exception) -> None:
    gate = desk.hold()
    for name in ("first", "a"):
        desk.submit(name)
    desk.submit("spoiled", then=raised)
    desk.submit("b")
    gate.set()
    await desk.commits.drain()

    assert desk.told == [("first", "first"), ("a", "a"), ("spoiled", raised), ("b", "b")]
    assert desk.rows() == ["first", "a", "b"]


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT", INSERT])
async def test_a_commit_that_fails_fails_whole_and_the_next_one_works(desk: Desk, statement: str) -> None:
    gate = desk.hold()
    desk.submit("first")
    gate.set()
    await desk.commits.drain()
    gate = desk.hold()
    desk.connection.failing = {statement}
    for name in ("a", "b", "c"):
        desk.submit(name)
    gate.set()
    await desk.commits.drain()
    desk.connection.failing = set()

    assert [type(outcome) for _, outcome in desk.told[1:]] == [StorageUnavailable] * 3
    assert desk.rows() == ["first"]
    desk.submit("later")
    await desk.commits.drain()
    assert desk.told[-1] == ("later", "later")
    assert desk.rows() == ["first", "later"]


async def test_where_even_the_rollback_fails_the_writer_still_answers(desk: Desk) -> None:
    desk.connection.failing = {"COMMIT", "ROLLBACK"}
    with pytest.raises(StorageUnavailable):
        await desk.commits.write(lambda tx: tx.run(INSERT, name="a"))
    desk.connection.failing = set()
    with pytest.raises(StorageUnavailable):  # BEGIN inside a transaction fails too, and its rollback works again.
        await desk.commits.write(lambda tx: tx.run(INSERT, name="b"))

    assert await desk.commits.write(lambda tx: tx.run(INSERT, name="c")) == 1
    assert desk.rows() == ["c"]


async def test_one_who_cannot_be_told_leaves_the_others_told(desk: Desk) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    gate = desk.hold()
    desk.submit("first")

    def settled(_outcome: Any, _error: Exception | None) -> None:
        raise RuntimeError("cannot hear")

    desk.commits.submit(Unit(lambda tx: tx.run(INSERT, name="deaf"), settled))
    desk.submit("after")
    gate.set()
    await desk.commits.drain()

    assert [name for name, _ in desk.told] == ["first", "after"]
    assert desk.rows() == ["first", "deaf", "after"]
    assert isinstance(problems[0]["exception"], RuntimeError)


async def test_a_stale_save_is_tried_once_more_on_fresh_state_and_then_refused(desk: Desk) -> None:
    tries: list[str] = []

    def stale_once(tx: WriterTx) -> str:
        tx.run(INSERT, name=f"try {len(tries)}")
        tries.append("x")
        if len(tries) == 1:
            raise StaleState
        return "done"

    assert await desk.commits.write(stale_once) == "done"
    assert desk.rows() == ["try 1"]

    def stale_for_ever(tx: WriterTx) -> None:
        tries.append("y")
        raise StaleState

    with pytest.raises(Conflict) as no:
        await desk.commits.write(stale_for_ever)
    assert no.value.reason == "conflict"
    assert tries.count("y") == 2


async def test_a_unit_whose_asker_has_gone_is_committed_all_the_same(desk: Desk) -> None:
    gate = desk.hold()
    asking = asyncio.create_task(desk.commits.write(lambda tx: tx.run(INSERT, name="a")))
    await asyncio.sleep(0)  # It is submitted by now.
    asking.cancel()
    gate.set()
    await asyncio.gather(asking, return_exceptions=True)
    await desk.commits.drain()

    assert asking.cancelled()
    assert desk.rows() == ["a"]


async def test_running_checksums_are_right_after_refusals_and_failed_commits(desk: Desk) -> None:
    """The checksum in memory goes ahead of the commit; what is not kept must not stay in it."""

    def append(seq: int, chunk: bytes, then: Exception | None = None) -> Any:
        def run(tx: WriterTx) -> None:
            streams.append(tx, StoreChunk("t", "output", seq, chunk, "utf8", (seq, (chunk,))))
            if then is not None:
                raise then

        return run

    await desk.commits.write(append(0, b"one"))
    with pytest.raises(Invalid):
        await desk.commits.write(append(1, b"refused", Invalid("x", "No.")))
    await desk.commits.write(append(1, b"two"))
    desk.connection.failing = {"COMMIT"}
    with pytest.raises(StorageUnavailable):
        await desk.commits.write(append(2, b"lost"))
    desk.connection.failing = set()
    await desk.commits.write(append(2, b"three"))

    whole = StreamState(next_seq=3)
    kept = await desk.commits.write(lambda tx: streams.StoredStreams(tx, "t").checksum("output", whole).hexdigest())
    expected = StreamChecksum()
    for chunk in (b"one", b"two", b"three"):
        expected.update(chunk)
    assert kept == expected.hexdigest()
    stored = await desk.commits.write(lambda tx: list(streams.read(tx, task_id="t", direction="output", first=0)))
    assert [(one.seq, one.data) for one in stored] == [(0, b"one"), (1, b"two"), (2, b"three")]


async def test_another_process_that_holds_the_lock_only_delays(desk: Desk) -> None:
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO market (name, value) VALUES ('theirs', 'x')")
        desk.submit("ours")
        writing = asyncio.create_task(desk.commits.drain())
        done, _ = await asyncio.wait([writing], timeout=0.2)
        assert not done
        assert desk.told == []
        other.execute("COMMIT")
        await writing

    assert desk.told == [("ours", "ours")]
    assert desk.rows() == ["theirs", "ours"]


async def test_a_lock_that_is_never_let_go_fails_the_change_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    database = Database(path, busy_timeout_s=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="locked"):
            await database.write(lambda tx: tx.run(INSERT, name="ours"))
        other.execute("ROLLBACK")
    assert await database.write(lambda tx: tx.run(INSERT, name="ours")) == 1
    await database.close()


async def test_foreign_changes_are_noticed_once_and_our_own_are_none(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    database = Database(path)
    await database.write(lambda tx: tx.run(INSERT, name="ours"))
    assert not await database.foreign_changes()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO market (name, value) VALUES ('theirs', 'x')")
    assert await database.foreign_changes()
    assert not await database.foreign_changes()
    await database.close()


async def test_a_question_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    database = Database(path)

    def change(tx: ReaderTx) -> int:
        return tx.run(INSERT, name="a")

    with pytest.raises(AssertionError, match="changes nothing"):
        await database.read(change)
    await database.close()
