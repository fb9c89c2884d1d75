"""Database: one writing connection, a few reading ones, and the file they share.

SQLite in WAL mode with `synchronous=FULL`: a commit that was acknowledged survives power loss. Writing goes through
one thread (commit.py); reading through SQLAlchemy and aiosqlite, beside it, on snapshots.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from agrenting.db.commit import BatchObserver, GroupCommit
from agrenting.db.transaction import ReaderTx, WriterTx

T = TypeVar("T")

READERS = 4
CACHED_STATEMENTS = 512


class Database:
    """An open database file.

    Args:
        path: The SQLite file; it exists and has the newest schema (migrate.py sees to that).
        batch_max: Units that share one commit at most.
        busy_timeout_s: How long a commit waits for another process that writes.
        observe: Told of each batch.
    """

    def __init__(
        self,
        path: Path,
        *,
        batch_max: int = 512,
        busy_timeout_s: float = 10.0,
        observe: BatchObserver = lambda _units, _seconds: None,
    ) -> None:
        self.path = path
        self._writer = open_writer(path, busy_timeout_s=busy_timeout_s)
        self.commits = GroupCommit(self._writer, batch_max=batch_max, observe=observe)
        self._readers = _open_readers(path)
        self._reading: set[asyncio.Task[Any]] = set()
        self._seen_version = self._foreign_version()

    async def read(self, question: Callable[[ReaderTx], T]) -> T:
        """Answer a question on one snapshot, beside the writer.

        Who is cancelled waits no longer; the reading itself goes on to its end, so that its connection can be used
        again, or closed.
        """
        reading = asyncio.create_task(self._read(question))
        self._reading.add(reading)
        reading.add_done_callback(self._has_read)
        return await asyncio.shield(reading)

    def _has_read(self, reading: "asyncio.Task[Any]") -> None:
        self._reading.discard(reading)
        if not reading.cancelled():
            reading.exception()  # Whoever asked has it, or wants to know no more.

    async def _read(self, question: Callable[[ReaderTx], T]) -> T:
        def answer(connection: Connection) -> T:
            connection.exec_driver_sql("BEGIN")
            try:
                return question(ReaderTx(connection))
            finally:
                connection.exec_driver_sql("ROLLBACK")

        async with self._readers.connect() as connection:
            return await connection.run_sync(answer)

    async def write(self, change: Callable[[WriterTx], T]) -> T:
        """Run one change and wait until it is durable."""
        return await self.commits.write(change)

    async def foreign_changes(self) -> bool:
        """Whether another process has committed since this was last asked."""

        def ask(_tx: WriterTx) -> bool:
            version = self._foreign_version()
            is_new, self._seen_version = version != self._seen_version, version
            return is_new

        return await self.write(ask)

    async def close(self) -> None:
        """Finish what is under way and close every connection."""
        await self.commits.close()
        while self._reading:
            await asyncio.wait(tuple(self._reading))
        await self._readers.dispose()
        self._writer.close()

    def _foreign_version(self) -> int:
        """SQLite's `data_version` of the writing connection: it changes with other connections' commits only."""
        return int(self._writer.execute("PRAGMA data_version").fetchone()[0])


def open_writer(path: Path, *, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection for one writer thread: WAL, FULL, no implicit transactions."""
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _open_readers(path: Path) -> AsyncEngine:
    readers = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=READERS,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
    )

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    event.listen(readers.sync_engine, "connect", prepare)
    return readers
