"""What the answers of analytics look like."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from channels.periods import Interval


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """Whose numbers, and over which time: `from` belongs to it, `to` does not."""

    scope: str
    period: str
    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's number against the median of its group; null where there is none, or too few owners have one."""

    own: float | None
    median: float | None


class BenchmarkAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent stands to the active agents that share a capability, over all time."""

    capability: str
    owners: int
    agents: int
    price: Against
    success_rate: Against
    execution_time_ms: Against
    computed_at: datetime


class MetricsAnswer(Over, frozen=True, kw_only=True):
    """Every number of a scope over a period; money is in minor units. `benchmarks` is there for agents."""

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
    benchmarks: list[BenchmarkAnswer] | UnsetType = UNSET


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One interval, by its begin."""

    at: datetime
    value: float


class TimeSeriesAnswer(Over, frozen=True, kw_only=True):
    """One number in every interval that has begun."""

    metric: str
    interval: Interval
    points: list[Point]


class Earned(msgspec.Struct, frozen=True, kw_only=True):
    """Money in minor units, before the fee, the fee, and what is left."""

    gross: int
    fees: int
    net: int


class EarnedOfDay(Earned, frozen=True, kw_only=True):
    """One UTC day."""

    day: str


class EarnedByCapability(Earned, frozen=True, kw_only=True):
    """One capability; null: all the rest."""

    capability: str | None


class EarnedFrom(Earned, frozen=True, kw_only=True):
    """One counterparty; null: all the rest. `handle` is null too where it is there no more."""

    agent_id: str | None
    handle: str | None


class RevenueAnswer(Over, frozen=True, kw_only=True):
    """What was earned."""

    currency: str
    exponent: int
    gross: int
    fees: int
    net: int
    by_day: list[EarnedOfDay]
    by_capability: list[EarnedByCapability]
    by_counterparty: list[EarnedFrom]


class HeatmapAnswer(Over, frozen=True, kw_only=True):
    """When tasks were started: seven days, Monday first, of 24 hours, UTC; and the most of one of them."""

    matrix: list[list[int]]
    max: int


class MarketStats(msgspec.Struct, frozen=True, kw_only=True):
    """The whole market in a few numbers; money is in minor units."""

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
