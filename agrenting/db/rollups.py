"""Roll-ups: the sums that analytics tells, kept in the transaction of what they count.

    a batch's facts ── flush ──► minutes ── fold, after two hours ──► hours, days, all time

Folding moves and never copies: a sum over any time is that of its coarse buckets and of the minutes in it that have not
been folded yet, so it is exact before, during and after a fold. What comes late, such as the correction of an old task,
is a minute again, and folded again.

Why minutes first: a batch touches one row of each scope, which the next batches touch again; a row each of an hour, a
day and all time would cost every event three times as much.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from agrenting.clock import to_ms
from agrenting.db.transaction import Row, Tx, WriterTx
from channels.facts import SUMS, Facts

MINUTE, HOUR, DAY, ALL_TIME = 60, 3_600, 86_400, 0
"""Spans of buckets, in seconds; that of all time begins at 0."""

COARSE: Final = (HOUR, DAY, ALL_TIME)
REPUTATION: Final = "reputation_centi"
FOLDED_AT_ONCE: Final = 24
"""Scopes of an hour that one call folds: everybody waits for it meanwhile."""

_HOUR_MS: Final = HOUR * 1_000
_LOOKED_AT: Final = 512
"""Minutes among which one call looks for them."""

_MINUTES: Final = "scope = :scope AND span = 60 AND start >= :since AND start < :until"
_MINUTES_OF_KINDS: Final = (
    "scope = :scope AND span = 60 AND kind IN ('capability', 'counterparty') AND start >= :since AND start < :until"
)
_WITHIN: Final = "scope = :scope AND span IN (:span, 60) AND start >= :since AND start < :until"
"""Buckets of a span, and the minutes that have not been folded into them."""

_HOURS_OF_WEEK: Final = 168
_FIRST_HOUR: Final = 72
"""1970 began on a Thursday: three days into the week."""

_ADDED: Final = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
_NEWER: Final = f"{REPUTATION} = coalesce(excluded.{REPUTATION}, {REPUTATION})"
_SUMS: Final = ", ".join(SUMS)

_ADD_SUMS: Final = (
    f"INSERT INTO rollups (scope, start, span, {_SUMS}, {REPUTATION})"
    f" VALUES (?, ?, ?, {', '.join('?' for _ in SUMS)}, ?)"
    f" ON CONFLICT (scope, span, start) DO UPDATE SET {_ADDED}, {_NEWER}"
)
_ADD_REVENUE: Final = (
    "INSERT INTO rollup_revenue (scope, start, kind, name, span, gross, fees) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, span, kind, start, name) DO UPDATE SET gross = gross + excluded.gross,"
    " fees = fees + excluded.fees"
)
_ADD_LATENCIES: Final = (
    "INSERT INTO rollup_latencies (scope, start, bucket, span, count) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, span, start, bucket) DO UPDATE SET count = count + excluded.count"
)
_ADD_TOTALS: Final = (
    "INSERT INTO capability_totals (capability, agent_id, owner_id, completed, failed, execution_ms, executions)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (capability, agent_id) DO UPDATE SET"
    " completed = completed + excluded.completed, failed = failed + excluded.failed,"
    " execution_ms = execution_ms + excluded.execution_ms, executions = executions + excluded.executions"
)


# Writing.


def flush(tx: WriterTx, facts: Facts) -> None:
    """Add a batch's facts to the minutes that they happened in."""
    add(tx, facts, span=MINUTE)
    tx.run_many(_ADD_TOTALS, [(*key, *amounts) for key, amounts in facts.totals.items()])


def add(tx: WriterTx, facts: Facts, *, span: int) -> None:
    """Add facts, whose times are starts of buckets of that span, but for the totals by capability."""
    reputations = facts.reputations
    tx.run_many(
        _ADD_SUMS, [(*bucket, span, *row, reputations.get(bucket)) for bucket, row in sorted(facts.sums.items())]
    )
    if facts.revenue:
        tx.run_many(_ADD_REVENUE, [(*key, span, *parts) for key, parts in facts.revenue.items()])
    if facts.latencies:
        tx.run_many(_ADD_LATENCIES, [(*key, span, count) for key, count in facts.latencies.items()])


def at_span(facts: Facts, span: int) -> Facts:
    """The same facts, gathered in buckets of another span, but for the totals by capability."""
    coarse = Facts()
    for (scope, start), row in facts.sums.items():
        coarse.add_row(scope, start_of(start, span), row)
    for (scope, start), reputation in sorted(facts.reputations.items()):
        coarse.reputations[scope, start_of(start, span)] = reputation  # The last one of a bucket is its.
    for (scope, start, kind, name), (gross, fees) in facts.revenue.items():
        parts = coarse.revenue.setdefault((scope, start_of(start, span), kind, name), [0, 0])
        parts[0] += gross
        parts[1] += fees
    for (scope, start, bucket), count in facts.latencies.items():
        key = (scope, start_of(start, span), bucket)
        coarse.latencies[key] = coarse.latencies.get(key, 0) + count
    return coarse


def add_coarse(tx: WriterTx, facts: Facts) -> None:
    """Add facts to hours, days and all time, but for the totals by capability."""
    for span in COARSE:
        facts = at_span(facts, span)  # Days are made of hours, and all time is made of days.
        add(tx, facts, span=span)


def start_of(moment_ms: int, span: int) -> int:
    """Where the bucket of that span begins that a moment lies in."""
    return moment_ms - moment_ms % (span * 1_000) if span else 0


# Folding.


def folded_before(now: datetime) -> int:
    """Minutes before this are folded, in milliseconds since 1970: a whole hour is left, and the current one."""
    now_ms = to_ms(now)
    return now_ms - now_ms % _HOUR_MS - _HOUR_MS


def pending(tx: Tx, now: datetime) -> int:
    """How many minutes of all scopes wait to be folded."""
    row = tx.one("SELECT count(*) FROM rollups WHERE span = 60 AND start < :before", before=folded_before(now))
    return 0 if row is None else int(row[0])


def fold(tx: WriterTx, now: datetime) -> bool:
    """Move some of the oldest minutes into hours, days and all time; whether there is more to move."""
    rows = tx.all(
        "SELECT scope, start - start % :hour FROM rollups WHERE span = 60 AND start < :before"
        " ORDER BY start LIMIT :limit",
        before=folded_before(now),
        hour=_HOUR_MS,
        limit=_LOOKED_AT,
    )
    found = list(dict.fromkeys((row[0], row[1]) for row in rows))
    for scope, hour in found[:FOLDED_AT_ONCE]:
        _fold_hour(tx, scope, hour)
    return len(found) > FOLDED_AT_ONCE or len(rows) == _LOOKED_AT


def _fold_hour(tx: WriterTx, scope: str, hour: int) -> None:
    """Move an hour of a scope. Whatever has minutes has rows of sums in them."""
    within = {"scope": scope, "since": hour, "until": hour + _HOUR_MS}
    facts = Facts()
    bucket = (scope, hour)
    for *row, reputation in tx.all(
        f"SELECT {_SUMS}, {REPUTATION} FROM rollups WHERE {_MINUTES} ORDER BY start", **within
    ):
        facts.add_row(scope, hour, row)
        if reputation is not None:
            facts.reputations[bucket] = reputation
    for kind, name, gross, fees in tx.all(
        f"SELECT kind, name, sum(gross), sum(fees) FROM rollup_revenue WHERE {_MINUTES_OF_KINDS} GROUP BY kind, name",
        **within,
    ):
        facts.revenue[scope, hour, kind, name] = [gross, fees]
    for number, count in tx.all(
        f"SELECT bucket, sum(count) FROM rollup_latencies WHERE {_MINUTES} GROUP BY bucket HAVING sum(count) != 0",
        **within,
    ):
        facts.latencies[scope, hour, number] = count
    add_coarse(tx, facts)
    tx.run(f"DELETE FROM rollups WHERE {_MINUTES}", **within)
    if facts.revenue:
        tx.run(f"DELETE FROM rollup_revenue WHERE {_MINUTES_OF_KINDS}", **within)
    tx.run(f"DELETE FROM rollup_latencies WHERE {_MINUTES}", **within)


# Reading: `since` and `until` are milliseconds since 1970, both starts of buckets of `span` seconds. Minutes are told
# of the last hour alone; for all time `since` is 0 and `span` ALL_TIME.


def sums(tx: Tx, scope: str, *, since: int, until: int, span: int) -> dict[str, int]:
    """What a scope counts from `since` on and before `until`: a number for each of SUMS."""
    totals = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS)
    row = tx.one(f"SELECT {totals} FROM rollups WHERE {_WITHIN}", scope=scope, since=since, until=until, span=span)
    assert row is not None, "an aggregate has one row"
    return dict(zip(SUMS, row, strict=True))


def series(tx: Tx, scope: str, *, since: int, until: int, span: int, columns: Sequence[str]) -> list[Row]:
    """Some of SUMS in each bucket that counts something: its start and one number for each column, in order."""
    assert set(columns) <= set(SUMS), "columns come from here alone, never from input"
    totals = ", ".join(f"sum({name})" for name in columns)
    return tx.all(
        f"SELECT start - start % :bucket AS began, {totals} FROM rollups WHERE {_WITHIN} GROUP BY began ORDER BY began",
        scope=scope,
        since=since,
        until=until,
        span=span,
        bucket=span * 1_000,
    )


def reputations(tx: Tx, scope: str, *, since: int, until: int, span: int) -> list[tuple[int, int]]:
    """The reputation at the end of each bucket in which it became another one: its start, and hundredths of a star."""
    rows = tx.all(
        f"SELECT start - start % :bucket, {REPUTATION} FROM rollups WHERE {_WITHIN} AND {REPUTATION} IS NOT NULL"
        " ORDER BY start, span DESC",
        scope=scope,
        since=since,
        until=until,
        span=span,
        bucket=span * 1_000,
    )
    return list(dict(map(_pair, rows)).items())


def reputation_before(tx: Tx, scope: str, *, until: int, span: int) -> int | None:
    """The reputation before a moment, in hundredths of a star; None where there was none yet."""
    rows = [
        tx.one(
            f"SELECT start, {REPUTATION} FROM rollups WHERE scope = :scope AND span = :span AND start < :until"
            f" AND {REPUTATION} IS NOT NULL ORDER BY start DESC LIMIT 1",
            scope=scope,
            until=until,
            span=one,
        )
        for one in (span, MINUTE)
    ]
    newest = max((row for row in rows if row is not None), default=None)
    return None if newest is None else int(newest[1])


def latencies(tx: Tx, scope: str, *, since: int, until: int, span: int) -> dict[int, int]:
    """How many of a scope's tasks took how long: bucket of the histogram → count."""
    rows = tx.all(
        f"SELECT bucket, sum(count) FROM rollup_latencies WHERE {_WITHIN} GROUP BY bucket HAVING sum(count) != 0",
        scope=scope,
        since=since,
        until=until,
        span=span,
    )
    return dict(map(_pair, rows))


def latency_series(tx: Tx, scope: str, *, since: int, until: int, span: int) -> dict[int, dict[int, int]]:
    """The same in each bucket of time in which a task was completed: its start → bucket of the histogram → count."""
    # One row for each bucket of time: tens of thousands would take their time, one by one.
    rows = tx.all(
        "SELECT start, group_concat(bucket), group_concat(count) FROM rollup_latencies"
        f" WHERE {_WITHIN} GROUP BY span, start",
        scope=scope,
        since=since,
        until=until,
        span=span,
    )
    found: dict[int, dict[int, int]] = {}
    for start, buckets, numbers in rows:
        counts = found.setdefault(start_of(start, span), {})
        for bucket, count in zip(map(int, buckets.split(",")), map(int, numbers.split(",")), strict=True):
            counts[bucket] = counts.get(bucket, 0) + count
    return {
        start: counts
        for start, both in sorted(found.items())
        if (counts := {bucket: count for bucket, count in both.items() if count})
    }


def revenue_by(
    tx: Tx,
    scope: str,
    kind: Literal["capability", "counterparty"],
    *,
    since: int,
    until: int,
    span: int,
    limit: int = -1,
) -> list[tuple[str, int, int]]:
    """What a scope has earned by each capability, or from each counterparty: name, gross and fees, largest first.

    Args:
        tx: Any transaction.
        scope: An agent's or a user's: the market as a whole keeps none.
        kind: By what.
        since, until, span: As everywhere here.
        limit: At most so many; all without.
    """
    rows = tx.all(
        "SELECT name, sum(gross), sum(fees) FROM rollup_revenue WHERE scope = :scope AND span IN (:span, 60)"
        " AND kind = :kind AND start >= :since AND start < :until GROUP BY name ORDER BY 2 DESC, name LIMIT :limit",
        scope=scope,
        kind=kind,
        since=since,
        until=until,
        span=span,
        limit=limit,
    )
    return [(row[0], row[1], row[2]) for row in rows]


def heatmap(tx: Tx, scope: str, *, since: int, until: int) -> list[list[int]]:
    """How many tasks were started in each hour of the week: seven lists of 24, Monday first, UTC."""
    counts = [0] * _HOURS_OF_WEEK
    for hour, count in tx.all(
        f"SELECT (start / {_HOUR_MS} + {_FIRST_HOUR}) % {_HOURS_OF_WEEK} AS hour, sum(tasks_started) FROM rollups"
        f" WHERE {_WITHIN} GROUP BY hour",
        scope=scope,
        since=since,
        until=until,
        span=HOUR,
    ):
        counts[hour] = count
    return [counts[first : first + 24] for first in range(0, _HOURS_OF_WEEK, 24)]


def first_start(tx: Tx, scope: str) -> int | None:
    """Where a scope's data begins, in whole hours or minutes; None where it has none."""
    rows = [
        tx.one("SELECT min(start) FROM rollups WHERE scope = :scope AND span = :span", scope=scope, span=span)
        for span in (HOUR, MINUTE)
    ]
    return min((int(row[0]) for row in rows if row is not None and row[0] is not None), default=None)


def _pair(row: Row) -> tuple[int, int]:
    return int(row[0]), int(row[1])
