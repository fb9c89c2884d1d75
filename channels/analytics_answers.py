"""What analytics answer: numbers made of the sums that the roll-ups keep.

Everything here is a pure function of `Figures`, which the database answers (agrenting/db/analytics.py).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, Literal, Protocol

import msgspec

from channels.activity import SHOWN_MAX, scopes_of, shown
from channels.agents import PRIOR_COMPLETED_CENTI
from channels.benchmarks import Group, Own, benchmarks
from channels.errors import Invalid
from channels.histograms import percentile
from channels.limits import Market
from channels.periods import DAY_S, Interval, Range, floor, newest, starts_of
from channels.scopes import GLOBAL, agent_of
from channels.told import Activity

Sums = Mapping[str, int]
"""Columns of the roll-ups → their sums."""

Kind = Literal["capability", "counterparty"]
"""By what revenue is told."""

ROWS_MAX: Final = 100
"""Capabilities, and counterparties, that are told one by one."""

PERCENTILES: Final = {"p50_execution_time_ms": 0.5, "p95_execution_time_ms": 0.95, "p99_execution_time_ms": 0.99}
CENTI: Final = 100


class Earned(msgspec.Struct, frozen=True):
    """What came from one capability, or from one counterparty; `name` None for all the rest together."""

    name: str | None
    gross: int
    fees: int


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The whole market in a few numbers.

    Args:
        total_agents: Active ones.
        online_agents: Those of them that are online, busy or away.
        total_tasks: Ever opened.
        active_tasks: Open right now.
        tasks_per_minute: Opened in the last five minutes, the present one included, by five.
        volume_24h: What tasks and transfers paid in the last 24 hours, in minor units.
        system_load: Load of one minute by processors, 0-1.
    """

    total_agents: int
    online_agents: int
    total_tasks: int
    active_tasks: int
    tasks_per_minute: float
    volume_24h: int
    system_load: float


class Figures(Protocol):
    """What is asked of the database. Ranges are whole buckets; see periods.py."""

    def owner_of(self, agent_id: str) -> str | None:
        """Whose agent it is or was; None for one that never was."""
        ...

    def begins(self, scope: str) -> datetime | None:
        """When the data of a scope begins; None where there is none."""
        ...

    def sums(self, scope: str, over: Range | None = None) -> Sums:
        """The sums of every column; over all time without a range."""
        ...

    def latencies(self, scope: str, over: Range) -> Mapping[int, int]:
        """How many tasks took how long, by the buckets of the histogram."""
        ...

    def series(self, scope: str, over: Range, columns: Sequence[str]) -> Mapping[datetime, Sums]:
        """The sums of each interval of a range in which there is something."""
        ...

    def latency_series(self, scope: str, over: Range) -> Mapping[datetime, Mapping[int, int]]:
        """The histogram of each interval of a range in which there is something."""
        ...

    def earned(self, scope: str, kind: Kind, over: Range, limit: int) -> list[Earned]:
        """The revenue by capabilities, or from counterparties: the largest, so many at most."""
        ...

    def heatmap(self, scope: str, over: Range) -> list[list[int]]:
        """How many tasks were started: for each day of the week, Monday first, each hour."""
        ...

    def reputation(self, scope: str) -> float | None:
        """An agent's, or the mean of a user's agents that are there, in stars; None where there is none."""
        ...

    def reputations(self, agent_id: str, over: Range) -> tuple[int | None, Mapping[datetime, int]]:
        """An agent's last one before a range and the last one of each interval where it changed, in hundredths."""
        ...

    def handles(self, agent_ids: Sequence[str]) -> Mapping[str, str]:
        """What agents that are there are called."""
        ...

    def groups(self, agent_id: str) -> list[tuple[Own, Group]]:
        """An agent's numbers and those of its groups, one for each of its capabilities."""
        ...

    def stats(self) -> Stats:
        """The whole market."""
        ...

    def activity(self) -> Sequence[Activity]:
        """What happened last, in order."""
        ...


def money_unit(market: Market) -> dict[str, Any]:
    """What amounts are counted in."""
    return {"currency": market.currency, "exponent": market.exponent}


def header(scope: str, over: Range) -> dict[str, Any]:
    """Whose numbers they are, and over which time."""
    return {"scope": scope, "period": over.period, "from": over.since, "to": over.until}


def metrics(figures: Figures, scope: str, over: Range, market: Market) -> dict[str, Any]:
    """Every number of a scope over a period."""
    sums = figures.sums(scope, over)
    histogram = figures.latencies(scope, over)
    return {
        **header(scope, over),
        **money_unit(market),
        "tasks_total": sums["tasks_total"],
        "tasks_completed": sums["tasks_completed"],
        "tasks_failed": sums["tasks_failed"],
        "tasks_cancelled": sums["tasks_cancelled"],
        "tasks_active": active(figures.sums(scope)),
        "tasks_hired": sums["tasks_hired"],
        "success_rate": success_rate(sums),
        "avg_execution_time_ms": average_ms(sums),
        **{name: percentile(histogram, fraction) for name, fraction in PERCENTILES.items()},
        "revenue_gross": sums["revenue_gross"],
        "fees": sums["fees"],
        "revenue_net": sums["revenue_gross"] - sums["fees"],
        "spend": sums["spend"],
        "negotiations_started": sums["negotiations_started"],
        "negotiations_completed": sums["negotiations_completed"],
        "transfers_in": sums["transfers_in"],
        "transfers_out": sums["transfers_out"],
        "transfers_in_amount": sums["transfers_in_amount"],
        "transfers_out_amount": sums["transfers_out_amount"],
        "messages_in": sums["messages_in"],
        "reputation": figures.reputation(scope),
    }


def with_benchmarks(figures: Figures, scope: str, told: dict[str, Any]) -> dict[str, Any]:
    """Every number, and for an agent how it stands to others."""
    agent_id = agent_of(scope)
    return told if agent_id is None else {**told, "benchmarks": benchmarks(figures.groups(agent_id))}


def active(sums: Sums) -> int:
    """Tasks that have not ended, of sums over all time."""
    return sums["tasks_total"] - sums["tasks_completed"] - sums["tasks_failed"] - sums["tasks_cancelled"]


def success_rate(sums: Sums) -> float | None:
    """Completed of completed and failed tasks, 0-1; None without any."""
    counted = sums["tasks_completed"] + sums["tasks_failed"]
    return sums["tasks_completed"] / counted if counted else None


def average_ms(sums: Sums) -> int | None:
    """How long completed tasks took on average, rounded down; None without any."""
    return sums["execution_ms"] // sums["executions"] if sums["executions"] else None


# Time series.

_PLAIN: Final = (
    "tasks_total",
    "tasks_completed",
    "tasks_failed",
    "tasks_cancelled",
    "tasks_hired",
    "revenue_gross",
    "fees",
    "spend",
    "negotiations_started",
    "negotiations_completed",
    "transfers_in",
    "transfers_out",
    "transfers_in_amount",
    "transfers_out_amount",
    "messages_in",
)
_CALCULATED: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Sums], float | None]]]] = {
    **{name: ((name,), itemgetter(name)) for name in _PLAIN},
    "success_rate": (("tasks_completed", "tasks_failed"), success_rate),
    "avg_execution_time_ms": (("execution_ms", "executions"), average_ms),
    "revenue_net": (("revenue_gross", "fees"), lambda sums: sums["revenue_gross"] - sums["fees"]),
}
"""Metric → the columns that it is made of, and how."""

_STATES: Final = ("tasks_total", "tasks_completed", "tasks_failed", "tasks_cancelled")


def metric_names(scope: str) -> list[str]:
    """The numbers that a scope has time series of."""
    names = [*_CALCULATED, *PERCENTILES, "tasks_active", *(["reputation"] if agent_of(scope) is not None else [])]
    return sorted(names)


def require_metric(metric: str, scope: str) -> None:
    """Refuse what no time series of a scope is of.

    Raises:
        Invalid: `unknown_metric`, with those there are.
    """
    names = metric_names(scope)
    if metric not in names:
        raise Invalid("unknown_metric", f"There is no such metric here; there are {', '.join(names)}.", metrics=names)


def time_series(
    figures: Figures, scope: str, metric: str, over: Range, interval: Interval, *, now: datetime
) -> dict[str, Any]:
    """One number in every interval that has begun.

    Args:
        over: The range, cut in intervals.

    Returns:
        0 where an interval has nothing; of what stands rather than happens, its value at the interval's end.
    """
    values = _values(figures, scope, metric, over)
    return {
        **header(scope, over),
        "metric": metric,
        "interval": interval,
        "points": [{"at": start, "value": values(start)} for start in starts_of(over, now=now)],
    }


def _values(figures: Figures, scope: str, metric: str, over: Range) -> Callable[[datetime], float]:
    """The value of each interval, asked in order."""
    if metric == "reputation":
        return _reputations(figures, scope, over)
    if metric == "tasks_active":
        return _actives(figures, scope, over)
    if metric in PERCENTILES:
        histograms = figures.latency_series(scope, over)
        return lambda start: percentile(histograms.get(start, {}), PERCENTILES[metric]) or 0
    columns, calculate = _CALCULATED[metric]
    rows = figures.series(scope, over, columns)
    return lambda start: (calculate(rows[start]) or 0) if start in rows else 0


def _actives(figures: Figures, scope: str, over: Range) -> Callable[[datetime], float]:
    """Open tasks at the end of each interval: those of now, less what has changed since."""
    rows = figures.series(scope, over, _STATES)
    count = active(figures.sums(scope)) - sum(map(active, rows.values()))

    def after(start: datetime) -> int:
        nonlocal count
        count += active(rows[start]) if start in rows else 0
        return count

    return after


def _reputations(figures: Figures, scope: str, over: Range) -> Callable[[datetime], float]:
    """An agent's reputation at the end of each interval; before the first that was kept, what a new agent has."""
    before, changed = figures.reputations(scope.partition(":")[2], over)
    centi = PRIOR_COMPLETED_CENTI if before is None else before

    def after(start: datetime) -> float:
        nonlocal centi
        centi = changed.get(start, centi)
        return centi / CENTI

    return after


# Revenue and heatmap.


def revenue(figures: Figures, scope: str, over: Range, market: Market) -> dict[str, Any]:
    """What a scope has earned: in all, by day, by capability and by counterparty."""
    sums = figures.sums(scope, over)
    gross, fees = sums["revenue_gross"], sums["fees"]
    capabilities = _largest(figures.earned(scope, "capability", over, ROWS_MAX + 1), gross=gross, fees=fees)
    counterparties = _largest(figures.earned(scope, "counterparty", over, ROWS_MAX + 1), gross=gross, fees=fees)
    handles = figures.handles([one.name for one in counterparties if one.name is not None])
    return {
        **header(scope, over),
        **money_unit(market),
        **_money(gross, fees),
        "by_day": _by_day(figures, scope, over),
        "by_capability": [{"capability": one.name, **_money(one.gross, one.fees)} for one in capabilities],
        "by_counterparty": [
            {"agent_id": one.name, "handle": handles.get(one.name or ""), **_money(one.gross, one.fees)}
            for one in counterparties
        ],
    }


def _largest(found: list[Earned], *, gross: int, fees: int) -> list[Earned]:
    """The largest, and where there are more, all the rest as one."""
    if len(found) <= ROWS_MAX:
        return found
    told = found[:ROWS_MAX]
    rest = Earned(None, gross - sum(one.gross for one in told), fees - sum(one.fees for one in told))
    return [*told, rest]


def _by_day(figures: Figures, scope: str, over: Range) -> list[dict[str, Any]]:
    """Each day of the range, oldest first; of a long time the newest. Of a day that is in it in part, that part."""
    cut = newest(over, "day")
    parts = figures.series(scope, over if 0 < over.span_s < DAY_S else cut, ("revenue_gross", "fees"))
    days: dict[datetime, tuple[int, int]] = {}
    for start, sums in parts.items():
        gross, fees = days.get(floor(start, DAY_S), (0, 0))
        days[floor(start, DAY_S)] = (gross + sums["revenue_gross"], fees + sums["fees"])
    return [
        {"day": start.date().isoformat(), **_money(*days.get(start, (0, 0)))} for start in starts_of(cut, now=cut.until)
    ]


def _money(gross: int, fees: int) -> dict[str, int]:
    return {"gross": gross, "fees": fees, "net": gross - fees}


def heatmap(figures: Figures, scope: str, over: Range) -> dict[str, Any]:
    """When tasks were started: by day of the week, Monday first, and hour, UTC."""
    matrix = figures.heatmap(scope, over)
    return {**header(scope, over), "matrix": matrix, "max": max(map(max, matrix))}


# The whole market, and what happens on it.


def stats(found: Stats, market: Market, *, now: datetime) -> dict[str, Any]:
    """The whole market, as it is told."""
    return {**msgspec.structs.asdict(found), **money_unit(market), "at": now}


def recent(figures: Figures, scope: str) -> list[dict[str, Any]]:
    """What happened last that a scope may see, newest last."""
    own = [one for one in figures.activity() if scope == GLOBAL or scope in scopes_of(one)]
    return [shown(one) for one in own[-SHOWN_MAX:]]
