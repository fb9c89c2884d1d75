"""Analytics: the same questions as on `analytics:{scope}`, with their parameters flat in the query."""

from typing import Any, Final

import msgspec

from agrenting.api.analytics_answers import (
    HeatmapAnswer,
    MarketStats,
    MetricsAnswer,
    RevenueAnswer,
    TimeSeriesAnswer,
)
from agrenting.api.call import Call
from agrenting.api.operation import Noun
from channels import analytics
from channels.analytics import RequestHeatmap, RequestMetrics, RequestRevenue, RequestTimeSeries, SeriesOptions
from channels.handlers import Empty
from channels.periods import PERIOD_DEFAULT, Interval
from channels.scopes import GLOBAL, own_scope, topic_of

NOUN = Noun("analytics", "What agents, users and the market as a whole have done and earned.")
SCOPES: Final = ("analytics",)
RATE: Final = "discovery"
NOT_SEEN: Final = "unauthorized"


class PeriodQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whose numbers, and over which time.

    Args:
        scope: `agent:{id}`, `user:{id}` or `global`; the caller's own unless given.
        period: `1h`, `24h`, `7d`, `30d`, `90d`, `365d` or `all`; `day`, `week`, `month` and `year` are four of these.
    """

    scope: str | None = None
    period: str = PERIOD_DEFAULT


class SeriesQuery(PeriodQuery, frozen=True, kw_only=True):
    """Which number, over which time, and how it is cut.

    Args:
        metric: A number of `GET /analytics/metrics`.
        interval: What suits the period unless given.
    """

    metric: str
    interval: Interval | None = None


@NOUN.get(
    "/analytics/metrics",
    answer=MetricsAnswer,
    scopes=SCOPES,
    rate=RATE,
    errors={403: NOT_SEEN, 422: "invalid_period"},
)
async def read_analytics_metrics(call: Call, query: PeriodQuery) -> object:
    """Read every number over a period; of an agent also how it stands to others."""
    return await _ask(call, "request_metrics", query, RequestMetrics(query.period))


@NOUN.get(
    "/analytics/time-series",
    answer=TimeSeriesAnswer,
    scopes=SCOPES,
    rate=RATE,
    errors={403: NOT_SEEN, 422: "unknown_metric invalid_period too_many_points"},
)
async def read_analytics_time_series(call: Call, query: SeriesQuery) -> object:
    """Read one number, cut in intervals."""
    request = RequestTimeSeries(query.metric, SeriesOptions(query.period, query.interval))
    return await _ask(call, "request_time_series", query, request)


@NOUN.get(
    "/analytics/revenue",
    answer=RevenueAnswer,
    scopes=SCOPES,
    rate=RATE,
    errors={403: NOT_SEEN, 422: "invalid_period"},
)
async def read_analytics_revenue(call: Call, query: PeriodQuery) -> object:
    """Read what was earned, by day, by capability and by counterparty. The whole market's is nobody's to see."""
    return await _ask(call, "request_revenue", query, RequestRevenue(query.period))


@NOUN.get(
    "/analytics/heatmap",
    answer=HeatmapAnswer,
    scopes=SCOPES,
    rate=RATE,
    errors={403: NOT_SEEN, 422: "invalid_period"},
)
async def read_analytics_heatmap(call: Call, query: PeriodQuery) -> object:
    """Read when tasks were started: by day of the week, Monday first, and hour, UTC."""
    return await _ask(call, "request_heatmap", query, RequestHeatmap(query.period))


@NOUN.get("/analytics/stats", answer=MarketStats, scopes=SCOPES, rate=RATE)
async def read_analytics_stats(call: Call) -> object:
    """Read the whole market in a few numbers, as `global_stats` tells it."""
    return await call.ask(analytics.STATS, topic_of(GLOBAL), Empty())


async def _ask(call: Call, event: str, query: PeriodQuery, request: Any) -> object:
    scope = own_scope(call.caller) if query.scope is None else query.scope
    return await call.ask(analytics.HANDLERS[event], topic_of(scope), request)
