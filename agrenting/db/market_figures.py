"""What `/metrics` tells of the market: the sums over all time that the roll-ups keep, and what stands right now.

What the first of the two costs depends neither on how many tasks there ever were nor on how many accounts there are;
the second counts rows one by one, and is asked more rarely.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from agrenting.db import analytics, rollups
from agrenting.db.transaction import Tx
from channels import analytics_answers as answers
from channels.alerts import Severity
from channels.analytics_answers import Sums
from channels.discovery import PRESENCES
from channels.limits import Market
from channels.scopes import GLOBAL

ABSENT: Final = "offline"


class MarketFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The market at one time.

    Args:
        ever: The sums over all time, of the whole market.
        minutes_pending: Minutes of the roll-ups that wait to be folded.
        market: Whose they are.
    """

    ever: Sums
    minutes_pending: int
    market: Market

    @property
    def tasks_open(self) -> int:
        """Tasks that have not ended."""
        return answers.active(self.ever)

    @property
    def volume(self) -> int:
        """What tasks and transfers have ever paid, nothing twice, in minor units."""
        return self.ever["revenue_gross"] - self.ever["revenue_streamed"] + self.ever["transfers_in_amount"]


class CountedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What is counted row by row.

    Args:
        agents: Active agents by presence.
        alerts: Unresolved ones by severity.
        ledger_difference: The sum over all accounts, which must be 0.
    """

    agents: Mapping[str, int]
    alerts: Mapping[str, int]
    ledger_difference: int


def market_figures(tx: Tx, *, now: datetime, market: Market) -> MarketFigures:
    """The sums over all time, and what waits to be folded."""
    found = analytics.StoredFigures(tx, now=now, market=market)
    return MarketFigures(ever=found.sums(GLOBAL), minutes_pending=rollups.pending(tx, now), market=market)


def counted_figures(tx: Tx) -> CountedFigures:
    """Agents, unresolved alerts, and the sum over all accounts."""
    present = tx.all("SELECT presence, count(*) FROM listings WHERE capability = '' GROUP BY presence")
    unresolved = tx.all(
        "SELECT severity, count(*) FROM alerts WHERE status IN ('active', 'acknowledged') GROUP BY severity"
    )
    total = tx.one("SELECT coalesce(sum(balance), 0) FROM accounts")
    return CountedFigures(
        agents=dict.fromkeys((*PRESENCES, ABSENT), 0) | {row[0]: row[1] for row in present},
        alerts={str(severity): 0 for severity in Severity} | {row[0]: row[1] for row in unresolved},
        ledger_difference=0 if total is None else int(total[0]),
    )


def file_bytes(path: Path) -> dict[str, int]:
    """How large the database is on disk: itself, and what is not yet moved into it."""
    files = {"main": path, "wal": path.with_name(f"{path.name}-wal")}
    return {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}
