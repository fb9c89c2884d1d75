"""Whether the sums of analytics are what their sources say: the hours against those, the rest against the hours.

Minutes are counted with the hours that they lie in, so it makes no difference what has been folded.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import add
from typing import Final, NamedTuple

from agrenting.clock import from_ms, to_ms
from agrenting.db import rollups
from agrenting.db.rollup_sources import all_facts
from agrenting.db.rollups import ALL_TIME, DAY, HOUR, MINUTE, start_of
from agrenting.db.transaction import Row, Tx
from channels.counting import SUMS, Facts

TOLD_MAX: Final = 100
"""Differences that are told one by one; of the others, how many there are."""

_MESSAGES: Final = "messages_in"
_SPAN_NAMES: Final = {HOUR: "the hour", DAY: "the day"}

Key = tuple[str | int, ...]
"""The start of a bucket, and what the row counts besides."""

Rows = dict[Key, Row]


class _Table(NamedTuple):
    """One of the tables of sums.

    Args:
        name: Its name.
        keys: What a row counts besides its scope and time.
        columns: What it counts, 0 in a row that is not there.
    """

    name: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]


_TABLES: Final = (
    _Table("rollups", (), SUMS),
    _Table("rollup_revenue", ("kind", "name"), ("gross", "fees")),
    _Table("rollup_latencies", ("bucket",), ("count",)),
)


def doctor(tx: Tx, *, messages_since: datetime) -> list[str]:
    """Every difference between the sums that there are and those that the sources make.

    Messages are deleted some time after their end: of the hours before, there must be no more of them than were
    counted. The reputation of an agent that was deleted is passed over.

    Args:
        tx: A transaction in which nothing else changes.
        messages_since: Since when every message that was received is there still.
    """
    told: list[str] = []
    count = 0
    for difference in _differences(tx, to_ms(messages_since)):
        count += 1
        if len(told) < TOLD_MAX:
            told.append(difference)
    return [*told, f"and {count - TOLD_MAX} more differences of the sums"] if count > TOLD_MAX else told


def _differences(tx: Tx, messages_since_ms: int) -> Iterator[str]:
    scopes: set[str] = set()
    totals: dict[tuple[str, str, str], list[int]] = {}
    for scope, facts in all_facts(tx):
        scopes.add(scope)
        totals |= facts.totals
        for table, expected in zip(_TABLES, _expected(facts), strict=True):
            yield from _of_table(tx, scope, table, expected, messages_since_ms)
        yield from _of_reputation(tx, scope, facts)
    yield from _of_totals(tx, totals)
    for table in _TABLES:
        for (scope,) in tx.all(f"SELECT DISTINCT scope FROM {table.name}"):
            if scope not in scopes:
                yield f"{table.name} counts for {scope}, which is nobody"


def _expected(facts: Facts) -> tuple[Rows, Rows, Rows]:
    return (
        {(start,): tuple(row) for (_, start), row in facts.sums.items()},
        {(start, kind, name): tuple(row) for (_, start, kind, name), row in facts.revenue.items()},
        {(start, bucket): (count,) for (_, start, bucket), count in facts.latencies.items()},
    )


def _of_table(tx: Tx, scope: str, table: _Table, expected: Rows, messages_since_ms: int) -> Iterator[str]:
    by_span: dict[int, Rows] = {MINUTE: {}, HOUR: {}, DAY: {}, ALL_TIME: {}}
    names = ", ".join(("span", "start", *table.keys, *table.columns))
    width = 2 + len(table.keys)
    for row in tx.all(f"SELECT {names} FROM {table.name} WHERE scope = :scope", scope=scope):
        by_span[row[0]][row[1:width]] = row[width:]
    stored = _gathered((by_span[HOUR], by_span[MINUTE]), HOUR)
    for key, has, says in _unequal(stored, expected, table):
        for column, a, b in zip(table.columns, has, says, strict=True):
            is_past = column == _MESSAGES and int(key[0]) < messages_since_ms
            if a < b if is_past else a != b:
                yield _sentence(scope, table, column, key, span=HOUR, has=a, says=f"its sources say {b}")
    for span in (DAY, ALL_TIME):
        for key, has, says in _unequal(by_span[span], _gathered((by_span[HOUR],), span), table):
            for column, a, b in zip(table.columns, has, says, strict=True):
                if a != b:
                    yield _sentence(scope, table, column, key, span=span, has=a, says=f"its hours say {b}")


def _gathered(tables: Iterable[Rows], span: int) -> Rows:
    """Rows in buckets of another span."""
    found: Rows = {}
    for rows in tables:
        for (start, *keys), values in rows.items():
            key = (start_of(int(start), span), *keys)
            there = found.get(key)
            found[key] = values if there is None else tuple(map(add, there, values))
    return found


def _unequal(stored: Rows, expected: Rows, table: _Table) -> Iterator[tuple[Key, Row, Row]]:
    nothing = (0,) * len(table.columns)
    for key, has in stored.items():
        says = expected.get(key, nothing)
        if has != says:
            yield key, has, says
    for key, says in expected.items():
        if key not in stored and says != nothing:
            yield key, nothing, says


def _of_reputation(tx: Tx, scope: str, facts: Facts) -> Iterator[str]:
    """The last one of every hour, day and all time, as far as that has been folded."""
    expected = {start: reputation for (_, start), reputation in facts.reputations.items()}
    if not expected:
        return
    hours: dict[int, int] = {}
    folded: dict[int, dict[int, int]] = {HOUR: {}, DAY: {}, ALL_TIME: {}}
    for span, start, reputation in tx.all(
        "SELECT span, start, reputation_centi FROM rollups WHERE scope = :scope AND reputation_centi IS NOT NULL"
        " ORDER BY start, span DESC",
        scope=scope,
    ):
        if span in {HOUR, MINUTE}:
            hours[start_of(start, HOUR)] = reputation
        if span in folded:
            folded[span][start] = reputation
    sources = "its sources say"
    yield from _reputations(scope, hours, expected, HOUR, sources)
    for span in (DAY, ALL_TIME):
        last = {start_of(start, span): value for start, value in sorted(folded[HOUR].items())}
        yield from _reputations(scope, folded[span], last, span, "its hours say")


def _reputations(scope: str, stored: dict[int, int], expected: dict[int, int], span: int, who: str) -> Iterator[str]:
    for start in sorted(stored.keys() | expected.keys()):
        has, says = stored.get(start), expected.get(start)
        if has != says:
            yield _sentence(
                scope, _TABLES[0], rollups.REPUTATION, (start,), span=span, has=has, says=f"{who} {_or_none(says)}"
            )


def _of_totals(tx: Tx, expected: dict[tuple[str, str, str], list[int]]) -> Iterator[str]:
    columns = ("completed", "failed", "execution_ms", "executions")
    stored = {
        tuple(row[:3]): list(row[3:])
        for row in tx.all(f"SELECT capability, agent_id, owner_id, {', '.join(columns)} FROM capability_totals")
    }
    nothing = [0] * len(columns)
    for key in sorted(stored.keys() | expected.keys()):
        has, says = stored.get(key, nothing), expected.get(key, nothing)
        for column, a, b in zip(columns, has, says, strict=True):
            if a != b:
                capability, agent_id, owner_id = key
                yield (
                    f"agent:{agent_id} of user {owner_id} has {column} {a} of {capability} in all time, its tasks"
                    f" say {b}"
                )


def _sentence(scope: str, table: _Table, column: str, key: Key, *, span: int, has: int | None, says: str) -> str:
    start, *keys = key
    when = "all time" if span == ALL_TIME else f"{_SPAN_NAMES[span]} from {from_ms(int(start)):%Y-%m-%dT%H:%MZ}"
    of = "".join(f" of {name} {value}" for name, value in zip(table.keys, keys, strict=True))
    return f"{scope} has {column} {_or_none(has)}{of} in {when}, {says}"


def _or_none(number: int | None) -> str:
    return "none" if number is None else str(number)
