"""Folding: what past hours have counted moves from minutes into hours, days and all time, once a minute.

It goes in small steps, between which everybody else's changes are written. Nothing that is told depends on when it
runs, or whether: it bounds how many rows an answer reads, and how many there are.
"""

import asyncio

import structlog

from agrenting.clock import Clock
from agrenting.db import rollups
from agrenting.db.database import Database

log = structlog.get_logger(__name__)

FOLD_EVERY_S = 60.0


class RollupFolding:
    """Folds roll-ups.

    Args:
        database: Where they are.
        clock: The present.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run_for_ever(self) -> None:
        """Fold what is due, wait, and look again, until cancelled."""
        while True:
            try:
                await self.run_due()
            except Exception:
                log.exception("rollup_folding_failed")
            await asyncio.sleep(FOLD_EVERY_S)

    async def run_due(self) -> int:
        """Fold all that is due now; in how many steps."""
        steps = 1
        while await self._database.write(lambda tx: rollups.fold(tx, self._clock())):
            steps += 1
        return steps
