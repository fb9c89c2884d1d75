"""Tx: what the statements of a store run on, whether in the writing batch or on a reading connection.

Statements are plain SQL with named parameters (`:id`), because on the money path a query builder costs more than the
query. Rows are tuples.
"""

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection

from channels.changes import Happened

Row = tuple[Any, ...]


class StaleState(Exception):
    """A conditional save found another version than the one decided on; the unit is run again on fresh state."""


class Loaded(NamedTuple):
    """A state as a unit has loaded it: what its saves are conditional on, and where it stood."""

    version: int
    status: str
    state: Any


class Tx(Protocol):
    """One transaction."""

    def one(self, sql: str, **values: Any) -> Row | None:
        """The first row, or None."""
        ...

    def all(self, sql: str, **values: Any) -> list[Row]:
        """Every row."""
        ...

    def run(self, sql: str, **values: Any) -> int:
        """Change rows; how many."""
        ...

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call `undo` if what was done here does not become durable: for caches that went ahead."""
        ...


class WriterTx:
    """One unit's part of the writing batch: a savepoint, begun at its first change."""

    __slots__ = ("_connection", "_has_savepoint", "_undo", "_undo_all", "happened", "loaded", "memory")

    def __init__(
        self,
        connection: sqlite3.Connection,
        memory: dict[str, Any],
        undo_all: list[Callable[[], None]] | None = None,
    ) -> None:
        self._connection = connection
        self.memory = memory
        """What the writer keeps between transactions; who puts something in undoes it on a rollback."""
        self._has_savepoint = False
        self._undo: list[Callable[[], None]] = []
        self._undo_all: list[Callable[[], None]] = [] if undo_all is None else undo_all
        self.loaded: dict[tuple[str, str], Loaded] = {}
        """Each state that this unit has loaded, by its store and its id."""
        self.happened: list[Happened] = []
        """What this unit has done, in order, as far as something follows from it (following.py)."""

    def one(self, sql: str, **values: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = self._connection.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, **values: Any) -> list[Row]:
        """Every row."""
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, **values: Any) -> int:
        """Change rows; how many."""
        if not self._has_savepoint:
            self._connection.execute("SAVEPOINT unit")
            self._has_savepoint = True
        return self._connection.execute(sql, values).rowcount

    def run_many(self, sql: str, rows: Iterable[Row]) -> None:
        """Run one statement for each row, whose values stand for its `?` in order."""
        if not self._has_savepoint:
            self._connection.execute("SAVEPOINT unit")
            self._has_savepoint = True
        self._connection.executemany(sql, rows)

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call `undo` if this does not become durable."""
        self._undo.append(undo)

    def on_failed_commit(self, undo: Callable[[], None]) -> None:
        """Call `undo` if the commit fails that this unit is part of, whatever becomes of the unit itself."""
        self._undo_all.append(undo)

    def keep(self) -> list[Callable[[], None]]:
        """End the unit well; what to undo if the batch fails after all."""
        if self._has_savepoint:
            self._connection.execute("RELEASE unit")
        return self._undo

    def undo(self) -> None:
        """End the unit as if it had never been."""
        if self._has_savepoint:
            self._connection.execute("ROLLBACK TO unit")
            self._connection.execute("RELEASE unit")
        for undo in self._undo:
            undo()


class ReaderTx:
    """A reading transaction on a connection of the pool: one snapshot for all its questions."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def one(self, sql: str, **values: Any) -> Row | None:
        """The first row, or None."""
        row = self._connection.exec_driver_sql(sql, values).fetchone()
        return None if row is None else tuple(row)

    def all(self, sql: str, **values: Any) -> list[Row]:
        """Every row."""
        return [tuple(row) for row in self._connection.exec_driver_sql(sql, values)]

    def run(self, sql: str, **values: Any) -> int:
        """Never: it is a bug to ask."""
        raise AssertionError(f"a reading transaction changes nothing: {sql} {sorted(values)}")

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Nothing goes ahead of a read."""
