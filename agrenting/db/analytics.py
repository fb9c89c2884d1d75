"""What analytics are answered from: the sums of the roll-ups, and what stands beside them.

Every question is of index ranges: what it costs depends on the number of buckets asked for, not on the number of tasks.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final, TypedDict

from agrenting.clock import from_ms, to_ms
from agrenting.db import agents, rollups, states
from agrenting.db.following import ACTIVITY
from agrenting.db.transaction import Tx, WriterTx
from channels import analytics_answers as answers
from channels.agents import REPUTATION_MAX_CENTI, Agent
from channels.analytics_answers import Earned, Kind, Stats, Sums
from channels.benchmarks import Group, Median, Own
from channels.handlers import Context
from channels.limits import Market
from channels.periods import (
    ALL_S,
    DAY_S,
    HOUR_S,
    MINUTE_S,
    PERIOD_DEFAULT,
    Range,
    floor,
    parse_period,
    range_of,
)
from channels.scopes import GLOBAL, agent_of, user_of
from channels.told import Activity

FRESH_S: Final = 60
"""How old the numbers of a large group may be until they are looked at again, once somebody has asked for them."""

KEPT_S: Final = 600
"""How long they are answered at all."""

KEPT_MAX: Final = 1_000
SMALL_MAX: Final = 100
"""Agents in a group whose numbers are made afresh for every question."""

FRESH_MINUTES: Final = 5
"""The minutes that `tasks_per_minute` looks back, the present one included."""

_HERE: Final = "SELECT owner_id FROM agents WHERE id = :id"
_GONE: Final = "SELECT owner_id FROM former_agents WHERE agent_id = :id"

_MEDIAN: Final = (
    "(SELECT avg({0}) FROM (SELECT {0} FROM v WHERE {0} IS NOT NULL ORDER BY {0}"
    " LIMIT 2 - (SELECT count({0}) FROM v) % 2 OFFSET max(0, ((SELECT count({0}) FROM v) - 1) / 2)))"
)
_NUMBERS: Final = ("price", "rate", "time")
_GROUP: Final = f"""
WITH v AS MATERIALIZED (
    SELECT a.owner_id AS owner,
           CASE WHEN l.price < :none THEN l.price END AS price,
           CASE WHEN t.completed + t.failed > 0 THEN 1.0 * t.completed / (t.completed + t.failed) END AS rate,
           CASE WHEN t.executions > 0 THEN t.execution_ms / t.executions END AS time
    FROM listings l JOIN agents a ON a.id = l.agent_id
    LEFT JOIN capability_totals t ON t.capability = l.capability AND t.agent_id = l.agent_id
    WHERE l.capability = :capability
)
SELECT count(DISTINCT owner), count(*),
       {", ".join(f"count(DISTINCT CASE WHEN {n} IS NOT NULL THEN owner END), {_MEDIAN.format(n)}" for n in _NUMBERS)}
FROM v
"""


class Groups:
    """The numbers of the groups of agents that share a capability; those of large ones are kept for a while.

    Who asks gets what is kept while it is not older than `KEPT_S`; what is older than `FRESH_S` and asked for is due to
    be looked at again, beside.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Group] = OrderedDict()
        self._due: dict[tuple[str, str], None] = {}
        self._lock = Lock()  # Readers ask from threads of their own.

    def of(self, tx: Tx, capability: str, *, market: Market, now: datetime) -> Group:
        """The group of a capability.

        Args:
            market: Whose: a process may serve more than one.
        """
        key = (market.signing_domain, capability)
        with self._lock:
            kept = self._kept.get(key)
            age_s = KEPT_S if kept is None else (now - kept.computed_at).total_seconds()
            if kept is not None and 0 <= age_s < KEPT_S:
                self._kept.move_to_end(key)
                if age_s >= FRESH_S:
                    self._due[key] = None
                return kept
        return self.refresh(tx, capability, market=market, now=now)

    def refresh(self, tx: Tx, capability: str, *, market: Market, now: datetime) -> Group:
        """Look at a group now."""
        key = (market.signing_domain, capability)
        group = _group(tx, capability, now=now)
        with self._lock:
            self._due.pop(key, None)
            self._kept.pop(key, None)
            if group.agents > SMALL_MAX:
                self._kept[key] = group
            if len(self._kept) > KEPT_MAX:
                gone, _ = self._kept.popitem(last=False)
                self._due.pop(gone, None)
        return group

    def due(self, market: Market) -> str | None:
        """A capability of the market whose group is to be looked at again: the one that has waited longest."""
        with self._lock:
            return next((name for domain, name in self._due if domain == market.signing_domain), None)


GROUPS: Final = Groups()


class StoredFigures:
    """The figures of one transaction; see `Figures`.

    Args:
        tx: Where they are.
        now: The server's clock.
        market: Whose they are.
    """

    def __init__(self, tx: Tx, *, now: datetime, market: Market) -> None:
        self._tx = tx
        self._now = now
        self._market = market

    def owner_of(self, agent_id: str) -> str | None:
        """Whose agent it is or was."""
        row = self._tx.one(f"{_HERE} UNION ALL {_GONE}", id=agent_id)
        return None if row is None else str(row[0])

    def begins(self, scope: str) -> datetime | None:
        """When the data of a scope begins."""
        start = rollups.first_start(self._tx, scope)
        return None if start is None else from_ms(start)

    def sums(self, scope: str, over: Range | None = None) -> Sums:
        """The sums of every column."""
        return rollups.sums(self._tx, scope, **_bounds(over, self._now))

    def latencies(self, scope: str, over: Range) -> Mapping[int, int]:
        """How many tasks took how long."""
        return rollups.latencies(self._tx, scope, **_bounds(over, self._now))

    def series(self, scope: str, over: Range, columns: Sequence[str]) -> Mapping[datetime, Sums]:
        """The sums of each interval in which there is something."""
        rows = rollups.series(self._tx, scope, **_bounds(over, self._now), columns=columns)
        return {from_ms(start): dict(zip(columns, sums, strict=True)) for start, *sums in rows}

    def latency_series(self, scope: str, over: Range) -> Mapping[datetime, Mapping[int, int]]:
        """The histogram of each interval in which there is something."""
        found = rollups.latency_series(self._tx, scope, **_bounds(over, self._now))
        return {from_ms(start): counts for start, counts in found.items()}

    def earned(self, scope: str, kind: Kind, over: Range, limit: int) -> list[Earned]:
        """The revenue by capability or counterparty, largest first."""
        rows = rollups.revenue_by(self._tx, scope, kind, **_bounds(over, self._now), limit=limit)
        return [Earned(name, gross, fees) for name, gross, fees in rows]

    def heatmap(self, scope: str, over: Range) -> list[list[int]]:
        """How many tasks were started, by day of the week and hour."""
        return rollups.heatmap(self._tx, scope, since=to_ms(over.since), until=to_ms(over.until))

    def reputation(self, scope: str) -> float | None:
        """An agent's, or the mean of a user's agents, in stars to two decimals."""
        column, id_ = ("id", agent_of(scope)) if agent_of(scope) is not None else ("owner_id", user_of(scope))
        if id_ is None:
            return None
        row = self._tx.one(
            f"SELECT avg(:most - (place >> :bits)) FROM agents WHERE {column} = :id",
            most=REPUTATION_MAX_CENTI,
            bits=agents.NUMBER_BITS,
            id=id_,
        )
        return None if row is None or row[0] is None else round(row[0]) / answers.CENTI

    def reputations(self, agent_id: str, over: Range) -> tuple[int | None, Mapping[datetime, int]]:
        """An agent's last one before a range, and the last one of each interval where it changed, in hundredths."""
        scope, bounds = f"agent:{agent_id}", _bounds(over, self._now)
        before = rollups.reputation_before(self._tx, scope, until=bounds["since"], span=HOUR_S)
        changed = rollups.reputations(self._tx, scope, **bounds)
        return before, {from_ms(start): centi for start, centi in changed}

    def handles(self, agent_ids: Sequence[str]) -> Mapping[str, str]:
        """What agents that are there are called."""
        rows = self._tx.all(
            "SELECT id, handle FROM agents WHERE id IN (SELECT value FROM json_each(:ids))",
            ids=json.dumps(list(agent_ids)),
        )
        return {row[0]: row[1] for row in rows}

    def groups(self, agent_id: str) -> list[tuple[Own, Group]]:
        """An agent's numbers and those of its groups."""
        agent: Agent | None = states.load(self._tx, "agent", agent_id)
        if agent is None:
            return []
        names = [own.name for own in agent.capabilities]
        rows = self._tx.all(
            "SELECT capability, completed, failed, execution_ms, executions FROM capability_totals"
            " WHERE capability IN (SELECT value FROM json_each(:names)) AND agent_id = :id",
            names=json.dumps(names),
            id=agent_id,
        )
        totals = {row[0]: row[1:] for row in rows}
        return [
            (
                _own(name, agent.price_of(name), totals.get(name, (0, 0, 0, 0))),
                GROUPS.of(self._tx, name, market=self._market, now=self._now),
            )
            for name in names
        ]

    def stats(self) -> Stats:
        """The whole market."""
        ever = self.sums(GLOBAL)
        day = self.sums(GLOBAL, range_of(PERIOD_DEFAULT, now=self._now))
        until = floor(self._now, MINUTE_S) + timedelta(seconds=MINUTE_S)
        since = until - timedelta(minutes=FRESH_MINUTES)
        fresh = self.sums(GLOBAL, Range(period="", since=since, until=until, span_s=MINUTE_S))
        total, online = self._agents()
        return Stats(
            total_agents=total,
            online_agents=online,
            total_tasks=ever["tasks_total"],
            active_tasks=answers.active(ever),
            tasks_per_minute=round(fresh["tasks_total"] / FRESH_MINUTES, 2),
            volume_24h=day["revenue_gross"] - day["revenue_streamed"] + day["transfers_in_amount"],
            system_load=system_load(),
        )

    def _agents(self) -> tuple[int, int]:
        """Active agents, and those of them that are not offline."""
        rows = self._tx.all(
            "SELECT is_online, count(*) FROM listings WHERE capability = '' GROUP BY is_online",
        )
        counts = {bool(row[0]): int(row[1]) for row in rows}
        return sum(counts.values()), counts.get(True, 0)

    def activity(self) -> Sequence[Activity]:
        """What happened last, in order. Only the writer knows it."""
        assert isinstance(self._tx, WriterTx), "who subscribes is decided in order with what happens"
        return tuple(self._tx.memory.get(ACTIVITY, ()))


def figures(tx: Tx, _topic_id: str, _request: Any, context: Context) -> StoredFigures:
    """The figures that a handler asks."""
    return StoredFigures(tx, now=context.now, market=context.market)


def global_stats(tx: Tx, *, now: datetime, market: Market) -> dict[str, Any]:
    """The whole market in a few numbers, as `global_stats` tells it."""
    return answers.stats(StoredFigures(tx, now=now, market=market).stats(), market, now=now)


def metrics(tx: Tx, scope: str, *, now: datetime, market: Market, period: str = PERIOD_DEFAULT) -> dict[str, Any]:
    """Every number of a scope, as `request_metrics` answers it, without benchmarks.

    Raises:
        Invalid: `invalid_period`.
    """
    found = StoredFigures(tx, now=now, market=market)
    name = parse_period(period)
    over = range_of(name, now=now, begins=found.begins(scope) if name == "all" else None)
    return answers.metrics(found, scope, over, market)


def system_load() -> float:
    """How busy the machine is: the load of the last minute by its processors, 0-1, to two decimals."""
    return round(min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), 2)


class Bounds(TypedDict):
    """A range as the roll-ups take it: milliseconds since 1970, and the seconds of its coarsest buckets."""

    since: int
    until: int
    span: int


def _bounds(over: Range | None, now: datetime) -> Bounds:
    if over is None or over.span_s == ALL_S:
        return Bounds(since=0, until=to_ms(floor(now, DAY_S) + timedelta(seconds=DAY_S)), span=ALL_S)
    return Bounds(since=to_ms(over.since), until=to_ms(over.until), span=over.span_s)


def _own(capability: str, price: int | None, totals: Sequence[int]) -> Own:
    completed, failed, execution_ms, executions = totals
    return Own(
        capability=capability,
        price=price,
        success_rate=completed / (completed + failed) if completed + failed else None,
        execution_time=execution_ms // executions if executions else None,
    )


def _group(tx: Tx, capability: str, *, now: datetime) -> Group:
    row = tx.one(_GROUP, capability=capability, none=agents.NO_PRICE)
    assert row is not None, "an aggregate has a row"
    owners, count, *numbers = row
    price, rate, time = (Median(*numbers[place : place + 2]) for place in range(0, len(numbers), 2))
    return Group(
        capability=capability,
        owners=owners,
        agents=count,
        price=price,
        success_rate=rate,
        execution_time=time,
        computed_at=now,
    )
