"""The check of the ledger that runs beside everything else, and raises `ledger_mismatch` where it does not add up.

Each time it looks at all accounts together: they sum to nothing, and none but `external` is below zero. Then, as long
as its time lasts, it goes on with its round through the single accounts, each of which holds what its postings sum to,
and through the entries, each of which sums to nothing over two postings at least. So what a look costs does not grow
with the history, but for that one sum; how long a round takes does. Accounts with very many postings are not summed up
by themselves; but where all other accounts, all entries and the sum of all are right, so is the sum of these.

The alert is over once a whole round has found nothing. What the money stands for, such as a task's escrow or a
channel's lock, `agrenting doctor` compares.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from agrenting.db import alerts
from agrenting.db.transaction import ReaderTx, Row
from agrenting.engine import Engine
from channels.ledger import EXTERNAL

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.5
"""How long a look goes on with its round; the part that it is at when that is over, it finishes."""

PART: Final = 500
"""Accounts, or entries, that are looked at in one transaction."""

POSTINGS_MAX: Final = 20_000
"""An account with more postings is not summed up by itself, as mostly those of the house: that would take too long."""

LOGGED_MAX: Final = 20

TOTALS: Final = "SELECT coalesce(sum(balance), 0), coalesce(sum(balance < 0 AND name != :external), 0) FROM accounts"
ACCOUNTS: Final = """
SELECT a.name, a.balance, CASE
    WHEN (SELECT count(*) FROM (SELECT 1 FROM postings p WHERE p.account = a.name LIMIT :most + 1)) > :most THEN NULL
    ELSE coalesce((SELECT sum(p.amount) FROM postings p WHERE p.account = a.name), 0) END
FROM (SELECT name, balance FROM accounts WHERE name > :after ORDER BY name LIMIT :limit) a ORDER BY a.name
"""
ENTRIES: Final = """
SELECT e.id, coalesce(sum(p.amount), 0), count(p.entry_id)
FROM (SELECT id FROM ledger_entries WHERE id > :after ORDER BY id LIMIT :limit) e
LEFT JOIN postings p ON p.entry_id = e.id GROUP BY e.id ORDER BY e.id
"""


def _wrong_account(row: Row) -> str | None:
    name, held, posted = row
    return None if posted is None or held == posted else f"account {name} holds {held}, its postings sum to {posted}"


def _wrong_entry(row: Row) -> str | None:
    entry_id, amount, postings = row
    return f"entry {entry_id} is out of balance by {amount}, over {postings}" if amount or postings < 2 else None  # noqa: PLR2004 - from somewhere to somewhere


class Lap(NamedTuple):
    """One of the walks of a round: what is asked for the rows after a key, and what is wrong with a row."""

    sql: str
    wrong: Callable[[Row], str | None]


LAPS: Final = (Lap(ACCOUNTS, _wrong_account), Lap(ENTRIES, _wrong_entry))


class LedgerCheck:
    """Checks one database.

    Args:
        engine: Of the database.
        every_s: How often it looks.
        look_s: How long a look goes on with its round.
        part: Rows that are looked at in one transaction.
        most: Postings of an account that is summed up by itself.
        monotonic: Seconds that only grow.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        every_s: float,
        look_s: float = LOOK_S,
        part: int = PART,
        most: int = POSTINGS_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._every_s = every_s
        self._look_s = look_s
        self._part = part
        self._most = most
        self._monotonic = monotonic
        self._lap = 0
        self._after = ""
        self._is_sound = True
        """Whether this round has found nothing so far."""

    async def run_for_ever(self) -> None:
        """Look, wait, and look again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("ledger_check_failed")
            await asyncio.sleep(self._every_s)

    async def look(self) -> list[str]:
        """Look once; what is wrong."""
        until = self._monotonic() + self._look_s
        wrong = await self._engine.read(_totals)
        is_round_over = False
        while not is_round_over:
            wrong += await self._engine.read(self._walk_on)
            is_round_over = self._lap == len(LAPS)
            if self._monotonic() >= until:
                break
        self._is_sound = self._is_sound and not wrong
        if wrong:
            log.critical("ledger_mismatch", differences=wrong[:LOGGED_MAX], count=len(wrong))
            await self._tell(len(wrong))
        if is_round_over:
            if self._is_sound and await self._engine.read(alerts.is_mismatch_open):
                await self._tell(0)
            self._lap, self._after, self._is_sound = 0, "", True
        return wrong

    def _walk_on(self, tx: ReaderTx) -> list[str]:
        """Look at the next rows of the round."""
        lap = LAPS[self._lap]
        rows = tx.all(lap.sql, after=self._after, limit=self._part, most=self._most)
        if len(rows) == self._part:
            self._after = rows[-1][0]
        else:
            self._lap, self._after = self._lap + 1, ""
        return [sentence for row in rows if (sentence := lap.wrong(row)) is not None]

    async def _tell(self, differences: int) -> None:
        engine = self._engine
        await engine.change(
            lambda tx: (
                None,
                alerts.follow_check(tx, differences, now=engine.clock(), market=engine.market),
            )
        )


def _totals(tx: ReaderTx) -> list[str]:
    row = tx.one(TOTALS, external=EXTERNAL)
    assert row is not None, "an aggregate has one row"
    total, below_zero = row
    wrong = [f"all accounts together hold {total}, not 0"] if total else []
    return [*wrong, f"{below_zero} accounts are below zero"] if below_zero else wrong
