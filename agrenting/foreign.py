"""What other processes on the same database have done: the command line, while this server runs.

SQLite says cheaply whether anybody else has committed. What they have decided they leave as announcements: broadcasts
for our sockets, and socket ids to disconnect (a rotated key, a suspended agent).
"""

import asyncio

import structlog

from agrenting.announcements import decode
from agrenting.db.transaction import ReaderTx, Row
from agrenting.engine import Engine
from agrenting.hub import Hub

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
            self._hub.publish(announcement.broadcasts, None, None)
            for socket_id in announcement.disconnects:
                self._hub.disconnect(socket_id)
            self._hub.disconnect_keys(announcement.dead_keys)
        self._is_behind = False

    def _news(self, tx: ReaderTx) -> list[Row]:
        return tx.all("SELECT id, body FROM announcements WHERE id > :told ORDER BY id", told=self._told)
