"""Watching what is done and earned: by an agent, by all agents of its owner, or in the whole market.

Source: analytics, `analytics:{scope}`, alerts.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from .amounts import Amount
from .asking import change, converted, every, get, post
from .errors import Disconnected, NoAnswer, RefusedByServer
from .kept_topic import JOINED, KeptTopic
from .listening import Listeners, Listening
from .told_analytics import (
    Activities,
    Activity,
    Alert,
    Alerts,
    AlertStatus,
    Heatmap,
    JoinedScope,
    MarketStats,
    Metrics,
    Revenue,
    TimeSeries,
)

if TYPE_CHECKING:
    from .context import AgentContext

Scope = Literal["agent", "user", "global"]
"""The agent itself, all agents of its owner, or the whole market."""
Period = Literal["1h", "24h", "7d", "30d", "90d", "365d", "all"]
Interval = Literal["minute", "hour", "day"]

KEPT_MAX: Final = 1_000
"""Alerts or activities that may wait for a reader; then the oldest are dropped. The alerts stand in `alert_list`."""
RECENT_MAX: Final = 200
"""How many activities are known to have been told; four times what the server tells at once."""

_LOG = logging.getLogger(__name__)


class Watching:
    """Numbers, alerts and what happens, as an agent may see them.

    Args:
        context: The agent's.
    """

    def __init__(self, context: "AgentContext") -> None:
        self._context = context
        self._scopes: dict[str, _WatchedScope] = {}

    # Asked for once.

    async def metrics(self, period: Period = "24h", scope: Scope = "agent") -> Metrics:
        """Every number over a period.

        Raises:
            RefusedByServer: `unauthorized`, `invalid_period`, `missing_scope`.
            Disconnected: The connection is closed.
        """
        return await get(self._context, "/analytics/metrics", Metrics, scope=self._named(scope), period=period)

    async def time_series(
        self, metric: str, period: Period = "24h", interval: Interval | None = None, scope: Scope = "agent"
    ) -> TimeSeries:
        """One number, cut in intervals.

        Args:
            metric: A field of `Metrics`.
            period: UTC.
            interval: None: what suits the period.
            scope: Whose.

        Raises:
            RefusedByServer: `unknown_metric`, `too_many_points`, `invalid_period`, `unauthorized`, `missing_scope`.
            Disconnected: The connection is closed.
        """
        named, path = self._named(scope), "/analytics/time-series"
        return await get(self._context, path, TimeSeries, scope=named, metric=metric, period=period, interval=interval)

    async def revenue(self, period: Period = "24h", scope: Literal["agent", "user"] = "agent") -> Revenue:
        """What was earned as provider, by day, by capability and by client.

        Raises:
            RefusedByServer: `unauthorized`, `invalid_period`, `missing_scope`.
            Disconnected: The connection is closed.
        """
        return await get(self._context, "/analytics/revenue", Revenue, scope=self._named(scope), period=period)

    async def heatmap(self, period: Period = "24h", scope: Scope = "agent") -> Heatmap:
        """When tasks were started as provider.

        Raises:
            RefusedByServer: `unauthorized`, `invalid_period`, `missing_scope`.
            Disconnected: The connection is closed.
        """
        return await get(self._context, "/analytics/heatmap", Heatmap, scope=self._named(scope), period=period)

    async def stats(self) -> MarketStats:
        """The whole market in a few numbers.

        Raises:
            RefusedByServer: `missing_scope`.
            Disconnected: The connection is closed.
        """
        return await get(self._context, "/analytics/stats", MarketStats)

    # Told as it happens.

    def updates(self, scope: Scope = "agent") -> Listening[Metrics]:
        """The numbers of the last 24 hours: now, and whenever something was counted. Only the newest is kept."""
        return self._watched(scope).metrics()

    def global_stats(self) -> Listening[MarketStats]:
        """The whole market in a few numbers: now, and as they change. Only the newest is kept."""
        return self._watched("global").stats()

    def activity(self, scope: Scope = "agent") -> Listening[Activity]:
        """What happens: the last of it, and what comes; each once. Of `global` it is for operators.

        Raises:
            RefusedByServer: By the iterator: `unauthorized`, `missing_scope`.
        """
        return self._watched(scope).activity()

    def alerts(self, scope: Scope = "agent") -> Listening[Alert]:
        """Alerts: those that are active, then each new one and each change of one.

        What has changed while the connection is lost is told after it. What was raised and resolved meanwhile is not:
        `alert_list` has it.
        """
        return self._watched(scope).alerts()

    # Alerts.

    def alert_list(
        self,
        status: AlertStatus | None = None,
        severity: Literal["critical", "error", "warning", "info"] | None = None,
        agent_id: str | None = None,
    ) -> AsyncIterator[Alert]:
        """Alerts, newest first.

        Args:
            status: Only those that stand so.
            severity: Only those that matter so much.
            agent_id: Of another agent of the same owner; None: the agent's own.
        """
        return every(self._context, "/alerts", Alert, status=status, severity=severity, agent_id=agent_id)

    async def acknowledge(self, alert: Alert | str) -> Alert:
        """Say that somebody looks after an alert.

        Raises:
            RefusedByServer: `not_found`; `terminal_state`: it is resolved.
            Disconnected: The connection is closed.
        """
        return await post(self._context, f"/alerts/{_id(alert)}/acknowledge", None, Alert)

    async def resolve(self, alert: Alert | str) -> Alert:
        """Say that an alert is over.

        Raises:
            RefusedByServer: `not_found`.
            Disconnected: The connection is closed.
        """
        return await post(self._context, f"/alerts/{_id(alert)}/resolve", None, Alert)

    async def alert_below(self, balance: Amount | None) -> None:
        """Raise the alert `balance_low` when the agent has less than that available; None: never.

        Raises:
            ValueError, TypeError: It is no amount.
            RefusedByServer: `missing_scope`.
            Disconnected: The connection is closed.
        """
        below = None if balance is None else self._context.amount(balance)
        path = f"/agents/{self._context.me.id}/alert-thresholds"
        await change(self._context, "PUT", path, {"balance_below": below}, dict[str, Any])

    async def close(self) -> None:
        """Watch no more."""
        scopes, self._scopes = self._scopes, {}
        for scope in scopes.values():
            await scope.close()

    def _named(self, scope: Scope) -> str:
        me = self._context.me
        return {"agent": f"agent:{me.id}", "user": f"user:{me.owner_id}", "global": "global"}[scope]

    def _watched(self, scope: Scope) -> "_WatchedScope":
        name = self._named(scope)
        watched = self._scopes.get(name)
        if watched is None or watched.is_over:
            watched = self._scopes[name] = _WatchedScope(self._context, name)
        return watched


class _WatchedScope:
    """One scope's topic: one reader of it, and whoever listens to whatever it tells.

    Alerts and activity are asked for at each join, by whoever reads, so that what is replied and what is pushed come in
    one order. What stands is kept, for those who begin to listen later.
    """

    def __init__(self, context: "AgentContext", name: str) -> None:
        self._context = context
        self._topic = KeptTopic(context.connection, f"analytics:{name}")
        self._metrics: Listeners[Metrics] = Listeners()
        self._stats: Listeners[MarketStats] = Listeners()
        self._activity: Listeners[Activity] = Listeners()
        self._alerts: Listeners[Alert] = Listeners()
        self._newest_metrics: Metrics | None = None
        self._newest_stats: MarketStats | None = None
        self._recent: deque[Activity] = deque(maxlen=RECENT_MAX)
        self._unresolved: OrderedDict[str, Alert] = OrderedDict()
        self._resolved: OrderedDict[str, Alert] = OrderedDict()
        """Which were told to be over: what was said of them before may still come."""
        self._reader = context.spawn(self._read(), self._topic.name)
        self._reader.add_done_callback(self._ended)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self._reader.done()

    async def close(self) -> None:
        """Watch no more."""
        self._reader.cancel()
        await asyncio.wait([self._reader])
        await self._topic.leave()  # Else what it tells would wait there for nobody.

    def metrics(self) -> Listening[Metrics]:
        """The newest, then each."""
        listening = self._metrics.listen(kept_max=1)
        if self._newest_metrics is not None:
            listening.take(self._newest_metrics)
        return listening

    def stats(self) -> Listening[MarketStats]:
        """The newest, then each."""
        listening = self._stats.listen(kept_max=1)
        if self._newest_stats is not None:
            listening.take(self._newest_stats)
        return listening

    def activity(self) -> Listening[Activity]:
        """The last, then each."""
        listening = self._activity.listen(kept_max=KEPT_MAX)
        for activity in self._recent:
            listening.take(activity)
        return listening

    def alerts(self) -> Listening[Alert]:
        """Those that are not resolved, then each."""
        listening = self._alerts.listen(kept_max=KEPT_MAX)
        for alert in self._unresolved.values():
            listening.take(alert)
        return listening

    async def _read(self) -> None:
        ending: Exception = _no_more()
        try:
            await self._joined(await self._topic.join())
            while True:
                await self._take(*await self._topic.next_event())
        except Disconnected:
            _LOG.debug("%s is watched no more: the connection is closed", self._topic.name)
        except RefusedByServer as refusal:
            ending = refusal  # For whoever listens: it is no reason to end the agent.
        finally:
            self._end(ending)

    def _ended(self, reader: asyncio.Task[None]) -> None:
        """Whoever listens is told the end also where the reading was ended before it has begun."""
        if reader.cancelled():
            self._end(_no_more())

    def _end(self, ending: Exception) -> None:
        for listeners in (self._metrics, self._stats, self._activity, self._alerts):
            listeners.end(ending)

    async def _joined(self, state: Any) -> None:
        """Take a join's reply, and ask for what has to be asked for."""
        joined = converted(state, JoinedScope)
        self._tell_metrics(joined.metrics)
        if joined.stats is not None:
            self._tell_stats(joined.stats)
        alerts = converted(await self._subscribed("subscribe_alerts"), Alerts).alerts
        there = {alert.id for alert in alerts}
        for gone in [one for one in self._unresolved if one not in there]:
            await self._look_at(gone)
        for alert in reversed(alerts):
            self._tell_alert(alert)
        try:
            recent = await self._subscribed("subscribe_activity")
        except RefusedByServer as refusal:
            if refusal.reason != "unauthorized":
                raise
            self._activity.end(refusal)  # What happens in the whole market is for operators.
        else:
            self._tell_activities(converted(recent, Activities).activity)

    async def _subscribed(self, event: str) -> Any:
        """A subscription's reply, however often it has to be asked for: nobody is there to be told that none came."""
        while True:
            try:
                return await self._topic.push(event)
            except NoAnswer as error:
                _LOG.debug("%s: %s", self._topic.name, error)

    async def _look_at(self, alert_id: str) -> None:
        """Tell how an alert stands that is active no more."""
        try:
            self._tell_alert(await get(self._context, f"/alerts/{alert_id}", Alert))
        except RefusedByServer as refusal:
            if refusal.reason != "not_found":
                raise
            del self._unresolved[alert_id]  # It is the market's, which only operators read, or deleted.

    async def _take(self, event: str, payload: Any) -> None:
        if event == JOINED:
            await self._joined(payload)
        elif event == "metrics_updated":
            self._tell_metrics(converted(payload, Metrics))
        elif event == "global_stats":
            self._tell_stats(converted(payload, MarketStats))
        elif event == "activity":
            self._tell_activities(converted(payload, Activities).items)
        elif event == "alert":
            self._tell_alert(converted(payload, Alert))

    def _tell_metrics(self, metrics: Metrics) -> None:
        self._newest_metrics = metrics
        self._metrics.tell(metrics)

    def _tell_stats(self, stats: MarketStats) -> None:
        self._newest_stats = stats
        self._stats.tell(stats)

    def _tell_activities(self, activities: tuple[Activity, ...]) -> None:
        told = set(self._recent_keys())
        for activity in activities:
            if (activity.id, activity.at) not in told:
                self._recent.append(activity)
                self._activity.tell(activity)

    def _recent_keys(self) -> Iterator[tuple[str, datetime]]:
        return ((one.id, one.at) for one in self._recent)

    def _tell_alert(self, alert: Alert) -> None:
        known = self._unresolved.get(alert.id) or self._resolved.get(alert.id)
        if known is not None and (alert == known or alert.updated_at < known.updated_at):
            return
        there, gone = self._unresolved, self._resolved
        if alert.status == "resolved":
            there, gone = gone, there
        gone.pop(alert.id, None)
        there[alert.id] = alert
        if len(there) > KEPT_MAX:
            there.popitem(last=False)
        self._alerts.tell(alert)


def _no_more() -> Disconnected:
    return Disconnected("nothing is watched any more")


def _id(alert: Alert | str) -> str:
    return alert if isinstance(alert, str) else alert.id
