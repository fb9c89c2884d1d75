"""Timers: rows with a due time, each of which ends in an ordinary decision. A restart loses none.

They are looked for once in a while; nothing depends on when, because a due time decides by the clock, also before its
timer has run.
"""

import asyncio
from datetime import timedelta

import structlog

from agrenting.clock import from_ms, to_ms
from agrenting.db.changes import set_timer
from agrenting.db.transaction import ReaderTx, WriterTx
from agrenting.deciding import THE_HOUSE, Command
from agrenting.engine import Engine
from channels.changes import Timer
from channels.handlers import Empty
from channels.routes import Routes
from channels.told import Told

log = structlog.get_logger(__name__)

DUE_AT_ONCE = 256
RETRY_AFTER_S = 60

Due = tuple[str, str]
"""Topic and kind of a timer that is due."""


class Timers:
    """Runs due timers.

    Args:
        engine: Where they are decided.
        routes: Which module a topic's timers belong to.
        poll_s: How often due ones are looked for.
    """

    def __init__(self, engine: Engine, routes: Routes, *, poll_s: float) -> None:
        self._engine = engine
        self._routes = routes
        self._poll_s = poll_s
        self.due_count = 0

    async def run_for_ever(self) -> None:
        """Run what is due, wait, and look again, until cancelled."""
        while True:
            try:
                await self.run_due()
            except Exception:
                log.exception("timers_failed")
            await asyncio.sleep(self._poll_s)

    async def run_due(self) -> int:
        """Run every timer that is due now; how many ran."""
        ran = 0
        while due := await self._engine.read(self._due):
            self.due_count = len(due)
            await asyncio.gather(*(self._run(topic, kind) for topic, kind in due))
            ran += len(due)
        self.due_count = 0
        return ran

    def _due(self, tx: ReaderTx) -> list[Due]:
        rows = tx.all(
            "SELECT topic, kind FROM timers WHERE due_at <= :now ORDER BY due_at LIMIT :limit",
            now=to_ms(self._engine.clock()),
            limit=DUE_AT_ONCE,
        )
        return [(row[0], row[1]) for row in rows]

    async def _run(self, topic: str, kind: str) -> None:
        try:
            await self._engine.change(lambda tx: (None, self._decide(tx, topic, kind)), topic=topic)
        except Exception:
            log.exception("timer_failed", topic=topic, timer=kind)
            await self._engine.change(lambda tx: (None, self._put_off(tx, topic, kind)))

    def _put_off(self, tx: WriterTx, topic: str, kind: str) -> tuple[Told, ...]:
        set_timer(tx, Timer(kind, topic, self._engine.clock() + timedelta(seconds=RETRY_AFTER_S)))
        return ()

    def _decide(self, tx: WriterTx, topic: str, kind: str) -> tuple[Told, ...]:
        row = tx.one("SELECT due_at FROM timers WHERE topic = :topic AND kind = :kind", topic=topic, kind=kind)
        if row is None or from_ms(row[0]) > self._engine.clock():
            return ()  # Disarmed or put off meanwhile.
        set_timer(tx, Timer(kind, topic, None))
        clock = self._routes.clock(topic, kind)
        command = Command(handler=clock, topic=topic, request=Empty(), sender=THE_HOUSE)
        return self._engine.decide(tx, command).broadcasts
