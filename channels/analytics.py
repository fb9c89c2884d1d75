"""analytics:{scope}: what an agent, a user's agents or the whole market have done and earned, and what happens there.

Who may join: `agent:{id}` that agent, the agents of its owner, and the owner; `user:{id}` that user and its agents;
`global` everybody who is known. It is asked again at every question.

    request_metrics       every number over a period
    request_time_series   one number, cut in intervals
    request_revenue       what was earned, by day, capability and counterparty; not of the whole market
    request_heatmap       when tasks were started
    subscribe_alerts      the active alerts, and from then on every change of one
    subscribe_activity    what happened last, and from then on what happens; of the whole market to operators alone

Questions change nothing and are answered beside the writer. Joins and subscriptions are decided in order with every
event, so that nothing is missed between an answer and what is pushed after it.
"""

from typing import Any, Final

import msgspec

from channels import alerts
from channels.analytics_answers import (
    Figures,
    heatmap,
    metrics,
    money_unit,
    recent,
    require_metric,
    revenue,
    stats,
    time_series,
    with_benchmarks,
)
from channels.handlers import Access, Context, Decision, Empty, Handler, Push
from channels.periods import PERIOD_DEFAULT, Interval, Range, in_intervals, interval_of, parse_period, range_of
from channels.scopes import GLOBAL, access, agent_of, require_may_see, require_operator, scope_of, unauthorized

TOPIC = "analytics:*"
METRICS_UPDATED: Final = "metrics_updated"
GLOBAL_STATS: Final = "global_stats"
ACTIVITY: Final = "activity"


class RequestMetrics(msgspec.Struct, frozen=True):
    """Every number over a period."""

    period: str = PERIOD_DEFAULT


class SeriesOptions(msgspec.Struct, frozen=True):
    """Over which time, and how it is cut; without an interval the one that suits the period."""

    period: str = PERIOD_DEFAULT
    interval: Interval | None = None


class RequestTimeSeries(msgspec.Struct, frozen=True):
    """One number, cut in intervals."""

    metric: str
    opts: SeriesOptions = SeriesOptions()


class RequestRevenue(msgspec.Struct, frozen=True):
    """What was earned over a period."""

    period: str = PERIOD_DEFAULT


class RequestHeatmap(msgspec.Struct, frozen=True):
    """When tasks were started over a period."""

    period: str = PERIOD_DEFAULT


def join(figures: Figures, request: Empty, context: Context) -> Decision:
    """See a scope's numbers of the last 24 hours, and hear when they change.

    How an agent stands to others is only answered when it is asked: that may be dear, and a join is in everybody's way.

    Raises:
        Forbidden: `unauthorized`.
    """
    del request
    scope = _require_scope(figures, context)
    over = range_of(PERIOD_DEFAULT, now=context.now)
    reply: dict[str, Any] = {
        "scope": scope,
        **money_unit(context.market),
        "metrics": metrics(figures, scope, over, context.market),
    }
    if scope != GLOBAL:
        return Decision(reply=reply)
    told = stats(figures.stats(), context.market, now=context.now)
    return Decision(reply={**reply, "stats": told}, pushes=(Push(GLOBAL_STATS, told),))


def request_metrics(figures: Figures, request: RequestMetrics, context: Context) -> Decision:
    """Answer every number over a period.

    Raises:
        Forbidden: `unauthorized`.
        Invalid: `invalid_period`.
    """
    scope = _require_scope(figures, context)
    over = _range(figures, scope, request.period, context)
    return Decision(reply=with_benchmarks(figures, scope, metrics(figures, scope, over, context.market)))


def request_time_series(figures: Figures, request: RequestTimeSeries, context: Context) -> Decision:
    """Answer one number, cut in intervals.

    Raises:
        Forbidden: `unauthorized`.
        Invalid: `unknown_metric`, `invalid_period`, `too_many_points`.
    """
    scope = _require_scope(figures, context)
    require_metric(request.metric, scope)
    over = _range(figures, scope, request.opts.period, context)
    interval = interval_of(over.period, request.opts.interval)
    cut = in_intervals(over, interval)
    return Decision(reply=time_series(figures, scope, request.metric, cut, interval, now=context.now))


def request_revenue(figures: Figures, request: RequestRevenue, context: Context) -> Decision:
    """Answer what was earned. Of the whole market that is nobody's to see.

    Raises:
        Forbidden: `unauthorized`.
        Invalid: `invalid_period`.
    """
    scope = _require_scope(figures, context)
    if scope == GLOBAL:
        unauthorized()
    over = _range(figures, scope, request.period, context)
    return Decision(reply=revenue(figures, scope, over, context.market))


def request_heatmap(figures: Figures, request: RequestHeatmap, context: Context) -> Decision:
    """Answer when tasks were started.

    Raises:
        Forbidden: `unauthorized`.
        Invalid: `invalid_period`.
    """
    scope = _require_scope(figures, context)
    over = _range(figures, scope, request.period, context)
    return Decision(reply=heatmap(figures, scope, over))


def subscribe_activity(figures: Figures, request: Empty, context: Context) -> Decision:
    """Answer what happened last; what happens from now on is pushed to this socket.

    Raises:
        Forbidden: `unauthorized`.
    """
    del request
    scope = _require_scope(figures, context)
    require_operator(scope, context)
    return Decision(reply={"activity": recent(figures, scope)}, takes=ACTIVITY)


def market_stats(figures: Figures, request: Empty, context: Context) -> Decision:
    """Answer the whole market in a few numbers: what a join of its topic is told, for who has no socket."""
    del request
    return Decision(reply=stats(figures.stats(), context.market, now=context.now))


def _require_scope(figures: Figures, context: Context) -> str:
    """The scope of the topic, if the sender may see it.

    Raises:
        Forbidden: `unauthorized`.
    """
    agent_id = agent_of(scope_of(context))
    return require_may_see(None if agent_id is None else figures.owner_of(agent_id), context)


def _range(figures: Figures, scope: str, period: str, context: Context) -> Range:
    """A period as it stands now.

    Raises:
        Invalid: `invalid_period`.
    """
    name = parse_period(period)
    return range_of(name, now=context.now, begins=figures.begins(scope) if name == "all" else None)


ACCESS = access
JOIN = Handler(Empty, join, loads="figures", access=Access.WRITE, scope="analytics")


def _question(request: Any, decide: Any) -> Handler:
    return Handler(request, decide, loads="figures", access=Access.READ, scope="analytics", rate="discovery")


HANDLERS = {
    "request_metrics": _question(RequestMetrics, request_metrics),
    "request_time_series": _question(RequestTimeSeries, request_time_series),
    "request_revenue": _question(RequestRevenue, request_revenue),
    "request_heatmap": _question(RequestHeatmap, request_heatmap),
    "subscribe_alerts": alerts.SUBSCRIBE_ALERTS,
    "subscribe_activity": Handler(
        Empty, subscribe_activity, loads="figures", access=Access.WRITE, scope="analytics", rate="discovery"
    ),
}

STATS = _question(Empty, market_stats)
"""What `global_stats` tells, by REST."""
