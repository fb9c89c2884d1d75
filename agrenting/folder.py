"""A data folder, looked at and worked on from the command line, whether or not a server is running on it.

Every change is one transaction on the same file; a running server is told what concerns its sockets by an announcement
in that same transaction (foreign.py).
"""

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from agrenting.announcements import Announcement, announce
from agrenting.clock import system_clock, to_ms
from agrenting.config import Settings
from agrenting.db.database import open_writer
from agrenting.db.following import Follower
from agrenting.db.migrate import migrate
from agrenting.db.transaction import Tx, WriterTx
from agrenting.market import fix_market
from channels.limits import Market

T = TypeVar("T")


class Folder:
    """An open data folder: one change at a time, each a transaction of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.folder.mkdir(parents=True, exist_ok=True)
        migrate(settings.database_path)

    @property
    def path(self) -> Path:
        """The database file."""
        return self.settings.database_path

    @contextmanager
    def transaction(self) -> Generator[WriterTx, None, None]:
        """A writing transaction, durable when the block ends well, undone when it raises."""
        with closing(open_writer(self.path, busy_timeout_s=self.settings.busy_timeout_s)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield WriterTx(connection, {})
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def look(self, question: Callable[[Tx], T]) -> T:
        """Answer a question on one snapshot: it waits for nobody who writes, and nobody who writes waits for it."""
        with closing(open_writer(self.path, busy_timeout_s=self.settings.busy_timeout_s)) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("BEGIN")
            return question(WriterTx(connection, {}))

    def change(self, change: Callable[[WriterTx, Market], tuple[T, Announcement]]) -> T:
        """Run a change, and leave its announcement for a running server.

        Raises:
            Refusal: What `change` refused. Nothing has happened then.
        """
        with self.transaction() as tx:
            follower = Follower(system_clock)
            market = follower.market = fix_market(tx, self.settings)
            outcome, announcement = change(tx, market)
            followed = follower.follow(tx) if tx.happened else None
            if followed is not None:
                follower.flush(tx)
                announcement = msgspec.structs.replace(announcement, broadcasts=(*announcement.broadcasts, *followed))
            if announcement != Announcement():
                announce(tx, announcement, now_ms=to_ms(system_clock()))
            return outcome
