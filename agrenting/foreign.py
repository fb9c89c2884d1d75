"""What other processes on the same database have done: the command line, while this server runs.

SQLite says cheaply whether anybody else has committed. What they have decided they leave as announcements: broadcasts
for our sockets, ties that have changed, and socket ids to disconnect (a rotated key, a suspended agent).

An announcement is read later than it was decided, and this server may have decided about the same two meanwhile. So a
tie is told as it stands when it is told, in its place among our own decisions, not as it was announced.
"""

import asyncio

import structlog

from agrenting.announcements import decode
from agrenting.db import contacts
from agrenting.db.commit import StorageUnavailable
from agrenting.db.transaction import ReaderTx, Row, WriterTx
from agrenting.engine import Engine
from agrenting.hub import Hub
from channels.told import Retied, Told

log = structlog.get_logger(__name__)


class ForeignChanges:
    """Tells our sockets what other processes have announced.

    Args:
        engine: Whose database is watched.
        hub: Whose sockets are told.
        poll_s: How often it looks.
    """

    def __init__(self, engine: Engine, hub: Hub, *, poll_s: float) -> None:
        self._engine = engine
        self._hub = hub
        self._poll_s = poll_s
        self._told = 0
        self._is_behind = False

    async def begin(self) -> None:
        """What was announced before this start concerns nobody who is connected."""
        row = await self._engine.read(lambda tx: tx.one("SELECT coalesce(max(id), 0) FROM announcements"))
        self._told = row[0] if row is not None else 0

    async def run_for_ever(self) -> None:
        """Look, tell, wait, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.tell()
            except Exception:
                log.exception("announcements_failed")

    async def tell(self) -> None:
        """Tell what has been announced since the last time."""
        if not await self._engine.database.foreign_changes() and not self._is_behind:
            return
        self._is_behind = True  # Until all is told: should that fail, the next look tries again.
        for number, body in await self._engine.read(self._news):
            self._told = number
            announcement = decode(body)
            try:
                await self._publish(announcement.broadcasts)
            except StorageUnavailable:
                self._told = number - 1  # Nothing of it has been told.
                raise
            for socket_id in announcement.disconnects:
                self._hub.disconnect(socket_id)
            self._hub.disconnect_keys(announcement.dead_keys)
        self._is_behind = False

    def _news(self, tx: ReaderTx) -> list[Row]:
        return tx.all("SELECT id, body FROM announcements WHERE id > :told ORDER BY id", told=self._told)

    async def _publish(self, announced: tuple[Told, ...]) -> None:
        if any(isinstance(one, Retied) for one in announced):
            await self._engine.change(lambda tx: (None, self._as_they_stand(tx, announced)))
        else:
            self._engine.tell(announced)

    def _as_they_stand(self, tx: WriterTx, announced: tuple[Told, ...]) -> tuple[Told, ...]:
        now = self._engine.clock()
        return tuple(
            Retied(one.a_id, one.b_id, contacts.tie(tx, one.a_id, one.b_id, now=now))
            if isinstance(one, Retied)
            else one
            for one in announced
        )
