"""What the market tells of what was done and earned. Money is in minor units. Unknown fields are ignored."""

from datetime import date, datetime
from typing import Any, Literal

import msgspec

AlertStatus = Literal["active", "acknowledged", "resolved"]


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """Whose numbers, and over which time.

    Args:
        scope: `agent:{id}`, `user:{id}` or `global`.
        since: Belongs to the period.
        until: Does not.
    """

    scope: str
    period: str
    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's number against the median of its group; None where there is none."""

    own: float | None
    median: float | None


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent stands to the active agents that share a capability, over all time."""

    capability: str
    owners: int
    agents: int
    price: Against
    success_rate: Against
    execution_time_ms: Against
    computed_at: datetime


class Metrics(Over, frozen=True, kw_only=True):
    """Every number of a scope over a period.

    Args:
        success_rate: Completed ÷ (completed + failed), 0-1; None without any.
        reputation: Stars; None where there is none.
        benchmarks: Of an agent, where they were asked for.
    """

    currency: str
    exponent: int
    tasks_total: int
    tasks_completed: int
    tasks_failed: int
    tasks_cancelled: int
    tasks_active: int
    tasks_hired: int
    success_rate: float | None
    avg_execution_time_ms: int | None
    p50_execution_time_ms: int | None
    p95_execution_time_ms: int | None
    p99_execution_time_ms: int | None
    revenue_gross: int
    fees: int
    revenue_net: int
    spend: int
    negotiations_started: int
    negotiations_completed: int
    transfers_in: int
    transfers_out: int
    transfers_in_amount: int
    transfers_out_amount: int
    messages_in: int
    reputation: float | None
    benchmarks: tuple[Benchmark, ...] = ()


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One interval, by its begin."""

    at: datetime
    value: float | None


class TimeSeries(Over, frozen=True, kw_only=True):
    """One number in every interval that has begun, oldest first."""

    metric: str
    interval: str
    points: tuple[Point, ...]


class Earned(msgspec.Struct, frozen=True, kw_only=True):
    """Money before the fee, the fee, and what is left."""

    gross: int
    fees: int
    net: int


class EarnedOfDay(Earned, frozen=True, kw_only=True):
    """One UTC day."""

    day: date


class EarnedByCapability(Earned, frozen=True, kw_only=True):
    """One capability; None: all the rest."""

    capability: str | None


class EarnedFrom(Earned, frozen=True, kw_only=True):
    """One client; None: all the rest. `handle` is None too where it is there no more."""

    agent_id: str | None
    handle: str | None


class Revenue(Over, frozen=True, kw_only=True):
    """What was earned as provider: by day, oldest first; by capability and client, largest first."""

    currency: str
    exponent: int
    gross: int
    fees: int
    net: int
    by_day: tuple[EarnedOfDay, ...]
    by_capability: tuple[EarnedByCapability, ...]
    by_counterparty: tuple[EarnedFrom, ...]


class Heatmap(Over, frozen=True, kw_only=True):
    """When tasks were started as provider: seven days, Monday first, of 24 hours, UTC; and the most of one hour."""

    matrix: tuple[tuple[int, ...], ...]
    max: int


class MarketStats(msgspec.Struct, frozen=True, kw_only=True):
    """The whole market in a few numbers."""

    total_agents: int
    online_agents: int
    total_tasks: int
    active_tasks: int
    tasks_per_minute: float
    volume_24h: int
    system_load: float
    currency: str
    exponent: int
    at: datetime


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What an owner should look at.

    Args:
        severity: `critical`, `error`, `warning` or `info`.
        type: PROTOCOL.md "Alerts" lists them; others may come.
        message: For people: what has happened, to whom, and what to do next.
        agent_id: Whose it is; None: the whole market's.
        data: For programs: what the type says.
    """

    id: str
    severity: str
    type: str
    message: str
    agent_id: str | None
    data: dict[str, Any]
    status: AlertStatus
    inserted_at: datetime
    updated_at: datetime


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that takes part in what happens."""

    id: str
    handle: str


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens in the market.

    Args:
        kind: As `task_completed`; PROTOCOL.md lists them, and others may come.
        topic: Where: `negotiation:…`, `task:…` or `payment:…`.
        agents: The client, the opener or the payer first.
        capability: None of payment channels.
        amount: What it is about, in minor units.
    """

    id: str
    at: datetime
    kind: str
    topic: str
    agents: tuple[Party, ...]
    capability: str | None
    amount: int | None


class Activities(msgspec.Struct, frozen=True, kw_only=True):
    """What happened last, oldest first."""

    items: tuple[Activity, ...] = ()
    activity: tuple[Activity, ...] = ()


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """The active alerts, newest first."""

    alerts: tuple[Alert, ...]


class JoinedScope(msgspec.Struct, frozen=True, kw_only=True):
    """A join's reply."""

    metrics: Metrics
    stats: MarketStats | None = None
